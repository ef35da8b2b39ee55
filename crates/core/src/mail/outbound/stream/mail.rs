//! Mail that has its place in a queue.

use p2p_node_protocol::Route;
use p2p_node_wire::message_id::StreamId;

use crate::mail::outbound::stream::Position;
use crate::outgoing::OutgoingMessage;

/// The stream and the number of a mail.
pub type Name = (StreamId, u64);

/// Mail that has its place.
#[derive(Clone, Debug)]
pub struct QueuedMessage {
    /// Which of the queue's streams numbers it.
    pub epoch: u32,
    /// Its number in that stream.
    pub seq: u64,
    /// The name that the parent knows it by, if the mail got another since.
    pub accepted_as: Option<Name>,
    /// How often it was put on the wire.
    pub attempts: u32,
    /// Which way it went last.
    pub went: Option<Route>,
    /// Whether it may leave: it is in the store, if there is one.
    pub kept: bool,
    /// Whether an earlier process accepted it, and may have told how it ended.
    pub restored: bool,
    /// Whether the recipient has answered an attempt of this process.
    pub answered: bool,
    /// What it is.
    pub draft: OutgoingMessage,
}

impl QueuedMessage {
    /// Whether an acknowledgement of its number is one of this mail. What was never put on the wire cannot be settled. Of a number of an
    /// earlier process the recipient may believe that nothing will come, for that process had given the mail up, and a later copy of
    /// its store has it again: what the recipient says before it has seen the mail is about that.
    pub(crate) fn can_be_settled(&self) -> bool {
        self.attempts > 0 && (!self.restored || self.answered)
    }

    /// Its place in the queue.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, seq: self.seq }
    }
}

/// Mail that goes under another name from now on.
#[derive(Clone, Debug)]
pub struct Renamed {
    /// The name that the parent knows it by.
    pub accepted_as: Name,
    /// The name under which it goes now.
    pub sent_as: Name,
    /// What it is.
    pub draft: OutgoingMessage,
}
