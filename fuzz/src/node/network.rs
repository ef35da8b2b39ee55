//! Input from the network: of honest peers, and of hostile ones.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use p2p_node_core::input::{Input, PeerReport, PublishOutcome};
use p2p_node_core::{ANNOUNCEMENTS, MESSAGES};
use p2p_node_protocol::Role;
use p2p_node_wire::envelope::admission::NONCE_BYTES;
use p2p_node_wire::envelope::frame::FRAME_DOMAIN;
use p2p_node_wire::envelope::{
    Accepted, Admission, Batch, Busy, Challenge, Connect, FindAgents, FoundAgents, Handshake, KemUnknown,
    MailResponse, Payload, Refused, Rejected, Response, Scope, Session, Side, SignedResponse, Step,
    WIRE_VERSION,
};
use p2p_node_wire::identity::NodePublicKey;
use p2p_node_wire::identity::keys::SIGNATURE_BYTES;
use p2p_node_wire::record::{
    RECORD_DOMAIN, SignedRecord, WireRole, encode_topic_hashes, kad_key, topic_hash,
};
use p2p_node_wire::seal::kem::KemId;
use p2p_node_wire::seal::padding;
use p2p_node_wire::seal::session::OutboundSession;
use prost::Message as _;

use super::super::material::{
    NETWORK, OTHERS, PARTIES, TOPICS, ack, batch, corrupted, corrupted_unsigned, frame, party, record, sealed,
};
use super::super::source::Source;
use super::{MAX_TRACKED, World};

fn peer_report(source: &mut Source<'_>) -> PeerReport {
    match source.below(4) {
        0 => PeerReport::LinkOpened {
            link: source.below(8) as u64,
            dialer: source.flag(),
            remote: format!("/ip4/10.{}.0.1/tcp/1", source.below(256)).parse().unwrap(),
        },
        1 => PeerReport::LinkClosed { link: source.below(8) as u64 },
        2 => PeerReport::RoundTrip(Duration::from_millis(16 * source.below(256) as u64)),
        _ => PeerReport::Slow,
    }
}

/// The nonce of every peer.
const NONCE: [u8; NONCE_BYTES] = [0x4e; NONCE_BYTES];

/// Returns what a node says of itself.
fn introduction(record: Bytes) -> Connect {
    let role = SignedRecord::decode(record.clone()).map_or(Role::Full, |signed| signed.record.role);
    let (role, nonce) = (WireRole::from(role).into(), Bytes::from_static(&NONCE));
    // A record that cannot be signed is empty, which no step can hold.
    let record = if record.is_empty() { Bytes::from_static(b"?") } else { record };
    Connect { network: NETWORK.to_owned(), record, nonce, role, ..Connect::default() }
}

/// Returns the signature of a party, with the role of its usual record, over its exchange with the core.
fn handshake(peer: &PeerId, nonce: &[u8], side: Side, who: usize) -> Bytes {
    let core = party(0).node.peer_id();
    let (initiator, responder) = if side == Side::Initiator { (peer, &core) } else { (&core, peer) };
    let (initiator_nonce, responder_nonce) =
        if side == Side::Initiator { (&NONCE[..], nonce) } else { (nonce, &NONCE[..]) };
    let exchange = Handshake { network: NETWORK, initiator, responder, initiator_nonce, responder_nonce };
    exchange.sign(side, Role::Full, &party(who).node)
}

/// Returns the challenge of a party to the core.
fn challenge(who: usize, record: Bytes, nonce: &[u8]) -> Step {
    let signature = handshake(&party(who).node.peer_id(), nonce, Side::Responder, who);
    Step::Challenge(Challenge { responder: Some(introduction(record)), signature })
}

impl World {
    pub(super) fn connection(&mut self, source: &mut Source<'_>) {
        let peer = peer(source);
        self.handle(match source.below(12) {
            0..=4 => Input::Connected { peer, dialer: source.flag() },
            5 => Input::Disconnected { peer, reason: source.optional(Source::text) },
            6 | 7 => Input::DialFailed { peer, reason: source.text() },
            8 => Input::PeerReport { peer, report: peer_report(source) },
            9 => Input::NetworkMismatch { peer, network: "other".to_owned() },
            _ => Input::DhtMode { peer, serves: true, addrs: Vec::new() },
        });
    }

    /// Connects an honest agent, with everything that mail and broadcasts to it need.
    pub(super) fn connect_honest_agent(&mut self, who: usize) {
        let peer = party(who).node.peer_id();
        self.handle(Input::Connected { peer, dialer: true });
        for topic in [TOPICS[0], MESSAGES, ANNOUNCEMENTS] {
            self.handle(Input::PeerSubscribed { peer, topic: topic.to_owned() });
        }
        // An empty source gives a record without faults.
        let record = record(&mut Source::new(&[]), who, self.now.unix_ms);
        for _ in 0..2 {
            let Some(at) = self.admissions.iter().rposition(|(_, asked, _)| *asked == peer) else { break };
            let (token, _, step) = self.admissions.remove(at);
            let answer = match step {
                Step::Connect(connect) => challenge(who, record.clone(), &connect.nonce),
                _ => Step::Accepted(Accepted {}),
            };
            let outcome = Ok(Admission::encode(answer));
            self.handle(Input::AdmissionResponseReceived { token, peer, outcome });
            self.settle();
        }
        self.handle(Input::DhtMode { peer, serves: true, addrs: Vec::new() });
        self.settle();
    }

    pub(super) fn subscription(&mut self, source: &mut Source<'_>) {
        let peer = peer(source);
        let topic = if source.byte() < 240 { source.pick(&TOPICS).to_owned() } else { source.text() };
        self.handle(match source.below(4) {
            0 => Input::PeerUnsubscribed { peer, topic },
            _ => Input::PeerSubscribed { peer, topic },
        });
    }

    fn record(&mut self, source: &mut Source<'_>) -> (usize, Bytes) {
        let from = 1 + source.below(PARTIES - 1);
        // A record of the node's own agent with a newer generation ends the node, so it is rare.
        let from = if from == PARTIES - 1 && source.byte() < 200 { 1 } else { from };
        let record = record(source, from, self.now.unix_ms);
        (from, corrupted(source, record, from, RECORD_DOMAIN))
    }

    /// A question for agents, or the answer to one.
    fn find(&mut self, source: &mut Source<'_>) {
        let peer = peer(source);
        if let Some(token) = chosen(source, &mut self.finds) {
            let records = source.list(3, |source| source.byte()).into_iter().map(|_| self.record(source).1);
            let found = FoundAgents {
                version: WIRE_VERSION,
                records: records.collect(),
                more: source.flag(),
                agents: source.number() as u32,
                servers: source.byte().into(),
                partial: source.flag(),
            };
            let outcome =
                if source.byte() < 240 { Ok(found.encode_to_vec().into()) } else { Err(source.text()) };
            return self.handle(Input::FindResponseReceived { token, outcome });
        }
        let hashes = BTreeSet::from_iter(source.list(3, |source| topic_hash(source.pick(&TOPICS))));
        let is_by_address = hashes.is_empty() && source.flag();
        let address = if is_by_address {
            Bytes::copy_from_slice(party(source.pick(&[0, 1, 2])).agent.address().as_slice())
        } else {
            Bytes::new()
        };
        let question = FindAgents {
            version: WIRE_VERSION,
            network: NETWORK.to_owned(),
            topic_hashes: encode_topic_hashes(&hashes.into_iter().collect::<Vec<_>>()),
            capability: String::new(),
            after: Bytes::new(),
            limit: if is_by_address { 1 } else { source.byte().into() },
            address,
            forward: is_by_address && source.flag(),
        };
        let (token, body) = (self.token(), question.encode_to_vec().into());
        self.handle(Input::FindRequestReceived { token, peer, body });
    }

    pub(super) fn admission(&mut self, source: &mut Source<'_>) {
        if source.byte() > 250 {
            return self.find(source);
        }
        let (from, record) = self.record(source);
        let peer = if source.byte() < 240 { party(from).node.peer_id() } else { peer(source) };
        let asked = chosen(source, &mut self.admissions);
        let step = self.step(source, from, record, asked.as_ref().map(|(_, _, step)| step));
        let body = Admission::encode(step);
        match asked {
            Some((token, peer, _)) => {
                let outcome = if source.byte() < 240 { Ok(body) } else { Err(source.text()) };
                self.handle(Input::AdmissionResponseReceived { token, peer, outcome });
            }
            None => {
                let token = self.token();
                self.ledger.admission_requested(token);
                self.handle(Input::AdmissionRequestReceived { token, peer, body });
            }
        }
    }

    /// A step that follows from the one that the node sent, or from its last challenge, or does not.
    fn step(&self, source: &mut Source<'_>, from: usize, record: Bytes, asked: Option<&Step>) -> Step {
        let connect = |source: &mut Source<'_>, record| Connect {
            network: if source.byte() < 250 { NETWORK } else { "other" }.to_owned(),
            agent_version: source.text(),
            time_ms: source.number(),
            ..introduction(record)
        };
        match (source.below(8), asked, &self.challenge) {
            (0, ..) => Step::Rejected(Rejected {
                code: source.pick(&["BUSY", "BLOCKED", "CLOCK_OUT_OF_RANGE", "FORGED"]).to_owned(),
                reason: source.text(),
                retry_after_ms: source.number(),
                time_ms: source.number(),
            }),
            (1, ..) => Step::Accepted(Accepted {}),
            (2.., Some(Step::Connect(asked)), _) => challenge(from, record, &asked.nonce),
            (2.., Some(_), _) => Step::Accepted(Accepted {}),
            (2..=4, None, Some(challenge)) => {
                let exchange =
                    handshake(&party(from).node.peer_id(), &challenge.nonce, Side::Initiator, from);
                Step::SignedResponse(SignedResponse { signature: exchange })
            }
            _ => Step::Connect(connect(source, record)),
        }
    }

    fn frame(&mut self, source: &mut Source<'_>, from: usize, scope: Scope) -> Bytes {
        let batch = batch(source, from, &self.streams);
        let payload = self.encrypt(source, from, &scope, batch);
        let frame = frame(source, from, scope, self.now.unix_ms, payload);
        corrupted(source, frame, from, FRAME_DOMAIN)
    }

    /// Seals most mail, and few broadcasts.
    fn encrypt(&mut self, source: &mut Source<'_>, from: usize, scope: &Scope, batch: Batch) -> Payload {
        let mail = matches!(scope, Scope::NodeKey(_));
        let content = padding::pad(batch.encode_to_vec());
        match source.below(8) {
            0 => Payload::Plain(batch),
            1 => Payload::Session(Session {
                id: source.chunk().iter().copied().chain([0]).take(32).collect(),
                counter: source.number(),
                ciphertext: content.into(),
            }),
            2 | 3 if mail => {
                let session = self.sessions.iter_mut().rev().find(|(party, _)| *party == from);
                let sealed = session.and_then(|(_, session)| session.seal(content));
                sealed.map_or(Payload::Plain(batch), Payload::Session)
            }
            _ if !mail && source.below(4) > 0 => Payload::Plain(batch),
            _ => {
                self.tokens += 1;
                let (payload, session) = sealed(from, &batch, self.tokens);
                let session =
                    OutboundSession::new(session, NodePublicKey([0; 32]), KemId([0; 16]), self.now.mono);
                self.sessions.push((from, session));
                if self.sessions.len() > MAX_TRACKED {
                    self.sessions.remove(0);
                }
                payload
            }
        }
    }

    pub(super) fn mail(&mut self, source: &mut Source<'_>) {
        let from = 1 + source.below(PARTIES - 1);
        let to = if source.byte() < 240 { 0 } else { from };
        let frame = self.frame(source, from, Scope::NodeKey(party(to).node.public().to_vec().into()));
        let peer = if source.byte() < 240 { party(from).node.peer_id() } else { peer(source) };
        self.request_mail(peer, frame);
    }

    fn request_mail(&mut self, peer: PeerId, frame: Bytes) {
        self.record_received(String::new(), frame.clone());
        let token = self.token();
        self.ledger.mail_requested(token);
        // A frame on a connection has no signature.
        let frame = frame.slice(SIGNATURE_BYTES.min(frame.len())..);
        self.handle(Input::MailRequestReceived { token, peer, frame });
    }

    pub(super) fn gossip(&mut self, source: &mut Source<'_>) {
        let topic_of_arrival = source.pick(&TOPICS);
        if topic_of_arrival == ANNOUNCEMENTS {
            let (_, data) = self.record(source);
            return self.receive_gossip(source, topic_of_arrival.to_owned(), data);
        }
        let from = source.below(PARTIES);
        let scope = match source.byte() {
            0..=99 if topic_of_arrival == MESSAGES => Scope::NodeKey(party(0).node.public().to_vec().into()),
            250.. => Scope::Topic("elsewhere".to_owned()),
            _ => Scope::Topic(topic_of_arrival.to_owned()),
        };
        let data = self.frame(source, from, scope);
        self.receive_gossip(source, topic_of_arrival.to_owned(), data);
    }

    fn receive_gossip(&mut self, source: &mut Source<'_>, topic: String, data: Bytes) {
        self.record_received(topic.clone(), data.clone());
        let token = self.token();
        self.ledger.gossip_received(token);
        self.handle(Input::Gossip { token, from: peer(source), topic, data });
    }

    fn record_received(&mut self, topic: String, data: Bytes) {
        if self.received.len() == MAX_TRACKED {
            self.received.remove(0);
        }
        self.received.push((topic, data));
    }

    /// Replays a message, on its route or another.
    pub(super) fn replay(&mut self, source: &mut Source<'_>) {
        if self.received.is_empty() {
            return;
        }
        let (topic, data) = self.received[source.below(self.received.len())].clone();
        match source.below(8) {
            0 => {
                let topic = source.pick(&TOPICS).to_owned();
                self.receive_gossip(source, topic, data)
            }
            1 => self.request_mail(peer(source), data),
            _ if topic.is_empty() => self.request_mail(peer(source), data),
            _ => self.receive_gossip(source, topic, data),
        }
    }

    pub(super) fn mail_response(&mut self, source: &mut Source<'_>) {
        let Some((token, peer)) = chosen(source, &mut self.mail_requests) else { return };
        let from = (1..=OTHERS).find(|index| party(*index).node.peer_id() == peer).unwrap_or(1);
        let response = match source.below(10) {
            0 => {
                let reason = "fuzz".to_owned();
                let code = source
                    .pick(&["CLOCK_OUT_OF_RANGE", "REPLAYED", "FORGED", "MESSAGE_TOO_LARGE", "x"])
                    .to_owned();
                Response::Refused(Refused { code, reason, time_ms: source.number() })
            }
            1 => Response::Busy(Busy { retry_after_ms: source.number() }),
            2 => Response::KemUnknown(KemUnknown { record: Bytes::copy_from_slice(source.chunk()) }),
            3 => {
                let outcome = Err(source.text());
                return self.handle(Input::MailResponseReceived { token, outcome });
            }
            _ => {
                let ack = ack(source, from, &self.streams);
                Response::Ack(corrupted_unsigned(source, ack))
            }
        };
        let body: Vec<u8> = MailResponse { response: Some(response) }.encode_to_vec();
        self.handle(Input::MailResponseReceived { token, outcome: Ok(body.into()) });
    }

    pub(super) fn published(&mut self, source: &mut Source<'_>) {
        use PublishOutcome::{Duplicate, NoPeers, QueuesFull, Sent, TooLarge};
        let Some(token) = chosen(source, &mut self.published) else { return };
        let outcome = source.pick(&[Sent, NoPeers, QueuesFull, Duplicate, TooLarge]);
        self.handle(Input::Published { token, outcome });
    }

    pub(super) fn dht(&mut self, source: &mut Source<'_>) {
        match source.below(6) {
            0 => self.handle(Input::RecordPut { stored: source.flag() }),
            1 => {
                let (from, value) = self.record(source);
                let whose = if source.byte() < 240 { from } else { source.below(PARTIES) };
                let key = kad_key(NETWORK, &party(whose).agent.address()).to_vec().into();
                self.handle(Input::RecordOffered { peer: peer(source), key, value });
            }
            2 | 3 => {
                let (_, value) = self.record(source);
                let index = source.below(self.queries.len().max(1));
                let token = self.queries.get(index).copied().unwrap_or_default();
                self.handle(Input::RecordFound { token, server: peer(source), value });
            }
            _ => {
                let token = chosen(source, &mut self.queries).unwrap_or_default();
                self.handle(Input::QueryEnded { token });
            }
        }
    }
}

fn peer(source: &mut Source<'_>) -> PeerId {
    party(1 + source.below(PARTIES - 1)).node.peer_id()
}

/// Removes and returns one of the waiting items.
pub(super) fn chosen<T>(source: &mut Source<'_>, waiting: &mut Vec<T>) -> Option<T> {
    (!waiting.is_empty()).then(|| waiting.swap_remove(source.below(waiting.len().min(256))))
}
