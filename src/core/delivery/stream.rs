//! One ordered stream of mail to one recipient in one priority, and the mail in it.

use std::collections::VecDeque;
use std::time::Duration;

use alloy::primitives::Address;
use bytes::Bytes;
use p2p_node_protocol::{Id, Priority, Route};

use super::naming::{MessageName, StreamId, message_id, message_name};
use crate::core::envelope::{self, Encoding};

/// Bytes of an encoded message that are not payload, at most: two stream and sequence fields, times and tags.
const MESSAGE_OVERHEAD: usize = 96;

/// Numbers that a stream leaves out when another process takes it up: more than one can have used that settled none of its mail.
const SKIPPED: u64 = 1 << 32;

/// What the recipient's node holds is sent again so much later, for it may have been started again unseen, or its acknowledgement
/// was lost. Ours: the longest pause between two attempts; twice as long each time that nothing comes of it, up to 16 minutes.
const REMIND_AFTER: Duration = Duration::from_secs(60);
const MAX_DOUBLINGS: u32 = 4;

/// Mail from the parent, before it has a place in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The payload as it travels.
    pub data: Bytes,
    /// How the payload is to be read.
    pub encoding: Encoding,
    /// What the message is; may be empty.
    pub kind: String,
    /// How urgent it is.
    pub priority: Priority,
    /// When it was accepted, in ms since 1970.
    pub sent_at_ms: u64,
    /// When to give it up, by `Now::mono`.
    pub expires: Duration,
    /// The message that it answers; may be empty.
    pub reply_to: String,
    /// The conversation that it belongs to; may be empty.
    pub conversation: String,
    /// Which way it is to go.
    pub route: Route,
    /// The id of the `send`.
    pub request_id: Option<Id>,
}

impl Draft {
    /// Room that it takes in memory and in a frame, in bytes, rounded up.
    pub fn size(&self) -> usize {
        self.data.len() + self.kind.len() + self.reply_to.len() + self.conversation.len() + MESSAGE_OVERHEAD
    }

    /// As it travels.
    pub fn encode(&self, stream: &Bytes, seq: u64, base_seq: u64, now: Duration) -> envelope::Message {
        envelope::Message {
            stream: stream.clone(),
            seq,
            base_seq,
            kind: self.kind.clone(),
            priority: envelope::Priority::from(self.priority).into(),
            sent_at_ms: self.sent_at_ms,
            ttl_left_ms: self.expires.saturating_sub(now).as_millis() as u64,
            reply_to: self.reply_to.clone(),
            conversation: self.conversation.clone(),
            parents: Vec::new(),
            encoding: self.encoding.into(),
            data: self.data.clone(),
        }
    }
}

/// Mail that has its place.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Its number in the stream.
    pub seq: u64,
    /// How often it was put on the wire.
    pub attempts: u32,
    /// Which way it went last.
    pub went: Option<Route>,
    /// Whether it may leave: it is in the store, if there is one.
    pub kept: bool,
    /// Whether an earlier process accepted it, and may have told how it ended.
    pub restored: bool,
    /// What it is.
    pub draft: Draft,
}

/// Mail to one recipient in one priority. The first `sent` of the queue are on the wire, or with the recipient's node, which waits for
/// its agent to take them; when an attempt fails, everything else from its first mail on is sent again, for the recipient drops what
/// it has already.
#[derive(Debug)]
pub struct Stream {
    id: Bytes,
    name: MessageName,
    next_seq: u64,
    queue: VecDeque<Mail>,
    sent: usize,
    /// The recipient's node has everything below.
    held: u64,
    /// How many messages from `held` on find room there, when the agent acknowledges mail itself.
    window: Option<usize>,
    /// When to ask again for what it has, and how often that was done since anything was settled.
    remind_at: Option<Duration>,
    reminders: u32,
}

impl Stream {
    /// An empty stream of `sender`.
    pub fn new(sender: &Address, id: StreamId) -> Self {
        let name = message_name(sender, &id);
        Stream {
            id: Bytes::copy_from_slice(&id),
            name,
            next_seq: 1,
            queue: VecDeque::new(),
            sent: 0,
            held: 0,
            window: None,
            remind_at: None,
            reminders: 0,
        }
    }

    /// As it is named on the wire.
    pub fn id(&self) -> &Bytes {
        &self.id
    }

    /// The same in memory of its own.
    pub fn own_id(&self) -> StreamId {
        let mut name = [0; 16];
        name.copy_from_slice(&self.id);
        name
    }

    /// The id of a message, as parents see it.
    pub fn message_id(&self, seq: u64) -> String {
        message_id(&self.name, seq)
    }

    /// Takes up a stream of an earlier process: its id, and the last number of which anything is known. Numbers above that may have
    /// been used as well, so that many are left out.
    pub fn resume(&mut self, sender: &Address, id: StreamId, last: u64) {
        self.id = Bytes::copy_from_slice(&id);
        self.name = message_name(sender, &id);
        self.next_seq = self.next_seq.max(last.saturating_add(SKIPPED));
    }

    /// Puts mail of an earlier process in its place, which is behind all that is there.
    pub fn restore(&mut self, seq: u64, draft: Draft) {
        self.queue.push_back(Mail { seq, attempts: 0, went: None, kept: true, restored: true, draft });
    }

    /// Whether nothing was ever sent on it.
    pub fn is_new(&self) -> bool {
        self.next_seq == 1
    }

    /// Appends mail, which may leave at once, or once it is kept; returns its number.
    pub fn push(&mut self, draft: Draft, kept: bool) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.queue.push_back(Mail { seq, attempts: 0, went: None, kept, restored: false, draft });
        seq
    }

    /// Lets mail leave; its size and when it expires, if it is there and could not leave before.
    pub fn keep(&mut self, seq: u64) -> Option<(usize, Duration)> {
        let at = self.queue.binary_search_by_key(&seq, |mail| mail.seq).ok()?;
        let mail = self.queue.get_mut(at).filter(|mail| !mail.kept)?;
        mail.kept = true;
        Some((mail.draft.size(), mail.draft.expires))
    }

    /// The first mail that is not on the wire and may go there.
    pub fn unsent(&self) -> Option<&Mail> {
        // With no room left one message asks whether there is some again.
        if let Some(window) = self.window
            && self.sent - self.queue.partition_point(|mail| mail.seq < self.held).min(self.sent)
                >= window.max(1)
        {
            return None;
        }
        self.queue.get(self.sent).filter(|mail| mail.kept)
    }

    /// Puts the first unsent mail on the wire, by `route`.
    pub fn send(&mut self, route: Route, now: Duration) -> Option<envelope::Message> {
        // What lies before it in the queue is all that the recipient must wait for.
        let base_seq = match self.sent.checked_sub(1) {
            Some(previous) => self.queue.get(previous)?.seq + 1,
            None => 0,
        };
        let mail = self.queue.get_mut(self.sent).filter(|mail| mail.kept)?;
        mail.attempts = mail.attempts.saturating_add(1);
        mail.went = Some(route);
        self.sent += 1;
        Some(mail.draft.encode(&self.id, mail.seq, base_seq, now))
    }

    /// What was to go just now has not left.
    pub fn unsend(&mut self, first: u64, last: u64) {
        let from = self.queue.partition_point(|mail| mail.seq < first);
        let to = self.queue.partition_point(|mail| mail.seq <= last);
        for mail in self.queue.range_mut(from..to) {
            mail.attempts = mail.attempts.saturating_sub(1);
        }
    }

    /// Takes `seq` and all that follows off the wire, but for what the recipient's node has; returns the bytes that wait again.
    pub fn rewind(&mut self, seq: u64) -> usize {
        let seq = seq.max(self.held);
        let from = self.queue.partition_point(|mail| mail.seq < seq);
        if from >= self.sent {
            return 0;
        }
        let bytes = self.queue.range(from..self.sent).map(|mail| mail.draft.size()).sum();
        self.sent = from;
        bytes
    }

    /// Takes out everything below `next` and what lies so far `beyond` it, in growing order, which the recipient has settled; with each,
    /// whether it is on the wire: an answer may come after the mail was taken off it to be sent again.
    pub fn settle(&mut self, next: u64, beyond: &[u64]) -> Vec<(Mail, bool)> {
        // A recipient cannot settle what was never put on the wire.
        let settled = self.queue.iter().take_while(|mail| mail.seq < next && mail.attempts > 0).count();
        let on_wire = self.sent.min(settled);
        self.sent -= on_wire;
        let mut taken: Vec<_> =
            self.queue.drain(..settled).enumerate().map(|(index, mail)| (mail, index < on_wire)).collect();
        if !beyond.is_empty() {
            let is_beyond =
                |seq: u64| seq.checked_sub(next).is_some_and(|far| beyond.binary_search(&far).is_ok());
            taken.extend(self.remove_if(|mail, _| mail.attempts > 0 && is_beyond(mail.seq)));
        }
        if !taken.is_empty() {
            (self.remind_at, self.reminders) = (None, 0);
        }
        taken
    }

    /// The recipient's node has everything below `next` that was put on the wire, and waits for its agent to take it. Only news puts
    /// off asking again: a node that was started again unseen has less than it had.
    pub fn hold(&mut self, next: u64, window: u64, now: Duration) {
        self.window = window.checked_sub(1).map(|window| usize::try_from(window).unwrap_or(usize::MAX));
        let last = self.sent.checked_sub(1).and_then(|at| self.queue.get(at));
        let held = next.min(last.map_or(0, |mail| mail.seq + 1));
        let is_news = held > self.held || self.remind_at.is_none();
        self.held = self.held.max(held);
        if self.queue.front().is_none_or(|mail| mail.seq >= self.held) {
            self.remind_at = None;
            return;
        }
        if is_news {
            self.remind_at = Some(now + REMIND_AFTER * (1 << self.reminders.min(MAX_DOUBLINGS)));
        }
    }

    /// When to ask again for what the recipient's node has.
    pub fn remind_at(&self) -> Option<Duration> {
        self.remind_at
    }

    /// The recipient's node may have forgotten what it had; if that was anything, everything is taken off the wire: the bytes that
    /// wait again.
    pub fn remind(&mut self) -> Option<usize> {
        self.remind_at.take()?;
        self.reminders += 1;
        // It may be another process that does not wait for its agent.
        self.window = None;
        let held = std::mem::take(&mut self.held);
        self.queue.front().filter(|mail| mail.seq < held)?;
        Some(self.rewind(0))
    }

    /// Takes out every mail for which `dead` holds, wherever it is; with each, whether it was on the wire.
    pub fn remove_if(&mut self, dead: impl Fn(&Mail, bool) -> bool) -> Vec<(Mail, bool)> {
        if !self.queue.iter().enumerate().any(|(index, mail)| dead(mail, index < self.sent)) {
            return Vec::new();
        }
        let (mut removed, mut kept, mut sent) = (Vec::new(), VecDeque::new(), 0);
        for (index, mail) in self.queue.drain(..).enumerate() {
            let on_wire = index < self.sent;
            if dead(&mail, on_wire) {
                removed.push((mail, on_wire));
            } else {
                sent += usize::from(on_wire);
                kept.push_back(mail);
            }
        }
        (self.queue, self.sent) = (kept, sent);
        removed
    }

    /// Mails, their bytes, and those of them that are not on the wire.
    #[cfg(test)]
    pub(super) fn accounts(&self) -> (usize, usize, usize) {
        let bytes =
            |mails: std::collections::vec_deque::Iter<'_, Mail>| mails.map(|mail| mail.draft.size()).sum();
        let waiting =
            self.queue.range(self.sent..).filter(|mail| mail.kept).map(|mail| mail.draft.size()).sum();
        (self.queue.len(), bytes(self.queue.iter()), waiting)
    }

    /// Whether any of the mail numbered so is on the wire.
    pub fn has_sent(&self, first: u64, last: u64) -> bool {
        let first = first.max(self.held);
        let from = self.queue.partition_point(|mail| mail.seq < first);
        from < self.sent && self.queue.get(from).is_some_and(|mail| mail.seq <= last)
    }

    /// The route that the first mail from `seq` on asks for.
    pub fn route_of(&self, seq: u64) -> Option<Route> {
        let from = self.queue.partition_point(|mail| mail.seq < seq);
        self.queue.get(from).map(|mail| mail.draft.route)
    }

    /// When the first of its mail expires that may leave, by `Now::mono`.
    pub fn first_expiry(&self) -> Option<Duration> {
        self.queue.iter().filter(|mail| mail.kept).map(|mail| mail.draft.expires).min()
    }
}

#[cfg(test)]
pub(in crate::core) mod testing {
    use super::*;
    use crate::core::delivery::naming::Origin;

    /// Somebody.
    pub fn origin() -> Origin {
        Origin { account: Address::repeat_byte(1), database: [1; 16] }
    }

    /// A draft with nothing said about it.
    pub fn draft(priority: Priority, size: usize, expires: Duration) -> Draft {
        Draft {
            data: Bytes::from(vec![b'1'; size]),
            encoding: Encoding::Json,
            kind: String::new(),
            priority,
            sent_at_ms: 0,
            expires,
            reply_to: String::new(),
            conversation: String::new(),
            route: Route::Auto,
            request_id: None,
        }
    }
}
