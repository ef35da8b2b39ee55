//! Reads the HTTP server of a node.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{RequestBuilder, Response, Url, redirect};

use super::ExplorerError;
use crate::config::Secret;

/// Maximum time to connect. Our choice: the node is on this machine or near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time of a request for a report: a little less than the page waits.
const REPORT_TIMEOUT: Duration = Duration::from_millis(1900);
/// Maximum silence of the stream of events, which brings a report each second.
const SILENCE: Duration = Duration::from_secs(10);
/// Maximum length of a report or of a piece of the stream, in bytes: four times the longest report.
const MAX_PIECE: usize = 4 << 20;

/// A node's HTTP server.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<Secret>,
}

/// An event of the stream: its name and its data.
pub(super) struct Piece {
    pub(super) name: String,
    pub(super) data: String,
}

/// The stream of events.
pub(super) struct Events {
    url: String,
    response: Response,
    unread: BytesMut,
}

impl Client {
    pub(super) fn new(url: &str, token: Option<Secret>) -> Result<Self, ExplorerError> {
        let wrong = || ExplorerError::Url(url.to_owned());
        let base: Url = url.parse().map_err(|_| wrong())?;
        if !["http", "https"].contains(&base.scheme()) || !base.has_host() {
            return Err(wrong());
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE)
            .build()
            .map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Client { http, base, token })
    }

    /// Returns the report as JSON.
    pub(super) async fn report(&self) -> Result<Bytes, ExplorerError> {
        let (url, request) = self.request("api/report");
        let mut response = answered(&url, request.timeout(REPORT_TIMEOUT)).await?;
        let mut report = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(|error| silent(&url, &error))? {
            if report.len() + piece.len() > MAX_PIECE {
                return Err(ExplorerError::Report(format!("it has more than {MAX_PIECE} bytes")));
            }
            report.extend_from_slice(&piece);
        }
        Ok(report.freeze())
    }

    /// Opens the stream of events.
    pub(super) async fn events(&self) -> Result<Events, ExplorerError> {
        let (url, request) = self.request("api/stream");
        let response = answered(&url, request).await?;
        Ok(Events { url, response, unread: BytesMut::new() })
    }

    fn request(&self, path: &str) -> (String, RequestBuilder) {
        let url = self.base.join(path).unwrap_or_else(|_| self.base.clone());
        let request = self.http.get(url);
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        (self.base.to_string(), request)
    }
}

impl Events {
    /// Waits for the next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Piece, ExplorerError> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let piece = self.unread.split_to(end + 2);
                let text = String::from_utf8_lossy(&piece);
                let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
                if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                    return Ok(Piece { name: name.to_owned(), data: data.to_owned() });
                }
                continue;
            }
            if self.unread.len() > MAX_PIECE {
                return Err(ExplorerError::Report(format!("an event has more than {MAX_PIECE} bytes")));
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.unread.extend_from_slice(&bytes),
                Ok(None) => {
                    let why = "the stream has ended".to_owned();
                    return Err(ExplorerError::Silent { url: self.url.clone(), why });
                }
                Err(error) => return Err(silent(&self.url, &error)),
            }
        }
    }
}

async fn answered(url: &str, request: RequestBuilder) -> Result<Response, ExplorerError> {
    let response = request.send().await.map_err(|error| silent(url, &error))?;
    match response.status().as_u16() {
        200 => Ok(response),
        status => Err(ExplorerError::Refused { url: url.to_owned(), status }),
    }
}

/// Returns the error with its innermost cause, which names the failure of the connection.
fn silent(url: &str, error: &reqwest::Error) -> ExplorerError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    ExplorerError::Silent { url: url.to_owned(), why: cause.to_string() }
}
