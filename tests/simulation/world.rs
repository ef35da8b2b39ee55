//! The simulated world: one clock, one event queue, and the nodes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use p2p_node_core::MAX_PAUSE;
use p2p_node_core::client_id::ClientId;
use p2p_node_core::input::Input;
use p2p_node_protocol::{Command, Connect, Role};
use p2p_node_testing::interpreter::Interpreter as _;
use p2p_node_testing::network::links::deliver;
use p2p_node_testing::network::{Delivery, Endpoint, Network, Pair};
use p2p_node_wire::identity::BindingHash;
use p2p_node_wire::time::Instant;

use crate::liars::Search;
use crate::node::Node;
use crate::parent::Name;
use crate::report::Report;
use crate::rng::Rng;
use crate::scenario::{Honesty, Links, Operation, Scenario};
use crate::trace::Trace;

/// Most calls in a row that a core may request at the same time.
const MAX_CALLS_AT_ONCE: u32 = 10_000;

/// Number of steps between two checks of the invariants in a large network: our choice, so that they
/// take little of the time.
const LARGE_INTERVAL: u64 = 16;

/// Scheduled event.
#[derive(Debug)]
pub enum ScheduledEvent {
    /// A delivery of the network.
    Deliver(Box<Delivery>),
    /// The timeout of a core.
    Wake {
        node: usize,
        life: u32,
    },
    /// The ping timeout of a connection.
    Silent(Pair, u64),
    /// The deadline of a message's delivery.
    Deadline {
        node: usize,
        life: u32,
        serial: u64,
    },
    /// The end of a suspension.
    Awake {
        node: usize,
    },
    /// A parent acks a message.
    Ack {
        node: usize,
        life: u32,
        name: Name,
        message_id: String,
    },
    /// Random commands and crashes, every second.
    Second,
    Do(Operation),
}

impl ScheduledEvent {
    /// Returns the node whose machine must run for the event.
    fn node(&self) -> Option<usize> {
        match self {
            ScheduledEvent::Deliver(delivery) => delivery.node(),
            ScheduledEvent::Wake { node, .. }
            | ScheduledEvent::Deadline { node, .. }
            | ScheduledEvent::Ack { node, .. }
            | ScheduledEvent::Do(Operation::Start { node, .. }) => Some(*node),
            _ => None,
        }
    }
}

struct Entry {
    at: Instant,
    order: u64,
    what: ScheduledEvent,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The earliest entry is the greatest, because the heap returns its greatest entry.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvariantViolation {
    pub invariant: &'static str,
    pub at: Instant,
    pub node: usize,
    pub what: String,
}

impl std::fmt::Display for InvariantViolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (node {}, after {:?}): {}", self.invariant, self.node, self.at, self.what)
    }
}

pub struct World {
    pub scenario: Scenario,
    pub now: Instant,
    pub nodes: Vec<Node>,
    pub network: Network,
    queue: BinaryHeap<Entry>,
    order: u64,
    pub rng: Rng,
    pub model: Links,
    /// Nodes that are partitioned from all others.
    pub partition: Option<(usize, usize)>,
    pub pool_busy: u32,
    pub traffic: u32,
    pub churn: u32,
    /// Results of binding checks, shared by all nodes.
    pub checked: HashMap<BindingHash, bool>,
    /// Captured frames for replays: the recipient of mail, or `None` for gossip on a topic.
    pub captured: VecDeque<(Option<usize>, String, Bytes)>,
    /// Earlier records, for lying servers.
    pub old_records: BTreeMap<Bytes, VecDeque<Bytes>>,
    /// Final messages, which must arrive because there are no faults.
    pub probes: BTreeSet<(usize, u64)>,
    /// Searches whose results count, by node and serial number.
    pub searches: BTreeMap<(usize, i64), Search>,
    /// `true` in a large network: the run has no fingerprint, and the invariants are checked after
    /// some steps only.
    pub is_large: bool,
    /// `true` if no node does anything for which others may blame it.
    pub is_honest: bool,
    /// `true` if parents ack each message at once, and no disk is ever full.
    pub is_orderly: bool,
    /// `true` after the end of all faults.
    pub healed: bool,
    pub trace: Trace,
    pub report: Report,
    pub violation: Option<InvariantViolation>,
}

impl World {
    pub fn new(scenario: Scenario) -> World {
        let mut nodes: Vec<Node> = (0..scenario.nodes)
            .map(|number| {
                Node::new(number, if number < scenario.servers { Role::Bootstrap } else { Role::Full })
            })
            .collect();
        // A liar is banned for longer than a world runs, with the honest mail of its agent.
        let has_liars = scenario
            .operations
            .iter()
            .any(|(_, operation)| matches!(operation, Operation::Serve(_, Honesty::Lying)));
        nodes.iter_mut().for_each(|node| node.limits_apply = !has_liars);
        let mut network = Network::default();
        nodes.iter().for_each(|node| network.add(Endpoint::new(node.peer, node.role == Role::Bootstrap)));
        let mut world = World {
            now: Instant::ZERO,
            network,
            nodes,
            queue: BinaryHeap::new(),
            order: 0,
            rng: Rng::new(scenario.seed),
            model: scenario.links,
            partition: None,
            pool_busy: 0,
            traffic: 0,
            churn: 0,
            checked: HashMap::new(),
            captured: VecDeque::new(),
            old_records: BTreeMap::new(),
            probes: BTreeSet::new(),
            searches: BTreeMap::new(),
            is_large: false,
            is_honest: scenario.is_honest(),
            is_orderly: false,
            healed: false,
            trace: Trace::default(),
            report: Report::default(),
            violation: None,
            scenario,
        };
        for (at, operation) in world.scenario.operations.clone() {
            world.schedule_event(Instant::after_start(at), ScheduledEvent::Do(operation));
        }
        for node in 0..world.nodes.len() {
            // All nodes start within some milliseconds.
            world.schedule_event(
                Instant::from_millis(7 * node as u64),
                ScheduledEvent::Do(Operation::Start { node, same_store: false, new_addr: false }),
            );
        }
        world.schedule_event(Instant::from_secs(1), ScheduledEvent::Second);
        world
    }

    pub fn schedule_event(&mut self, at: Instant, what: ScheduledEvent) {
        self.order += 1;
        self.queue.push(Entry { at: at.max(self.now), order: self.order, what });
    }

    pub fn violate(&mut self, invariant: &'static str, node: usize, what: String) {
        let at = self.now;
        self.violation.get_or_insert(InvariantViolation { invariant, at, node, what });
    }

    /// Processes all events until a time, or until an invariant is violated.
    pub fn run_until(&mut self, end: Instant) {
        while self.violation.is_none()
            && let Some(next) = self.queue.peek()
            && next.at <= end
        {
            let Some(Entry { at, what, .. }) = self.queue.pop() else { break };
            self.now = at;
            self.process(what);
        }
        if self.violation.is_none() {
            self.now = end;
        }
    }

    fn process(&mut self, what: ScheduledEvent) {
        // Events for a suspended machine wait.
        if let Some(node) = what.node().filter(|node| self.nodes[*node].suspended_until.is_some()) {
            return self.nodes[node].delayed.push(what);
        }
        match what {
            ScheduledEvent::Awake { node } => self.resume(node),
            ScheduledEvent::Deliver(delivery) => deliver(self, *delivery),
            ScheduledEvent::Wake { node, life } => {
                let here = &mut self.nodes[node];
                if here.life == life && here.core.is_some() && here.wake.is_some_and(|wake| wake <= self.now)
                {
                    here.wake = None;
                    self.step(node);
                }
            }
            ScheduledEvent::Silent(pair, epoch) => self.end_if_silent(pair, epoch),
            ScheduledEvent::Deadline { node, life, serial } => self.deadline(node, life, serial),
            ScheduledEvent::Ack { node, life, name, message_id } => {
                if self.nodes[node].life == life && self.nodes[node].core.is_some() {
                    self.ack(node, name, message_id);
                    self.step(node);
                }
            }
            ScheduledEvent::Second => self.every_second(),
            ScheduledEvent::Do(operation) => self.execute_operation(operation),
        }
    }

    /// Gives a running node an input.
    pub fn handle_input(&mut self, node: usize, input: Input) {
        self.trace.steps += 1;
        if !self.is_large {
            self.trace.input(self.now, node, &input);
        }
        let here = &mut self.nodes[node];
        let now = here.clock(self.now);
        let Some(core) = &mut here.core else { return };
        core.handle(input, now);
        self.step(node);
    }

    /// Runs a node until it has nothing to do.
    pub fn step(&mut self, node: usize) {
        if self.nodes[node].suspended_until.is_some() {
            return;
        }
        loop {
            let here = &mut self.nodes[node];
            let now = here.clock(self.now);
            let Some(core) = &mut here.core else { return };
            while core.can_accept_command(ClientId::PARENT) {
                if let Some(request) = here.parent.commands.pop_front() {
                    here.paused_since = None;
                    core.handle(Input::Command { client: ClientId::PARENT, request }, now);
                } else {
                    if std::mem::take(&mut here.parent.closes_stdin) {
                        here.parent.stdin_closed = true;
                        core.handle(Input::StdinClosed, now);
                    }
                    break;
                }
            }
            core.handle_timeout(now);
            let effects: Vec<_> = std::iter::from_fn(|| core.poll_effect()).collect();
            if effects.is_empty() && self.nodes[node].parent.unread.is_empty() {
                break;
            }
            for effect in effects {
                if !self.is_large {
                    self.trace.effect(node, &effect);
                }
                self.execute(node, effect);
                if self.nodes[node].core.is_none() {
                    return;
                }
            }
            if !self.nodes[node].parent.reads || self.nodes[node].parent.unread.is_empty() {
                break;
            }
            let lines = self.read(node);
            let now = self.nodes[node].clock(self.now);
            if let Some(core) = &mut self.nodes[node].core {
                core.handle(Input::Written { client: ClientId::PARENT, lines }, now);
            }
        }
        if !self.is_large || self.trace.steps.is_multiple_of(LARGE_INTERVAL) {
            self.check_invariants(node);
        }
        self.check_pause(node);
        self.schedule_wake(node);
    }

    /// Checks that stdin of a parent that reads is paused for at most `MAX_PAUSE`.
    fn check_pause(&mut self, node: usize) {
        let here = &mut self.nodes[node];
        let Some(core) = &here.core else { return };
        if core.can_accept_command(ClientId::PARENT) || here.parent.commands.is_empty() || !here.parent.reads
        {
            here.paused_since = None;
            return;
        }
        let since = *here.paused_since.get_or_insert(self.now);
        // Timers of the world are coarse.
        if self.now - since > MAX_PAUSE + Duration::from_millis(1) {
            self.violate("stdin pauses for at most maxPauseMs", node, format!("since {since:?}"));
        }
    }

    fn schedule_wake(&mut self, node: usize) {
        let here = &mut self.nodes[node];
        let Some(due) = here.core.as_ref().and_then(p2p_node_core::Core::poll_timeout) else { return };
        let at = here.started + due.since_start();
        here.calls = if at <= self.now { here.calls + 1 } else { 0 };
        if here.calls > MAX_CALLS_AT_ONCE {
            return self.violate("a core becomes idle", node, format!("it stays due at {due:?}"));
        }
        // Timers are coarse: a call that is due already runs in the next moment.
        let at = at.max(self.now + Duration::from_micros(100));
        if here.wake.is_none_or(|wake| at < wake) {
            here.wake = Some(at);
            let life = here.life;
            self.schedule_event(at, ScheduledEvent::Wake { node, life });
        }
    }

    /// Returns the bootstrap peers of a node with their current addresses.
    pub fn bootstraps(&self, node: usize) -> Vec<(PeerId, libp2p::Multiaddr)> {
        let servers = self.nodes[..self.scenario.servers].iter().filter(|server| server.number != node);
        servers.map(|server| (server.peer, server.addr())).collect()
    }

    /// Writes the first commands of a parent.
    pub fn connect(&mut self, node: usize) {
        let now = self.now;
        let connect = Command::Connect(Connect { protocol: Some(1), ..Connect::default() });
        self.nodes[node].parent.ask(connect, now);
        if node.is_multiple_of(2) {
            let topic = crate::traffic::TOPIC.to_owned();
            let subscribe = Command::Subscribe(p2p_node_protocol::Subscribe { topic });
            self.nodes[node].parent.ask(subscribe, now);
        }
        self.step(node);
    }
}
