use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use p2p_node_protocol::{Delivery, DeliveryState, ErrorCode, MAX_LINE_BYTES};

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
    #[error("the mail {} is {:?}{}", .0.message_id, .0.state, why(.0))]
    Undelivered(Box<Delivery>),
    /// No answer came in time. The node may still carry out the command, unless it was a `send` that still waited in the SDK: then the
    /// SDK has withdrawn it.
    #[error("`{what}` was not answered within {waited:?}")]
    Timeout {
        /// The command.
        what: String,
        /// How long the call waited.
        waited: Duration,
        /// A message may be on its way: sent again, it could arrive twice.
        maybe_sent: bool,
    },
    /// The node's process ended, and is not started again.
    #[error("the node ended ({}){}", told(*status), quoted(stderr_tail))]
    Exited {
        /// How, if that is known.
        status: Option<ExitStatus>,
        /// The end of what it wrote to stderr.
        stderr_tail: String,
    },
    /// The node's process ended before it had answered. The SDK does not send the command again: the node may have carried it out.
    #[error("the node ended ({}) and is started again{}", told(*status), quoted(stderr_tail))]
    Restarted {
        /// How, if that is known.
        status: Option<ExitStatus>,
        /// The end of what it wrote to stderr.
        stderr_tail: String,
        /// A message may be on its way: sent again, it could arrive twice.
        maybe_sent: bool,
    },
    /// The node was not there, and did not come back in time. Nothing was sent.
    #[error("the node was not back within {waited:?}")]
    Unavailable {
        /// How long was waited.
        waited: Duration,
    },
    /// The node neither read nor wrote for five times its longest pause. The SDK killed it, and starts it again.
    #[error("the node neither read nor wrote for {waited:?}, and was killed")]
    WriteTimeout {
        /// How long that was.
        waited: Duration,
        /// A message may be on its way: sent again, it could arrive twice.
        maybe_sent: bool,
    },
    /// The node did not say `ready` in time.
    #[error("the node was not ready within {waited:?}{}", quoted(stderr_tail))]
    NotReady {
        /// How long was waited.
        waited: Duration,
        /// The end of what it wrote to stderr.
        stderr_tail: String,
    },
    /// The program called [`Node::close`](crate::Node::close).
    #[error("the node was closed")]
    Closed,
    /// There is no binary where it was looked for.
    #[error(
        "there is no p2p-node in {looked}: name one to the builder or in P2P_NODE_BIN, or ask for a search of PATH"
    )]
    NoBinary {
        /// The places.
        looked: String,
    },
    /// The process could not be started.
    #[error("cannot start {}", .program.display())]
    Spawn {
        /// What was to be started.
        program: PathBuf,
        /// Why it could not be.
        source: Arc<io::Error>,
    },
    /// The binary is of a version that this crate does not understand.
    #[error(
        "{} is version {version} and speaks protocol {protocol}; this crate is version {} and speaks protocol {}",
        .program.display(), env!("CARGO_PKG_VERSION"), p2p_node_protocol::PROTOCOL_VERSION
    )]
    VersionMismatch {
        /// The binary.
        program: PathBuf,
        /// Its version.
        version: String,
        /// The version of the contract that it speaks.
        protocol: u32,
    },
    /// After a restart the node had another address.
    #[error("the node was {before} and is now {now}: give it a key")]
    IdentityChanged {
        /// The address that the program knows.
        before: String,
        /// The address of the new process.
        now: String,
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
    /// The node broke the contract.
    #[error("the node broke the contract: {0}")]
    Contract(String),
}

fn why(delivery: &Delivery) -> String {
    delivery.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default()
}

impl Error {
    /// The stable code: one of the contract's where the node said no, else one that every SDK of the node has.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Command { code, .. } => code.as_str(),
            Error::Undelivered(delivery) => match (delivery.code, delivery.state) {
                (Some(code), _) => code.as_str(),
                (None, DeliveryState::Rejected) => "REJECTED",
                (None, DeliveryState::Failed) => "FAILED",
                (None, _) => "EXPIRED",
            },
            Error::Timeout { .. } => "TIMEOUT",
            Error::Exited { .. } => "SIDECAR_EXITED",
            Error::Restarted { .. } => "SIDECAR_RESTARTED",
            Error::Unavailable { .. } => "SIDECAR_UNAVAILABLE",
            Error::WriteTimeout { .. } => "WRITE_TIMEOUT",
            Error::NotReady { .. } => "NOT_READY",
            Error::Closed => "CLOSED",
            Error::NoBinary { .. } => "BINARY_NOT_FOUND",
            Error::Spawn { .. } => "SPAWN_FAILED",
            Error::VersionMismatch { .. } => "VERSION_MISMATCH",
            Error::IdentityChanged { .. } => "IDENTITY_CHANGED",
            Error::Data(_) => "INVALID_ARGUMENT",
            Error::TooLong { .. } => "LINE_TOO_LONG",
            Error::TooMany { .. } => "TOO_MANY",
            Error::Contract(_) => "CONTRACT",
        }
    }

    /// Returns `true` if the same call to the same node may succeed later. After a `send` that a process may have carried out it is
    /// `false`: sent again, the message could arrive twice. Every other command may be repeated without harm.
    pub fn retryable(&self) -> bool {
        match self {
            Error::Command { retryable, .. } => *retryable,
            Error::Undelivered(delivery) => delivery.code.is_some_and(ErrorCode::retryable),
            Error::Timeout { maybe_sent, .. }
            | Error::Restarted { maybe_sent, .. }
            | Error::WriteTimeout { maybe_sent, .. } => !maybe_sent,
            Error::Unavailable { .. } | Error::NotReady { .. } | Error::TooMany { .. } => true,
            Error::Exited { .. }
            | Error::Closed
            | Error::NoBinary { .. }
            | Error::Spawn { .. }
            | Error::VersionMismatch { .. }
            | Error::IdentityChanged { .. }
            | Error::Data(_)
            | Error::TooLong { .. }
            | Error::Contract(_) => false,
        }
    }
}

impl Error {
    /// The same, of a message that a process may have sent.
    pub(crate) fn after_send(mut self) -> Self {
        if let Error::Timeout { maybe_sent, .. }
        | Error::Restarted { maybe_sent, .. }
        | Error::WriteTimeout { maybe_sent, .. } = &mut self
        {
            *maybe_sent = true;
        }
        self
    }
}

fn told(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "status unknown".to_owned(), |status| status.to_string())
}

fn quoted(stderr_tail: &str) -> String {
    match stderr_tail.trim() {
        "" => String::new(),
        words => format!("; its last words: {words:?}"),
    }
}
