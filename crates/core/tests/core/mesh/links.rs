//! Connections between the nodes.

use std::time::Duration;

use p2p_node_core::CoreConfig;
use p2p_node_core::input::Input;
use p2p_node_protocol::Role;
use p2p_node_testing::network::links::{close, close_all, connect, later};
use p2p_node_testing::network::{World as _, pair};

use super::{CONNECT, Mesh};

/// Reason that the cores get when a connection ends.
const ENDED: &str = "the test ended it";

impl Mesh {
    pub fn connect(&mut self, from: usize, to: usize) {
        connect(self, from, to);
        self.settle();
    }

    /// Ends the connection and prevents new ones between the two nodes.
    pub fn partition(&mut self, one: usize, other: usize) {
        self.partitions.insert(pair(one, other));
        close(self, pair(one, other), ENDED);
        self.settle();
    }

    /// Ends the connection and returns `true` if there was one.
    pub fn disconnect(&mut self, one: usize, other: usize) -> bool {
        let connected = close(self, pair(one, other), ENDED);
        self.settle();
        connected
    }

    /// Ends a node as `kill -9` does.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].killed = true;
        close_all(self, node, ENDED);
        self.settle();
    }

    /// Suspends a node's machine: its peers lose the connections at once, the node when it resumes.
    pub fn suspend(&mut self, node: usize) {
        self.nodes[node].suspended = true;
        self.nodes[node].lost_peers = self.network().endpoints[node].neighbours.iter().copied().collect();
        close_all(self, node, ENDED);
        self.settle();
    }

    pub fn wake(&mut self, node: usize) {
        self.nodes[node].suspended = false;
        for other in std::mem::take(&mut self.nodes[node].lost_peers) {
            let peer = self.nodes[other].peer;
            later(self, node, Duration::ZERO, Input::Disconnected { peer, reason: None });
        }
        self.settle();
    }

    /// Kills a node with a store, starts it again from that store, and connects it to `others`.
    pub fn restart(
        &mut self,
        node: usize,
        number: u8,
        others: &[usize],
        change: impl FnOnce(&mut CoreConfig),
    ) -> usize {
        self.kill(node);
        let (messages, checkpoints) =
            (self.store(node).messages.clone(), self.store(node).checkpoints.clone());
        let again = self.add_with(number, Role::Full, CONNECT, |config| {
            config.durable = true;
            config.outbox = messages.values().cloned().collect();
            config.inbox = checkpoints.values().cloned().collect();
            change(config);
        });
        let store = self.store_mut(again);
        (store.messages, store.checkpoints) = (messages, checkpoints);
        for other in others {
            self.connect(again, *other);
        }
        again
    }
}
