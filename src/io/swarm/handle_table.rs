//! Table of libp2p handles, which the core refers to by token.

use std::collections::BTreeMap;

use p2p_node_core::input::Token;

/// Bounded table of handles in insertion order.
#[derive(Debug)]
pub(super) struct HandleTable<T> {
    limit: usize,
    next: Token,
    handles: BTreeMap<Token, T>,
}

impl<T> HandleTable<T> {
    /// Creates a table for at most `limit` handles.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, next: 0, handles: BTreeMap::new() }
    }

    /// Inserts a handle and returns its token, or `None` if the table is full.
    pub(super) fn insert(&mut self, handle: T) -> Option<Token> {
        if self.is_full() {
            return None;
        }
        let token = self.next;
        self.next += 1;
        self.handles.insert(token, handle);
        Some(token)
    }

    /// Removes a handle and returns it.
    pub(super) fn take(&mut self, token: Token) -> Option<T> {
        self.handles.remove(&token)
    }

    /// Drops the handles for which `useful` returns `false`.
    pub(super) fn retain(&mut self, mut useful: impl FnMut(&T) -> bool) {
        self.handles.retain(|_, handle| useful(handle));
    }

    /// Removes and returns the oldest handle if the table is full.
    pub(super) fn evict_if_full(&mut self) -> Option<T> {
        if !self.is_full() {
            return None;
        }
        self.handles.pop_first().map(|(_, handle)| handle)
    }

    /// Returns `true` if the table is full.
    pub(super) fn is_full(&self) -> bool {
        self.handles.len() >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handle_is_taken_once() {
        let mut table = HandleTable::new(2);
        let token = table.insert('a').unwrap();
        assert_eq!(table.take(token), Some('a'));
        assert_eq!(table.take(token), None);
        assert_ne!(table.insert('b'), Some(token));
    }

    #[test]
    fn full_table_rejects_handle_until_one_is_taken() {
        let mut table = HandleTable::new(2);
        let first = table.insert('a').unwrap();
        table.insert('b').unwrap();
        assert_eq!(table.insert('c'), None);
        table.take(first);
        assert!(table.insert('c').is_some());
    }

    #[test]
    fn full_table_evicts_oldest_handle() {
        let mut table = HandleTable::new(2);
        table.insert('a').unwrap();
        assert_eq!(table.evict_if_full(), None);
        table.insert('b').unwrap();
        assert_eq!(table.evict_if_full(), Some('a'));
        table.insert('c').unwrap();
        table.retain(|handle| *handle == 'c');
        assert_eq!((table.take(1), table.take(2)), (None, Some('c')));
    }
}
