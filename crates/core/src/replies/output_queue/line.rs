//! The lines of an output queue.

use alloy_primitives::Address;
use p2p_node_protocol::{Event, Message, Priority};
use p2p_node_wire::message_id::StreamId;

use super::LINE_OVERHEAD;
use crate::budget::Weigh;

/// Names a message about which the core needs to know when the parent has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteToken {
    /// Address of the sender.
    pub sender: Address,
    /// Stream of the message.
    pub stream: StreamId,
    /// Sequence number in the stream.
    pub seq: u64,
}

/// A message from another agent on its way to a client.
#[derive(Clone, Debug)]
pub struct MailLine {
    /// Priority with which the node queues the message.
    pub priority: Priority,
    /// The message.
    pub message: Box<Message>,
    /// Size of its payload, in bytes.
    pub bytes: usize,
    /// Names the message, if the core needs to know when a client has it.
    pub receipt: Option<WriteToken>,
}

impl Weigh for MailLine {
    fn weight(&self) -> usize {
        self.bytes + LINE_OVERHEAD
    }
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) order: u64,
    pub(super) bytes: usize,
    pub(super) event: Event,
    pub(super) ends: Ends,
    pub(super) receipt: Option<WriteToken>,
    /// No other client gets this message, so another client gets it if this one goes before it has
    /// the line.
    pub(super) is_owed: bool,
}

/// A line at the writer.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) bytes: usize,
    pub(super) ends: Ends,
    pub(super) receipt: Option<WriteToken>,
    /// A copy of an owed message.
    pub(super) owed: Option<MailLine>,
}

/// The kind of command that a line completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    Nothing,
    Send,
    Other,
}

impl Ends {
    pub(super) fn of(event: &Event, is_send: bool) -> Self {
        match event {
            Event::Result(_) if is_send => Ends::Send,
            Event::Error(error) if is_send && error.id.is_some() => Ends::Send,
            Event::Result(_) => Ends::Other,
            Event::Error(error) if error.id.is_some() => Ends::Other,
            _ => Ends::Nothing,
        }
    }
}

impl Line {
    /// Returns the message of the line.
    pub(super) fn into_mail(self) -> Option<MailLine> {
        let Event::Message(message) = self.event else { return None };
        let priority = message.priority;
        Some(MailLine { priority, message, bytes: self.bytes - LINE_OVERHEAD, receipt: self.receipt })
    }

    /// Returns a copy of the message if the line is owed.
    pub(super) fn copy_owed(&self) -> Option<MailLine> {
        let Event::Message(message) = &self.event else { return None };
        self.is_owed.then(|| MailLine {
            priority: message.priority,
            message: message.clone(),
            bytes: self.bytes - LINE_OVERHEAD,
            receipt: self.receipt,
        })
    }
}

impl Weigh for Line {
    fn weight(&self) -> usize {
        self.bytes
    }
}

impl Written {
    /// Returns the place of an `overflow` line.
    pub(super) fn of_overflow() -> Self {
        Written { bytes: LINE_OVERHEAD, ends: Ends::Nothing, receipt: None, owed: None }
    }
}

impl Weigh for Written {
    fn weight(&self) -> usize {
        self.bytes
    }
}
