//! The link between the driver and the handler of one connection, and the inbox of all connections.
//!
//! Both sides share queues instead of the channels of the swarm: a turn of the driver then passes all
//! its frames with one wake-up, and reads all arrivals with one lock.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;

use bytes::Bytes;
use futures::task::AtomicWaker;
use libp2p::PeerId;
use p2p_node_core::input::Token;

use super::memory_budget::Reservation;

/// A command of the driver for the handler of a connection.
#[derive(Debug)]
pub(super) enum Command {
    /// Sends a frame; the handler answers with [`MailEvent::Response`].
    Request { token: Token, frame: Bytes },
    /// Answers a request that came on the inbound stream with this number. An empty body says that
    /// this node dropped the request.
    Response { stream: u32, id: u32, body: Bytes },
}

/// What the handlers report.
#[derive(Debug)]
pub(in super::super) enum MailEvent {
    /// A frame arrived.
    Request {
        /// The sender.
        peer: PeerId,
        /// An encoded frame.
        frame: Bytes,
        /// Where the response goes.
        reply: Reply,
        /// Memory of the frame, counted until the driver takes the event.
        reservation: Reservation,
    },
    /// The response to a frame, or the reason of the failure.
    Response {
        /// Token of the request.
        token: Token,
        /// An encoded response, or a reason for people.
        outcome: Result<Bytes, String>,
    },
}

/// Commands for the handler of one connection.
#[derive(Debug)]
pub(super) struct Link {
    /// `None` once the connection ends.
    commands: Mutex<Option<VecDeque<Command>>>,
    waker: AtomicWaker,
    inbox: Arc<Inbox>,
    is_relayed: bool,
    /// `true` while the handler has a request without its response.
    is_busy: AtomicBool,
}

impl Link {
    pub(super) fn new(inbox: Arc<Inbox>, is_relayed: bool) -> Self {
        Link {
            commands: Mutex::new(Some(VecDeque::new())),
            waker: AtomicWaker::new(),
            inbox,
            is_relayed,
            is_busy: AtomicBool::new(false),
        }
    }

    /// Returns `true` if the connection goes through a relay.
    pub(super) fn is_relayed(&self) -> bool {
        self.is_relayed
    }

    /// Returns `true` if no mail is in flight, in either direction.
    pub(super) fn is_idle(&self) -> bool {
        let has_commands = lock(&self.commands).as_ref().is_some_and(|commands| !commands.is_empty());
        !has_commands && !self.is_busy.load(Ordering::Relaxed)
    }

    /// Notes whether the handler has a request without its response.
    pub(super) fn set_busy(&self, is_busy: bool) {
        self.is_busy.store(is_busy, Ordering::Relaxed);
    }

    /// Passes a command to the handler. Returns `false` if the connection has ended.
    pub(super) fn push(&self, command: Command) -> bool {
        let is_response = matches!(command, Command::Response { .. });
        let is_open = match lock(&self.commands).as_mut() {
            Some(commands) => {
                commands.push_back(command);
                true
            }
            None => false,
        };
        if is_open {
            if is_response {
                self.inbox.unsent_responses.fetch_add(1, Ordering::Relaxed);
            }
            self.waker.wake();
        }
        is_open
    }

    /// Returns `true` until the connection ends.
    pub(super) fn is_open(&self) -> bool {
        lock(&self.commands).is_some()
    }

    /// Returns the commands that have come, and wakes the handler when more come.
    pub(super) fn take(&self, cx: &Context<'_>) -> VecDeque<Command> {
        self.waker.register(cx.waker());
        lock(&self.commands).as_mut().map(mem::take).unwrap_or_default()
    }

    /// Ends the link and returns the commands that nobody will execute.
    pub(super) fn close(&self) -> VecDeque<Command> {
        lock(&self.commands).take().unwrap_or_default()
    }
}

/// What arrived on all connections. The limits of the handlers bound it: each passes on as much as its
/// memory budget and its number of unanswered requests allow.
#[derive(Debug, Default)]
pub(in super::super) struct Inbox {
    events: Mutex<VecDeque<MailEvent>>,
    waker: AtomicWaker,
    /// Responses that the driver gave and no handler has sent.
    unsent_responses: AtomicUsize,
    /// Requests that were too long, incomplete or too slow.
    failed_reads: AtomicU64,
}

impl Inbox {
    pub(super) fn push(&self, event: MailEvent) {
        lock(&self.events).push_back(event);
        self.waker.wake();
    }

    /// Returns the oldest event, or wakes the task when one comes.
    pub(super) fn pop(&self, cx: &Context<'_>) -> Option<MailEvent> {
        self.waker.register(cx.waker());
        lock(&self.events).pop_front()
    }

    pub(super) fn count_failed_read(&self) {
        self.failed_reads.fetch_add(1, Ordering::Relaxed);
        self.waker.wake();
    }

    pub(super) fn take_failed_reads(&self) -> u64 {
        self.failed_reads.swap(0, Ordering::Relaxed)
    }

    /// Notes that responses were sent, or that their connection has ended.
    pub(super) fn responses_done(&self, number: usize) {
        if number > 0 {
            self.unsent_responses.fetch_sub(number, Ordering::Relaxed);
            self.waker.wake();
        }
    }

    pub(super) fn has_unsent_responses(&self) -> bool {
        self.unsent_responses.load(Ordering::Relaxed) > 0
    }
}

/// Where the response to a request goes. Dropping it tells the sender that this node dropped the
/// request.
#[derive(Debug)]
pub(in super::super) struct Reply {
    link: Arc<Link>,
    stream: u32,
    id: u32,
    is_used: bool,
}

impl Reply {
    pub(super) fn new(link: Arc<Link>, stream: u32, id: u32) -> Self {
        Reply { link, stream, id, is_used: false }
    }

    /// Sends the response. Has no effect if the connection has ended.
    pub(in super::super) fn send(mut self, body: Bytes) {
        self.respond(body);
    }

    /// Returns `true` if the connection stands.
    pub(in super::super) fn is_open(&self) -> bool {
        self.link.is_open()
    }

    fn respond(&mut self, body: Bytes) {
        self.is_used = true;
        self.link.push(Command::Response { stream: self.stream, id: self.id, body });
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.is_used {
            self.respond(Bytes::new());
        }
    }
}

/// Locks a queue. No code panics while it holds the lock, so a poisoned queue is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
