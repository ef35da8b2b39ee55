//! Checks the events that the parents get.

use std::time::Duration;

use p2p_node_core::effect::ExitCode;
use p2p_node_protocol::{Delivery, DeliveryState, ErrorCode, ErrorEvent, Event, Id, Message, PeerBanned};

use crate::parent::{Name, Restored};
use crate::world::World;

/// Longest time until a command without a timeout is answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The collections of those whose reputation was ever lowered.
const FAULTS: [&str; 3] = ["agents with faults", "nodes with faults", "hosts with faults"];

/// Most gossip messages without a verdict at the end: the crypto pool may have the last ones.
const MAX_UNVERIFIED: usize = 2;

impl World {
    /// Lets a parent read all unread lines, and returns their number.
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
            Event::PeerDiscovered(found) => self.discovered(node, &found),
            Event::Result(answer) => {
                self.terminal(node, &answer.id);
                if let (Id::Number(serial), "discover") = (&answer.id, answer.command.as_str()) {
                    self.search_ended(node, *serial);
                }
                if let (Id::Number(serial), "ack") = (&answer.id, answer.command.as_str()) {
                    self.ack_answered(node, *serial as u64);
                }
                if let (Id::Number(serial), Some(message_id)) = (&answer.id, answer.message_id)
                    && answer.delivery.is_some()
                {
                    let serial = *serial as u64;
                    self.nodes[node].parent.accepted.insert(message_id, serial);
                    self.start_deadline(node, serial);
                }
            }
            Event::Error(error) => self.error(node, &error),
            Event::Delivery(delivery) => self.delivery(node, &delivery),
            Event::PeerBanned(ban) => {
                if let Some(banned) = self.banned_node(&ban) {
                    let what = format!("node {banned} for {} at {:.2}", ban.reason, ban.score);
                    self.violate("an honest peer is never banned", node, what);
                }
            }
            Event::Overflow(overflow) => {
                self.report.dropped += overflow.dropped.broadcasts;
            }
            _ => {}
        }
    }

    /// Returns the node of this world that a ban names. An attacker is none.
    fn banned_node(&self, ban: &PeerBanned) -> Option<usize> {
        let (peer, address) = (ban.peer_id.as_ref(), ban.address.as_ref());
        let is_named = |node: usize| {
            peer.is_some_and(|peer| *peer == self.network.endpoints[node].peer.to_string())
                || address.is_some_and(|address| *address == self.nodes[node].address)
        };
        (0..self.nodes.len()).find(|node| is_named(*node))
    }

    fn error(&mut self, node: usize, error: &ErrorEvent) {
        if let Some(id) = &error.id {
            self.terminal(node, id);
            if let Id::Number(serial) = id {
                // A refused `send` is no message.
                if self.nodes[node].parent.messages.remove(&(*serial as u64)).is_some() {
                    self.report.refused += 1;
                }
            }
        }
        match error.code {
            ErrorCode::IdentityConflict | ErrorCode::IdentitySuperseded | ErrorCode::Internal => {
                self.violate(
                    "an honest world has no identity conflict and no internal error",
                    node,
                    error.message.clone(),
                );
            }
            _ => {}
        }
    }

    fn terminal(&mut self, node: usize, id: &Id) {
        if self.nodes[node].parent.open.remove(id).is_none() {
            self.violate("every id has one terminal line", node, format!("a second one for {id}"));
        }
    }

    fn message(&mut self, node: usize, message: &Message) {
        let (from, life, serial, to, _pad): (usize, u32, u64, usize, String) =
            serde_json::from_str(message.data.get()).expect("a payload of the simulation");
        let name: Name = (from, life, serial);
        let what = || format!("{name:?} to {to} from {}", message.from);
        if self.nodes[from].address != message.from {
            return self.violate("a message has the address of its sender", node, what());
        }
        if message.topic.is_none() && to != node {
            return self.violate("mail reaches its recipient", node, what());
        }
        let parent = &mut self.nodes[node].parent;
        if !parent.received.insert(name) {
            return self.violate("a process delivers a message once", node, what());
        }
        let again = !parent.ever_received.insert(name);
        self.report.again_after_crash += u64::from(again);
        parent.missing.remove(&name);
        if message.topic.is_some() {
            self.report.broadcasts_received += 1;
            return;
        }
        let latest = parent.latest.entry((from, life, message.priority)).or_default();
        let is_late = *latest > serial;
        *latest = serial.max(*latest);
        // A sender that was rolled back may repeat messages whose state its recipient has evicted,
        // and messages that it had cancelled.
        let is_of_copy = self.nodes[from].was_rolled_back && self.nodes[from].life != life;
        if is_late && !is_of_copy {
            return self.violate("mail of one priority arrives in order", node, what());
        }
        self.report.received += 1;
        if self.nodes[node].manual_ack {
            self.on_manual_ack_message(node, name, message);
        }
        let sender = &self.nodes[from].parent;
        if sender.life == life
            && let Some(mail) = sender.messages.get(&serial)
        {
            let latency = self.now - mail.sent_at;
            self.report.latencies.push(latency.as_millis() as u32);
        }
    }

    fn delivery(&mut self, node: usize, delivery: &Delivery) {
        let parent = &mut self.nodes[node].parent;
        let Some(serial) = parent.accepted.remove(&delivery.message_id) else {
            if let Some(restored) = parent.restored.remove(&delivery.message_id) {
                return self.complete(node, &restored, delivery.state);
            }
            // Broadcasts are not tracked.
            let broadcast = delivery.code == Some(ErrorCode::NoSubscribers)
                || delivery.state == DeliveryState::Failed && delivery.attempts == 0;
            if !broadcast {
                let what = format!("a second one for {}", delivery.message_id);
                self.violate("accepted mail has one delivery", node, what);
            }
            return;
        };
        let Some(mail) = parent.messages.remove(&serial) else {
            return self.violate(
                "accepted mail has one delivery",
                node,
                format!("a second one for {serial}"),
            );
        };
        let name = (node, parent.life, serial);
        self.complete(node, &Restored { name, to: mail.to }, delivery.state);
        if self.is_final_probe(serial, node) && delivery.state != DeliveryState::Delivered {
            let what = format!("{name:?} to {} is {:?} {:?}", mail.to, delivery.state, delivery.code);
            self.violate("a world without faults delivers", node, what);
        }
    }

    /// Handles the completion of a message of this or an earlier process.
    fn complete(&mut self, node: usize, mail: &Restored, state: DeliveryState) {
        let Restored { name, to } = mail;
        match state {
            DeliveryState::Delivered => {
                self.report.delivered += 1;
                self.check_manual_ack_delivery(node, *to, *name);
                let signs_late = self.nodes[*to].durable || self.nodes[*to].manual_ack;
                let recipient = &mut self.nodes[*to].parent;
                if recipient.ever_received.contains(name) {
                    return;
                }
                if signs_late {
                    // The recipient's node acks after the parent has read the message.
                    self.violate("a delivered message reached the parent", node, format!("{name:?} to {to}"));
                } else if recipient.lost_unread_lines {
                    // The message may have been among the unread lines.
                } else if recipient.reads {
                    self.violate("a delivered message arrives", node, format!("{name:?} to {to}"));
                } else {
                    recipient.missing.insert(*name);
                }
            }
            DeliveryState::Expired => self.report.expired += 1,
            DeliveryState::Rejected => {
                self.violate("valid mail is not rejected", node, format!("{name:?} to {to}"));
            }
            DeliveryState::Failed | DeliveryState::Unknown => self.report.failed += 1,
        }
    }

    /// Checks that a running node has reported an accepted message by its deadline.
    pub fn deadline(&mut self, node: usize, life: u32, serial: u64) {
        let here = &self.nodes[node];
        let pending = here.parent.messages.contains_key(&serial);
        if here.life == life && here.core.is_some() && here.parent.reads && pending {
            self.violate("accepted mail is reported by its deadline", node, format!("mail {serial}"));
        }
    }

    /// Checks the invariants after every step.
    pub fn check_invariants(&mut self, node: usize) {
        let here = &self.nodes[node];
        let Some(core) = &here.core else { return };
        let mut over = None;
        let usages = core.usage();
        for usage in usages.iter().copied() {
            self.report.record_usage(usage);
            if usage.size > usage.limit {
                over = Some(usage);
            }
        }
        if let Some(usage) = over {
            self.violate("every collection is within its limit", node, format!("{usage:?}"));
        }
        let size = |name: &str| usages.iter().find(|usage| usage.name == name).expect("the row").size;
        if self.is_honest
            && let Some(blamed) = FAULTS.into_iter().find(|name| size(name) > 0)
        {
            self.violate("an honest peer is never blamed", node, format!("{} {blamed}", size(blamed)));
        }
        let here = &self.nodes[node];
        let all_read = here.parent.reads && here.parent.unread.is_empty() && here.parent.commands.is_empty();
        let lines = usages.iter().any(|usage| usage.name.starts_with("lines") && usage.size > 0);
        if all_read && !lines {
            let accepted = here.parent.messages.values().filter(|mail| mail.accepted).count();
            let restored = here.parent.restored.len();
            let outbox = size("messages in the outbox") - size("pending writes of messages");
            if outbox != accepted + restored {
                let what =
                    format!("{accepted} accepted and {restored} restored are open, {outbox} in the outbox");
                self.violate("accepted mail stays in the outbox until it completes", node, what);
            }
        }
    }

    /// Checks a node that has exited.
    pub fn exited(&mut self, node: usize, code: ExitCode) {
        self.read(node);
        let here = &self.nodes[node];
        if !here.parent.stdin_closed {
            self.violate("a node exits only on request", node, format!("{code:?}"));
        } else if here.parent.reads
            && (!here.durable && !here.parent.messages.is_empty() || !here.parent.open.is_empty())
        {
            let what = format!("{} messages, {:?}", here.parent.messages.len(), here.parent.open);
            self.violate("everything is reported before the exit", node, what);
        }
        self.report.exits += 1;
        self.network.endpoints[node].store.end(usize::MAX);
        self.on_process_end(node);
    }

    /// Checks the invariants at the end of a run.
    pub fn check_final_invariants(&mut self) {
        for node in 0..self.nodes.len() {
            let parent = &self.nodes[node].parent;
            let overdue: Vec<_> =
                parent.open.iter().filter(|(_, asked)| **asked + ANSWER_TIMEOUT < self.now).collect();
            if !overdue.is_empty() {
                let what = format!("none for {overdue:?}");
                self.violate("every id has one terminal line", node, what);
            } else if !parent.missing.is_empty() {
                let what = format!("{:?} did not arrive", parent.missing);
                self.violate("a delivered message arrives", node, what);
            } else if !parent.messages.is_empty() || !parent.restored.is_empty() {
                let what = format!("{} are open, and {:?}", parent.messages.len(), parent.restored);
                self.violate("accepted mail is reported by its deadline", node, what);
            } else if self.network.endpoints[node].unvalidated.len() > MAX_UNVERIFIED {
                let what = format!("{} have none", self.network.endpoints[node].unvalidated.len());
                self.violate("gossip gets a verdict", node, what);
            }
        }
    }
}
