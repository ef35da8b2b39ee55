//! Stores of nodes, and the part of them that survives a crash.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use alloy::primitives::Address;
use p2p_node_core::input::Input;
use p2p_node_core::mail::inbound::receive_window::StreamCheckpoint;
use p2p_node_core::mail::outbound::outbox::PersistedMessage;
use p2p_node_wire::message_id::{StreamId, message_id, message_name, parse_message_id};

use crate::parent::Restored;
use crate::world::World;

/// Time of a disk write.
const WRITE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(5));
/// Writes in a thousand for which there is no room.
const FULL: u32 = 5;

#[derive(Clone, Debug)]
enum Change {
    Keep(u64, Box<PersistedMessage>),
    Take(u64, Box<StreamCheckpoint>),
    ForgetTaken(Address, StreamId),
    Forget(StreamId, u64),
}

impl Change {
    /// The number by which somebody is told of it.
    fn number(&self) -> Option<u64> {
        match self {
            Change::Keep(number, _) | Change::Take(number, _) => Some(*number),
            Change::Forget(..) | Change::ForgetTaken(..) => None,
        }
    }
}

/// A store: what is on the disk, and what is on its way there.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    rows: BTreeMap<(StreamId, u64), PersistedMessage>,
    taken: BTreeMap<(Address, StreamId), StreamCheckpoint>,
    pending: VecDeque<Change>,
}

impl Disk {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Keep(_, mail) => drop(self.rows.insert((mail.stream, mail.seq), *mail)),
            Change::Take(_, row) => drop(self.taken.insert((row.sender, row.stream), *row)),
            Change::ForgetTaken(sender, stream) => drop(self.taken.remove(&(sender, stream))),
            Change::Forget(stream, seq) => drop(self.rows.remove(&(stream, seq))),
        }
    }

    /// Everything up to this mail is written.
    fn commit(&mut self, upto: u64) {
        let is_due = |change: &Change| change.number().is_some_and(|number| number <= upto);
        while self.pending.iter().any(is_due) {
            let change = self.pending.pop_front().expect("there is one");
            self.apply(change);
        }
    }

    /// Nothing up to this mail is written.
    fn refuse(&mut self, upto: u64) {
        self.pending.retain(|change| change.number().is_none_or(|number| number > upto));
    }

    /// The process ends when so much of what was on its way has arrived.
    pub fn end(&mut self, arrived: usize) {
        for change in std::mem::take(&mut self.pending).into_iter().take(arrived) {
            self.apply(change);
        }
    }

    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    pub fn clear(&mut self) -> usize {
        std::mem::take(self).rows.len()
    }

    /// What has arrived on it.
    pub fn copy(&self) -> Disk {
        Disk { rows: self.rows.clone(), taken: self.taken.clone(), pending: VecDeque::new() }
    }

    /// How many of its mails another disk does not have.
    pub fn missing_in(&self, other: &Disk) -> usize {
        self.rows.keys().filter(|name| !other.rows.contains_key(name)).count()
    }

    pub fn mails(&self) -> Vec<PersistedMessage> {
        self.rows.values().cloned().collect()
    }

    pub fn taken(&self) -> Vec<StreamCheckpoint> {
        self.taken.values().cloned().collect()
    }

    pub fn has(&self, account: &Address, message_id: &str) -> bool {
        parse_message_id(message_id).is_some_and(|(name, seq)| {
            self.rows.keys().any(|(stream, other)| *other == seq && message_name(account, stream) == name)
        })
    }

    /// What a parent may be told of by the next process.
    pub fn restored(&self, account: &Address) -> BTreeMap<String, Restored> {
        let restored = |mail: &PersistedMessage| {
            let (from, life, serial, to, _pad): (usize, u32, u64, usize, String) =
                serde_json::from_slice(&mail.draft.data).expect("what parents send");
            let id = message_id(&message_name(account, &mail.stream), mail.seq);
            (id, Restored { name: (from, life, serial), to })
        };
        self.rows.values().map(restored).collect()
    }
}

impl World {
    pub fn keep_mail(&mut self, node: usize, number: u64, mail: Box<PersistedMessage>) {
        self.nodes[node].disk.pending.push_back(Change::Keep(number, mail));
        self.write(node, number);
    }

    pub fn keep_taken(&mut self, node: usize, number: u64, row: Box<StreamCheckpoint>) {
        self.nodes[node].disk.pending.push_back(Change::Take(number, row));
        self.write(node, number);
    }

    pub fn forget_taken(&mut self, node: usize, sender: Address, stream: StreamId) {
        self.nodes[node].disk.pending.push_back(Change::ForgetTaken(sender, stream));
    }

    fn write(&mut self, node: usize, number: u64) {
        let kept = if self.rng.permille(FULL) && !self.resting {
            Input::PersistFailed { upto: number, reason: "no space left on device".to_owned() }
        } else {
            Input::Persisted { upto: number }
        };
        let delay = self.rng.between(WRITE.0, WRITE.1);
        self.later(node, delay, kept);
    }

    pub fn forget_mail(&mut self, node: usize, stream: StreamId, seq: u64) {
        self.nodes[node].disk.pending.push_back(Change::Forget(stream, seq));
    }

    /// What the store says is so from now on.
    pub fn store_says(&mut self, node: usize, input: &Input) {
        match input {
            Input::Persisted { upto } => self.nodes[node].disk.commit(*upto),
            Input::PersistFailed { upto, .. } => self.nodes[node].disk.refuse(*upto),
            _ => {}
        }
    }

    /// A process is killed: of what it had on its way to the disk nobody knows how much arrives;
    /// what it promised is there.
    pub fn kill_store(&mut self, node: usize) {
        let pending = self.nodes[node].disk.pending();
        let arrived = self.rng.below(pending + 1);
        let here = &mut self.nodes[node];
        let account = here.account();
        here.disk.end(arrived);
        // A parent that does not read has not heard of what has ended.
        if here.durable && here.parent.reads && here.parent.unread.is_empty() {
            let missing = here.parent.accepted.keys().find(|id| !here.disk.has(&account, id)).cloned();
            if let Some(id) = missing {
                self.violate("accepted mail is on the disk", node, id);
            }
        }
    }
}
