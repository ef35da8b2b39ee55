//! JSON-RPC over HTTP, with limits for what a hostile or broken server may send.

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
    /// Fails if the system's certificates cannot be used.
    pub(super) fn new(url: Url) -> reqwest::Result<Self> {
        let client = Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
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
    TransportErrorKind::custom(error.without_url())
}
