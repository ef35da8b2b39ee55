//! Requests of other agents, which the program answers.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Mutex;

use p2p_node_protocol::{
    Command, ErrorCode, Event as NodeEvent, Handle, HandlerError, IncomingRequest, MAX_WAITING_REQUESTS,
    Respond, decode_base64,
};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::process::lock;
use crate::{Error, Node, Payload};

/// Requests that wait for the program: as many as a node hands over at the same time.
const MAX_QUEUED: usize = 2 * MAX_WAITING_REQUESTS;
/// Pause before the SDK repeats an answer for which the node had no room.
const BUSY_RETRY: Duration = Duration::from_millis(50);

/// What the node said of a request.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    /// Number of parts that the program may send in all.
    credit: u32,
    /// The request needs no answer any more.
    is_void: bool,
}

/// A request for the program, with what the node says of it later.
type Queued = (Box<IncomingRequest>, watch::Receiver<Ticket>);

/// The kinds of requests that the program handles, and the requests that it has.
#[derive(Default)]
pub(crate) struct Hub(Mutex<HubState>);

#[derive(Default)]
struct HubState {
    kinds: BTreeMap<String, mpsc::Sender<Queued>>,
    tickets: HashMap<String, watch::Sender<Ticket>>,
}

impl Hub {
    /// Handles an event of a request. Returns the event if it is another one.
    pub(crate) fn receive(&self, event: NodeEvent) -> Option<NodeEvent> {
        let mut state = lock(&self.0);
        match event {
            NodeEvent::Request(request) => state.begin(request),
            NodeEvent::RequestCancelled(cancelled) => {
                if let Some(ticket) = state.tickets.remove(&cancelled.ticket) {
                    ticket.send_modify(|ticket| ticket.is_void = true);
                }
            }
            NodeEvent::Credit(credit) => {
                if let Some(ticket) = state.tickets.get(&credit.ticket) {
                    ticket.send_modify(|ticket| ticket.credit = ticket.credit.max(credit.parts));
                }
            }
            other => return Some(other),
        }
        None
    }

    /// Voids all requests: the node that waited for their answers is gone.
    pub(crate) fn process_ended(&self) {
        for (_, ticket) in lock(&self.0).tickets.drain() {
            ticket.send_modify(|ticket| ticket.is_void = true);
        }
    }

    fn forget(&self, ticket: &str) {
        lock(&self.0).tickets.remove(ticket);
    }

    fn kinds(&self) -> Vec<String> {
        lock(&self.0).kinds.keys().cloned().collect()
    }
}

impl HubState {
    fn begin(&mut self, request: Box<IncomingRequest>) {
        let kind = request.kind.as_deref().unwrap_or("*");
        let Some(queue) = self.kinds.get(kind).or_else(|| self.kinds.get("*")) else { return };
        let (sender, ticket) = watch::channel(Ticket { credit: request.credit, is_void: false });
        let name = request.ticket.clone();
        if queue.try_send((request, ticket)).is_ok() {
            self.tickets.insert(name, sender);
        }
    }
}

impl Node {
    /// Handles the requests of these kinds from now on, also after a restart; `*` stands for all kinds that no
    /// other handler takes. A later call replaces the handler of a kind.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn handle<K: Into<String>>(
        &self,
        kinds: impl IntoIterator<Item = K>,
    ) -> Result<Requests, Error> {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        let kinds: Vec<String> = kinds.into_iter().map(Into::into).collect();
        for kind in &kinds {
            lock(&self.hub().0).kinds.insert(kind.clone(), sender.clone());
        }
        self.tell_kinds().await?;
        Ok(Requests { node: self.clone(), receiver })
    }

    /// Handles the requests of these kinds no more. Askers get `NO_HANDLER`.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn unhandle<K: AsRef<str>>(&self, kinds: impl IntoIterator<Item = K>) -> Result<(), Error> {
        for kind in kinds {
            lock(&self.hub().0).kinds.remove(kind.as_ref());
        }
        self.tell_kinds().await
    }

    fn hub(&self) -> &Hub {
        &self.0.launcher.context.hub
    }

    async fn tell_kinds(&self) -> Result<(), Error> {
        self.request(Command::Handle(Handle { kinds: self.hub().kinds() })).await.map(drop)
    }
}

/// The requests of some kinds, in the order of their arrival. Give each to a task, so that a slow answer delays
/// no other.
pub struct Requests {
    node: Node,
    receiver: mpsc::Receiver<Queued>,
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Requests").field("waiting", &self.receiver.len()).finish_non_exhaustive()
    }
}

impl Requests {
    /// Waits for the next request. Returns `None` when another handler has replaced this one for each of its
    /// kinds. Skips requests that need no answer any more.
    pub async fn next(&mut self) -> Option<HandledRequest> {
        loop {
            let (request, ticket) = self.receiver.recv().await?;
            if !ticket.borrow().is_void {
                return Some(HandledRequest {
                    node: self.node.clone(),
                    request,
                    ticket,
                    sent: 0,
                    is_answered: false,
                });
            }
        }
    }
}

/// A request of another agent. It derefs to its fields. A request that the program drops without an answer
/// fails with the code `HANDLER_DROPPED`.
#[derive(Debug)]
pub struct HandledRequest {
    node: Node,
    request: Box<IncomingRequest>,
    ticket: watch::Receiver<Ticket>,
    sent: u32,
    is_answered: bool,
}

impl Deref for HandledRequest {
    type Target = IncomingRequest;

    fn deref(&self) -> &IncomingRequest {
        &self.request
    }
}

impl HandledRequest {
    /// Reads the question as a value of this type.
    ///
    /// # Errors
    /// Fails if the question has another form.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.request.data.get())
    }

    /// Returns the question if it is bytes.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        self.request.encoding?;
        decode_base64(&self.read::<String>().ok()?)
    }

    /// Waits until the request needs no answer any more: the asker cancelled it, its deadline passed, or the
    /// node is gone.
    pub async fn cancelled(&self) {
        let mut ticket = self.ticket.clone();
        // A closed channel means the same.
        let _ = ticket.wait_for(|ticket| ticket.is_void).await;
    }

    /// Sends the only answer, or the last part of one.
    ///
    /// # Errors
    /// As [`request`](Node::request). `TICKET_NOT_FOUND` if the request needs no answer any more.
    pub async fn respond<T: Payload + ?Sized>(mut self, data: &T) -> Result<(), Error> {
        let (data, encoding) = data.to_data()?;
        self.send(Respond { encoding, ..Respond::last(self.ticket_name(), data) }).await
    }

    /// Sends a part of an answer, as soon as the asker accepts one more. Only if `stream` of the request is
    /// `true`.
    ///
    /// # Errors
    /// As [`respond`](HandledRequest::respond).
    pub async fn part<T: Payload + ?Sized>(&mut self, data: &T) -> Result<(), Error> {
        let (data, encoding) = data.to_data()?;
        let sent = self.sent;
        // After the end of the channel the node refuses the part.
        let _ = self.ticket.wait_for(|ticket| ticket.is_void || ticket.credit > sent).await;
        self.send(Respond { encoding, ..Respond::part(self.ticket_name(), data) }).await?;
        self.is_answered = false;
        self.sent += 1;
        Ok(())
    }

    /// Ends an answer in parts, without another part.
    ///
    /// # Errors
    /// As [`respond`](HandledRequest::respond).
    pub async fn finish(mut self) -> Result<(), Error> {
        self.send(Respond::end(self.ticket_name())).await
    }

    /// Ends the request with an error. `code` has 1 to 48 upper-case letters, digits and underscores,
    /// `message` at most 1,024 bytes without control characters.
    ///
    /// # Errors
    /// As [`respond`](HandledRequest::respond).
    pub async fn fail(mut self, code: impl Into<String>, message: impl Into<String>) -> Result<(), Error> {
        let error = HandlerError { code: code.into(), message: message.into() };
        self.send(Respond::error(self.ticket_name(), error)).await
    }

    fn ticket_name(&self) -> String {
        self.request.ticket.clone()
    }

    /// Sends an answer, again while the node has no room for it.
    async fn send(&mut self, respond: Respond) -> Result<(), Error> {
        loop {
            match self.node.request(Command::Respond(respond.clone())).await {
                Err(Error::CommandRefused { code: ErrorCode::Busy, .. }) => sleep(BUSY_RETRY).await,
                Err(error @ Error::CommandRefused { code: ErrorCode::TicketNotFound, .. }) => {
                    self.is_answered = true;
                    return Err(error);
                }
                Err(error) => return Err(error),
                Ok(_) => {
                    self.is_answered = true;
                    return Ok(());
                }
            }
        }
    }
}

impl Drop for HandledRequest {
    fn drop(&mut self) {
        self.node.hub().forget(&self.request.ticket);
        let is_void = self.ticket.borrow().is_void;
        if self.is_answered || is_void {
            return;
        }
        // Without a runtime the deadline tells the asker.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let error = HandlerError { code: "HANDLER_DROPPED".to_owned(), message: String::new() };
            let (node, respond) = (self.node.clone(), Respond::error(self.ticket_name(), error));
            runtime.spawn(async move { drop(node.request(Command::Respond(respond)).await) });
        }
    }
}
