//! The stable error codes.

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $retryable:literal;)+) => {
        /// Why a command, a line or a mail failed. The strings are stable; the set may grow, so a reader
        /// that meets an unknown one goes by `retryable`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ #[serde(rename = $text)] $name,)+
            /// A code that this version of the crate does not know. Never written by the node.
            #[serde(other)]
            #[cfg_attr(feature = "schema", schemars(skip))]
            Unknown,
        }

        impl ErrorCode {
            /// Every code that the node can write.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name),+];

            /// The stable string of the code.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)+ ErrorCode::Unknown => "UNKNOWN" }
            }

            /// Whether the same thing may succeed later without being changed.
            pub fn retryable(self) -> bool {
                match self { $(ErrorCode::$name => $retryable,)+ ErrorCode::Unknown => false }
            }

            /// What the code means, in one sentence.
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
    /// The line is longer than the limit and was skipped up to its newline.
    LineTooLong = "LINE_TOO_LONG", false;
    /// The `type` is not one of the commands.
    UnknownCommand = "UNKNOWN_COMMAND", false;
    /// A field is missing, of the wrong type or out of range.
    InvalidArgument = "INVALID_ARGUMENT", false;
    /// Another command with the same `id` has not been answered yet; `details.id` names it.
    DuplicateId = "DUPLICATE_ID", false;
    /// The command came before `connect`.
    NotConnected = "NOT_CONNECTED", false;
    /// There was a `connect` already.
    AlreadyConnected = "ALREADY_CONNECTED", false;
    /// The protocol version asked for is not spoken; `details.supported` lists those that are.
    UnsupportedProtocol = "UNSUPPORTED_PROTOCOL", false;
    /// The node is closing: the command was not carried out, or the mail had not been delivered yet.
    ShuttingDown = "SHUTTING_DOWN", true;
    /// A queue is full: try again in a moment.
    Busy = "BUSY", true;
    /// The command, or the mail that it sent, was given up because `cancel` asked for it.
    Cancelled = "CANCELLED", false;
    /// No verified record names this peer: try its `0x` address, or again once it has joined.
    PeerNotFound = "PEER_NOT_FOUND", true;
    /// The peer is known, but none of its addresses answered in time.
    PeerUnreachable = "PEER_UNREACHABLE", true;
    /// A bootstrap peer belongs to another network; `details` has its `peerId` and `network`.
    WrongNetwork = "WRONG_NETWORK", false;
    /// The recipient has no room at the moment.
    PeerBusy = "PEER_BUSY", true;
    /// No mail of this `messageId` waits for an `ack`: it has had one, its sender has given it up, or the node was started again and it has
    /// yet to come again.
    MessageNotFound = "MESSAGE_NOT_FOUND", false;
    /// The recipient refused the mail.
    PeerRejected = "PEER_REJECTED", false;
    /// The payload is larger than `ready.limits` allows.
    MessageTooLarge = "MESSAGE_TOO_LARGE", false;
    /// Nobody who subscribes to the topic was reached in time.
    NoSubscribers = "NO_SUBSCRIBERS", true;
    /// The topic belongs to the node itself: a parent may not publish there.
    ReservedTopic = "RESERVED_TOPIC", false;
    /// The time to live ran out before an acknowledgement came.
    Expired = "EXPIRED", true;
    /// The mail could not be brought to the disk, and was not accepted. Of an `ack`: it counts, but the disk does not know yet.
    DiskFull = "DISK_FULL", true;
    /// The node could not listen on its port.
    ListenFailed = "LISTEN_FAILED", true;
    /// The store in the data directory cannot be opened at present: the node did not start. Start it again later.
    StoreUnavailable = "STORE_UNAVAILABLE", true;
    /// A process on another host has the data directory, or has taken it from this one: end one of them, or give each a directory of its own.
    DataDirInUse = "DATA_DIR_IN_USE", true;
    /// The data directory belongs to another agent: use the key that it was made with, or another directory.
    DataDirMismatch = "DATA_DIR_MISMATCH", false;
    /// A key, a binding or an identity file cannot be used.
    IdentityInvalid = "IDENTITY_INVALID", false;
    /// Another process runs with the same identity or data directory.
    IdentityInUse = "IDENTITY_IN_USE", false;
    /// A record signed with our own identity, which we did not issue, is in the network.
    IdentityConflict = "IDENTITY_CONFLICT", false;
    /// A newer generation of this identity exists: this node may no longer speak for the address.
    IdentitySuperseded = "IDENTITY_SUPERSEDED", false;
    /// Several peers agree that this machine's clock is off. Of mail: its recipient refused the time of this machine's clock.
    ClockSkew = "CLOCK_SKEW", true;
    /// A defect of the node.
    Internal = "INTERNAL", true;
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
