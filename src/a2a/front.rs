//! The HTTP server of the gateway, for programs of this agent.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alloy::primitives::Address;
use futures::stream::{self, StreamExt};
use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use p2p_node_protocol::{Event, MAX_LINE_BYTES};
use p2p_node_wire::identity::parse_address;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::call::{self, Refusal};
use super::gateway::{Gateway, LocalCall, NoAnswer};
use super::{push, sse};
use crate::config::Secret;
use crate::http::{Body, Connections, has_token, is_address};
use crate::inner::{Answers, CallError};

/// Maximum time from the connection, or from the end of a response, to the end of the next request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum time for the body of a request. Our choice: the program is on this machine.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest body of a request, in bytes: what a request to an agent can carry.
const MAX_BODY_BYTES: usize = MAX_LINE_BYTES;
/// Maximum length of a request's head, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Pause after a failed `accept`, usually because there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
pub(super) struct Front {
    pub(super) gateway: Arc<Gateway>,
    pub(super) connections: Connections,
    token: Option<Secret>,
}

/// What a path means.
#[derive(Debug, PartialEq, Eq)]
enum Path {
    /// The card of an agent, with this gateway as its interface.
    Card(Address),
    /// The card as the agent signed it.
    SignedCard(Address),
    /// A call to an agent.
    Call(Address),
    /// A notification of the server of this agent to the agent that asked for it.
    Push(Address, Hook),
}

/// The web hook of a notification: its id, and the proof that the gateway made the path.
#[derive(Debug, PartialEq, Eq)]
struct Hook {
    id: String,
    proof: String,
}

fn path(text: &str) -> Option<Path> {
    let mut parts = text.strip_prefix('/')?.split('/');
    let (first, agent) = (parts.next()?, parse_address(parts.next()?).ok()?);
    let rest: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    match (first, rest.as_slice()) {
        ("agents", []) => Some(Path::Call(agent)),
        ("agents", [".well-known", "agent-card.json"]) => Some(Path::Card(agent)),
        ("agents", ["signed-agent-card.json"]) => Some(Path::SignedCard(agent)),
        ("push", [id, proof]) => {
            Some(Path::Push(agent, Hook { id: (*id).to_owned(), proof: (*proof).to_owned() }))
        }
        _ => None,
    }
}

/// Why the body of a request cannot be used.
enum NoBody {
    TooLong,
    NotJson,
    /// The program sent it too slowly, or gave up.
    Lost,
}

impl Front {
    pub(super) fn new(gateway: Arc<Gateway>, token: Option<Secret>) -> Arc<Self> {
        Arc::new(Front { gateway, connections: Connections::new(), token })
    }

    /// Serves until the task is aborted.
    pub(super) async fn run(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // Refused without a word: clients try again.
            if let Some(place) = self.connections.place().await {
                let front = Arc::clone(&self);
                tokio::spawn(async move {
                    front.serve(stream).await;
                    drop(place);
                });
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        // Parts of a stream are small, and the program waits for each.
        let _ = stream.set_nodelay(true);
        let connection = self.connections.enter();
        let (front, of_request) = (&self, &connection);
        let service = service_fn(|request| async move {
            of_request.asked();
            Ok::<_, Infallible>(front.respond(request).await)
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            served = served => {
                if let Err(error) = served {
                    tracing::debug!(%error, "A2A connection");
                }
            }
            () = connection.ended() => {}
        }
        self.connections.leave(&connection);
    }

    /// Returns the status with which the gateway refuses a request. `/push` is for the server of this agent,
    /// which has no token; nobody else knows its paths.
    fn refusal(&self, headers: &HeaderMap, is_push: bool) -> Option<(StatusCode, &'static str)> {
        if !is_address(headers) {
            return Some((
                StatusCode::MISDIRECTED_REQUEST,
                "name the gateway by its IP address or as localhost",
            ));
        }
        // A page in a browser must not speak as the agent.
        if headers.contains_key(ORIGIN) {
            return Some((StatusCode::FORBIDDEN, "the gateway is not for pages in a browser"));
        }
        let token = self.token.as_ref().filter(|_| !is_push);
        token.filter(|token| !has_token(headers, token)).map(|_| {
            (StatusCode::UNAUTHORIZED, "send P2P_NODE_A2A_TOKEN of the node as Authorization: Bearer …")
        })
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        let Some(path) = path(request.uri().path()) else {
            return text(StatusCode::NOT_FOUND, "an agent is at /agents/0x…");
        };
        if let Some((status, why)) = self.refusal(request.headers(), matches!(path, Path::Push(..))) {
            self.gateway.refused.fetch_add(1, Ordering::Relaxed);
            return text(status, why);
        }
        let is_card = matches!(path, Path::Card(_) | Path::SignedCard(_));
        if request.method() != if is_card { Method::GET } else { Method::POST } {
            return text(StatusCode::METHOD_NOT_ALLOWED, "use GET for a card and POST for a call");
        }
        match path {
            Path::Card(of) => card(self.gateway.card_of(of, &base(request.headers())).await),
            Path::SignedCard(of) => card(self.gateway.signed_card_of(of).await),
            Path::Call(to) => self.call(to, request).await,
            Path::Push(to, hook) => self.push(to, hook, request).await,
        }
    }

    async fn push(&self, to: Address, hook: Hook, request: Request<Incoming>) -> Response<Body> {
        if !self.gateway.places.is_genuine(to, &hook.id, &hook.proof) {
            return text(StatusCode::NOT_FOUND, "no agent asked for this notification");
        }
        let token = text_of(request.headers(), push::TOKEN);
        let authorization = text_of(request.headers(), AUTHORIZATION.as_str());
        let Ok(body) = body(request).await else {
            return text(StatusCode::BAD_REQUEST, "the body is not JSON, or too long");
        };
        let notification =
            json!({"id": hook.id, "token": token, "authorization": authorization, "body": body});
        match self.gateway.push(to, &notification).await {
            Ok(()) => text(StatusCode::OK, "delivered"),
            Err(error) => text(StatusCode::BAD_GATEWAY, &told(&error)),
        }
    }

    async fn call(&self, to: Address, request: Request<Incoming>) -> Response<Body> {
        let (version, extensions) =
            (text_of(request.headers(), "a2a-version"), text_of(request.headers(), "a2a-extensions"));
        let gateway = base(request.headers());
        let refused = |id: &Value, refusal: Refusal| json_response(&refusal.answer_to(id));
        let body = match body(request).await {
            Ok(body) => body,
            Err(NoBody::NotJson) => return refused(&Value::Null, Refusal::not_json("the body is not JSON")),
            Err(NoBody::TooLong) => {
                let why = format!("the body has more than {MAX_BODY_BYTES} bytes");
                return refused(&Value::Null, Refusal::invalid_request(why));
            }
            Err(NoBody::Lost) => return text(StatusCode::REQUEST_TIMEOUT, "the body came too slowly"),
        };
        let id = call::id_of(&body);
        let checked = call::check(&body).and_then(|method| match version.as_deref() {
            Some(version) if version.split('.').next() == Some("1") => Ok(method),
            // Without the header it is 0.3 (A2A 1.0, section 3.6.2).
            _ => Err(Refusal::other_version("the gateway speaks A2A 1.x: send the header A2A-Version")),
        });
        let method = match checked {
            Ok(method) => method,
            Err(refusal) => return refused(&id, refusal),
        };
        let call = LocalCall { body, method, extensions, gateway };
        if !call::is_stream(method) {
            let answer = self.gateway.call(to, call).await;
            return json_response(&answer.unwrap_or_else(|error| error.answer_to(&id)));
        }
        match self.gateway.stream(to, call).await {
            Ok(answers) => events(Arc::clone(&self.gateway), to, id, answers).await,
            Err(error) => json_response(&error.answer_to(&id)),
        }
    }
}

/// Returns a stream of events. An agent that answers without one, or not at all, gets a plain response.
async fn events(gateway: Arc<Gateway>, of: Address, id: Value, mut answers: Answers) -> Response<Body> {
    let first = match next(&gateway, &id, of, &mut answers).await {
        Ok(Some((part, true))) => return json_response(&part),
        Ok(Some((part, false))) => Some(part),
        Ok(None) => None,
        Err(error) => return json_response(&call::failure(&id, &error.0)),
    };
    let rest = first.is_some().then_some(answers);
    let rest = stream::unfold(rest, move |open| {
        let (gateway, id) = (Arc::clone(&gateway), id.clone());
        async move {
            let mut answers = open?;
            match next(&gateway, &id, of, &mut answers).await {
                Ok(Some((part, is_last))) => Some((part, (!is_last).then_some(answers))),
                Ok(None) => None,
                Err(error) => Some((call::failure(&id, &error.0), None)),
            }
        }
    });
    let parts = stream::iter(first).chain(rest).map(|part| sse::event(&part));
    response(
        StatusCode::OK,
        "text/event-stream",
        Body::events(sse::with_pings(parts.boxed(), sse::PING_INTERVAL)),
    )
}

/// Returns the next part of an answer, and `true` if it is the last one; `None` after the end.
async fn next(
    gateway: &Gateway,
    id: &Value,
    of: Address,
    answers: &mut Answers,
) -> Result<Option<(Value, bool)>, CallError> {
    loop {
        match answers.next().await? {
            Event::Response(response) => {
                return Ok(Some((gateway.show(id, response.data.as_deref(), of), response.last)));
            }
            Event::Result(_) => return Ok(None),
            _ => {}
        }
    }
}

/// Returns the URL by which a program names the gateway. The request was checked before.
fn base(headers: &HeaderMap) -> String {
    format!("http://{}", text_of(headers, HOST.as_str()).unwrap_or_default())
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn told(error: &CallError) -> String {
    format!("{}: {}", error.0.code, error.0.message)
}

fn card(card: Result<Value, NoAnswer>) -> Response<Body> {
    match card {
        Ok(card) => json_response(&card),
        Err(NoAnswer::Failed(error)) if error.0.retryable => {
            text(StatusCode::SERVICE_UNAVAILABLE, &told(&error))
        }
        Err(NoAnswer::Failed(error)) => text(StatusCode::BAD_GATEWAY, &told(&error)),
        Err(NoAnswer::Refused(refusal)) => text(StatusCode::BAD_GATEWAY, refusal.message()),
    }
}

/// Reads the JSON of a request.
async fn body(request: Request<Incoming>) -> Result<Value, NoBody> {
    let reading = async {
        let mut body = request.into_body();
        let mut text = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await
        {
            let frame = frame.map_err(|_| NoBody::Lost)?;
            let Some(bytes) = frame.data_ref() else { continue };
            if text.len() + bytes.len() > MAX_BODY_BYTES {
                return Err(NoBody::TooLong);
            }
            text.extend_from_slice(bytes);
        }
        serde_json::from_slice(&text).map_err(|_| NoBody::NotJson)
    };
    tokio::time::timeout(BODY_TIMEOUT, reading).await.unwrap_or(Err(NoBody::Lost))
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", Body::of(format!("{text}\n")))
}

/// Returns a response with JSON. Errors of JSON-RPC have the status 200 as well.
fn json_response(value: &Value) -> Response<Body> {
    response(StatusCode::OK, "application/json", Body::of(value.to_string()))
}

fn response(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_an_agent_by_its_address() {
        let agent = Address::repeat_byte(0xaa);
        let of = |rest: &str| path(&format!("/agents/{agent}{rest}"));
        assert_eq!((of(""), of("/")), (Some(Path::Call(agent)), Some(Path::Call(agent))));
        assert_eq!(of("/.well-known/agent-card.json"), Some(Path::Card(agent)));
        assert_eq!(of("/signed-agent-card.json"), Some(Path::SignedCard(agent)));
        let hook = Hook { id: "1f".to_owned(), proof: "2e".to_owned() };
        assert_eq!(path(&format!("/push/{agent}/1f/2e")), Some(Path::Push(agent, hook)));
        for wrong in ["", "/", "/agents", "/agents/alice", "/agents/0x1", "/push/0x1/1"] {
            assert_eq!(path(wrong), None, "{wrong}");
        }
        assert_eq!((of("/x"), path(&format!("/push/{agent}/1f"))), (None, None));
    }
}
