//! The limits of the fields of commands. They are the same for every node, so `ready` does not name
//! them.

/// A limit of fields, as the documents show it.
#[derive(Clone, Copy, Debug)]
pub struct FieldLimit {
    /// Name of the limit in the schema.
    pub name: &'static str,
    /// Value.
    pub value: u64,
    /// Unit of the value.
    pub unit: &'static str,
    /// The limited fields, each after the name of its command: `send.ttlMs`.
    pub fields: &'static [&'static str],
    /// What it limits, in one sentence.
    pub meaning: &'static str,
}

/// Declares the limits: what each limits, its names, its value, its unit and the fields.
macro_rules! field_limits {
    ($($(#[doc = $doc:literal])+ $constant:ident: $ty:ty = $name:literal, $value:expr, $unit:literal, [$($field:literal),*];)+) => {
        $($(#[doc = $doc])+ pub const $constant: $ty = $value;)+

        /// Every limit of fields.
        pub const FIELD_LIMITS: &[FieldLimit] = &[
            $(FieldLimit {
                name: $name,
                value: $constant as u64,
                unit: $unit,
                fields: &[$($field),*],
                meaning: concat!($($doc),+).trim_ascii(),
            },)+
        ];
    };
}

field_limits! {
    /// Longest `id` that is a string: four UUIDs.
    MAX_ID_BYTES: usize = "maxIdBytes", 128, "bytes", [];
    /// Deepest nesting of arrays and objects in a line, with the object of the line itself.
    MAX_DEPTH: usize = "maxDepth", 32, "levels", [];
    /// Smallest `maxLineBytes`: enough for `ready` and any error.
    MIN_LINE_BYTES: usize = "minLineBytes", 4096, "bytes", ["connect.maxLineBytes"];
    /// Longest `group` of a client.
    MAX_GROUP_BYTES: usize = "maxGroupBytes", 64, "bytes", ["connect.group"];
    /// Longest name of a topic.
    MAX_TOPIC_NAME_BYTES: usize = "maxTopicNameBytes", 128, "bytes",
        ["send.topic", "subscribe.topic", "request.topic"];
    /// Longest `kind`.
    MAX_KIND_BYTES: usize = "maxKindBytes", 64, "bytes", ["send.kind", "request.kind", "handle.kinds"];
    /// Longest `replyTo`, and longest `conversationId`.
    MAX_REFERENCE_BYTES: usize = "maxReferenceBytes", 128, "bytes",
        ["send.replyTo", "send.conversationId"];
    /// Longest `ttlMs`: 7 days, for agents that run once a week.
    MAX_TTL_MS: u64 = "maxTtlMs", 604_800_000, "ms", ["send.ttlMs"];
    /// Longest `timeoutMs` of a search.
    MAX_DISCOVER_MS: u64 = "maxDiscoverMs", 60_000, "ms", ["discover.timeoutMs"];
    /// Longest path of a file: the limit of Linux.
    MAX_PATH_BYTES: usize = "maxPathBytes", 4096, "bytes", ["send.file"];
    /// Topics to which a parent may subscribe. A peer accepts 512, some of which the nodes use
    /// themselves.
    MAX_SUBSCRIPTIONS: usize = "maxSubscriptions", 500, "topics", ["subscribe.topic"];
    /// Capabilities of an agent.
    MAX_CAPABILITIES: usize = "maxCapabilities", 16, "capabilities", ["capabilities.capabilities"];
    /// Total length of the capabilities of an agent.
    MAX_CAPABILITIES_BYTES: usize = "maxCapabilitiesBytes", 256, "bytes",
        ["capabilities.capabilities"];
    /// Longest `deadlineMs` of a request: 1 hour, because the node keeps the request in memory only.
    MAX_DEADLINE_MS: u64 = "maxDeadlineMs", 3_600_000, "ms", ["request.deadlineMs"];
    /// Agents in one request to a list, and answers to one request to a topic: our choice. Each costs the
    /// node about 100 bytes.
    MAX_TARGETS: usize = "maxTargets", 1000, "agents", ["request.peerIds", "request.quorum"];
    /// Parts of an answer that a handler may send before the asker has them: our choice. With parts of 16
    /// KiB they fill a connection of 100 Mbit/s and 300 ms.
    MAX_CREDIT: u32 = "maxCredit", 256, "parts", ["request.credit", "credit.parts"];
    /// Kinds of requests that a client handles: our choice.
    MAX_HANDLED_KINDS: usize = "maxHandledKinds", 256, "kinds", ["handle.kinds"];
    /// Longest `code` of an error of a handler: as long as the codes of the node may be.
    MAX_HANDLER_CODE_BYTES: usize = "maxHandlerCodeBytes", 48, "bytes", ["respond.error"];
    /// Longest `message` of an error of a handler: our choice, a few lines of text.
    MAX_HANDLER_MESSAGE_BYTES: usize = "maxHandlerMessageBytes", 1024, "bytes", ["respond.error"];
    /// Messages in one `ack`: as many as commands may be unanswered. They fit into a line of 64
    /// KiB.
    MAX_ACK_MESSAGES: usize = "maxAckMessages", 1024, "messages", ["ack.messageIds"];
}
