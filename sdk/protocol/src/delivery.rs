//! How accepted mail ends.

use serde::{Deserialize, Serialize};

use crate::forward_compat::known_or_none;
use crate::{ErrorCode, Id, Route};

/// `delivery`: exactly one per accepted mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The message.
    pub message_id: String,
    /// The `id` of the `send`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Id>,
    /// How it ended.
    pub state: DeliveryState,
    /// Why, unless it was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// What happened and what to do about it, for a person; absent when it was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How often it was put on the wire.
    pub attempts: u32,
    /// Which way it went last.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_or_none")]
    pub route: Option<Route>,
    /// Whether an earlier process of the node accepted it, and may have told this too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redelivered: bool,
    /// The `messageId` under which the recipient gets it, if it had to get another: a copy of this process had used its first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_as: Option<String>,
}

/// How an accepted mail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// The recipient's node took it and signed for it.
    Delivered,
    /// No acknowledgement came in time; it may have arrived all the same.
    Expired,
    /// The recipient's node refused it.
    Rejected,
    /// This node gave it up.
    Failed,
    /// A word that this version of the crate does not know. Never written by the node.
    #[serde(other)]
    #[cfg_attr(feature = "schema", schemars(skip))]
    Unknown,
}
