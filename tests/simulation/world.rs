//! The simulated world: one clock, one event queue, and the nodes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use p2p_node_core::MAX_PAUSE;
use p2p_node_core::input::Input;
use p2p_node_protocol::{Command, Connect, Role};
use p2p_node_testing::interpreter::Interpreter as _;
use p2p_node_testing::network::links::deliver;
use p2p_node_testing::network::{Delivery, Endpoint, Network, Pair};
use p2p_node_wire::identity::BindingHash;
use p2p_node_wire::time::Instant;

use crate::node::Node;
use crate::parent::Name;
use crate::report::Report;
use crate::rng::Rng;
use crate::scenario::{Links, Operation, Scenario};
use crate::trace::Trace;

/// How often a core may ask to be called again at once: it has work for some turns, not for ever.
const CALLS_AT_ONCE: u32 = 10_000;

/// Scheduled event.
#[derive(Debug)]
pub enum ScheduledEvent {
    /// Something arrives over the network.
    Deliver(Delivery),
    /// A core asked to be called.
    Wake {
        node: usize,
        life: u32,
    },
    /// Both ends of a connection notice that nothing comes through it.
    Silent(Pair, u64),
    /// Mail must have been told of by now.
    Deadline {
        node: usize,
        life: u32,
        serial: u64,
    },
    /// A machine that was suspended runs again.
    Awake {
        node: usize,
    },
    /// A parent acknowledges mail.
    Ack {
        node: usize,
        life: u32,
        name: Name,
        message_id: String,
    },
    /// Random mail, crashes.
    Second,
    Do(Operation),
}

impl ScheduledEvent {
    /// On whose machine it happens.
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
    /// The earliest is the greatest, for a heap gives out its greatest.
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
    pub part: Option<(usize, usize)>,
    pub pool_busy: u32,
    pub traffic: u32,
    pub churn: u32,
    /// What was found about bindings, which is the same for everyone.
    pub checked: HashMap<BindingHash, bool>,
    /// Earlier frames, to be heard again: to whom mail went, or none for gossip on a topic.
    pub captured: VecDeque<(Option<usize>, String, Bytes)>,
    /// Earlier records, for those who lie.
    pub old_records: BTreeMap<Bytes, VecDeque<Bytes>>,
    /// Mail that must arrive, because nothing stands in its way.
    pub probes: BTreeSet<(usize, u64)>,
    /// Whether all that was done is over and everything may come to rest.
    pub resting: bool,
    pub trace: Trace,
    pub report: Report,
    pub broken: Option<InvariantViolation>,
}

impl World {
    pub fn new(scenario: Scenario) -> World {
        let nodes: Vec<Node> = (0..scenario.nodes)
            .map(|number| {
                Node::new(number, if number < scenario.servers { Role::Bootstrap } else { Role::Full })
            })
            .collect();
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
            part: None,
            pool_busy: 0,
            traffic: 0,
            churn: 0,
            checked: HashMap::new(),
            captured: VecDeque::new(),
            old_records: BTreeMap::new(),
            probes: BTreeSet::new(),
            resting: false,
            trace: Trace::default(),
            report: Report::default(),
            broken: None,
            scenario,
        };
        for (at, operation) in world.scenario.operations.clone() {
            world.at(Instant::after_start(at), ScheduledEvent::Do(operation));
        }
        for node in 0..world.nodes.len() {
            // A fleet that starts at once, but for some milliseconds.
            world.at(
                Instant::from_millis(7 * node as u64),
                ScheduledEvent::Do(Operation::Start { node, keeping: false, moved: false }),
            );
        }
        world.at(Instant::from_secs(1), ScheduledEvent::Second);
        world
    }

    pub fn at(&mut self, at: Instant, what: ScheduledEvent) {
        self.order += 1;
        self.queue.push(Entry { at: at.max(self.now), order: self.order, what });
    }

    pub fn violate(&mut self, invariant: &'static str, node: usize, what: String) {
        let at = self.now;
        self.broken.get_or_insert(InvariantViolation { invariant, at, node, what });
    }

    /// Lets everything happen until then, or until an invariant breaks.
    pub fn run_until(&mut self, end: Instant) {
        while self.broken.is_none()
            && let Some(next) = self.queue.peek()
            && next.at <= end
        {
            let Some(Entry { at, what, .. }) = self.queue.pop() else { break };
            self.now = at;
            self.happen(what);
        }
        if self.broken.is_none() {
            self.now = end;
        }
    }

    fn happen(&mut self, what: ScheduledEvent) {
        // While a machine is suspended what comes for it waits.
        if let Some(node) = what.node().filter(|node| self.nodes[*node].asleep_until.is_some()) {
            return self.nodes[node].put_off.push(what);
        }
        match what {
            ScheduledEvent::Awake { node } => self.awake(node),
            ScheduledEvent::Deliver(delivery) => deliver(self, delivery),
            ScheduledEvent::Wake { node, life } => {
                let here = &mut self.nodes[node];
                if here.life == life && here.core.is_some() && here.wake.is_some_and(|wake| wake <= self.now)
                {
                    here.wake = None;
                    self.step(node);
                }
            }
            ScheduledEvent::Silent(pair, epoch) => self.silent(pair, epoch),
            ScheduledEvent::Deadline { node, life, serial } => self.deadline(node, life, serial),
            ScheduledEvent::Ack { node, life, name, message_id } => {
                if self.nodes[node].life == life && self.nodes[node].core.is_some() {
                    self.ack(node, name, message_id);
                    self.step(node);
                }
            }
            ScheduledEvent::Second => self.second(),
            ScheduledEvent::Do(operation) => self.carry_out_operation(operation),
        }
    }

    /// Something happens to a node that lives.
    pub fn hand_in(&mut self, node: usize, input: Input) {
        self.trace.input(self.now, node, &input);
        let here = &mut self.nodes[node];
        let now = here.clock(self.now);
        let Some(core) = &mut here.core else { return };
        core.handle(input, now);
        self.step(node);
    }

    /// Lets a node do what follows, until it waits for somebody.
    pub fn step(&mut self, node: usize) {
        if self.nodes[node].asleep_until.is_some() {
            return;
        }
        loop {
            let here = &mut self.nodes[node];
            let now = here.clock(self.now);
            let Some(core) = &mut here.core else { return };
            while core.can_accept_command() {
                if let Some(request) = here.parent.commands.pop_front() {
                    here.paused_since = None;
                    core.handle(Input::Command(request), now);
                } else {
                    if std::mem::take(&mut here.parent.ends) {
                        here.parent.ended = true;
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
                self.trace.effect(node, &effect);
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
                core.handle(Input::Written { lines }, now);
            }
        }
        self.look_at(node);
        self.watch_pause(node);
        self.wake_later(node);
    }

    /// A parent that reads never finds its stdin unread for longer than the longest pause.
    fn watch_pause(&mut self, node: usize) {
        let here = &mut self.nodes[node];
        let Some(core) = &here.core else { return };
        if core.can_accept_command() || here.parent.commands.is_empty() || !here.parent.reads {
            here.paused_since = None;
            return;
        }
        let since = *here.paused_since.get_or_insert(self.now);
        // Timers of the world are coarse.
        if self.now - since > MAX_PAUSE + Duration::from_millis(1) {
            self.violate("stdin pauses no longer than it may", node, format!("since {since:?}"));
        }
    }

    fn wake_later(&mut self, node: usize) {
        let here = &mut self.nodes[node];
        let Some(due) = here.core.as_ref().and_then(p2p_node_core::Core::poll_timeout) else { return };
        let at = here.started + due.since_start();
        here.calls = if at <= self.now { here.calls + 1 } else { 0 };
        if here.calls > CALLS_AT_ONCE {
            return self.violate("a core comes to rest", node, format!("it is due at {due:?} for ever"));
        }
        // Timers are coarse; what is due already is done in the next moment.
        let at = at.max(self.now + Duration::from_micros(100));
        if here.wake.is_none_or(|wake| at < wake) {
            here.wake = Some(at);
            let life = here.life;
            self.at(at, ScheduledEvent::Wake { node, life });
        }
    }

    /// The servers whom a node is told of: where they are now.
    pub fn bootstraps(&self, node: usize) -> Vec<(PeerId, libp2p::Multiaddr)> {
        let servers = self.nodes[..self.scenario.servers].iter().filter(|server| server.number != node);
        servers.map(|server| (server.peer, server.addr())).collect()
    }

    /// The first things that a parent says.
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
