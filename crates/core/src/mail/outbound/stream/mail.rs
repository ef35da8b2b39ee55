//! A message in a queue, and its names.

use p2p_node_protocol::Route;
use p2p_node_wire::message_id::StreamId;

use crate::mail::outbound::stream::Position;
use crate::outgoing::OutgoingMessage;

/// The stream and the number of a message.
pub type Name = (StreamId, u64);

/// A message in a queue.
#[derive(Clone, Debug)]
pub struct QueuedMessage {
    /// The stream that numbers the message.
    pub epoch: u32,
    /// The number of the message in that stream.
    pub seq: u64,
    /// The name under which the parent knows the message, if the node renamed it.
    pub accepted_as: Option<Name>,
    /// The number of attempts to send it.
    pub attempts: u32,
    /// The route of the last attempt.
    pub last_route: Option<Route>,
    /// `true` if the message may leave: the store has committed it, or there is no store.
    pub persisted: bool,
    /// `true` if an earlier process accepted the message. That process may have reported how it
    /// ended.
    pub restored: bool,
    /// `true` if the recipient has answered an attempt of this process.
    pub answered: bool,
    /// The content and the options of the message.
    pub draft: OutgoingMessage,
}

impl QueuedMessage {
    /// Returns `true` if an ack of this number can be about this message.
    ///
    /// An ack cannot complete a message that was never sent. The recipient may have skipped a
    /// number of an earlier process: that process gave up the message, and a restored copy of its
    /// store contains it again. So an ack of such a number counts only after the recipient has
    /// answered an attempt of this process.
    pub(crate) fn can_be_acked(&self) -> bool {
        self.attempts > 0 && (!self.restored || self.answered)
    }

    /// Returns the position in the queue.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, seq: self.seq }
    }
}

/// A message with a new name on the wire.
#[derive(Clone, Debug)]
pub struct Renamed {
    /// The name under which the parent knows the message.
    pub accepted_as: Name,
    /// The new name.
    pub sent_as: Name,
    /// The content and the options of the message.
    pub draft: OutgoingMessage,
}
