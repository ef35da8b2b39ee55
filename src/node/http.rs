//! What the loop tells its HTTP server.

use bytes::Bytes;
use p2p_node_core::Core;
use p2p_node_core::input::{Input, Now};

use super::Node;
use super::start::VERSION;
use crate::http::metrics::Sample;
use crate::http::{Ask, Source};
use crate::pipe::Line;

impl Source for Core {
    fn is_ready(&self) -> bool {
        Core::is_ready(self)
    }

    fn report(&self) -> serde_json::Result<Bytes> {
        serde_json::to_vec(&Core::report(self)).map(Bytes::from)
    }

    fn sample(&self) -> Sample {
        Sample {
            version: VERSION,
            is_ready: Core::is_ready(self),
            health_score: Core::report(self).metrics.health_score,
            stats: self.stats().clone(),
            snapshot: self.snapshot(),
            usage: self.usage(),
        }
    }
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

    /// Passes events to those who follow the HTTP server.
    pub(super) fn publish(&self, lines: &[Line], now: Now) {
        if let Some(http) = self.http.as_ref().filter(|http| http.has_followers()) {
            lines.iter().for_each(|(event, _)| http.publish(event, now.unix_ms));
        }
    }
}
