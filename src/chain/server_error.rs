//! Why an RPC server gave no answer that counts.

use std::time::Duration;

use alloy::transports::{RpcError, TransportErrorKind};

/// Why a server gave no answer that counts.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ServerError {
    /// The server cannot be reached, or reports a failure of its own.
    #[error("{0}")]
    Failed(String),
    /// The server answers that it cannot do this, such as when a call takes too much gas.
    #[error("the server refuses: {0}")]
    Refused(String),
    /// The server limits the requests of this node.
    #[error("the server limits requests")]
    RateLimited(Option<Duration>),
    /// The answer is not one that the contract gives.
    #[error("the server sent an invalid answer: {0}")]
    Invalid(String),
    /// The server serves another chain.
    #[error("the server serves chain {found}, and not chain {expected}")]
    OtherChain {
        /// Id of the server's chain.
        found: u64,
        /// Id of the expected chain.
        expected: u64,
    },
    /// The node waits before it asks this server again.
    #[error("the server failed a short time ago")]
    Paused,
}

impl From<RpcError<TransportErrorKind>> for ServerError {
    fn from(error: RpcError<TransportErrorKind>) -> Self {
        if let RpcError::Transport(kind) = &error
            && kind.as_http_error().is_some_and(|http| http.status == 429)
        {
            return ServerError::RateLimited(kind.retry_after());
        }
        match error {
            RpcError::ErrorResp(error) => ServerError::Refused(short(&error.to_string())),
            RpcError::DeserError { err, .. } => ServerError::Invalid(err.to_string()),
            RpcError::NullResp => ServerError::Invalid("null".to_owned()),
            other => ServerError::Failed(short(&other.to_string())),
        }
    }
}

/// Longest text of a server's error that the node repeats, in bytes: our choice.
const MAX_REASON_BYTES: usize = 200;

/// Returns a text of a server without what could confuse a terminal, and not too long.
pub(super) fn short(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_REASON_BYTES).collect()
}
