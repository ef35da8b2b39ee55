//! Test peer that sends arbitrary data over every protocol of a node.

use bytes::Bytes;
use libp2p::PeerId;
use p2p_node::io::swarm::SwarmConfig;
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::{Input, PublishOutcome, Token};
use p2p_node_protocol::Role;
use p2p_node_testing::forged;
pub use p2p_node_testing::forged::{NONCE, introduction};
use p2p_node_wire::envelope::{
    Accepted, Admission, Batch, Challenge, Connect, Handshake, MailResponse, Response, Side, SignedResponse,
    Step, strict_decode,
};
use p2p_node_wire::record::{Kem, SignedRecord};
use prost::Message as _;
use std::time::Duration;

use crate::fixture::Real;
use crate::forge::{Forger, SIGNATURE};
use crate::node::{Node, config};

const TOPICS: [&str; 2] = ["agent-announcements", "agent-messages"];

pub struct Hostile {
    pub forger: Forger,
    pub node: Node,
    tokens: u64,
    /// The KEM key of the real node, once it has introduced itself.
    pub kem: Option<Kem>,
}

impl Hostile {
    /// Starts a peer that listens, subscribes to the topics of nodes, and serves the DHT if it is a bootstrap
    /// node. A node disconnects admitted peers that subscribe to nothing.
    pub async fn start(forger: Forger, role: Role) -> Self {
        let config = SwarmConfig { seed: forger.node.seed(), ..config(0, role) };
        let node = Node::listening(config).await;
        let subscribe = |topic: &str| NetworkCommand::Subscribe { topic: topic.to_owned() };
        node.apply_all(TOPICS.map(subscribe).into()).await;
        Hostile { forger, node, tokens: 0, kem: None }
    }

    /// Starts a peer, connects it, completes its admission and waits for the real node's subscriptions.
    /// The peer is admitted with a record that is older than those of the tests.
    pub async fn join(forger: Forger, real: &Real) -> Self {
        let mut hostile = Hostile::start(forger, Role::Full).await;
        hostile.connect(real).await;
        let address = hostile.forger.address();
        real.child.expect("the record of the peer", |event| {
            event["type"] == "peer_discovered" && event["address"] == address.as_str()
        });
        for topic in TOPICS {
            hostile.subscribed(real, topic).await;
        }
        hostile
    }

    /// Connects the peer and completes its admission.
    pub async fn connect(&mut self, real: &Real) {
        self.dial(real).await;
        let record = self.forger.early_record();
        assert_eq!(self.admit(real, record).await, Step::Accepted(Accepted {}));
    }

    /// Connects the peer, without its admission.
    pub async fn dial(&mut self, real: &Real) {
        let peer = real.peer();
        self.node.apply(NetworkCommand::Dial { peer, addrs: real.addrs() }).await;
        self.node
            .expect("connection", |input| {
                matches!(input, Input::Connected { peer: other, .. } if *other == peer).then_some(())
            })
            .await;
    }

    /// Waits for a subscription of the real node.
    pub async fn subscribed(&mut self, real: &Real, topic_name: &str) {
        let other = real.peer();
        self.node
            .expect(topic_name, |input| match input {
                Input::PeerSubscribed { peer, topic } => {
                    (*peer == other && topic == topic_name).then_some(())
                }
                _ => None,
            })
            .await;
    }

    /// Waits until the real node serves the DHT for this peer.
    pub async fn served_by(&mut self, real: &Real) {
        let server = real.peer();
        let addrs = self
            .node
            .expect("server", |input| match input {
                Input::DhtMode { peer, serves: true, addrs } if *peer == server => Some(addrs.clone()),
                _ => None,
            })
            .await;
        self.node.apply(NetworkCommand::AddServer { peer: server, addrs }).await;
    }

    /// Sends a frame by mail, without its signature, and returns the response, if any.
    pub async fn mail(&mut self, real: &Real, frame: Bytes) -> Option<Response> {
        let frame = frame.slice(SIGNATURE.min(frame.len())..);
        self.tokens += 1;
        let token = self.tokens;
        self.node.apply(NetworkCommand::SendMail { token, peer: real.peer(), frame }).await;
        let answer = self
            .node
            .expect("answer", |input| match input {
                Input::MailResponseReceived { token: other, outcome } if *other == token => {
                    Some(outcome.clone())
                }
                _ => None,
            })
            .await;
        MailResponse::decode(answer.ok()?).unwrap().response
    }

    /// Seals a mail frame to the real node.
    pub async fn seal(&mut self, real: &Real, frame: Bytes) -> Bytes {
        self.seal_as(real, frame, |batch| batch.encode_to_vec()).await
    }

    /// As `seal`, with another encoding of the batch.
    pub async fn seal_as(
        &mut self,
        real: &Real,
        frame: Bytes,
        encode: impl FnOnce(&Batch) -> Vec<u8>,
    ) -> Bytes {
        self.tokens += 1;
        let recipient = real.address().parse().unwrap();
        self.forger.seal_as(&frame, recipient, self.kem.as_ref().unwrap(), self.tokens, encode)
    }

    /// Seals and sends a mail frame.
    pub async fn sealed_mail(&mut self, real: &Real, frame: Bytes) -> Option<Response> {
        let frame = self.seal(real, frame).await;
        self.mail(real, frame).await
    }

    /// Sends a mail frame that must be refused, and returns the code.
    pub async fn refused_mail(&mut self, real: &Real, frame: Bytes) -> String {
        match self.mail(real, frame).await {
            Some(Response::Refused(refused)) => refused.code,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub async fn publish(&mut self, topic: &str, data: Bytes) -> PublishOutcome {
        self.node.apply(NetworkCommand::Publish { token: 0, topic: topic.to_owned(), data }).await;
        self.node.published().await
    }

    /// Completes an exchange with this record, and returns the last answer of the real node.
    pub async fn admit(&mut self, real: &Real, record: Bytes) -> Step {
        match self.step(real, Step::Connect(introduction(record))).await {
            Step::Challenge(challenge) => {
                let signature = signature(&self.forger, real.peer(), &challenge, |_| {});
                self.step(real, Step::SignedResponse(SignedResponse { signature })).await
            }
            refused => refused,
        }
    }

    /// Sends a step and returns the answer.
    pub async fn step(&mut self, real: &Real, step: Step) -> Step {
        self.step_as(real, Admission::encode(step)).await
    }

    /// Sends the bytes of a step and returns the answer.
    pub async fn step_as(&mut self, real: &Real, body: Bytes) -> Step {
        self.tokens += 1;
        let token = self.tokens;
        self.node.apply(NetworkCommand::SendAdmission { token, peer: real.peer(), body }).await;
        let body = self
            .node
            .expect("the answer to a step", |input| match input {
                Input::AdmissionResponseReceived { token: other, outcome, .. } if *other == token => {
                    Some(outcome.clone().unwrap())
                }
                _ => None,
            })
            .await;
        let answer = strict_decode::<Admission>(&body).unwrap().step.unwrap();
        if let Step::Challenge(challenge) = &answer {
            let record = challenge.responder.as_ref().unwrap().record.clone();
            self.kem = SignedRecord::decode(record).unwrap().record.kem;
        }
        answer
    }

    /// Waits for a step of the real node.
    pub async fn asked(&mut self) -> (Token, Step) {
        self.node
            .expect("a step", |input| match input {
                Input::AdmissionRequestReceived { token, body, .. } => {
                    Some((*token, strict_decode::<Admission>(body).unwrap().step.unwrap()))
                }
                _ => None,
            })
            .await
    }

    pub async fn answer(&mut self, token: Token, step: Step) {
        self.node.apply(NetworkCommand::AnswerAdmission { token, body: Admission::encode(step) }).await;
    }

    /// Returns the challenge of this peer to a node, with this record, signed by the peer.
    pub fn challenge(&self, initiator: PeerId, connect: &Connect, record: Bytes) -> Challenge {
        let key = &self.forger.node;
        let signature = forged::signature(Side::Responder, key, &initiator, &connect.nonce, |_| {});
        Challenge { responder: Some(introduction(record)), signature }
    }

    /// Answers the exchange that a real node begins, and returns what the node says of itself.
    pub async fn accept(&mut self, record: Bytes) -> Connect {
        let (token, Step::Connect(connect)) = self.asked().await else { panic!("no connect") };
        let initiator = SignedRecord::decode(connect.record.clone()).unwrap().peer_id();
        let challenge = self.challenge(initiator, &connect, record);
        self.answer(token, Step::Challenge(challenge)).await;
        let (token, Step::SignedResponse(_)) = self.asked().await else { panic!("no response") };
        self.answer(token, Step::Accepted(Accepted {})).await;
        connect
    }

    /// Puts a value to the known DHT servers.
    pub async fn put(&mut self, key: Bytes, value: Bytes) -> bool {
        self.put_all(key, vec![value]).await
    }

    /// Puts values to the known DHT servers at the same time. Returns `true` if a server answered each.
    pub async fn put_all(&mut self, key: Bytes, values: Vec<Bytes>) -> bool {
        let (number, lifetime) = (values.len(), Duration::from_secs(3600));
        let put = |value| NetworkCommand::PutRecord { key: key.clone(), value, lifetime };
        self.node.apply_all(values.into_iter().map(put).collect()).await;
        let mut are_stored = true;
        for _ in 0..number {
            are_stored &= self
                .node
                .expect("end of put", |input| match input {
                    Input::RecordPut { stored } => Some(*stored),
                    _ => None,
                })
                .await;
        }
        are_stored
    }

    /// Returns the values that the known DHT servers have under a key.
    pub async fn get(&mut self, key: Bytes) -> Vec<Bytes> {
        self.tokens += 1;
        let token = self.tokens;
        self.node.apply(NetworkCommand::GetRecord { token, key }).await;
        self.node
            .expect("end of query", |input| {
                matches!(input, Input::QueryEnded { token: other } if *other == token).then_some(())
            })
            .await;
        let mut found = Vec::new();
        while let Some(value) = self.node.take_earlier(|input| match input {
            Input::RecordFound { token: other, value, .. } if *other == token => Some(value.clone()),
            _ => None,
        }) {
            found.push(value);
        }
        found
    }
}

/// Returns the code of a rejection.
pub fn code(answer: Step) -> String {
    match answer {
        Step::Rejected(rejected) => rejected.code,
        other => panic!("not rejected: {other:?}"),
    }
}

/// Returns the signature of a peer over an exchange that it began, changed before it is signed.
pub fn signature(
    forger: &Forger,
    responder: PeerId,
    challenge: &Challenge,
    change: impl FnOnce(&mut Handshake<'_>),
) -> Bytes {
    let nonce = &challenge.responder.as_ref().unwrap().nonce;
    forged::signature(Side::Initiator, &forger.node, &responder, nonce, change)
}

/// Returns the TCP address of a peer with its PeerId.
pub fn entry(hostile: &Hostile) -> String {
    let tcp = hostile.node.addrs.iter().find(|addr| addr.to_string().contains("/tcp/")).unwrap();
    format!("{tcp}/p2p/{}", hostile.node.peer)
}
