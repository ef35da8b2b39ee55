//! Checks the events that the parents get.

use std::time::Duration;

use p2p_node_core::effect::ExitCode;
use p2p_node_protocol::{Delivery, DeliveryState, ErrorCode, ErrorEvent, Event, Id, Message};

use crate::parent::{Name, Restored};
use crate::world::World;

/// A command that takes no time of its own is answered within this much, by a parent that reads.
const ANSWERED: Duration = Duration::from_secs(10);

/// What was heard in the last moment may be at the crypto pool.
const UNDER_WAY: usize = 2;

impl World {
    /// Has a parent read all that is there; how many lines.
    pub fn read(&mut self, node: usize) -> usize {
        let lines = std::mem::take(&mut self.nodes[node].parent.unread);
        let number = lines.len();
        for line in lines {
            self.line(node, line);
        }
        number
    }

    fn line(&mut self, node: usize, line: Event) {
        match line {
            Event::Message(message) => self.message(node, &message),
            Event::Result(answer) => {
                self.terminal(node, &answer.id);
                if let (Id::Number(serial), "ack") = (&answer.id, answer.command.as_str()) {
                    self.ack_answered(node, *serial as u64);
                }
                if let (Id::Number(serial), Some(message_id)) = (&answer.id, answer.message_id)
                    && answer.delivery.is_some()
                {
                    let serial = *serial as u64;
                    self.nodes[node].parent.accepted.insert(message_id, serial);
                    self.hold_to(node, serial);
                }
            }
            Event::Error(error) => self.error(node, &error),
            Event::Delivery(delivery) => self.delivery(node, &delivery),
            Event::Overflow(overflow) => {
                self.report.dropped += overflow.dropped.broadcasts;
            }
            _ => {}
        }
    }

    fn error(&mut self, node: usize, error: &ErrorEvent) {
        if let Some(id) = &error.id {
            self.terminal(node, id);
            if let Id::Number(serial) = id {
                // A send that was refused is no mail.
                if self.nodes[node].parent.mails.remove(&(*serial as u64)).is_some() {
                    self.report.refused += 1;
                }
            }
        }
        match error.code {
            ErrorCode::IdentityConflict | ErrorCode::IdentitySuperseded | ErrorCode::Internal => {
                self.violate("nothing of an honest world is an error", node, error.message.clone());
            }
            _ => {}
        }
    }

    fn terminal(&mut self, node: usize, id: &Id) {
        if self.nodes[node].parent.open.remove(id).is_none() {
            self.violate("every id has one terminal line", node, format!("another for {id}"));
        }
    }

    fn message(&mut self, node: usize, message: &Message) {
        let (from, life, serial, to, _pad): (usize, u32, u64, usize, String) =
            serde_json::from_str(message.data.get()).expect("what parents send");
        let name: Name = (from, life, serial);
        let what = || format!("{name:?} to {to} from {}", message.from);
        if self.nodes[from].address != message.from {
            return self.violate("a message has its sender's name", node, what());
        }
        if message.topic.is_none() && to != node {
            return self.violate("mail reaches whom it was for", node, what());
        }
        let parent = &mut self.nodes[node].parent;
        if !parent.received.insert(name) {
            return self.violate("a message takes effect once", node, what());
        }
        let again = !parent.ever.insert(name);
        self.report.again_after_crash += u64::from(again);
        parent.owed.remove(&name);
        if message.topic.is_some() {
            self.report.broadcasts_received += 1;
            return;
        }
        let latest = parent.latest.entry((from, life, message.priority)).or_default();
        let is_late = *latest > serial;
        *latest = serial.max(*latest);
        // A sender whose disk went back repeats what its recipient may have forgotten, and has what
        // it gave up before.
        let is_of_copy = self.nodes[from].went_back && self.nodes[from].life != life;
        if is_late && !is_of_copy {
            return self.violate("mail keeps its order in its priority", node, what());
        }
        self.report.received += 1;
        if self.nodes[node].by_hand {
            self.told_by_hand(node, name, message);
        }
        let sender = &self.nodes[from].parent;
        if sender.life == life
            && let Some(mail) = sender.mails.get(&serial)
        {
            let latency = self.now - mail.asked;
            self.report.latencies.push(latency.as_millis() as u32);
        }
    }

    fn delivery(&mut self, node: usize, delivery: &Delivery) {
        let parent = &mut self.nodes[node].parent;
        let Some(serial) = parent.accepted.remove(&delivery.message_id) else {
            if let Some(restored) = parent.restored.remove(&delivery.message_id) {
                return self.ended(node, &restored, delivery.state);
            }
            // Of broadcasts, which nobody is held to.
            let broadcast = delivery.code == Some(ErrorCode::NoSubscribers)
                || delivery.state == DeliveryState::Failed && delivery.attempts == 0;
            if !broadcast {
                let what = format!("another for {}", delivery.message_id);
                self.violate("accepted mail has one delivery", node, what);
            }
            return;
        };
        let Some(mail) = parent.mails.remove(&serial) else {
            return self.violate("accepted mail has one delivery", node, format!("another for {serial}"));
        };
        let name = (node, parent.life, serial);
        self.ended(node, &Restored { name, to: mail.to }, delivery.state);
        if self.resting_probe(serial, node) && delivery.state != DeliveryState::Delivered {
            let what = format!("{name:?} to {} is {:?} {:?}", mail.to, delivery.state, delivery.code);
            self.violate("a world at rest delivers", node, what);
        }
    }

    /// Mail of this or an earlier life has ended.
    fn ended(&mut self, node: usize, mail: &Restored, state: DeliveryState) {
        let Restored { name, to } = mail;
        match state {
            DeliveryState::Delivered => {
                self.report.delivered += 1;
                self.delivered_by_hand(node, *to, *name);
                let signs_late = self.nodes[*to].durable || self.nodes[*to].by_hand;
                let recipient = &mut self.nodes[*to].parent;
                if recipient.ever.contains(name) {
                    return;
                }
                if signs_late {
                    // Its node signed when the parent had it.
                    self.violate("delivered means that this mail arrived", node, format!("{name:?} to {to}"));
                } else if recipient.cut_short {
                    // It may have been among what nobody read.
                } else if recipient.reads {
                    self.violate("delivered means that it arrived", node, format!("{name:?} to {to}"));
                } else {
                    recipient.owed.insert(*name);
                }
            }
            DeliveryState::Expired => self.report.expired += 1,
            DeliveryState::Rejected => {
                self.violate("honest mail is not rejected", node, format!("{name:?} to {to}"));
            }
            DeliveryState::Failed | DeliveryState::Unknown => self.report.failed += 1,
        }
    }

    /// Accepted mail is told of when its time is over, by a node that lives to a parent that reads.
    pub fn deadline(&mut self, node: usize, life: u32, serial: u64) {
        let here = &self.nodes[node];
        let pending = here.parent.mails.contains_key(&serial);
        if here.life == life && here.core.is_some() && here.parent.reads && pending {
            self.violate("accepted mail is told of in its time", node, format!("mail {serial}"));
        }
    }

    /// What holds after every step.
    pub fn look_at(&mut self, node: usize) {
        let here = &self.nodes[node];
        let Some(core) = &here.core else { return };
        let mut over = None;
        for holding in core.usage() {
            self.report.held(holding);
            if holding.size > holding.limit {
                over = Some(holding);
            }
        }
        if let Some(holding) = over {
            self.violate("what is held is bounded", node, format!("{holding:?}"));
        }
        let here = &self.nodes[node];
        let Some(core) = &here.core else { return };
        let told = here.parent.reads && here.parent.unread.is_empty() && here.parent.commands.is_empty();
        let lines = core.usage().iter().any(|holding| holding.name.starts_with("lines") && holding.size > 0);
        if told && !lines {
            let accepted = here.parent.mails.values().filter(|mail| mail.accepted).count();
            let restored = here.parent.restored.len();
            let census = core.usage();
            let size = |name| census.iter().find(|holding| holding.name == name).map_or(0, |held| held.size);
            let kept = size("messages in the outbox") - size("pending writes of messages");
            if kept != accepted + restored {
                let what =
                    format!("{accepted} accepted and {restored} restored did not end, {kept} in the outbox");
                self.violate("accepted mail does not vanish", node, what);
            }
        }
    }

    /// A node has ended by itself.
    pub fn exited(&mut self, node: usize, code: ExitCode) {
        self.read(node);
        let here = &self.nodes[node];
        if !here.parent.ended {
            self.violate("a node ends when it is told to", node, format!("{code:?}"));
        } else if here.parent.reads
            && (!here.durable && !here.parent.mails.is_empty() || !here.parent.open.is_empty())
        {
            let what = format!("{} mails, {:?}", here.parent.mails.len(), here.parent.open);
            self.violate("all is told before the end", node, what);
        }
        self.report.exits += 1;
        self.network.endpoints[node].store.end(usize::MAX);
        self.disappear(node);
    }

    /// What holds when everything has come to rest.
    pub fn look_at_rest(&mut self) {
        for node in 0..self.nodes.len() {
            let parent = &self.nodes[node].parent;
            let overdue: Vec<_> =
                parent.open.iter().filter(|(_, asked)| **asked + ANSWERED < self.now).collect();
            if !overdue.is_empty() {
                let what = format!("none for {overdue:?}");
                self.violate("every id has one terminal line", node, what);
            } else if !parent.owed.is_empty() {
                let what = format!("{:?} did not", parent.owed);
                self.violate("delivered means that it arrived", node, what);
            } else if !parent.mails.is_empty() || !parent.restored.is_empty() {
                let what = format!("{} were not, and {:?}", parent.mails.len(), parent.restored);
                self.violate("accepted mail is told of in its time", node, what);
            } else if self.network.endpoints[node].unjudged.len() > UNDER_WAY {
                let what = format!("{} were not", self.network.endpoints[node].unjudged.len());
                self.violate("gossip is judged once", node, what);
            }
        }
    }
}
