//! The lines on their way to the parent. The network never waits for the parent to read: what must be told
//! is bounded by admission, mail by refusing it on the wire, everything else by dropping and counting. Of messages those of high
//! priority leave first, then medium and low ones, four bytes to one; everything else keeps the order in which it came.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use alloy_primitives::Address;
use p2p_node_protocol::{DropCounts, Event, Log, Overflow, Priority};

use p2p_node_wire::message_id::StreamId;

/// Lines that the writer may hold. Two of its 64 KiB writes at 64 bytes a line, so that it never runs dry
/// between two turns of the loop.
pub const WRITER_LINES: usize = 2048;
/// Bytes that the writer may hold, roughly; one larger line may always go.
pub const WRITER_BYTES: usize = 1 << 20;
/// Lines that must be told (answers, deliveries, errors) at which stdin is no longer read.
pub const MUST_TELL_LINES: usize = 4096;
/// Mail that waits for the parent, in lines. Four times 4,096, which are two frames of small
/// messages; the bytes below bound the memory.
pub const MAIL_LINES: usize = 16_384;
/// Mail that waits for the parent, in bytes. Our choice: sixteen windows of 1 MiB.
pub const MAIL_BYTES: usize = 16 << 20;
/// Mail that waits at which acknowledgements are held back, so that senders slow down before they are refused. Ours: an
/// eighth of the room, in lines and in bytes.
const MAIL_LAG: usize = 8;
/// The part of that room which only mail of high priority may use. Ours: a flood of other mail leaves a vote its place.
const HIGH_RESERVE: usize = 8;
/// Broadcasts that wait for the parent, in lines. Our choice.
pub const TOPIC_LINES: usize = 4096;
/// Broadcasts that wait for the parent, in bytes. Our choice.
pub const TOPIC_BYTES: usize = 16 << 20;
/// News of peers that wait for the parent; older news of the same peer give way first.
pub const NEWS_LINES: usize = 1024;
/// Logs that wait for the parent.
pub const LOG_LINES: usize = 256;

/// Low lines leave for four times as many bytes of medium ones, as on the way out.
const MEDIUM_PER_LOW: usize = 4;

/// Bytes of a line that are not its payload, roughly: for accounting, not for limits on the wire.
const LINE_OVERHEAD: usize = 512;

/// Mail of which somebody has to know when the parent has it: whose, and its place in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteToken {
    /// Who sent it.
    pub sender: Address,
    /// The stream.
    pub stream: StreamId,
    /// The number in it.
    pub seq: u64,
}

#[derive(Debug)]
struct Line {
    order: u64,
    bytes: usize,
    event: Event,
    ends: Ends,
    receipt: Option<WriteToken>,
}

/// What is known of a line at the writer.
#[derive(Debug)]
struct Written {
    bytes: usize,
    ends: Ends,
    receipt: Option<WriteToken>,
}

/// Which command a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Nothing,
    Send,
    Other,
}

impl Ends {
    fn of(event: &Event, is_send: bool) -> Self {
        match event {
            Event::Result(_) if is_send => Ends::Send,
            Event::Error(error) if is_send && error.id.is_some() => Ends::Send,
            Event::Result(_) => Ends::Other,
            Event::Error(error) if error.id.is_some() => Ends::Other,
            _ => Ends::Nothing,
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Line>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, line: Line) {
        self.bytes += line.bytes;
        self.lines.push_back(line);
    }

    fn pop(&mut self) -> Option<Line> {
        let line = self.lines.pop_front()?;
        self.bytes -= line.bytes;
        Some(line)
    }

    fn order(&self) -> Option<u64> {
        self.lines.front().map(|line| line.order)
    }
}

/// Index of the queue of each class in [`OutputQueue::queues`].
const MUST: usize = 0;
const NEWS: usize = 1;
const LOG: usize = 2;
/// … of mail, by priority.
const MAIL: RangeInclusive<usize> = 3..=5;
/// … of broadcasts, by priority.
const TOPIC: RangeInclusive<usize> = 6..=8;

/// The queue of a priority among those of a class.
fn queue_of(class: &RangeInclusive<usize>, priority: Priority) -> usize {
    class.start() + priority as usize
}

/// The queues in front of the writer.
#[derive(Debug, Default)]
pub struct OutputQueue {
    queues: [Queue; 9],
    order: u64,
    /// Bytes that low lines may take before the next medium one.
    low_credit: usize,
    at_writer: VecDeque<Written>,
    at_writer_bytes: usize,
    /// Terminal lines that wait or are at the writer: of `send`s, and of the others.
    unread_sends: usize,
    unread_others: usize,
    dropped: DropCounts,
    total: DropCounts,
    closed: bool,
}

impl OutputQueue {
    /// Queues a line that the parent must get: an answer, a delivery, an error, `ready`, `closing`.
    pub fn tell(&mut self, event: Event) {
        self.answer(event, false);
    }

    /// The same of a line that ends a command, if its parent has named that: a `send`, or another.
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
        let line = Line { order: self.order, bytes: LINE_OVERHEAD, event, ends, receipt: None };
        self.queues[MUST].push(line);
    }

    /// What has been queued is the last; nothing is taken from now on.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Lines and bytes that wait in some queues.
    fn waiting(&self, queues: RangeInclusive<usize>) -> (usize, usize) {
        let queues = &self.queues[queues];
        (queues.iter().map(|queue| queue.lines.len()).sum(), queues.iter().map(|queue| queue.bytes).sum())
    }

    /// Whether mail of so many lines and bytes can be taken, some of it of high priority or none, beside what is `coming` already.
    pub fn has_mail_room(&self, lines: usize, bytes: usize, has_high: bool, coming: (usize, usize)) -> bool {
        let (waiting_lines, waiting_bytes) = self.waiting(MAIL);
        let (waiting_lines, waiting_bytes) =
            (waiting_lines + coming.0, waiting_bytes + coming.1 + coming.0 * LINE_OVERHEAD);
        let room = |all: usize| if has_high { all } else { all - all / HIGH_RESERVE };
        waiting_lines == 0
            || waiting_lines + lines <= room(MAIL_LINES)
                && waiting_bytes + bytes + lines * LINE_OVERHEAD <= room(MAIL_BYTES)
    }

    /// Whether the parent reads mail about as fast as it comes.
    pub fn is_draining(&self) -> bool {
        let (lines, bytes) = self.waiting(MAIL);
        lines <= MAIL_LINES / MAIL_LAG && bytes <= MAIL_BYTES / MAIL_LAG
    }

    /// Queues mail, for which there is room.
    pub fn mail(&mut self, priority: Priority, event: Event, payload: usize, receipt: Option<WriteToken>) {
        self.push_with(queue_of(&MAIL, priority), event, payload, receipt);
    }

    /// Queues a broadcast; drops the oldest of the lowest priority when there is no room.
    pub fn broadcast(&mut self, priority: Priority, event: Event, payload: usize) {
        self.push(queue_of(&TOPIC, priority), event, payload);
        loop {
            let (lines, bytes) = self.waiting(TOPIC);
            if lines <= TOPIC_LINES && (bytes <= TOPIC_BYTES || lines == 1) {
                return;
            }
            if TOPIC.into_iter().any(|class| self.queues[class].pop().is_some()) {
                self.count_dropped(|dropped| &mut dropped.broadcasts);
            }
        }
    }

    /// A broadcast was dropped because its line would be longer than the parent can read.
    pub fn too_long(&mut self) {
        self.count_dropped(|dropped| &mut dropped.oversized);
    }

    fn count_dropped(&mut self, of: impl Fn(&mut DropCounts) -> &mut u64) {
        *of(&mut self.dropped) += 1;
        *of(&mut self.total) += 1;
    }

    /// Queues news of a peer; `same` tells whether a queued line is older news of the same kind and peer.
    pub fn news(&mut self, event: Event, same: impl Fn(&Event) -> bool) {
        if self.closed {
            return;
        }
        let queue = &mut self.queues[NEWS];
        let older = queue.lines.iter().position(|line| same(&line.event));
        let full = older.is_none() && queue.lines.len() >= NEWS_LINES;
        if let Some(line) = older.or(full.then_some(0)).and_then(|index| queue.lines.remove(index)) {
            queue.bytes -= line.bytes;
        }
        if full {
            self.count_dropped(|dropped| &mut dropped.peer_events);
        }
        self.push(NEWS, event, 0);
    }

    /// Queues a log; drops the oldest when there is no room.
    pub fn log(&mut self, log: Log) {
        self.push(LOG, Event::Log(Box::new(log)), 0);
        if self.queues[LOG].lines.len() > LOG_LINES && self.queues[LOG].pop().is_some() {
            self.count_dropped(|dropped| &mut dropped.log);
        }
    }

    fn push(&mut self, class: usize, event: Event, payload: usize) {
        self.push_with(class, event, payload, None);
    }

    fn push_with(&mut self, class: usize, event: Event, payload: usize, receipt: Option<WriteToken>) {
        if self.closed {
            return;
        }
        self.order += 1;
        let bytes = payload + LINE_OVERHEAD;
        self.queues[class].push(Line { order: self.order, bytes, event, ends: Ends::Nothing, receipt });
    }

    /// Whether so little waits to be told that another command may be read.
    pub fn can_accept_command(&self) -> bool {
        self.queues[MUST].lines.len() < MUST_TELL_LINES
    }

    /// The writer has put out so many lines; the mail among them that somebody has to know of.
    pub fn written(&mut self, lines: usize) -> Vec<WriteToken> {
        let mut receipts = Vec::new();
        for line in self.at_writer.drain(..lines.min(self.at_writer.len())) {
            self.at_writer_bytes -= line.bytes;
            match line.ends {
                Ends::Nothing => {}
                Ends::Send => self.unread_sends -= 1,
                Ends::Other => self.unread_others -= 1,
            }
            receipts.extend(line.receipt);
        }
        receipts
    }

    /// The next line for the writer, in the order in which they came, while it has room.
    pub fn pop(&mut self) -> Option<Event> {
        let full = self.at_writer.len() >= WRITER_LINES || self.at_writer_bytes >= WRITER_BYTES;
        if full {
            return None;
        }
        if self.dropped != DropCounts::default() {
            let dropped = std::mem::take(&mut self.dropped);
            self.at_writer(LINE_OVERHEAD, Ends::Nothing, None);
            return Some(Event::Overflow(Overflow { dropped, total: self.total }));
        }
        let others = [Some(MUST), Some(NEWS), Some(LOG), self.next_message()];
        let queued =
            others.into_iter().flatten().filter_map(|queue| Some((self.queues[queue].order()?, queue)));
        let (_, queue) = queued.min()?;
        let line = self.queues[queue].pop()?;
        let of = |priority| [queue_of(&MAIL, priority), queue_of(&TOPIC, priority)].contains(&queue);
        if of(Priority::Medium) {
            self.low_credit = (self.low_credit + line.bytes).min(MEDIUM_PER_LOW * WRITER_BYTES);
        } else if of(Priority::Low) {
            self.low_credit = self.low_credit.saturating_sub(MEDIUM_PER_LOW * line.bytes);
        }
        self.at_writer(line.bytes, line.ends, line.receipt);
        Some(line.event)
    }

    /// The queue of the message whose turn it is.
    fn next_message(&self) -> Option<usize> {
        let older = |priority| {
            let queues = [queue_of(&MAIL, priority), queue_of(&TOPIC, priority)];
            let first = |queue: &usize| Some((self.queues[*queue].order()?, *queue));
            queues.iter().filter_map(first).min().map(|(_, queue)| queue)
        };
        let low = older(Priority::Low);
        let low_is_due = |queue: &usize| {
            let line = self.queues[*queue].lines.front();
            line.is_some_and(|line| MEDIUM_PER_LOW * line.bytes <= self.low_credit)
        };
        older(Priority::High).or(low.filter(low_is_due)).or_else(|| older(Priority::Medium)).or(low)
    }

    /// The number of the next line, and of the oldest message of medium priority.
    pub fn turns(&self) -> (u64, Option<u64>) {
        let medium = [queue_of(&MAIL, Priority::Medium), queue_of(&TOPIC, Priority::Medium)];
        (self.order + 1, medium.into_iter().filter_map(|queue| self.queues[queue].order()).min())
    }

    fn at_writer(&mut self, bytes: usize, ends: Ends, receipt: Option<WriteToken>) {
        self.at_writer.push_back(Written { bytes, ends, receipt });
        self.at_writer_bytes += bytes;
    }

    /// Whether mail that somebody has to know of is on its way to the parent.
    pub fn awaits_receipts(&self) -> bool {
        let waiting = MAIL.flat_map(|queue| &self.queues[queue].lines).map(|line| &line.receipt);
        self.at_writer.iter().map(|line| &line.receipt).chain(waiting).any(Option::is_some)
    }

    /// Whether every line has been put out by the writer.
    pub fn is_empty(&self) -> bool {
        self.at_writer.is_empty() && self.queues.iter().all(|queue| queue.lines.is_empty())
    }

    /// Lines that wait: those that must be told, mail, broadcasts, news and logs.
    pub fn lines(&self) -> [usize; 5] {
        let of = |class: usize| self.queues[class].lines.len();
        [of(MUST), self.waiting(MAIL).0, self.waiting(TOPIC).0, of(NEWS), of(LOG)]
    }

    /// Lines that the writer holds.
    pub fn at_writer_lines(&self) -> usize {
        self.at_writer.len()
    }

    /// Answers to `send`s that the writer has not put out.
    pub fn unread_sends(&self) -> usize {
        self.unread_sends
    }

    /// Answers to other commands that the writer has not put out.
    pub fn unread_others(&self) -> usize {
        self.unread_others
    }

    /// What was dropped since the start.
    pub fn total_dropped(&self) -> DropCounts {
        self.total
    }
}

#[cfg(test)]
mod tests;
