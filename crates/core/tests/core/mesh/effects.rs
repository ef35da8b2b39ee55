//! The mesh as a world: a network without latency, with the faults that a test sets.

use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_core::crypto_task::CryptoTask;
use p2p_node_core::effect::{ExitCode, Verdict};
use p2p_node_core::highest_seen::HighestSeen;
use p2p_node_core::input::{Input, Token};
use p2p_node_protocol::{Event, line};
use p2p_node_testing::network::{Delivery, GossipMessage, Network, Pair, World, WriteOutcome, finish_write};
use p2p_node_wire::identity::binding::MAX_SKEW_SECS;
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::seal::repeatable::DeterministicRng;

use super::{FaultDecision, Mesh};

impl Mesh {
    /// The disk writes again, what waits first.
    pub fn write_on(&mut self) {
        self.disk_writes = true;
        for (node, number) in std::mem::take(&mut self.unwritten) {
            finish_write(self, node, number);
        }
        self.settle();
    }
}

impl World for Mesh {
    fn network(&self) -> &Network {
        &self.network
    }

    fn network_mut(&mut self) -> &mut Network {
        &mut self.network
    }

    fn now(&self) -> Duration {
        self.now
    }

    /// Everything happens at once, except that no request is over by itself.
    fn schedule(&mut self, _at: Duration, delivery: Delivery) {
        if !matches!(delivery, Delivery::Overdue(_)) {
            self.wire.push_back(delivery);
        }
    }

    fn input(&mut self, node: usize, input: Input) {
        let now = self.clock_of(node);
        self.nodes[node].core.handle(input, now);
    }

    fn is_up(&self, node: usize) -> bool {
        !self.nodes[node].dead
    }

    fn is_cut(&self, pair: Pair) -> bool {
        self.parted.contains(&pair)
    }

    fn is_suspended(&self, node: usize) -> bool {
        self.nodes[node].asleep
    }

    fn on_emit(&mut self, node: usize, event: Event, numbered: bool) {
        let node = &mut self.nodes[node];
        node.unread += 1;
        let mut bytes = Vec::new();
        line::encode_event(&event, numbered.then_some(0), &mut bytes);
        node.longest = node.longest.max(bytes.len() - 1);
        node.lines.push(serde_json::from_slice(&bytes).unwrap());
    }

    fn on_exit(&mut self, node: usize, code: ExitCode) {
        self.nodes[node].exit = Some(code);
    }

    fn run_task(&mut self, _node: usize, task: CryptoTask) -> (Duration, Input) {
        let seed = self.network.token();
        let done = if self.crypto { task.run(&mut DeterministicRng::new(seed)) } else { task.refused() };
        (Duration::ZERO, done)
    }

    fn violated(&mut self, property: &'static str, node: usize, what: String) {
        panic!("{property}: node {node}, {what}");
    }

    fn listen_addr(&self, node: usize) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{}", 1000 + node).parse().unwrap()
    }

    fn is_lost_on_arrival(&mut self, node: usize, input: &Input) -> bool {
        // That no answer came is no message, so that it cannot be lost.
        let is_message = !matches!(input, Input::MailResponseReceived { outcome: Err(_), .. });
        is_message && matches!((self.faults)(node, input), FaultDecision::Lose)
    }

    fn on_mail(&mut self, from: usize, to: usize, frame: &Bytes) {
        self.frames.push((to, self.nodes[from].peer, frame.clone()));
    }

    fn alter_answer(&mut self, node: usize, body: Bytes) -> Bytes {
        (self.lies)(node).unwrap_or(body)
    }

    /// The wish is noted, and the connection stays.
    fn disconnects(&mut self, node: usize, peer: PeerId) -> bool {
        self.hung_up.push((node, peer));
        false
    }

    fn on_verdict(&mut self, node: usize, token: Token, verdict: Verdict, _message: &GossipMessage) {
        self.nodes[node].judged.insert(token, verdict);
    }

    fn on_put(&mut self, node: usize, _key: &Bytes, value: &Bytes) {
        let row = HighestSeen::from(&SignedRecord::decode(value.clone()).unwrap());
        let kept = &self.store(node).highest_seen[&row.address];
        // The store never lowers a row, so it keeps one of a clock that was ahead.
        let is_of_future = kept.order() > (row.generation, row.seq + MAX_SKEW_SECS * 1000);
        assert!(*kept == row || is_of_future, "the store has the row before the network has the record");
    }

    fn write(&mut self, node: usize, number: u64) -> Option<WriteOutcome> {
        if !self.disk_writes {
            self.unwritten.push((node, number));
            return None;
        }
        let error = self.disk_full.then(|| "no space left on device".to_owned());
        Some(WriteOutcome { delay: Duration::ZERO, error })
    }
}
