//! Test peer that sends arbitrary data over every protocol of a node.

use bytes::Bytes;
use p2p_node::io::swarm::SwarmConfig;
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::{Input, PublishOutcome};
use p2p_node_protocol::Role;
use p2p_node_wire::envelope::{Batch, Hello, MailResponse, Response, WIRE_VERSION};
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
    /// The KEM key of the real node, once requested.
    pub kem: Option<Kem>,
}

impl Hostile {
    /// Starts a peer that listens, and serves the DHT if it is a bootstrap node.
    pub async fn start(forger: Forger, role: Role) -> Self {
        let config = SwarmConfig { seed: forger.node.seed(), ..config(0, role) };
        let node = Node::listening(config).await;
        Hostile { forger, node, tokens: 0, kem: None }
    }

    /// Starts a peer, connects it and waits for the real node's subscriptions.
    pub async fn join(forger: Forger, real: &Real) -> Self {
        let mut hostile = Hostile::start(forger, Role::Full).await;
        hostile.connect(real).await;
        hostile
    }

    pub async fn connect(&mut self, real: &Real) {
        let peer = real.peer();
        self.node.apply(NetworkCommand::Dial { peer, addrs: real.addrs() }).await;
        self.node
            .expect("connection", |input| {
                matches!(input, Input::Connected { peer: other, .. } if *other == peer).then_some(())
            })
            .await;
        for topic in TOPICS {
            self.subscribed(real, topic).await;
        }
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
        if self.kem.is_none() {
            // The node answers every hello; one of another network has no other effect.
            let hello = self
                .hello_as(real, Bytes::from_static(b"?"), |hello| hello.network = "other".to_owned())
                .await;
            let record = SignedRecord::decode(Hello::decode(hello).unwrap().record).unwrap();
            self.kem = record.record.kem;
        }
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

    /// Sends a hello with this record and waits for the response.
    pub async fn hello(&mut self, real: &Real, record: Bytes) {
        self.hello_as(real, record, |_| {}).await;
    }

    pub async fn hello_as(&mut self, real: &Real, record: Bytes, change: impl FnOnce(&mut Hello)) -> Bytes {
        let mut hello = Hello {
            version: WIRE_VERSION,
            network: "dev".to_owned(),
            record,
            agent_version: "p2p-node/hostile".to_owned(),
            time_ms: 0,
        };
        change(&mut hello);
        self.node
            .apply(NetworkCommand::SendHello { peer: real.peer(), body: hello.encode_to_vec().into() })
            .await;
        self.node
            .expect("hello", |input| match input {
                Input::HelloResponseReceived { body, .. } => Some(body.clone()),
                _ => None,
            })
            .await
    }

    /// Puts a value to the known DHT servers.
    pub async fn put(&mut self, key: Bytes, value: Bytes) -> bool {
        let lifetime = Duration::from_secs(3600);
        self.node.apply(NetworkCommand::PutRecord { key, value, lifetime }).await;
        self.node
            .expect("end of put", |input| match input {
                Input::RecordPut { stored } => Some(*stored),
                _ => None,
            })
            .await
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

/// Returns the TCP address of a peer with its PeerId.
pub fn entry(hostile: &Hostile) -> String {
    let tcp = hostile.node.addrs.iter().find(|addr| addr.to_string().contains("/tcp/")).unwrap();
    format!("{tcp}/p2p/{}", hostile.node.peer)
}
