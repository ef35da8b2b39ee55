//! What the node has said and the program has not taken: mail, and three kinds of events that never push out mail or each other.

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

/// Who waits for an `ack`.
type AckWaiter = oneshot::Sender<Result<(), Error>>;

/// How much is kept for a program that does not take it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BufferSizes {
    /// Messages: as many as the node hands over without an `ack`.
    pub(crate) mail: usize,
    /// Broadcasts.
    pub(crate) broadcasts: usize,
    /// Events of peers and logs; and as many of the others.
    pub(crate) events: usize,
}

/// Where everything that the processes of a node say goes.
#[derive(Clone)]
pub(crate) struct Sink {
    inbox: Arc<Mutex<Inbox>>,
    /// When something about mail or peers happened last.
    activity: watch::Sender<Activity>,
    /// Changes when there may be something to write.
    wake: watch::Sender<()>,
}

/// Events in the order in which they came. When there is no room for one the oldest goes.
struct Ring {
    /// Each with its number among everything that came.
    events: VecDeque<(u64, Event)>,
    room: usize,
    dropped: u64,
}

impl Ring {
    fn new(room: usize) -> Self {
        Ring { events: VecDeque::new(), room: room.max(1), dropped: 0 }
    }

    fn push(&mut self, number: u64, event: Event) {
        if self.events.len() >= self.room {
            self.events.pop_front();
            self.dropped += 1;
        }
        self.events.push_back((number, event));
    }

    fn first(&self) -> u64 {
        self.events.front().map_or(u64::MAX, |(number, _)| *number)
    }
}

/// Mail that the program has taken and not finished.
struct Unfinished {
    message_id: String,
    process: u64,
}

struct Inbox {
    mail: VecDeque<(u64, Box<Message>)>,
    mail_room: usize,
    broadcasts: Ring,
    /// Peers and logs.
    peer_events: Ring,
    /// What becomes of the node, and of mail of which nobody awaits the delivery.
    lifecycle: Ring,
    number: u64,
    acks: Acks<AckWaiter>,
    /// The node was busy: no `ack` is written for a while.
    acks_paused: bool,
    unfinished: Option<Unfinished>,
    /// The program acknowledges mail itself.
    manual_ack: bool,
    /// The number of the process that runs.
    process: u64,
    mail_dropped: u64,
    undecodable: u64,
    /// The program has closed the node: the mail that waits is handed back by that call.
    is_closing: bool,
    /// No event comes any more.
    is_closed: bool,
    /// The stream is dropped.
    is_left: bool,
    waker: Option<Waker>,
}

impl Inbox {
    /// Takes mail. The node hands over no more than there is room for; what a defective one adds is not acknowledged.
    fn put_mail(&mut self, number: u64, message: Box<Message>) {
        if !self.manual_ack && self.acks.is_finished(&message.message_id) {
            self.acks.finish(message.message_id.clone());
        } else if self.mail.len() >= self.mail_room {
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

    /// The program has finished the mail that it took last. Returns `true` if that is to be written.
    fn finish_in_hand(&mut self) -> bool {
        let Some(Unfinished { message_id, process }) = self.unfinished.take() else { return false };
        if process == self.process {
            self.acks.finish(message_id);
            return true;
        }
        // Its process has ended. It may be here again already.
        let again = self.mail.iter().position(|(_, message)| message.message_id == message_id);
        match again.and_then(|at| self.mail.remove(at)) {
            Some(_) => self.acks.finish(message_id),
            None => self.acks.remember(message_id),
        }
        again.is_some()
    }
}

impl Sink {
    /// A sink, and the end at which a program takes what goes in.
    pub(crate) fn new(buffers: BufferSizes, manual_ack: bool, wake: watch::Sender<()>) -> Self {
        let inbox = Inbox {
            mail: VecDeque::new(),
            mail_room: buffers.mail,
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

    /// Hands over an event. Never waits, and never drops mail.
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

    /// A line could not be read.
    pub(crate) fn count_undecodable(&self) {
        lock(&self.inbox).undecodable += 1;
    }

    /// No event comes any more after this, the last one.
    pub(crate) fn close(&self, last: Event) {
        self.push(last);
        let mut inbox = lock(&self.inbox);
        inbox.is_closed = true;
        wake(inbox);
    }

    /// The process has ended. The mail that the program has not taken is with its senders, who send it again.
    pub(crate) fn process_ended(&self, error: &Error) {
        let mut inbox = lock(&self.inbox);
        inbox.process += 1;
        inbox.mail.clear();
        inbox.acks_paused = false;
        let waiters = inbox.acks.process_ended();
        drop(inbox);
        tell_all(waiters, error);
    }

    /// No process follows. The mail that the program has not taken stays for it.
    pub(crate) fn last_process_ended(&self, error: &Error) {
        let waiters = lock(&self.inbox).acks.process_ended();
        tell_all(waiters, error);
    }

    /// Hands no more mail to the program.
    pub(crate) fn withhold_mail(&self) {
        lock(&self.inbox).is_closing = true;
    }

    /// Takes out the mail that the program has not taken.
    pub(crate) fn drain_mail(&self) -> Vec<Message> {
        lock(&self.inbox).mail.drain(..).map(|(_, message)| *message).collect()
    }

    /// The program says `ack`.
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

    /// The next `ack` to write, under the id of its command.
    pub(crate) fn next_ack(&self, id: impl FnOnce() -> i64, at_once: bool) -> Option<(i64, Ack)> {
        let mut inbox = lock(&self.inbox);
        if !inbox.acks.is_due(at_once) || inbox.acks_paused && !at_once {
            return None;
        }
        let id = id();
        inbox.acks.next(id, at_once).map(|ack| (id, ack))
    }

    /// The node has answered an `ack`. Returns `true` if the node was busy: then no `ack` is written until [`Self::resume_acks`].
    pub(crate) fn ack_answered(&self, id: i64, answer: Result<(), Error>) -> bool {
        let mut inbox = lock(&self.inbox);
        let (is_busy, outcomes) = inbox.acks.answered(id, answer);
        let is_due = inbox.acks.is_due(false);
        inbox.acks_paused |= is_busy;
        drop(inbox);
        for (waiter, outcome) in outcomes {
            // The program may not wait any more.
            let _ = waiter.send(outcome);
        }
        if is_due {
            self.wake.send_replace(());
        }
        is_busy
    }

    /// Has `ack`s written again.
    pub(crate) fn resume_acks(&self) {
        lock(&self.inbox).acks_paused = false;
        self.wake.send_replace(());
    }

    /// Mail that the program finished when its sender had given it up.
    pub(crate) fn acks_not_found(&self) -> u64 {
        lock(&self.inbox).acks.not_found()
    }

    /// Mail beyond what the node may hand over.
    pub(crate) fn mail_dropped(&self) -> u64 {
        lock(&self.inbox).mail_dropped
    }

    /// Lines that could not be read.
    pub(crate) fn undecodable(&self) -> u64 {
        lock(&self.inbox).undecodable
    }

    /// Broadcasts, and other events, that were dropped.
    pub(crate) fn dropped(&self) -> (u64, u64) {
        let inbox = lock(&self.inbox);
        (inbox.broadcasts.dropped, inbox.peer_events.dropped + inbox.lifecycle.dropped)
    }

    /// The program comes for the next event, so that it has finished the mail before.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Option<Event>> {
        let mut inbox = lock(&self.inbox);
        let is_due = inbox.finish_in_hand();
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

    /// What has happened, for those who wait for a network or for its mail.
    pub(crate) fn activity(&self) -> watch::Receiver<Activity> {
        self.activity.subscribe()
    }

    /// Returns `true` if mail waits for the program.
    pub(crate) fn has_mail(&self) -> bool {
        !lock(&self.inbox).mail.is_empty()
    }

    /// The program takes no more events. `finished`: it has finished the mail that it took last.
    pub(crate) fn leave(&self, finished: bool) {
        let mut inbox = lock(&self.inbox);
        let is_due = finished && inbox.finish_in_hand();
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

/// Wakes the program, which may run at once: not while the inbox is locked.
fn wake(mut inbox: MutexGuard<'_, Inbox>) {
    let waker = inbox.waker.take();
    drop(inbox);
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn tell_all(waiters: Vec<AckWaiter>, error: &Error) {
    for waiter in waiters {
        // The program may not wait any more.
        let _ = waiter.send(Err(error.clone()));
    }
}

#[cfg(test)]
mod tests;
