//! Cuts bytes into lines.

use memchr::memchr;

/// Bytes around a line that do not count: a byte order mark before the line, and a carriage return
/// after it.
const LINE_SLACK: usize = BYTE_ORDER_MARK.len() + 1;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Bytes that the framer keeps of a line over the limit, to find its `id`. A parent that writes the
/// id before long fields has the id within these bytes.
pub const HEAD_BYTES: usize = 4096;

/// A line of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// A line within the limit; never blank.
    Line {
        /// Number of the line, from 1. Blank lines and lines over the limit count too.
        number: u64,
        /// The bytes of the line, without newline, carriage return and byte order mark.
        bytes: &'a [u8],
    },
    /// A line over the limit. The framer reports it once and skips it up to its newline.
    TooLong {
        /// Number of the line, as above.
        number: u64,
        /// The first [`HEAD_BYTES`] of the line, or as many as a line may have.
        head: &'a [u8],
    },
}

/// Cuts a byte stream into lines of bounded length. Accepts `\n` and `\r\n`, skips blank lines and
/// a leading byte order mark. The lines do not depend on the chunks.
#[derive(Debug)]
pub struct Framer {
    max_line: usize,
    partial: Vec<u8>,
    skipping: bool,
    /// Number of complete lines.
    ended: u64,
}

impl Framer {
    /// Creates a framer for lines of at most `max_line` bytes, without the line ending.
    pub fn new(max_line: usize) -> Self {
        Framer { max_line, partial: Vec::new(), skipping: false, ended: 0 }
    }

    /// Adds a chunk, and calls `on` with each line that ends in it.
    pub fn push(&mut self, mut chunk: &[u8], mut on: impl FnMut(Framed<'_>)) {
        while let Some(end) = memchr(b'\n', chunk) {
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

    /// Ends the stream. A last line without a newline counts.
    pub fn finish(&mut self, mut on: impl FnMut(Framed<'_>)) {
        let last = std::mem::take(&mut self.partial);
        if !self.skipping {
            self.line(&last, false, &mut on);
        }
        self.skipping = false;
    }

    /// Calls `on` with a line. `is_head`: these are the first bytes of a line over the limit.
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
