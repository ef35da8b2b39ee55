//! Executes the operations of a scenario.

use std::time::Duration;

use bytes::Bytes;
use p2p_node_core::client_id::ClientId;
use p2p_node_core::input::Input;
use p2p_node_testing::network::links::{close, close_all};
use p2p_node_testing::network::{Delivery, Endpoint, GossipMessage, pair};
use p2p_node_wire::envelope::Frame;
use p2p_node_wire::time::Instant;

use crate::node::{Node, node_key};
use crate::scenario::{Honesty, Links, Operation};
use crate::world::{ScheduledEvent, World};

/// Number of the node key of an attacker, which is no node of the world.
const ATTACKER: usize = 9999;

impl World {
    pub fn execute_operation(&mut self, operation: Operation) {
        match operation {
            Operation::Traffic(rate) => self.traffic = rate,
            Operation::Burst { from, to, count, bytes, priority, route, ttl } => {
                self.send_burst(from, to, count, |world, from, to| {
                    world.mail(from, to, bytes, priority, route, ttl);
                });
            }
            Operation::Partition { first, last } => {
                self.partition = Some((first, last));
                self.schedule_silent_ends();
            }
            Operation::Heal => self.partition = None,
            Operation::Disconnect(one, other) => {
                let (one, other) = (self.node(one), self.node(other));
                close(self, pair(one, other), "disconnected by the scenario");
            }
            Operation::Crash(node) => {
                let node = self.node(node);
                self.crash(node);
            }
            Operation::Snapshot(node) => {
                let node = self.node(node);
                self.nodes[node].take_snapshot(&self.network.endpoints[node].store);
            }
            Operation::Rollback(node) => {
                let node = self.node(node);
                self.roll_back(node);
            }
            Operation::Start { node, same_store, new_addr } => {
                let node = self.node(node);
                self.start(node, same_store, new_addr);
            }
            Operation::Eof(node) => self.step_after(node, |node| node.parent.closes_stdin = true),
            Operation::Clock(node, by) => self.step_after(node, |node| node.skew_ms += by),
            Operation::Suspend(node, time) => {
                let node = self.node(node);
                self.suspend(node, self.now + time);
            }
            Operation::PauseReader(node) => {
                let node = self.node(node);
                self.nodes[node].parent.reads = false;
            }
            Operation::ResumeReader(node) => {
                let node = self.node(node);
                self.resume_reader(node);
            }
            Operation::Serve(node, honesty) => {
                let node = self.node(node);
                self.nodes[node].honesty = honesty;
            }
            Operation::Replay(count) => (0..count).for_each(|_| self.replay()),
            Operation::Pool(busy) => self.pool_busy = busy,
            Operation::Churn(rate) => self.churn = rate,
            Operation::Links(links) => self.model = links,
        }
    }

    /// Changes a node, and lets it react.
    fn step_after(&mut self, node: usize, change: impl FnOnce(&mut Node)) {
        let node = self.node(node);
        change(&mut self.nodes[node]);
        self.step(node);
    }

    /// Calls `mail` for each message of a burst.
    fn send_burst(
        &mut self,
        from: usize,
        to: usize,
        count: u32,
        mut mail: impl FnMut(&mut Self, usize, usize),
    ) {
        let (from, to) = (self.node(from), self.node(to));
        if from == to || self.nodes[from].core.is_none() || self.nodes[from].parent.closes_stdin {
            return;
        }
        for _ in 0..count {
            mail(self, from, to);
        }
        self.step(from);
    }

    /// Crashes a node and puts its store back to the snapshot.
    fn roll_back(&mut self, node: usize) {
        self.crash(node);
        let lost = self.nodes[node].roll_back(&mut self.network.endpoints[node].store);
        self.report.lost_in_crashes += lost as u64;
    }

    /// Maps a number to a node, because a shrunk scenario may have fewer nodes.
    fn node(&self, number: usize) -> usize {
        number % self.nodes.len()
    }

    fn crash(&mut self, node: usize) {
        if self.nodes[node].core.is_none() {
            return;
        }
        self.report.crashes += 1;
        if !self.nodes[node].durable {
            self.report.lost_in_crashes += self.nodes[node].parent.messages.len() as u64;
        }
        self.kill_store(node);
        self.on_process_end(node);
    }

    /// Ends a process and its connections.
    pub fn on_process_end(&mut self, node: usize) {
        self.nodes[node].stop();
        self.network.endpoints[node].end_process();
        close_all(self, node, "the other process has ended");
    }

    fn start(&mut self, node: usize, same_store: bool, new_addr: bool) {
        if self.nodes[node].core.is_some() {
            return;
        }
        let bootstraps = self.bootstraps(node);
        if !same_store {
            self.report.lost_in_crashes += self.network.endpoints[node].store.clear() as u64;
        }
        let (now, seed) = (self.now, self.scenario.seed);
        let store = &mut self.network.endpoints[node].store;
        self.nodes[node].start(store, now, seed, same_store, new_addr, bootstraps);
        self.connect(node);
    }

    fn suspend(&mut self, node: usize, until: Instant) {
        let asleep = &mut self.nodes[node].suspended_until;
        if asleep.is_none_or(|earlier| earlier < until) {
            *asleep = Some(until);
            self.schedule_event(until, ScheduledEvent::Awake { node });
            self.schedule_silent_ends();
        }
    }

    /// Resumes a machine, unless its suspension was extended: delivers the delayed events and calls
    /// its node.
    pub fn resume(&mut self, node: usize) {
        if self.nodes[node].suspended_until.is_none_or(|until| until > self.now) {
            return;
        }
        self.nodes[node].suspended_until = None;
        self.nodes[node].wake = None;
        for what in std::mem::take(&mut self.nodes[node].delayed) {
            self.schedule_event(self.now, what);
        }
        if self.nodes[node].core.is_some() {
            self.step(node);
        }
    }

    fn resume_reader(&mut self, node: usize) {
        if std::mem::replace(&mut self.nodes[node].parent.reads, true) || self.nodes[node].core.is_none() {
            return;
        }
        let lines = self.read(node);
        if lines > 0 {
            self.handle_input(node, Input::Written { client: ClientId::PARENT, lines });
        }
    }

    /// Replays a captured frame: mail to its recipient or another node, gossip from a neighbour.
    fn replay(&mut self) {
        if self.captured.is_empty() {
            return;
        }
        let (to, topic, data): (Option<usize>, String, Bytes) =
            self.captured[self.rng.below(self.captured.len())].clone();
        let chosen = self.rng.below(self.nodes.len());
        let recipient = to;
        let to = to.filter(|_| self.rng.permille(700)).unwrap_or(chosen);
        if self.nodes[to].core.is_none() {
            return;
        }
        let life = self.nodes[to].life;
        let from = self.rng.below(self.nodes.len());
        let peer = self.nodes[from].peer;
        let token = self.network.token();
        let input = if topic.is_empty() {
            // The network may repeat a frame on its connection. Only an attacker sends it on another one.
            let is_repeated = recipient == Some(to) && Frame::decode_direct(&data, &peer).is_ok();
            let peer = if is_repeated { peer } else { node_key(ATTACKER).peer_id() };
            Input::MailRequestReceived { token, peer, frame: data }
        } else {
            // An attacker sends it even if others have seen it.
            let message = GossipMessage { topic: topic.clone(), data: data.clone(), honest: true };
            self.network.endpoints[to].arriving.insert(token, message);
            Input::Gossip { token, from: peer, topic, data }
        };
        if is_subscribed(&self.network.endpoints[to], &input) {
            let delivery = Delivery::Input { node: to, life, over: None, input };
            self.schedule_event(self.now, ScheduledEvent::Deliver(Box::new(delivery)));
        } else {
            self.network.endpoints[to].arriving.remove(&token);
        }
    }

    /// Ends all faults: links, clocks, servers and parents work normally.
    pub fn heal_all(&mut self) {
        self.healed = true;
        self.partition = None;
        self.pool_busy = 0;
        self.model = Links { loss: 0, twice: 0, late: 0, ..self.model };
        for node in 0..self.nodes.len() {
            self.nodes[node].honesty = Honesty::Honest;
            self.nodes[node].skew_ms = 0;
            if self.nodes[node].suspended_until.is_some() {
                self.nodes[node].suspended_until = Some(self.now);
                self.resume(node);
            }
            self.resume_reader(node);
            if self.nodes[node].core.is_some() {
                self.step(node);
            }
        }
    }

    /// Starts all nodes that are down.
    pub fn start_all(&mut self) {
        for node in 0..self.nodes.len() {
            self.nodes[node].parent.reads = true;
            self.schedule_event(
                self.now + Duration::from_millis(node as u64),
                ScheduledEvent::Do(Operation::Start { node, same_store: true, new_addr: false }),
            );
        }
    }
}

fn is_subscribed(node: &Endpoint, input: &Input) -> bool {
    match input {
        Input::Gossip { topic, .. } => node.topics.contains(topic),
        _ => true,
    }
}
