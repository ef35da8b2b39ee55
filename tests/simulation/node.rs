//! Simulated node: a core that can be killed and restarted, with its disk, clocks and parent.

use std::collections::HashSet;

use alloy::primitives::Address;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use p2p_node_core::input::Now;
use p2p_node_core::local::dht_mode::DhtMode;
use p2p_node_core::{Core, CoreConfig};
use p2p_node_protocol::Role;
use p2p_node_testing::config::config;
use p2p_node_testing::store::Store;
use p2p_node_wire::identity::binding::BINDING_LIFE_SECS;
use p2p_node_wire::identity::{AgentKey, Binding, NodeKey, SecretBytes, SignedBinding};
use p2p_node_wire::seal::suite::Suite;
use p2p_node_wire::time::Instant;
use sha2::{Digest, Sha256};

use crate::disk::restored;
use crate::parent::{Name, Parent};
use crate::scenario::Honesty;
use crate::world::ScheduledEvent;

/// Unix time at the start, in ms.
pub const START_MS: u64 = 1_790_000_000_000;

/// Returns the test key of a number.
pub fn agent_key(number: usize) -> AgentKey {
    let secret: [u8; 32] = Sha256::digest(format!("p2p-node simulation, agent {number}")).into();
    AgentKey::from_bytes(&secret).unwrap()
}

pub fn node_key(number: usize) -> NodeKey {
    NodeKey::derive(&agent_key(number).secret(), "dev", "", 0)
}

/// A copy of the store, and of the parent's state that depends on it.
#[derive(Clone)]
struct Snapshot {
    store: Store,
    persisted_acks: HashSet<Name>,
    delivered: HashSet<Name>,
}

pub struct Node {
    pub number: usize,
    pub role: Role,
    /// `None` while the process is down.
    pub core: Option<Core>,
    pub life: u32,
    pub started: Instant,
    pub skew_ms: i64,
    /// End of the suspension of its machine.
    pub suspended_until: Option<Instant>,
    /// Events that arrived during the suspension.
    pub delayed: Vec<ScheduledEvent>,
    pub peer: PeerId,
    pub address: String,
    addr_changes: u16,
    pub parent: Parent,
    pub honesty: Honesty,
    /// `true` if it limits others and bans them.
    pub limits_apply: bool,
    /// Time of its next scheduled call.
    pub wake: Option<Instant>,
    /// Calls in a row at the same time.
    pub calls: u32,
    /// Time since when it does not read written commands.
    pub paused_since: Option<Instant>,
    /// `true` if the node has a store for messages.
    pub durable: bool,
    /// `true` if the parent acks messages.
    pub manual_ack: bool,
    snapshot: Option<Snapshot>,
    /// `true` if its store was ever rolled back.
    pub was_rolled_back: bool,
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
            suspended_until: None,
            delayed: Vec::new(),
            peer: key.peer_id(),
            address: agent.address().to_string(),
            addr_changes: 0,
            parent: Parent::default(),
            honesty: Honesty::Honest,
            limits_apply: true,
            wake: None,
            calls: 0,
            paused_since: None,
            durable: number % 2 == 1,
            manual_ack: number % 3 == 2,
            snapshot: None,
            was_rolled_back: false,
            binding: agent.bind(binding).unwrap(),
        }
    }

    pub fn account(&self) -> Address {
        self.binding.binding.account
    }

    /// Returns its clocks.
    pub fn clock(&self, now: Instant) -> Now {
        let unix = START_MS as i64 + now.since_start().as_millis() as i64 + self.skew_ms;
        Now { mono: Instant::after_start(now - self.started), unix_ms: unix as u64 }
    }

    pub fn port(&self) -> u16 {
        1024 + self.number as u16 * 64 + self.addr_changes % 64
    }

    pub fn addr(&self) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{}", self.port()).parse().unwrap()
    }

    /// Starts a process.
    pub fn start(
        &mut self,
        store: &mut Store,
        now: Instant,
        seed: u64,
        same_store: bool,
        new_addr: bool,
        bootstraps: Vec<(PeerId, Multiaddr)>,
    ) {
        if !same_store {
            store.clear();
            self.parent.persisted_acks.clear();
            self.parent.delivered.clear();
        }
        self.life += 1;
        self.started = now;
        self.addr_changes += u16::from(new_addr);
        let random: [u8; 32] = Sha256::digest(format!("{seed} {} {}", self.number, self.life)).into();
        let word = |at: usize| u64::from_le_bytes(random[at..at + 8].try_into().unwrap());
        let setup = CoreConfig {
            agent: Some(agent_key(self.number)),
            role: self.role,
            dht_mode: DhtMode::of(self.role),
            bootstraps,
            boot: word(16),
            limits_apply: self.limits_apply,
            bans: store.bans.iter().map(|(party, ban)| (*party, *ban)).collect(),
            durable: self.durable,
            manual_ack: self.manual_ack,
            outbox: store.messages.values().cloned().collect(),
            inbox: store.checkpoints.values().cloned().collect(),
            highest_seen: store.highest_seen.values().cloned().collect(),
            database: random[..16].try_into().unwrap(),
            suite: Suite::ALL[usize::from(random[31] % 2)],
            kem_seed: SecretBytes::from(<[u8; 32]>::from(Sha256::digest(random))),
            seed: word(24),
            ..config(node_key(self.number), self.binding.clone())
        };
        self.core = Some(Core::new(setup, self.clock(now)));
        self.wake = None;
        self.parent.start(self.life);
        self.parent.restored = restored(store, &self.account());
    }

    /// Copies its store.
    pub fn take_snapshot(&mut self, store: &Store) {
        self.snapshot = Some(Snapshot {
            store: store.copy(),
            persisted_acks: self.parent.persisted_acks.clone(),
            delivered: self.parent.delivered.clone(),
        });
    }

    /// Restores the copied store, if there is one. Returns the number of pending messages that are
    /// lost.
    pub fn roll_back(&mut self, store: &mut Store) -> usize {
        let Some(Snapshot { store: copy, persisted_acks, delivered }) = self.snapshot.clone() else {
            return 0;
        };
        let lost = store.missing_in(&copy);
        self.was_rolled_back = true;
        *store = copy;
        // The parent's state of that time.
        (self.parent.persisted_acks, self.parent.delivered) = (persisted_acks, delivered);
        lost
    }

    /// Ends the process at once.
    pub fn stop(&mut self) {
        self.core = None;
        self.paused_since = None;
        self.parent.end();
    }
}

/// Returns the TCP port of an address.
pub fn port_of(addr: &Multiaddr) -> Option<u16> {
    addr.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    })
}

/// Returns the node with this port, if any.
pub fn owner_of(port: u16) -> Option<usize> {
    port.checked_sub(1024).map(|offset| usize::from(offset / 64))
}
