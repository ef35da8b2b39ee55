//! What the gateway does for both sides: cards, calls to other agents, and notifications.

use std::fmt::Display;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::Address;
use p2p_node_protocol::{Ask, Command, Discover, ErrorCode, Event, IncomingRequest, Response};
use p2p_node_wire::identity::{NodeKey, parse_address};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Url};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::call::{self, Refusal};
use super::push::{self, Hooks, Places};
use super::{agent, card};
use crate::inner::{Answers, CallError, Calls, Link, Taker};

/// Time to look for an agent that the node does not know. Our choice: the clients of the A2A SDK for Python wait
/// 5 s by default.
const FIND_TIME: Duration = Duration::from_secs(4);
/// Time for an answer that is no stream. Our choice: a blocking call of A2A lasts as long as its task.
const ANSWER_TIME: Duration = Duration::from_secs(600);
/// Time for a stream: the longest of a request.
const STREAM_TIME: Duration = Duration::from_secs(3600);
/// Time for an agent card, and for a notification.
const SHORT_TIME: Duration = Duration::from_secs(30);
/// Time to connect to a program of this machine. Our choice.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a program of this agent gave no answer, for another agent: a code, and text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(code: &'static str, message: impl Display) -> Self {
        Failure { code, message: message.to_string() }
    }
}

impl From<card::CardError> for Failure {
    fn from(error: card::CardError) -> Self {
        Failure::new("AGENT_UNAVAILABLE", error)
    }
}

/// Why a program of this agent gets no answer.
#[derive(Clone, Debug)]
pub(super) enum NoAnswer {
    /// The call cannot be passed on, or its answer not back.
    Refused(Refusal),
    /// The network did not carry it out.
    Failed(CallError),
}

impl From<Refusal> for NoAnswer {
    fn from(refusal: Refusal) -> Self {
        NoAnswer::Refused(refusal)
    }
}

impl From<CallError> for NoAnswer {
    fn from(error: CallError) -> Self {
        NoAnswer::Failed(error)
    }
}

impl NoAnswer {
    /// Returns the answer to the call with this id.
    pub(super) fn answer_to(&self, id: &Value) -> Value {
        match self {
            NoAnswer::Refused(refusal) => refusal.answer_to(id),
            NoAnswer::Failed(error) => call::failure(id, &error.0),
        }
    }
}

/// A call of a program of this agent.
pub(super) struct LocalCall {
    /// The request of JSON-RPC.
    pub(super) body: Value,
    pub(super) method: &'static str,
    /// The header `A2A-Extensions`.
    pub(super) extensions: Option<String>,
    /// The URL by which the program names the gateway.
    pub(super) gateway: String,
}

/// The gateway of a node.
pub(super) struct Gateway {
    pub(super) link: Link,
    pub(super) http: Client,
    /// Number of requests that were refused.
    pub(super) refused: Arc<AtomicU64>,
    server: Option<Url>,
    account: Address,
    pub(super) places: Places,
    hooks: Hooks,
    /// The client of the node, while there is one.
    calls: Mutex<Option<Arc<Calls>>>,
    /// The URL of the server's interface, once its card was read.
    rpc_url: Mutex<Option<Url>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gateway {
    /// # Errors
    /// Fails if the server has a URL of https and the system no certificates.
    pub(super) fn new(
        link: Link,
        server: Option<Url>,
        account: Address,
        node_key: NodeKey,
        url: String,
    ) -> reqwest::Result<Self> {
        let builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // The program may have started anew since the last call.
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_TIMEOUT);
        // Many containers have no certificates, and a server without TLS needs none.
        let has_tls = server.as_ref().is_some_and(|server| server.scheme() == "https");
        let builder = if has_tls { builder } else { builder.tls_certs_only([]) };
        Ok(Gateway {
            link,
            http: builder.build()?,
            refused: Arc::default(),
            server,
            account,
            places: Places { gateway: url, key: node_key },
            hooks: Hooks::default(),
            calls: Mutex::default(),
            rpc_url: Mutex::default(),
        })
    }

    /// Returns the kinds of requests that the gateway handles.
    pub(super) fn kinds(&self) -> Vec<String> {
        let of_server = self.server.iter().flat_map(|_| [agent::CARD, agent::CALL]);
        of_server.chain([push::KIND]).map(str::to_owned).collect()
    }

    /// Sets the client of the node.
    pub(super) fn attach(&self, calls: Option<Arc<Calls>>) {
        *locked(&self.calls) = calls;
    }

    fn calls(&self) -> Result<Arc<Calls>, CallError> {
        let calls = locked(&self.calls).clone().filter(|calls| !calls.is_closed());
        calls.ok_or_else(|| {
            CallError::new(ErrorCode::Busy, "the node is not ready yet; try again in a moment")
        })
    }

    /// Looks for an agent, so that a program need not wait for the answer of nobody.
    async fn find(&self, agent: Address) -> Result<Arc<Calls>, CallError> {
        let calls = self.calls()?;
        let timeout_ms = u64::try_from(FIND_TIME.as_millis()).ok();
        let discover = Discover { address: Some(agent.to_string()), timeout_ms, ..Discover::default() };
        let found = calls.call(Command::Discover(discover), Taker::Server).await?.answer().await?;
        match found.complete {
            Some(true) => Ok(calls),
            _ => Err(CallError::new(
                ErrorCode::PeerNotFound,
                "no agent with this address was found; check that it runs and has joined this network",
            )),
        }
    }

    /// Asks an agent for one answer.
    async fn ask_once(
        &self,
        to: Address,
        kind: &str,
        data: &Value,
        time: Duration,
    ) -> Result<Response, CallError> {
        let command = Command::Ask(ask(to, kind, data, time)?);
        let mut call = self.find(to).await?.call(command, Taker::Server).await?;
        let mut answer = None;
        loop {
            match call.next().await? {
                Event::Response(response) => answer = Some(*response),
                Event::Result(_) => {
                    let none = || CallError::new(ErrorCode::ResponseLost, "the agent gave no answer");
                    return answer.ok_or_else(none);
                }
                _ => {}
            }
        }
    }

    /// Returns the signed card of an agent, as the agent sent it.
    pub(super) async fn signed_card_of(&self, of: Address) -> Result<Value, NoAnswer> {
        let response = self.ask_once(of, agent::CARD, &Value::Null, SHORT_TIME).await?;
        let card = json_of(response.data.as_deref())?;
        verify(&card, of, &response)?;
        Ok(card)
    }

    /// Returns the card of an agent, with the gateway as its interface.
    pub(super) async fn card_of(&self, of: Address, gateway: &str) -> Result<Value, NoAnswer> {
        Ok(here(&self.signed_card_of(of).await?, of, gateway)?)
    }

    /// Returns what travels to the agent.
    fn outgoing(&self, call: &mut LocalCall, to: Address) -> Result<Value, Refusal> {
        self.hooks.hide(&mut call.body, to)?;
        Ok(json!({"call": call.body, "extensions": call.extensions}))
    }

    /// Passes a call that has one answer to an agent.
    pub(super) async fn call(&self, to: Address, mut call: LocalCall) -> Result<Value, NoAnswer> {
        let data = self.outgoing(&mut call, to)?;
        let response = self.ask_once(to, agent::CALL, &data, ANSWER_TIME).await?;
        let mut answer = call::answer(&call::id_of(&call.body), json_of(response.data.as_deref())?);
        if call.method == call::EXTENDED_CARD && answer.get("result").is_some() {
            verify(&answer["result"], to, &response)?;
            answer["result"] = here(&answer["result"], to, &call.gateway)?;
        }
        self.hooks.show(&mut answer, to);
        Ok(answer)
    }

    /// Passes a call whose answer is a stream to an agent.
    pub(super) async fn stream(&self, to: Address, mut call: LocalCall) -> Result<Answers, NoAnswer> {
        let data = self.outgoing(&mut call, to)?;
        let ask = Ask { stream: true, ..ask(to, agent::CALL, &data, STREAM_TIME)? };
        Ok(Answers::ask(&*self.find(to).await?, ask).await?)
    }

    /// Returns a part of a stream of an agent, for the program that made the call with this id.
    pub(super) fn show(&self, id: &Value, part: Option<&RawValue>, of: Address) -> Value {
        let mut part = match json_of(part) {
            Ok(part) => call::answer(id, part),
            Err(refusal) => refusal.answer_to(id),
        };
        self.hooks.show(&mut part, of);
        part
    }

    /// Passes a notification of the server of this agent to the agent that asked for it.
    pub(super) async fn push(&self, to: Address, notification: &Value) -> Result<(), CallError> {
        self.ask_once(to, push::KIND, notification, SHORT_TIME).await.map(drop)
    }

    /// Passes a notification of another agent to the program that asked for it.
    pub(super) async fn notify(&self, request: &IncomingRequest) -> Result<(), Failure> {
        let unknown = || Failure::new("NOT_FOUND", "no program of this agent asked for this notification");
        let from = parse_address(&request.from).map_err(|_| unknown())?;
        let data: Value = serde_json::from_str(request.data.get()).map_err(|_| unknown())?;
        let url = data["id"].as_str().and_then(|id| self.hooks.url(id, from)).ok_or_else(unknown)?;
        let mut sent = self.http.post(url).timeout(SHORT_TIME).header(CONTENT_TYPE, "application/json");
        if let Some(token) = data["token"].as_str() {
            sent = sent.header(push::TOKEN, token);
        }
        if let Some(authorization) = data["authorization"].as_str() {
            sent = sent.header(AUTHORIZATION, authorization);
        }
        let sent = sent.body(data["body"].to_string()).send().await;
        if !sent.as_ref().is_ok_and(|response| response.status().is_success()) {
            tracing::warn!("a web hook of this agent did not take a notification");
            return Err(Failure::new("NOT_DELIVERED", "the program did not take the notification"));
        }
        Ok(())
    }

    /// Returns the response of the server of this agent, if it accepted the call.
    pub(super) fn accepted(
        &self,
        sent: reqwest::Result<reqwest::Response>,
    ) -> Result<reqwest::Response, Failure> {
        let accepted = sent.map_err(|error| error.without_url().to_string()).and_then(|response| {
            let status = response.status();
            if status.is_success() { Ok(response) } else { Err(status.to_string()) }
        });
        accepted.map_err(|error| {
            // Its interface may be elsewhere after a restart.
            *locked(&self.rpc_url) = None;
            agent::unavailable(error)
        })
    }

    /// Reads the card of the server of this agent.
    async fn server_card(&self) -> Result<Value, Failure> {
        let none = || Failure::new("NO_AGENT", "the agent has no A2A server");
        let server = self.server.as_ref().ok_or_else(none)?;
        let url = format!("{}/.well-known/agent-card.json", server.as_str().trim_end_matches('/'));
        let mut response = self.accepted(self.http.get(url).timeout(SHORT_TIME).send().await)?;
        let card = agent::json_of(&mut response).await?;
        *locked(&self.rpc_url) = Some(card::rpc_url(&card, server)?);
        Ok(card)
    }

    /// Returns a card of the server of this agent as other agents get it.
    pub(super) fn signed(&self, card: &Value) -> Result<Value, Failure> {
        let card = card::at(card, &card::name_of(self.account))?;
        let signed = card::sign(card, &self.places.key);
        signed.map(Value::Object).map_err(|error| Failure::new("AGENT_UNAVAILABLE", error))
    }

    /// Returns the card of this agent, for other agents.
    pub(super) async fn own_card(&self) -> Result<Value, Failure> {
        self.signed(&self.server_card().await?)
    }

    /// Returns the URL of the interface of the server of this agent.
    pub(super) async fn rpc_url(&self) -> Result<Url, Failure> {
        let known = locked(&self.rpc_url).clone();
        if let Some(url) = known {
            return Ok(url);
        }
        self.server_card().await?;
        let unavailable = || agent::unavailable("the card was read, and its interface is gone");
        locked(&self.rpc_url).clone().ok_or_else(unavailable)
    }
}

fn ask(to: Address, kind: &str, data: &Value, time: Duration) -> Result<Ask, CallError> {
    let data = to_raw_value(data).map_err(|error| CallError::new(ErrorCode::Internal, &error.to_string()))?;
    let deadline_ms = u64::try_from(time.as_millis()).ok();
    Ok(Ask { kind: Some(kind.to_owned()), deadline_ms, ..Ask::to_peer(to.to_string(), data) })
}

/// Reads what an agent sent.
fn json_of(data: Option<&RawValue>) -> Result<Value, Refusal> {
    let read = serde_json::from_str(data.unwrap_or(RawValue::NULL).get());
    read.map_err(|_| Refusal::invalid_answer("the agent's answer is not JSON, or too deep"))
}

/// Checks the card in an answer of an agent.
fn verify(card: &Value, of: Address, response: &Response) -> Result<(), Refusal> {
    card::verify(card, of, response.peer_id.as_deref().unwrap_or_default()).map_err(unusable)
}

/// Returns a card with the gateway as its interface.
fn here(card: &Value, of: Address, gateway: &str) -> Result<Value, Refusal> {
    card::at(card, &format!("{gateway}/agents/{of}")).map(Value::Object).map_err(unusable)
}

fn unusable(error: card::CardError) -> Refusal {
    Refusal::invalid_answer(error.to_string())
}
