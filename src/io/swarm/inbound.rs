//! Converts events of libp2p into inputs of the core.

use bytes::Bytes;
use libp2p::allow_block_list::Blocked;
use libp2p::gossipsub::{self, MessageAcceptance, TopicHash};
use libp2p::kad::{self, GetRecordOk, InboundRequest, PutRecordError, QueryResult};
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{self, Message};
use libp2p::swarm::{ConnectionDenied, DialError, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, mdns, ping};

use super::address_limits::TooManyFromAddress;
use super::behaviour::BehaviourEvent;
use super::gossip_watch;
use super::links::Superseded;
use super::listen::whole_reason;
use super::mail::{MailEvent, Reply};
use super::refused_hosts::Refusal;
use super::{MAX_ADDRS_PER_SERVER, SwarmDriver};
use p2p_node_core::input::{AddressEvent, DropKind, Input, PeerReport};
use p2p_node_core::local::addresses::is_relayed;
use p2p_node_core::source::SourceEvent;

/// Returns an address without its `/p2p/` parts.
fn without_peer(addr: &Multiaddr) -> Multiaddr {
    addr.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}

/// Returns why the limits of this node refused a connection, if they did.
fn refusal(cause: ConnectionDenied) -> Option<DropKind> {
    let cause = match cause.downcast::<TooManyFromAddress>() {
        Ok(_) => return Some(DropKind::Connection),
        Err(cause) => cause,
    };
    match cause.downcast::<Refusal>() {
        Ok(Refusal::Blocked(_)) => Some(DropKind::BlockedConnection),
        Ok(Refusal::Banned(_)) => Some(DropKind::BannedConnection),
        Err(cause) => cause.downcast::<Blocked>().is_ok().then_some(DropKind::BannedConnection),
    }
}

/// Event of the protocols of admission and of questions for agents.
type RequestEvent = request_response::Event<Bytes, Bytes>;

impl SwarmDriver {
    /// Converts one event into inputs, at most one for each part of the event.
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        if let Some(metrics) = &mut self.metrics {
            metrics.record(&event);
        }
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished {
                peer_id: peer,
                connection_id,
                endpoint,
                num_established,
                ..
            } => {
                self.dials.remove(&peer);
                let is_first = num_established.get() == 1;
                if is_first {
                    self.inputs.push_back(Input::Connected { peer, dialer: endpoint.is_dialer() });
                    if endpoint.is_dialer() {
                        let addr = without_peer(endpoint.get_remote_address());
                        self.inputs.push_back(Input::Source(SourceEvent::Dialled { peer, addr }));
                    }
                }
                self.inputs.push_back(self.reports.opened(connection_id, peer, &endpoint));
                self.on_link_established(connection_id, peer, &endpoint, is_first);
            }
            SwarmEvent::ConnectionClosed { peer_id: peer, connection_id, num_established, cause, .. } => {
                self.inputs.extend(self.reports.closed(connection_id, peer));
                self.on_link_closed(connection_id, peer, num_established == 0);
                if num_established == 0 {
                    self.gossip_health.on_disconnected(&peer);
                    let reason = cause.map(|cause| cause.to_string());
                    self.inputs.push_back(Input::Disconnected { peer, reason });
                }
            }
            // Kademlia tried to dial a peer to which a dial was already in progress.
            SwarmEvent::OutgoingConnectionError { error: DialError::DialPeerConditionFalse(_), .. } => {}
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                let failed = self.dials.remove(&peer).then(|| error.to_string());
                self.inputs.extend(failed.map(|reason| Input::DialFailed { peer, reason }));
            }
            event @ (SwarmEvent::NewListenAddr { .. }
            | SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ListenerClosed { .. }
            | SwarmEvent::ListenerError { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. }) => self.on_address_event(event),
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "incoming connection");
                if let ListenError::Denied { cause } = error
                    && let Some(what) = refusal(cause)
                {
                    self.inputs.push_back(Input::Dropped { what, number: 1 });
                }
            }
            // The other events need no action: they announce steps, or report observed addresses.
            _ => {}
        }
    }

    /// Converts an event of a listener or an external address.
    fn on_address_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { listener_id, address }
                if !self.on_relayed_address(listener_id, &address) =>
            {
                let report = self.listeners.on_address(&mut self.swarm, listener_id, &address);
                self.inputs.extend(report);
            }
            SwarmEvent::ExpiredListenAddr { listener_id, .. }
                if self.listeners.on_address_expired(listener_id) =>
            {
                self.swarm.behaviour_mut().links.probe_all();
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                let reason = match reason {
                    Ok(()) => "the listener was closed".to_owned(),
                    Err(error) => format!("the listener failed: {}", whole_reason(&error)),
                };
                if !self.on_reservation_ended(listener_id, &reason) {
                    let report = self.listeners.on_closed(listener_id, reason);
                    self.inputs.extend(report);
                }
            }
            SwarmEvent::ListenerError { error, .. } => tracing::debug!(%error, "listener"),
            SwarmEvent::ExternalAddrConfirmed { address } if !is_relayed(&address) => {
                self.report_addresses(AddressEvent::Confirmed(address));
            }
            SwarmEvent::ExternalAddrExpired { address } if !is_relayed(&address) => {
                self.report_addresses(AddressEvent::Expired(address));
            }
            // Addresses at relays come with their listeners.
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Limits(never)
            | BehaviourEvent::Addresses(never)
            | BehaviourEvent::Blocked(never)
            | BehaviourEvent::Mail(never)
            | BehaviourEvent::Files(never) => match never {},
            BehaviourEvent::Identify(
                identify::Event::Received { connection_id, peer_id: peer, info }
                | identify::Event::Pushed { connection_id, peer_id: peer, info },
            ) => {
                self.on_identified(connection_id, peer, &info);
                if self.gossip_health.on_identified(peer, &info) {
                    self.report_peer(peer, PeerReport::GossipDisabled);
                }
                if let Some(network) = self.names.other_network(&info.protocol_version) {
                    self.inputs.push_back(Input::NetworkMismatch { peer, network });
                }
                self.on_server_identified(peer, info);
            }
            BehaviourEvent::Identify(_) => {}
            BehaviourEvent::Ping(ping::Event { result: Err(error), connection, .. }) => {
                // A peer without the ping protocol may still be alive.
                if !matches!(error, ping::Failure::Unsupported) {
                    self.swarm.close_connection(connection);
                }
            }
            BehaviourEvent::Ping(ping::Event { peer, result: Ok(round_trip), .. }) => {
                self.report_peer(peer, PeerReport::RoundTrip(round_trip));
            }
            BehaviourEvent::Links(Superseded { peer, connection, is_last_call }) => {
                if is_last_call || self.swarm.behaviour().mail.is_idle(&peer, connection) {
                    self.swarm.close_connection(connection);
                }
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => self.on_peers_found(found),
            BehaviourEvent::Mdns(mdns::Event::Expired(_)) => {}
            BehaviourEvent::HolePunching(event) => tracing::debug!(?event, "hole punching"),
            BehaviourEvent::AutonatClient(event) => tracing::debug!(?event, "AutoNAT"),
            BehaviourEvent::RelayClient(event) => tracing::debug!(?event, "relay"),
            BehaviourEvent::Upnp(event) => tracing::debug!(?event, "UPnP"),
            BehaviourEvent::Relay(event) => self.on_relay_event(&event),
            BehaviourEvent::AutonatServer(_) => {}
            BehaviourEvent::Kad(event) => self.on_kademlia_event(event),
            BehaviourEvent::Admission(event) => self.on_admission_event(event),
            BehaviourEvent::Find(event) => self.on_find_event(event),
            BehaviourEvent::Gossip(gossip_watch::Event::Gossipsub(event)) => self.on_gossip_event(event),
            BehaviourEvent::Gossip(gossip_watch::Event::Disabled { peer, spoke }) => {
                if self.gossip_health.on_disabled(peer, spoke) {
                    self.report_peer(peer, PeerReport::GossipDisabled);
                }
            }
        }
    }

    /// Reports the DHT mode of a peer. Only servers offer our Kademlia protocol; clients do not. The core
    /// decides which servers enter the routing table.
    fn on_server_identified(&mut self, peer: PeerId, info: identify::Info) {
        let is_server = info.protocols.contains(&self.names.kad);
        let mut addrs = if is_server { self.scope.select(info.listen_addrs) } else { Vec::new() };
        addrs.truncate(MAX_ADDRS_PER_SERVER);
        self.inputs.push_back(Input::DhtMode { peer, serves: !addrs.is_empty(), addrs });
    }

    fn on_kademlia_event(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest {
                request: InboundRequest::PutRecord { source, record: Some(record), .. },
            } => {
                let key = Bytes::copy_from_slice(record.key.as_ref());
                let value = record.value.into();
                self.inputs.push_back(Input::RecordOffered { peer: source, key, value });
            }
            kad::Event::OutboundQueryProgressed {
                id, result: QueryResult::GetRecord(result), step, ..
            } => {
                let Some(&token) = self.queries.get(&id) else { return };
                // Ignores answers without a peer: they come from our own store, which the core
                // knows.
                if let Ok(GetRecordOk::FoundRecord(found)) = result
                    && let Some(server) = found.peer
                {
                    let value = found.record.value.into();
                    self.inputs.push_back(Input::RecordFound { token, server, value });
                }
                if step.last {
                    self.queries.remove(&id);
                    self.inputs.push_back(Input::QueryEnded { token });
                }
            }
            kad::Event::OutboundQueryProgressed { result: QueryResult::PutRecord(result), .. } => {
                let stored = match result {
                    Ok(_) => true,
                    Err(
                        PutRecordError::QuorumFailed { success, .. }
                        | PutRecordError::Timeout { success, .. },
                    ) => !success.is_empty(),
                };
                self.inputs.push_back(Input::RecordPut { stored });
            }
            // The core does not need the progress of bootstrap queries or reads of our own store.
            _ => {}
        }
    }

    fn on_admission_event(&mut self, event: RequestEvent) {
        let (request_id, outcome) = match event {
            RequestEvent::Message {
                peer, message: Message::Request { request: body, channel, .. }, ..
            } => {
                // Dropping the channel of the oldest step tells its sender that no answer follows.
                self.admission_requests.evict_if_full();
                if let Some(token) = self.admission_requests.insert(channel) {
                    self.inputs.push_back(Input::AdmissionRequestReceived { token, peer, body });
                }
                return;
            }
            RequestEvent::Message { message: Message::Response { request_id, response }, .. } => {
                (request_id, Ok(response))
            }
            RequestEvent::OutboundFailure { request_id, error, .. } => (request_id, Err(error.to_string())),
            RequestEvent::InboundFailure { .. } | RequestEvent::ResponseSent { .. } => return,
        };
        if let Some((peer, token)) = self.admissions.remove(&request_id) {
            self.inputs.push_back(Input::AdmissionResponseReceived { token, peer, outcome });
        }
    }

    fn on_find_event(&mut self, event: RequestEvent) {
        let (request_id, outcome) = match event {
            RequestEvent::Message {
                peer, message: Message::Request { request: body, channel, .. }, ..
            } => {
                self.find_requests.evict_if_full();
                if let Some(token) = self.find_requests.insert(channel) {
                    self.inputs.push_back(Input::FindRequestReceived { token, peer, body });
                }
                return;
            }
            RequestEvent::Message { message: Message::Response { request_id, response }, .. } => {
                (request_id, Ok(response))
            }
            RequestEvent::OutboundFailure { request_id, error, .. } => (request_id, Err(error.to_string())),
            RequestEvent::InboundFailure { .. } | RequestEvent::ResponseSent { .. } => return,
        };
        if let Some(token) = self.finds.remove(&request_id) {
            self.inputs.push_back(Input::FindResponseReceived { token, outcome });
        }
    }

    /// Converts an event of the mail protocol into an input.
    pub(super) fn on_mail_event(&mut self, event: MailEvent) {
        self.inputs.push_back(match event {
            MailEvent::Request { peer, frame, reply, reservation } => {
                drop(reservation);
                if self.mail_requests.is_full() {
                    self.mail_requests.retain(Reply::is_open);
                }
                match self.mail_requests.insert(reply) {
                    Some(token) => Input::MailRequestReceived { token, peer, frame },
                    // Dropping the reply tells the sender that this node dropped the request.
                    None => Input::Dropped { what: DropKind::Mail, number: 1 },
                }
            }
            MailEvent::Response { token, outcome } => {
                self.mail_sent -= 1;
                Input::MailResponseReceived { token, outcome }
            }
        });
    }

    fn on_gossip_event(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source: from, message_id, message } => {
                // libp2p drops a message without a verdict after some time; this table drops the
                // oldest when it is full.
                if let Some((id, from)) = self.gossip_unvalidated.evict_if_full() {
                    self.inputs.push_back(Input::Dropped { what: DropKind::Gossip, number: 1 });
                    let gossip = &mut self.swarm.behaviour_mut().gossip;
                    gossip.report_message_validation_result(&id, &from, MessageAcceptance::Ignore);
                }
                let Some(topic) = self.topic_name(&message.topic) else { return };
                if let Some(token) = self.gossip_unvalidated.insert((message_id, from)) {
                    let data = message.data.into();
                    self.inputs.push_back(Input::Gossip { token, from, topic, data });
                }
            }
            gossipsub::Event::Subscribed { peer_id: peer, topic } => {
                let subscribed = self.topic_name(&topic).map(|topic| Input::PeerSubscribed { peer, topic });
                self.inputs.extend(subscribed);
            }
            gossipsub::Event::Unsubscribed { peer_id: peer, topic } => {
                let unsubscribed =
                    self.topic_name(&topic).map(|topic| Input::PeerUnsubscribed { peer, topic });
                self.inputs.extend(unsubscribed);
            }
            gossipsub::Event::SlowPeer { peer_id: peer, .. } => {
                self.report_peer(peer, PeerReport::Slow);
            }
            // The wrapper of the handler reports it.
            gossipsub::Event::GossipsubNotSupported { .. } => {}
        }
    }

    fn report_peer(&mut self, peer: PeerId, report: PeerReport) {
        self.inputs.push_back(Input::PeerReport { peer, report });
    }

    /// Returns the topic without the network's prefix. The subscription filter accepts no other
    /// topics.
    pub(super) fn topic_name(&self, topic: &TopicHash) -> Option<String> {
        topic.as_str().strip_prefix(&self.names.topic_prefix).map(str::to_owned)
    }
}
