//! Questions of the program to one agent, to a list of agents and to a topic.

use std::time::Duration;

use p2p_node_protocol::{
    AgentError, Ask, Command, Credit, ErrorCode, MAX_CREDIT, MAX_DEADLINE_MS, MAX_TARGETS, Response,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::shared::Answered;
use crate::{Error, Node, Payload};

/// Deadline of the node for a request without one.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);
/// Time after the deadline at which the SDK gives the node up. The node itself ends each request.
const GRACE: Duration = Duration::from_secs(10);
/// The longest deadline that the node accepts.
const MAX_DEADLINE: Duration = Duration::from_millis(MAX_DEADLINE_MS);
/// Parts that the SDK asks for before the program reads them.
const CREDIT: u32 = MAX_CREDIT / 4;

/// The options of a question, besides agent and data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskOptions {
    /// Selects the handler of the agent, at most 64 bytes. Default: none.
    pub kind: Option<String>,
    /// Time for the whole answer: 1 ms to 1 h. Default: 30 s.
    pub deadline: Option<Duration>,
    /// For [`ask_all`](Node::ask_all): the number of answers with which the call returns. Default: those of all
    /// agents of a list; for a topic, what comes until the deadline.
    pub quorum: Option<usize>,
    /// The trace of the request: a `traceparent` of W3C Trace Context. Default: none.
    pub traceparent: Option<String>,
}

impl AskOptions {
    /// Returns the options with a kind.
    pub fn kind(kind: impl Into<String>) -> Self {
        AskOptions { kind: Some(kind.into()), ..AskOptions::default() }
    }

    fn patience(&self) -> Duration {
        self.deadline.unwrap_or(DEFAULT_DEADLINE).saturating_add(GRACE)
    }

    /// Builds a request without agents.
    fn request(&self, data: &(impl Payload + ?Sized)) -> Result<Ask, Error> {
        let AskOptions { kind, deadline, quorum, traceparent } = self.clone();
        if let Some(deadline) = deadline.filter(|at| !(Duration::from_millis(1)..=MAX_DEADLINE).contains(at))
        {
            return Err(Error::argument("deadline", format!("must be 1 ms to 1 h, not {deadline:?}")));
        }
        let deadline_ms = deadline.and_then(|deadline| u64::try_from(deadline.as_millis()).ok());
        let (data, encoding) = data.to_data()?;
        Ok(Ask { kind, deadline_ms, quorum, traceparent, encoding, ..Ask::to_peers(Vec::new(), data) })
    }
}

/// Whom [`ask_all`](Node::ask_all) asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// At most 1,000 agents.
    Agents(Vec<String>),
    /// The subscribers of a topic. Everybody can read the question.
    Topic(String),
}

/// The answers to one question to many agents.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// The answers, in the order of their arrival.
    pub answers: Vec<Response>,
    /// The agents that failed, with the reasons.
    pub failed: Vec<(String, AgentError)>,
    /// The agents of a list without an answer.
    pub missing: Vec<String>,
    /// `true` if fewer agents answered than the quorum.
    pub is_below_quorum: bool,
}

impl Node {
    /// Asks an agent and returns its answer. Dropping the call cancels the handler.
    ///
    /// # Errors
    /// As [`request`](Node::request): `NO_HANDLER`, `DEADLINE_EXCEEDED`, `PEER_NOT_FOUND`, … For
    /// `HANDLER_FAILED`, [`Error::handler_code`] is the code of the handler.
    pub async fn ask<T: Payload + ?Sized>(
        &self,
        to: impl Into<String>,
        data: &T,
        options: AskOptions,
    ) -> Result<Response, Error> {
        let ask = Ask { peer_id: Some(to.into()), ..options.request(data)? };
        let (sender, mut responses) = mpsc::channel(1);
        self.run(Command::Ask(ask), options.patience(), Some(sender)).await?;
        let missing = || Error::Contract("a request ended without an answer".to_owned());
        responses.recv().await.ok_or_else(missing)
    }

    /// Asks an agent. The answer comes in parts, in order. Dropping the parts cancels the handler.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]. Other errors come behind the parts.
    pub fn ask_stream<T: Payload + ?Sized>(
        &self,
        to: impl Into<String>,
        data: &T,
        options: AskOptions,
    ) -> Result<Parts, Error> {
        let ask = options.request(data)?;
        let ask = Ask { peer_id: Some(to.into()), stream: true, credit: Some(CREDIT), ..ask };
        let (sender, responses) = mpsc::channel(MAX_CREDIT as usize);
        let (node, patience) = (self.clone(), options.patience());
        let call = tokio::spawn(async move { node.run(Command::Ask(ask), patience, Some(sender)).await });
        Ok(Parts { node: self.clone(), responses, call: Some(call), granted: CREDIT })
    }

    /// Asks several agents and returns their answers: when all have answered or failed, with the quorum, or at
    /// the deadline.
    ///
    /// # Errors
    /// As [`request`](Node::request), but that a missed quorum is no error.
    pub async fn ask_all<T: Payload + ?Sized>(
        &self,
        audience: Audience,
        data: &T,
        options: AskOptions,
    ) -> Result<Answers, Error> {
        let ask = options.request(data)?;
        let ask = match audience {
            Audience::Agents(peer_ids) => Ask { peer_ids, ..ask },
            Audience::Topic(topic) => Ask { topic: Some(topic), ..ask },
        };
        let (sender, mut responses) = mpsc::channel(MAX_TARGETS);
        let ended = self.run(Command::Ask(ask), options.patience(), Some(sender)).await;
        let mut answers = Answers::default();
        match ended {
            Ok(answered) => answers.missing = answered.answer.missing.unwrap_or_default(),
            Err(Error::CommandRefused { code: ErrorCode::QuorumNotReached, .. }) => {
                answers.is_below_quorum = true
            }
            Err(error) => return Err(error),
        }
        while let Some(mut response) = responses.recv().await {
            match response.error.take() {
                Some(error) => answers.failed.push((response.from, error)),
                None => answers.answers.push(response),
            }
        }
        Ok(answers)
    }
}

/// The parts of an answer.
pub struct Parts {
    node: Node,
    responses: mpsc::Receiver<Response>,
    call: Option<JoinHandle<Result<Answered, Error>>>,
    granted: u32,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Parts").field("granted", &self.granted).finish_non_exhaustive()
    }
}

impl Parts {
    /// Waits for the next part. Returns `None` behind the last one.
    ///
    /// # Errors
    /// The error that ended the request, once. As [`ask`](Node::ask).
    pub async fn next(&mut self) -> Result<Option<Response>, Error> {
        if let Some(part) = self.responses.recv().await {
            let read = part.part + 1;
            if self.granted.saturating_sub(read) <= CREDIT / 2 {
                self.granted = read + CREDIT;
                let credit = Credit { target: part.request_id.clone(), parts: self.granted };
                let node = self.node.clone();
                tokio::spawn(async move { drop(node.request(Command::Credit(credit)).await) });
            }
            return Ok(Some(part));
        }
        let Some(call) = self.call.take() else { return Ok(None) };
        // The task ends early only with the runtime.
        call.await.unwrap_or(Err(Error::NodeClosed)).map(|_| None)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Some(call) = &self.call {
            call.abort();
        }
    }
}
