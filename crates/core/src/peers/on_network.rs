//! Events of sockets and connections, and the exchange of hellos and records.

use crate::gate::pending_verification::OfferedRecord;
use crate::gate::pending_verification::RecordSource;
use crate::gossip::status::STATUS_PERIOD;
use crate::signal::Signal;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use multiaddr::Protocol;
use p2p_node_protocol::{
    Counter, ErrorCode, ErrorEvent, Event, Id, Level, Limits, PROTOCOL_VERSION, PeerConnected,
    PeerDisconnected, Ready,
};
use prost::Message as _;

use crate::directory::rollback_guard::HighestSeen;
use crate::effect::{Effect, ExitCode, NetworkCommand};
use crate::input::Token;
use crate::parent::on_command::check_topic;
use crate::peers::bootstrap::STABLE;
use crate::{ANNOUNCEMENTS, Core, MAX_PEER_TOPICS, NODE_TOPICS, Peer, Phase};
use p2p_node_wire::envelope::{Hello, WIRE_VERSION, strict_decode};

/// The node disconnects a peer whose gossip queue is full twice within this time: one full queue
/// may be a burst, two in a row mean that the peer does not read.
const SLOW_TWICE: Duration = Duration::from_secs(10);
/// When at least one in this many peers is slow, the node publishes more slowly: our choice.
const SLOW_SHARE: usize = 4;
/// Features of this node beyond the commands of the first sidecar. A parent must not rely on a
/// feature that is missing here.
const FEATURES: [&str; 5] = ["base64", "block", "cancel", "gossip", "peers"];

impl Core {
    pub(crate) fn on_listening(&mut self, addrs: Vec<Multiaddr>) {
        let now = self.cx.now;
        let started = match &mut self.cx.phase {
            Phase::Starting { id, .. } => Some(id.take()),
            // A new address was added.
            Phase::Ready => None,
            // The node is closing and needs no addresses.
            _ => return,
        };
        if started.is_some()
            && let Some(warning) = self.cx.identity.scope.lacking(&addrs)
        {
            self.cx.log(Level::Warn, "network", warning);
        }
        let with_peer = |addr: Multiaddr| addr.with(Protocol::P2p(self.cx.identity.peer));
        self.local.addrs = addrs.iter().cloned().map(with_peer).collect();
        let advertised = addrs.into_iter().filter(|addr| self.cx.identity.scope.permits(addr)).collect();
        self.local.record.set_addrs(advertised, now);
        if let Some(id) = started {
            self.be_ready(id);
        }
    }

    fn be_ready(&mut self, id: Option<Id>) {
        let now = self.cx.now;
        self.cx.phase = Phase::Ready;
        self.gossip.status_due = now.mono + self.cx.jitter.around(STATUS_PERIOD);
        for topic in NODE_TOPICS {
            self.cx.network(NetworkCommand::Subscribe { topic: topic.to_owned() });
        }
        let ready = Ready {
            peer_id: self.cx.identity.peer_text.clone(),
            address: self.cx.identity.address_text.clone(),
            name: self.cx.identity.name.clone(),
            role: self.cx.identity.role,
            network: self.cx.identity.network.clone(),
            protocol: PROTOCOL_VERSION,
            version: self.cx.identity.version.clone(),
            features: self.features(),
            limits: Limits {
                max_line_bytes: self.cx.replies.max_line,
                max_unacked: self.mail.delivery.untaken.limit(),
                ..Limits::STANDARD
            },
            addrs: self.local.addrs.iter().map(ToString::to_string).collect(),
            durable: self.mail.pending_writes.is_durable(),
        };
        self.cx.replies.output.tell(Event::Ready(Box::new(ready)));
        self.cx.answer(id, "connect", |_| {});
        self.release_held();
    }

    fn features(&self) -> Vec<String> {
        let ack = self.manual_ack().then_some("ack");
        ack.into_iter().chain(FEATURES).map(str::to_owned).collect()
    }

    pub(crate) fn on_listen_failed(&mut self, reason: String) {
        let id: Option<Id> = match &self.cx.phase {
            Phase::Starting { id, .. } => id.clone(),
            _ => None,
        };
        self.cx.refuse(id, ErrorCode::ListenFailed, reason);
        self.give_up(ExitCode::Unavailable);
    }

    pub(crate) fn add_bootstrap(&mut self, peer: PeerId, addr: Multiaddr) {
        if peer == self.cx.identity.peer {
            return;
        }
        if !self.peers.bootstrap.add(peer, addr) {
            self.cx.log(
                Level::Warn,
                "discovery",
                "too many bootstrap peers or addresses of one: the node ignores the rest",
            );
        }
    }

    /// Handles a peer of another network. No node of our network can be reached through it.
    pub(crate) fn on_other_network(&mut self, peer: PeerId, network: &str) {
        self.cx.stats.count(Counter::PeersOfOtherNetworks);
        if !self.peers.bootstrap.remove(&peer) {
            return;
        }
        let ours = &self.cx.identity.network;
        let message = format!(
            "the bootstrap peer {peer} belongs to the network `{network}`, but this node to `{ours}`: this node does not dial \
             it again; restart one of the two with another --network"
        );
        let mut error = ErrorEvent::new(ErrorCode::WrongNetwork, message);
        error.details = Some(serde_json::json!({ "peerId": peer.to_string(), "network": network }));
        self.cx.emit_error(error);
        self.cx.network(NetworkCommand::Disconnect { peer });
    }

    /// Dials the bootstrap peers that are not connected and whose pause has ended.
    pub(crate) fn dial_bootstrap_peers(&mut self) {
        let now = self.cx.now;
        let peers = &self.peers.connected;
        for (peer, addrs) in self.peers.bootstrap.due(now.mono, |peer| peers.contains_key(peer)) {
            self.dial(peer, addrs);
        }
    }

    pub(crate) fn dial(&mut self, peer: PeerId, addrs: Vec<Multiaddr>) {
        if self.peers.dialing.insert(peer) {
            self.cx.stats.count(Counter::Dials);
            self.cx.network(NetworkCommand::Dial { peer, addrs });
        }
    }

    pub(crate) fn on_connected(&mut self, peer: PeerId, dialer: bool) {
        let now = self.cx.now;
        self.peers.dialing.remove(&peer);
        self.peers.connected.entry(peer).or_default().connected_at = now.mono;
        self.peers.bootstrap.connected(&peer, now.mono);
        let address = self.directory.records.by_peer(&peer, now.unix_ms).map(|record| record.address());
        let address_text = address.map(|address| address.to_string());
        self.cx.emit_peer_event(Event::PeerConnected(PeerConnected {
            peer_id: peer.to_string(),
            address: address_text,
        }));
        if dialer && let Some(body) = self.hello() {
            self.cx.network(NetworkCommand::SendHello { peer, body });
        }
        if let Some(address) = address {
            self.cx.signal(Signal::AgentConnected(address));
            self.directory.records.touch(&address, now.mono);
        }
    }

    /// Returns the number of connected peers that subscribe to a topic.
    pub(crate) fn subscribers(&self, topic: &str) -> usize {
        self.peers.connected.values().filter(|peer| peer.topics.contains(topic)).count()
    }

    pub(crate) fn on_disconnected(&mut self, peer: PeerId, reason: Option<String>) {
        let now = self.cx.now;
        let connected_at = self.peers.connected.remove(&peer).map_or(now.mono, |peer| peer.connected_at);
        self.peers.dht_servers.lost(&peer);
        self.peers.bootstrap.lost(&peer, now.mono, &mut self.cx.jitter);
        if now.mono.saturating_sub(connected_at) < STABLE {
            self.note_unreachable(peer, true);
        } else {
            self.note_reachable(&peer);
        }
        let address = self.directory.records.by_peer(&peer, now.unix_ms).map(|record| record.address());
        self.cx.signal(Signal::PeerDisconnected { peer, address });
        let address = address.map(|address| address.to_string());
        self.cx.emit_peer_event(Event::PeerDisconnected(PeerDisconnected {
            peer_id: peer.to_string(),
            address,
            reason,
        }));
    }

    pub(crate) fn on_dial_failed(&mut self, peer: PeerId, reason: &str) {
        let now = self.cx.now;
        self.peers.dialing.remove(&peer);
        self.cx.stats.count(Counter::DialsFailed);
        self.note_unreachable(peer, false);
        if self.peers.bootstrap.failed(&peer, now.mono, &mut self.cx.jitter) == Some(1) {
            let message =
                format!("bootstrap peer {peer} cannot be reached ({reason}); the node keeps trying");
            self.cx.log(Level::Warn, "discovery", message);
        }
        if let Some(address) =
            self.directory.records.by_peer(&peer, now.unix_ms).map(|record| record.address())
        {
            self.cx.signal(Signal::Unreachable(address));
        }
    }

    pub(crate) fn on_server_known(&mut self, peer: PeerId) {
        let now = self.cx.now;
        self.peers.dht_servers.known(peer, now.mono);
    }

    /// Runs a round of work for new DHT servers: publishes our record, and repeats the lookups that
    /// failed.
    pub(crate) fn on_new_dht_servers(&mut self) {
        let now = self.cx.now;
        if !self.peers.dht_servers.take_due(now.mono) {
            return;
        }
        self.local.record.server_known(now);
        for address in self.directory.lookups.wake_all() {
            self.resolve(address);
        }
        self.cx.signal(Signal::DhtServersChanged);
    }

    /// Returns our encoded `Hello`, or `None` if there is no record of ours yet.
    fn hello(&mut self) -> Option<Bytes> {
        let now = self.cx.now;
        self.reissue_if_due();
        let record = self.local.record.current()?.bytes.clone();
        let hello = Hello {
            version: WIRE_VERSION,
            network: self.cx.identity.network.clone(),
            record,
            agent_version: format!("p2p-node/{}", self.cx.identity.version),
            time_ms: now.unix_ms,
        };
        Some(hello.encode_to_vec().into())
    }

    pub(crate) fn on_hello_asked(&mut self, token: Token, peer: PeerId, body: Bytes) {
        if let Some(body) = self.hello() {
            self.cx.network(NetworkCommand::AnswerHello { token, body });
        }
        self.on_hello(peer, body);
    }

    pub(crate) fn on_hello(&mut self, peer: PeerId, body: Bytes) {
        match strict_decode::<Hello>(&body) {
            Ok(hello) if hello.network == self.cx.identity.network => {
                self.expect_topics(peer);
                self.observe_clock(&peer, hello.time_ms);
                self.cx.signal(Signal::RecordReceived(OfferedRecord {
                    bytes: hello.record,
                    source: RecordSource::Hello(peer),
                    expected_address: None,
                }));
            }
            Err(error) if !error.is_provable() => self.cx.stats.count(Counter::HellosOfLaterVersions),
            Ok(_) | Err(_) => self.cx.stats.count(Counter::HellosRefused),
        }
    }

    pub(crate) fn on_peer_subscribed(&mut self, peer: PeerId, topic: String) {
        let now = self.cx.now;
        // No agent can subscribe to an invalid topic, and the parent would see the name in the
        // peer's list of topics.
        if check_topic(&topic).is_err() {
            return self.cx.stats.count(Counter::TopicsMalformed);
        }
        let Some(known) = self.peers.connected.get_mut(&peer) else { return };
        if known.topics.len() >= MAX_PEER_TOPICS || !known.topics.insert(topic.clone()) {
            return;
        }
        // Only the first subscription of a connection counts, because a peer that subscribes again
        // and again would cause retransmissions.
        let hears_mail = topic == crate::MESSAGES && !std::mem::replace(&mut known.has_heard, true);
        if topic == ANNOUNCEMENTS {
            self.local.record.announcements_heard(now, self.directory.records.len());
        }
        self.cx.signal(Signal::Subscribed { peer, topic, hears_mail });
    }

    pub(crate) fn on_peer_unsubscribed(&mut self, peer: &PeerId, topic: &str) {
        if let Some(Peer { topics, .. }) = self.peers.connected.get_mut(peer) {
            topics.remove(topic);
        }
    }

    pub(crate) fn on_slow_peer(&mut self, peer: PeerId) {
        let now = self.cx.now;
        self.cx.stats.count(Counter::SlowPeers);
        let Some(known) = self.peers.connected.get_mut(&peer) else { return };
        let is_slow = |peer: &Peer| peer.slow_at.is_some_and(|at| now.mono < at + SLOW_TWICE);
        let twice = is_slow(known);
        known.slow_at = Some(now.mono);
        // If few peers are slow, only they are affected: a peer that does not read must not slow
        // down the others.
        let slow = self.peers.connected.values().filter(|peer| is_slow(peer)).count();
        if slow * SLOW_SHARE >= self.peers.connected.len() {
            self.cx.signal(Signal::GossipTooFast);
        }
        if twice {
            self.cx.log(Level::Warn, "network", format!("disconnected {peer}: it does not read gossip"));
            self.cx.network(NetworkCommand::Disconnect { peer });
        }
    }

    /// Publishes our record when it is due. `agents` is the number of known agents.
    pub(crate) fn publish_local_record(&mut self, agents: usize) {
        let now = self.cx.now;
        if !self.check_binding_expiry() {
            return;
        }
        self.reissue_if_due();
        let due = self.local.record.due(now, agents, &mut self.cx.jitter);
        if let Some(record) = self.local.record.current() {
            let (bytes, lifetime) =
                (record.bytes.clone(), record.record.expires_at_ms.saturating_sub(now.unix_ms));
            let key = Bytes::copy_from_slice(&p2p_node_wire::record::kad_key(
                &self.cx.identity.network,
                &self.cx.identity.address,
            ));
            if due.publish {
                let lifetime = Duration::from_millis(lifetime);
                self.cx.network(NetworkCommand::PutRecord { key, value: bytes.clone(), lifetime });
            }
            if due.announce {
                let token = self.cx.token();
                self.cx.network(NetworkCommand::Publish {
                    token,
                    topic: ANNOUNCEMENTS.to_owned(),
                    data: bytes,
                });
            }
        }
    }

    fn reissue_if_due(&mut self) {
        let now = self.cx.now;
        // The KEM keys rotate first, so that the record never names an expired key.
        self.rotate_kem_keys();
        match self.local.record.reissue(now, &self.cx.identity.node_key, &mut self.cx.jitter) {
            Ok(true) => {
                let row = self.local.record.current().map(HighestSeen::from);
                self.cx.effects.extend(row.map(Effect::PersistHighestSeen));
            }
            Ok(false) => {}
            Err(error) => {
                let message = format!("the node cannot create its own record: {error}");
                self.cx.emit_error(ErrorEvent::new(ErrorCode::Internal, message));
            }
        }
    }
}
