//! The routes and their responses.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

use super::access::refusal;
use super::assets::asset;
use super::body::Body;
use super::connections::Connection;
use super::server::Server;
use super::{Ask, metrics};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The page may load its own files and ask its own server, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns `true` if a route needs no token: the page, which knows nothing, and the health checks.
fn is_public(path: &str) -> bool {
    matches!(path, "/health" | "/ready") || asset(path).is_some()
}

impl Server {
    /// Answers a request.
    pub(super) async fn respond(
        &self,
        request: &Request<Incoming>,
        connection: &Arc<Connection>,
    ) -> Response<Body> {
        let path = request.uri().path();
        if let Some(status) =
            refusal(request.method(), request.headers(), is_public(path), self.token.as_ref())
        {
            self.count_refused();
            return refused(status);
        }
        match path {
            "/health" => match self.ask(Ask::Ready).await {
                Some(_) => response(StatusCode::OK, TEXT, "ok\n"),
                None => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the node does not respond\n"),
            },
            "/ready" => match self.ask(Ask::Ready).await {
                Some(true) => response(StatusCode::OK, TEXT, "ready\n"),
                Some(false) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n"),
                None => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the node does not respond\n"),
            },
            "/metrics" => self.metrics(request).await,
            "/api/report" => match self.report().await {
                Some(report) => response(StatusCode::OK, JSON, report),
                None => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the node does not respond\n"),
            },
            "/api/stream" => self.stream(request.method(), connection).await,
            path => match asset(path) {
                Some((kind, text)) => response(StatusCode::OK, kind, text),
                None => response(StatusCode::NOT_FOUND, TEXT, "there is no such page\n"),
            },
        }
    }

    /// Returns the metrics in the format that the scraper prefers.
    async fn metrics(&self, request: &Request<Incoming>) -> Response<Body> {
        let Some(sample) = self.ask(Ask::Metrics).await else {
            return response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the node does not respond\n");
        };
        let accepts = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let is_open = accepts.is_some_and(|accept| accept.contains("application/openmetrics-text"));
        match metrics::encode(&sample, &self.network) {
            Ok(text) if is_open => response(StatusCode::OK, metrics::OPEN_METRICS, text),
            Ok(text) => response(StatusCode::OK, metrics::PLAIN_TEXT, metrics::plain_text(&text)),
            Err(std::fmt::Error) => {
                response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the metrics cannot be written\n")
            }
        }
    }

    /// Returns the stream of events.
    async fn stream(&self, method: &Method, connection: &Arc<Connection>) -> Response<Body> {
        let Some(place) = self.connections.stream() else {
            self.count_refused();
            return response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "too many follow the events already\n");
        };
        let Some(report) = self.report().await else {
            return response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the node does not respond\n");
        };
        if method == Method::HEAD {
            return response(StatusCode::OK, "text/event-stream", Bytes::new());
        }
        connection.follows();
        let mut response = response(StatusCode::OK, "text/event-stream", Bytes::new());
        *response.body_mut() = Body::events(self.feed.follow(connection, place, &report));
        response
    }
}

fn refused(status: StatusCode) -> Response<Body> {
    let (text, header) = match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            ("nothing can be changed here: use GET or HEAD\n", Some((ALLOW, "GET, HEAD")))
        }
        StatusCode::UNAUTHORIZED => (
            "send P2P_NODE_HTTP_TOKEN of the node as Authorization: Bearer …\n",
            Some((WWW_AUTHENTICATE, "Bearer")),
        ),
        _ => ("name the server by its IP address or as localhost\n", None),
    };
    let mut response = response(status, TEXT, text);
    if let Some((name, value)) = header {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::of(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}
