/// What may surround a line without counting: a byte order mark before it, a carriage return after it.
const FRINGE_BYTES: usize = BYTE_ORDER_MARK.len() + 1;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A piece of input as [`Framer`] cuts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// One line, without newline, carriage return or byte order mark; never blank.
    Line(&'a [u8]),
    /// A line over the limit, reported once; all of it up to its newline is skipped.
    TooLong,
}

/// Cuts a byte stream into lines of bounded length. Accepts `\n` and `\r\n`, skips blank lines and a
/// leading byte order mark. How the stream is cut into chunks makes no difference.
#[derive(Debug)]
pub struct Framer {
    max_line: usize,
    partial: Vec<u8>,
    skipping: bool,
    at_start: bool,
}

impl Framer {
    /// A framer whose lines have at most `max_line` bytes, the line ending not counted.
    pub fn new(max_line: usize) -> Self {
        Framer { max_line, partial: Vec::new(), skipping: false, at_start: true }
    }

    /// Takes the next chunk and hands each line that ends in it to `on`.
    pub fn push(&mut self, mut chunk: &[u8], mut on: impl FnMut(Framed<'_>)) {
        while let Some(end) = chunk.iter().position(|&byte| byte == b'\n') {
            let (head, rest) = (&chunk[..end], &chunk[end + 1..]);
            chunk = rest;
            if self.skipping {
                self.skipping = false;
            } else if self.partial.is_empty() {
                self.line(head, &mut on);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(head);
                self.line(&whole, &mut on);
                whole.clear();
                self.partial = whole;
            }
        }
        if self.skipping {
            return;
        }
        if self.partial.len() + chunk.len() > self.max_line + FRINGE_BYTES {
            self.partial = Vec::new();
            self.skipping = true;
            self.at_start = false;
            on(Framed::TooLong);
        } else {
            self.partial.extend_from_slice(chunk);
        }
    }

    /// Ends the stream: a last line without newline counts.
    pub fn finish(&mut self, mut on: impl FnMut(Framed<'_>)) {
        let last = std::mem::take(&mut self.partial);
        if !self.skipping {
            self.line(&last, &mut on);
        }
        self.skipping = false;
    }

    fn line(&mut self, mut line: &[u8], on: &mut impl FnMut(Framed<'_>)) {
        if std::mem::take(&mut self.at_start) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > self.max_line {
            on(Framed::TooLong);
        } else if !line.trim_ascii().is_empty() {
            on(Framed::Line(line));
        }
    }
}
