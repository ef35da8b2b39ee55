//! Simulated parents: their commands, the events they got, and the expected events.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use p2p_node_protocol::{Command, Event, Id, Priority, Request};
use p2p_node_wire::time::Instant;

/// Names one message in the whole world: who sent it, in which life, the how manyth.
pub type Name = (usize, u32, u64);

/// Mail that was asked for.
#[derive(Clone, Debug)]
pub struct Mail {
    pub to: usize,
    pub asked: Instant,
    pub ttl: Duration,
    /// Whether the result said that it was accepted.
    pub accepted: bool,
}

/// Mail of an earlier life that the disk had.
#[derive(Clone, Debug)]
pub struct Restored {
    pub name: Name,
    pub to: usize,
}

#[derive(Debug)]
pub struct Parent {
    pub life: u32,
    pub reads: bool,
    /// Handed to the writer and not read.
    pub unread: VecDeque<Event>,
    /// Written, and not taken by the node.
    pub commands: VecDeque<Request>,
    /// The end of stdin comes after the last of them.
    pub ends: bool,
    pub ended: bool,
    serial: u64,
    /// Commands whose terminal line has not come.
    pub open: BTreeMap<Id, Instant>,
    /// Mail whose end was not told, by its serial number.
    pub mails: BTreeMap<u64, Mail>,
    pub accepted: BTreeMap<String, u64>,
    /// Mail of earlier lives whose end was not told in this one.
    pub restored: BTreeMap<String, Restored>,
    /// Messages of this life.
    pub received: HashSet<Name>,
    /// Messages of all lives.
    pub ever: HashSet<Name>,
    /// The latest of each sender's life and priority.
    pub latest: BTreeMap<(usize, u32, Priority), u64>,
    /// Its node signed for them, and they have not come.
    pub owed: BTreeSet<Name>,
    /// A life ended before all that was told was read.
    pub cut_short: bool,
    /// Mail for which it said `ack`, in whatever life.
    pub acked: HashSet<Name>,
    /// … of which the disk knows, and mail of which the disk knows that it was told.
    pub taken: HashSet<Name>,
    pub told: HashSet<Name>,
    pub asked_acks: BTreeMap<u64, Name>,
}

impl Default for Parent {
    fn default() -> Parent {
        Parent {
            life: 0,
            reads: true,
            unread: VecDeque::new(),
            commands: VecDeque::new(),
            ends: false,
            ended: false,
            serial: 0,
            open: BTreeMap::new(),
            mails: BTreeMap::new(),
            accepted: BTreeMap::new(),
            restored: BTreeMap::new(),
            received: HashSet::new(),
            ever: HashSet::new(),
            latest: BTreeMap::new(),
            owed: BTreeSet::new(),
            cut_short: false,
            acked: HashSet::new(),
            taken: HashSet::new(),
            told: HashSet::new(),
            asked_acks: BTreeMap::new(),
        }
    }
}

impl Parent {
    pub fn born(&mut self, life: u32) {
        let old = std::mem::take(self);
        let Parent { ever, reads, cut_short, acked, taken, told, .. } = old;
        *self = Parent { life, reads, ever, cut_short, acked, taken, told, ..Parent::default() };
    }

    pub fn died(&mut self) {
        self.cut_short |= !self.owed.is_empty() || !self.unread.is_empty() || !self.reads;
        self.owed.clear();
        self.unread.clear();
        self.commands.clear();
        self.open.clear();
        self.mails.clear();
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

    /// Writes a command, to be answered.
    pub fn ask(&mut self, command: Command, now: Instant) -> u64 {
        let serial = self.serial();
        let id = Id::Number(serial as i64);
        self.open.insert(id.clone(), now);
        self.commands.push_back(Request { id: Some(id), command });
        serial
    }
}
