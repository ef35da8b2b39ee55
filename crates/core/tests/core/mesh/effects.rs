//! The mesh as a world: a network without latency, with the faults that a test sets.

use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_core::client_id::ClientId;
use p2p_node_core::crypto_task::CryptoTask;
use p2p_node_core::effect::{ExitCode, Verdict};
use p2p_node_core::highest_seen::HighestSeen;
use p2p_node_core::input::{Input, Token};
use p2p_node_protocol::{Event, line};
use p2p_node_testing::network::{Delivery, GossipMessage, Network, Pair, World, WriteOutcome, finish_write};
use p2p_node_wire::identity::binding::MAX_SKEW_SECS;
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::seal::repeatable::DeterministicRng;
use p2p_node_wire::time::Instant;

use super::{FaultDecision, Mesh};

impl Mesh {
    /// Lets the stores commit again, the pending writes first.
    pub fn resume_writes(&mut self) {
        self.disk_writes = true;
        for (node, number) in std::mem::take(&mut self.pending_writes) {
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

    fn now(&self) -> Instant {
        self.now
    }

    /// Delivers everything at once, except that no request times out.
    fn schedule(&mut self, _at: Instant, delivery: Delivery) {
        if !matches!(delivery, Delivery::Overdue(_)) {
            self.wire.push_back(delivery);
        }
    }

    fn input(&mut self, node: usize, input: Input) {
        let now = self.clock_of(node);
        self.nodes[node].core.handle(input, now);
    }

    fn is_up(&self, node: usize) -> bool {
        !self.nodes[node].killed
    }

    fn is_cut(&self, pair: Pair) -> bool {
        self.partitions.contains(&pair)
    }

    fn is_suspended(&self, node: usize) -> bool {
        self.nodes[node].suspended
    }

    fn on_emit(&mut self, node: usize, event: Event, numbered: bool) {
        let node = &mut self.nodes[node];
        node.unread += 1;
        let mut bytes = Vec::new();
        line::encode_event(&event, numbered.then_some(0), &mut bytes);
        node.longest_line = node.longest_line.max(bytes.len() - 1);
        node.lines.push(serde_json::from_slice(&bytes).unwrap());
    }

    fn on_attached_line(&mut self, node: usize, client: ClientId, event: Event, numbered: bool) {
        self.clients.entry((node, client)).or_default().push(&event, numbered);
    }

    fn on_client_closed(&mut self, node: usize, client: ClientId) {
        self.clients.entry((node, client)).or_default().is_closed = true;
    }

    fn on_exit(&mut self, node: usize, code: ExitCode) {
        self.nodes[node].exit = Some(code);
    }

    fn run_task(&mut self, _node: usize, task: CryptoTask) -> (Duration, Input) {
        let seed = self.network.token();
        let done =
            if self.crypto { task.run(&mut DeterministicRng::new(seed)) } else { task.rejected_by_pool() };
        (Duration::ZERO, done)
    }

    fn violated(&mut self, property: &'static str, node: usize, text: String) {
        panic!("{property}: node {node}, {text}");
    }

    fn listen_addr(&self, node: usize) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{}", 1000 + node).parse().unwrap()
    }

    fn is_lost_on_arrival(&mut self, node: usize, input: &Input) -> bool {
        // A missing response is no message, so it cannot be lost.
        let is_message = !matches!(input, Input::MailResponseReceived { outcome: Err(_), .. });
        is_message && matches!((self.faults)(node, input), FaultDecision::Drop)
    }

    fn on_mail(&mut self, from: usize, to: usize, frame: &Bytes) {
        self.frames.push((to, self.nodes[from].peer, frame.clone()));
    }

    fn on_stray_answer(&mut self, node: usize, token: Token, body: Bytes) {
        self.answers.push((node, token, body));
    }

    fn on_stray_step(&mut self, _node: usize, token: Token, peer: PeerId, body: &Bytes) -> bool {
        let is_forged = self.forged.contains(&peer);
        if is_forged {
            self.steps.push((token, body.clone()));
        }
        is_forged
    }

    fn alter_answer(&mut self, node: usize, body: Bytes) -> Bytes {
        (self.forged_responses)(node).unwrap_or(body)
    }

    /// Records the request and keeps the connection.
    fn disconnects(&mut self, node: usize, peer: PeerId) -> bool {
        self.disconnect_requests.push((node, peer));
        self.obeys_disconnects
    }

    fn on_verdict(&mut self, node: usize, token: Token, verdict: Verdict, _message: &GossipMessage) {
        self.nodes[node].verdicts.insert(token, verdict);
    }

    fn on_put(&mut self, node: usize, _key: &Bytes, value: &Bytes) {
        let row = HighestSeen::from(&SignedRecord::decode(value.clone()).unwrap());
        let stored = &self.store(node).highest_seen[&row.address];
        // The store never lowers a row, so it has one of a clock that was ahead.
        let is_of_future = stored.order() > (row.generation, row.seq + MAX_SKEW_SECS * 1000);
        assert!(*stored == row || is_of_future, "the store has the row before the network has the record");
    }

    fn write(&mut self, node: usize, number: u64) -> Option<WriteOutcome> {
        if !self.disk_writes {
            self.pending_writes.push((node, number));
            return None;
        }
        let error = self.disk_full.then(|| "no space left on device".to_owned());
        Some(WriteOutcome { delay: Duration::ZERO, error })
    }
}
