//! Turns the bytes of a fuzzer into choices. Missing bytes are zeros, so every input is valid, and
//! each byte that the fuzzer changes changes one choice.

use serde_json::{Map, Value};

/// Greatest depth of a value of [`Source::json`]. The corpora have deeper ones.
const MAX_JSON_DEPTH: usize = 6;

pub struct Source<'a> {
    bytes: &'a [u8],
}

impl<'a> Source<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Source { bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Returns a number below `limit`, which is at max 256.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// Returns mostly a small number, sometimes one at which sums overflow.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=191 => small.into(),
            192..=223 => self.u16().into(),
            224..=239 => u64::MAX - u64::from(self.byte()),
            _ => self.u64(),
        }
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (head, rest) = self.bytes.split_at(length.min(self.bytes.len()));
        self.bytes = rest;
        head
    }

    /// Returns a few bytes after their length.
    pub fn chunk(&mut self) -> &'a [u8] {
        let length = match self.byte() {
            short @ 0..=239 => short % 16,
            long => long,
        };
        self.take(length.into())
    }

    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.chunk()).into_owned()
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    pub fn optional<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    pub fn list<T>(&mut self, max: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(max + 1)).map(|_| make(self)).collect()
    }

    pub fn json(&mut self) -> Value {
        self.json_at(0)
    }

    fn json_at(&mut self, depth: usize) -> Value {
        match self.below(if depth < MAX_JSON_DEPTH { 7 } else { 5 }) {
            0 => Value::Null,
            1 => self.flag().into(),
            2 => self.u64().into(),
            3 => self.u64().cast_signed().into(),
            4 => self.text().into(),
            5 => self.list(4, |source| source.json_at(depth + 1)).into(),
            _ => {
                let fields = self.list(4, |source| (source.text(), source.json_at(depth + 1)));
                Value::Object(fields.into_iter().collect::<Map<_, _>>())
            }
        }
    }
}
