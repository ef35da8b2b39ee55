//! Who may call: the check of every call.

use hyper::header::HeaderMap;
use tonic::Status;

use crate::config::Secret;
use crate::http::has_token;

/// Returns the status with which the server refuses a call, or `None` to answer it. The health service is
/// for probes, which have no token, and tells nothing but whether the node is ready.
pub(super) fn refusal(headers: &HeaderMap, is_public: bool, token: Option<&Secret>) -> Option<Status> {
    match token {
        Some(token) if !is_public && !has_token(headers, token) => Some(Status::unauthenticated(
            "send P2P_NODE_GRPC_TOKEN of the node in the metadata, as `authorization: Bearer …`",
        )),
        _ => None,
    }
}
