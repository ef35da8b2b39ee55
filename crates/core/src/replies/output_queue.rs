//! The queues of lines for one client. The network never waits for a client to read. Admission of
//! commands limits the lines that the node must deliver. The node limits received mail by refusing
//! it on the wire, and everything else by dropping and counting. Messages leave by priority: high
//! first, then medium and low 4:1 by bytes. All other lines leave in the order in which the core
//! queued them.

mod line;
mod room;

use std::ops::RangeInclusive;

use p2p_node_protocol::{DropCounts, Event, Log, Overflow, Priority};

use crate::budget::{Budget, BudgetedQueue, Limit};
use crate::priority_scheduler::PriorityScheduler;
use line::{Ends, Line, Written};
pub use line::{MailLine, WriteToken};

/// Limit of the lines at the writer. Two of its 64 KiB writes at 64 bytes a line, so that the
/// writer does not run dry between two turns of the event loop.
pub const WRITER_LINES: usize = 2048;
/// Limit of the accounted bytes of the lines at the writer. The last line may exceed it.
pub const WRITER_BYTES: usize = 1 << 20;
const WRITER_LIMIT: Limit = Limit { count: WRITER_LINES, bytes: WRITER_BYTES };
/// Limit of queued required lines (answers, deliveries, errors). At the limit the node stops
/// reading stdin. Our choice: four lines for each of the 1,024 commands that may be unanswered.
pub const MAX_REQUIRED_LINES: usize = 4096;
/// Limit of the mail that waits for the parent, in lines. Our choice: four times 4,096 lines, which
/// is two frames of small messages. [`MAIL_BYTES`] limits the memory.
pub const MAIL_LINES: usize = 16_384;
/// Limit of the mail that waits for the parent, in bytes. Our choice: room for
/// sixteen messages of the largest size.
pub const MAIL_BYTES: usize = 16 << 20;
/// Both limits of the mail that waits for a client.
pub(crate) const MAIL_LIMIT: Limit = Limit { count: MAIL_LINES, bytes: MAIL_BYTES };
/// Part of the mail queue (one eighth of its lines and bytes) above which the node defers
/// acknowledgements, so that senders slow down before the node refuses their mail. Our choice.
const BACKPRESSURE_FRACTION: usize = 8;
const MAIL_LAG: Limit =
    Limit { count: MAIL_LINES / BACKPRESSURE_FRACTION, bytes: MAIL_BYTES / BACKPRESSURE_FRACTION };
/// Part of the mail queue (one eighth) that only messages of high priority may use, so that other
/// mail cannot crowd out a vote. Our choice.
const HIGH_RESERVE: usize = 8;
/// Limit of the broadcasts that wait for the parent, in lines. Our choice.
pub const TOPIC_LINES: usize = 4096;
/// Limit of the broadcasts that wait for the parent, in bytes. Our choice.
pub const TOPIC_BYTES: usize = 16 << 20;
const TOPIC_LIMIT: Limit = Limit { count: TOPIC_LINES, bytes: TOPIC_BYTES };
/// Limit of the peer events that wait for the parent, in lines. A newer `peer_discovered` of a peer
/// replaces the older one. Our choice.
pub const PEER_EVENT_LINES: usize = 1024;
/// Limit of the logs that wait for the parent, in lines. Our choice.
pub const LOG_LINES: usize = 256;

/// Accounted bytes of a line besides its payload. An estimate for the limits of memory; the limits
/// of the wire do not use it.
const LINE_OVERHEAD: usize = 512;

/// Returns the budget of lines with these payloads.
pub(crate) fn in_lines(payloads: Budget) -> Budget {
    Budget::of(payloads.count(), payloads.bytes() + payloads.count() * LINE_OVERHEAD)
}

/// Returns the limit without one part of `parts`.
fn without_part(limit: Limit, parts: usize) -> Limit {
    Limit { count: limit.count - limit.count / parts, bytes: limit.bytes - limit.bytes / parts }
}

/// Index of the queue of each kind of line in [`OutputQueue::queues`].
const MUST: usize = 0;
const NEWS: usize = 1;
const LOG: usize = 2;
/// Queues of mail, by priority.
const MAIL: RangeInclusive<usize> = 3..=5;
/// Queues of broadcasts, by priority.
const TOPIC: RangeInclusive<usize> = 6..=8;

/// Returns the index of the queue of `priority` among the queues of a kind of line.
fn queue_of(class: &RangeInclusive<usize>, priority: Priority) -> usize {
    class.start() + priority as usize
}

/// The queues of lines in front of the writer.
#[derive(Debug)]
pub struct OutputQueue {
    queues: [BudgetedQueue<Line>; 9],
    order: u64,
    /// Order of the priorities of messages.
    scheduler: PriorityScheduler,
    at_writer: BudgetedQueue<Written>,
    /// Answers that wait or are at the writer: to `send` commands, and to other commands.
    unread_sends: usize,
    unread_others: usize,
    dropped: DropCounts,
    total: DropCounts,
    closed: bool,
    /// The number of clients that share the limits of messages.
    sharers: usize,
}

impl Default for OutputQueue {
    fn default() -> Self {
        OutputQueue {
            queues: Default::default(),
            order: 0,
            scheduler: PriorityScheduler::new(WRITER_BYTES),
            at_writer: BudgetedQueue::default(),
            unread_sends: 0,
            unread_others: 0,
            dropped: DropCounts::default(),
            total: DropCounts::default(),
            closed: false,
            sharers: 1,
        }
    }
}

impl OutputQueue {
    /// Sets the number of clients that share the limits of messages, so that all of them together
    /// take as much memory as one, but for one message of the largest size each.
    pub fn share(&mut self, sharers: usize) {
        self.sharers = sharers.max(1);
    }

    /// Returns the share of this client of a limit.
    fn share_of(&self, limit: Limit) -> Limit {
        Limit { count: limit.count / self.sharers, bytes: limit.bytes / self.sharers }
    }

    /// Queues a line that the parent must get: a delivery, an error, `ready`, `closing`.
    pub fn push_required(&mut self, event: Event) {
        self.answer(event, false);
    }

    /// Queues the answer to a command, which may be a `send`. Answers with an id count as unread
    /// until the writer has written them.
    pub fn answer(&mut self, event: Event, is_send: bool) {
        if self.closed {
            return;
        }
        let ends = Ends::of(&event, is_send);
        match ends {
            Ends::Nothing => {}
            Ends::Send => self.unread_sends += 1,
            Ends::Other => self.unread_others += 1,
        }
        self.order += 1;
        let line =
            Line { order: self.order, bytes: LINE_OVERHEAD, event, ends, receipt: None, is_owed: false };
        self.queues[MUST].push(line);
    }

    /// Ignores all lines from now on.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Returns the lines and bytes in a range of queues.
    fn waiting(&self, queues: RangeInclusive<usize>) -> Budget {
        self.queues[queues].iter().map(BudgetedQueue::budget).sum()
    }

    /// Returns the order number of the first line of a queue.
    fn order_of(&self, queue: usize) -> Option<u64> {
        self.queues[queue].first().map(|line| line.order)
    }

    /// Returns the number of lines of mail that wait, and of all lines at the writer.
    pub fn mail_lag(&self) -> usize {
        self.waiting(MAIL).count() + self.at_writer.len()
    }

    /// Queues a message. The caller has checked that there is room.
    pub fn mail(&mut self, priority: Priority, event: Event, payload: usize, receipt: Option<WriteToken>) {
        self.push_with(queue_of(&MAIL, priority), event, payload, receipt, false);
    }

    /// Queues a message that no other client gets. [`OutputQueue::drain_owed`] returns it until the
    /// writer has written it.
    pub fn owed_mail(&mut self, line: MailLine) {
        let MailLine { priority, message, bytes, receipt } = line;
        self.push_with(queue_of(&MAIL, priority), Event::Message(message), bytes, receipt, true);
    }

    /// Counts a message that the node dropped for this client, because the client does not read
    /// fast enough.
    pub fn drop_mail(&mut self) {
        self.count_dropped(|dropped| &mut dropped.mail);
    }

    /// Removes and returns the owed messages that the client does not have, oldest first. The
    /// client may have got those of the writer, which are marked as redelivered.
    pub fn drain_owed(&mut self) -> Vec<MailLine> {
        let mut owed: Vec<MailLine> =
            self.at_writer.take().into_iter().filter_map(|line| line.owed).collect();
        owed.iter_mut().for_each(|line| line.message.redelivered = true);
        let mut queued: Vec<Line> = Vec::new();
        for queue in &mut self.queues[MAIL] {
            queued.extend(queue.take().into_iter().filter(|line| line.is_owed));
        }
        queued.sort_by_key(|line| line.order);
        owed.extend(queued.into_iter().filter_map(Line::into_mail));
        owed
    }

    /// Queues a broadcast. While the queue is over its limits, drops the oldest broadcast of the
    /// lowest priority and counts it.
    pub fn broadcast(&mut self, priority: Priority, event: Event, payload: usize) {
        self.push(queue_of(&TOPIC, priority), event, payload);
        loop {
            let waiting = self.waiting(TOPIC);
            if !waiting.is_over(self.share_of(TOPIC_LIMIT)) || waiting.count() == 1 {
                return;
            }
            if TOPIC.into_iter().any(|class| self.queues[class].pop().is_some()) {
                self.count_dropped(|dropped| &mut dropped.broadcasts);
            }
        }
    }

    /// Counts a broadcast that the node dropped because its line exceeds `maxLineBytes`.
    pub fn too_long(&mut self) {
        self.count_dropped(|dropped| &mut dropped.oversized);
    }

    fn count_dropped(&mut self, of: impl Fn(&mut DropCounts) -> &mut u64) {
        *of(&mut self.dropped) += 1;
        *of(&mut self.total) += 1;
    }

    /// Queues a peer event. Replaces the queued event for which `same` returns `true`. At the limit
    /// drops the oldest peer event and counts it.
    pub fn push_peer_event(&mut self, event: Event, same: impl Fn(&Event) -> bool) {
        if self.closed {
            return;
        }
        let queue = &mut self.queues[NEWS];
        let older = queue.iter().position(|line| same(&line.event));
        let full = older.is_none() && queue.len() >= PEER_EVENT_LINES;
        older.or(full.then_some(0)).and_then(|index| queue.remove(index));
        if full {
            self.count_dropped(|dropped| &mut dropped.peer_events);
        }
        self.push(NEWS, event, 0);
    }

    /// Queues a log. At the limit drops the oldest log and counts it.
    pub fn log(&mut self, log: Log) {
        self.push(LOG, Event::Log(Box::new(log)), 0);
        if self.queues[LOG].len() > LOG_LINES && self.queues[LOG].pop().is_some() {
            self.count_dropped(|dropped| &mut dropped.log);
        }
    }

    fn push(&mut self, class: usize, event: Event, payload: usize) {
        self.push_with(class, event, payload, None, false);
    }

    fn push_with(
        &mut self,
        class: usize,
        event: Event,
        payload: usize,
        receipt: Option<WriteToken>,
        is_owed: bool,
    ) {
        if self.closed {
            return;
        }
        self.order += 1;
        let bytes = payload + LINE_OVERHEAD;
        let ends = Ends::Nothing;
        self.queues[class].push(Line { order: self.order, bytes, event, ends, receipt, is_owed });
    }

    /// Returns `true` if the queue of required lines has room, so that the node may read a command.
    pub fn can_accept_command(&self) -> bool {
        self.queues[MUST].len() < MAX_REQUIRED_LINES
    }

    /// Removes the `lines` that the writer has written. Returns the tokens of the messages among
    /// them.
    pub fn written(&mut self, lines: usize) -> Vec<WriteToken> {
        let mut receipts = Vec::new();
        for line in std::iter::from_fn(|| self.at_writer.pop()).take(lines) {
            match line.ends {
                Ends::Nothing => {}
                Ends::Send => self.unread_sends -= 1,
                Ends::Other => self.unread_others -= 1,
            }
            receipts.extend(line.receipt);
        }
        receipts
    }

    /// Returns the next line for the writer, or `None` if the writer is full or nothing waits. An
    /// `overflow` event precedes all other lines after a drop.
    pub fn pop(&mut self) -> Option<Event> {
        if self.at_writer.budget().is_full(WRITER_LIMIT) {
            return None;
        }
        if self.dropped != DropCounts::default() {
            let dropped = std::mem::take(&mut self.dropped);
            self.at_writer.push(Written::of_overflow());
            return Some(Event::Overflow(Overflow { dropped, total: self.total }));
        }
        let others = [Some(MUST), Some(NEWS), Some(LOG), self.next_message()];
        let queued = others.into_iter().flatten().filter_map(|queue| Some((self.order_of(queue)?, queue)));
        let (_, queue) = queued.min()?;
        let line = self.queues[queue].pop()?;
        for priority in [Priority::Low, Priority::Medium] {
            if [queue_of(&MAIL, priority), queue_of(&TOPIC, priority)].contains(&queue) {
                self.scheduler.served(priority, line.bytes);
            }
        }
        let Line { bytes, ends, receipt, .. } = line;
        self.at_writer.push(Written { bytes, ends, receipt, owed: line.copy_owed() });
        Some(line.event)
    }

    /// Returns the queue of the message that leaves next.
    fn next_message(&self) -> Option<usize> {
        let older = |priority| {
            let queues = [queue_of(&MAIL, priority), queue_of(&TOPIC, priority)];
            let first = |queue: &usize| Some((self.order_of(*queue)?, *queue));
            queues.iter().filter_map(first).min().map(|(_, queue)| queue)
        };
        let size = |priority| self.queues[older(priority)?].first().map(|line| line.bytes);
        let (high, medium, low) = (size(Priority::High), size(Priority::Medium), size(Priority::Low));
        older(self.scheduler.pick(high, medium, low)?)
    }

    /// Returns the order number of the next line, and that of the oldest queued message of medium
    /// priority.
    pub fn turns(&self) -> (u64, Option<u64>) {
        let medium = [queue_of(&MAIL, Priority::Medium), queue_of(&TOPIC, Priority::Medium)];
        (self.order + 1, medium.into_iter().filter_map(|queue| self.order_of(queue)).min())
    }

    /// Returns `true` if a message with a token waits or is at the writer.
    pub fn awaits_receipts(&self) -> bool {
        let waiting = MAIL.flat_map(|queue| self.queues[queue].iter()).map(|line| &line.receipt);
        self.at_writer.iter().map(|line| &line.receipt).chain(waiting).any(Option::is_some)
    }

    /// Returns `true` if the writer has written every line.
    pub fn is_empty(&self) -> bool {
        self.at_writer.is_empty() && self.queues.iter().all(BudgetedQueue::is_empty)
    }

    /// Returns the numbers of queued lines: required lines, mail, broadcasts, peer events and logs.
    pub fn lines(&self) -> [usize; 5] {
        let of = |class: usize| self.queues[class].len();
        [of(MUST), self.waiting(MAIL).count(), self.waiting(TOPIC).count(), of(NEWS), of(LOG)]
    }

    /// Returns the number of lines at the writer.
    pub fn at_writer_lines(&self) -> usize {
        self.at_writer.len()
    }

    /// Returns the number of answers to `send` commands that the writer has not written.
    pub fn unread_sends(&self) -> usize {
        self.unread_sends
    }

    /// Returns the number of answers to other commands that the writer has not written.
    pub fn unread_others(&self) -> usize {
        self.unread_others
    }

    /// Returns what the node has dropped since the start.
    pub fn total_dropped(&self) -> DropCounts {
        self.total
    }
}

#[cfg(test)]
mod tests;
