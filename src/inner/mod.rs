//! Clients that the node itself attaches at its door, for programs that speak other protocols than that of
//! the pipe. They are clients like those of the socket: ids, limits and delivery are the same.

mod answers;
mod calls;
mod handler;
mod link;
mod observer;
mod table;
#[cfg(test)]
mod tests;

use p2p_node_protocol::{ErrorCode, ErrorEvent};

pub(crate) use answers::Answers;
pub(crate) use calls::{Call, Calls, MAX_CALLS};
pub(crate) use handler::{Requests, Responder};
pub(crate) use link::Link;
#[cfg(test)]
pub(crate) use link::MAX_ATTACHING;
pub(crate) use observer::observe;
pub(crate) use table::Taker;
#[cfg(test)]
pub(crate) use table::{MAX_EVENTS, MAX_WAITING_BYTES};

/// Why the node did not carry out a command, or closed the client.
#[derive(Clone, Debug)]
pub(crate) struct CallError(pub(crate) Box<ErrorEvent>);

impl CallError {
    pub(crate) fn new(code: ErrorCode, message: &str) -> Self {
        CallError(Box::new(ErrorEvent::new(code, message)))
    }

    /// Returns the error of a client whose node has gone.
    pub(crate) fn gone() -> Self {
        CallError::new(ErrorCode::ShuttingDown, "the node has closed this client; connect again")
    }
}
