//! Admission: before a node uses what a peer sends, each of the two proves which agent it speaks for.
//!
//! The initiator sends `Connect` and gets `Challenge`; it then admits the responder, sends
//! `SignedResponse` and gets `Accepted`. If both ends of a connection begin an exchange, both run to
//! their ends, and each of them admits both nodes. An admission lasts as long as the connection.

mod connect_limits;
pub(crate) mod exchange;
pub(crate) mod holding;
mod offer;
pub(crate) mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::Role;
use p2p_node_wire::envelope::admission::NONCE_BYTES;
use p2p_node_wire::identity::{NodeKey, SecretBytes, hash_fields};
use p2p_node_wire::record::RecordHash;
use p2p_node_wire::time::Instant;

use crate::input::Token;
use crate::peers::limits::MAX_CONNECTIONS;
use crate::usage::Usage;
use connect_limits::ConnectLimits;
use holding::{HELD, Holding};

/// Time from the connection to the end of the handshake. Our choice: as long as a dial may take.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for which the node that was dialled waits for `Connect` before it sends its own. Our choice: on
/// most networks `Connect` arrives by then. If two nodes dial each other at the same moment, each may
/// take the other for the dialer.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// Shortest pause between two exchanges that this node begins, after a failed request or while one is under
/// way. Our choice: short beside [`HANDSHAKE_TIMEOUT`].
const RETRY: Duration = Duration::from_millis(500);
/// Time from the answer that refuses a peer to the end of the connection. Our choice: the peer closes the
/// connection when it has read the answer; this is for a peer that does not.
const CLOSE_AFTER: Duration = Duration::from_secs(1);
/// Time for which the node defers the handshake with a peer that says that the clocks differ, unless the
/// node admits everybody. Such a peer has not shown who it is. Our choice: long enough for a machine to set
/// its clock. The peer may connect again after it.
const CLOCK_PATIENCE: Duration = Duration::from_secs(600);
/// `Connect` steps on one connection within [`HANDSHAKE_TIMEOUT`], answered or not. Our choice: an honest peer
/// waits [`RETRY`] after each, and longer after `BUSY`, so it sends a third.
const MAX_CONNECTS: u32 = 64;

/// The exchanges that this node began.
#[derive(Debug, Default)]
enum Outbound {
    #[default]
    Idle,
    /// `Connect` is on its way.
    Connecting { token: Token, nonce: Nonce },
    /// The directory checks the record of `Challenge`.
    Checking { nonces: [Nonce; 2], record: RecordHash },
    /// `SignedResponse` is on its way, or the refusal of the peer.
    Responding { token: Token, is_refusal: bool },
}

/// The exchanges that the peer began.
#[derive(Debug, Default)]
enum Inbound {
    #[default]
    Idle,
    /// `Challenge` is on its way.
    Challenged { offer: Offer, nonces: [Nonce; 2] },
    /// The directory checks the record of `Connect`. The token is for the answer to `SignedResponse`.
    Checking { token: Token, record: RecordHash },
}

/// A nonce.
type Nonce = [u8; NONCE_BYTES];

/// What a peer says of itself, checked without any signature.
#[derive(Clone, Debug)]
struct Offer {
    record: bytes::Bytes,
    hash: RecordHash,
    role: Role,
    time_ms: u64,
}

/// The handshake with a connected peer.
#[derive(Debug)]
struct Admission {
    /// The end of the time for the handshake.
    deadline: Instant,
    /// When the node sends `Connect`.
    connect_at: Instant,
    /// The end of the pause after a failed exchange.
    not_before: Instant,
    /// The agent of the record that the node had of the peer when it connected.
    recorded_agent: Option<Address>,
    outbound: Outbound,
    inbound: Inbound,
    /// `true` once the peer has proven that it admits this node.
    is_accepted: bool,
    /// `true` once this node has admitted the peer, also if it has deferred the handshake since.
    was_admitted: bool,
    /// Start of the current period, and the number of `Connect` steps in it.
    connects: (Instant, u32),
    /// The end of the time for which the node waits until the clocks agree, if that is limited.
    clock_deadline: Option<Instant>,
    /// The end of the connection, if one of the two does not admit the other.
    closes_at: Option<Instant>,
}

impl Admission {
    fn new(is_dialer: bool, recorded_agent: Option<Address>, now: Instant) -> Self {
        Admission {
            deadline: now + HANDSHAKE_TIMEOUT,
            connect_at: if is_dialer { now } else { now + CONNECT_WITHIN },
            not_before: now,
            recorded_agent,
            outbound: Outbound::Idle,
            inbound: Inbound::Idle,
            is_accepted: false,
            was_admitted: false,
            connects: (now, 0),
            clock_deadline: None,
            closes_at: None,
        }
    }

    /// Counts a `Connect`. Returns `true` if the peer sends too many.
    fn has_too_many_connects(&mut self, now: Instant) -> bool {
        if now >= self.connects.0 + HANDSHAKE_TIMEOUT {
            self.connects = (now, 0);
        }
        self.connects.1 += 1;
        self.connects.1 > MAX_CONNECTS
    }

    /// Returns the time at which the node has something to do.
    fn due(&self) -> Instant {
        self.closes_at.unwrap_or_else(|| self.connect_at.min(self.deadline))
    }
}

/// The handshakes with all connected peers.
#[derive(Debug)]
pub(crate) struct Admissions {
    states: BTreeMap<PeerId, Admission>,
    /// The unfinished handshakes, by the time at which the node has something to do: an index of
    /// `states`.
    schedule: BTreeSet<(Instant, PeerId)>,
    holding: Holding,
    connects: ConnectLimits,
    /// The secret from which the nonces derive, and their number.
    nonce_key: SecretBytes,
    nonces: u64,
}

impl Default for Admissions {
    fn default() -> Self {
        Admissions {
            states: BTreeMap::new(),
            schedule: BTreeSet::new(),
            holding: Holding::default(),
            connects: ConnectLimits::default(),
            nonce_key: SecretBytes::from([0; 32]),
            nonces: 0,
        }
    }
}

impl Admissions {
    /// Creates the state. The nonces derive from the node key and the random `boot` of the process, so
    /// nobody else can predict them.
    pub(crate) fn new(key: &NodeKey, boot: u64) -> Self {
        let secret = hash_fields(&[b"p2p-node/admission-nonces/v1", &*key.seed(), &boot.to_be_bytes()]);
        Admissions { nonce_key: SecretBytes::from(secret), ..Admissions::default() }
    }

    fn next_nonce(&mut self) -> Nonce {
        self.nonces += 1;
        hash_fields(&[&*self.nonce_key, &self.nonces.to_be_bytes()])
    }

    /// Changes the handshake with a peer and the schedule with it. A finished handshake has no timer.
    fn update<R>(&mut self, peer: &PeerId, change: impl FnOnce(&mut Admission) -> R) -> Option<R> {
        let state = self.states.get_mut(peer)?;
        self.schedule.remove(&(state.due(), *peer));
        let result = change(state);
        let due = state.due();
        if due < Instant::MAX {
            self.schedule.insert((due, *peer));
        }
        Some(result)
    }

    fn begin(&mut self, peer: PeerId, is_dialer: bool, recorded_agent: Option<Address>, now: Instant) {
        self.end(&peer);
        let state = Admission::new(is_dialer, recorded_agent, now);
        self.schedule.insert((state.due(), peer));
        self.states.insert(peer, state);
    }

    fn end(&mut self, peer: &PeerId) {
        if let Some(state) = self.states.remove(peer) {
            self.schedule.remove(&(state.due(), *peer));
        }
    }

    /// Begins another exchange later, unless the handshake has ended.
    fn retry(&mut self, peer: &PeerId, at: Instant) {
        self.update(peer, |state| {
            if state.deadline < Instant::MAX {
                (state.connect_at, state.not_before) = (at, at);
            }
        });
    }

    /// Begins an exchange now if none is under way, or after the pause that the last one asked for: the peer
    /// takes itself for admitted, so it will not begin one.
    fn hasten(&mut self, peer: &PeerId, now: Instant) {
        self.update(peer, |state| {
            let is_idle = matches!((&state.outbound, &state.inbound), (Outbound::Idle, Inbound::Idle));
            if is_idle && state.connect_at < Instant::MAX {
                state.connect_at = state.connect_at.min(now.max(state.not_before));
            }
        });
    }

    /// Returns `true` if an exchange that this node began is under way.
    fn begins(&self, peer: &PeerId) -> bool {
        self.states.get(peer).is_some_and(|state| !matches!(state.outbound, Outbound::Idle))
    }

    /// Returns the agent of the record that the node had of the peer when it connected.
    fn recorded_agent(&self, peer: &PeerId) -> Option<Address> {
        self.states.get(peer)?.recorded_agent
    }

    /// Returns `true` if the peer may still be admitted.
    fn is_pending(&self, peer: &PeerId) -> bool {
        self.states.get(peer).is_some_and(|state| state.closes_at.is_none())
    }

    /// Returns the first peer for which the node has something to do now.
    fn next_due(&self, now: Instant) -> Option<PeerId> {
        self.schedule.first().filter(|(due, _)| *due <= now).map(|(_, peer)| *peer)
    }

    /// Returns the time at which the node has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.schedule.first().map(|(due, _)| *due)
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        let held = self.holding.total();
        [
            ("handshakes", self.states.len(), MAX_CONNECTIONS),
            ("unfinished handshakes", self.schedule.len(), MAX_CONNECTIONS),
            ("peers with held data", self.holding.peers(), MAX_CONNECTIONS),
            ("data held for admission", held.count(), HELD.count),
            ("bytes held for admission", held.bytes(), HELD.bytes),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
        .chain(self.connects.usage())
        .collect()
    }
}
