//! Connections between the nodes.

use p2p_node_core::CoreConfig;
use p2p_node_core::input::Input;
use p2p_node_protocol::Role;

use super::{CONNECT, Mesh};

impl Mesh {
    pub fn connect(&mut self, from: usize, to: usize) {
        self.link(from, to);
        self.settle();
    }

    pub(super) fn link(&mut self, from: usize, to: usize) {
        if !self.connected.insert((from.min(to), from.max(to))) {
            return;
        }
        for (here, there, dialer) in [(from, to, true), (to, from, false)] {
            let peer = self.nodes[there].peer;
            self.wire.push_back((here, Input::Connected { peer, dialer }));
            for topic in self.nodes[there].topics.clone() {
                self.wire.push_back((here, Input::PeerSubscribed { peer, topic }));
            }
            if self.nodes[there].core_role_serves() {
                self.wire.push_back((here, Input::DhtServerSeen { peer }));
            }
        }
    }

    /// Ends the connection, and lets neither dial the other again.
    pub fn part(&mut self, one: usize, other: usize) {
        self.parted.insert((one.min(other), one.max(other)));
        self.unlink(one, other);
        self.settle();
    }

    /// Ends the connection, if there is one; whether there was.
    pub fn hang_up(&mut self, one: usize, other: usize) -> bool {
        let connected = self.connected.contains(&(one.min(other), one.max(other)));
        self.unlink(one, other);
        self.settle();
        connected
    }

    /// Ends a node as `kill -9` does.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].dead = true;
        for other in self.neighbours(node) {
            self.unlink(node, other);
        }
        self.settle();
    }

    /// Suspends a node's machine: its peers lose it, and it learns that when it wakes.
    pub fn suspend(&mut self, node: usize) {
        self.nodes[node].asleep = true;
        for other in self.neighbours(node) {
            self.unlink(node, other);
            self.nodes[node].lost_asleep.push(other);
        }
        self.settle();
    }

    pub fn wake(&mut self, node: usize) {
        self.nodes[node].asleep = false;
        for other in std::mem::take(&mut self.nodes[node].lost_asleep) {
            let peer = self.nodes[other].peer;
            self.wire.push_back((node, Input::Disconnected { peer, reason: None }));
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
        let (mails, taken) = (self.nodes[node].mails.clone(), self.nodes[node].taken.clone());
        let again = self.add_with(number, Role::Full, CONNECT, |setup| {
            setup.durable = true;
            setup.outbox = mails.values().cloned().collect();
            setup.inbox = taken.values().cloned().collect();
            change(setup);
        });
        (self.nodes[again].mails, self.nodes[again].taken) = (mails, taken);
        for other in others {
            self.connect(again, *other);
        }
        again
    }

    pub(super) fn unlink(&mut self, one: usize, other: usize) {
        if self.connected.remove(&(one.min(other), one.max(other))) {
            for (here, there) in [(one, other), (other, one)] {
                let peer = self.nodes[there].peer;
                self.wire.push_back((here, Input::Disconnected { peer, reason: None }));
            }
        }
    }
}
