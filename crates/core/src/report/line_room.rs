//! The bytes of an answer that its lists may still use. What does not fit is left out, because a client
//! cannot read a line that is too long.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::replies::{line_bytes, raw_line_bytes};

/// Upper bound of the bytes of an answer around the report: its type, its number, and its id of up to 128
/// bytes, each of which may take 6 in a line.
const ANSWER_BYTES: usize = 1024;

/// The bytes that are left.
#[derive(Debug)]
pub(crate) struct LineRoom(usize);

impl LineRoom {
    /// Returns what a line of `max_line` bytes leaves beside a document without its lists.
    pub(crate) fn after(document: &impl Serialize, max_line: usize) -> Self {
        LineRoom(max_line.saturating_sub(ANSWER_BYTES).saturating_sub(bytes_of(document)))
    }

    /// Reserves bytes. Returns `false` if fewer are left.
    fn takes(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }

    /// Appends an item to a list if it fits, with its comma. Returns `false` if it does not.
    pub(crate) fn push<T: Serialize>(&mut self, list: &mut Vec<T>, item: T) -> bool {
        let fits = self.takes(bytes_of(&item) + 1);
        if fits {
            list.push(item);
        }
        fits
    }

    /// Returns the items that fit.
    pub(crate) fn list<T: Serialize>(&mut self, items: impl IntoIterator<Item = T>) -> Vec<T> {
        items.into_iter().filter(|item| self.takes(bytes_of(item) + 1)).collect()
    }

    /// Returns the entries that fit.
    pub(crate) fn map<V: Serialize>(&mut self, entries: BTreeMap<String, V>) -> BTreeMap<String, V> {
        // A name needs two quotes, a colon and a comma.
        entries
            .into_iter()
            .filter(|(name, value)| self.takes(line_bytes(name) + bytes_of(value) + 4))
            .collect()
    }
}

/// Returns the bytes of a value in a line. A value that has no JSON would not reach the line either.
fn bytes_of(value: &impl Serialize) -> usize {
    serde_json::to_string(value).map_or(0, |json| raw_line_bytes(&json))
}
