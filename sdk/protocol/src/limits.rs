//! The limits that `ready` names.

use serde::{Deserialize, Serialize};

/// A limit as the documents show it.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Name of the field in `ready.limits`.
    pub name: &'static str,
    /// Standard value.
    pub value: u64,
    /// Unit of the value.
    pub unit: &'static str,
    /// What it limits, in one sentence.
    pub meaning: &'static str,
}

/// Declares the limits: their names, what they limit, their units and their standard values.
macro_rules! limits {
    (
        standard { $(#[doc = $standard:literal])+ }
        $($(#[doc = $doc:literal])+ $field:ident: $ty:ty = $name:literal, $unit:literal, $value:expr;)+
    ) => {
        /// Limits: sizes in bytes, times in milliseconds, the others are numbers of commands or messages.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub struct Limits {
            $($(#[doc = $doc])+ #[serde(rename = $name)] pub $field: $ty,)+
        }

        impl Limits {
            $(#[doc = $standard])+
            pub const STANDARD: Limits = Limits { $($field: $value),+ };

            /// Every limit with its standard value, in the order of `ready.limits`.
            pub const ALL: &[Limit] = &[
                $(Limit {
                    name: $name,
                    value: Limits::STANDARD.$field as u64,
                    unit: $unit,
                    meaning: concat!($($doc),+).trim_ascii(),
                },)+
            ];
        }
    };
}

limits! {
    standard {
        /// The limits of a node without other instructions: lines of 1 MiB, 1,024 unanswered
        /// commands, 1 MiB − 8 KiB of mail so that its line has room around it, and 60 KiB of broadcast, which
        /// with its frame stays below the 64 KiB that gossip carries. 4 MiB of unanswered `send`s are twice what one
        /// recipient may have in the outbox; a pause of 2 s is long enough for a recipient that works to make room, and short
        /// enough for every parent's time-out; 16,384 is the number of messages that may wait for the parent to read.
    }

    /// Longest line, each way; `connect` may lower it for the output.
    max_line_bytes: usize = "maxLineBytes", "bytes", crate::MAX_LINE_BYTES;
    /// Commands whose terminal line the parent has not read.
    max_inflight: usize = "maxInflight", "commands", 1024;
    /// Largest `data` of mail; more is `MESSAGE_TOO_LARGE`.
    max_direct_bytes: usize = "maxDirectBytes", "bytes", (1 << 20) - (8 << 10);
    /// Largest `data` of a broadcast; more is `MESSAGE_TOO_LARGE`.
    max_topic_bytes: usize = "maxTopicBytes", "bytes", 60 << 10;
    /// Bytes of `data` of unanswered `send`s. A parent that stays within this and `maxInflight` never
    /// finds stdin paused.
    max_inflight_bytes: usize = "maxInflightBytes", "bytes", 4 << 20;
    /// Longest time that the node leaves stdin unread while the parent reads stdout.
    max_pause_ms: u64 = "maxPauseMs", "ms", 2000;
    /// Mail that the node hands to the parent without an `ack`, with `--ack manual`; `connect` may
    /// lower it.
    max_unacked: usize = "maxUnacked", "messages", 16_384;
}
