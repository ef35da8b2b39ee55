//! Random actions of the parents, and random faults of the nodes.

use std::time::Duration;

use p2p_node_protocol::{Command, Discover, Ping, Priority, Route, Send, Status};
use serde_json::value::RawValue;

use crate::parent::SentMessage;
use crate::scenario::Operation;
use crate::world::{ScheduledEvent, World};

/// Topic of all broadcasts.
pub const TOPIC: &str = "jobs";
/// Most commands that a parent writes to a node that does not read.
const MAX_QUEUED_COMMANDS: usize = 500;
/// Longest time after the TTL until the delivery is reported.
const GRACE: Duration = Duration::from_millis(500);

impl World {
    /// Runs random commands and crashes once a second.
    pub fn every_second(&mut self) {
        if !self.healed {
            let number = self.traffic / 100 + u32::from(self.rng.permille(self.traffic % 100 * 10));
            for _ in 0..number {
                self.random_command();
            }
            if self.rng.permille(self.churn / 6) {
                self.random_crash();
            }
        }
        self.schedule_event(self.now + Duration::from_secs(1), ScheduledEvent::Second);
    }

    fn random_command(&mut self) {
        let node = self.rng.below(self.nodes.len());
        let to = self.rng.below(self.nodes.len());
        let here = &self.nodes[node].parent;
        if self.nodes[node].core.is_none()
            || here.stdin_closed
            || here.closes_stdin
            || here.commands.len() > MAX_QUEUED_COMMANDS
        {
            return;
        }
        match self.rng.below(20) {
            0 => drop(self.nodes[node].parent.ask(Command::Ping(Ping {}), self.now)),
            1 => drop(self.nodes[node].parent.ask(Command::Status(Status {}), self.now)),
            2 => {
                let address = Some(self.nodes[to].address.clone());
                let discover = Discover { address, timeout_ms: Some(3000), ..Discover::default() };
                self.nodes[node].parent.ask(Command::Discover(discover), self.now);
            }
            3 => {
                let discover = Discover { timeout_ms: Some(500), ..Discover::default() };
                self.nodes[node].parent.ask(Command::Discover(discover), self.now);
            }
            4 | 5 => self.broadcast(node),
            _ if to == node => {}
            kind => {
                let route = match kind {
                    6..=8 => Route::Direct,
                    9..=11 => Route::Gossip,
                    _ => Route::Auto,
                };
                let priority = [Priority::Low, Priority::Medium, Priority::High][self.rng.below(3)];
                let bytes = if self.rng.permille(50) { self.rng.below(50_000) } else { self.rng.below(200) };
                let ttl = Duration::from_secs([5, 30, 120][self.rng.below(3)]);
                self.mail(node, to, bytes, priority, route, ttl);
            }
        }
        self.step(node);
    }

    fn broadcast(&mut self, node: usize) {
        let now = self.now;
        let parent = &mut self.nodes[node].parent;
        let serial = parent.serial();
        let data = payload(node, parent.life, serial, node, 40);
        let mut send = Send::to_topic(TOPIC, data);
        send.priority = Some(Priority::Medium);
        parent.ask(Command::Send(send), now);
    }

    /// Sends a message, whose delivery the simulation checks.
    pub fn mail(
        &mut self,
        node: usize,
        to: usize,
        bytes: usize,
        priority: Priority,
        route: Route,
        ttl: Duration,
    ) {
        let (now, address) = (self.now, self.nodes[to].address.clone());
        let parent = &mut self.nodes[node].parent;
        // The serial number of the command is that of the message.
        let serial = parent.next_serial();
        let mut send = Send::to_peer(address, payload(node, parent.life, serial, to, bytes));
        send.priority = Some(priority);
        send.route = Some(route);
        send.ttl_ms = Some(ttl.as_millis() as u64);
        let asked = parent.ask(Command::Send(send), now);
        debug_assert_eq!(asked, serial);
        parent.messages.insert(serial, SentMessage { to, sent_at: now, ttl, accepted: false });
        self.report.messages += 1;
    }

    /// Marks a message as accepted and schedules its deadline.
    pub fn start_deadline(&mut self, node: usize, serial: u64) {
        let parent = &mut self.nodes[node].parent;
        let Some(mail) = parent.messages.get_mut(&serial) else { return };
        mail.accepted = true;
        let (life, ttl) = (parent.life, mail.ttl);
        self.schedule_event(self.now + ttl + GRACE, ScheduledEvent::Deadline { node, life, serial });
    }

    fn random_crash(&mut self) {
        let node = self.rng.below(self.nodes.len());
        if self.nodes[node].core.is_none() || self.nodes[node].suspended_until.is_some() {
            return;
        }
        let down = self.rng.between(Duration::from_millis(200), Duration::from_secs(60));
        let start = Operation::Start {
            node,
            same_store: self.rng.permille(500),
            new_addr: self.rng.permille(500) && node >= self.scenario.servers,
        };
        self.execute_operation(Operation::Crash(node));
        self.schedule_event(self.now + down, ScheduledEvent::Do(start));
    }
}

/// Returns a payload with sender and recipient, and of this size.
fn payload(from: usize, life: u32, serial: u64, to: usize, bytes: usize) -> Box<RawValue> {
    let text = format!("[{from},{life},{serial},{to},\"{}\"]", "x".repeat(bytes));
    RawValue::from_string(text).expect("an array")
}
