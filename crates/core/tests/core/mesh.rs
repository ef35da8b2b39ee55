//! Test harness: a few cores and the network between them, without sockets and with a manual clock.

pub mod clients;
mod effects;
mod links;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_core::client_id::ClientId;
use p2p_node_core::effect::{ExitCode, Verdict};
use p2p_node_core::file_io::FileCommand;
use p2p_node_core::input::{Input, Now, Token};
use p2p_node_core::local::dht_mode::DhtMode;
use p2p_node_core::{Core, CoreConfig};
use p2p_node_protocol::{Role, line};
use p2p_node_testing::config::config;
use p2p_node_testing::forged::plain_binding;
use p2p_node_testing::interpreter::Interpreter as _;
use p2p_node_testing::network::{Delivery, Endpoint, Network, Pair, Registry, links as connections};
use p2p_node_testing::store::Store;
use p2p_node_wire::identity::{AgentKey, Binding, NodeKey};
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::seal::suite::Suite;
use p2p_node_wire::time::Instant;
use serde_json::Value;

use clients::Attached;

/// Unix time at the start of a test, in ms.
pub const START_MS: u64 = 1_790_000_000_000;

/// First token that the network uses; the tests use smaller ones.
const FIRST_TOKEN: Token = 1 << 32;

/// First command of a parent.
pub const CONNECT: &str = r#"{"type":"connect","protocol":1,"id":"connect"}"#;

pub struct Node {
    pub core: Core,
    pub peer: PeerId,
    pub address: String,
    pub lines: Vec<Value>,
    /// Bytes of the longest line.
    pub longest_line: usize,
    pub exit: Option<ExitCode>,
    /// `true` if the parent reads its lines.
    pub reads: bool,
    unread: usize,
    verdicts: BTreeMap<Token, Verdict>,
    killed: bool,
    /// `true` while its machine is suspended: the node then gets no input and does nothing.
    pub suspended: bool,
    lost_peers: Vec<usize>,
}

/// Fate of an input on its way to a node.
pub enum FaultDecision {
    Deliver,
    Drop,
}

/// Decides about each input of each node.
pub type Faults = Box<dyn FnMut(usize, &Input) -> FaultDecision>;

pub struct Mesh {
    pub nodes: Vec<Node>,
    pub now: Instant,
    network: Network,
    wire: VecDeque<Delivery>,
    partitions: BTreeSet<Pair>,
    /// Mail frames in the order of sending: recipient, sender, frame.
    pub frames: Vec<(usize, PeerId, Bytes)>,
    /// Answers to requests of peers that are no nodes of the mesh.
    pub answers: Vec<(usize, Token, Bytes)>,
    /// Forged peers whose answers to steps of admission the test gives. Requests to others fail.
    pub forged: BTreeSet<PeerId>,
    /// Steps of nodes to these peers, with the token of each.
    pub steps: Vec<(Token, Bytes)>,
    /// Requests of nodes to disconnect a peer.
    pub disconnect_requests: Vec<(usize, PeerId)>,
    /// `true` if connections end when a node requests so.
    pub obeys_disconnects: bool,
    pub faults: Faults,
    /// Response to mail that replaces the real one, if any.
    pub forged_responses: Box<dyn FnMut(usize) -> Option<Bytes>>,
    /// How far ahead the wall clocks of nodes are, in ms. An entry may precede its node.
    pub ahead_ms: BTreeMap<usize, i64>,
    /// `true` if the crypto pool accepts tasks.
    pub crypto: bool,
    /// `true` if the stores commit their writes; otherwise the writes wait in `pending_writes`.
    pub disk_writes: bool,
    pub pending_writes: Vec<(usize, u64)>,
    /// `true` if writes fail for lack of space.
    pub disk_full: bool,
    /// The clients that attached, by node.
    pub clients: BTreeMap<(usize, ClientId), Attached>,
}

pub fn agent_key(number: u8) -> AgentKey {
    AgentKey::from_bytes(&[number; 32]).unwrap()
}

pub fn node_key(number: u8) -> NodeKey {
    NodeKey::derive(&[number; 32], "dev", "", 0)
}

pub fn binding(number: u8, generation: u64, node: &NodeKey) -> Binding {
    Binding { generation, ..plain_binding(&agent_key(number), node, START_MS / 1000) }
}

impl Mesh {
    /// Returns a mesh of this many nodes that are ready and do not know each other. Node 0 serves
    /// the DHT.
    pub fn new(number: u8) -> Mesh {
        let mut mesh = Mesh {
            nodes: Vec::new(),
            now: Instant::ZERO,
            network: Network::new(FIRST_TOKEN),
            wire: VecDeque::new(),
            partitions: BTreeSet::new(),
            frames: Vec::new(),
            answers: Vec::new(),
            forged: BTreeSet::new(),
            steps: Vec::new(),
            disconnect_requests: Vec::new(),
            obeys_disconnects: false,
            faults: Box::new(|_, _| FaultDecision::Deliver),
            forged_responses: Box::new(|_| None),
            ahead_ms: BTreeMap::new(),
            crypto: true,
            disk_writes: true,
            pending_writes: Vec::new(),
            disk_full: false,
            clients: BTreeMap::new(),
        };
        for index in 0..number {
            mesh.add(index + 1, if index == 0 { Role::Bootstrap } else { Role::Full });
        }
        mesh
    }

    pub fn clock(&self) -> Now {
        Now { mono: self.now, unix_ms: START_MS + self.now.since_start().as_millis() as u64 }
    }

    /// Returns the clocks of a node.
    pub fn clock_of(&self, node: usize) -> Now {
        let Now { mono, unix_ms } = self.clock();
        let ahead = self.ahead_ms.get(&node).copied().unwrap_or_default();
        Now { mono, unix_ms: unix_ms.saturating_add_signed(ahead) }
    }

    /// Adds a node with the key of `number` and waits until it is ready.
    pub fn add(&mut self, number: u8, role: Role) -> usize {
        self.add_with(number, role, CONNECT, |_| {})
    }

    /// As `add`, with this `connect` command and a changed configuration.
    pub fn add_with(
        &mut self,
        number: u8,
        role: Role,
        connect: &str,
        change: impl FnOnce(&mut CoreConfig),
    ) -> usize {
        let node = node_key(number);
        let agent = agent_key(number);
        let signed = agent.bind(binding(number, 0, &node)).unwrap();
        let mut config = CoreConfig {
            agent: Some(agent),
            name: format!("node {number}"),
            role,
            dht_mode: DhtMode::of(role),
            boot: u64::from(number) + self.nodes.len() as u64,
            database: [number ^ self.nodes.len() as u8; 16],
            kem_seed: [number; 32].into(),
            suite: Suite::ALL[usize::from(number % 2)],
            seed: u64::from(number),
            ..config(node, signed)
        };
        change(&mut config);
        let peer = config.node_key.peer_id();
        self.network.add(Endpoint::new(peer, role == Role::Bootstrap));
        let core = Core::new(config, self.clock_of(self.nodes.len()));
        self.nodes.push(Node {
            core,
            peer,
            address: agent_key(number).address().to_string(),
            lines: Vec::new(),
            longest_line: 0,
            exit: None,
            reads: true,
            unread: 0,
            verdicts: BTreeMap::new(),
            killed: false,
            suspended: false,
            lost_peers: Vec::new(),
        });
        let index = self.nodes.len() - 1;
        self.command(index, connect);
        index
    }

    /// Writes a command to a node and processes everything that follows from it.
    pub fn command(&mut self, node: usize, command: &str) {
        self.queue_command(node, command);
        self.settle();
    }

    /// Writes a command to a node without running its effects.
    pub fn queue_command(&mut self, node: usize, command: &str) {
        let request = line::decode_request(command.as_bytes()).unwrap();
        let now = self.clock_of(node);
        self.nodes[node].core.handle(Input::Command { client: ClientId::PARENT, request }, now);
    }

    /// Returns `true` if the node would read the next command of its parent.
    pub fn reads_stdin(&self, node: usize) -> bool {
        self.nodes[node].core.can_accept_command(ClientId::PARENT)
    }

    pub fn send(&mut self, from: usize, to: usize, data: u64, more: &str) {
        let command =
            format!(r#"{{"type":"send","peerId":"{}","data":{data}{more}}}"#, self.nodes[to].address);
        self.queue_command(from, &command);
    }

    /// Gives a node an input, as its network would, and processes everything that follows.
    pub fn input(&mut self, node: usize, input: Input) {
        connections::later(self, node, Duration::ZERO, input);
        self.settle();
    }

    /// Processes all deliveries and effects that are due at the current time.
    pub fn settle(&mut self) {
        for _ in 0..200_000 {
            let mut busy = false;
            while let Some(delivery) = self.wire.pop_front() {
                busy = true;
                // Deliveries to a suspended machine are lost.
                if !delivery.node().is_some_and(|node| self.nodes[node].suspended) {
                    connections::deliver(self, delivery);
                }
            }
            for node in 0..self.nodes.len() {
                if self.nodes[node].killed || self.nodes[node].suspended {
                    continue;
                }
                let now = self.clock_of(node);
                self.nodes[node].core.handle_timeout(now);
                while let Some(effect) = self.nodes[node].core.poll_effect() {
                    busy = true;
                    self.execute(node, effect);
                }
                let (reads, unread) = (self.nodes[node].reads, self.nodes[node].unread);
                if reads && unread > 0 {
                    busy = true;
                    self.nodes[node].unread = 0;
                    self.nodes[node]
                        .core
                        .handle(Input::Written { client: ClientId::PARENT, lines: unread }, now);
                }
            }
            busy |= self.read_clients();
            if !busy {
                self.network.endpoints.iter_mut().for_each(|endpoint| endpoint.store.commit_deletions());
                return;
            }
        }
        panic!("the mesh never becomes idle");
    }

    /// Advances the clock, and calls each core when its timeout is due.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..1_000_000 {
            let due = self
                .nodes
                .iter()
                .filter(|node| node.exit.is_none() && !node.killed && !node.suspended)
                .filter_map(|node| node.core.poll_timeout())
                .min();
            match due {
                Some(due) if due <= end => {
                    assert!(due > self.now || due == Instant::ZERO, "a core asks for a timeout in the past");
                    self.now = self.now.max(due);
                    self.settle();
                }
                _ => {
                    self.now = end;
                    return self.settle();
                }
            }
        }
        panic!("too many timeouts");
    }

    /// Returns the store of a node.
    pub fn store(&self, node: usize) -> &Store {
        &self.network.endpoints[node].store
    }

    pub fn store_mut(&mut self, node: usize) -> &mut Store {
        &mut self.network.endpoints[node].store
    }

    /// Returns the records that the DHT server stores.
    pub fn dht(&self) -> &BTreeMap<Bytes, Bytes> {
        &self.network.endpoints[self.server()].records
    }

    pub fn dht_mut(&mut self) -> &mut BTreeMap<Bytes, Bytes> {
        let server = self.server();
        &mut self.network.endpoints[server].records
    }

    /// Returns the records that the DHT server of a node has.
    pub fn records_mut(&mut self, node: usize) -> &mut BTreeMap<Bytes, Bytes> {
        &mut self.network.endpoints[node].records
    }

    fn server(&self) -> usize {
        self.network.endpoints.iter().rposition(|endpoint| endpoint.serves).expect("a server")
    }

    /// Takes the commands to the drivers of files, whose answers the test gives.
    pub fn take_file_commands(&mut self) -> Vec<(usize, FileCommand)> {
        std::mem::take(&mut self.network.file_commands)
    }

    /// Returns the registry on the chain.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.network.registry
    }

    /// Fails every unanswered request of a node, as the swarm does after its timeout.
    pub fn fail_open_requests(&mut self, node: usize) {
        connections::fail_open_requests(self, node);
        self.settle();
    }

    pub fn verdicts(&self, node: usize) -> Vec<Verdict> {
        self.nodes[node].verdicts.values().copied().collect()
    }

    /// Returns the record of a node in the DHT.
    pub fn record_in_dht(&self, node: usize) -> SignedRecord {
        let peer = self.nodes[node].peer;
        let mut records = self.dht().values().map(|value| SignedRecord::decode(value.clone()).unwrap());
        records.find(|record| record.peer_id() == peer).expect("a record of the node")
    }

    /// Returns the lines of one type, in order.
    pub fn lines(&self, node: usize, kind: &str) -> Vec<&Value> {
        self.nodes[node].lines.iter().filter(|line| line["type"] == kind).collect()
    }

    /// Returns the payloads of the messages that a parent received, in order.
    pub fn received(&self, node: usize) -> Vec<u64> {
        self.lines(node, "message").iter().map(|line| line["data"].as_u64().unwrap()).collect()
    }
}
