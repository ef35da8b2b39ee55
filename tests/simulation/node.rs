//! Simulated node: a core that can be killed and restarted, with its disk, clocks and parent.

use std::collections::HashSet;

use alloy::primitives::Address;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use p2p_node_core::input::Now;
use p2p_node_core::{Core, CoreConfig};
use p2p_node_protocol::Role;
use p2p_node_testing::config::config;
use p2p_node_testing::store::Store;
use p2p_node_wire::identity::binding::BINDING_LIFE_SECS;
use p2p_node_wire::identity::{AgentKey, Binding, NodeKey, SecretBytes, SignedBinding};
use p2p_node_wire::time::Instant;
use sha2::{Digest, Sha256};

use crate::disk::restored;
use crate::parent::{Name, Parent};
use crate::scenario::Honesty;
use crate::world::ScheduledEvent;

/// When the world begins, in ms since 1970.
pub const START_MS: u64 = 1_790_000_000_000;

/// Keys for tests that belong to a number: everyone can make them.
pub fn agent_key(number: usize) -> AgentKey {
    let secret: [u8; 32] = Sha256::digest(format!("p2p-node simulation, agent {number}")).into();
    AgentKey::from_bytes(&secret).unwrap()
}

pub fn node_key(number: usize) -> NodeKey {
    NodeKey::derive(&agent_key(number).secret(), "dev", "", 0)
}

/// A disk as it once was.
#[derive(Clone)]
struct Snapshot {
    store: Store,
    taken: HashSet<Name>,
    told: HashSet<Name>,
}

pub struct Node {
    pub number: usize,
    pub role: Role,
    /// None while it is down.
    pub core: Option<Core>,
    pub life: u32,
    pub started: Instant,
    pub skew_ms: i64,
    /// Until when its machine is suspended.
    pub asleep_until: Option<Instant>,
    /// Input that arrived meanwhile.
    pub put_off: Vec<ScheduledEvent>,
    pub peer: PeerId,
    pub address: String,
    moves: u16,
    pub parent: Parent,
    pub honesty: Honesty,
    /// When it is to be called next.
    pub wake: Option<Instant>,
    /// Calls in a row without time passing.
    pub calls: u32,
    /// Since when it leaves commands unread that its parent has written.
    pub paused_since: Option<Instant>,
    /// `true` if the node has a store for messages.
    pub durable: bool,
    /// `true` if the parent acks messages.
    pub by_hand: bool,
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
            started: Instant::ZERO,
            skew_ms: 0,
            asleep_until: None,
            put_off: Vec::new(),
            peer: key.peer_id(),
            address: agent.address().to_string(),
            moves: 0,
            parent: Parent::default(),
            honesty: Honesty::Honest,
            wake: None,
            calls: 0,
            paused_since: None,
            durable: number % 2 == 1,
            by_hand: number % 3 == 2,
            snapshot: None,
            went_back: false,
            binding: agent.bind(binding).unwrap(),
        }
    }

    pub fn account(&self) -> Address {
        self.binding.binding.account
    }

    /// Its clocks.
    pub fn clock(&self, now: Instant) -> Now {
        let unix = START_MS as i64 + now.since_start().as_millis() as i64 + self.skew_ms;
        Now { mono: Instant::after_start(now - self.started), unix_ms: unix as u64 }
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
        store: &mut Store,
        now: Instant,
        seed: u64,
        keeping: bool,
        moved: bool,
        bootstraps: Vec<(PeerId, Multiaddr)>,
    ) {
        if !keeping {
            store.clear();
            self.parent.taken.clear();
            self.parent.told.clear();
        }
        self.life += 1;
        self.started = now;
        self.moves += u16::from(moved);
        let random: [u8; 32] = Sha256::digest(format!("{seed} {} {}", self.number, self.life)).into();
        let word = |at: usize| u64::from_le_bytes(random[at..at + 8].try_into().unwrap());
        let setup = CoreConfig {
            agent: Some(agent_key(self.number)),
            role: self.role,
            bootstraps,
            boot: word(16),
            durable: self.durable,
            manual_ack: self.by_hand,
            outbox: store.messages.values().cloned().collect(),
            inbox: store.checkpoints.values().cloned().collect(),
            floors: store.highest_seen.values().cloned().collect(),
            database: random[..16].try_into().unwrap(),
            kem_seed: SecretBytes::from(<[u8; 32]>::from(Sha256::digest(random))),
            seed: word(24),
            ..config(node_key(self.number), self.binding.clone())
        };
        self.core = Some(Core::new(setup, self.clock(now)));
        self.wake = None;
        self.parent.born(self.life);
        self.parent.restored = restored(store, &self.account());
    }

    /// Copies its disk.
    pub fn take_snapshot(&mut self, store: &Store) {
        self.snapshot = Some(Snapshot {
            store: store.copy(),
            taken: self.parent.taken.clone(),
            told: self.parent.told.clone(),
        });
    }

    /// The disk is what it was when it was copied, if it was; how many mails that had not ended are
    /// not on it.
    pub fn go_back_to_snapshot(&mut self, store: &mut Store) -> usize {
        let Some(Snapshot { store: copy, taken, told }) = self.snapshot.clone() else { return 0 };
        let lost = store.missing_in(&copy);
        self.went_back = true;
        *store = copy;
        // What the disk knew of the parent.
        (self.parent.taken, self.parent.told) = (taken, told);
        lost
    }

    /// Ends a life, whatever was going on.
    pub fn stop(&mut self) {
        self.core = None;
        self.paused_since = None;
        self.parent.died();
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
