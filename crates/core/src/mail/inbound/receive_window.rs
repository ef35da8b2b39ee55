//! What the parent has of one received stream, if the node acknowledges messages later than on
//! receipt.

use std::collections::{BTreeSet, VecDeque};

use alloy_primitives::Address;
use p2p_node_wire::message_id::StreamId;

use crate::mail::inbound::digests::Digests;

/// Limit of the messages of one stream that wait for an ack of the parent. Our choice. The store
/// persists as many out-of-order acks, and an ack names as many; above that, the node treats
/// further ones as not acked.
pub const ACK_WINDOW: usize = 1024;

/// The progress of the parent in a stream, as the store persists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamCheckpoint {
    /// The sender.
    pub sender: Address,
    /// The stream.
    pub stream: StreamId,
    /// The parent has all messages below.
    pub next: u64,
    /// The node may have delivered all messages below.
    pub delivered_up_to: u64,
    /// The messages above `next` that the parent has, sorted. At most [`ACK_WINDOW`].
    pub out_of_order: Vec<u64>,
    /// The digests of the latest numbers.
    pub digests: Digests,
}

/// The decision about a message that is next in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliverDecision {
    /// The node delivers the message to the parent.
    New {
        /// `true` if an earlier process may have delivered it.
        redelivered: bool,
    },
    /// The parent has the message already.
    Duplicate,
}

/// The state of one stream towards the parent.
#[derive(Debug, Default)]
pub struct ReceiveWindow {
    /// The node has delivered all messages below, or they will never arrive.
    handed: u64,
    /// Delivered messages that are not acked, sorted.
    outstanding: VecDeque<u64>,
    /// Acked messages with an earlier message that is not acked.
    out_of_order: BTreeSet<u64>,
    /// An earlier process may have delivered all messages below.
    redelivery_boundary: u64,
    /// The node may acknowledge all messages below `acked`, and those in `committed_out_of_order`.
    acked: u64,
    committed_out_of_order: Vec<u64>,
}

impl ReceiveWindow {
    /// Continues where an earlier process stopped.
    pub fn restored(row: &StreamCheckpoint) -> Self {
        ReceiveWindow {
            handed: row.next,
            outstanding: VecDeque::new(),
            out_of_order: row.out_of_order.iter().copied().collect(),
            redelivery_boundary: row.delivered_up_to,
            acked: row.next,
            committed_out_of_order: row.out_of_order.clone(),
        }
    }

    /// Decides about the message that is next in order, and counts it as delivered if it is new.
    pub fn deliver(&mut self, seq: u64) -> DeliverDecision {
        let is_known = seq < self.handed || self.out_of_order.contains(&seq);
        self.handed = self.handed.max(seq.saturating_add(1));
        let handing = if is_known {
            DeliverDecision::Duplicate
        } else {
            self.outstanding.push_back(seq);
            DeliverDecision::New { redelivered: seq < self.redelivery_boundary }
        };
        // No earlier message will arrive any more.
        self.advance();
        handing
    }

    /// Records that the parent has a message. Returns `true` if this is new.
    pub fn mark_acked(&mut self, seq: u64) -> bool {
        if self.outstanding.front() == Some(&seq) {
            self.outstanding.pop_front();
        } else if let Ok(at) = self.outstanding.binary_search(&seq) {
            self.outstanding.remove(at);
            self.out_of_order.insert(seq);
        } else {
            return false;
        }
        self.advance();
        true
    }

    /// Drops the delivered messages in a range that the sender gave up. Returns those that were not
    /// acked.
    pub fn skip_range(&mut self, from: u64, below: u64) -> Vec<u64> {
        let range = self.outstanding.partition_point(|seq| *seq < from)
            ..self.outstanding.partition_point(|seq| *seq < below);
        let void = self.outstanding.drain(range).collect();
        self.advance();
        void
    }

    /// Returns the number below which the parent has all messages.
    fn next(&self) -> u64 {
        self.outstanding.front().copied().unwrap_or(self.handed)
    }

    fn advance(&mut self) {
        // The out-of-order acks of an earlier process may follow directly.
        while self.outstanding.is_empty() && self.out_of_order.remove(&self.handed) {
            self.handed = self.handed.saturating_add(1);
        }
        let next = self.next();
        while self.out_of_order.first().is_some_and(|seq| *seq < next) {
            self.out_of_order.pop_first();
        }
    }

    /// Returns the checkpoint for the store.
    pub fn row(&self, sender: Address, stream: StreamId, digests: &Digests) -> StreamCheckpoint {
        let (next, delivered_up_to) = (self.next(), self.handed.max(self.redelivery_boundary));
        StreamCheckpoint {
            sender,
            stream,
            next,
            delivered_up_to,
            out_of_order: self.out_of_order.iter().take(ACK_WINDOW).copied().collect(),
            digests: digests.clone(),
        }
    }

    /// Lets the node acknowledge the messages up to a checkpoint. Returns `true` if that is more
    /// than before.
    pub fn commit(&mut self, row: &StreamCheckpoint) -> bool {
        if row.next < self.acked
            || (row.next, &row.out_of_order) == (self.acked, &self.committed_out_of_order)
        {
            return false;
        }
        self.acked = row.next;
        self.committed_out_of_order.clone_from(&row.out_of_order);
        true
    }

    /// Returns the number below which the node may acknowledge all messages.
    pub fn acked_up_to(&self) -> u64 {
        self.acked
    }

    /// Returns the acknowledged numbers above, sorted.
    pub fn committed_out_of_order(&self) -> &[u64] {
        &self.committed_out_of_order
    }

    /// Returns `true` if this message is acked out of order.
    pub fn has_out_of_order(&self, seq: u64) -> bool {
        self.out_of_order.contains(&seq)
    }

    /// Returns `true` if the parent, or the store, has yet to confirm a delivered message, or has
    /// confirmed a later one first. Without the window, the node would deliver such messages again.
    pub fn has_open_mail(&self) -> bool {
        self.outstanding() > 0 || self.out_of_order() > 0
    }

    /// Returns the number of delivered messages that are not acked.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Returns the number of messages acked out of order.
    pub fn out_of_order(&self) -> usize {
        self.out_of_order.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(arrivals: &ReceiveWindow) -> StreamCheckpoint {
        arrivals.row(Address::ZERO, StreamId([0; 16]), &Digests::default())
    }

    fn row(arrivals: &ReceiveWindow) -> (u64, u64, Vec<u64>) {
        let row = written(arrivals);
        (row.next, row.delivered_up_to, row.out_of_order)
    }

    #[test]
    fn out_of_order_ack_counts_when_the_gap_closes() {
        let mut arrivals = ReceiveWindow::default();
        for seq in [3, 4, 7, 8] {
            assert_eq!(arrivals.deliver(seq), DeliverDecision::New { redelivered: false });
        }
        assert!(arrivals.mark_acked(7) && !arrivals.mark_acked(7) && !arrivals.mark_acked(5));
        assert_eq!(row(&arrivals), (3, 9, vec![7]));
        assert!(arrivals.mark_acked(3));
        assert_eq!(row(&arrivals), (4, 9, vec![7]));
        assert_eq!(arrivals.skip_range(0, 8), [4], "the sender gave up 4");
        assert_eq!(row(&arrivals), (8, 9, vec![]));
    }

    #[test]
    fn restored_window_knows_acked_and_possibly_delivered_messages() {
        let mut arrivals = ReceiveWindow::default();
        for seq in 1..=4 {
            arrivals.deliver(seq);
        }
        assert!(arrivals.mark_acked(1) && arrivals.mark_acked(3));
        let mut again = ReceiveWindow::restored(&written(&arrivals));
        assert_eq!((again.acked_up_to(), again.committed_out_of_order()), (2, &[3][..]));
        assert_eq!(again.deliver(2), DeliverDecision::New { redelivered: true });
        assert_eq!(again.deliver(3), DeliverDecision::Duplicate);
        assert_eq!(again.deliver(4), DeliverDecision::New { redelivered: true });
        assert_eq!(again.deliver(5), DeliverDecision::New { redelivered: false });
        assert!(again.mark_acked(2));
        assert_eq!(row(&again), (4, 6, vec![]));
    }

    #[test]
    fn restored_out_of_order_acks_count_when_the_gap_closes() {
        let mut arrivals = ReceiveWindow::default();
        for seq in 1..=4 {
            arrivals.deliver(seq);
        }
        assert!(arrivals.mark_acked(2) && arrivals.mark_acked(3));
        let mut again = ReceiveWindow::restored(&written(&arrivals));
        again.deliver(1);
        assert!(again.mark_acked(1));
        assert_eq!(row(&again), (4, 5, vec![]));
        for seq in [2, 3] {
            assert_eq!(again.deliver(seq), DeliverDecision::Duplicate, "both arrive once more");
        }
        assert_eq!(again.deliver(4), DeliverDecision::New { redelivered: true });
        assert_eq!(row(&again), (4, 5, vec![]));
    }

    proptest! {
        /// After any steps, over any number of processes, the next process can read the checkpoint.
        #[test]
        fn checkpoint_row_is_always_sorted(steps in proptest::collection::vec((0..4_u8, 0..6_u64), 0..80)) {
            let mut arrivals = ReceiveWindow::default();
            let mut last = 0;
            for (kind, gap) in steps {
                match kind {
                    0 | 1 => {
                        last += gap.max(1);
                        arrivals.deliver(last);
                    }
                    2 => drop(arrivals.mark_acked(last.saturating_sub(gap))),
                    _ => {
                        arrivals = ReceiveWindow::restored(&written(&arrivals));
                        // The sender repeats the messages that were not acked, or gives them up.
                        last = last.saturating_sub(gap).max(arrivals.handed);
                    }
                }
                let (next, delivered_up_to, out_of_order) = row(&arrivals);
                prop_assert!(next <= delivered_up_to && out_of_order.is_sorted());
                prop_assert!(out_of_order.first().is_none_or(|first| *first > next), "{next} {out_of_order:?}");
                prop_assert!(arrivals.committed_out_of_order().iter().all(|seq| *seq > arrivals.acked_up_to()));
            }
        }

        /// The naive model: a list of the delivered messages, each with `true` if it is acked.
        #[test]
        fn selective_acks_match_a_plain_list(steps in proptest::collection::vec((0..4_u8, 1..6_u64, 0..30_u64), 0..80)) {
            let mut arrivals = ReceiveWindow::default();
            let mut list: Vec<(u64, bool)> = Vec::new();
            let mut next_seq = 0;
            for (kind, gap, which) in steps {
                match kind {
                    0 | 1 => {
                        next_seq += gap;
                        arrivals.deliver(next_seq);
                        list.push((next_seq, false));
                    }
                    2 => {
                        let known = list.iter_mut().find(|(seq, done)| *seq == which && !done);
                        prop_assert_eq!(arrivals.mark_acked(which), known.is_some());
                        if let Some((_, done)) = known { *done = true }
                    }
                    _ => {
                        let range = which..which + gap;
                        let void: Vec<u64> =
                            list.iter().filter(|(seq, done)| range.contains(seq) && !done).map(|(seq, _)| *seq).collect();
                        list.iter_mut().filter(|(seq, _)| range.contains(seq)).for_each(|(_, done)| *done = true);
                        prop_assert_eq!(arrivals.skip_range(range.start, range.end), void);
                    }
                }
                let handed = list.last().map_or(0, |(seq, _)| seq + 1);
                let next = list.iter().find(|(_, done)| !done).map_or(handed, |(seq, _)| *seq);
                // A message that the sender gave up is not acked. It only stops blocking later
                // ones.
                let (row_next, delivered_up_to, out_of_order) = row(&arrivals);
                prop_assert_eq!((row_next, delivered_up_to), (next, handed));
                for seq in out_of_order {
                    prop_assert!(seq > next && list.contains(&(seq, true)));
                }
            }
        }
    }
}
