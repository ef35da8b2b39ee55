//! The lanes of a destination: queues of messages that do not wait for each other.

use p2p_node_protocol::Priority;
use p2p_node_wire::message_id::{StreamId, StreamNamespace};

use crate::outgoing::OutgoingMessage;

/// Number of lanes of a destination.
pub const LANES: usize = 4;

/// A queue of messages to one recipient, with a stream of its own. The recipient puts the messages of a
/// lane in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Messages of one priority.
    Of(Priority),
    /// Messages with files. The recipient acknowledges one when it has its file, which takes long.
    Files,
}

impl Lane {
    /// Every lane, in the order of the streams of a destination.
    pub const ALL: [Lane; LANES] =
        [Lane::Of(Priority::High), Lane::Of(Priority::Medium), Lane::Of(Priority::Low), Lane::Files];

    /// Returns the lane of a message.
    pub(crate) fn of(draft: &OutgoingMessage) -> Self {
        if draft.file.is_some() { Lane::Files } else { Lane::Of(draft.priority) }
    }

    /// Returns the position among the streams of a destination.
    pub fn index(self) -> usize {
        match self {
            Lane::Of(priority) => Priority::High as usize - priority as usize,
            Lane::Files => LANES - 1,
        }
    }

    /// Returns the id of the stream of this lane.
    pub(crate) fn stream_id(self, origin: &StreamNamespace, incarnation: u64, recipient: &[u8]) -> StreamId {
        match self {
            Lane::Of(priority) => origin.stream(b"mail", incarnation, recipient, priority),
            Lane::Files => origin.stream(b"file", incarnation, recipient, Priority::Medium),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lane_is_found_at_its_index() {
        for (index, lane) in Lane::ALL.into_iter().enumerate() {
            assert_eq!(lane.index(), index);
        }
    }
}
