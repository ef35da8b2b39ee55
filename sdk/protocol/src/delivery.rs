//! The final state of an accepted message.

use serde::{Deserialize, Serialize};

use crate::forward_compat::known_or_none;
use crate::{ErrorCode, Id, Route};

/// `delivery`: exactly one for each accepted message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Id of the message.
    pub message_id: String,
    /// The `id` of the `send`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Id>,
    /// Final state.
    pub state: DeliveryState,
    /// Reason; absent for `delivered`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// What happened and what to do, for people; absent for `delivered`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Number of attempts to send the message.
    pub attempts: u32,
    /// Route of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_or_none")]
    pub route: Option<Route>,
    /// `true` if an earlier process of the node accepted the message, and may have reported its
    /// final state.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redelivered: bool,
    /// The `messageId` under which the recipient received the message, if it differs, because a
    /// copy of this process had used the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_as: Option<String>,
    /// The `traceparent` that travelled with the message; absent after a restart of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// Final state of an accepted message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// The recipient's node acknowledged the message.
    Delivered,
    /// No acknowledgement came in time. The message may have arrived.
    Expired,
    /// The recipient's node rejected the message.
    Rejected,
    /// This node gave up.
    Failed,
    /// A value that this version of the crate does not know. The node never writes it.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}

impl DeliveryState {
    /// Returns the state as JSON has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Delivered => "delivered",
            DeliveryState::Expired => "expired",
            DeliveryState::Rejected => "rejected",
            DeliveryState::Failed => "failed",
            DeliveryState::Unknown => "unknown",
        }
    }
}
