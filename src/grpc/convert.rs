//! Between the messages of gRPC and the types of the pipe protocol. The node checks the fields.

use p2p_node_grpc::v1;
use p2p_node_protocol::{
    Answer, Ask, Discover, Encoding, ErrorCode, Event, Message, PeerDiscovered, Priority, Ready, Response,
    Route, Send, StatusReport, decode_base64, encode_base64,
};
use serde_json::value::RawValue;
use tonic::Status;

use super::codes::invalid;

/// Returns a value as the text that the pipe protocol has for it.
fn text_of(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

fn priority(given: i32) -> Result<Option<Priority>, Status> {
    match v1::Priority::try_from(given) {
        Ok(v1::Priority::Unspecified) => Ok(None),
        Ok(v1::Priority::Low) => Ok(Some(Priority::Low)),
        Ok(v1::Priority::Medium) => Ok(Some(Priority::Medium)),
        Ok(v1::Priority::High) => Ok(Some(Priority::High)),
        Err(_) => Err(invalid("`priority` has no such value")),
    }
}

fn route(given: i32) -> Result<Option<Route>, Status> {
    match v1::Route::try_from(given) {
        Ok(v1::Route::Unspecified) => Ok(None),
        Ok(v1::Route::Auto) => Ok(Some(Route::Auto)),
        Ok(v1::Route::Direct) => Ok(Some(Route::Direct)),
        Ok(v1::Route::Gossip) => Ok(Some(Route::Gossip)),
        Err(_) => Err(invalid("`route` has no such value")),
    }
}

/// Returns the `data` and the `encoding` of a payload.
fn data(payload: Option<v1::Payload>) -> Result<(Box<RawValue>, Option<Encoding>), Status> {
    use v1::payload::Form;
    let form = payload.and_then(|payload| payload.form).ok_or_else(|| invalid("`payload` is missing"))?;
    let (json, encoding) = match form {
        Form::Json(json) => (json, None),
        Form::Binary(bytes) => (format!("\"{}\"", encode_base64(&bytes)), Some(Encoding::Base64)),
    };
    let data = RawValue::from_string(json);
    Ok((data.map_err(|error| invalid(format!("`payload.json` is not JSON: {error}")))?, encoding))
}

fn payload(data: &RawValue, encoding: Option<Encoding>) -> v1::Payload {
    use v1::payload::Form;
    let bytes = || decode_base64(&serde_json::from_str::<String>(data.get()).ok()?);
    let form = match encoding.and_then(|Encoding::Base64| bytes()) {
        Some(bytes) => Form::Binary(bytes),
        None => Form::Json(data.get().to_owned()),
    };
    v1::Payload { form: Some(form) }
}

/// Returns the command of `SendMessage`.
pub(super) fn send(request: v1::SendMessageRequest) -> Result<Send, Status> {
    use v1::send_message_request::Recipient;
    let (data, encoding) = data(request.payload)?;
    let send = match request.recipient.ok_or_else(|| invalid("`recipient` is missing"))? {
        Recipient::Agent(agent) => Send::to_peer(agent, data),
        Recipient::Topic(topic) => Send::to_topic(topic, data),
    };
    Ok(Send {
        encoding,
        kind: request.kind,
        priority: priority(request.priority)?,
        ttl_ms: request.ttl_ms,
        route: route(request.route)?,
        reply_to: request.reply_to,
        conversation_id: request.conversation_id,
        traceparent: request.traceparent,
        ..send
    })
}

/// Returns the command of `Request`.
pub(super) fn ask(request: v1::RequestRequest) -> Result<Ask, Status> {
    use v1::request_request::Recipient;
    let (data, encoding) = data(request.payload)?;
    let ask = match request.recipient.ok_or_else(|| invalid("`recipient` is missing"))? {
        Recipient::Agent(agent) => Ask::to_peer(agent, data),
        Recipient::Agents(list) if list.agents.is_empty() => return Err(invalid("`agents` is empty")),
        Recipient::Agents(list) => Ask::to_peers(list.agents, data),
        Recipient::Topic(topic) => Ask::to_topic(topic, data),
    };
    Ok(Ask {
        encoding,
        kind: request.kind,
        deadline_ms: request.deadline_ms,
        quorum: request.quorum.map(|quorum| quorum as usize),
        stream: request.stream,
        traceparent: request.traceparent,
        ..ask
    })
}

/// Returns the command of `ListAgents`.
pub(super) fn discover(request: v1::ListAgentsRequest) -> Discover {
    use v1::list_agents_request::Filter;
    let discover = Discover { timeout_ms: request.timeout_ms, ..Discover::default() };
    match request.filter {
        None => discover,
        Some(Filter::Address(address)) => Discover { address: Some(address), ..discover },
        Some(Filter::Topic(topic)) => Discover { topic: Some(topic), ..discover },
        Some(Filter::Capability(capability)) => Discover { capability: Some(capability), ..discover },
    }
}

/// Returns an event of `Connect`. `line` is its line.
pub(super) fn event(event: Event, line: String) -> v1::Event {
    use v1::event::Event as Typed;
    let event = match event {
        Event::Ready(ready) => Typed::Ready(of_ready(*ready)),
        Event::Message(message) => Typed::Message(of_message(*message)),
        Event::PeerDiscovered(agent) => Typed::Agent(of_agent(*agent)),
        _ => Typed::Other(v1::OtherEvent { r#type: type_of(&line), json: line }),
    };
    v1::Event { event: Some(event) }
}

/// Returns the `type` of a line.
fn type_of(line: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Head {
        r#type: String,
    }
    serde_json::from_str::<Head>(line).map(|head| head.r#type).unwrap_or_default()
}

fn of_ready(ready: Ready) -> v1::Ready {
    v1::Ready {
        address: ready.address,
        peer_id: ready.peer_id,
        name: ready.name,
        network: ready.network,
        version: ready.version,
        addrs: ready.addrs,
        durable: ready.durable,
    }
}

fn of_message(message: Message) -> v1::Message {
    let priority = match message.priority {
        Priority::Low => v1::Priority::Low,
        Priority::Medium => v1::Priority::Medium,
        Priority::High => v1::Priority::High,
    };
    let route = match message.route {
        Route::Auto => v1::Route::Auto,
        Route::Direct => v1::Route::Direct,
        Route::Gossip => v1::Route::Gossip,
    };
    v1::Message {
        payload: Some(payload(&message.data, message.encoding)),
        from: message.from,
        message_id: message.message_id,
        topic: message.topic,
        kind: message.kind,
        priority: priority.into(),
        peer_id: message.peer_id,
        sent_at_ms: message.sent_at_ms,
        received_at_ms: message.received_at_ms,
        route: route.into(),
        reply_to: message.reply_to,
        conversation_id: message.conversation_id,
        traceparent: message.traceparent,
        hops: message.hops,
        trust: text_of(message.trust),
        redelivered: message.redelivered,
    }
}

/// Returns an agent that the node found.
pub(super) fn of_agent(agent: PeerDiscovered) -> v1::Agent {
    v1::Agent {
        address: agent.address,
        peer_id: agent.peer_id,
        name: agent.name,
        role: text_of(agent.role),
        trust: text_of(agent.trust),
        topics: agent.topics,
        capabilities: agent.capabilities,
        addrs: agent.addrs,
        expires_at_ms: agent.expires_at_ms,
    }
}

/// Returns an answer to a request.
pub(super) fn answer(response: Response) -> v1::RequestResponse {
    use v1::answer::Result as Outcome;
    let outcome = match (response.data, response.error) {
        (_, Some(error)) => Some(Outcome::Error(v1::AgentError {
            code: ErrorCode::as_str(error.code).to_owned(),
            message: error.message,
            handler_code: error.handler_code,
        })),
        (Some(data), None) => Some(Outcome::Payload(payload(&data, response.encoding))),
        (None, None) => None,
    };
    let answer = v1::Answer {
        from: response.from,
        result: outcome,
        part: response.part,
        last: response.last,
        peer_id: response.peer_id,
        trust: text_of(response.trust),
    };
    v1::RequestResponse { response: Some(v1::request_response::Response::Answer(answer)) }
}

/// Returns the end of a request.
pub(super) fn summary(answer: Answer) -> v1::RequestResponse {
    let summary = v1::Summary {
        answers: small(answer.answers.unwrap_or_default()),
        complete: answer.complete,
        missing: answer.missing.unwrap_or_default(),
    };
    v1::RequestResponse { response: Some(v1::request_response::Response::Summary(summary)) }
}

/// Returns the answer of `GetStatus`.
pub(super) fn status(report: &StatusReport) -> v1::GetStatusResponse {
    v1::GetStatusResponse {
        address: report.address.clone(),
        peer_id: report.peer_id.clone(),
        uptime_ms: report.uptime_ms,
        peers: small(report.peers),
        agents: small(report.agents),
        health_score: report.health_score,
        counters: report.counters.iter().map(|(name, number)| (name.to_string(), *number)).collect(),
        json: serde_json::to_string(report).unwrap_or_default(),
    }
}

/// Returns a number of things, which the limits of the node keep small.
pub(super) fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
