//! A network in memory, for any number of cores and one clock.

mod dht;
mod gossip;
mod interpret;
pub mod links;
mod registry;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_core::client_id::ClientId;
use p2p_node_core::crypto_task::CryptoTask;
use p2p_node_core::effect::{ExitCode, Verdict};
use p2p_node_core::file_io::FileCommand;
use p2p_node_core::input::{Input, Token};
use p2p_node_protocol::Event;
use p2p_node_wire::time::Instant;

pub use dht::LookupResponse;
pub use gossip::{GossipMessage, message_hash};
pub use interpret::finish_write;
pub use links::{Link, Pair, Request, pair};
pub use registry::Registry;

use crate::store::Store;

/// The state of the network for one node.
#[derive(Debug)]
pub struct Endpoint {
    /// Peer id of the node.
    pub peer: PeerId,
    /// `true` if the node serves the DHT.
    pub serves: bool,
    /// Topics to which the node subscribes.
    pub topics: BTreeSet<String>,
    /// Connected nodes.
    pub neighbours: BTreeSet<usize>,
    /// Peers that the node refuses.
    pub blocked: BTreeSet<PeerId>,
    /// Records of its DHT server.
    pub records: BTreeMap<Bytes, Bytes>,
    /// Messages on their way to the node.
    pub arriving: BTreeMap<Token, GossipMessage>,
    /// Messages that have arrived and await the verdict.
    pub unvalidated: BTreeMap<Token, GossipMessage>,
    /// The store, which survives the process.
    pub store: Store,
    seen: HashMap<u64, Instant>,
}

impl Endpoint {
    /// Creates the endpoint of a node.
    #[must_use]
    pub fn new(peer: PeerId, serves: bool) -> Endpoint {
        Endpoint {
            peer,
            serves,
            topics: BTreeSet::new(),
            neighbours: BTreeSet::new(),
            blocked: BTreeSet::new(),
            records: BTreeMap::new(),
            arriving: BTreeMap::new(),
            unvalidated: BTreeMap::new(),
            store: Store::default(),
            seen: HashMap::new(),
        }
    }

    /// Drops all state of the process; the store survives.
    pub fn end_process(&mut self) {
        let store = std::mem::take(&mut self.store);
        *self = Endpoint { store, ..Endpoint::new(self.peer, self.serves) };
    }
}

/// Connections, requests and endpoints.
#[derive(Debug, Default)]
pub struct Network {
    /// The endpoint of each node.
    pub endpoints: Vec<Endpoint>,
    /// Open connections.
    pub links: BTreeMap<Pair, Link>,
    /// When both ends of each pair learned of the end of their last connection.
    ended: BTreeMap<Pair, [Instant; 2]>,
    /// The registry on the chain.
    pub registry: Registry,
    /// Commands of the nodes to their drivers of files. A test answers them.
    pub file_commands: Vec<(usize, FileCommand)>,
    requests: BTreeMap<Token, Request>,
    by_peer: HashMap<PeerId, usize>,
    tokens: Token,
    epochs: u64,
}

impl Network {
    /// Creates a network whose tokens follow the given one.
    #[must_use]
    pub fn new(first_token: Token) -> Network {
        Network { tokens: first_token, ..Network::default() }
    }

    /// Adds the next node. A later node with the same peer id takes the place of the earlier one.
    pub fn add(&mut self, endpoint: Endpoint) {
        self.by_peer.insert(endpoint.peer, self.endpoints.len());
        self.endpoints.push(endpoint);
    }

    /// Returns a new token.
    pub fn token(&mut self) -> Token {
        self.tokens += 1;
        self.tokens
    }

    /// Returns the node with a peer id.
    #[must_use]
    pub fn by_peer(&self, peer: &PeerId) -> Option<usize> {
        self.by_peer.get(peer).copied()
    }

    /// Returns `true` if one of two nodes refuses the other.
    #[must_use]
    pub fn is_blocked(&self, one: usize, other: usize) -> bool {
        let (here, there) = (&self.endpoints[one], &self.endpoints[other]);
        here.blocked.contains(&there.peer) || there.blocked.contains(&here.peer)
    }

    /// Returns `true` if the same connection of two nodes is still open.
    #[must_use]
    pub fn is_open(&self, pair: Pair, epoch: u64) -> bool {
        self.links.get(&pair).is_some_and(|link| link.epoch() == epoch)
    }
}

/// An event that is scheduled for later.
#[derive(Debug)]
pub enum Delivery {
    /// An input. It is dropped if the process of the node has ended, or the connection over which
    /// the input comes.
    Input {
        /// The node.
        node: usize,
        /// Process of the node.
        life: u32,
        /// The connection and its epoch.
        over: Option<(Pair, u64)>,
        /// The input.
        input: Input,
    },
    /// The end of a dial.
    Dialled {
        /// The node that dials.
        from: usize,
        /// Process of the node.
        life: u32,
        /// The peer that it dials.
        peer: PeerId,
        /// The node that it reaches.
        to: Option<usize>,
    },
    /// The timeout of a request.
    Overdue(Token),
    /// A response.
    Answered {
        /// Token of the request.
        asked: Token,
        /// The response.
        body: Bytes,
    },
}

impl Delivery {
    /// Returns the node whose machine must run for the delivery.
    #[must_use]
    pub fn node(&self) -> Option<usize> {
        match self {
            Delivery::Input { node, .. } | Delivery::Dialled { from: node, .. } => Some(*node),
            Delivery::Overdue(_) | Delivery::Answered { .. } => None,
        }
    }
}

/// The outcome of a disk write.
#[derive(Debug)]
pub struct WriteOutcome {
    /// Time of the write.
    pub delay: Duration,
    /// Reason of the failure, or `None`.
    pub error: Option<String>,
}

/// A world of cores that a [`Network`] connects. The methods with a body are the hooks for faults;
/// their defaults are a network without latency in which nothing fails.
pub trait World: Sized {
    /// The network.
    fn network(&self) -> &Network;
    /// The network.
    fn network_mut(&mut self) -> &mut Network;
    /// The time.
    fn now(&self) -> Instant;
    /// Schedules a delivery, which is then passed to [`deliver`](links::deliver).
    fn schedule(&mut self, at: Instant, delivery: Delivery);
    /// Passes an input to a running core.
    fn input(&mut self, node: usize, input: Input);
    /// Returns `true` if a process runs.
    fn is_up(&self, node: usize) -> bool;
    /// Passes a line to the parent.
    fn on_emit(&mut self, node: usize, event: Event, numbered: bool);
    /// Passes a line to an attached client.
    fn on_attached_line(&mut self, _node: usize, _client: ClientId, _event: Event, _numbered: bool) {}
    /// Closes the connection of an attached client.
    fn on_client_closed(&mut self, _node: usize, _client: ClientId) {}
    /// Ends a process.
    fn on_exit(&mut self, node: usize, code: ExitCode);
    /// Runs a task, and returns its time and result.
    fn run_task(&mut self, node: usize, task: CryptoTask) -> (Duration, Input);
    /// Reports a property that does not hold.
    fn violated(&mut self, property: &'static str, node: usize, what: String);
    /// The address on which a node listens.
    fn listen_addr(&self, node: usize) -> Multiaddr;

    /// Number of the process of a node.
    fn life(&self, _node: usize) -> u32 {
        0
    }
    /// The node that a dial reaches.
    fn route(&self, peer: &PeerId, _addrs: &[Multiaddr]) -> Option<usize> {
        self.network().by_peer(peer).filter(|node| self.is_up(*node))
    }
    /// Returns `true` if a partition lies between two nodes.
    fn is_cut(&self, _pair: Pair) -> bool {
        false
    }
    /// Returns `true` if the machine of a node is suspended.
    fn is_suspended(&self, _node: usize) -> bool {
        false
    }
    /// Delays a delivery to a suspended machine.
    fn defer_delivery(&mut self, _node: usize, _delivery: Delivery) {}
    /// Delay of a delivery.
    fn latency(&mut self) -> Duration {
        Duration::ZERO
    }
    /// Decides if a message is lost.
    fn is_lost(&mut self) -> bool {
        false
    }
    /// Decides if a request arrives twice.
    fn is_repeated(&mut self) -> bool {
        false
    }
    /// Decides if an input is lost when it arrives.
    fn is_lost_on_arrival(&mut self, _node: usize, _input: &Input) -> bool {
        false
    }
    /// Called when a node sends a mail frame.
    fn on_mail(&mut self, _from: usize, _to: usize, _frame: &Bytes) {}
    /// Called when a node answers a request that no node of this network sent.
    fn on_stray_answer(&mut self, _node: usize, _token: Token, _body: Bytes) {}
    /// Called when a node sends a step of admission to a peer that is no node of this network. Returns
    /// `true` if the test answers it.
    fn on_stray_step(&mut self, _node: usize, _token: Token, _peer: PeerId, _body: &Bytes) -> bool {
        false
    }
    /// May replace the response to a mail frame.
    fn alter_answer(&mut self, _node: usize, body: Bytes) -> Bytes {
        body
    }
    /// Decides if a core's request to disconnect a peer is executed.
    fn disconnects(&mut self, _node: usize, _peer: PeerId) -> bool {
        true
    }
    /// Called when a node publishes data that some peer receives.
    fn on_publish(&mut self, _topic: &str, _data: &Bytes) {}
    /// Number of peers to which a node forwards gossip.
    fn fan_out(&self) -> usize {
        usize::MAX
    }
    /// Picks one of `number` peers.
    fn pick(&mut self, _number: usize) -> usize {
        0
    }
    /// Delay of gossip, or `None` if it is lost.
    fn gossip_delay(&mut self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
    /// Called when a core gives a verdict.
    fn on_verdict(&mut self, _node: usize, _token: Token, _verdict: Verdict, _message: &GossipMessage) {}
    /// Called when a node puts a record.
    fn on_put(&mut self, _node: usize, _key: &Bytes, _value: &Bytes) {}
    /// Returns a server's response to a lookup.
    fn look_up(&mut self, server: usize, key: &Bytes) -> LookupResponse {
        self.network().endpoints[server].records.get(key).cloned().into()
    }
    /// Returns the outcome of a disk write; `None` if the test delays the write.
    fn write(&mut self, _node: usize, _number: u64) -> Option<WriteOutcome> {
        Some(WriteOutcome { delay: Duration::ZERO, error: None })
    }
}
