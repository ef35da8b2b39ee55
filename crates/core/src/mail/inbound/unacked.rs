//! Delivered messages that wait for the `ack` of the parent.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use p2p_node_protocol::Limits;
use p2p_node_wire::message_id::{MessageIdPrefix, message_name};

use crate::budget::{Budget, Limit};
use crate::mail::inbound::inbox::Key;
use crate::mail::inbound::receive_window::StreamCheckpoint;

/// Limit of the messages that wait for an `ack`. Our choice: as many as may wait for the parent to
/// read.
pub const MAX_UNACKED: usize = Limits::STANDARD.max_unacked;
/// Limit of their payloads, in bytes. The parent may have to keep these until its `ack`. Our
/// choice.
pub(crate) const MAX_UNACKED_BYTES: usize = 64 << 20;

/// Messages whose `ack` has not arrived or is not committed, by id, each with its stream and the
/// size of its payload.
#[derive(Debug)]
pub(crate) struct Unacked {
    messages: BTreeMap<(MessageIdPrefix, u64), (Key, usize)>,
    buffered: Budget,
    /// Number and size of the messages of each sender.
    by_sender: BTreeMap<Address, Budget>,
    limit: usize,
}

impl Default for Unacked {
    fn default() -> Self {
        let (messages, buffered, by_sender) = Default::default();
        Unacked { messages, buffered, by_sender, limit: MAX_UNACKED }
    }
}

impl Unacked {
    /// Returns the limit of the messages that wait for an `ack`.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Sets the limit of the messages that wait for an `ack`.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(MAX_UNACKED);
    }

    pub(crate) fn len(&self) -> usize {
        self.buffered.count()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buffered.bytes()
    }

    /// Returns the number and the bytes of the messages that have room.
    fn free(&self) -> Limit {
        Limit {
            count: self.limit.saturating_sub(self.buffered.count()),
            bytes: MAX_UNACKED_BYTES.saturating_sub(self.buffered.bytes()),
        }
    }

    /// Returns `true` if these messages of a sender may wait too.
    ///
    /// A sender may use at most as much room as is free, so no sender takes the room of the next
    /// one. A sender without unacked messages finds room as long as there is any. The largest
    /// message finds room when no other waits.
    pub(crate) fn has_room(&self, sender: &Address, messages: Budget) -> bool {
        let (own, free) = (self.of(sender), self.free());
        if own.is_empty() && free.count >= 1 && messages.count() <= 1 {
            return messages.bytes() <= free.bytes || self.buffered.is_empty();
        }
        own.fits_all(messages, free)
    }

    /// Returns how many more messages of a sender may wait.
    pub(crate) fn credit(&self, sender: &Address) -> usize {
        let own = self.of(sender).count();
        let free = self.free().count;
        // Each message increases the share of the sender and reduces the free room.
        let credit = free.saturating_sub(own).div_ceil(2);
        credit.max(usize::from(own == 0 && free > 0))
    }

    /// Returns `true` if messages of this sender wait.
    pub(crate) fn has_sender(&self, sender: &Address) -> bool {
        !self.of(sender).is_empty()
    }

    fn of(&self, sender: &Address) -> Budget {
        self.by_sender.get(sender).copied().unwrap_or_default()
    }

    pub(crate) fn insert(&mut self, key: Key, seq: u64, bytes: usize) {
        self.remove(&key, seq);
        self.messages.insert((message_name(&key.0, &key.1), seq), (key, bytes));
        self.buffered.add(bytes);
        self.by_sender.entry(key.0).or_default().add(bytes);
    }

    /// Returns the stream of the message with this id.
    pub(crate) fn find(&self, id: &(MessageIdPrefix, u64)) -> Option<Key> {
        self.messages.get(id).map(|(key, _)| *key)
    }

    /// Removes a message.
    pub(crate) fn remove(&mut self, key: &Key, seq: u64) {
        self.remove_if(key, seq, seq, |_| true);
    }

    /// Removes all messages of a stream.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.remove_if(key, 0, u64::MAX, |_| true);
    }

    /// Removes the messages whose acks a committed checkpoint contains.
    pub(crate) fn commit(&mut self, row: &StreamCheckpoint) {
        let last = row.out_of_order.last().copied().unwrap_or(row.next);
        let is_known = |seq: u64| seq < row.next || row.out_of_order.binary_search(&seq).is_ok();
        self.remove_if(&(row.sender, row.stream), 0, last, is_known);
    }

    fn remove_if(&mut self, key: &Key, first: u64, last: u64, is_done: impl Fn(u64) -> bool) {
        let name = message_name(&key.0, &key.1);
        let done = self.messages.extract_if((name, first)..=(name, last), |(_, seq), _| is_done(*seq));
        let freed: Budget = done.map(|(_, (_, bytes))| bytes).collect();
        if freed.is_empty() {
            return;
        }
        self.buffered -= freed;
        if let Some(own) = self.by_sender.get_mut(&key.0) {
            *own -= freed;
            if own.is_empty() {
                self.by_sender.remove(&key.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use p2p_node_wire::message_id::StreamId;

    use super::*;
    use crate::mail::inbound::digests::Digests;

    const KEY: Key = (Address::repeat_byte(1), StreamId([1; 16]));

    #[test]
    fn capacity_leaves_room_for_other_senders_and_fits_one_message() {
        let mut unacked = Unacked::default();
        assert!(unacked.has_room(&KEY.0, Budget::of(1, MAX_UNACKED_BYTES + 1)));
        unacked.insert(KEY, 1, MAX_UNACKED_BYTES / 2 - 10);
        assert!(unacked.has_room(&KEY.0, Budget::of(1, 10)) && !unacked.has_room(&KEY.0, Budget::of(1, 21)));
        let other = Address::repeat_byte(2);
        assert!(unacked.has_room(&other, Budget::of(1, MAX_UNACKED_BYTES / 2)));
        assert!(!unacked.has_room(&other, Budget::of(1, MAX_UNACKED_BYTES / 2 + 11)));
        unacked.remove(&KEY, 1);
        assert_eq!((unacked.len(), unacked.bytes(), unacked.by_sender.len()), (0, 0, 0));
    }

    #[test]
    fn one_sender_cannot_use_the_share_of_the_next() {
        let mut unacked = Unacked::default();
        unacked.set_limit(100);
        let fill = |unacked: &mut Unacked, sender: u8| {
            let key = (Address::repeat_byte(sender), StreamId([1; 16]));
            let credit = unacked.credit(&key.0);
            let taken = (1..).take_while(|seq| {
                let has_room = unacked.has_room(&key.0, Budget::of(1, 1));
                has_room.then(|| unacked.insert(key, *seq, 1)).is_some()
            });
            let taken = taken.count();
            assert!(taken.abs_diff(credit) <= 1, "{taken} {credit}");
            taken
        };
        let shares: Vec<usize> = (1..=6).map(|sender| fill(&mut unacked, sender)).collect();
        assert_eq!(shares, [50, 25, 13, 6, 3, 2]);
        assert!(unacked.len() <= 100);
    }

    #[test]
    fn persisted_write_releases_everything_up_to_its_number() {
        let mut unacked = Unacked::default();
        let other = (KEY.0, StreamId([2; 16]));
        for seq in 1..=6 {
            unacked.insert(KEY, seq, 10);
            unacked.insert(other, seq, 100);
        }
        unacked.commit(&StreamCheckpoint {
            sender: KEY.0,
            stream: KEY.1,
            next: 3,
            delivered_up_to: 7,
            out_of_order: vec![5],
            digests: Digests::default(),
        });
        let name = message_name(&KEY.0, &KEY.1);
        let left: Vec<u64> = (1..=6).filter(|seq| unacked.find(&(name, *seq)) == Some(KEY)).collect();
        assert_eq!((left, unacked.bytes()), (vec![3, 4, 6], 630));
        unacked.forget(&other);
        assert_eq!((unacked.len(), unacked.bytes()), (3, 30));
    }
}
