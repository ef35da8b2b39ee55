//! Test nodes, each in its own task.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use p2p_node::io::byte_streams::Streams;
use p2p_node::io::swarm::{AddressScope, DEFAULT_CONNECTION_TIMEOUT, SwarmConfig, SwarmDriver};
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::{DropKind, Input, PublishOutcome, Token};
use p2p_node_core::local::addresses::Reachability;
use p2p_node_protocol::Role;
use tokio::sync::mpsc;

/// Timeout of all waits.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A node in its own task.
pub struct Node {
    pub peer: PeerId,
    /// Batches of commands. The node executes a batch without interruption.
    commands: mpsc::Sender<Vec<NetworkCommand>>,
    inputs: mpsc::Receiver<Input>,
    /// Inputs that were received and not matched yet.
    earlier: VecDeque<Input>,
    pub addrs: Vec<Multiaddr>,
    /// The streams of files, until a test takes them.
    #[allow(dead_code, reason = "other tests use them")]
    pub streams: Option<Streams>,
}

pub fn config(number: u8, role: Role) -> SwarmConfig {
    SwarmConfig {
        // For tests only: a public key seed.
        seed: [number; 32].into(),
        network: "dev".to_owned(),
        scope: AddressScope::Loopback,
        address_rules: Default::default(),
        serves_dht: role == Role::Bootstrap,
        dns_server: None,
        listen: None,
        reachability: Reachability::Reachable,
        relay_bytes: None,
        upnp: false,
        mdns: false,
        max_connections: 50,
        max_handshakes: 64,
        connections_per_address: 3,
        connection_timeout: DEFAULT_CONNECTION_TIMEOUT,
        agent_version: "p2p-node/test".to_owned(),
    }
}

impl Node {
    pub fn start(config: SwarmConfig) -> Self {
        let mut driver = SwarmDriver::new(config).unwrap();
        let peer = driver.peer_id();
        let streams = driver.take_file_streams();
        let (commands, mut command_receiver) = mpsc::channel::<Vec<NetworkCommand>>(16);
        let (sender, inputs) = mpsc::channel(1 << 16);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    batch = command_receiver.recv() => match batch {
                        Some(commands) => commands.into_iter().for_each(|command| driver.apply(command)),
                        None => return driver.close().await,
                    },
                    input = driver.next() => sender.send(input).await.unwrap_or_default(),
                }
            }
        });
        Self { peer, commands, inputs, earlier: VecDeque::new(), addrs: Vec::new(), streams }
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

    pub async fn apply(&self, command: NetworkCommand) {
        self.apply_all(vec![command]).await;
    }

    pub async fn apply_all(&self, commands: Vec<NetworkCommand>) {
        self.commands.send(commands).await.unwrap_or_else(|_| panic!("the node has ended"));
    }

    /// Returns how many inputs of a kind the driver has dropped so far.
    pub fn dropped(&mut self, kind: DropKind) -> u64 {
        self.has(|_| false);
        let number = |input: &Input| match input {
            Input::Dropped { what, number } if *what == kind => *number,
            _ => 0,
        };
        self.earlier.iter().map(number).sum()
    }

    /// Takes the first input for which `kind` returns a value; the others stay.
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
        match tokio::time::timeout(TIMEOUT, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("no {what}; instead {:?}", self.earlier),
        }
    }

    pub fn take_earlier<T>(&mut self, kind: impl Fn(&Input) -> Option<T>) -> Option<T> {
        let (at, found) = self.earlier.iter().enumerate().find_map(|(at, input)| Some((at, kind(input)?)))?;
        self.earlier.remove(at);
        Some(found)
    }

    /// Returns `true` if such an input was received and not taken.
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

    pub async fn mail_request(&mut self) -> (Token, PeerId, Bytes) {
        self.expect("mail", |input| match input {
            Input::MailRequestReceived { token, peer, frame } => Some((*token, *peer, frame.clone())),
            _ => None,
        })
        .await
    }

    pub async fn mail_response(&mut self) -> (Token, Result<Bytes, String>) {
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

    /// Subscribes and waits until the other node gets the subscription.
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

/// Returns two nodes, of which the first has dialled the second.
pub async fn pair() -> (Node, Node) {
    let mut a = Node::listening(config(1, Role::Full)).await;
    let mut b = Node::listening(config(2, Role::Full)).await;
    a.dial(&b).await;
    assert_eq!(a.connected().await, (b.peer, true));
    assert_eq!(b.connected().await, (a.peer, false));
    (a, b)
}
