//! The A2A server of this agent, for other agents.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use p2p_node_protocol::{ErrorCode, IncomingRequest};
use p2p_node_wire::identity::parse_address;
use reqwest::Response;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::Value;
use serde_json::value::to_raw_value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::call::{self, Refusal};
use super::card::VERSION;
use super::gateway::{Failure, Gateway};
use super::push;
use super::sse::Events;
use crate::inner::{CallError, Requests, Responder};

/// The kind of requests for the agent card, and of those that carry calls.
pub(super) const CARD: &str = "a2a.card";
pub(super) const CALL: &str = "a2a";

/// The header with the address of the agent that calls, which the network proves.
const ASKER: &str = "X-P2P-Agent";

/// Longest answer of the server that is no stream, in bytes: what a request can carry.
const MAX_ANSWER_BYTES: usize = p2p_node_protocol::MAX_LINE_BYTES;
/// Pause before the gateway attaches again, after the node has closed its client.
const PAUSE: Duration = Duration::from_secs(1);

/// Handles the requests of other agents until the task ends.
pub(super) async fn serve(gateway: Arc<Gateway>, mut ready: watch::Receiver<bool>) {
    // A client that connects starts the node, which is for the parent to do.
    while ready.wait_for(|ready| *ready).await.is_ok() {
        let opened = Requests::open(&gateway.link, gateway.kinds(), Arc::clone(&gateway.refused)).await;
        match opened {
            Ok(mut requests) => {
                gateway.attach(Some(requests.calls()));
                let mut answering = JoinSet::new();
                while let Some((request, responder)) = requests.next().await {
                    while answering.try_join_next().is_some() {}
                    answering.spawn(answer(Arc::clone(&gateway), request, responder));
                }
                gateway.attach(None);
                tracing::warn!("the node closed the client of the A2A gateway");
            }
            Err(error) => tracing::warn!("the A2A gateway cannot attach: {}", error.0.message),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Answers a request, unless the asker gives it up before.
async fn answer(gateway: Arc<Gateway>, request: Box<IncomingRequest>, mut responder: Responder) {
    let over = responder.over();
    let answering = async {
        let answered = match request.kind.as_deref() {
            Some(CARD) => gateway.own_card().await.map(Some),
            Some(push::KIND) => gateway.notify(&request).await.map(|()| Some(Value::Null)),
            _ => call(&gateway, &request, &mut responder).await,
        };
        let written = match answered {
            Ok(Some(answer)) => write(&responder, &answer).await,
            Ok(None) => responder.end().await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        if let Err(Failure { code, message }) = written {
            responder.fail(code, &message).await;
        }
    };
    tokio::select! {
        () = answering => {}
        () = over => {}
    }
}

async fn write(responder: &Responder, answer: &Value) -> Result<(), Failure> {
    let data = to_raw_value(answer).map_err(|error| Failure::new("INTERNAL", error))?;
    Ok(responder.answer(data).await?)
}

impl From<CallError> for Failure {
    /// Converts the refusal of an answer by the node.
    fn from(error: CallError) -> Self {
        match error.0.code {
            ErrorCode::MessageTooLarge => {
                Failure::new("ANSWER_TOO_LONG", "the answer is longer than a message")
            }
            _ => Failure::new("INTERNAL", &error.0.message),
        }
    }
}

/// Passes a call to the server. Returns its answer, or `None` after a stream.
async fn call(
    gateway: &Gateway,
    request: &IncomingRequest,
    responder: &mut Responder,
) -> Result<Option<Value>, Failure> {
    let invalid = |error: &dyn std::fmt::Display| Failure::new("INVALID_ARGUMENT", error);
    // A broadcast can be read by all, and has many answers.
    let Some(asker) = parse_address(&request.from).ok().filter(|_| request.topic.is_none()) else {
        return Err(invalid(&"a call must be for one agent"));
    };
    let given: Value = serde_json::from_str(request.data.get()).map_err(|error| invalid(&error))?;
    let mut body = given["call"].clone();
    let id = call::id_of(&body);
    let checked = call::check(&body).and_then(|method| {
        gateway.places.lead_here(&mut body, asker)?;
        match call::is_stream(method) && !request.stream {
            true => Err(Refusal::invalid_request("the answer is a stream, and the request permits none")),
            false => Ok(method),
        }
    });
    let method = match checked {
        Ok(method) => method,
        Err(refusal) => return Ok(Some(refusal.answer_to(&id))),
    };
    let mut sent = gateway.http.post(gateway.rpc_url().await?);
    if let Some(extensions) = given["extensions"].as_str() {
        sent = sent.header("A2A-Extensions", extensions);
    }
    let sent = sent
        .header(ASKER, asker.to_string())
        .header("A2A-Version", VERSION)
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json, text/event-stream")
        .body(body.to_string());
    let mut response = gateway.accepted(sent.send().await)?;
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if call::is_stream(method) && kind.starts_with("text/event-stream") {
        return pass_on(gateway, &mut response, asker, responder).await;
    }
    let mut answer = json_of(&mut response).await?;
    if method == call::EXTENDED_CARD && answer["result"].is_object() {
        answer["result"] = gateway.signed(&answer["result"])?;
    }
    gateway.places.lead_away(&mut answer, asker);
    Ok(Some(answer))
}

/// Passes the events of a stream to the asker, as fast as it permits.
async fn pass_on(
    gateway: &Gateway,
    response: &mut Response,
    asker: Address,
    responder: &mut Responder,
) -> Result<Option<Value>, Failure> {
    let mut events = Events::default();
    while let Some(bytes) = response.chunk().await.map_err(unavailable)? {
        let ended =
            events.push(&bytes).map_err(|_| Failure::new("ANSWER_TOO_LONG", "an event is too long"))?;
        for text in ended {
            let mut event: Value = serde_json::from_str(&text).map_err(not_json)?;
            gateway.places.lead_away(&mut event, asker);
            let data = to_raw_value(&event).map_err(|error| Failure::new("INTERNAL", error))?;
            responder.part(data).await?;
        }
    }
    Ok(None)
}

/// Returns why the server gave no answer. Only the log tells the cause, which is none of the asker's business.
pub(super) fn unavailable(error: impl std::fmt::Display) -> Failure {
    tracing::warn!("the A2A server of this agent: {error}");
    Failure::new("AGENT_UNAVAILABLE", "the A2A server of the agent does not answer")
}

fn not_json(error: serde_json::Error) -> Failure {
    tracing::warn!("the A2A server of this agent: {error}");
    Failure::new("AGENT_UNAVAILABLE", "the A2A server of the agent answers with something else than JSON")
}

/// Reads the JSON of a response.
pub(super) async fn json_of(response: &mut Response) -> Result<Value, Failure> {
    let mut text = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(unavailable)? {
        if text.len() + bytes.len() > MAX_ANSWER_BYTES {
            let message = format!("the answer has more than {MAX_ANSWER_BYTES} bytes");
            return Err(Failure::new("ANSWER_TOO_LONG", message));
        }
        text.extend_from_slice(&bytes);
    }
    serde_json::from_slice(&text).map_err(not_json)
}
