//! Who may read what: the checks of every request.

use std::net::IpAddr;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap};
use hyper::{Method, StatusCode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::Secret;

/// Returns the status with which the server refuses a request, or `None` to answer it.
pub(super) fn refusal(
    method: &Method,
    headers: &HeaderMap,
    is_public: bool,
    token: Option<&Secret>,
) -> Option<StatusCode> {
    if method != Method::GET && method != Method::HEAD {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    if !is_address(headers) {
        return Some(StatusCode::MISDIRECTED_REQUEST);
    }
    match token {
        Some(token) if !is_public && !has_token(headers, token) => Some(StatusCode::UNAUTHORIZED),
        _ => None,
    }
}

/// Returns `true` if the request names the server by an IP address or as localhost. A page of a stranger
/// whose name suddenly leads to this machine (DNS rebinding) names it by that name.
pub(crate) fn is_address(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.eq_ignore_ascii_case("localhost") || matches!(name.parse(), Ok(IpAddr::V4(_))),
    }
}

/// Compares the token of a request in constant time. The hashes have one length, so that the time does not
/// depend on the length either.
pub(crate) fn has_token(headers: &HeaderMap, token: &Secret) -> bool {
    let Some(given) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) else { return false };
    let Some((scheme, given)) = given.split_once(' ') else { return false };
    let digest = |text: &str| Sha256::digest(text.as_bytes());
    scheme.eq_ignore_ascii_case("bearer") && bool::from(digest(given.trim()).ct_eq(&digest(token.expose())))
}
