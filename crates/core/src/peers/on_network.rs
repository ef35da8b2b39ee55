//! Events of sockets and connections.

use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, ErrorCode, ErrorEvent, Event, Level, PeerConnected, PeerDisconnected};
use p2p_node_wire::envelope::Batch;
use serde_json::json;

use crate::command_limits::MAX_PEER_TOPICS;
use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::NetworkCommand;
use crate::local::Local;
use crate::peers::Peers;
use crate::peers::candidate::{Candidate, CandidateSource};
use crate::peers::table::Connection;
use crate::signal::Signal;
use crate::topics::{ANNOUNCEMENTS, check_topic, is_node_topic};

/// The node disconnects a peer whose gossip queue is full twice within this time: one full queue
/// may be a burst, two in a row mean that the peer does not read.
const SLOW_TWICE: Duration = Duration::from_secs(10);
/// When at least one in this many peers is slow, the node publishes more slowly: our choice.
const SLOW_SHARE: usize = 4;

impl Peers {
    /// Adds a bootstrap peer to the table, so that the node dials the peer for ever. Ignores
    /// agents, because the directory contains them.
    pub(crate) fn add_candidate(&mut self, candidate: Candidate, cx: &mut Cx) {
        let Candidate { peer, addrs, source } = candidate;
        if peer == cx.identity.peer || source != CandidateSource::Bootstrap {
            return;
        }
        for addr in addrs {
            if !self.table.add_bootstrap(peer, addr) {
                let message = "too many bootstrap peers or addresses of one: the node ignores the rest";
                cx.log(Level::Warn, "discovery", message);
            }
        }
    }

    /// Handles a peer of another network. The node stops dialling such a bootstrap peer.
    pub(crate) fn on_network_mismatch(&mut self, peer: PeerId, network: &str, cx: &mut Cx) {
        cx.stats.count(Counter::PeersOfOtherNetworks);
        self.book.remove(&peer, cx.now.mono);
        if self.local_network.reject(&peer) {
            cx.network(NetworkCommand::Disconnect { peer });
        }
        self.forget_queued_dial(&peer);
        if !self.table.remove_bootstrap(peer) {
            return;
        }
        let ours = &cx.identity.network;
        let message = format!(
            "the bootstrap peer {peer} belongs to the network `{network}`, but this node to `{ours}`: this node does not dial \
             it again; restart one of the two with another --network"
        );
        let mut error = ErrorEvent::new(ErrorCode::WrongNetwork, message);
        error.details = Some(serde_json::json!({ "peerId": peer.to_string(), "network": network }));
        cx.emit_error(error);
        cx.network(NetworkCommand::Disconnect { peer });
    }

    /// Dials the bootstrap peers that are not connected and whose pause has ended.
    pub(crate) fn dial_bootstrap_peers(&mut self, cx: &mut Cx) {
        while let Some((peer, addrs)) = self.table.redial_due(cx.now.mono) {
            self.dial(Candidate { peer, addrs, source: CandidateSource::Bootstrap }, cx);
            if self.table.is_down(&peer) {
                return;
            }
        }
    }

    pub(crate) fn on_connected(
        &mut self,
        peer: PeerId,
        dialer: bool,
        local: &mut Local,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        self.forget_queued_dial(&peer);
        self.table.connected(peer, now.mono);
        self.histories.connected(&peer, now.mono);
        self.rank_returned(&peer, now.mono);
        self.book.changed(now.mono);
        let address = directory.records.by_peer(&peer, now.unix_ms).map(|record| record.address());
        let address_text = address.map(|address| address.to_string());
        cx.emit_peer_event(Event::PeerConnected(PeerConnected {
            peer_id: peer.to_string(),
            address: address_text,
        }));
        self.begin_admission(peer, dialer, address, local, cx);
    }

    /// Records that the two nodes used their connection.
    pub(crate) fn touch(&mut self, peer: &PeerId, cx: &Cx) {
        if let Some(connection) = self.table.connection_mut(peer) {
            connection.used_at = cx.now.mono;
        }
    }

    /// Counts a frame of mail that the node sends, over the connection of a peer or by gossip.
    pub(crate) fn count_frame(&mut self, peer: Option<&PeerId>, batch: &Batch, cx: &mut Cx) {
        cx.stats.count(Counter::MailFramesSent);
        peer.into_iter().for_each(|peer| self.count_messages(peer, 0, batch.messages.len() as u64));
    }

    /// Counts messages over the connection of a peer.
    pub(crate) fn count_messages(&mut self, peer: &PeerId, received: u64, sent: u64) {
        if let Some(connection) = self.table.connection_mut(peer) {
            connection.messages_in += received;
            connection.messages_out += sent;
        }
    }

    /// Returns `true` if the node is connected to this peer.
    pub(crate) fn is_connected(&self, peer: &PeerId) -> bool {
        self.table.connection(peer).is_some()
    }

    /// Returns the admitted peers that subscribe to a topic.
    pub(crate) fn subscribers_of(&self, topic: &str) -> impl Iterator<Item = &PeerId> {
        self.table.connections().filter(move |(_, known)| known.subscribes(topic)).map(|(peer, _)| peer)
    }

    /// Returns the number of admitted peers that subscribe to a topic.
    pub(crate) fn subscribers(&self, topic: &str) -> usize {
        self.subscribers_of(topic).count()
    }

    pub(crate) fn on_disconnected(
        &mut self,
        peer: PeerId,
        reason: Option<String>,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        let ours = self.table.connection_mut(&peer).and_then(|connection| connection.closing.take());
        self.forget_queued_dial(&peer);
        self.gossip_renewals.on_disconnected(&peer);
        self.histories.disconnected(&peer, now.mono);
        self.end_admission(&peer, cx);
        let pause = self.table.disconnected(peer, now.mono, &mut cx.jitter);
        if pause.is_some() {
            self.record_dial_failure(peer, pause, cx);
        } else {
            self.table.end_pause(peer);
        }
        self.hasten_sources();
        self.book.changed(now.mono);
        self.connect_soon(cx);
        self.find_soon(cx);
        let address = directory.records.by_peer(&peer, now.unix_ms).map(|record| record.address());
        cx.signal(Signal::PeerDisconnected { peer, address });
        let address = address.map(|address| address.to_string());
        cx.emit_peer_event(Event::PeerDisconnected(PeerDisconnected {
            peer_id: peer.to_string(),
            address,
            reason: ours.or(reason),
        }));
    }

    pub(crate) fn on_dial_failed(&mut self, peer: PeerId, reason: &str, directory: &Directory, cx: &mut Cx) {
        let now = cx.now;
        cx.stats.count(Counter::DialsFailed);
        self.histories.dial_failed(&peer, now.mono);
        self.record_dial_failure(peer, None, cx);
        self.record_failed_hearsay(&peer, directory, cx);
        if self.table.dial_failed(peer, now.mono, &mut cx.jitter) {
            let message =
                format!("bootstrap peer {peer} cannot be reached ({reason}); the node keeps trying");
            cx.log(Level::Warn, "discovery", message);
        }
        if let Some(address) = directory.records.by_peer(&peer, now.unix_ms).map(|record| record.address()) {
            cx.signal(Signal::Unreachable(address));
        }
    }

    /// Runs a round of work for new DHT servers: publishes our record, and repeats the lookups that
    /// failed.
    pub(crate) fn on_new_dht_servers(&mut self, local: &mut Local, directory: &mut Directory, cx: &mut Cx) {
        let now = cx.now;
        if !self.dht_servers.poll_due(now.mono) {
            return;
        }
        local.record.on_dht_server(now);
        self.find_soon(cx);
        for address in directory.lookups.drain_failed() {
            directory.resolve(address, cx);
        }
        cx.signal(Signal::DhtServersChanged);
    }

    pub(crate) fn on_subscribed(
        &mut self,
        peer: PeerId,
        topic: String,
        local: &mut Local,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        // No agent can subscribe to an invalid topic, and the parent would see the name in the
        // peer's list of topics.
        if check_topic(&topic).is_err() {
            return cx.stats.count(Counter::TopicsMalformed);
        }
        let Some(known) = self.table.connection_mut(&peer) else { return };
        // Mail depends on the topics of the nodes, so they do not count.
        if known.topics.len() >= MAX_PEER_TOPICS && !is_node_topic(&topic) && !known.topics.contains(&topic) {
            return warn_of_refused_topic(cx);
        }
        if !known.topics.insert(topic.clone()) {
            return;
        }
        if known.agent.is_some() {
            self.announce_subscription(peer, topic, local, directory, cx);
        } else {
            known.unannounced.insert(topic);
        }
    }

    /// Tells the other components of a subscription of a peer that the node has admitted.
    pub(crate) fn announce_subscription(
        &mut self,
        peer: PeerId,
        topic: String,
        local: &mut Local,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        let Some(known) = self.table.connection_mut(&peer) else { return };
        // Only the first subscription of a connection counts, because a peer that subscribes again
        // and again would cause retransmissions.
        let first_mail_subscription =
            topic == crate::MESSAGES && !std::mem::replace(&mut known.saw_mail_subscription, true);
        if topic == ANNOUNCEMENTS {
            let agents = self.met_agents(directory);
            local.record.announcements_subscribed(now, agents);
        }
        cx.signal(Signal::Subscribed { peer, topic, first_mail_subscription });
    }

    pub(crate) fn on_unsubscribed(&mut self, peer: &PeerId, topic: &str) {
        if let Some(connection) = self.table.connection_mut(peer) {
            connection.topics.remove(topic);
            connection.unannounced.remove(topic);
        }
    }

    pub(crate) fn on_slow_peer(&mut self, peer: PeerId, cx: &mut Cx) {
        let now = cx.now;
        cx.stats.count(Counter::SlowPeers);
        let Some(known) = self.table.connection_mut(&peer) else { return };
        let is_slow = |peer: &Connection| peer.slow_at.is_some_and(|at| now.mono < at + SLOW_TWICE);
        let twice = is_slow(known);
        known.slow_at = Some(now.mono);
        // If few peers are slow, only they are affected: a peer that does not read must not slow
        // down the others.
        let slow = self.table.connections().filter(|(_, connection)| is_slow(connection)).count();
        if slow * SLOW_SHARE >= self.table.connections_len() {
            cx.signal(Signal::GossipTooFast);
        }
        if twice {
            let message = format!("disconnected {peer}: it does not read gossip");
            cx.log_with(Level::Warn, "network", message, json!({ "peerId": peer.to_string() }));
            cx.network(NetworkCommand::Disconnect { peer });
        }
    }
}

/// Counts a subscription of a peer above the limit. Warns of the first one, because the node does
/// not know the peer as a subscriber of this topic.
fn warn_of_refused_topic(cx: &mut Cx) {
    let first = cx.stats.get(Counter::TopicsOverLimit) == 0;
    cx.stats.count(Counter::TopicsOverLimit);
    if first {
        let message =
            format!("a peer subscribes to more than {MAX_PEER_TOPICS} topics: the node ignores the rest");
        cx.log_with(Level::Warn, "gossip", message, json!({ "limit": MAX_PEER_TOPICS }));
    }
}
