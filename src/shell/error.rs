//! Errors of the one-shot commands, and their exit codes.

use std::io;
use std::time::Duration;

use p2p_node_core::effect::ExitCode;
use p2p_node_protocol::{DeliveryState, ErrorCode, SdkErrorCode};
use p2p_node_sdk::Error;
use serde_json::{Value, json};

use crate::node::StartError;

/// Errors of a one-shot command.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The configuration or the socket cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The data cannot be read.
    #[error("{origin}: {error}")]
    Unreadable {
        /// What was to be read.
        origin: String,
        /// The error of the system.
        error: io::Error,
    },
    /// The data is too large for a message.
    #[error("{origin}: a message has at most {limit} bytes")]
    TooLarge {
        /// What was read.
        origin: String,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The data does not have the format that the command line names.
    #[error("{origin} {reason}")]
    Invalid {
        /// What was read.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// The node failed, refused the command, or did not deliver the message.
    #[error("{}", describe(.0))]
    Node(#[from] Box<Error>),
    /// A question has no answer.
    #[error("{}", describe(.0))]
    Asked(Box<Error>),
    /// No agent was found.
    #[error("no agent was found")]
    Nobody,
    /// Too few messages came in time.
    #[error("{got} of {wanted} messages came within {waited:?}")]
    TooFew {
        /// Messages that came.
        got: u64,
        /// Messages that were to come.
        wanted: u64,
        /// The time.
        waited: Duration,
    },
    /// The host of MCP broke the protocol.
    #[error("the host: {0}")]
    Host(String),
    /// Stdout failed.
    #[error("stdout: {0}")]
    Output(io::Error),
}

impl From<Error> for ShellError {
    fn from(error: Error) -> Self {
        ShellError::Node(Box::new(error))
    }
}

impl ShellError {
    /// Returns the exit code for this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            ShellError::Start(error) => error.exit_code(),
            ShellError::Unreadable { .. } | ShellError::Output(_) | ShellError::Host(_) => ExitCode::Io,
            ShellError::TooLarge { .. } | ShellError::Invalid { .. } => ExitCode::BadInput,
            ShellError::Node(error) => exit_code_of(error, ExitCode::Undelivered),
            ShellError::Asked(error) => exit_code_of(error, ExitCode::NoAnswer),
            ShellError::Nobody => ExitCode::NotFound,
            ShellError::TooFew { .. } => ExitCode::TimedOut,
        }
    }

    /// Returns the stable code.
    fn code(&self) -> &str {
        match self {
            ShellError::Start(error) => error.code().as_str(),
            ShellError::Unreadable { .. } | ShellError::Invalid { .. } => ErrorCode::InvalidArgument.as_str(),
            ShellError::TooLarge { .. } => ErrorCode::MessageTooLarge.as_str(),
            ShellError::Node(error) | ShellError::Asked(error) => error.code(),
            ShellError::Nobody => ErrorCode::PeerNotFound.as_str(),
            ShellError::TooFew { .. } => SdkErrorCode::Timeout.as_str(),
            ShellError::Output(_) | ShellError::Host(_) => ErrorCode::Internal.as_str(),
        }
    }

    /// Returns the error as an event `error`.
    pub(super) fn to_json(&self) -> Value {
        let text = self.to_string();
        // For people the code comes first. Here it has a field of its own.
        let message =
            text.strip_prefix(self.code()).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&text);
        let mut event = json!({
            "type": "error",
            "code": self.code(),
            "message": message,
            "retryable": self.exit_code().restart(),
        });
        if let ShellError::Node(error) | ShellError::Asked(error) = self
            && let Error::CommandRefused { details: Some(details), .. } = &**error
        {
            event["details"] = details.clone();
        }
        event
    }
}

/// Returns the exit code for an error of the node. `later`: for what may go well another time.
fn exit_code_of(error: &Error, later: ExitCode) -> ExitCode {
    match error {
        Error::CommandRefused { code, retryable, .. } => match code {
            ErrorCode::NoHandler
            | ErrorCode::HandlerFailed
            | ErrorCode::HandlerGone
            | ErrorCode::PeerRejected
            | ErrorCode::NotRegistered
            | ErrorCode::RegistryBlocked
            | ErrorCode::FlowLimit
            | ErrorCode::TooManyHops => ExitCode::Refused,
            _ if *retryable => later,
            _ => ExitCode::BadInput,
        },
        Error::Undelivered(delivery) if delivery.state == DeliveryState::Rejected => ExitCode::Refused,
        Error::InvalidArgument { .. } | Error::LineTooLong { .. } => ExitCode::BadInput,
        Error::StartFailed { exit, .. } | Error::SidecarExited { exit, .. } => {
            match exit.and_then(|exit| exit.code()).and_then(ExitCode::from_number) {
                // A node that ends in good order leaves the command without an answer too.
                Some(ExitCode::Ok) => ExitCode::Unavailable,
                code => code.unwrap_or(ExitCode::Software),
            }
        }
        Error::NotReady { .. }
        | Error::BinaryNotFound { .. }
        | Error::BinaryUnusable { .. }
        | Error::SpawnFailed { .. }
        | Error::VersionMismatch { .. }
        | Error::Contract(_) => ExitCode::Software,
        _ => later,
    }
}

/// Returns the error without what the node has already written to stderr.
fn describe(error: &Error) -> String {
    match error {
        Error::StartFailed { report: Some(report), .. } => format!("{}: {}", report.code, report.message),
        Error::SidecarExited { report: Some(report), .. } => {
            format!("the node ended: {}: {}", report.code, report.message)
        }
        Error::Undelivered(delivery) => {
            let code = delivery.code.map_or(error.code(), ErrorCode::as_str);
            format!("{code}: {}", delivery.message.as_deref().unwrap_or("the message was not delivered"))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: ErrorCode) -> Error {
        Error::CommandRefused { code, message: "m".to_owned(), retryable: code.retryable(), details: None }
    }

    #[test]
    fn exit_codes_tell_refusals_from_what_may_go_well_later() {
        for (code, send, ask) in [
            (ErrorCode::InvalidArgument, ExitCode::BadInput, ExitCode::BadInput),
            (ErrorCode::MessageTooLarge, ExitCode::BadInput, ExitCode::BadInput),
            (ErrorCode::NameNotFound, ExitCode::BadInput, ExitCode::BadInput),
            (ErrorCode::Busy, ExitCode::Undelivered, ExitCode::NoAnswer),
            (ErrorCode::PeerNotFound, ExitCode::Undelivered, ExitCode::NoAnswer),
            (ErrorCode::DeadlineExceeded, ExitCode::Undelivered, ExitCode::NoAnswer),
            (ErrorCode::NoHandler, ExitCode::Refused, ExitCode::Refused),
            (ErrorCode::HandlerFailed, ExitCode::Refused, ExitCode::Refused),
        ] {
            assert_eq!(ShellError::from(refused(code)).exit_code(), send, "{code}");
            assert_eq!(ShellError::Asked(Box::new(refused(code))).exit_code(), ask, "{code}");
        }
    }

    #[test]
    fn errors_are_events_with_stable_codes() {
        let event = ShellError::from(refused(ErrorCode::Busy)).to_json();
        assert_eq!((&event["code"], &event["retryable"]), (&json!("BUSY"), &json!(true)));
        assert_eq!(event["message"], "m", "the code is not in it again");
        let event = ShellError::TooFew { got: 1, wanted: 2, waited: Duration::from_secs(3) }.to_json();
        assert_eq!((&event["code"], &event["type"]), (&json!("TIMEOUT"), &json!("error")));
        assert_eq!(event["message"], "1 of 2 messages came within 3s");
    }
}
