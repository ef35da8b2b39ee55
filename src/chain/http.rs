//! JSON-RPC over HTTP, with limits for what a hostile or broken server may send.

use std::error::Error;
use std::task::{Context, Poll};
use std::time::Duration;

use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut, TransportResult};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, Url};
use tower_service::Service;

/// Time for a request and its response: our choice. Public RPC servers answer within a second.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Time to connect to a server: our choice.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest response, in bytes: our choice. 64 agents with the largest texts that the node keeps take a
/// quarter of it.
pub(super) const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// There can be no HTTP client for an RPC server.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the certificates of the system cannot be used ({0}): install them, such as by the package ca-certificates, or use an http URL"
)]
pub struct NoHttpClient(String);

/// Returns the last cause of an error: the first says only what the node tried.
fn last_cause(mut error: &dyn Error) -> String {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

/// The response is larger than `MAX_RESPONSE_BYTES`.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the response is too large")]
pub(super) struct TooLarge;

/// An HTTP client for one RPC server. It follows no redirects and uses no proxy, so that it connects to
/// nobody but the configured server.
#[derive(Clone, Debug)]
pub(super) struct HttpTransport {
    client: Client,
    url: Url,
}

impl HttpTransport {
    /// # Errors
    /// Fails for an https URL if the system has no certificates.
    pub(super) fn new(url: Url) -> Result<Self, NoHttpClient> {
        let builder = Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        // Many containers have no certificates, and a server without TLS needs none.
        let builder = if url.scheme() == "https" { builder } else { builder.tls_certs_only([]) };
        let client = builder.build().map_err(|error| NoHttpClient(last_cause(&error)))?;
        Ok(HttpTransport { client, url })
    }

    async fn post(self, request: RequestPacket) -> TransportResult<ResponsePacket> {
        let body = serde_json::to_vec(&request).map_err(TransportError::ser_err)?;
        let sent = self.client.post(self.url).header(CONTENT_TYPE, "application/json").body(body).send();
        let response = sent.await.map_err(without_url)?;
        let status = response.status();
        let retry_after = retry_after(&response);
        let body = read(response).await?;
        if !status.is_success() {
            // The body may be any text, and long.
            let error =
                TransportErrorKind::http_error_with_retry_after(status.as_u16(), String::new(), retry_after);
            return Err(error);
        }
        serde_json::from_slice(&body).map_err(|error| TransportError::deser_err(error, String::new()))
    }
}

impl Service<RequestPacket> for HttpTransport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> TransportFut<'static> {
        Box::pin(self.clone().post(request))
    }
}

/// Reads the body up to the limit.
async fn read(mut response: Response) -> TransportResult<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(without_url)? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Err(TransportErrorKind::custom(TooLarge));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Converts an error. The URL may contain a key, so the error must not name it.
fn without_url(error: reqwest::Error) -> TransportError {
    if error.is_timeout() {
        return TransportErrorKind::custom_str("no answer in time");
    }
    TransportErrorKind::custom_str(&last_cause(&error.without_url()))
}
