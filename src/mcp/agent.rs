//! The agent that the tools speak for: its node, and its inbox.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use p2p_node_protocol::ErrorCode;
use p2p_node_sdk::{Error, Event, Events, Message, Node};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::inbox::Inbox;
use crate::shell::tell;

/// The feature of a node whose clients acknowledge messages.
const ACK: &str = "ack";

/// The agent of this process.
pub(super) struct Agent {
    pub(super) node: Node,
    inbox: Mutex<Inbox>,
    /// The number of arrivals, for those who wait for one.
    arrivals: watch::Sender<u64>,
}

/// Why a tool failed, for the host.
#[derive(Debug)]
pub(super) struct Failure {
    code: String,
    message: String,
    is_retryable: bool,
    details: Option<Value>,
}

impl Failure {
    pub(super) fn invalid(message: impl Into<String>) -> Failure {
        let code = ErrorCode::InvalidArgument;
        Failure {
            code: code.as_str().to_owned(),
            message: message.into(),
            is_retryable: false,
            details: None,
        }
    }

    pub(super) fn busy(message: &str) -> Failure {
        let (code, message) = (ErrorCode::Busy.as_str().to_owned(), message.to_owned());
        Failure { code, message, is_retryable: true, details: None }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message, "retryable": self.is_retryable});
        if let Some(details) = &self.details {
            error["details"] = details.clone();
        }
        json!({ "error": error })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let details = match &error {
            Error::CommandRefused { details, .. } => details.clone(),
            _ => None,
        };
        let (code, is_retryable) = (error.code().to_owned(), error.retryable());
        Failure { code, message: error.to_string(), is_retryable, details }
    }
}

/// What became of acknowledgements.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    pub(super) count: usize,
    /// The ids of no message in the inbox.
    pub(super) unknown: Vec<String>,
    /// The messages of which the daemon does not know it for sure. It may repeat them, and gets the
    /// acknowledgement then.
    pub(super) unconfirmed: Vec<String>,
}

impl Agent {
    pub(super) fn new(node: Node) -> Agent {
        Agent { node, inbox: Mutex::default(), arrivals: watch::Sender::new(0) }
    }

    /// Returns `true` if messages wait in the daemon until this process acknowledges them.
    pub(super) fn acknowledges(node: &Node) -> bool {
        node.ready().features.iter().any(|feature| feature == ACK)
    }

    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // The inbox is whole after each of its calls, and a panic ends the process.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of messages and broadcasts that the host has not got.
    pub(super) fn unread(&self) -> usize {
        self.inbox().counts().unread
    }

    /// Returns what changes with each arrival.
    pub(super) fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    /// Reads events until the node has ended for good.
    pub(super) async fn read(self: Arc<Self>, mut events: Events) -> Option<Box<Error>> {
        while let Some(event) = events.next().await {
            match event {
                Event::Message(message) => self.take(message),
                Event::Restarting { reason, .. } => {
                    self.inbox().daemon_ended();
                    tell(&format_args!("the daemon is gone and is started again: {reason}"));
                }
                Event::Overflow(overflow) => {
                    let dropped = &overflow.dropped;
                    self.inbox().count_dropped(dropped.broadcasts + dropped.oversized);
                }
                Event::Closed { error } => return error,
                _ => {}
            }
        }
        None
    }

    fn take(self: &Arc<Self>, message: Box<Message>) {
        let finished = self.inbox().put(message);
        let Some(finished) = finished else {
            return self.arrivals.send_modify(|arrivals| *arrivals += 1);
        };
        // Its acknowledgement was lost with another daemon.
        let node = self.node.clone();
        tokio::spawn(async move { drop(node.ack(&finished).await) });
    }

    /// Acknowledges messages that the host has handled.
    pub(super) async fn acknowledge(&self, ids: &[String]) -> Acknowledged {
        let (messages, unknown) = self.inbox().acknowledge(ids);
        let acks = messages.iter().map(|message| self.node.ack(message));
        let answers = futures::future::join_all(acks).await;
        let is_lost = |answer: &Result<(), Error>| match answer {
            // Its sender has given it up, or another program of the agent has acknowledged it.
            Err(Error::CommandRefused { code: ErrorCode::MessageNotFound, .. }) | Ok(()) => false,
            Err(_) => true,
        };
        let lost = messages.iter().zip(&answers).filter(|(_, answer)| is_lost(answer));
        let unconfirmed = lost.map(|(message, _)| message.message_id.clone()).collect();
        Acknowledged { count: messages.len(), unknown, unconfirmed }
    }
}
