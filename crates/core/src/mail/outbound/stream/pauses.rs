//! Pauses of a stream whose next message waits for its file, and looks for messages.

use p2p_node_wire::time::Instant;

use super::{QueuedMessage, Stream};
use crate::outgoing::OutgoingMessage;

impl Stream {
    /// Lets the messages that are not in flight wait until `resume`, or until the time `until`.
    pub(crate) fn pause(&mut self, until: Instant) {
        self.is_paused = true;
        self.probe_at = Some(self.probe_at.map_or(until, |at| at.min(until)));
    }

    /// Ends a pause, and the wait for the next probe.
    pub(crate) fn resume(&mut self) {
        (self.is_paused, self.probe_at) = (false, None);
    }

    /// Returns `true` if the queue has a message for which `is_meant` returns `true`.
    pub(crate) fn has(&self, is_meant: impl Fn(&OutgoingMessage) -> bool) -> bool {
        self.find(is_meant).is_some()
    }

    /// Returns the first message for which `is_meant` returns `true`.
    pub(crate) fn find(&self, is_meant: impl Fn(&OutgoingMessage) -> bool) -> Option<&QueuedMessage> {
        self.queue.iter().find(|mail| is_meant(&mail.draft))
    }
}
