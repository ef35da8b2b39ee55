//! Test nodes, each in its own task.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use p2p_node::io::swarm::{AddressScope, SwarmConfig, SwarmDriver};
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::{DropKind, Input, PublishOutcome, Token};
use p2p_node_protocol::Role;
use tokio::sync::mpsc;

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node in a task of its own.
pub struct Node {
    pub peer: PeerId,
    /// What the node is to do: all of one order before anything else happens.
    orders: mpsc::Sender<Vec<NetworkCommand>>,
    inputs: mpsc::Receiver<Input>,
    /// Came before what was waited for.
    earlier: VecDeque<Input>,
    pub addrs: Vec<Multiaddr>,
}

pub fn config(number: u8, role: Role) -> SwarmConfig {
    SwarmConfig {
        // A key for tests: everyone knows it.
        seed: [number; 32].into(),
        network: "dev".to_owned(),
        scope: AddressScope::Loopback,
        role,
        listen: None,
        max_connections: 50,
        agent_version: "p2p-node/test".to_owned(),
    }
}

impl Node {
    pub fn start(config: SwarmConfig) -> Self {
        let mut net = SwarmDriver::new(config).unwrap();
        let peer = net.peer_id();
        let (orders, mut ordered) = mpsc::channel::<Vec<NetworkCommand>>(16);
        let (told, inputs) = mpsc::channel(1 << 16);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    order = ordered.recv() => match order {
                        Some(effects) => effects.into_iter().for_each(|effect| net.apply(effect)),
                        None => return net.close().await,
                    },
                    input = net.next() => told.send(input).await.unwrap_or_default(),
                }
            }
        });
        Self { peer, orders, inputs, earlier: VecDeque::new(), addrs: Vec::new() }
    }

    pub async fn listening(config: SwarmConfig) -> Self {
        let mut node = Self::start(config);
        node.apply(NetworkCommand::Listen { port: 0 }).await;
        node.addrs = node
            .expect("listening", |input| match input {
                Input::Listening { addrs } => Some(addrs.clone()),
                _ => None,
            })
            .await;
        node
    }

    pub async fn apply(&self, effect: NetworkCommand) {
        self.apply_all(vec![effect]).await;
    }

    pub async fn apply_all(&self, effects: Vec<NetworkCommand>) {
        self.orders.send(effects).await.unwrap_or_else(|_| panic!("the node has ended"));
    }

    /// How much of a kind it has lost by now.
    pub fn lost(&mut self, loss: DropKind) -> u64 {
        self.has(|_| false);
        let number = |input: &Input| match input {
            Input::Dropped { what, number } if *what == loss => *number,
            _ => 0,
        };
        self.earlier.iter().map(number).sum()
    }

    /// The first input, of those not taken yet, that is of the kind; the others stay.
    pub async fn expect<T>(&mut self, what: &str, kind: impl Fn(&Input) -> Option<T>) -> T {
        if let Some(found) = self.take_earlier(&kind) {
            return found;
        }
        let waiting = async {
            loop {
                let input = self.inputs.recv().await.expect("the node runs");
                match kind(&input) {
                    Some(found) => return found,
                    None => self.earlier.push_back(input),
                }
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("no {what}; instead {:?}", self.earlier),
        }
    }

    pub fn take_earlier<T>(&mut self, kind: impl Fn(&Input) -> Option<T>) -> Option<T> {
        let (at, found) = self.earlier.iter().enumerate().find_map(|(at, input)| Some((at, kind(input)?)))?;
        self.earlier.remove(at);
        Some(found)
    }

    /// Whether such an input has come by now and was not taken.
    pub fn has(&mut self, kind: impl Fn(&Input) -> bool) -> bool {
        while let Ok(input) = self.inputs.try_recv() {
            self.earlier.push_back(input);
        }
        self.earlier.iter().any(kind)
    }

    pub async fn dial(&self, other: &Node) {
        self.apply(NetworkCommand::Dial { peer: other.peer, addrs: other.addrs.clone() }).await;
    }

    pub async fn connected(&mut self) -> (PeerId, bool) {
        self.expect("connection", |input| match input {
            Input::Connected { peer, dialer } => Some((*peer, *dialer)),
            _ => None,
        })
        .await
    }

    pub async fn mail_asked(&mut self) -> (Token, PeerId, Bytes) {
        self.expect("mail", |input| match input {
            Input::MailRequestReceived { token, peer, frame } => Some((*token, *peer, frame.clone())),
            _ => None,
        })
        .await
    }

    pub async fn mail_answered(&mut self) -> (Token, Result<Bytes, String>) {
        self.expect("answer", |input| match input {
            Input::MailResponseReceived { token, outcome } => Some((*token, outcome.clone())),
            _ => None,
        })
        .await
    }

    pub async fn gossip(&mut self) -> (Token, PeerId, Bytes) {
        self.expect("gossip", |input| match input {
            Input::Gossip { token, from, topic, data } => {
                assert_eq!(topic, "news");
                Some((*token, *from, data.clone()))
            }
            _ => None,
        })
        .await
    }

    pub async fn published(&mut self) -> PublishOutcome {
        self.expect("publication", |input| match input {
            Input::Published { outcome, .. } => Some(*outcome),
            _ => None,
        })
        .await
    }

    pub async fn dial_failed(&mut self) -> (PeerId, String) {
        self.expect("failed dial", |input| match input {
            Input::DialFailed { peer, reason } => Some((*peer, reason.clone())),
            _ => None,
        })
        .await
    }

    /// Subscribes and waits until the other knows.
    pub async fn subscribe(&self, other: &mut Node) {
        self.apply(NetworkCommand::Subscribe { topic: "news".to_owned() }).await;
        let subscriber = self.peer;
        other
            .expect("subscription", |input| match input {
                Input::PeerSubscribed { peer, topic } => {
                    (*peer == subscriber && topic == "news").then_some(())
                }
                _ => None,
            })
            .await;
    }

    pub async fn publish(&mut self, data: &'static [u8]) -> PublishOutcome {
        let data = Bytes::from_static(data);
        self.apply(NetworkCommand::Publish { token: 0, topic: "news".to_owned(), data }).await;
        self.published().await
    }
}

pub fn mail(token: Token, to: &Node, frame: impl Into<Bytes>) -> NetworkCommand {
    NetworkCommand::SendMail { token, peer: to.peer, frame: frame.into() }
}

/// Two nodes, the first of which has dialled the second.
pub async fn pair() -> (Node, Node) {
    let mut a = Node::listening(config(1, Role::Full)).await;
    let mut b = Node::listening(config(2, Role::Full)).await;
    a.dial(&b).await;
    assert_eq!(a.connected().await, (b.peer, true));
    assert_eq!(b.connected().await, (a.peer, false));
    (a, b)
}
