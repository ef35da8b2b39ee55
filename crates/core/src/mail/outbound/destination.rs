//! Everything on its way to one recipient.
//!
//! Group commit: a frame leaves when nothing is in flight to the recipient, when enough waits, or a moment
//! after the previous frame, so that a lone message leaves at once and a flood shares signatures.

use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::{Counter, Priority, Route};
use p2p_node_wire::envelope::limits::MAX_BATCH_MESSAGES;
use p2p_node_wire::envelope::{Ack, Batch};
use p2p_node_wire::message_id::StreamNamespace;
use p2p_node_wire::seal::session::OutboundSession;

use crate::backoff::Backoff;
use crate::capacity::{Wait, capacity_for};
use crate::command_limits::MAX_PAUSE;
use crate::cx::Cx;
use crate::input::Token;
use crate::mail::outbound::outbox::DESTINATION_BYTES;
use crate::mail::outbound::stream::{Position, QueuedMessage, Stream};

/// Queued bytes at which a frame leaves without waiting for the answer to the previous one. Our
/// choice: most of a gossip frame.
const FRAME_READY_BYTES: usize = 48 << 10;
/// How long a frame waits for more messages after the previous one left. Our choice.
const FRAME_GAP: Duration = Duration::from_millis(2);
/// Most payload in a direct frame, in bytes; a larger message goes alone. Our choice: a quarter of what may
/// be on the wire.
const DIRECT_BATCH_BYTES: usize = 256 << 10;
/// Most payload in a gossip frame, in bytes: with its signature and binding it stays below the 64 KiB that gossipsub carries.
const GOSSIP_BATCH_BYTES: usize = 60 << 10;
/// Bytes on the wire to one destination without an answer. Our choice: 5 MB/s over a round trip of 200 ms.
const OUTSTANDING_BYTES: usize = 1 << 20;
/// What a recipient has to settle within the longest pause to count as moving, in bytes. Ours: 16 KiB a second, which a slow line carries;
/// one that settles less on purpose wins nothing by it.
const MOVING_BYTES: usize = DESTINATION_BYTES / 64;
/// How long an acknowledgement by gossip may take: a frame and its answer by IHAVE and IWANT, one to three heartbeats each way.
const GOSSIP_ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// Low-priority bytes go out for four times as many of medium priority: the rule of the source document on priorities.
const MEDIUM_PER_LOW: usize = 4;

/// A frame on the wire that has not been answered.
#[derive(Debug)]
pub(crate) struct InFlightFrame {
    pub(crate) token: Token,
    /// First and last mail in it, by priority; none when they were sent again since.
    pub(crate) seqs: [Option<(Position, Position)>; 3],
    bytes: usize,
    /// By gossip no failure is reported: it counts as lost then.
    pub(crate) deadline: Option<Duration>,
    /// Boot and counter of the frame, if it went by gossip: acknowledgements name those that they answer.
    pub(crate) frame: Option<(u64, u64)>,
}

/// The first frame of a session, and what it will be when the recipient has answered.
#[derive(Debug)]
pub struct PendingSession {
    /// The flight.
    pub token: Token,
    /// The session; none while the frame is being sealed.
    pub session: Option<OutboundSession>,
}

/// Everything on its way to one recipient.
#[derive(Debug)]
pub struct Destination {
    pub(crate) streams: [Stream; 3],
    pub(crate) flights: Vec<InFlightFrame>,
    outstanding: usize,
    /// Bytes in all, on the wire or not.
    pub(crate) bytes: usize,
    pub(crate) mails: usize,
    /// Bytes not on the wire.
    pub(crate) waiting: usize,
    last_frame: Option<Duration>,
    /// Until when it is worth waiting for room in it, unless it settles a share that is worth more.
    pub(crate) moves_until: Duration,
    /// Whether it may not be there.
    doubted: bool,
    /// Whether it was found again since it last moved: one that comes and goes is not waited for each time.
    found_again: bool,
    settled: usize,
    pub(crate) earliest_expiry: Duration,
    low_credit: usize,
    /// When a failed attempt may be repeated.
    pub backoff: Backoff,
    /// Until when the next frame has to wait: gossip for its pace, a dial because the recipient's node hung up on the last.
    pub paced_until: Duration,
    /// Until when a dial is waited for before `auto` takes to gossip; `None`: no dial goes on.
    pub dialing_until: Option<Duration>,
    /// Whether the last dial failed, so that `auto` takes to gossip.
    pub undialable: bool,
    /// Whether the last answer was that there is no room for mail.
    pub busy: bool,
    /// How often in a row the answer was that the frame's counter had been used.
    pub replayed: u32,
    /// The session with the recipient's node.
    pub session: Option<OutboundSession>,
    /// The frame with which the next session begins, until it is answered.
    pub opening: Option<PendingSession>,
    /// Whether it waits for a record of the recipient: nothing is due until it is woken.
    pub parked: bool,
    /// Why mail may not get through: its expiry is told by that.
    pub hindrance: Option<Hindrance>,
}

/// What keeps mail from a recipient who may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// The recipient's clock is ahead of ours by so many ms, too far for it to believe our frames or for us to believe its record.
    Clocks {
        /// Negative: behind.
        ahead_ms: i64,
    },
    /// The recipient's record names no key to which mail can be sealed now.
    NoKey,
}

impl Destination {
    pub(crate) fn new(origin: &StreamNamespace, incarnation: u64, recipient: &Address) -> Self {
        let stream = |priority| {
            let id = origin.stream(b"mail", incarnation, recipient.as_slice(), priority);
            Stream::new(&origin.account, id)
        };
        Destination {
            // In the order in which they are sent.
            streams: [stream(Priority::High), stream(Priority::Medium), stream(Priority::Low)],
            flights: Vec::new(),
            outstanding: 0,
            bytes: 0,
            mails: 0,
            waiting: 0,
            last_frame: None,
            moves_until: Duration::ZERO,
            doubted: false,
            found_again: false,
            settled: 0,
            earliest_expiry: Duration::MAX,
            low_credit: 0,
            backoff: Backoff::default(),
            paced_until: Duration::ZERO,
            dialing_until: None,
            undialable: false,
            busy: false,
            replayed: 0,
            session: None,
            opening: None,
            parked: false,
            hindrance: None,
        }
    }

    /// The route that its next mail asks for, and the mail's size.
    pub fn next_mail(&self) -> Option<(Route, usize)> {
        self.next_per_priority().next()
    }

    /// The same of each priority that has mail, highest first.
    pub fn next_per_priority(&self) -> impl Iterator<Item = (Route, usize)> + use<'_> {
        self.streams.iter().filter_map(Stream::unsent).map(|mail| (mail.draft.route, mail.draft.size()))
    }

    /// When the next frame may leave: `None` when nothing waits or an answer must come first.
    pub fn frame_due(&self) -> Option<Duration> {
        // What follows the first frame of a session needs its keys.
        let begins = self.opening.is_some() && self.session.is_none();
        if self.waiting == 0 || self.outstanding >= OUTSTANDING_BYTES || self.parked || begins {
            return None;
        }
        // All that waits may be for agents' windows.
        self.next_mail()?;
        let gap = match self.last_frame {
            Some(last) if !self.flights.is_empty() && self.waiting < FRAME_READY_BYTES => last + FRAME_GAP,
            _ => Duration::ZERO,
        };
        Some(
            gap.max(self.backoff.not_before())
                .max(self.dialing_until.unwrap_or_default())
                .max(self.paced_until),
        )
    }

    /// Puts the next batch on the wire under `token`.
    pub fn send_next_batch(&mut self, token: Token, route: Route, now: Duration) -> Batch {
        let limit = match route {
            Route::Gossip => GOSSIP_BATCH_BYTES,
            Route::Auto | Route::Direct => DIRECT_BATCH_BYTES,
        };
        let mut flight = InFlightFrame {
            token,
            seqs: [None; 3],
            bytes: 0,
            deadline: (route == Route::Gossip).then_some(now + GOSSIP_ACK_TIMEOUT),
            frame: None,
        };
        let mut batch = Batch::default();
        while let Some((index, size)) = self.pick_stream(route) {
            if !batch.messages.is_empty() && flight.bytes + size > limit
                || batch.messages.len() >= MAX_BATCH_MESSAGES
            {
                break;
            }
            let Some((position, message)) = self.streams[index].send(route, now) else { break };
            flight.seqs[index].get_or_insert((position, position)).1 = position;
            flight.bytes += size;
            match index {
                1 => self.low_credit = (self.low_credit + size).min(MEDIUM_PER_LOW * DIRECT_BATCH_BYTES),
                2 => self.low_credit = self.low_credit.saturating_sub(MEDIUM_PER_LOW * size),
                _ => {}
            }
            batch.messages.push(message);
        }
        self.waiting -= flight.bytes;
        self.outstanding += flight.bytes;
        self.last_frame = Some(now);
        self.flights.push(flight);
        batch
    }

    /// The stream whose turn it is among those whose next mail may take `route`, and the size of that mail.
    fn pick_stream(&self, route: Route) -> Option<(usize, usize)> {
        let size = |index: usize| {
            let draft = &self.streams[index].unsent()?.draft;
            let fits = match draft.route {
                Route::Auto => true,
                wanted => wanted == route,
            };
            // A gossip frame takes nothing that it cannot carry alone.
            let fits = fits && (route != Route::Gossip || draft.size() <= GOSSIP_BATCH_BYTES);
            fits.then(|| draft.size())
        };
        if let Some(high) = size(0) {
            return Some((0, high));
        }
        match (size(1), size(2)) {
            (Some(_), Some(low)) if self.low_credit >= MEDIUM_PER_LOW * low => Some((2, low)),
            (Some(medium), _) => Some((1, medium)),
            (None, low) => low.map(|low| (2, low)),
        }
    }

    /// The recipient has settled so many bytes. One that settles a message now and then does not move: nobody should wait for it.
    pub(crate) fn record_progress(&mut self, bytes: usize, now: Duration) {
        self.settled += bytes;
        if self.settled >= MOVING_BYTES || self.mails == 0 {
            self.settled = 0;
            self.found_again = false;
            self.extend_stall_deadline(now);
        }
    }

    /// How long to wait for room of its own, unless there is some for this priority.
    pub(crate) fn wait(&self, priority: Priority) -> Option<Wait> {
        let full = self.bytes >= capacity_for(DESTINATION_BYTES, priority);
        full.then_some(Wait::Recipient(self.moves_until))
    }

    /// Whether bytes and numbers are those of the mail that is there.
    #[cfg(test)]
    pub(crate) fn check_accounts(&self) {
        let (mails, bytes, waiting) = self.streams.iter().map(Stream::accounts).fold(
            (0, 0, 0),
            |(mails, bytes, waiting), (more_mails, more_bytes, more_waiting)| {
                (mails + more_mails, bytes + more_bytes, waiting + more_waiting)
            },
        );
        assert_eq!((self.mails, self.bytes, self.waiting), (mails, bytes, waiting));
        assert_eq!(self.outstanding, self.flights.iter().map(|flight| flight.bytes).sum::<usize>());
    }

    /// When to ask again for what the recipient's node holds.
    pub(crate) fn probe_at(&self) -> Option<Duration> {
        self.streams.iter().filter_map(Stream::probe_at).min()
    }

    /// What the recipient's node held is sent again, of the streams whose time it is.
    pub fn probe(&mut self, is_time: impl Fn(Duration) -> bool) {
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let bytes = stream.probe_at().filter(|at| is_time(*at)).and_then(|_| stream.probe());
            let Some(bytes) = bytes else { continue };
            self.waiting += bytes;
            for flight in &mut self.flights {
                flight.seqs[index] = None;
            }
        }
    }

    /// Flights by gossip whose mail asked for no particular route.
    pub(crate) fn gossip_in_flight(&self) -> Vec<Token> {
        let free = |flight: &&InFlightFrame| {
            flight.seqs.iter().zip(&self.streams).any(|(seqs, stream)| {
                seqs.is_some_and(|(first, _)| {
                    stream.route_of(first).is_some_and(|route| route == Route::Auto)
                })
            })
        };
        let by_gossip = self.flights.iter().filter(|flight| flight.deadline.is_some());
        by_gossip.filter(free).map(|flight| flight.token).collect()
    }

    /// It is worth waiting for: as long as stdin may pause.
    pub(crate) fn extend_stall_deadline(&mut self, now: Duration) {
        self.moves_until = self.moves_until.max(now + MAX_PAUSE);
    }

    /// There is a connection to it.
    pub fn found(&mut self, now: Duration) {
        if self.doubted && !self.backoff.is_failing() {
            self.doubted = false;
            if !std::mem::replace(&mut self.found_again, true) {
                self.extend_stall_deadline(now);
            }
        }
    }

    /// Postpones the next attempt, because the record of the recipient names no usable key. Its next
    /// record may name one; the node never sends a message unencrypted.
    pub(crate) fn lacks_key(&mut self, cx: &mut Cx) {
        self.backoff.fail(cx.now.mono, Duration::ZERO, &mut cx.jitter);
        self.hindrance = Some(Hindrance::NoKey);
        cx.stats.count(Counter::MailWithoutKey);
    }

    /// It may not be there, which shows soon.
    pub fn suspect(&mut self) {
        self.doubted = true;
        self.busy = false;
    }

    /// The recipient has acknowledged what it has of the flight.
    pub(crate) fn note_answer(&mut self, token: Token) {
        let Some(flight) = self.flights.iter().find(|flight| flight.token == token) else { return };
        for (stream, seqs) in self.streams.iter_mut().zip(flight.seqs) {
            seqs.into_iter().for_each(|(first, last)| stream.note_answer(first, last));
        }
    }

    /// The flight went by gossip, in this frame.
    pub(crate) fn note_frame(&mut self, token: Token, frame: (u64, u64)) {
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.token == token) {
            flight.frame = Some(frame);
        }
    }

    /// The flights by gossip that an acknowledgement answers.
    pub(crate) fn answered_by(&self, ack: &Ack) -> Vec<Token> {
        let is_named =
            |(boot, counter): (u64, u64)| boot == ack.boot && ack.counters.binary_search(&counter).is_ok();
        let named = self.flights.iter().filter(|flight| flight.frame.is_some_and(is_named));
        named.map(|flight| flight.token).collect()
    }

    /// Nobody was there to hear the flight: that was no attempt.
    pub(crate) fn undo_send(&mut self, token: Token) {
        let Some(flight) = self.flights.iter().find(|flight| flight.token == token) else { return };
        for (stream, seqs) in self.streams.iter_mut().zip(flight.seqs) {
            seqs.into_iter().for_each(|(first, last)| stream.undo_send(first, last));
        }
    }

    /// The flight was answered or failed: whatever of it is unsettled waits again. Whether anything is.
    pub(crate) fn complete(&mut self, token: Token) -> bool {
        let Some(index) = self.flights.iter().position(|flight| flight.token == token) else { return false };
        let flight = self.flights.remove(index);
        self.outstanding -= flight.bytes;
        let mut unsettled = false;
        for (index, seqs) in flight.seqs.into_iter().enumerate() {
            let Some((first, last)) =
                seqs.filter(|(first, last)| self.streams[index].has_sent(*first, *last))
            else {
                continue;
            };
            unsettled = true;
            self.waiting += self.streams[index].requeue_from(first);
            // What follows is sent again as well, so the flights that carried it no longer count.
            for other in &mut self.flights {
                other.seqs[index] = other.seqs[index].filter(|(_, other_last)| *other_last < first.min(last));
            }
        }
        unsettled
    }

    pub(crate) fn take_out(
        &mut self,
        mails: impl IntoIterator<Item = (QueuedMessage, bool)>,
    ) -> Vec<QueuedMessage> {
        let mut out = Vec::new();
        for (mail, on_wire) in mails {
            let size = mail.draft.size();
            self.bytes -= size;
            self.mails -= 1;
            if !on_wire && mail.kept {
                self.waiting -= size;
            }
            out.push(mail);
        }
        out
    }
}
