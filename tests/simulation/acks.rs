//! Parents with manual ack, and their invariants.

use std::time::Duration;

use p2p_node_protocol::{Ack, Command, Message};

use crate::parent::Name;
use crate::world::{ScheduledEvent, World};

/// Messages in a thousand that are acked at once, and those that are acked later. The others are not
/// acked.
const IMMEDIATE: u32 = 800;
const LATER: u32 = 150;
/// Longest delay of a later ack.
const MAX_DELAY: Duration = Duration::from_secs(20);

impl World {
    /// Handles a message to a parent with manual ack.
    pub fn on_manual_ack_message(&mut self, node: usize, name: Name, message: &Message) {
        let durable = self.nodes[node].durable;
        // A sender that was rolled back may send a message again under another id.
        let is_of_copy = self.nodes[name.0].was_rolled_back && self.nodes[name.0].life != name.1;
        let parent = &mut self.nodes[node].parent;
        let again = !parent.delivered.insert(name);
        if durable && parent.persisted_acks.contains(&name) {
            return self.violate("an acked message is not delivered again", node, format!("{name:?}"));
        }
        if durable && again && !message.redelivered && !is_of_copy {
            return self.violate("a redelivered message is marked", node, format!("{name:?}"));
        }
        let life = parent.life;
        let message_id = message.message_id.clone();
        if self.healed || self.is_orderly || self.rng.permille(IMMEDIATE) {
            self.ack(node, name, message_id);
        } else if self.rng.permille(LATER * 1000 / (1000 - IMMEDIATE)) {
            let at = self.now + self.rng.between(Duration::ZERO, MAX_DELAY);
            self.schedule_event(at, ScheduledEvent::Ack { node, life, name, message_id });
        }
    }

    pub fn ack(&mut self, node: usize, name: Name, message_id: String) {
        let now = self.now;
        let parent = &mut self.nodes[node].parent;
        // A parent that has closed stdin sends no more commands.
        if parent.closes_stdin || parent.stdin_closed {
            return;
        }
        parent.acked.insert(name);
        let serial = parent.ask(Command::Ack(Ack::one(message_id)), now);
        parent.open_acks.insert(serial, name);
    }

    /// Handles the answer to an `ack`: the ack is persisted.
    pub fn ack_answered(&mut self, node: usize, serial: u64) {
        let parent = &mut self.nodes[node].parent;
        if let Some(name) = parent.open_acks.remove(&serial) {
            parent.persisted_acks.insert(name);
            self.report.acks += 1;
        }
    }

    /// Checks the report that a message was delivered.
    pub fn check_manual_ack_delivery(&mut self, node: usize, to: usize, name: Name) {
        let parent = &self.nodes[to].parent;
        // A sender that was rolled back may send a message again that the parent has already.
        let has = parent.acked.contains(&name)
            || self.nodes[node].was_rolled_back && parent.ever_received.contains(&name);
        if self.nodes[to].manual_ack && !has {
            self.violate("a delivered message was acked by the parent", node, format!("{name:?} to {to}"));
        }
    }
}
