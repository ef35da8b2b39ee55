//! What the parent has of one stream of mail, where the mail is not settled as soon as it is on its way there.

use std::collections::{BTreeSet, VecDeque};

use alloy_primitives::Address;
use p2p_node_wire::message_id::StreamId;

use crate::mail::inbound::digests::Digests;

/// Mails of one stream that may wait for the parent to acknowledge them (a window of 1,024). As many as the store
/// keeps, and an acknowledgement names, of those that were taken out of order; of more, it is as if they had not been.
pub const UNTAKEN_WINDOW: usize = 1024;

/// How far the parent has the mail of a stream, as it outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamCheckpoint {
    /// Who sends.
    pub sender: Address,
    /// The stream.
    pub stream: StreamId,
    /// It has everything below.
    pub next: u64,
    /// It may have been told everything below.
    pub told: u64,
    /// It has these too, all of them above `next`, in growing order: no more than a window.
    pub beyond: Vec<u64>,
    /// What its latest numbers stood for.
    pub digests: Digests,
}

/// What is to be done with a mail whose turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliverDecision {
    /// It goes to the parent, which an earlier process may have told it `again`.
    New {
        /// Whether it may have been told before.
        redelivered: bool,
    },
    /// The parent has taken it before.
    Duplicate,
}

/// One stream, seen from the parent.
#[derive(Debug, Default)]
pub struct ReceiveWindow {
    /// Everything below was handed on, or will never be.
    handed: u64,
    /// Handed on, and not known to have arrived.
    outstanding: VecDeque<u64>,
    /// Arrived, though something before them has not.
    beyond: BTreeSet<u64>,
    /// Everything below may have been told by an earlier process.
    told_before: u64,
    /// Everything below may be acknowledged, and these.
    settled: u64,
    settled_beyond: Vec<u64>,
}

impl ReceiveWindow {
    /// Goes on where an earlier process was.
    pub fn restored(row: &StreamCheckpoint) -> Self {
        ReceiveWindow {
            handed: row.next,
            outstanding: VecDeque::new(),
            beyond: row.beyond.iter().copied().collect(),
            told_before: row.told,
            settled: row.next,
            settled_beyond: row.beyond.clone(),
        }
    }

    /// The turn of a mail has come.
    pub fn deliver(&mut self, seq: u64) -> DeliverDecision {
        let is_known = seq < self.handed || self.beyond.contains(&seq);
        self.handed = self.handed.max(seq.saturating_add(1));
        let handing = if is_known {
            DeliverDecision::Duplicate
        } else {
            self.outstanding.push_back(seq);
            DeliverDecision::New { redelivered: seq < self.told_before }
        };
        // What lies before it will not come any more.
        self.advance();
        handing
    }

    /// The parent has a mail. Whether that is news.
    pub fn mark_acked(&mut self, seq: u64) -> bool {
        if self.outstanding.front() == Some(&seq) {
            self.outstanding.pop_front();
        } else if let Ok(at) = self.outstanding.binary_search(&seq) {
            self.outstanding.remove(at);
            self.beyond.insert(seq);
        } else {
            return false;
        }
        self.advance();
        true
    }

    /// The sender has given up what it numbered so: nobody waits for that any more.
    pub fn give_up(&mut self, from: u64, below: u64) -> Vec<u64> {
        let range = self.outstanding.partition_point(|seq| *seq < from)
            ..self.outstanding.partition_point(|seq| *seq < below);
        let void = self.outstanding.drain(range).collect();
        self.advance();
        void
    }

    /// The parent has everything below.
    fn next(&self) -> u64 {
        self.outstanding.front().copied().unwrap_or(self.handed)
    }

    fn advance(&mut self) {
        // What an earlier process had beyond this is part of it now.
        while self.outstanding.is_empty() && self.beyond.remove(&self.handed) {
            self.handed = self.handed.saturating_add(1);
        }
        let next = self.next();
        while self.beyond.first().is_some_and(|seq| *seq < next) {
            self.beyond.pop_first();
        }
    }

    /// As it is to outlive the process.
    pub fn row(&self, sender: Address, stream: StreamId, digests: &Digests) -> StreamCheckpoint {
        let (next, told) = (self.next(), self.handed.max(self.told_before));
        StreamCheckpoint {
            sender,
            stream,
            next,
            told,
            beyond: self.beyond.iter().take(UNTAKEN_WINDOW).copied().collect(),
            digests: digests.clone(),
        }
    }

    /// So much may be acknowledged. Whether that is more than before.
    pub fn settle(&mut self, row: &StreamCheckpoint) -> bool {
        if row.next < self.settled || (row.next, &row.beyond) == (self.settled, &self.settled_beyond) {
            return false;
        }
        self.settled = row.next;
        self.settled_beyond.clone_from(&row.beyond);
        true
    }

    /// Everything below may be acknowledged.
    pub fn acked_up_to(&self) -> u64 {
        self.settled
    }

    /// … and these, in growing order.
    pub fn settled_beyond(&self) -> &[u64] {
        &self.settled_beyond
    }

    /// Whether this one has arrived before something earlier.
    pub fn has_beyond(&self, seq: u64) -> bool {
        self.beyond.contains(&seq)
    }

    /// How many were handed on and are not known to have arrived.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// How many have arrived before something earlier.
    pub fn beyond(&self) -> usize {
        self.beyond.len()
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
        (row.next, row.told, row.beyond)
    }

    #[test]
    fn what_is_taken_out_of_order_is_known_and_counts_when_all_before_it_has_come() {
        let mut arrivals = ReceiveWindow::default();
        for seq in [3, 4, 7, 8] {
            assert_eq!(arrivals.deliver(seq), DeliverDecision::New { redelivered: false });
        }
        assert!(arrivals.mark_acked(7) && !arrivals.mark_acked(7) && !arrivals.mark_acked(5));
        assert_eq!(row(&arrivals), (3, 9, vec![7]));
        assert!(arrivals.mark_acked(3));
        assert_eq!(row(&arrivals), (4, 9, vec![7]));
        assert_eq!(arrivals.give_up(0, 8), [4], "its sender has given it up");
        assert_eq!(row(&arrivals), (8, 9, vec![]));
    }

    #[test]
    fn the_next_process_knows_what_was_taken_and_what_may_have_been_told() {
        let mut arrivals = ReceiveWindow::default();
        for seq in 1..=4 {
            arrivals.deliver(seq);
        }
        assert!(arrivals.mark_acked(1) && arrivals.mark_acked(3));
        let mut again = ReceiveWindow::restored(&written(&arrivals));
        assert_eq!((again.acked_up_to(), again.settled_beyond()), (2, &[3][..]));
        assert_eq!(again.deliver(2), DeliverDecision::New { redelivered: true });
        assert_eq!(again.deliver(3), DeliverDecision::Duplicate);
        assert_eq!(again.deliver(4), DeliverDecision::New { redelivered: true });
        assert_eq!(again.deliver(5), DeliverDecision::New { redelivered: false });
        assert!(again.mark_acked(2));
        assert_eq!(row(&again), (4, 6, vec![]));
    }

    #[test]
    fn what_an_earlier_process_had_out_of_order_counts_as_soon_as_nothing_before_it_waits() {
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
            assert_eq!(again.deliver(seq), DeliverDecision::Duplicate, "they come once more");
        }
        assert_eq!(again.deliver(4), DeliverDecision::New { redelivered: true });
        assert_eq!(row(&again), (4, 5, vec![]));
    }

    proptest! {
        /// However it comes about, over however many processes: what is written is what can be read again.
        #[test]
        fn a_row_is_always_in_order(steps in proptest::collection::vec((0..4_u8, 0..6_u64), 0..80)) {
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
                        // The sender goes back to what was not taken, or has given it up.
                        last = last.saturating_sub(gap).max(arrivals.handed);
                    }
                }
                let (next, told, beyond) = row(&arrivals);
                prop_assert!(next <= told && beyond.is_sorted());
                prop_assert!(beyond.first().is_none_or(|first| *first > next), "{next} {beyond:?}");
                prop_assert!(arrivals.settled_beyond().iter().all(|seq| *seq > arrivals.acked_up_to()));
            }
        }

        /// The naive model: a list of what was handed on, each with whether the parent has it.
        #[test]
        fn it_is_what_a_list_would_be(steps in proptest::collection::vec((0..4_u8, 1..6_u64, 0..30_u64), 0..80)) {
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
                        prop_assert_eq!(arrivals.give_up(range.start, range.end), void);
                    }
                }
                let handed = list.last().map_or(0, |(seq, _)| seq + 1);
                let next = list.iter().find(|(_, done)| !done).map_or(handed, |(seq, _)| *seq);
                // What was given up out of order is not taken: it is only waited for no longer.
                let (row_next, told, beyond) = row(&arrivals);
                prop_assert_eq!((row_next, told), (next, handed));
                for seq in beyond {
                    prop_assert!(seq > next && list.contains(&(seq, true)));
                }
            }
        }
    }
}
