//! The outcomes of a handshake: the node admits the peer, one of the two refuses the other, or the time
//! is over.

use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, Level};
use p2p_node_wire::envelope::Rejected;
use p2p_node_wire::record::RecordHash;
use p2p_node_wire::time::Instant;
use serde_json::json;

use super::{Admissions, CLOCK_PATIENCE, CLOSE_AFTER, HANDSHAKE_TIMEOUT, Inbound, Outbound};
use crate::backoff::BACKOFF_CAP;
use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::NetworkCommand;
use crate::gate::Gate;
use crate::gate::admission_policy::{Refusal, is_policy};
use crate::gate::reputation::Conduct;
use crate::local::Local;
use crate::local::clock_skew::ahead_of_us;
use crate::peers::Peers;
use crate::signal::Signal;

/// Shortest pause before the node dials a peer again that does not admit it by policy. Our choice: the
/// longest pause between dials, so that the node notices `unblock` within minutes.
const REJECTED_PAUSE: Duration = BACKOFF_CAP;
/// Longest pause that a peer can ask for: our choice, the same.
const MAX_PAUSE: Duration = BACKOFF_CAP;
/// Longest pause that a peer can ask for on a standing connection. Our choice: with its jitter it leaves time
/// for another exchange.
const MAX_STATED_PAUSE: Duration = Duration::from_millis(HANDSHAKE_TIMEOUT.as_millis() as u64 / 2);

impl Peers {
    /// Begins the handshake with a peer that has connected.
    pub(crate) fn begin_admission(
        &mut self,
        peer: PeerId,
        is_dialer: bool,
        recorded_agent: Option<Address>,
        local: &mut Local,
        cx: &mut Cx,
    ) {
        self.refuse_held(&peer, cx);
        self.admissions.begin(peer, is_dialer, recorded_agent, cx.now.mono);
        if is_dialer {
            self.start_exchange(peer, local, cx);
        }
    }

    /// Ends the handshake with a peer that has disconnected, and its admission.
    pub(crate) fn end_admission(&mut self, peer: &PeerId, cx: &mut Cx) {
        self.refuse_held(peer, cx);
        self.admissions.end(peer);
    }

    /// Returns `true` if the node has admitted this peer.
    pub(crate) fn is_admitted(&self, peer: &PeerId) -> bool {
        self.table.connection(peer).is_some_and(|connection| connection.agent.is_some())
    }

    /// Returns the agent of a peer that the node admitted.
    pub(crate) fn admitted_agent(&self, peer: &PeerId) -> Option<Address> {
        self.table.connection(peer)?.agent
    }

    /// Records that the peer admits this node.
    pub(super) fn accepted(&mut self, peer: &PeerId) {
        self.admissions.update(peer, |state| state.is_accepted = true);
        self.finish_handshake(peer);
    }

    /// Ends the timers of a handshake after which each node has admitted the other.
    fn finish_handshake(&mut self, peer: &PeerId) {
        if !self.have_admitted_each_other(peer) {
            return;
        }
        self.admissions.update(peer, |state| {
            if state.closes_at.is_none() {
                (state.deadline, state.connect_at) = (Instant::MAX, Instant::MAX);
                state.clock_deadline = None;
            }
        });
    }

    fn have_admitted_each_other(&self, peer: &PeerId) -> bool {
        self.is_admitted(peer) && self.admissions.is_accepted(peer)
    }

    /// Handles the outcome of the check of a peer's record.
    pub(crate) fn on_peer_record_checked(
        &mut self,
        peer: PeerId,
        record: RecordHash,
        outcome: Result<Address, Refusal>,
        local: &mut Local,
        directory: &mut Directory,
        cx: &mut Cx,
    ) {
        if !self.admissions.is_pending(&peer) || !self.admissions.awaits(&peer, record) {
            return;
        }
        self.end_exchanges(peer, record, outcome.map(|_| ()), cx);
        match outcome {
            Ok(agent) => self.admit(peer, agent, local, directory, cx),
            // The crypto pool is full, the registry is not read yet, or one of the clocks is wrong.
            Err(refusal) if refusal.is_temporary() => self.defer(&peer, refusal, Duration::ZERO, cx),
            Err(refusal) => self.refuse_peer(&peer, refusal, cx),
        }
    }

    /// Admits a peer: what it sends has effects from now on.
    fn admit(
        &mut self,
        peer: PeerId,
        agent: Address,
        local: &mut Local,
        directory: &mut Directory,
        cx: &mut Cx,
    ) {
        let Some(connection) = self.table.connection_mut(&peer) else { return };
        connection.agent = Some(agent);
        let topics = std::mem::take(&mut connection.unannounced);
        let before = self.admissions.update(&peer, |state| std::mem::replace(&mut state.was_admitted, true));
        self.finish_handshake(&peer);
        cx.signal(Signal::AgentConnected(agent));
        directory.records.touch(&agent);
        directory.records.meet(&agent);
        if before == Some(false) {
            self.on_first_admission(peer, cx);
        }
        for topic in topics {
            self.announce_subscription(peer, topic, local, directory, cx);
        }
        for input in self.admissions.holding.take(&peer) {
            cx.signal(Signal::InputReleased(Box::new(input)));
        }
    }

    /// Does what follows once for each connection, also if the handshake is deferred again and again.
    fn on_first_admission(&mut self, peer: PeerId, cx: &mut Cx) {
        cx.stats.count(Counter::PeersAdmitted);
        self.book.changed(cx.now.mono);
        self.await_subscriptions(peer, cx);
        if self.table.is_dht_server(&peer) {
            self.dht_servers.connected(cx.now.mono);
        }
        self.find_soon(cx);
    }

    /// Does not admit a peer. The connection ends when the peer has read the answer.
    pub(super) fn refuse_peer(&mut self, peer: &PeerId, refusal: Refusal, cx: &mut Cx) {
        cx.stats.count(match refusal {
            Refusal::TimedOut => Counter::AdmissionsTimedOut,
            _ => Counter::AdmissionsRefused,
        });
        match refusal {
            Refusal::Banned => cx.stats.count(Counter::ConnectionsRefusedBanned),
            refusal if refusal.is_fault() => cx.observe(*peer, Conduct::InvalidAdmission),
            _ => {}
        }
        let reason = format!("this node does not admit the peer: {} ({})", refusal.reason(), refusal.code());
        let pause = if is_policy(refusal.code()) { REJECTED_PAUSE } else { refusal.retry_after() };
        self.close_refused(peer, reason, pause, Some(CLOSE_AFTER), cx);
    }

    /// Defers the handshake, for the pause that the peer states if that is longer. Clocks may be set at any
    /// moment, so the connection stays, and what arrives meanwhile is refused.
    fn defer(&mut self, peer: &PeerId, refusal: Refusal, stated: Duration, cx: &mut Cx) {
        cx.stats.count(Counter::AdmissionsDeferred);
        // The exchange that the other end began has admitted both nodes.
        if refusal.is_busy() && self.have_admitted_each_other(peer) {
            return;
        }
        let now = cx.now.mono;
        let pause = refusal.retry_after().max(stated.min(MAX_STATED_PAUSE));
        let retry_at = now + pause + cx.jitter.full_jitter(pause / 2);
        if let Some(connection) = self.table.connection_mut(peer) {
            connection.agent = None;
        }
        self.admissions.update(peer, |state| {
            (state.connect_at, state.not_before, state.is_accepted) = (retry_at, retry_at, false);
            if refusal == Refusal::ClockOutOfRange {
                state.deadline =
                    state.clock_deadline.unwrap_or(Instant::MAX).min(retry_at + HANDSHAKE_TIMEOUT);
            }
        });
        if refusal == Refusal::ClockOutOfRange {
            self.refuse_held(peer, cx);
        }
    }

    /// Handles a peer that does not admit this node. This node closes the connection, because it has the
    /// answer.
    pub(super) fn on_rejected(
        &mut self,
        peer: PeerId,
        rejected: &Rejected,
        local: &mut Local,
        gate: &Gate,
        cx: &mut Cx,
    ) {
        let stated = Duration::from_millis(rejected.retry_after_ms);
        if rejected.code == Refusal::Busy.code() {
            return self.defer(&peer, Refusal::Busy, stated, cx);
        }
        if rejected.code == Refusal::ClockOutOfRange.code() {
            local.observe_clock(&peer, rejected.time_ms, true, cx);
            if rejected.time_ms > 0 {
                let ahead_ms = ahead_of_us(rejected.time_ms, cx.now);
                cx.signal(Signal::ClocksDiffer { peer, ahead_ms });
            }
            if !gate.admission.is_open() {
                let end = cx.now.mono + CLOCK_PATIENCE;
                self.admissions.update(&peer, |state| *state.clock_deadline.get_or_insert(end));
            }
            return self.defer(&peer, Refusal::ClockOutOfRange, stated, cx);
        }
        let retry_after = stated.min(MAX_PAUSE);
        cx.stats.count(Counter::AdmissionsRejectedByPeers);
        let is_policy = is_policy(&rejected.code);
        let pause = if is_policy { retry_after.max(REJECTED_PAUSE) } else { retry_after };
        let Rejected { code, reason, .. } = rejected;
        let reason = format!("the peer does not admit this node: {reason} ({code})");
        let meta = json!({ "peerId": peer.to_string(), "code": code });
        cx.log_with(Level::Info, "network", format!("{peer}: {reason}"), meta);
        if is_policy {
            cx.signal(Signal::PeerRejected { peer, reason: reason.clone() });
        }
        self.close_refused(&peer, reason, pause, None, cx);
    }

    /// Ends a connection without admission, after a time or now.
    fn close_refused(
        &mut self,
        peer: &PeerId,
        reason: String,
        pause: Duration,
        after: Option<Duration>,
        cx: &mut Cx,
    ) {
        self.refuse_held(peer, cx);
        if let Some(connection) = self.table.connection_mut(peer) {
            connection.agent = None;
            connection.closing = Some(reason);
            connection.refused = Some(pause);
        }
        let closes_at = cx.now.mono + after.unwrap_or_default();
        self.admissions.update(peer, |state| state.closes_at = Some(closes_at));
        if after.is_none() {
            self.close_now(peer, cx);
        }
    }

    pub(super) fn close_now(&mut self, peer: &PeerId, cx: &mut Cx) {
        cx.network(NetworkCommand::Disconnect { peer: *peer });
        self.admissions.update(peer, |state| state.closes_at = Some(Instant::MAX));
    }

    /// Sends what is due, and closes the connections whose time is over.
    pub(crate) fn poll_admissions(&mut self, local: &mut Local, cx: &mut Cx) {
        let now = cx.now.mono;
        while let Some(peer) = self.admissions.next_due(now) {
            match self.admissions.work(&peer, now) {
                Work::Connect => self.start_exchange(peer, local, cx),
                Work::Close => self.close_now(&peer, cx),
                Work::GiveUp => {
                    self.refuse_peer(&peer, Refusal::TimedOut, cx);
                    self.close_now(&peer, cx);
                }
            }
        }
    }
}

/// What is due for a peer.
enum Work {
    Connect,
    Close,
    GiveUp,
}

impl Admissions {
    fn work(&self, peer: &PeerId, now: Instant) -> Work {
        match self.states.get(peer) {
            Some(state) if state.closes_at.is_some() => Work::Close,
            Some(state) if state.deadline > now => Work::Connect,
            _ => Work::GiveUp,
        }
    }

    /// Returns `true` if the peer has proven that it admits this node.
    fn is_accepted(&self, peer: &PeerId) -> bool {
        self.states.get(peer).is_some_and(|state| state.is_accepted)
    }

    /// Returns `true` if an exchange with the peer waits for the check of this record.
    fn awaits(&self, peer: &PeerId, record: RecordHash) -> bool {
        self.states.get(peer).is_some_and(|state| {
            matches!(&state.outbound, Outbound::Checking { record: checked, .. } if *checked == record)
                || matches!(&state.inbound, Inbound::Checking { record: checked, .. } if *checked == record)
        })
    }
}
