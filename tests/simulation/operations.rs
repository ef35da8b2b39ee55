//! Executes the operations of a scenario.

use std::time::Duration;

use bytes::Bytes;
use p2p_node_core::input::Input;
use p2p_node_testing::network::links::{close, close_all};
use p2p_node_testing::network::{Delivery, Endpoint, GossipMessage, pair};
use p2p_node_wire::time::Instant;

use crate::scenario::{Honesty, Links, Operation};
use crate::world::{ScheduledEvent, World};

impl World {
    pub fn carry_out_operation(&mut self, operation: Operation) {
        match operation {
            Operation::Traffic(rate) => self.traffic = rate,
            Operation::Burst { from, to, count, bytes, priority, route, ttl } => {
                let (from, to) = (self.node(from), self.node(to));
                if from == to || self.nodes[from].core.is_none() || self.nodes[from].parent.ends {
                    return;
                }
                for _ in 0..count {
                    self.mail(from, to, bytes, priority, route, ttl);
                }
                self.step(from);
            }
            Operation::Partition { first, last } => {
                self.part = Some((first, last));
                self.notice_cuts();
            }
            Operation::Heal => self.part = None,
            Operation::Disconnect(one, other) => {
                let (one, other) = (self.node(one), self.node(other));
                close(self, pair(one, other), "cut");
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
                self.crash(node);
                let lost = self.nodes[node].go_back_to_snapshot(&mut self.network.endpoints[node].store);
                self.report.lost_in_crashes += lost as u64;
            }
            Operation::Start { node, keeping, moved } => {
                let node = self.node(node);
                self.start(node, keeping, moved);
            }
            Operation::Eof(node) => {
                let node = self.node(node);
                self.nodes[node].parent.ends = true;
                self.step(node);
            }
            Operation::Clock(node, by) => {
                let node = self.node(node);
                self.nodes[node].skew_ms += by;
                self.step(node);
            }
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
                self.unmute(node);
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

    /// A scenario may have been shrunk: every number is somebody's.
    fn node(&self, number: usize) -> usize {
        number % self.nodes.len()
    }

    fn crash(&mut self, node: usize) {
        if self.nodes[node].core.is_none() {
            return;
        }
        self.report.crashes += 1;
        if !self.nodes[node].durable {
            self.report.lost_in_crashes += self.nodes[node].parent.mails.len() as u64;
        }
        self.kill_store(node);
        self.disappear(node);
    }

    /// The process is gone, and its peers notice.
    pub fn disappear(&mut self, node: usize) {
        self.nodes[node].stop();
        self.network.endpoints[node].end_process();
        close_all(self, node, "the other end is gone");
    }

    fn start(&mut self, node: usize, keeping: bool, moved: bool) {
        if self.nodes[node].core.is_some() {
            return;
        }
        let bootstraps = self.bootstraps(node);
        if !keeping {
            self.report.lost_in_crashes += self.network.endpoints[node].store.clear() as u64;
        }
        let (now, seed) = (self.now, self.scenario.seed);
        let store = &mut self.network.endpoints[node].store;
        self.nodes[node].start(store, now, seed, keeping, moved, bootstraps);
        self.connect(node);
    }

    fn suspend(&mut self, node: usize, until: Instant) {
        let asleep = &mut self.nodes[node].asleep_until;
        if asleep.is_none_or(|earlier| earlier < until) {
            *asleep = Some(until);
            self.at(until, ScheduledEvent::Awake { node });
            self.notice_cuts();
        }
    }

    /// A machine runs again, unless it was suspended for longer meanwhile: its node does what
    /// became due, and what came for it comes now.
    pub fn awake(&mut self, node: usize) {
        if self.nodes[node].asleep_until.is_none_or(|until| until > self.now) {
            return;
        }
        self.nodes[node].asleep_until = None;
        self.nodes[node].wake = None;
        for what in std::mem::take(&mut self.nodes[node].put_off) {
            self.at(self.now, what);
        }
        if self.nodes[node].core.is_some() {
            self.step(node);
        }
    }

    fn unmute(&mut self, node: usize) {
        if std::mem::replace(&mut self.nodes[node].parent.reads, true) || self.nodes[node].core.is_none() {
            return;
        }
        let lines = self.read(node);
        if lines > 0 {
            self.hand_in(node, Input::Written { lines });
        }
    }

    /// Something heard before is heard again: mail by the one whom it was for or another, gossip by
    /// a neighbour.
    fn replay(&mut self) {
        if self.captured.is_empty() {
            return;
        }
        let (to, topic, data): (Option<usize>, String, Bytes) =
            self.captured[self.rng.below(self.captured.len())].clone();
        let chosen = self.rng.below(self.nodes.len());
        let to = to.filter(|_| self.rng.permille(700)).unwrap_or(chosen);
        if self.nodes[to].core.is_none() {
            return;
        }
        let life = self.nodes[to].life;
        let from = self.rng.below(self.nodes.len());
        let peer = self.nodes[from].peer;
        let token = self.network.token();
        let input = if topic.is_empty() {
            Input::MailRequestReceived { token, peer, frame: data }
        } else {
            // An attacker is not held back by what others have seen.
            let message = GossipMessage { topic: topic.clone(), data: data.clone(), honest: true };
            self.network.endpoints[to].arriving.insert(token, message);
            Input::Gossip { token, from: peer, topic, data }
        };
        if topic_is_heard(&self.network.endpoints[to], &input) {
            let delivery = Delivery::Input { node: to, life, over: None, input };
            self.at(self.now, ScheduledEvent::Deliver(delivery));
        } else {
            self.network.endpoints[to].arriving.remove(&token);
        }
    }

    /// Ends all that was done: everything is as good as it gets, everybody lives and reads.
    pub fn heal_all(&mut self) {
        self.resting = true;
        self.part = None;
        self.pool_busy = 0;
        self.model = Links { loss: 0, twice: 0, late: 0, ..self.model };
        for node in 0..self.nodes.len() {
            self.nodes[node].honesty = Honesty::Honest;
            self.nodes[node].skew_ms = 0;
            if self.nodes[node].asleep_until.is_some() {
                self.nodes[node].asleep_until = Some(self.now);
                self.awake(node);
            }
            self.unmute(node);
            if self.nodes[node].core.is_some() {
                self.step(node);
            }
        }
    }

    /// Starts those that are down.
    pub fn start_all(&mut self) {
        for node in 0..self.nodes.len() {
            self.nodes[node].parent.reads = true;
            self.at(
                self.now + Duration::from_millis(node as u64),
                ScheduledEvent::Do(Operation::Start { node, keeping: true, moved: false }),
            );
        }
    }
}

fn topic_is_heard(node: &Endpoint, input: &Input) -> bool {
    match input {
        Input::Gossip { topic, .. } => node.topics.contains(topic),
        _ => true,
    }
}
