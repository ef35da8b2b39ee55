//! Errors of the pipe protocol as statuses of gRPC.

use std::collections::HashMap;

use p2p_node_protocol::{ErrorCode, ErrorEvent};
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::inner::CallError;

/// Name of the trailer with the code of the pipe protocol.
const CODE: &str = "p2p-code";

/// The `domain` of the details.
const DOMAIN: &str = "p2p-node";

/// Longest `details` of an error in a status, in bytes. Many clients accept 8 KiB of trailers.
const MAX_DETAILS: usize = 1024;

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

/// Returns the code of gRPC for a code of the pipe protocol.
fn code_of(code: ErrorCode) -> Code {
    match code {
        ErrorCode::InvalidJson
        | ErrorCode::InvalidUtf8
        | ErrorCode::LineTooLong
        | ErrorCode::InvalidArgument
        | ErrorCode::DuplicateId
        | ErrorCode::UnsupportedProtocol
        | ErrorCode::MessageTooLarge
        | ErrorCode::FileTooLarge
        | ErrorCode::ReservedTopic => Code::InvalidArgument,
        ErrorCode::UnknownCommand | ErrorCode::NoHandler => Code::Unimplemented,
        ErrorCode::NotConnected | ErrorCode::AlreadyConnected | ErrorCode::NoRegistry => {
            Code::FailedPrecondition
        }
        ErrorCode::Busy
        | ErrorCode::PeerBusy
        | ErrorCode::FlowLimit
        | ErrorCode::NoCredit
        | ErrorCode::DiskFull => Code::ResourceExhausted,
        ErrorCode::Cancelled => Code::Cancelled,
        ErrorCode::PeerNotFound
        | ErrorCode::NameNotFound
        | ErrorCode::FileUnavailable
        | ErrorCode::MessageNotFound
        | ErrorCode::TicketNotFound => Code::NotFound,
        ErrorCode::Expired | ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorCode::PeerRejected
        | ErrorCode::FilesRefused
        | ErrorCode::NotRegistered
        | ErrorCode::RegistryBlocked => Code::PermissionDenied,
        ErrorCode::TooManyHops | ErrorCode::FileChanged | ErrorCode::QuorumNotReached => Code::Aborted,
        ErrorCode::ResponseLost => Code::DataLoss,
        ErrorCode::PeerUnreachable
        | ErrorCode::NoSubscribers
        | ErrorCode::HandlerGone
        | ErrorCode::ShuttingDown
        | ErrorCode::NameUnavailable
        | ErrorCode::RegistryUnavailable => Code::Unavailable,
        ErrorCode::HandlerFailed => Code::Unknown,
        _ => Code::Internal,
    }
}

/// Returns the status of an error.
pub(super) fn status(error: ErrorEvent) -> Status {
    let ErrorEvent { code, message, retryable, message_id, details, .. } = error;
    let mut metadata = HashMap::from([("retryable".to_owned(), retryable.to_string())]);
    metadata.extend(message_id.map(|id| ("messageId".to_owned(), id)));
    let details = details.map(|details| details.to_string());
    metadata
        .extend(details.filter(|text| text.len() <= MAX_DETAILS).map(|text| ("details".to_owned(), text)));
    let info = ErrorInfo { reason: code.as_str().to_owned(), domain: DOMAIN.to_owned(), metadata };
    let info =
        Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(), value: info.encode_to_vec() };
    let rpc = RpcStatus { code: code_of(code) as i32, message: message.clone(), details: vec![info] };
    let mut trailers = MetadataMap::new();
    trailers.insert(CODE, MetadataValue::from_static(code.as_str()));
    Status::with_details_and_metadata(code_of(code), message, rpc.encode_to_vec().into(), trailers)
}

impl From<CallError> for Status {
    fn from(CallError(error): CallError) -> Self {
        status(*error)
    }
}

/// Returns the status of a wrong field of a call.
pub(super) fn invalid(message: impl Into<String>) -> Status {
    status(ErrorEvent::new(ErrorCode::InvalidArgument, message))
}

/// Returns the table of docs/grpc.md: each code of gRPC, and the codes of the pipe protocol that it stands
/// for.
pub fn table_of_codes() -> String {
    let mut table = String::from("| status of gRPC | codes of the pipe protocol |\n|---|---|\n");
    for number in 1..=16 {
        let code = Code::from_i32(number);
        let of_pipe = ErrorCode::ALL.iter().filter(|known| code_of(**known) == code);
        let names: Vec<String> = of_pipe.map(|known| format!("`{known}`")).collect();
        if !names.is_empty() && code != Code::Internal {
            table.push_str(&format!("| `{}` | {} |\n", name_of(code), names.join(", ")));
        }
    }
    table
}

/// Returns the name of a code as the documents of gRPC write it.
fn name_of(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
