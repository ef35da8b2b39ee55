use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use p2p_node_protocol::{Delivery, DeliveryState, ErrorCode, ErrorEvent, MAX_LINE_BYTES, SdkErrorCode};

use crate::binary::BinaryReason;

/// Errors of the SDK.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument is invalid. The SDK wrote nothing to the node.
    #[error("`{argument}`: {message}")]
    InvalidArgument {
        /// The path of the invalid argument or option, such as `data.items[3]`.
        argument: String,
        /// The problem, and what to pass instead.
        message: String,
    },
    /// The node rejected the command, or failed to execute it.
    #[error("{code}: {message}")]
    CommandRefused {
        /// The stable code; `Unknown` if the node is newer than this crate.
        code: ErrorCode,
        /// What happened and what to do.
        message: String,
        /// `true` if the same command may succeed later.
        retryable: bool,
        /// More values, for a program.
        details: Option<serde_json::Value>,
    },
    /// The node accepted the message, but it did not arrive, or the node cannot know if it arrived.
    #[error("message {} is {:?}{}", .0.message_id, .0.state, reason(.0))]
    Undelivered(Box<Delivery>),
    /// No peer connected in time.
    #[error("no peer connected within {waited:?}: {}{}", attempts(tried), reported(errors))]
    NotJoined {
        /// How long the call waited.
        waited: Duration,
        /// The bootstrap peers that the program gave.
        tried: Vec<String>,
        /// The last errors and warnings of the node about the network, at most eight.
        errors: Vec<String>,
    },
    /// No answer came in time, or `caught_up` did not complete in time. The node may still execute the command. The SDK withdraws a `send`
    /// that still waited in the SDK.
    #[error("`{what}` did not complete within {waited:?}")]
    CallTimeout {
        /// The name of the command, or `caught_up`.
        what: String,
        /// How long the call waited.
        waited: Duration,
        /// `true` if the node may have got a message: if you send it again, it may arrive twice.
        maybe_sent: bool,
    },
    /// The process ended before it was ready, or rejected `connect`. [`code`](Error::code) is the
    /// code of the report, if there is one.
    #[error("the node did not start: {}{}", describe_end(*exit, report.as_deref()), quoted(stderr_tail))]
    StartFailed {
        /// The error that the node reported: its code, message and details.
        report: Option<Box<ErrorEvent>>,
        /// The exit status of the process, if known.
        exit: Option<ExitStatus>,
        /// The last bytes that the process wrote to stderr, at most 2 KiB.
        stderr_tail: String,
    },
    /// The process ended, and the SDK does not restart it.
    #[error("the node ended with {}{}", describe_end(*exit, report.as_deref()), quoted(stderr_tail))]
    SidecarExited {
        /// The error that the node reported shortly before its end.
        report: Option<Box<ErrorEvent>>,
        /// The exit status of the process, if known.
        exit: Option<ExitStatus>,
        /// The last bytes that the process wrote to stderr, at most 2 KiB.
        stderr_tail: String,
    },
    /// The process ended before it answered. The SDK does not repeat the command, because the node
    /// may have executed it.
    #[error(
        "the node ended with {}; the SDK restarts it{}",
        describe_end(*exit, report.as_deref()), quoted(stderr_tail)
    )]
    SidecarRestarted {
        /// The error that the node reported shortly before its end.
        report: Option<Box<ErrorEvent>>,
        /// The exit status of the process, if known.
        exit: Option<ExitStatus>,
        /// The last bytes that the process wrote to stderr, at most 2 KiB.
        stderr_tail: String,
        /// `true` if the node may have got a message: if you send it again, it may arrive twice.
        maybe_sent: bool,
    },
    /// No process was ready in time. The SDK sent nothing.
    #[error("the node is restarting and was not ready within {waited:?}: try again later")]
    SidecarUnavailable {
        /// How long the call waited.
        waited: Duration,
    },
    /// The node neither read nor wrote for five times its longest pause. The SDK killed it and
    /// restarts it.
    #[error("the node neither read nor wrote for {waited:?}, so the SDK killed it")]
    WriteTimeout {
        /// How long the node neither read nor wrote.
        waited: Duration,
        /// `true` if the node may have got a message: if you send it again, it may arrive twice.
        maybe_sent: bool,
    },
    /// The node did not send `ready` in time.
    #[error(
        "the node was not ready within {waited:?}: raise `ready_timeout` if it is slow{}",
        quoted(stderr_tail)
    )]
    NotReady {
        /// How long the call waited.
        waited: Duration,
        /// The last bytes that the process wrote to stderr, at most 2 KiB.
        stderr_tail: String,
    },
    /// The program called [`Node::close`](crate::Node::close).
    #[error("the program closed the node")]
    NodeClosed,
    /// The SDK did not find the binary.
    #[error(
        "no p2p-node binary in {searched}: call `binary` or set P2P_NODE_BIN, or call `search_path(true)`"
    )]
    BinaryNotFound {
        /// The places that the SDK searched.
        searched: String,
    },
    /// The system cannot run the binary.
    #[error("{} cannot be run ({reason}): {message}{}", .path.display(), quoted(stderr_tail))]
    BinaryUnusable {
        /// The path of the binary.
        path: PathBuf,
        /// The reason.
        reason: BinaryReason,
        /// The advice, and the system's error or exit status.
        message: String,
        /// The last bytes that the process wrote to stderr, at most 2 KiB.
        stderr_tail: String,
    },
    /// The system could not start the process, and the binary is not the reason.
    #[error("cannot start {}: {source}", .program.display())]
    SpawnFailed {
        /// The program that the SDK tried to start.
        program: PathBuf,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// This crate does not support the version of the binary.
    #[error(
        "{} {found}; this crate is version {} and speaks protocol {}: use a binary of the same version",
        .program.display(), env!("CARGO_PKG_VERSION"), p2p_node_protocol::PROTOCOL_VERSION
    )]
    VersionMismatch {
        /// The path of the binary.
        program: PathBuf,
        /// The version and protocol of the binary, or its rejection.
        found: String,
    },
    /// After a restart the node has another address.
    #[error("after a restart the node is {now} instead of {before}: call `private_key` or `data_dir`")]
    IdentityChanged {
        /// The address that the program knows.
        before: String,
        /// The address of the new process.
        now: String,
    },
    /// The line of the command exceeds the node's limit. The SDK did not send it.
    #[error("the command has {bytes} bytes, and the node reads at most {MAX_LINE_BYTES}: send less")]
    LineTooLong {
        /// The length of the line in bytes.
        bytes: usize,
    },
    /// Too many calls wait in this crate.
    #[error("{limit} {what} already wait in the SDK: wait for answers first")]
    TooManyCalls {
        /// The kind of call.
        what: &'static str,
        /// The limit of this crate.
        limit: usize,
    },
    /// The SDK tracks too many messages to report the delivery of this one. The node has accepted
    /// the message; [`Event::Delivery`](crate::Event::Delivery) reports its delivery.
    #[error("the SDK already tracks {limit} messages; an event reports the delivery of this one")]
    TooManyMessages {
        /// The limit of this crate.
        limit: usize,
    },
    /// The node violated the contract.
    #[error("the node violated the contract: {0}")]
    Contract(String),
}

impl Error {
    /// Returns the code of the handler, if the handler of a request answered with an error.
    pub fn handler_code(&self) -> Option<&str> {
        match self {
            Error::CommandRefused { code: ErrorCode::HandlerFailed, details, .. } => {
                details.as_ref()?.get("code")?.as_str()
            }
            _ => None,
        }
    }

    /// Returns the stable code: a code of the node ([`ErrorCode`]) if the node rejected the call, else
    /// one that all SDKs share ([`SdkErrorCode`], or an [`ErrorCode`] where the meaning is the same).
    pub fn code(&self) -> &'static str {
        match self {
            Error::InvalidArgument { .. } => ErrorCode::InvalidArgument.as_str(),
            Error::CommandRefused { code, .. } => code.as_str(),
            Error::Undelivered(delivery) => match (delivery.code, delivery.state) {
                (Some(code), _) => code.as_str(),
                (None, DeliveryState::Rejected) => SdkErrorCode::Rejected.as_str(),
                (None, DeliveryState::Failed) => SdkErrorCode::Failed.as_str(),
                (None, _) => ErrorCode::Expired.as_str(),
            },
            Error::NotJoined { .. } => SdkErrorCode::NotJoined.as_str(),
            Error::CallTimeout { .. } => SdkErrorCode::Timeout.as_str(),
            Error::StartFailed { report: Some(report), .. } => report.code.as_str(),
            Error::StartFailed { .. } | Error::SidecarExited { .. } => SdkErrorCode::SidecarExited.as_str(),
            Error::SidecarRestarted { .. } => SdkErrorCode::SidecarRestarted.as_str(),
            Error::SidecarUnavailable { .. } => SdkErrorCode::SidecarUnavailable.as_str(),
            Error::WriteTimeout { .. } => SdkErrorCode::WriteTimeout.as_str(),
            Error::NotReady { .. } => SdkErrorCode::NotReady.as_str(),
            Error::NodeClosed => SdkErrorCode::Closed.as_str(),
            Error::BinaryNotFound { .. } => SdkErrorCode::BinaryNotFound.as_str(),
            Error::BinaryUnusable { .. } => SdkErrorCode::BinaryUnusable.as_str(),
            Error::SpawnFailed { .. } => SdkErrorCode::SpawnFailed.as_str(),
            Error::VersionMismatch { .. } => SdkErrorCode::VersionMismatch.as_str(),
            Error::IdentityChanged { .. } => SdkErrorCode::IdentityChanged.as_str(),
            Error::LineTooLong { .. } => ErrorCode::LineTooLong.as_str(),
            Error::TooManyCalls { .. } => ErrorCode::Busy.as_str(),
            Error::TooManyMessages { .. } => SdkErrorCode::TooMany.as_str(),
            Error::Contract(_) => SdkErrorCode::Contract.as_str(),
        }
    }

    /// Returns `true` if the same call to the same node may succeed later. Returns `false` after a
    /// `send` that a process may have executed, because the message could arrive twice. All other
    /// commands are safe to repeat.
    pub fn retryable(&self) -> bool {
        match self {
            Error::CommandRefused { retryable, .. } => *retryable,
            Error::Undelivered(delivery) => delivery.code.is_some_and(ErrorCode::retryable),
            Error::StartFailed { report, .. } => report.as_ref().is_some_and(|report| report.retryable),
            Error::CallTimeout { maybe_sent, .. }
            | Error::SidecarRestarted { maybe_sent, .. }
            | Error::WriteTimeout { maybe_sent, .. } => !maybe_sent,
            Error::NotJoined { .. }
            | Error::SidecarUnavailable { .. }
            | Error::NotReady { .. }
            | Error::TooManyCalls { .. } => true,
            Error::InvalidArgument { .. }
            | Error::SidecarExited { .. }
            | Error::NodeClosed
            | Error::BinaryNotFound { .. }
            | Error::BinaryUnusable { .. }
            | Error::SpawnFailed { .. }
            | Error::VersionMismatch { .. }
            | Error::IdentityChanged { .. }
            | Error::LineTooLong { .. }
            | Error::TooManyMessages { .. }
            | Error::Contract(_) => false,
        }
    }

    /// Creates an error for an invalid argument.
    pub(crate) fn argument(argument: impl Into<String>, message: impl Into<String>) -> Self {
        Error::InvalidArgument { argument: argument.into(), message: message.into() }
    }

    /// Returns the node's error if the node rejected the command.
    pub(crate) fn refusal(&self) -> Option<Box<ErrorEvent>> {
        let Error::CommandRefused { code, message, retryable, details } = self else { return None };
        let (retryable, details) = (*retryable, details.clone());
        Some(Box::new(ErrorEvent { retryable, details, ..ErrorEvent::new(*code, message.clone()) }))
    }

    /// Marks the error of a `send` that a process may have executed.
    pub(crate) fn after_send(mut self) -> Self {
        if let Error::CallTimeout { maybe_sent, .. }
        | Error::SidecarRestarted { maybe_sent, .. }
        | Error::WriteTimeout { maybe_sent, .. } = &mut self
        {
            *maybe_sent = true;
        }
        self
    }
}

/// Returns the reason of a delivery that failed, as the end of a sentence.
fn reason(delivery: &Delivery) -> String {
    delivery.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default()
}

/// Describes how a process ended, and the reason that it reported.
fn describe_end(exit: Option<ExitStatus>, report: Option<&ErrorEvent>) -> String {
    let how = exit.map_or_else(|| "an unknown status".to_owned(), |exit| exit.to_string());
    report.map_or(how.clone(), |ErrorEvent { code, message, .. }| format!("{how}: {code}: {message}"))
}

/// Returns the last output of the process, as the end of a sentence.
fn quoted(stderr_tail: &str) -> String {
    match stderr_tail.trim() {
        "" => String::new(),
        tail => format!("; stderr ends with: {tail:?}"),
    }
}

/// Returns the bootstrap peers that the node dialed.
fn attempts(tried: &[String]) -> String {
    match tried {
        [] => "no bootstrap peers are configured".to_owned(),
        tried => format!("tried {}", tried.join(", ")),
    }
}

/// Returns the errors that the node reported, as the end of a sentence.
fn reported(errors: &[String]) -> String {
    errors.iter().map(|error| format!("; {error}")).collect()
}
