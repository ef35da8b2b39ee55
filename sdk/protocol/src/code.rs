//! The stable error codes.

use serde::{Deserialize, Serialize};

/// Declares the codes: what each means, its string, whether the same command or message may succeed
/// later, and what to do.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $retryable:literal, $advice:literal;)+) => {
        /// Reason why a command, a line or a message failed. The strings are stable. The set may
        /// grow, so a reader that meets an unknown code uses `retryable`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ #[serde(rename = $text)] $name,)+
            /// A code that this version of the crate does not know. The node never writes it.
            #[serde(other)]
            #[cfg_attr(feature = "schema", schemars(skip))]
            Unknown,
        }

        impl ErrorCode {
            /// Every code that the node can write.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name),+];

            /// Returns the stable string of the code.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)+ ErrorCode::Unknown => "UNKNOWN" }
            }

            /// Returns `true` if the same command or message may succeed later, unchanged.
            pub fn retryable(self) -> bool {
                match self { $(ErrorCode::$name => $retryable,)+ ErrorCode::Unknown => false }
            }

            /// Returns what the program or its user should do, in one or two sentences.
            pub fn advice(self) -> &'static str {
                match self { $(ErrorCode::$name => $advice,)+ ErrorCode::Unknown => "" }
            }

            /// Returns the meaning of the code, in one or two sentences.
            pub fn meaning(self) -> &'static str {
                match self { $(ErrorCode::$name => concat!($($doc),+).trim_ascii(),)+ ErrorCode::Unknown => "" }
            }
        }
    };
}

codes! {
    /// The line is not one JSON object.
    InvalidJson = "INVALID_JSON", false, "Correct the line.";
    /// The line is not UTF-8.
    InvalidUtf8 = "INVALID_UTF8", false, "Correct the line.";
    /// The line is longer than the limit; the node skipped it.
    LineTooLong = "LINE_TOO_LONG", false, "Send less data.";
    /// The `type` is not one of the commands.
    UnknownCommand = "UNKNOWN_COMMAND", false, "Correct the `type`, or use a newer node.";
    /// A field is missing, of the wrong type or out of range.
    InvalidArgument = "INVALID_ARGUMENT", false, "Correct the field that `message` names.";
    /// Another command with the same `id` has no answer yet; `details.id` names it.
    DuplicateId = "DUPLICATE_ID", false, "Use a new `id`.";
    /// The command came before `connect`.
    NotConnected = "NOT_CONNECTED", false, "Write `connect` first.";
    /// There was a `connect` already.
    AlreadyConnected = "ALREADY_CONNECTED", false, "Go on with this session.";
    /// The node does not speak this protocol version; `details.supported` lists those that it
    /// speaks.
    UnsupportedProtocol = "UNSUPPORTED_PROTOCOL", false, "Write `connect` with a listed version.";
    /// The node is shutting down: it did not carry out the command, or did not deliver the mail in
    /// time.
    ShuttingDown = "SHUTTING_DOWN", true, "Send again to the next process.";
    /// A queue is full.
    Busy = "BUSY", true, "Try again in a moment.";
    /// `cancel` gave up the command, or the mail that it sent.
    Cancelled = "CANCELLED", false, "Nothing.";
    /// No verified record names this peer.
    PeerNotFound = "PEER_NOT_FOUND", true, "Use the address, or try again when the agent has joined.";
    /// The peer is known, but none of its addresses answered in time.
    PeerUnreachable = "PEER_UNREACHABLE", true, "Check that the agent runs and can be reached.";
    /// A bootstrap peer belongs to another network; `details` has its `peerId` and `network`.
    WrongNetwork = "WRONG_NETWORK", false, "Correct `bootstrapPeers` or `--network`.";
    /// The recipient has no room: its agent does not read.
    PeerBusy = "PEER_BUSY", true, "Try again later.";
    /// No mail of this `messageId` waits for an `ack`.
    MessageNotFound = "MESSAGE_NOT_FOUND", false, "After a restart wait for the redelivery; else nothing.";
    /// The agent runs, and none of its programs handles requests of this kind.
    NoHandler = "NO_HANDLER", true, "Correct the `kind`, or ask again when the handler runs.";
    /// The handler answered the request with an error; `details.code` is its code.
    HandlerFailed = "HANDLER_FAILED", false, "What the handler's code means.";
    /// The program that handled the request ended, or gave the kind up, before it answered.
    HandlerGone = "HANDLER_GONE", true, "Ask again; the handler may have done its work.";
    /// No answer, or not the whole answer, came within the `deadlineMs`.
    DeadlineExceeded = "DEADLINE_EXCEEDED", true, "Ask again; the handler may have done its work.";
    /// Fewer agents answered a request than its `quorum`; `details` has the numbers.
    QuorumNotReached = "QUORUM_NOT_REACHED", true, "Use the answers that came, or ask again.";
    /// A part of the answer did not arrive.
    ResponseLost = "RESPONSE_LOST", true, "Ask again; the handler may have done its work.";
    /// No request with this `ticket` waits for an answer of this client: it was answered or cancelled, its
    /// deadline passed, or the node is another process.
    TicketNotFound = "TICKET_NOT_FOUND", false, "Nothing.";
    /// The asker accepts no further part at the moment.
    NoCredit = "NO_CREDIT", true, "Wait for the event `credit` of this `ticket`.";
    /// The recipient rejected the mail: it blocks this agent, or does not support this message
    /// format.
    PeerRejected = "PEER_REJECTED", false, "Do not send it again.";
    /// The recipient accepts messages of registered agents only, and the registry does not name the
    /// sender.
    NotRegistered = "NOT_REGISTERED", false, "Register the agent: `p2p-node register`.";
    /// The recipient keeps to the registry, whose owner blocked the sender.
    RegistryBlocked = "REGISTRY_BLOCKED", false, "Ask the owner of the registry.";
    /// The command `registry` needs a registry, and the configuration names none.
    NoRegistry = "NO_REGISTRY", false, "Set `REGISTRY_ADDRESS` and `RPC_URL`.";
    /// The name has no address in ENS.
    NameNotFound = "NAME_NOT_FOUND", false, "Correct the name, or use the address.";
    /// The address of the name cannot be read: the RPC servers do not answer, or do not agree.
    NameUnavailable = "NAME_UNAVAILABLE", true, "Try again, or use the address; check `RPC_URL`.";
    /// The RPC servers serve another chain than the configured one, or it has no registry at the address.
    RegistryUnusable = "REGISTRY_UNUSABLE", false, "Correct the setting that `message` names.";
    /// The RPC servers do not answer, or do not agree.
    RegistryUnavailable = "REGISTRY_UNAVAILABLE", true, "Try again; check `RPC_URL`.";
    /// The sender writes more than a flow guard of the recipient permits: messages a minute, of a
    /// sender or of one conversation. To the recipient's parent: the node stopped such a sender.
    FlowLimit = "FLOW_LIMIT", true, "Wait a minute, and send fewer messages.";
    /// The message is part of an exchange with more replies than the recipient permits: the two
    /// programs may answer each other for ever. To the recipient's parent: the node stopped such replies.
    TooManyHops = "TOO_MANY_HOPS", false, "End the exchange, or begin a new one without `replyTo`.";
    /// The payload is larger than `ready.limits` allows, or than the recipient can read.
    MessageTooLarge = "MESSAGE_TOO_LARGE", false, "Send less data.";
    /// The file of a `send` is larger than this node, or the recipient's node, accepts.
    FileTooLarge = "FILE_TOO_LARGE", false, "Send a smaller file, or parts of it.";
    /// The file of a `send` cannot be read, or is no regular file.
    FileUnavailable = "FILE_UNAVAILABLE", false, "Correct the path or the permissions.";
    /// The file of a message is not what it was when it was sent. To the recipient's parent: the message
    /// will not come.
    FileChanged = "FILE_CHANGED", false, "Send the file again, and keep it until the `delivery`.";
    /// The recipient's node accepts no files, or none of this agent.
    FilesRefused = "FILES_REFUSED", false, "Ask the recipient to start its node with `--files-dir`.";
    /// The node reached no subscriber of the topic in time.
    NoSubscribers = "NO_SUBSCRIBERS", true, "Try again when there are subscribers.";
    /// Only the node publishes on this topic.
    ReservedTopic = "RESERVED_TOPIC", false, "Use another topic.";
    /// No acknowledgement came within the `ttlMs`.
    Expired = "EXPIRED", true, "Send again; the mail may have arrived.";
    /// The mail could not be written to disk, and the node did not accept it. For `ack`, `block`,
    /// `allow` and `unblock`: accepted in memory but not yet durable.
    DiskFull = "DISK_FULL", true, "Free the disk; send the command again.";
    /// The node could not listen on its port, or on any address of `--listen`.
    ListenFailed = "LISTEN_FAILED", true, "Free the port, or use another one.";
    /// The data directory cannot be read or written now; the node tried for 3 s and did not start.
    StoreUnavailable = "STORE_UNAVAILABLE", true, "Follow `message`, and start the node again.";
    /// A process on another host has the data directory, or took it from this process.
    DataDirInUse = "DATA_DIR_IN_USE", true, "End one of them, or give each its own directory.";
    /// The data directory belongs to another agent; `message` names both addresses.
    DataDirMismatch = "DATA_DIR_MISMATCH", false, "Use its key, or another directory.";
    /// A key, a binding or an identity file cannot be used.
    IdentityInvalid = "IDENTITY_INVALID", false, "Correct the file that `message` names.";
    /// Another process runs with the same identity or data directory.
    IdentityInUse = "IDENTITY_IN_USE", false, "End it, or use another identity.";
    /// The network has a record with our signature that this node did not issue.
    IdentityConflict = "IDENTITY_CONFLICT", false, "Find the other holder of the key.";
    /// A newer generation of this identity exists; this node may no longer speak for the address.
    IdentitySuperseded = "IDENTITY_SUPERSEDED", false, "Stop this node; use the newer generation.";
    /// Without a message: at least two peers agree that this machine's clock is off. Of mail: the
    /// two clocks differ too much.
    ClockSkew = "CLOCK_SKEW", true, "Set the clock.";
    /// A defect of the node.
    Internal = "INTERNAL", true, "Report it; start the node again.";
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
