//! The simulated world as a network with faults, which one seed decides.

use std::time::Duration;

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use p2p_node_core::crypto_task::CryptoTask;
use p2p_node_core::effect::{ExitCode, Verdict};
use p2p_node_core::input::{Input, Token};
use p2p_node_protocol::Event;
use p2p_node_testing::network::{self, Delivery, GossipMessage, LookupResponse, Network, Pair, WriteOutcome};
use p2p_node_wire::seal::repeatable::DeterministicRng;
use p2p_node_wire::time::Instant;

use crate::node::{owner_of, port_of};
use crate::scenario::Honesty;
use crate::world::{ScheduledEvent, World};

/// Peers to whom a node forwards gossip: gossipsub's `mesh_n`.
const MESH: usize = 8;
/// Time until IHAVE and IWANT repair a loss: one to three heartbeats.
const REPAIR_TIME: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));
/// Time of a task in the crypto pool.
const WORK: Duration = Duration::from_millis(1);
/// Maximum extra delay of a late delivery.
const LATE: Duration = Duration::from_millis(400);
/// Time of a disk write.
const WRITE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(5));
/// Writes in a thousand that fail for lack of space.
const FULL: u32 = 5;
/// Most captured frames, and most old records of each agent, for replays.
const MAX_CAPTURED: usize = 256;
const MAX_OLD_RECORDS: usize = 4;

impl network::World for World {
    fn network(&self) -> &Network {
        &self.network
    }

    fn network_mut(&mut self) -> &mut Network {
        &mut self.network
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn schedule(&mut self, at: Instant, delivery: Delivery) {
        self.schedule_event(at, ScheduledEvent::Deliver(Box::new(delivery)));
    }

    fn input(&mut self, node: usize, input: Input) {
        self.handle_input(node, input);
    }

    fn is_up(&self, node: usize) -> bool {
        self.nodes[node].core.is_some()
    }

    fn life(&self, node: usize) -> u32 {
        self.nodes[node].life
    }

    fn on_emit(&mut self, node: usize, event: Event, _numbered: bool) {
        self.nodes[node].parent.unread.push_back(event);
    }

    fn on_exit(&mut self, node: usize, code: ExitCode) {
        self.exited(node, code);
    }

    /// Runs a crypto task. Bindings are checked once for the whole world.
    fn run_task(&mut self, _node: usize, task: CryptoTask) -> (Duration, Input) {
        let busy = self.pool_busy;
        let input = match task {
            task if self.rng.permille(busy) => task.rejected_by_pool(),
            CryptoTask::CheckBinding(binding) => {
                let hash = binding.hash();
                let valid = *self.checked.entry(hash).or_insert_with(|| binding.verify_signature());
                Input::BindingChecked { hash, valid: Some(valid) }
            }
            task => task.run(&mut DeterministicRng::new(self.rng.next())),
        };
        (WORK, input)
    }

    fn violated(&mut self, property: &'static str, node: usize, text: String) {
        self.violate(property, node, text);
    }

    fn listen_addr(&self, node: usize) -> Multiaddr {
        self.nodes[node].addr()
    }

    /// Returns the node that listens at the dialled address. It may be another than the one expected.
    fn route(&self, _peer: &PeerId, addrs: &[Multiaddr]) -> Option<usize> {
        addrs.iter().filter_map(port_of).find_map(owner_of).filter(|to| {
            let here = self.nodes.get(*to);
            here.is_some_and(|here| addrs.contains(&here.addr()) && here.core.is_some())
        })
    }

    fn is_cut(&self, (one, other): Pair) -> bool {
        let inside = |node: usize| self.partition.is_some_and(|(first, last)| (first..=last).contains(&node));
        inside(one) != inside(other)
    }

    fn is_suspended(&self, node: usize) -> bool {
        self.nodes[node].suspended_until.is_some()
    }

    fn defer_delivery(&mut self, node: usize, delivery: Delivery) {
        self.nodes[node].delayed.push(ScheduledEvent::Deliver(Box::new(delivery)));
    }

    fn latency(&mut self) -> Duration {
        let (least, most, late) = (self.model.least, self.model.most, self.model.late);
        let latency = self.rng.between(least, most);
        if self.rng.permille(late) { latency + self.rng.between(Duration::ZERO, LATE) } else { latency }
    }

    fn is_lost(&mut self) -> bool {
        let loss = self.model.loss;
        self.rng.permille(loss)
    }

    fn is_repeated(&mut self) -> bool {
        let twice = self.model.twice;
        self.rng.permille(twice)
    }

    fn on_mail(&mut self, _from: usize, to: usize, frame: &Bytes) {
        self.capture(Some(to), String::new(), frame.clone());
        self.report.frames += 1;
    }

    fn on_publish(&mut self, topic: &str, data: &Bytes) {
        self.report.published += 1;
        self.capture(None, topic.to_owned(), data.clone());
    }

    fn fan_out(&self) -> usize {
        MESH
    }

    fn pick(&mut self, number: usize) -> usize {
        self.rng.below(number)
    }

    fn gossip_delay(&mut self) -> Option<Duration> {
        self.report.hops += 1;
        let mut delay = self.latency();
        if self.is_lost() {
            if self.is_lost() {
                return None;
            }
            delay += self.rng.between(REPAIR_TIME.0, REPAIR_TIME.1);
        }
        Some(delay)
    }

    fn on_verdict(&mut self, node: usize, _token: Token, verdict: Verdict, message: &GossipMessage) {
        if verdict == Verdict::Reject && message.honest {
            let what = format!("{} bytes on {}", message.data.len(), message.topic);
            self.violate("no message of an honest peer is rejected", node, what);
        }
    }

    fn on_put(&mut self, _node: usize, key: &Bytes, value: &Bytes) {
        let old = self.old_records.entry(key.clone()).or_default();
        if old.back() != Some(value) {
            old.push_back(value.clone());
        }
        if old.len() > MAX_OLD_RECORDS {
            old.pop_front();
        }
    }

    fn look_up(&mut self, server: usize, key: &Bytes) -> LookupResponse {
        let honesty = self.nodes[server].honesty;
        if honesty == Honesty::Silent || self.is_suspended(server) || self.is_lost() {
            return LookupResponse::Silence;
        }
        let record = match honesty {
            Honesty::Lying => {
                self.report.lies += 1;
                self.false_record(key)
            }
            _ => self.network.endpoints[server].records.get(key).cloned(),
        };
        record.into()
    }

    fn write(&mut self, _node: usize, _number: u64) -> Option<WriteOutcome> {
        let full = self.rng.permille(FULL) && !self.healed && !self.is_orderly;
        let error = full.then(|| "no space left on device".to_owned());
        Some(WriteOutcome { delay: self.rng.between(WRITE.0, WRITE.1), error })
    }
}

impl World {
    /// Returns the record of a lying server: an old one, one of another agent, a corrupt one, or none.
    fn false_record(&mut self, key: &Bytes) -> Option<Bytes> {
        let old = self.old_records.get(key).and_then(|old| old.front()).cloned();
        match self.rng.below(4) {
            0 => old,
            1 => {
                let other = self.rng.below(self.old_records.len());
                self.old_records.values().nth(other).and_then(|old| old.back()).cloned()
            }
            2 => old.map(|record| {
                let mut corrupt = record.to_vec();
                let at = self.rng.below(corrupt.len());
                corrupt[at] ^= 1 << self.rng.below(8);
                corrupt.into()
            }),
            _ => None,
        }
    }

    fn capture(&mut self, to: Option<usize>, topic: String, data: Bytes) {
        if self.captured.len() >= MAX_CAPTURED {
            self.captured.pop_front();
        }
        self.captured.push_back((to, topic, data));
    }
}
