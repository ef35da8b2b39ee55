//! Simulated parents: their commands, the events they got, and the expected events.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use p2p_node_protocol::{Command, Event, Id, Priority, Request};
use p2p_node_wire::time::Instant;

/// Identifies a message in the world: sender, process of the sender, serial number.
pub type Name = (usize, u32, u64);

/// A message that a parent sent.
#[derive(Clone, Debug)]
pub struct SentMessage {
    pub to: usize,
    pub sent_at: Instant,
    pub ttl: Duration,
    /// `true` if the node has accepted it.
    pub accepted: bool,
}

/// A message of an earlier process, restored from the store.
#[derive(Clone, Debug)]
pub struct Restored {
    pub name: Name,
    pub to: usize,
}

#[derive(Debug)]
pub struct Parent {
    pub life: u32,
    pub reads: bool,
    /// Written lines that the parent has not read.
    pub unread: VecDeque<Event>,
    /// Written commands that the node has not read.
    pub commands: VecDeque<Request>,
    /// `true` if the parent closes stdin after the last command.
    pub closes_stdin: bool,
    pub stdin_closed: bool,
    serial: u64,
    /// Commands without a terminal line so far.
    pub open: BTreeMap<Id, Instant>,
    /// Messages without a delivery so far, by serial number.
    pub messages: BTreeMap<u64, SentMessage>,
    pub accepted: BTreeMap<String, u64>,
    /// Messages of earlier processes without a delivery in this one.
    pub restored: BTreeMap<String, Restored>,
    /// Messages received from this process.
    pub received: HashSet<Name>,
    /// Messages received from all processes.
    pub ever_received: HashSet<Name>,
    /// The latest message of each sender, process and priority.
    pub latest: BTreeMap<(usize, u32, Priority), u64>,
    /// Messages that were reported as delivered and have not arrived.
    pub missing: BTreeSet<Name>,
    /// `true` if a process ended before the parent had read all lines.
    pub lost_unread_lines: bool,
    /// Messages for which it wrote `ack`, to any process.
    pub acked: HashSet<Name>,
    /// Messages with a persisted ack.
    pub persisted_acks: HashSet<Name>,
    /// Messages with a persisted checkpoint.
    pub delivered: HashSet<Name>,
    pub open_acks: BTreeMap<u64, Name>,
}

impl Default for Parent {
    fn default() -> Parent {
        Parent {
            life: 0,
            reads: true,
            unread: VecDeque::new(),
            commands: VecDeque::new(),
            closes_stdin: false,
            stdin_closed: false,
            serial: 0,
            open: BTreeMap::new(),
            messages: BTreeMap::new(),
            accepted: BTreeMap::new(),
            restored: BTreeMap::new(),
            received: HashSet::new(),
            ever_received: HashSet::new(),
            latest: BTreeMap::new(),
            missing: BTreeSet::new(),
            lost_unread_lines: false,
            acked: HashSet::new(),
            persisted_acks: HashSet::new(),
            delivered: HashSet::new(),
            open_acks: BTreeMap::new(),
        }
    }
}

impl Parent {
    pub fn start(&mut self, life: u32) {
        let old = std::mem::take(self);
        let Parent { ever_received, reads, lost_unread_lines, acked, persisted_acks, delivered, .. } = old;
        *self = Parent {
            life,
            reads,
            ever_received,
            lost_unread_lines,
            acked,
            persisted_acks,
            delivered,
            ..Parent::default()
        };
    }

    pub fn end(&mut self) {
        self.lost_unread_lines |= !self.missing.is_empty() || !self.unread.is_empty() || !self.reads;
        self.missing.clear();
        self.unread.clear();
        self.commands.clear();
        self.open.clear();
        self.messages.clear();
        self.accepted.clear();
        self.restored.clear();
    }

    pub fn next_serial(&self) -> u64 {
        self.serial + 1
    }

    pub fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Writes a command with an id.
    pub fn ask(&mut self, command: Command, now: Instant) -> u64 {
        let serial = self.serial();
        let id = Id::Number(serial as i64);
        self.open.insert(id.clone(), now);
        self.commands.push_back(Request { id: Some(id), command });
        serial
    }
}
