//! The stable error codes.

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $retryable:literal;)+) => {
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
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)+ ErrorCode::Unknown => "UNKNOWN" }
            }

            /// Returns `true` if the same command or message may succeed later, unchanged.
            pub fn retryable(self) -> bool {
                match self { $(ErrorCode::$name => $retryable,)+ ErrorCode::Unknown => false }
            }

            /// Returns the meaning of the code, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(ErrorCode::$name => concat!($($doc),+).trim_ascii(),)+ ErrorCode::Unknown => "" }
            }
        }
    };
}

codes! {
    /// The line is not one JSON object.
    InvalidJson = "INVALID_JSON", false;
    /// The line is not UTF-8.
    InvalidUtf8 = "INVALID_UTF8", false;
    /// The line exceeds the limit; the node skipped it up to its newline.
    LineTooLong = "LINE_TOO_LONG", false;
    /// The `type` is not one of the commands.
    UnknownCommand = "UNKNOWN_COMMAND", false;
    /// A field is missing, of the wrong type or out of range.
    InvalidArgument = "INVALID_ARGUMENT", false;
    /// Another command with the same `id` has not been answered yet; `details.id` names it.
    DuplicateId = "DUPLICATE_ID", false;
    /// The command came before `connect`.
    NotConnected = "NOT_CONNECTED", false;
    /// The parent sent `connect` before.
    AlreadyConnected = "ALREADY_CONNECTED", false;
    /// The node does not support the requested protocol version; `details.supported` lists those
    /// that it does.
    UnsupportedProtocol = "UNSUPPORTED_PROTOCOL", false;
    /// The node is closing: it did not carry out the command, or the message was not delivered yet.
    ShuttingDown = "SHUTTING_DOWN", true;
    /// A queue is full: try again in a moment.
    Busy = "BUSY", true;
    /// A `cancel` ended the command, or the message that it sent.
    Cancelled = "CANCELLED", false;
    /// No verified record names this peer: try its `0x` address, or again once it has joined.
    PeerNotFound = "PEER_NOT_FOUND", true;
    /// The peer is known, but none of its addresses answered in time.
    PeerUnreachable = "PEER_UNREACHABLE", true;
    /// A bootstrap peer belongs to another network; `details` has its `peerId` and `network`.
    WrongNetwork = "WRONG_NETWORK", false;
    /// The recipient has no room at the moment.
    PeerBusy = "PEER_BUSY", true;
    /// No message with this `messageId` waits for an `ack`: it was acknowledged, its sender gave it
    /// up, or the node was restarted and the message has not been redelivered yet.
    MessageNotFound = "MESSAGE_NOT_FOUND", false;
    /// The recipient rejected the message.
    PeerRejected = "PEER_REJECTED", false;
    /// The payload is larger than `ready.limits` allows.
    MessageTooLarge = "MESSAGE_TOO_LARGE", false;
    /// The node reached no subscriber of the topic in time.
    NoSubscribers = "NO_SUBSCRIBERS", true;
    /// The topic is reserved for nodes: a parent may not publish there.
    ReservedTopic = "RESERVED_TOPIC", false;
    /// The time to live ran out before an acknowledgement came.
    Expired = "EXPIRED", true;
    /// The node could not persist the message, and did not accept it. For an `ack`: accepted, but
    /// not durable yet.
    DiskFull = "DISK_FULL", true;
    /// The node could not listen on its port.
    ListenFailed = "LISTEN_FAILED", true;
    /// The store in the data directory cannot be opened at present: the node did not start. Start
    /// it again later.
    StoreUnavailable = "STORE_UNAVAILABLE", true;
    /// A process on another host has the data directory, or has taken it from this one: end one of
    /// them, or give each a directory of its own.
    DataDirInUse = "DATA_DIR_IN_USE", true;
    /// The data directory belongs to another agent: use the key that it was made with, or another
    /// directory.
    DataDirMismatch = "DATA_DIR_MISMATCH", false;
    /// A key, a binding or an identity file cannot be used.
    IdentityInvalid = "IDENTITY_INVALID", false;
    /// Another process runs with the same identity or data directory.
    IdentityInUse = "IDENTITY_IN_USE", false;
    /// A record signed with our own identity, which we did not issue, is in the network.
    IdentityConflict = "IDENTITY_CONFLICT", false;
    /// A newer generation of this identity exists: this node may no longer speak for the address.
    IdentitySuperseded = "IDENTITY_SUPERSEDED", false;
    /// Several peers agree that this machine's clock is wrong. For a message: its recipient
    /// rejected the time of this machine's clock.
    ClockSkew = "CLOCK_SKEW", true;
    /// A defect of the node.
    Internal = "INTERNAL", true;
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
