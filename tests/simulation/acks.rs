//! Parents with manual acks, and the invariants of those.

use std::time::Duration;

use p2p_node_protocol::{Ack, Command, Message};

use crate::parent::Name;
use crate::world::{ScheduledEvent, World};

/// Of a thousand mails so many have their `ack` at once, and so many some time later; the others
/// have none.
const AT_ONCE: u32 = 800;
const LATER: u32 = 150;
/// How much later.
const LATEST: Duration = Duration::from_secs(20);

impl World {
    /// A parent that acknowledges by itself was told of mail.
    pub fn told_by_hand(&mut self, node: usize, name: Name, message: &Message) {
        let durable = self.nodes[node].durable;
        // What a sender whose disk went back had given up comes under another id.
        let is_of_copy = self.nodes[name.0].went_back && self.nodes[name.0].life != name.1;
        let parent = &mut self.nodes[node].parent;
        let again = !parent.told.insert(name);
        if durable && parent.taken.contains(&name) {
            return self.violate("what was acknowledged is not told again", node, format!("{name:?}"));
        }
        if durable && again && !message.redelivered && !is_of_copy {
            return self.violate("what was told before says so", node, format!("{name:?}"));
        }
        let life = parent.life;
        let message_id = message.message_id.clone();
        if self.resting || self.rng.permille(AT_ONCE) {
            self.ack(node, name, message_id);
        } else if self.rng.permille(LATER * 1000 / (1000 - AT_ONCE)) {
            let at = self.now + self.rng.between(Duration::ZERO, LATEST);
            self.at(at, ScheduledEvent::Ack { node, life, name, message_id });
        }
    }

    pub fn ack(&mut self, node: usize, name: Name, message_id: String) {
        let now = self.now;
        let parent = &mut self.nodes[node].parent;
        // A parent that has closed stdin sends no more commands.
        if parent.ends || parent.ended {
            return;
        }
        parent.acked.insert(name);
        let serial = parent.ask(Command::Ack(Ack::one(message_id)), now);
        parent.asked_acks.insert(serial, name);
    }

    /// An `ack` was answered: the disk knows.
    pub fn ack_answered(&mut self, node: usize, serial: u64) {
        let parent = &mut self.nodes[node].parent;
        if let Some(name) = parent.asked_acks.remove(&serial) {
            parent.taken.insert(name);
            self.report.acks += 1;
        }
    }

    /// Its sender was told that it was delivered.
    pub fn delivered_by_hand(&mut self, node: usize, to: usize, name: Name) {
        let parent = &self.nodes[to].parent;
        // A sender whose disk went back may ask for mail that it had given up when the parent had
        // it already.
        let has = parent.acked.contains(&name) || self.nodes[node].went_back && parent.ever.contains(&name);
        if self.nodes[to].by_hand && !has {
            self.violate("delivered means that the parent said so", node, format!("{name:?} to {to}"));
        }
    }
}
