//! What the loop tells its HTTP server.

use std::collections::{BTreeMap, BTreeSet};

use p2p_node_core::Core;
use p2p_node_core::client_id::ClientId;
use p2p_node_core::input::{Input, Now};
use p2p_node_protocol::{Event, NetworkReport};

use super::Node;
use super::start::VERSION;
use crate::http::metrics::Sample;
use crate::http::{Ask, Source};
use crate::pipe::Line;

impl Source for Core {
    fn is_ready(&self) -> bool {
        Core::is_ready(self)
    }

    fn report(&self) -> NetworkReport {
        Core::report(self)
    }

    fn sample(&self) -> Sample {
        Sample {
            version: VERSION,
            is_ready: Core::is_ready(self),
            stats: self.stats().clone(),
            snapshot: self.snapshot(),
            usage: self.usage(),
        }
    }
}

/// Returns `true` for events that not every client gets.
fn is_of_one_client(event: &Event) -> bool {
    matches!(event, Event::Message(_) | Event::Delivery(_))
}

impl Node {
    /// Answers the questions of the HTTP server that have arrived.
    pub(super) fn poll_http(&mut self, now: Now) {
        while let Some(ask) = self.http.as_mut().and_then(|http| http.try_next()) {
            self.answer(ask, now);
        }
    }

    /// Answers a question of the HTTP server.
    pub(super) fn answer(&mut self, ask: Ask, now: Now) {
        let Some(http) = &mut self.http else { return };
        for (what, number) in http.take_drops() {
            if number > 0 {
                self.core.handle(Input::Dropped { what, number }, now);
            }
        }
        http.answer(ask, &self.core, now);
    }

    /// Passes events to those who follow the HTTP server: all events of the parent, and the messages and
    /// deliveries of the other clients. All other events come from the parent alone, so that none comes twice;
    /// a daemon attaches a client of its own for them.
    pub(super) fn publish(&self, of_parent: &[Line], of_clients: &BTreeMap<ClientId, Vec<Line>>, now: Now) {
        let Some(http) = self.http.as_ref().filter(|http| http.has_followers()) else { return };
        let mut told = BTreeSet::new();
        let has_clients = !of_clients.is_empty();
        let of_clients = of_clients.values().flatten().filter(|(event, _)| is_of_one_client(event));
        let events = of_parent.iter().chain(of_clients).map(|(event, _)| event).filter(|event| match event {
            // Several clients get one message, most often in the same turn.
            Event::Message(message) if has_clients => told.insert(message.message_id.as_str()),
            _ => true,
        });
        http.publish(events, now.unix_ms);
    }
}
