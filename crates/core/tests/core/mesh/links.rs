//! Connections between the nodes.

use std::time::Duration;

use p2p_node_core::CoreConfig;
use p2p_node_core::input::Input;
use p2p_node_protocol::Role;
use p2p_node_testing::network::links::{close, close_all, connect, later};
use p2p_node_testing::network::{World as _, pair};

use super::{CONNECT, Mesh};

/// Why a connection ended, as the cores hear it.
const ENDED: &str = "the test ended it";

impl Mesh {
    pub fn connect(&mut self, from: usize, to: usize) {
        connect(self, from, to);
        self.settle();
    }

    /// Ends the connection, and lets neither dial the other again.
    pub fn part(&mut self, one: usize, other: usize) {
        self.parted.insert(pair(one, other));
        close(self, pair(one, other), ENDED);
        self.settle();
    }

    /// Ends the connection, if there is one; whether there was.
    pub fn hang_up(&mut self, one: usize, other: usize) -> bool {
        let connected = close(self, pair(one, other), ENDED);
        self.settle();
        connected
    }

    /// Ends a node as `kill -9` does.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].dead = true;
        close_all(self, node, ENDED);
        self.settle();
    }

    /// Suspends a node's machine: its peers lose it, and it learns that when it wakes.
    pub fn suspend(&mut self, node: usize) {
        self.nodes[node].asleep = true;
        self.nodes[node].lost_asleep = self.network().endpoints[node].neighbours.iter().copied().collect();
        close_all(self, node, ENDED);
        self.settle();
    }

    pub fn wake(&mut self, node: usize) {
        self.nodes[node].asleep = false;
        for other in std::mem::take(&mut self.nodes[node].lost_asleep) {
            let peer = self.nodes[other].peer;
            later(self, node, Duration::ZERO, Input::Disconnected { peer, reason: None });
        }
        self.settle();
    }

    /// Kills a node with a store and starts it again with what that has, connected to those given.
    pub fn restart(
        &mut self,
        node: usize,
        number: u8,
        others: &[usize],
        change: impl FnOnce(&mut CoreConfig),
    ) -> usize {
        self.kill(node);
        let (mails, taken) = (self.store(node).messages.clone(), self.store(node).checkpoints.clone());
        let again = self.add_with(number, Role::Full, CONNECT, |setup| {
            setup.durable = true;
            setup.outbox = mails.values().cloned().collect();
            setup.inbox = taken.values().cloned().collect();
            change(setup);
        });
        let store = self.store_mut(again);
        (store.messages, store.checkpoints) = (mails, taken);
        for other in others {
            self.connect(again, *other);
        }
        again
    }
}
