//! Mail that the parent has to acknowledge.

use std::collections::BTreeMap;

use p2p_node_protocol::Limits;

use super::delivery::arrivals::TakenRow;
use super::delivery::inbox::Key;
use super::delivery::naming::{MessageName, message_name};

/// Mails that may wait for their `ack`. Ours: as many as may wait for the parent to read.
pub const MAX_UNTAKEN: usize = Limits::STANDARD.max_unacked;
/// … and bytes of their payloads, which the parent may keep until then. Ours.
pub(super) const MAX_UNTAKEN_BYTES: usize = 64 << 20;

/// Mail whose `ack` has yet to come, or to be known to the disk, by its id: whose it is, and the size of its payload.
#[derive(Debug)]
pub(super) struct Untaken {
    mails: BTreeMap<(MessageName, u64), (Key, usize)>,
    bytes: usize,
    limit: usize,
}

impl Default for Untaken {
    fn default() -> Self {
        Untaken { mails: BTreeMap::new(), bytes: 0, limit: MAX_UNTAKEN }
    }
}

impl Untaken {
    /// Messages that may wait for their `ack`.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Lets the parent hold at most so many messages without an `ack`.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(MAX_UNTAKEN);
    }

    pub(super) fn len(&self) -> usize {
        self.mails.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether so many more may wait. The largest mail can whenever nothing does.
    pub(super) fn has_room(&self, mails: usize, bytes: usize) -> bool {
        let fits = self.mails.len() + mails <= self.limit && self.bytes + bytes <= MAX_UNTAKEN_BYTES;
        fits || self.mails.is_empty()
    }

    pub(super) fn insert(&mut self, key: Key, seq: u64, bytes: usize) {
        let before = self.mails.insert((message_name(&key.0, &key.1), seq), (key, bytes));
        self.bytes += bytes;
        self.bytes -= before.map_or(0, |(_, bytes)| bytes);
    }

    /// Whose mail has this id.
    pub(super) fn find(&self, id: &(MessageName, u64)) -> Option<Key> {
        self.mails.get(id).map(|(key, _)| *key)
    }

    /// A mail waits no longer.
    pub(super) fn remove(&mut self, key: &Key, seq: u64) {
        self.remove_if(key, seq, seq, |_| true);
    }

    /// Nothing of a stream waits any longer.
    pub(super) fn forget(&mut self, key: &Key) {
        self.remove_if(key, 0, u64::MAX, |_| true);
    }

    /// The disk knows how far a stream was taken.
    pub(super) fn settle(&mut self, row: &TakenRow) {
        let last = row.beyond.last().copied().unwrap_or(row.next);
        let is_known = |seq: u64| seq < row.next || row.beyond.binary_search(&seq).is_ok();
        self.remove_if(&(row.sender, row.stream), 0, last, is_known);
    }

    fn remove_if(&mut self, key: &Key, first: u64, last: u64, is_done: impl Fn(u64) -> bool) {
        let name = message_name(&key.0, &key.1);
        let done = self.mails.extract_if((name, first)..=(name, last), |(_, seq), _| is_done(*seq));
        self.bytes -= done.map(|(_, (_, bytes))| bytes).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;

    use super::*;
    use crate::core::delivery::digests::Digests;

    const KEY: Key = (Address::repeat_byte(1), [1; 16]);

    #[test]
    fn mails_and_their_bytes_are_bounded_but_one_always_fits() {
        let mut untaken = Untaken::default();
        assert!(untaken.has_room(1, MAX_UNTAKEN_BYTES + 1));
        untaken.insert(KEY, 1, MAX_UNTAKEN_BYTES - 10);
        assert!(untaken.has_room(MAX_UNTAKEN - 1, 10));
        assert!(!untaken.has_room(MAX_UNTAKEN, 10) && !untaken.has_room(1, 11));
        untaken.remove(&KEY, 1);
        assert_eq!((untaken.len(), untaken.bytes()), (0, 0));
    }

    #[test]
    fn what_the_disk_knows_waits_no_longer() {
        let mut untaken = Untaken::default();
        let other = (KEY.0, [2; 16]);
        for seq in 1..=6 {
            untaken.insert(KEY, seq, 10);
            untaken.insert(other, seq, 100);
        }
        untaken.settle(&TakenRow { sender: KEY.0, stream: KEY.1, next: 3, told: 7, beyond: vec![5], digests: Digests::default() });
        let name = message_name(&KEY.0, &KEY.1);
        let left: Vec<u64> = (1..=6).filter(|seq| untaken.find(&(name, *seq)) == Some(KEY)).collect();
        assert_eq!((left, untaken.bytes()), (vec![3, 4, 6], 630));
        untaken.forget(&other);
        assert_eq!((untaken.len(), untaken.bytes()), (3, 30));
    }
}
