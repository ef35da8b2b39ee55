//! Buffers what the program has not read: messages, and three kinds of events. A full event buffer
//! drops only events of its own kind, and never a message.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use p2p_node_protocol::{Ack, Message};
use tokio::sync::{oneshot, watch};

use crate::Error;
use crate::acks::Acks;
use crate::events::Event;
use crate::joining::Activity;
use crate::process::lock;

/// The waiter for the answer to an `ack`.
type AckWaiter = oneshot::Sender<Result<(), Error>>;

/// The sizes of the buffers for a program that does not read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BufferSizes {
    /// Messages: the number that the node delivers without an `ack`.
    pub(crate) mail: usize,
    /// Broadcasts.
    pub(crate) broadcasts: usize,
    /// Events of peers and logs. The buffer of other events has the same size.
    pub(crate) events: usize,
}

/// Receives all events of a node's processes.
#[derive(Clone)]
pub(crate) struct Sink {
    inbox: Arc<Mutex<Inbox>>,
    /// The time of the last message or peer event.
    activity: watch::Sender<Activity>,
    /// Wakes the writer.
    wake: watch::Sender<()>,
}

/// Events in the order of arrival. A full ring drops its oldest event.
struct Ring {
    /// Each event has a sequence number across all buffers.
    events: VecDeque<(u64, Event)>,
    capacity: usize,
    dropped: u64,
}

impl Ring {
    fn new(capacity: usize) -> Self {
        Ring { events: VecDeque::new(), capacity: capacity.max(1), dropped: 0 }
    }

    fn push(&mut self, number: u64, event: Event) {
        if self.events.len() >= self.capacity {
            self.events.pop_front();
            self.dropped += 1;
        }
        self.events.push_back((number, event));
    }

    fn first(&self) -> u64 {
        self.events.front().map_or(u64::MAX, |(number, _)| *number)
    }
}

/// A message that the program has read and not finished.
struct Unfinished {
    message_id: String,
    process: u64,
}

struct Inbox {
    mail: VecDeque<(u64, Box<Message>)>,
    mail_capacity: usize,
    broadcasts: Ring,
    /// Events of peers and logs.
    peer_events: Ring,
    /// All other events, such as state changes of the node and deliveries that no call tracks.
    lifecycle: Ring,
    number: u64,
    acks: Acks<AckWaiter>,
    /// `true` while the SDK writes no `ack`, because the node was busy.
    acks_paused: bool,
    unfinished: Option<Unfinished>,
    /// `true` if the program acknowledges messages itself.
    manual_ack: bool,
    /// The number of the current process.
    process: u64,
    mail_dropped: u64,
    undecodable: u64,
    /// `true` after the program has closed the node: `close` returns the waiting messages.
    is_closing: bool,
    /// `true` after the last event.
    is_closed: bool,
    /// `true` after the program has dropped the stream.
    is_left: bool,
    waker: Option<Waker>,
}

impl Inbox {
    /// Adds a message. The node delivers no more messages than fit. The SDK drops further messages
    /// of a faulty node without an `ack`.
    fn put_mail(&mut self, number: u64, message: Box<Message>) {
        if !self.manual_ack && self.acks.is_finished(&message.message_id) {
            self.acks.finish(message.message_id.clone());
        } else if self.mail.len() >= self.mail_capacity {
            self.mail_dropped += 1;
        } else {
            self.mail.push_back((number, message));
        }
    }

    fn put(&mut self, event: Event) {
        let number = self.number;
        self.number += 1;
        match event {
            Event::Message(message) if message.topic.is_none() => self.put_mail(number, message),
            _ if self.is_left => {}
            Event::Message(_) => self.broadcasts.push(number, event),
            Event::PeerDiscovered(_)
            | Event::PeerConnected(_)
            | Event::PeerDisconnected(_)
            | Event::Transfer(_)
            | Event::PeerBanned(_)
            | Event::PeerUnbanned(_)
            | Event::Log(_) => {
                self.peer_events.push(number, event);
            }
            _ => self.lifecycle.push(number, event),
        }
    }

    fn take(&mut self) -> Option<Event> {
        let mail = match self.mail.front() {
            Some((number, _)) if !self.is_closing => *number,
            _ => u64::MAX,
        };
        let rings = [&mut self.broadcasts, &mut self.peer_events, &mut self.lifecycle];
        let ring = rings.into_iter().min_by_key(|ring| ring.first())?;
        if ring.first() <= mail {
            return ring.events.pop_front().map(|(_, event)| event);
        }
        let (_, message) = self.mail.pop_front()?;
        if !self.manual_ack {
            self.unfinished =
                Some(Unfinished { message_id: message.message_id.clone(), process: self.process });
        }
        Some(Event::Message(message))
    }

    /// Records that the program has finished the message that it read last. Returns `true` if there
    /// is an `ack` to write.
    fn finish_current(&mut self) -> bool {
        let Some(Unfinished { message_id, process }) = self.unfinished.take() else { return false };
        if process == self.process {
            self.acks.finish(message_id);
            return true;
        }
        // The process that delivered the message has ended. The sender may already have sent it
        // again.
        let again = self.mail.iter().position(|(_, message)| message.message_id == message_id);
        match again.and_then(|at| self.mail.remove(at)) {
            Some(_) => self.acks.finish(message_id),
            None => self.acks.remember(message_id),
        }
        again.is_some()
    }
}

impl Sink {
    /// Creates an empty sink.
    pub(crate) fn new(buffers: BufferSizes, manual_ack: bool, wake: watch::Sender<()>) -> Self {
        let inbox = Inbox {
            mail: VecDeque::new(),
            mail_capacity: buffers.mail,
            broadcasts: Ring::new(buffers.broadcasts),
            peer_events: Ring::new(buffers.events),
            lifecycle: Ring::new(buffers.events),
            number: 0,
            acks: Acks::new(),
            acks_paused: false,
            unfinished: None,
            manual_ack,
            process: 0,
            mail_dropped: 0,
            undecodable: 0,
            is_closing: false,
            is_closed: false,
            is_left: false,
            waker: None,
        };
        Sink { inbox: Arc::new(Mutex::new(inbox)), activity: watch::Sender::new(Activity::new()), wake }
    }

    /// Adds an event. Never waits.
    pub(crate) fn push(&self, event: Event) {
        let mut inbox = lock(&self.inbox);
        if inbox.is_closed {
            return;
        }
        self.activity.send_if_modified(|activity| activity.note(&event));
        inbox.put(event);
        let is_due = inbox.acks.is_due(false);
        wake(inbox);
        if is_due {
            self.wake.send_replace(());
        }
    }

    /// Counts a line that the SDK could not decode.
    pub(crate) fn count_undecodable(&self) {
        lock(&self.inbox).undecodable += 1;
    }

    /// Adds the last event and closes the sink.
    pub(crate) fn close(&self, last: Event) {
        self.push(last);
        let mut inbox = lock(&self.inbox);
        inbox.is_closed = true;
        wake(inbox);
    }

    /// Handles the end of a process before a restart. Discards the messages that the program has
    /// not read: their senders send them again.
    pub(crate) fn process_ended(&self, error: &Error) {
        let mut inbox = lock(&self.inbox);
        inbox.process += 1;
        inbox.mail.clear();
        inbox.acks_paused = false;
        let waiters = inbox.acks.process_ended();
        drop(inbox);
        fail_all(waiters, error);
    }

    /// Handles the end of the last process. Messages that the program has not read stay in the
    /// buffer.
    pub(crate) fn last_process_ended(&self, error: &Error) {
        let waiters = lock(&self.inbox).acks.process_ended();
        fail_all(waiters, error);
    }

    /// Stops the delivery of messages to the program.
    pub(crate) fn withhold_mail(&self) {
        lock(&self.inbox).is_closing = true;
    }

    /// Removes and returns the messages that the program has not read.
    pub(crate) fn drain_mail(&self) -> Vec<Message> {
        lock(&self.inbox).mail.drain(..).map(|(_, message)| *message).collect()
    }

    /// Queues an `ack` that the program requests.
    pub(crate) fn ack(&self, message_id: &str) -> oneshot::Receiver<Result<(), Error>> {
        let (waiter, answer) = oneshot::channel();
        let mut inbox = lock(&self.inbox);
        inbox.unfinished.take_if(|unfinished| unfinished.message_id == message_id);
        inbox.acks.ask(message_id.to_owned(), waiter);
        drop(inbox);
        self.activity.send_modify(Activity::touch);
        self.wake.send_replace(());
        answer
    }

    /// Returns the next `ack` to write, with the id of its command.
    pub(crate) fn next_ack(&self, id: impl FnOnce() -> i64, at_once: bool) -> Option<(i64, Ack)> {
        let mut inbox = lock(&self.inbox);
        if !inbox.acks.is_due(at_once) || inbox.acks_paused && !at_once {
            return None;
        }
        let id = id();
        inbox.acks.next(id, at_once).map(|ack| (id, ack))
    }

    /// Handles the node's answer to an `ack`. Returns `true` if the node was busy: then the SDK
    /// writes no `ack` until [`Self::resume_acks`].
    pub(crate) fn ack_answered(&self, id: i64, answer: Result<(), Error>) -> bool {
        let mut inbox = lock(&self.inbox);
        let (is_busy, outcomes) = inbox.acks.answered(id, answer);
        let is_due = inbox.acks.is_due(false);
        inbox.acks_paused |= is_busy;
        drop(inbox);
        for (waiter, outcome) in outcomes {
            // The program may have dropped the call.
            let _ = waiter.send(outcome);
        }
        if is_due {
            self.wake.send_replace(());
        }
        is_busy
    }

    /// Resumes the writing of `ack`s.
    pub(crate) fn resume_acks(&self) {
        lock(&self.inbox).acks_paused = false;
        self.wake.send_replace(());
    }

    /// Returns the number of messages that the program finished after their senders had given them
    /// up.
    pub(crate) fn acks_not_found(&self) -> u64 {
        lock(&self.inbox).acks.not_found()
    }

    /// Returns the number of messages that the SDK dropped because the node exceeded its limit.
    pub(crate) fn mail_dropped(&self) -> u64 {
        lock(&self.inbox).mail_dropped
    }

    /// Returns the number of lines that the SDK could not decode.
    pub(crate) fn undecodable(&self) -> u64 {
        lock(&self.inbox).undecodable
    }

    /// Returns the numbers of dropped broadcasts and of other dropped events.
    pub(crate) fn dropped(&self) -> (u64, u64) {
        let inbox = lock(&self.inbox);
        (inbox.broadcasts.dropped, inbox.peer_events.dropped + inbox.lifecycle.dropped)
    }

    /// Returns the next event. The poll also means that the program has finished the previous
    /// message.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Option<Event>> {
        let mut inbox = lock(&self.inbox);
        let is_due = inbox.finish_current();
        let next = match inbox.take() {
            Some(event) => Poll::Ready(Some(event)),
            None if inbox.is_closed => Poll::Ready(None),
            None => {
                inbox.waker = Some(context.waker().clone());
                Poll::Pending
            }
        };
        drop(inbox);
        if is_due {
            self.activity.send_modify(Activity::touch);
            self.wake.send_replace(());
        }
        next
    }

    /// Returns the activity, for calls that wait for the network or for messages.
    pub(crate) fn activity(&self) -> watch::Receiver<Activity> {
        self.activity.subscribe()
    }

    /// Returns `true` if messages wait for the program.
    pub(crate) fn has_mail(&self) -> bool {
        !lock(&self.inbox).mail.is_empty()
    }

    /// Handles the end of the stream. `finished`: the program has finished the message that it read
    /// last.
    pub(crate) fn leave(&self, finished: bool) {
        let mut inbox = lock(&self.inbox);
        let is_due = finished && inbox.finish_current();
        inbox.unfinished = None;
        inbox.is_left = true;
        let Inbox { broadcasts, peer_events, lifecycle, .. } = &mut *inbox;
        for ring in [broadcasts, peer_events, lifecycle] {
            ring.events.clear();
        }
        drop(inbox);
        if is_due {
            self.wake.send_replace(());
        }
    }
}

/// Wakes the program. Unlocks the inbox first, because the program may run at once.
fn wake(mut inbox: MutexGuard<'_, Inbox>) {
    let waker = inbox.waker.take();
    drop(inbox);
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn fail_all(waiters: Vec<AckWaiter>, error: &Error) {
    for waiter in waiters {
        // The program may have dropped the call.
        let _ = waiter.send(Err(error.clone()));
    }
}

#[cfg(test)]
mod tests;
