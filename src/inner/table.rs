//! The open calls of a client of the node, and the events that belong to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use p2p_node_protocol::line::decode_event;
use p2p_node_protocol::{ErrorCode, ErrorEvent, Event, Id};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::CallError;

/// Maximum number of events that wait for one call. Our choice: the answers of a request to a list of the
/// largest size, and its end.
pub(crate) const MAX_EVENTS: usize = 1024;

/// Maximum number of bytes of answers that wait until the client reads them, for all calls of a program.
/// Our choice: as many as the node keeps of the mail of a client.
pub(crate) const MAX_WAITING_BYTES: usize = 16 << 20;

/// An event, and its place among those that wait.
pub(crate) type Waiting = (Event, Option<OwnedSemaphorePermit>);

/// Who takes the events of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taker {
    /// The server, at once.
    Server,
    /// The client, as fast as it reads.
    Client,
}

#[derive(Debug)]
struct Entry {
    events: mpsc::Sender<Waiting>,
    taker: Taker,
}

#[derive(Debug, Default)]
struct State {
    last: i64,
    calls: BTreeMap<i64, Entry>,
    /// Why the node has closed the client.
    closed: Option<CallError>,
}

/// The open calls.
#[derive(Debug)]
pub(crate) struct Table {
    state: Mutex<State>,
    /// Room for bytes that wait for the client.
    room: Arc<Semaphore>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Table { state: Mutex::default(), room: Arc::new(Semaphore::new(MAX_WAITING_BYTES)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a call. Returns its number and its events.
    pub(crate) fn enter(&self, taker: Taker) -> Result<(i64, mpsc::Receiver<Waiting>), CallError> {
        let mut state = self.state();
        if let Some(reason) = &state.closed {
            return Err(reason.clone());
        }
        let (events, receiver) = mpsc::channel(MAX_EVENTS);
        state.last += 1;
        let number = state.last;
        state.calls.insert(number, Entry { events, taker });
        Ok((number, receiver))
    }

    /// Removes a call that has ended.
    pub(crate) fn leave(&self, number: i64) {
        self.state().calls.remove(&number);
    }

    /// Returns why no further event of a call comes.
    pub(crate) fn reason(&self) -> CallError {
        self.state().closed.clone().unwrap_or_else(|| {
            CallError::new(ErrorCode::Busy, "the answers were dropped, because the client does not read them")
        })
    }

    /// Returns `true` if the node has closed the client.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed.is_some()
    }

    /// Returns the number of open calls.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.state().calls.len()
    }

    /// Reads the lines of the node until it closes the client, and hands each to its call, or to `others` if
    /// it belongs to none.
    pub(crate) async fn read(&self, lines: OwnedReadHalf, mut others: impl FnMut(Event)) {
        let mut lines = BufReader::new(lines).lines();
        let mut refused = None;
        while let Ok(Some(line)) = lines.next_line().await {
            match decode_event(line.as_bytes()) {
                Ok(Some(Event::Error(error))) if error.id.is_none() && error.request_id.is_none() => {
                    refused = Some(CallError(error));
                }
                Ok(Some(event)) => match call_of(&event) {
                    Some(number) => self.hand_over(number, event, line.len()).await,
                    None => others(event),
                },
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "a line of the node cannot be read"),
            }
        }
        let mut state = self.state();
        state.closed = Some(refused.unwrap_or_else(CallError::gone));
        state.calls.clear();
    }

    /// Hands an event to its call. A call whose client does not read ends, because the others must not wait
    /// for it.
    async fn hand_over(&self, number: i64, event: Event, bytes: usize) {
        let sender = {
            let state = self.state();
            let Some(Entry { events, taker }) = state.calls.get(&number) else { return };
            (events.clone(), *taker)
        };
        match sender {
            // Fails only if the call has just ended.
            (events, Taker::Server) => drop(events.send((event, None)).await),
            (events, Taker::Client) => {
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                let room = Arc::clone(&self.room).try_acquire_many_owned(bytes);
                let fits = room.is_ok_and(|room| events.try_send((event, Some(room))).is_ok());
                if !fits {
                    self.leave(number);
                }
            }
        }
    }
}

/// Returns the call that an event belongs to.
fn call_of(event: &Event) -> Option<i64> {
    let id = match event {
        Event::Result(answer) => Some(&answer.id),
        Event::Error(error) => of_error(error),
        Event::Delivery(delivery) => delivery.request_id.as_ref(),
        Event::Response(response) => Some(&response.request_id),
        Event::PeerDiscovered(agent) => agent.request_id.as_ref(),
        _ => None,
    };
    match id? {
        Id::Number(number) => Some(*number),
        Id::Text(_) => None,
    }
}

fn of_error(error: &ErrorEvent) -> Option<&Id> {
    error.id.as_ref().or(error.request_id.as_ref())
}
