use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use p2p_node_protocol::{Delivery, ErrorCode, MAX_LINE_BYTES};

/// Why a call came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The node refused the command, or failed at it.
    #[error("{code}: {message}")]
    Command {
        /// The stable code; `Unknown` when the node is newer than this crate.
        code: ErrorCode,
        /// What happened and what to do.
        message: String,
        /// Whether the same command may succeed later.
        retryable: bool,
        /// More, for a program.
        details: Option<serde_json::Value>,
    },
    /// The mail was accepted, but did not arrive, or nobody knows whether it did.
    #[error("the mail {} is {:?}", .0.message_id, .0.state)]
    Undelivered(Box<Delivery>),
    /// The node's process ended, or closed its output.
    #[error("the node ended ({}); its last words: {stderr_tail:?}", told(*status))]
    Exited {
        /// How, if that is known.
        status: Option<ExitStatus>,
        /// The end of what it wrote to stderr.
        stderr_tail: String,
    },
    /// The node did not say `ready` in time. It still runs.
    #[error("the node was not ready within {waited:?}; its last words: {stderr_tail:?}")]
    NotReady {
        /// How long was waited.
        waited: Duration,
        /// The end of what it wrote to stderr.
        stderr_tail: String,
    },
    /// [`Node::shutdown`](crate::Node::shutdown) was called.
    #[error("the node was told to shut down")]
    ShutDown,
    /// No binary was named.
    #[error("no binary: name one to the builder or in P2P_NODE_BIN, or ask for a search of PATH")]
    NoBinary,
    /// The process could not be started.
    #[error("cannot start {}", .program.display())]
    Spawn {
        /// What was to be started.
        program: PathBuf,
        /// Why it could not be.
        source: Arc<io::Error>,
    },
    /// The data cannot be written as JSON.
    #[error("the data cannot be written as JSON")]
    Data(#[source] Arc<serde_json::Error>),
    /// The command's line would be longer than the node reads.
    #[error("the line has {bytes} bytes, and the node reads at most {MAX_LINE_BYTES}")]
    TooLong {
        /// How long it would be.
        bytes: usize,
    },
    /// More is outstanding than this crate keeps track of.
    #[error("more than {limit} {what} are outstanding")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much is kept track of.
        limit: usize,
    },
    /// The node broke the contract, or speaks another version of it.
    #[error("the node broke the contract: {0}")]
    Contract(String),
}

impl Error {
    /// Whether the same call to the same node may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Error::Command { retryable, .. } => *retryable,
            Error::Undelivered(delivery) => delivery.code.is_some_and(ErrorCode::retryable),
            Error::NotReady { .. } | Error::TooMany { .. } => true,
            Error::Exited { .. }
            | Error::ShutDown
            | Error::NoBinary
            | Error::Spawn { .. }
            | Error::Data(_)
            | Error::TooLong { .. }
            | Error::Contract(_) => false,
        }
    }
}

fn told(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "status unknown".to_owned(), |status| status.to_string())
}
