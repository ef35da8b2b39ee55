//! Mail that the parent has: with a store it is acknowledged when the disk knows of it, so that no crash makes a promise void.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy::primitives::Address;
use bytes::Bytes;

use super::Core;
use super::delivery::inbox::TakenRow;
use super::effect::Effect;
use super::emit::Receipt;
use super::gossip_mail::MAX_GOSSIP_ACKS;
use super::input::Now;

/// What the disk could not take is tried again so much later. Ours: soon enough for a sender that waits for an answer.
const RETRY: Duration = Duration::from_secs(1);

type Key = (Address, [u8; 16]);

/// How far the parent is, beyond what the disk knows. Of each stream one row at most is on its way.
#[derive(Debug, Default)]
pub(super) struct Taking {
    in_flight: BTreeSet<Key>,
    /// What comes next of those in flight, or is to be tried again.
    later: BTreeMap<Key, u64>,
    retry_at: Option<Duration>,
    /// Streams that came by gossip, and to whom their acknowledgements go.
    by_gossip: BTreeMap<Key, Bytes>,
}

impl Taking {
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.retry_at
    }

    pub(super) fn len(&self) -> usize {
        self.in_flight.len() + self.later.len()
    }
}

impl Core {
    /// Mail goes to the parent; how to know when it has it, if somebody has to.
    pub(super) fn hand_on(&mut self, sender: &Address, stream: &[u8; 16], seq: u64) -> Option<Receipt> {
        self.keeping.is_durable().then(|| {
            self.inbox.hand_on(sender, stream, seq, false);
            Receipt { sender: *sender, stream: *stream, seq }
        })
    }

    /// Mail is refused, which is known as soon as all before it is.
    pub(super) fn hand_on_refused(&mut self, sender: &Address, stream: &[u8; 16], seq: u64) {
        if self.keeping.is_durable() {
            self.inbox.hand_on(sender, stream, seq, true);
            self.note_arrival((*sender, *stream), None);
        }
    }

    pub(super) fn on_written(&mut self, lines: usize) {
        for Receipt { sender, stream, seq } in self.outlet.written(lines) {
            self.note_arrival((sender, stream), Some(seq));
        }
    }

    fn note_arrival(&mut self, key: Key, seq: Option<u64>) {
        if let Some(next) = self.inbox.arrived(&key.0, &key.1, seq) {
            self.taking.later.insert(key, next);
        }
    }

    /// Has the store told of what the parent has got; forgets what the inbox has forgotten.
    pub(super) fn keep_arrivals(&mut self, now: Now) {
        if !self.keeping.is_durable() {
            self.inbox.take_forgotten();
            return;
        }
        for (sender, stream) in self.inbox.take_forgotten() {
            self.taking.later.remove(&(sender, stream));
            self.effects.push_back(Effect::ForgetTaken { sender, stream });
        }
        if self.taking.retry_at.is_some_and(|at| at > now.mono) {
            return;
        }
        self.taking.retry_at = None;
        let in_flight = &self.taking.in_flight;
        let ready: Vec<(Key, u64)> =
            self.taking.later.extract_if(.., |key, _| !in_flight.contains(key)).collect();
        for ((sender, stream), next) in ready {
            self.taking.in_flight.insert((sender, stream));
            self.keep_taken(TakenRow { sender, stream, next });
        }
    }

    pub(super) fn on_taken_kept(&mut self, row: TakenRow) {
        let TakenRow { sender, stream, next } = row;
        self.taking.in_flight.remove(&(sender, stream));
        self.inbox.settle(&sender, &stream, next);
        if let Some(node_key) = self.taking.by_gossip.remove(&(sender, stream)) {
            self.acknowledge_by_gossip(&sender, node_key, BTreeSet::from([stream]));
        }
    }

    pub(super) fn on_taken_not_kept(&mut self, row: TakenRow, now: Now) {
        let TakenRow { sender, stream, next } = row;
        self.taking.in_flight.remove(&(sender, stream));
        self.taking.later.entry((sender, stream)).or_insert(next);
        self.taking.retry_at = Some(now.mono + RETRY);
        self.stats.count("arrivals_not_kept");
    }

    /// Mail has come by gossip: what the disk does not know of is acknowledged when it does.
    pub(super) fn acknowledge_when_kept(
        &mut self,
        sender: &Address,
        node_key: Bytes,
        streams: BTreeSet<[u8; 16]>,
    ) {
        if !self.keeping.is_durable() {
            return self.acknowledge_by_gossip(sender, node_key, streams);
        }
        let mut known = BTreeSet::new();
        for stream in streams {
            if self.inbox.acknowledged(sender, &stream, true) >= self.inbox.next_seq(sender, &stream) {
                known.insert(stream);
            } else if self.taking.by_gossip.len() < MAX_GOSSIP_ACKS {
                self.taking.by_gossip.insert((*sender, stream), node_key.clone());
            }
        }
        if !known.is_empty() {
            self.acknowledge_by_gossip(sender, node_key, known);
        }
    }
}
