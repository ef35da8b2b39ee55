//! Converts network commands of the core into calls of libp2p.

use std::time::Duration;

use bytes::Bytes;
use libp2p::gossipsub::{IdentTopic, MessageAcceptance, PublishError};
use libp2p::kad::store::RecordStore;
use libp2p::kad::{Quorum, RecordKey};
use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};

use super::behaviour::{Behaviour, dht_mode};
use super::{MAX_MAIL_SENT, MAX_QUERIES, SwarmDriver, dht_store, gossip};
use p2p_node_core::effect::{NetworkCommand, Verdict};
use p2p_node_core::gate::address_scope::AddressScope;
use p2p_node_core::input::{DropKind, Input, PublishOutcome, Token};

impl SwarmDriver {
    /// Executes or starts a command. [`SwarmDriver::next`] returns its results.
    pub fn apply(&mut self, effect: NetworkCommand) {
        match effect {
            NetworkCommand::Listen { port } => self.listen(port),
            NetworkCommand::ReportListening => self.inputs.extend(self.listeners.report()),
            NetworkCommand::Dial { peer, addrs } => self.dial(peer, addrs),
            NetworkCommand::DialAddr { addr } => self.dial_addr(addr),
            NetworkCommand::Disconnect { peer } => {
                // Fails only if there is no connection.
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            NetworkCommand::Block { peer } => self.block(peer),
            NetworkCommand::Unblock { peer } => self.unblock(peer),
            NetworkCommand::BlockHost { host } => self.swarm.behaviour().addresses.refused.ban(host),
            NetworkCommand::UnblockHost { host } => self.swarm.behaviour().addresses.refused.unban(&host),
            NetworkCommand::ReserveRelay { relay, addr } => self.reserve_relay(relay, addr),
            NetworkCommand::SetExternalAddresses { addrs } => self.set_external_addresses(addrs),
            NetworkCommand::SendAdmission { token, peer, body } => self.send_admission(token, peer, body),
            NetworkCommand::AnswerAdmission { token, body } => {
                if let Some(channel) = self.admission_requests.take(token) {
                    // Fails only if the peer has disconnected.
                    let _ = self.swarm.behaviour_mut().admission.send_response(channel, body);
                }
            }
            NetworkCommand::SendFind { token, peer, body } => self.send_find(token, &peer, body),
            NetworkCommand::AnswerFind { token, body } => self.answer_find(token, body),
            NetworkCommand::SendMail { token, peer, frame } => self.send_mail(token, peer, frame),
            NetworkCommand::AnswerMail { token, body } => {
                if let Some(reply) = self.mail_requests.take(token) {
                    reply.send(body);
                }
            }
            NetworkCommand::Subscribe { topic } => {
                let topic = self.topic(&topic);
                gossip::subscribe(&mut self.swarm.behaviour_mut().gossip, &topic);
            }
            NetworkCommand::Unsubscribe { topic } => {
                let topic = self.topic(&topic);
                self.swarm.behaviour_mut().gossip.unsubscribe(&topic);
            }
            NetworkCommand::Publish { token, topic, data } => {
                let outcome = self.publish(&topic, data);
                self.inputs.push_back(Input::Published { token, outcome });
            }
            NetworkCommand::ReportValidation { token, verdict } => self.report_validation(token, verdict),
            command => self.apply_to_dht(command),
        }
    }

    /// Executes a command about the DHT.
    fn apply_to_dht(&mut self, command: NetworkCommand) {
        match command {
            NetworkCommand::AddServer { peer, addrs } => {
                let kad = &mut self.swarm.behaviour_mut().kad;
                for addr in addrs {
                    kad.add_address(&peer, addr);
                }
            }
            NetworkCommand::RemoveServer { peer } => {
                self.swarm.behaviour_mut().kad.remove_peer(&peer);
            }
            NetworkCommand::ServeDht(serves) => self.serve_dht(serves),
            NetworkCommand::PutRecord { key, value, lifetime } => self.put_record(&key, value, lifetime),
            NetworkCommand::GetRecord { token, key } => self.get_record(token, &key),
            NetworkCommand::StopQuery { token } => self.stop_query(token),
            NetworkCommand::StoreDhtRecord { key, value, lifetime } => self.store_dht(&key, value, lifetime),
            NetworkCommand::RemoveDhtRecord { key } => self.remove_dht(&key),
            // The caller executes the commands about everything else.
            _ => {}
        }
    }

    fn block(&mut self, peer: PeerId) {
        let behaviour: &mut Behaviour = self.swarm.behaviour_mut();
        behaviour.blocked.block_peer(peer);
        behaviour.kad.remove_peer(&peer);
        gossip::block(&mut behaviour.gossip, &peer);
    }

    fn unblock(&mut self, peer: PeerId) {
        let behaviour: &mut Behaviour = self.swarm.behaviour_mut();
        behaviour.blocked.unblock_peer(peer);
        gossip::unblock(&mut behaviour.gossip, &peer);
    }

    fn serve_dht(&mut self, serves: bool) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        kad.set_mode(Some(dht_mode(serves)));
        if !serves {
            kad.store_mut().clear_records_of_others();
        }
    }

    fn remove_dht(&mut self, key: &Bytes) {
        self.swarm.behaviour_mut().kad.remove_record(&key.to_vec().into());
    }

    fn listen(&mut self, port: u16) {
        let reports = match &self.listen_exactly {
            Some(addrs) => self.listeners.open_exactly(&mut self.swarm, addrs.clone()),
            None => self.listeners.open(&mut self.swarm, self.scope.listen_ips(), port),
        };
        self.inputs.extend(reports);
    }

    fn dial(&mut self, peer: PeerId, addrs: Vec<Multiaddr>) {
        let addrs = self.scope.select(addrs);
        if addrs.is_empty() {
            let reason = format!(
                "the peer has no address that this node may dial (address scope {}, --block-ip)",
                self.scope
            );
            self.inputs.push_back(Input::DialFailed { peer, reason });
            return;
        }
        let opts =
            DialOpts::peer_id(peer).condition(PeerCondition::DisconnectedAndNotDialing).addresses(addrs);
        let opts = match self.scope {
            // If two nodes dial each other at the same time from their listen ports, TCP merges the
            // two into one connection for which both sides act as the dialer.
            AddressScope::Loopback => opts.allocate_new_port(),
            // Behind NAT the peer then sees the address through which others reach the listen port.
            AddressScope::Private | AddressScope::Public => opts,
        };
        match self.swarm.dial(opts.build()) {
            Ok(()) => {
                self.dials.insert(peer);
            }
            // Kademlia may already be dialling the peer; its result counts as well.
            Err(DialError::DialPeerConditionFalse(_)) if !self.swarm.is_connected(&peer) => {
                self.dials.insert(peer);
            }
            Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) => self.inputs.push_back(Input::DialFailed { peer, reason: error.to_string() }),
        }
    }

    /// Dials an address of an unknown peer. The core learns of the connection only.
    fn dial_addr(&mut self, addr: Multiaddr) {
        if !self.scope.permits(&addr) {
            return;
        }
        let opts = DialOpts::unknown_peer_id().address(addr).allocate_new_port().build();
        if let Err(error) = self.swarm.dial(opts) {
            tracing::debug!(%error, "dialling an address of a DNS seed failed");
        }
    }

    fn send_admission(&mut self, token: Token, peer: PeerId, body: Bytes) {
        // Checks the connection first: libp2p would dial a peer that is not connected.
        let admission = &mut self.swarm.behaviour_mut().admission;
        if admission.is_connected(&peer) {
            self.admissions.insert(admission.send_request(&peer, body), (peer, token));
        } else {
            let outcome = Err("not connected".to_owned());
            self.inputs.push_back(Input::AdmissionResponseReceived { token, peer, outcome });
        }
    }

    fn send_find(&mut self, token: Token, peer: &PeerId, body: Bytes) {
        // Checks the connection first: libp2p would dial a peer that is not connected.
        let find = &mut self.swarm.behaviour_mut().find;
        if find.is_connected(peer) {
            self.finds.insert(find.send_request(peer, body), token);
        } else {
            let outcome = Err("not connected".to_owned());
            self.inputs.push_back(Input::FindResponseReceived { token, outcome });
        }
    }

    fn answer_find(&mut self, token: Token, body: Bytes) {
        if let Some(channel) = self.find_requests.take(token) {
            // Fails only if the peer has disconnected.
            let _ = self.swarm.behaviour_mut().find.send_response(channel, body);
        }
    }

    fn send_mail(&mut self, token: Token, peer: PeerId, frame: Bytes) {
        let refusal = if self.mail_sent >= MAX_MAIL_SENT {
            "too many mail frames are in flight"
        } else if !self.swarm.behaviour().mail.send(&peer, token, frame) {
            "not connected"
        } else {
            self.mail_sent += 1;
            return;
        };
        self.inputs.push_back(Input::MailResponseReceived { token, outcome: Err(refusal.to_owned()) });
    }

    fn publish(&mut self, topic: &str, data: Bytes) -> PublishOutcome {
        let topic = self.topic(topic);
        match self.swarm.behaviour_mut().gossip.publish(topic, data) {
            Ok(_) => PublishOutcome::Sent,
            Err(PublishError::NoPeersSubscribedToTopic) => PublishOutcome::NoPeers,
            Err(PublishError::AllQueuesFull(_)) => PublishOutcome::QueuesFull,
            Err(PublishError::Duplicate) => PublishOutcome::Duplicate,
            Err(PublishError::MessageTooLarge) => PublishOutcome::TooLarge,
            Err(error @ (PublishError::SigningError(_) | PublishError::TransformFailed(_))) => {
                tracing::error!(%error, "publishing failed with an error that this configuration excludes");
                PublishOutcome::NoPeers
            }
        }
    }

    fn report_validation(&mut self, token: Token, verdict: Verdict) {
        let Some((id, from)) = self.gossip_unvalidated.take(token) else { return };
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        self.swarm.behaviour_mut().gossip.report_message_validation_result(&id, &from, acceptance);
    }

    fn put_record(&mut self, key: &Bytes, value: Bytes, lifetime: Duration) {
        let record = dht_store::record(key, value, lifetime);
        if let Err(error) = self.swarm.behaviour_mut().kad.put_record(record, Quorum::One) {
            tracing::warn!(%error, "storing our own record for the DHT failed");
            self.inputs.push_back(Input::RecordPut { stored: false });
        }
    }

    fn store_dht(&mut self, key: &Bytes, value: Bytes, lifetime: Duration) {
        let record = dht_store::record(key, value, lifetime);
        if let Err(error) = self.swarm.behaviour_mut().kad.store_mut().put(record) {
            self.inputs.push_back(Input::Dropped { what: DropKind::DhtRecord, number: 1 });
            tracing::debug!(%error, "storing a record for the DHT failed");
        }
    }

    fn stop_query(&mut self, token: Token) {
        let query = self.queries.iter().find(|(_, asked)| **asked == token).map(|(query, _)| *query);
        if let Some(query) = query
            && let Some(mut query) = self.swarm.behaviour_mut().kad.query_mut(&query)
        {
            query.finish();
        }
    }

    fn get_record(&mut self, token: Token, key: &Bytes) {
        if self.queries.len() >= MAX_QUERIES {
            self.inputs.push_back(Input::QueryEnded { token });
            return;
        }
        let query = self.swarm.behaviour_mut().kad.get_record(RecordKey::new(key));
        self.queries.insert(query, token);
    }

    fn topic(&self, name: &str) -> IdentTopic {
        IdentTopic::new(format!("{}{name}", self.names.topic_prefix))
    }
}
