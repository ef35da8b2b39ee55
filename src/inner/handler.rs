//! A client that also handles requests of other agents.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use p2p_node_protocol::{Command, ErrorCode, Event, Handle, HandlerError, IncomingRequest, Respond, Trust};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};

use super::{CallError, Calls, Link, Taker};

/// Maximum number of requests that a handler works on at the same time. Our choice: the program behind it is
/// one process. Others end with an error at once.
pub(crate) const MAX_HANDLED: usize = 256;

/// Maximum number of requests of one agent among them: an eighth, our choice.
pub(crate) const MAX_HANDLED_OF_ASKER: usize = MAX_HANDLED / 8;

/// Maximum number of requests of agents that neither the program has allowed nor the registry names: half, as in
/// the node. Their keys cost nothing, so without it a few of them keep all others out.
pub(crate) const MAX_HANDLED_OF_STRANGERS: usize = MAX_HANDLED / 2;

/// Longest text of an error, in bytes: what `respond` accepts.
const MAX_MESSAGE_BYTES: usize = 1024;

/// Pause before an answer for which the node had no room is written again. Our choice: the node frees room
/// as its connections write.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// What the asker permits.
#[derive(Clone, Copy, Debug)]
struct Permitted {
    parts: u32,
    is_over: bool,
}

#[derive(Debug)]
struct Ticket {
    asker: String,
    is_stranger: bool,
    permitted: watch::Sender<Permitted>,
}

/// The open requests, by their tickets.
#[derive(Debug)]
struct Tickets {
    open: Mutex<BTreeMap<String, Ticket>>,
    /// Number of requests for which there was no room.
    refused: Arc<AtomicU64>,
}

impl Tickets {
    fn open(&self) -> MutexGuard<'_, BTreeMap<String, Ticket>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a request. Returns `None` if there are too many.
    fn enter(&self, request: &IncomingRequest) -> Option<watch::Receiver<Permitted>> {
        let mut open = self.open();
        let of_asker = open.values().filter(|ticket| ticket.asker == request.from).count();
        let of_strangers = open.values().filter(|ticket| ticket.is_stranger).count();
        let is_stranger = !matches!(request.trust, Trust::Allowed | Trust::Registered);
        let is_full = open.len() >= MAX_HANDLED;
        let has_too_many = of_asker >= MAX_HANDLED_OF_ASKER;
        let are_too_many = is_stranger && of_strangers >= MAX_HANDLED_OF_STRANGERS;
        if is_full || has_too_many || are_too_many {
            return None;
        }
        let (permitted, receiver) = watch::channel(Permitted { parts: request.credit, is_over: false });
        open.insert(request.ticket.clone(), Ticket { asker: request.from.clone(), is_stranger, permitted });
        Some(receiver)
    }

    fn change(&self, ticket: &str, change: impl FnOnce(&mut Permitted)) {
        if let Some(ticket) = self.open().get(ticket) {
            ticket.permitted.send_modify(change);
        }
    }

    /// Handles an event. Returns the refusal of a request for which there is no room.
    fn on_event(&self, event: Event, requests: &mpsc::Sender<Entered>) -> Option<Command> {
        match event {
            Event::Request(request) => {
                let ticket = request.ticket.clone();
                let entered = self.enter(&request);
                if entered.is_some_and(|permitted| requests.try_send((request, permitted)).is_ok()) {
                    return None;
                }
                self.open().remove(&ticket);
                self.refused.fetch_add(1, Ordering::Relaxed);
                let error = HandlerError {
                    code: ErrorCode::Busy.as_str().to_owned(),
                    message: "too many requests at the same time".to_owned(),
                };
                return Some(Command::Respond(Respond::error(ticket, error)));
            }
            Event::Credit(credit) => {
                self.change(&credit.ticket, |permitted| permitted.parts = credit.parts);
            }
            Event::RequestCancelled(over) => {
                self.change(&over.ticket, |permitted| permitted.is_over = true);
            }
            _ => {}
        }
        None
    }
}

type Entered = (Box<IncomingRequest>, watch::Receiver<Permitted>);

/// The requests of other agents.
pub(crate) struct Requests {
    incoming: mpsc::Receiver<Entered>,
    calls: Arc<Calls>,
    tickets: Arc<Tickets>,
}

impl Requests {
    /// Attaches a client that handles these kinds. Counts in `refused` the requests for which there is no
    /// room.
    pub(crate) async fn open(
        link: &Link,
        kinds: Vec<String>,
        refused: Arc<AtomicU64>,
    ) -> Result<Requests, CallError> {
        let tickets = Arc::new(Tickets { open: Mutex::default(), refused });
        // Has room for every request that has a ticket.
        let (sender, incoming) = mpsc::channel(MAX_HANDLED);
        let of_node = Arc::clone(&tickets);
        let others = Box::new(move |event| of_node.on_event(event, &sender));
        let calls = Arc::new(Calls::open_with(link, others).await?);
        calls.call(Command::Handle(Handle { kinds }), Taker::Server).await?.answer().await?;
        Ok(Requests { incoming, calls, tickets })
    }

    /// Returns the client, for calls of its own.
    pub(crate) fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }

    /// Returns the next request, or `None` if the node has closed the client.
    pub(crate) async fn next(&mut self) -> Option<(Box<IncomingRequest>, Responder)> {
        let (request, permitted) = self.incoming.recv().await?;
        let (calls, tickets) = (Arc::clone(&self.calls), Arc::clone(&self.tickets));
        let responder = Responder { ticket: request.ticket.clone(), permitted, parts: 0, calls, tickets };
        Some((request, responder))
    }
}

/// Answers one request.
pub(crate) struct Responder {
    ticket: String,
    permitted: watch::Receiver<Permitted>,
    parts: u32,
    calls: Arc<Calls>,
    tickets: Arc<Tickets>,
}

impl Responder {
    /// Waits until nobody wants the answer any more.
    pub(crate) fn over(&self) -> impl Future<Output = ()> + use<> {
        let mut permitted = self.permitted.clone();
        async move {
            let _ = permitted.wait_for(|permitted| permitted.is_over).await.map(drop);
        }
    }

    /// Sends a part of the answer that others follow, when the asker permits it.
    ///
    /// # Errors
    /// Fails if the part is too long, or nobody wants it any more.
    pub(crate) async fn part(&mut self, data: Box<RawValue>) -> Result<(), CallError> {
        let parts = self.parts;
        let _ = self.permitted.wait_for(|permitted| permitted.parts > parts).await.map(drop);
        self.parts += 1;
        self.write(Respond::part(&self.ticket, data)).await
    }

    /// Sends the only answer.
    ///
    /// # Errors
    /// Fails if it is too long, or nobody wants it any more.
    pub(crate) async fn answer(&self, data: Box<RawValue>) -> Result<(), CallError> {
        self.write(Respond::last(&self.ticket, data)).await
    }

    /// Ends an answer of several parts.
    ///
    /// # Errors
    /// Fails if nobody wants it any more.
    pub(crate) async fn end(&self) -> Result<(), CallError> {
        self.write(Respond::end(&self.ticket)).await
    }

    /// Ends the request with an error. `message` may be any text.
    pub(crate) async fn fail(&self, code: &str, message: &str) {
        let error = HandlerError { code: code.to_owned(), message: short(message) };
        // Fails only if nobody wants the answer any more.
        let _ = self.write(Respond::error(&self.ticket, error)).await;
    }

    async fn write(&self, respond: Respond) -> Result<(), CallError> {
        loop {
            let written = async {
                let command = Command::Respond(respond.clone());
                self.calls.call(command, Taker::Server).await?.answer().await
            };
            match written.await {
                Err(error) if error.0.code == ErrorCode::Busy => tokio::time::sleep(BUSY_PAUSE).await,
                written => return written.map(drop),
            }
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.tickets.open().remove(&self.ticket);
    }
}

/// Returns a text as an error may carry it.
fn short(text: &str) -> String {
    let mut short: String = text.chars().filter(|char| !char.is_control()).collect();
    while short.len() > MAX_MESSAGE_BYTES {
        short.pop();
    }
    short
}
