//! The limits that the SDKs share. The node does not know them.

/// A limit of the SDKs, as the schema shows it.
#[derive(Clone, Copy, Debug)]
pub struct SdkLimit {
    /// Name of the limit in the schema.
    pub name: &'static str,
    /// Value.
    pub value: u64,
    /// Unit of the value.
    pub unit: &'static str,
    /// What it limits, in one or two sentences.
    pub meaning: &'static str,
}

/// Declares the limits: what each limits, its names, its value and its unit.
macro_rules! sdk_limits {
    ($($(#[doc = $doc:literal])+ $constant:ident = $name:literal, $value:expr, $unit:literal;)+) => {
        $($(#[doc = $doc])+ pub const $constant: usize = $value;)+

        /// Every limit of the SDKs.
        pub const SDK_LIMITS: &[SdkLimit] = &[
            $(SdkLimit {
                name: $name,
                value: $constant as u64,
                unit: $unit,
                meaning: concat!($($doc),+).trim_ascii(),
            },)+
        ];
    };
}

sdk_limits! {
    /// Messages whose delivery an SDK tracks at the same time. The node's outbox holds 8 MiB, so it
    /// reaches its own limit first if messages have 128 bytes or more.
    MAX_TRACKED_MESSAGES = "maxTrackedMessages", 65_536, "messages";
    /// `send`s that wait in an SDK for credit of the node. A program that waits for its `send`s has
    /// far fewer.
    MAX_WAITING_SENDS = "maxWaitingSends", 65_536, "calls";
    /// Agents that the answer to one `discover` returns. Further agents arrive as events.
    MAX_FOUND_AGENTS = "maxFoundAgents", 4096, "agents";
    /// Requests of other agents that wait in an SDK for a handler. The node hands over at most twice as many.
    MAX_WAITING_REQUESTS = "maxWaitingRequests", 16_384, "requests";
    /// Unanswered commands that `send`s leave to other commands. The node answers other commands at
    /// once, so a few are enough.
    RESERVED_COMMANDS = "reservedCommands", 64, "commands";
}
