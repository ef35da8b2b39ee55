//! The limits that `ready` names.

use serde::{Deserialize, Serialize};

/// A limit, as the documents show it.
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
        /// The default limits. A line has 1 MiB. Mail has 8 KiB less, for the rest of its line. A
        /// broadcast has 60 KiB, because gossip carries frames of 64 KiB. 4 MiB of unanswered
        /// `send`s are twice the share of one recipient in the outbox. A responsive recipient frees
        /// capacity within 2 s, and the timeout of a parent is longer. The parent may leave 16,384
        /// messages unacknowledged.
    }

    /// Longest line in each direction; `connect` may lower it for the output.
    max_line_bytes: usize = "maxLineBytes", "bytes", crate::MAX_LINE_BYTES;
    /// Commands whose terminal line the parent has not read.
    max_inflight: usize = "maxInflight", "commands", 1024;
    /// Largest `data` of mail. Larger mail fails with `MESSAGE_TOO_LARGE`.
    max_direct_bytes: usize = "maxDirectBytes", "bytes", (1 << 20) - (8 << 10);
    /// Largest `data` of a broadcast. Larger ones fail with `MESSAGE_TOO_LARGE`.
    max_topic_bytes: usize = "maxTopicBytes", "bytes", 60 << 10;
    /// Largest file of a message. A larger one fails with `FILE_TOO_LARGE`.
    max_file_bytes: u64 = "maxFileBytes", "bytes", 1 << 30;
    /// Bytes of `data` of unanswered `send`s. The node never pauses stdin while the parent respects
    /// this limit and `maxInflight`.
    max_inflight_bytes: usize = "maxInflightBytes", "bytes", 4 << 20;
    /// Longest time that the node does not read stdin while the parent reads stdout.
    max_pause_ms: u64 = "maxPauseMs", "ms", 2000;
    /// Agents whose answers the requests of a client may wait for at the same time.
    max_requests: usize = "maxRequests", "answers", 16_384;
    /// With `--ack manual`: messages that the node delivers without an `ack`; `connect` may lower
    /// it.
    max_unacked: usize = "maxUnacked", "messages", 16_384;
}
