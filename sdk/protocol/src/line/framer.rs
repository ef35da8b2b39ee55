//! Bytes to lines.

/// What may surround a line without counting: a byte order mark before it, a carriage return after
/// it.
const LINE_SLACK: usize = BYTE_ORDER_MARK.len() + 1;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Bytes of the beginning of a line over the limit that are kept, for its `id`: a parent that
/// writes the id before what is long has it within these.
pub const HEAD_BYTES: usize = 4096;

/// A piece of input as [`Framer`] cuts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// One line; never blank.
    Line {
        /// Counted from 1; blank lines and those over the limit count too.
        number: u64,
        /// Its bytes, without newline, carriage return or byte order mark.
        bytes: &'a [u8],
    },
    /// A line over the limit, reported once; all of it up to its newline is skipped.
    TooLong {
        /// As that of a line.
        number: u64,
        /// Its first [`HEAD_BYTES`], or as many as a line may have.
        head: &'a [u8],
    },
}

/// Cuts a byte stream into lines of bounded length. Accepts `\n` and `\r\n`, skips blank lines and
/// a leading byte order mark. How the stream is cut into chunks makes no difference.
#[derive(Debug)]
pub struct Framer {
    max_line: usize,
    partial: Vec<u8>,
    skipping: bool,
    /// Lines that have ended.
    ended: u64,
}

impl Framer {
    /// A framer whose lines have at most `max_line` bytes, the line ending not counted.
    pub fn new(max_line: usize) -> Self {
        Framer { max_line, partial: Vec::new(), skipping: false, ended: 0 }
    }

    /// Takes the next chunk and hands each line that ends in it to `on`.
    pub fn push(&mut self, mut chunk: &[u8], mut on: impl FnMut(Framed<'_>)) {
        while let Some(end) = chunk.iter().position(|&byte| byte == b'\n') {
            let (head, rest) = (&chunk[..end], &chunk[end + 1..]);
            chunk = rest;
            if self.skipping {
                self.skipping = false;
            } else if self.partial.is_empty() {
                self.line(head, false, &mut on);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(head);
                self.line(&whole, false, &mut on);
                whole.clear();
                self.partial = whole;
            }
            self.ended += 1;
        }
        if self.skipping {
            return;
        }
        if self.partial.len() + chunk.len() > self.max_line + LINE_SLACK {
            let mut head = std::mem::take(&mut self.partial);
            let lacking = (HEAD_BYTES + LINE_SLACK).saturating_sub(head.len());
            head.extend_from_slice(&chunk[..chunk.len().min(lacking)]);
            self.skipping = true;
            self.line(&head, true, &mut on);
        } else {
            self.partial.extend_from_slice(chunk);
        }
    }

    /// Ends the stream: a last line without newline counts.
    pub fn finish(&mut self, mut on: impl FnMut(Framed<'_>)) {
        let last = std::mem::take(&mut self.partial);
        if !self.skipping {
            self.line(&last, false, &mut on);
        }
        self.skipping = false;
    }

    /// Hands on a line; `is_head`: only its beginning, and it is over the limit.
    fn line(&mut self, mut line: &[u8], is_head: bool, on: &mut impl FnMut(Framed<'_>)) {
        let number = self.ended + 1;
        if number == 1 {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if is_head || line.len() > self.max_line {
            on(Framed::TooLong { number, head: &line[..HEAD_BYTES.min(self.max_line)] });
        } else if !line.trim_ascii().is_empty() {
            on(Framed::Line { number, bytes: line });
        }
    }
}
