//! Simulated node: a core that can be killed and restarted, with its disk, clocks and parent.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use alloy::primitives::Address;
use bytes::Bytes;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use p2p_node_core::gate::address_scope::AddressScope;
use p2p_node_core::highest_seen::HighestSeen;
use p2p_node_core::input::{Now, Token};
use p2p_node_core::{Core, CoreConfig, KeySource};
use p2p_node_protocol::Role;
use p2p_node_wire::identity::binding::BINDING_LIFE_SECS;
use p2p_node_wire::identity::{AgentKey, Binding, NodeKey, SecretBytes, SignedBinding};
use sha2::{Digest, Sha256};

use crate::disk::Disk;
use crate::parent::{Name, Parent};
use crate::scenario::Honesty;
use crate::world::ScheduledEvent;

/// When the world begins, in ms since 1970.
pub const START_MS: u64 = 1_790_000_000_000;
/// Lifetime of gossipsub's duplicate cache.
const SEEN_FOR: Duration = Duration::from_secs(120);

/// Keys for tests that belong to a number: everyone can make them.
pub fn agent_key(number: usize) -> AgentKey {
    let secret: [u8; 32] = Sha256::digest(format!("p2p-node simulation, agent {number}")).into();
    AgentKey::from_bytes(&secret).unwrap()
}

pub fn node_key(number: usize) -> NodeKey {
    NodeKey::derive(&agent_key(number).secret(), "dev", "", 0)
}

/// Gossip message that waits for its verdict.
#[derive(Clone, Debug)]
pub struct Heard {
    pub topic: String,
    pub data: Bytes,
    /// `true` if an honest node published the message unchanged.
    pub honest: bool,
}

/// A disk as it once was.
#[derive(Clone)]
struct Snapshot {
    disk: Disk,
    floors: BTreeMap<Address, HighestSeen>,
    taken: HashSet<Name>,
    told: HashSet<Name>,
}

pub struct Node {
    pub number: usize,
    pub role: Role,
    /// None while it is down.
    pub core: Option<Core>,
    pub life: u32,
    pub started: Duration,
    pub skew_ms: i64,
    /// Until when its machine is suspended.
    pub asleep_until: Option<Duration>,
    /// Input that arrived meanwhile.
    pub put_off: Vec<ScheduledEvent>,
    pub peer: PeerId,
    pub address: String,
    moves: u16,
    pub parent: Parent,
    /// Subscriptions as its peers see them.
    pub topics: BTreeSet<String>,
    pub neighbours: BTreeSet<usize>,
    pub seen: HashMap<u64, Duration>,
    /// On its way to the node, and heard but not judged.
    pub coming: BTreeMap<Token, Heard>,
    pub unjudged: BTreeMap<Token, Heard>,
    /// Records that the node stores as a DHT server.
    pub kept: BTreeMap<Bytes, Bytes>,
    pub honesty: Honesty,
    /// When it is to be called next.
    pub wake: Option<Duration>,
    /// Calls in a row without time passing.
    pub calls: u32,
    /// Since when it leaves commands unread that its parent has written.
    pub paused_since: Option<Duration>,
    /// `true` if the node has a store for messages.
    pub durable: bool,
    /// `true` if the parent acks messages.
    pub by_hand: bool,
    pub disk: Disk,
    /// Its disk: the floors that it had remembered.
    pub floors: BTreeMap<Address, HighestSeen>,
    snapshot: Option<Snapshot>,
    /// `true` if the disk was ever restored from a copy.
    pub went_back: bool,
    binding: SignedBinding,
}

impl Node {
    pub fn new(number: usize, role: Role) -> Node {
        let (agent, key) = (agent_key(number), node_key(number));
        let binding = Binding {
            account: agent.address(),
            chain_id: 0,
            peer_id: key.peer_id(),
            node_key: key.public(),
            network: "dev".to_owned(),
            generation: 0,
            not_before: START_MS / 1000,
            not_after: START_MS / 1000 + BINDING_LIFE_SECS,
        };
        Node {
            number,
            role,
            core: None,
            life: 0,
            started: Duration::ZERO,
            skew_ms: 0,
            asleep_until: None,
            put_off: Vec::new(),
            peer: key.peer_id(),
            address: agent.address().to_string(),
            moves: 0,
            parent: Parent::default(),
            topics: BTreeSet::new(),
            neighbours: BTreeSet::new(),
            seen: HashMap::new(),
            coming: BTreeMap::new(),
            unjudged: BTreeMap::new(),
            kept: BTreeMap::new(),
            honesty: Honesty::Honest,
            wake: None,
            calls: 0,
            paused_since: None,
            durable: number % 2 == 1,
            by_hand: number % 3 == 2,
            disk: Disk::default(),
            floors: BTreeMap::new(),
            snapshot: None,
            went_back: false,
            binding: agent.bind(binding).unwrap(),
        }
    }

    pub fn account(&self) -> Address {
        self.binding.binding.account
    }

    /// Its clocks.
    pub fn clock(&self, now: Duration) -> Now {
        let unix = START_MS as i64 + now.as_millis() as i64 + self.skew_ms;
        Now { mono: now - self.started, unix_ms: unix as u64 }
    }

    pub fn port(&self) -> u16 {
        1024 + self.number as u16 * 64 + self.moves % 64
    }

    pub fn addr(&self) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{}", self.port()).parse().unwrap()
    }

    /// Begins a new life.
    pub fn start(
        &mut self,
        now: Duration,
        seed: u64,
        keeping: bool,
        moved: bool,
        bootstraps: Vec<(PeerId, Multiaddr)>,
    ) {
        if !keeping {
            self.floors.clear();
            self.disk.clear();
            self.parent.taken.clear();
            self.parent.told.clear();
        }
        self.life += 1;
        self.started = now;
        self.moves += u16::from(moved);
        let random: [u8; 32] = Sha256::digest(format!("{seed} {} {}", self.number, self.life)).into();
        let word = |at: usize| u64::from_le_bytes(random[at..at + 8].try_into().unwrap());
        let setup = CoreConfig {
            node_key: node_key(self.number),
            agent: Some(agent_key(self.number)),
            binding: self.binding.clone(),
            name: String::new(),
            role: self.role,
            version: "simulated".to_owned(),
            port: 0,
            bootstraps,
            connect: false,
            stay_on_eof: false,
            require_delivery: false,
            receive_after_eof: Duration::ZERO,
            drain_timeout: Duration::from_secs(5),
            key_source: KeySource::Given,
            scope: AddressScope::Loopback,
            boot: word(16),
            durable: self.durable,
            manual_ack: self.by_hand,
            one_of_several: false,
            outbox: self.disk.mails(),
            inbox: self.disk.taken(),
            floors: self.floors.values().cloned().collect(),
            standings: Vec::new(),
            database: random[..16].try_into().unwrap(),
            kem_seed: SecretBytes::from(<[u8; 32]>::from(Sha256::digest(random))),
            seed: word(24),
        };
        self.core = Some(Core::new(setup, self.clock(now)));
        self.wake = None;
        self.parent.born(self.life);
        self.parent.restored = self.disk.restored(&self.account());
    }

    /// Copies its disk.
    pub fn take_snapshot(&mut self) {
        self.snapshot = Some(Snapshot {
            disk: self.disk.copy(),
            floors: self.floors.clone(),
            taken: self.parent.taken.clone(),
            told: self.parent.told.clone(),
        });
    }

    /// The disk is what it was when it was copied, if it was; how many mails that had not ended are
    /// not on it.
    pub fn go_back_to_snapshot(&mut self) -> usize {
        let Some(Snapshot { disk, floors, taken, told }) = self.snapshot.clone() else { return 0 };
        let lost = self.disk.missing_in(&disk);
        self.went_back = true;
        (self.disk, self.floors) = (disk, floors);
        // What the disk knew of the parent.
        (self.parent.taken, self.parent.told) = (taken, told);
        lost
    }

    /// Ends a life, whatever was going on.
    pub fn stop(&mut self) {
        self.core = None;
        self.paused_since = None;
        self.topics.clear();
        self.neighbours.clear();
        self.seen.clear();
        self.coming.clear();
        self.unjudged.clear();
        self.kept.clear();
        self.parent.died();
    }

    /// Returns `true` if the node receives this message for the first time.
    pub fn hears(&mut self, message: u64, now: Duration) -> bool {
        if self.seen.len() > 20_000 {
            self.seen.retain(|_, until| *until > now);
        }
        match self.seen.get(&message) {
            Some(until) if *until > now => false,
            _ => {
                self.seen.insert(message, now + SEEN_FOR);
                true
            }
        }
    }
}

/// The port that an address leads to.
pub fn port_of(addr: &Multiaddr) -> Option<u16> {
    addr.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    })
}

/// Whose port that is, if anybody's.
pub fn owner_of(port: u16) -> Option<usize> {
    port.checked_sub(1024).map(|offset| usize::from(offset / 64))
}
