//! Requests and answers: the commands and the events of the program that asks, and of the program that
//! handles.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::forward_compat::{given, known_or_none};
use crate::{Encoding, Id, Trust};

/// `request`: a question to one agent, to each agent of a list, or to the subscribers of a topic: exactly
/// one of `peer_id`, `peer_ids` and `topic`. It needs an `id`, which stays in use until the request ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Ask {
    /// The agent: a PeerId of a known agent, an `0x…` Ethereum address, or a name of ENS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<String>,
    /// The agents, 1 to 1,000, each as in `peerId` but for names of ENS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peer_ids: Vec<String>,
    /// The topic, at most 128 bytes. The request is a broadcast, so everybody can read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Kind of the request, at most 64 bytes. It selects the handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The question, as in `send`.
    #[cfg_attr(feature = "schema", schemars(with = "serde_json::Value"))]
    pub data: Box<RawValue>,
    /// Encoding of `data`; absent: JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// Time for the whole answer, in milliseconds: 1 to 3,600,000 (1 hour). Absent: 30,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Number of answers with which a request to a list or a topic ends, 1 to 1,000. Absent: the answers of
    /// all agents of a list; for a topic, what comes until the deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<usize>,
    /// `true` if the answer may have several parts. Only with `peerId`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// With `stream`: the number of parts that the handler may send at first, 1 to 256. The program permits
    /// more by the command `credit`. Absent: the node permits more as the program reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit: Option<u32>,
    /// The trace of the request: a `traceparent` of W3C Trace Context, version 00.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl Ask {
    /// Returns a request to one agent, with default fields.
    pub fn to_peer(peer_id: impl Into<String>, data: Box<RawValue>) -> Self {
        Ask { peer_id: Some(peer_id.into()), ..Ask::bare(data) }
    }

    /// Returns a request to each agent of a list, with default fields.
    pub fn to_peers(peer_ids: Vec<String>, data: Box<RawValue>) -> Self {
        Ask { peer_ids, ..Ask::bare(data) }
    }

    /// Returns a request to the subscribers of a topic, with default fields.
    pub fn to_topic(topic: impl Into<String>, data: Box<RawValue>) -> Self {
        Ask { topic: Some(topic.into()), ..Ask::bare(data) }
    }

    fn bare(data: Box<RawValue>) -> Self {
        Ask {
            peer_id: None,
            peer_ids: Vec::new(),
            topic: None,
            kind: None,
            data,
            encoding: None,
            deadline_ms: None,
            quorum: None,
            stream: false,
            credit: None,
            traceparent: None,
        }
    }
}

/// `respond`: an answer to a request, or a part of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Respond {
    /// The `ticket` of the `request`.
    pub ticket: String,
    /// The answer, or a part of it, as in `send`. Absent: `null`; in an answer of several parts, the end
    /// without another part.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Value>"))]
    pub data: Option<Box<RawValue>>,
    /// Encoding of `data`; absent: JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// The error with which the handler ends the request, instead of `data`: its `code` has at most 48 bytes,
    /// its `message` 1,024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<HandlerError>,
    /// `false` if more parts follow. Absent: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<bool>,
}

impl Respond {
    /// Returns the only answer, or the last part of one.
    pub fn last(ticket: impl Into<String>, data: Box<RawValue>) -> Self {
        Respond { data: Some(data), ..Respond::end(ticket) }
    }

    /// Returns the end of an answer of several parts, without another part.
    pub fn end(ticket: impl Into<String>) -> Self {
        Respond { ticket: ticket.into(), data: None, encoding: None, error: None, last: None }
    }

    /// Returns a part of an answer that others follow.
    pub fn part(ticket: impl Into<String>, data: Box<RawValue>) -> Self {
        Respond { last: Some(false), ..Respond::last(ticket, data) }
    }

    /// Returns an error that ends the request.
    pub fn error(ticket: impl Into<String>, error: HandlerError) -> Self {
        Respond { error: Some(error), ..Respond::end(ticket) }
    }
}

/// An error of a handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HandlerError {
    /// Code of the handler's choice: 1 to 48 bytes of upper-case letters, digits and underscores.
    pub code: String,
    /// Explanation for people, at most 1,024 bytes without control characters.
    #[serde(default)]
    pub message: String,
}

/// `handle`: the client handles requests of these kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Handle {
    /// The kinds, instead of those set before: at most 256, each of 1 to 64 bytes. `*` stands for all
    /// requests that no other handler takes, also those without a kind. Empty: the client handles none.
    pub kinds: Vec<String>,
}

/// `credit`: the client permits more parts of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Credit {
    /// The `id` of the `request`.
    pub target: Id,
    /// Number of parts that the handler may send in all: at most 256 more than the client has got.
    pub parts: u32,
}

/// `request`: a request of another agent, for a client with a handler.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct IncomingRequest {
    /// Names the request in `respond`.
    pub ticket: String,
    /// The asker's checksummed Ethereum address, proven by signatures.
    pub from: String,
    /// PeerId of the asker's node.
    pub peer_id: String,
    /// Kind of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The question, as the asker's agent wrote it.
    #[cfg_attr(feature = "schema", schemars(with = "serde_json::Value"))]
    pub data: Box<RawValue>,
    /// Present when `data` is a string of base64.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_or_none")]
    pub encoding: Option<Encoding>,
    /// The topic of a request to a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Id of the message that carried the request, unique in the network.
    pub message_id: String,
    /// Time left for the whole answer, in milliseconds.
    pub deadline_ms: u64,
    /// Number of parts that the handler may send at first. 1 if the asker accepts one answer only.
    pub credit: u32,
    /// `true` if the answer may have several parts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// The trace of the request. A claim of the asker's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Trust in the asker.
    pub trust: Trust,
}

/// `response`: an answer to a request of this client, or a part of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// Id of the `request`.
    pub request_id: Id,
    /// Checksummed Ethereum address of the agent that answers, proven by signatures.
    pub from: String,
    /// PeerId of its node. Absent if the request did not reach one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<String>,
    /// The answer, as the handler wrote it. Absent with `error`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Value>"))]
    pub data: Option<Box<RawValue>>,
    /// Present when `data` is a string of base64.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_or_none")]
    pub encoding: Option<Encoding>,
    /// The error of this agent, in a request to a list or a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<AgentError>,
    /// Number of the part, from 0.
    pub part: u32,
    /// `true` if no part of this agent follows. The end of an answer may also come without a part: the
    /// `result` of the request tells it.
    pub last: bool,
    /// Trust in the agent.
    pub trust: Trust,
}

/// Why an agent did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AgentError {
    /// `HANDLER_FAILED`, or the code with which a request to this agent alone would end.
    pub code: crate::ErrorCode,
    /// Explanation for people; of `HANDLER_FAILED`, what the handler wrote.
    pub message: String,
    /// With `HANDLER_FAILED`: the code of the handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler_code: Option<String>,
}

/// `request_cancelled`: a request needs no answer any more. Its `ticket` is void.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RequestCancelled {
    /// The `ticket` of the `request`.
    pub ticket: String,
    /// `cancelled` by the asker, or `deadline`.
    pub reason: String,
}

/// `credit`: the asker permits more parts of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ResponseCredit {
    /// The `ticket` of the `request`.
    pub ticket: String,
    /// Number of parts that the handler may send in all.
    pub parts: u32,
}
