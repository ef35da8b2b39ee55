//! One client: its protocol, its unanswered commands, and the lines that wait for it.

use std::collections::BTreeSet;

use p2p_node_protocol::{Event, Id, MAX_LINE_BYTES, Message, Priority};

use crate::MAX_INFLIGHT;
use crate::replies::message_line_bytes;
use crate::replies::output_queue::{self, OutputQueue};
use crate::usage::{MAX_REQUIRED, Usage};

/// What the node owes one client: lines to write, and the commands that have no answer yet.
#[derive(Debug)]
pub(crate) struct Client {
    /// The `connect` of the client named protocol version 1. Without a version the node writes the
    /// events of the first sidecar only.
    pub(crate) protocol_v1: bool,
    /// Longest line that the client reads, in bytes.
    pub(crate) max_line: usize,
    /// Ids of unanswered `send` commands.
    pub(crate) open_sends: BTreeSet<Id>,
    /// Ids of other unanswered commands.
    pub(crate) open_requests: BTreeSet<Id>,
    /// Lines that wait for the writer.
    pub(crate) output: OutputQueue,
    /// The client reads no more lines.
    pub(crate) is_gone: bool,
}

impl Client {
    pub(crate) fn new() -> Self {
        Client {
            protocol_v1: false,
            max_line: MAX_LINE_BYTES,
            open_sends: BTreeSet::new(),
            open_requests: BTreeSet::new(),
            output: OutputQueue::default(),
            is_gone: false,
        }
    }

    /// Returns `true` if a command with this id is unanswered.
    pub(crate) fn is_open(&self, id: &Id) -> bool {
        self.open_requests.contains(id) || self.open_sends.contains(id)
    }

    /// Returns `true` if no line waits for the client any more.
    pub(crate) fn is_flushed(&self) -> bool {
        self.is_gone || self.output.is_empty()
    }

    /// Queues a copy of a message for a client that is not the parent. The queue drops the oldest
    /// copy if the client does not read, and counts it, as it does with broadcasts.
    pub(crate) fn copy(&mut self, priority: Priority, message: &Message, bytes: usize) {
        if message_line_bytes(message) > self.max_line {
            return self.output.too_long();
        }
        self.output.broadcast(priority, Event::Message(Box::new(message.clone())), bytes);
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> impl Iterator<Item = Usage> {
        let [must, mail, topic, news, log] = self.output.lines();
        [
            ("commands unanswered", self.open_requests.len(), MAX_INFLIGHT + 1),
            // The lane may hold one send above its limit, and as many sends may wait for the disk.
            ("sends unanswered", self.open_sends.len(), 2 * MAX_INFLIGHT + 1),
            ("unread replies", self.output.unread_others(), 2 * MAX_INFLIGHT + 1),
            ("unread replies to sends", self.output.unread_sends(), 2 * MAX_INFLIGHT + 1),
            ("required lines", must, MAX_REQUIRED),
            ("lines of mail", mail, output_queue::MAIL_LINES),
            ("lines of broadcasts", topic, output_queue::TOPIC_LINES),
            ("lines of peer events", news, output_queue::PEER_EVENT_LINES),
            ("lines of logs", log, output_queue::LOG_LINES),
            ("lines at the writer", self.output.at_writer_lines(), output_queue::WRITER_LINES),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
    }
}
