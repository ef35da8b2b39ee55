//! Messages to send, and their delivery.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use p2p_node_protocol::{
    Answer, Delivery, DeliveryState, Encoding, MAX_TRACKED_MESSAGES, MAX_TTL_MS, Priority, Route, Send,
    encode_base64,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::Error;
use crate::data;
use crate::shared::{Answered, Outcome, Shared};

/// A value that the SDK can send: any value that serde can write as JSON, or [`Bytes`].
pub trait Payload {
    /// Returns the value as the JSON of the line, and its encoding.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`].
    #[doc(hidden)]
    fn to_data(&self) -> Result<(Box<RawValue>, Option<Encoding>), Error>;
}

impl<T: Serialize + ?Sized> Payload for T {
    fn to_data(&self) -> Result<(Box<RawValue>, Option<Encoding>), Error> {
        Ok((data::encode(self)?, None))
    }
}

/// Binary data. The receiver reads it with [`Message::bytes`](crate::Message::bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Payload for Bytes<'_> {
    fn to_data(&self) -> Result<(Box<RawValue>, Option<Encoding>), Error> {
        let (data, _) = encode_base64(self.0).to_data()?;
        Ok((data, Some(Encoding::Base64)))
    }
}

/// The longest time to live that the node accepts.
const MAX_TTL: Duration = Duration::from_millis(MAX_TTL_MS);

/// The options of a message, besides recipient and data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendOptions {
    /// The kind of the message, for the receiving agent, at most 64 bytes. Default: none.
    pub kind: Option<String>,
    /// The priority. Default: that of the kind, else medium.
    pub priority: Option<Priority>,
    /// How long the node tries to deliver the message: 1 ms to 7 days. Default: 120 s, and 24 h
    /// with a data directory.
    pub ttl: Option<Duration>,
    /// The route of the message; broadcasts ignore it. Default: [`Route::Auto`].
    pub route: Option<Route>,
    /// The `message_id` of the message that this one answers, at most 128 bytes. Default: none.
    pub reply_to: Option<String>,
    /// The name of the conversation, at most 128 bytes. Default: none.
    pub conversation_id: Option<String>,
    /// The trace of the message: a `traceparent` of W3C Trace Context. Default: none.
    pub traceparent: Option<String>,
    /// A file that goes with a message to an agent, of up to 1 GiB. The call returns when the node has read the
    /// file; keep it as it is until the delivery. [`Event::Transfer`](crate::Event::Transfer) tells the progress. The
    /// recipient finds its copy in [`Message::file`](crate::Message::file). Default: none.
    pub file: Option<PathBuf>,
}

impl SendOptions {
    /// Builds a `send` without a recipient.
    pub(crate) fn send(self, data: &(impl Payload + ?Sized)) -> Result<Send, Error> {
        let SendOptions { kind, priority, ttl, route, reply_to, conversation_id, traceparent, file } = self;
        if let Some(ttl) = ttl.filter(|ttl| !(Duration::from_millis(1)..=MAX_TTL).contains(ttl)) {
            return Err(Error::argument("ttl", format!("must be 1 ms to 7 days, not {ttl:?}")));
        }
        let ttl_ms = ttl.and_then(|ttl| u64::try_from(ttl.as_millis()).ok());
        let (data, encoding) = data.to_data()?;
        let topic = None;
        let file = file.map(|file| absolute(&file)).transpose()?;
        Ok(Send {
            peer_id: None,
            topic,
            data,
            kind,
            priority,
            ttl_ms,
            route,
            reply_to,
            conversation_id,
            traceparent,
            encoding,
            file,
        })
    }
}

/// Returns the absolute path of a file: the node may have another working directory.
fn absolute(file: &Path) -> Result<String, Error> {
    let path = std::path::absolute(file).map_err(|error| Error::argument("file", error.to_string()))?;
    path.into_os_string().into_string().map_err(|_| Error::argument("file", "is not UTF-8".to_owned()))
}

/// A message that the node has accepted. Only this value reports the delivery; if the program drops
/// it, no event reports the delivery.
#[derive(Clone)]
pub struct SentMessage {
    /// Identifies the message across the network.
    pub message_id: String,
    outcome: Outcome,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for SentMessage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.outcome.borrow().as_ref().map(|delivery| delivery.state);
        formatter
            .debug_struct("SentMessage")
            .field("message_id", &self.message_id)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

impl SentMessage {
    pub(crate) fn new(answered: Answered) -> Result<Self, Error> {
        let (message_id, shared) = (message_id(&answered.answer)?, answered.shared);
        let unclear = "the answer to `send` has no `delivery` field";
        let outcome = answered.outcome.ok_or_else(|| Error::Contract(unclear.to_owned()))?;
        Ok(SentMessage { message_id, outcome, shared })
    }

    /// Waits until the recipient has acknowledged the message, for at most its lifetime
    /// ([`SendOptions::ttl`]). May be called repeatedly. Do not await it in the loop that reads
    /// events: it blocks all other messages meanwhile.
    ///
    /// # Errors
    /// [`Error::Undelivered`] when the message did not arrive; [`Error::SidecarRestarted`] or
    /// [`Error::SidecarExited`] when the process ended before it reported the delivery;
    /// [`Error::TooManyMessages`] when the SDK already tracked 65,536 other messages as the node
    /// accepted this one: then [`Event::Delivery`](crate::Event::Delivery) reports the delivery.
    pub async fn delivered(&self) -> Result<Delivery, Error> {
        let mut outcome = self.outcome.clone();
        let delivery = outcome.wait_for(Option::is_some).await.ok().and_then(|delivery| delivery.clone());
        match delivery {
            Some(delivery) if delivery.state == DeliveryState::Delivered => Ok(*delivery),
            Some(delivery) => Err(Error::Undelivered(delivery)),
            None => {
                let many = Error::TooManyMessages { limit: MAX_TRACKED_MESSAGES };
                Err(self.shared.closed().map_or(many, Error::after_send))
            }
        }
    }
}

/// A broadcast that the node has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Identifies the message across the network.
    pub message_id: String,
    /// The number of subscribers that got the broadcast at once. Without one, the node buffers it
    /// for a while.
    pub peers: usize,
}

pub(crate) fn message_id(answer: &Answer) -> Result<String, Error> {
    let id = answer.message_id.clone();
    id.ok_or_else(|| Error::Contract("the answer to `send` has no `messageId` field".to_owned()))
}

#[cfg(test)]
mod tests {
    use p2p_node_protocol::Id;
    use tokio::sync::watch;

    use super::*;
    use crate::outgoing::Outgoing;
    use crate::process::Tail;

    #[tokio::test]
    async fn delivery_of_untracked_message_fails_with_too_many_and_is_not_retryable() {
        let outgoing = Arc::new(Outgoing::new(watch::Sender::new(())));
        let shared = Arc::new(Shared::new(outgoing, Tail::default()));
        let (dropped_by_channel, outcome) = watch::channel(None);
        let answer =
            Box::new(Answer { message_id: Some("m".to_owned()), ..Answer::new(Id::Number(1), "send") });
        let sent =
            SentMessage::new(Answered { answer, found: Vec::new(), outcome: Some(outcome), shared }).unwrap();
        drop(dropped_by_channel);
        let error = sent.delivered().await.unwrap_err();
        assert_eq!((error.code(), error.retryable()), ("TOO_MANY", false));
        assert!(error.to_string().contains("65536"), "{error}");
    }
}
