//! Files of messages, and the progress of their transfers.

use serde::{Deserialize, Serialize};

use crate::forward_compat::known_or_default;
use crate::{ErrorCode, Id};

/// The file of a received message. Its content is complete and verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReceivedFile {
    /// Absolute path of the file on this machine. The client may read, move or delete it.
    pub path: String,
    /// Size, in bytes.
    pub size: u64,
    /// BLAKE3 hash of the content, in lower-case hexadecimal.
    pub hash: String,
    /// The name that the sender gave the file, at most 255 bytes: text of a stranger, and no part of
    /// `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `transfer`: the progress of the file of a message, at most once a second for each file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    /// Id of the message.
    pub message_id: String,
    /// `send` or `receive`.
    #[serde(deserialize_with = "known_or_default")]
    pub direction: TransferDirection,
    /// Checksummed Ethereum address of the other agent.
    pub address: String,
    /// Bytes that the recipient's node has, or for `send` bytes that left, with those of earlier connections.
    pub bytes: u64,
    /// Size of the file, in bytes.
    pub total: u64,
    /// The `id` of the `send`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Id>,
    /// Why the transfer stopped. Without a `delivery` of the message, it goes on later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
}

/// The direction of a transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TransferDirection {
    /// This node sends the file.
    Send,
    /// This node receives the file.
    Receive,
    /// A value that this version of the crate does not know. The node never writes it.
    #[default]
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}
