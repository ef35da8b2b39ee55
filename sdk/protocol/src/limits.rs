//! The limits that `ready` names.

use serde::{Deserialize, Serialize};

/// Limits: sizes in bytes, times in milliseconds, the others are numbers of commands or messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Longest line, each way.
    pub max_line_bytes: usize,
    /// Commands whose terminal line has not been read yet.
    pub max_inflight: usize,
    /// Largest `data` of mail.
    pub max_direct_bytes: usize,
    /// Largest `data` of a broadcast.
    pub max_topic_bytes: usize,
    /// Bytes of `data` of unanswered `send`s. A parent that stays within this and `max_inflight` never finds stdin paused.
    pub max_inflight_bytes: usize,
    /// The longest time that the node leaves stdin unread while the parent reads stdout.
    pub max_pause_ms: u64,
    /// Mail that the node hands to the parent without an `ack`, with `--ack manual`.
    pub max_unacked: usize,
}

impl Limits {
    /// The limits of a node that was told nothing else : lines of 1 MiB, 1,024 unanswered
    /// commands, 1 MiB − 8 KiB of mail so that its line has room around it, and 60 KiB of broadcast, which
    /// with its frame stays below the 64 KiB that gossip carries. 4 MiB of unanswered `send`s are twice what one
    /// recipient may have in the outbox; a pause of 2 s is long enough for a recipient that works to make room, and short
    /// enough for every parent's time-out; 16,384 is the number of messages that may wait for the parent to read.
    pub const STANDARD: Limits = Limits {
        max_line_bytes: crate::MAX_LINE_BYTES,
        max_inflight: 1024,
        max_direct_bytes: (1 << 20) - (8 << 10),
        max_topic_bytes: 60 << 10,
        max_inflight_bytes: 4 << 20,
        max_pause_ms: 2000,
        max_unacked: 16_384,
    };
}
