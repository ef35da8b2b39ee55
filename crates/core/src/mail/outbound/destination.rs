//! All messages to one recipient that the node has not completed.
//!
//! Group commit: a frame leaves when nothing is in flight to the recipient, when enough bytes are
//! queued, or a moment after the previous frame. So the messages of a burst share signatures.

mod frames;

use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::{Counter, Priority, Route};
use p2p_node_wire::envelope::Batch;
use p2p_node_wire::envelope::limits::MAX_BATCH_MESSAGES;
use p2p_node_wire::identity::NodePublicKey;
use p2p_node_wire::message_id::StreamNamespace;
use p2p_node_wire::seal::session::OutboundSession;
use p2p_node_wire::time::Instant;

use crate::backoff::Backoff;
use crate::budget::Budget;
use crate::capacity::{Wait, capacity_for};
use crate::command_limits::MAX_PAUSE;
use crate::cx::Cx;
use crate::input::Token;
use crate::mail::outbound::lane::{LANES, Lane};
use crate::mail::outbound::outbox::DESTINATION_BYTES;
use crate::mail::outbound::stream::{Position, QueuedMessage, Stream};
use crate::priority_scheduler::PriorityScheduler;

/// Queued bytes at which a frame leaves without waiting for the answer to the previous one. Our
/// choice: most of a gossip frame.
const FRAME_READY_BYTES: usize = 48 << 10;
/// How long a frame waits for more messages after the previous frame left. Our choice.
const FRAME_GAP: Duration = Duration::from_millis(2);
/// Most payload of a direct frame, in bytes; a larger message goes alone. Our choice.
const DIRECT_BATCH_BYTES: usize = 256 << 10;
/// Most payload of a gossip frame, in bytes: its frame stays below the 64 KiB of gossipsub.
const GOSSIP_BATCH_BYTES: usize = 60 << 10;
/// Most unanswered bytes to one destination. Our choice: 5 MB/s at a round trip of 200 ms.
const OUTSTANDING_BYTES: usize = 1 << 20;
/// Bytes completed within [`MAX_PAUSE`] that count as progress. Our choice: 16 KiB a second.
const PROGRESS_BYTES: usize = DESTINATION_BYTES / 64;
/// How long the node waits for an ack of a gossip frame. The frame and the ack may each need IHAVE
/// and IWANT, which take one to three heartbeats of a second.
const GOSSIP_ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// A frame that the node has sent and the recipient has not answered.
#[derive(Debug)]
pub(crate) struct InFlightFrame {
    pub(crate) token: Token,
    /// First and last message of each lane in it; `None` if none, or if it was queued again.
    pub(crate) seqs: [Option<(Position, Position)>; LANES],
    bytes: usize,
    /// When the node considers a gossip frame lost. Gossip reports no failure.
    pub(crate) deadline: Option<Instant>,
    /// Boot id and counter of a gossip frame. An ack names the gossip frames that it answers.
    pub(crate) frame: Option<(u64, u64)>,
    /// The node to which a direct frame went. Only this node can respond to it.
    pub(crate) node_key: Option<NodePublicKey>,
}

/// A session that begins when the recipient has answered its first frame.
#[derive(Debug)]
pub struct PendingSession {
    /// The token of the first frame.
    pub token: Token,
    /// The session, or `None` while the crypto pool encrypts the first frame.
    pub session: Option<OutboundSession>,
}

/// The messages to one recipient, and what the node knows of the way there.
#[derive(Debug)]
pub struct Destination {
    /// In the order of [`Lane::ALL`].
    pub(crate) streams: [Stream; LANES],
    pub(crate) flights: Vec<InFlightFrame>,
    /// Number and size of the messages, in flight or not.
    pub(crate) queued: Budget,
    /// Size of the frames in flight. A sum of bytes, because no limit counts these messages.
    in_flight_bytes: usize,
    /// Size of the messages that may leave and are not in flight, also a sum of bytes.
    pub(crate) waiting: usize,
    last_frame: Option<Instant>,
    /// Until when a `send` may wait for room here. Progress of the recipient extends it.
    pub(crate) stall_deadline: Instant,
    /// `true` if the recipient may be gone.
    suspected: bool,
    /// `true` if it became reachable without progress since. The node waits for it only once.
    found_again: bool,
    progress_bytes: usize,
    pub(crate) earliest_expiry: Instant,
    /// Order of the priorities.
    scheduler: PriorityScheduler,
    /// When the next attempt may follow a failed one.
    pub backoff: Backoff,
    /// Until when the next frame waits: for the gossip pacer, or because the recipient hung up.
    pub paced_until: Instant,
    /// Until when `auto` waits for a dial before it uses gossip. `None` if no dial is under way.
    pub dialing_until: Option<Instant>,
    /// `true` if the last dial failed, so that `auto` uses gossip.
    pub unreachable: bool,
    /// `true` if the last response was that the recipient has no room.
    pub busy: bool,
    /// Number of consecutive responses that the counter of the frame had been used.
    pub replayed: u32,
    /// The session with the recipient's node.
    pub session: Option<OutboundSession>,
    /// The next session, until the recipient answers its first frame.
    pub opening: Option<PendingSession>,
    /// `true` while a lookup for the record of the recipient runs. No frame is due before it ends.
    pub awaiting_record: bool,
    /// The last known obstacle, which the `delivery` of an expired message names.
    pub hindrance: Option<Hindrance>,
}

/// An obstacle that keeps messages from a recipient who may be online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// The clocks differ so much that one node refuses the frames or the record of the other.
    Clocks {
        /// The recipient's time minus this node's time, in ms.
        ahead_ms: i64,
    },
    /// The record of the recipient names no usable KEM key.
    NoKey,
}

impl Destination {
    pub(crate) fn new(origin: &StreamNamespace, incarnation: u64, recipient: &Address) -> Self {
        let stream = |lane: Lane| {
            let id = lane.stream_id(origin, incarnation, recipient.as_slice());
            Stream::new(&origin.account, id, lane)
        };
        Destination {
            streams: Lane::ALL.map(stream),
            flights: Vec::new(),
            queued: Budget::default(),
            in_flight_bytes: 0,
            waiting: 0,
            last_frame: None,
            stall_deadline: Instant::ZERO,
            suspected: false,
            found_again: false,
            progress_bytes: 0,
            earliest_expiry: Instant::MAX,
            scheduler: PriorityScheduler::new(DIRECT_BATCH_BYTES),
            backoff: Backoff::default(),
            paced_until: Instant::ZERO,
            dialing_until: None,
            unreachable: false,
            busy: false,
            replayed: 0,
            session: None,
            opening: None,
            awaiting_record: false,
            hindrance: None,
        }
    }

    /// Returns the requested route and the size of the next message.
    pub fn next_mail(&self) -> Option<(Route, usize)> {
        self.next_per_priority().next()
    }

    /// Returns the same for each lane that has a message, highest priority first.
    pub fn next_per_priority(&self) -> impl Iterator<Item = (Route, usize)> + use<'_> {
        self.streams.iter().filter_map(Stream::unsent).map(|mail| (mail.draft.route, mail.draft.size()))
    }

    /// Returns when the next frame may leave; `None` if nothing is queued or an answer must
    /// precede.
    pub fn frame_due(&self) -> Option<Instant> {
        // The frames after the first one of a session need its keys.
        let begins = self.opening.is_some() && self.session.is_none();
        if self.waiting == 0 || self.in_flight_bytes >= OUTSTANDING_BYTES || self.awaiting_record || begins {
            return None;
        }
        // All queued messages may wait for the ack windows of the recipient's agent.
        self.next_mail()?;
        let gap = match self.last_frame {
            Some(last) if !self.flights.is_empty() && self.waiting < FRAME_READY_BYTES => last + FRAME_GAP,
            _ => Instant::ZERO,
        };
        Some(
            gap.max(self.backoff.not_before())
                .max(self.dialing_until.unwrap_or_default())
                .max(self.paced_until),
        )
    }

    /// Moves the next messages into flight, under `token`, and returns them as a batch.
    pub fn send_next_batch(&mut self, token: Token, route: Route, now: Instant) -> Batch {
        let limit = match route {
            Route::Gossip => GOSSIP_BATCH_BYTES,
            Route::Auto | Route::Direct => DIRECT_BATCH_BYTES,
        };
        let mut flight = InFlightFrame {
            token,
            seqs: [None; LANES],
            bytes: 0,
            deadline: (route == Route::Gossip).then_some(now + GOSSIP_ACK_TIMEOUT),
            frame: None,
            node_key: None,
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
            if let Lane::Of(priority) = Lane::ALL[index] {
                self.scheduler.served(priority, size);
            }
            batch.messages.push(message);
        }
        self.waiting -= flight.bytes;
        self.in_flight_bytes += flight.bytes;
        self.last_frame = Some(now);
        self.flights.push(flight);
        batch
    }

    /// Returns the next stream with a message for `route`, and the size of that message.
    fn pick_stream(&self, route: Route) -> Option<(usize, usize)> {
        let size = |index: usize| {
            let draft = &self.streams[index].unsent()?.draft;
            let fits = match draft.route {
                Route::Auto => true,
                wanted => wanted == route,
            };
            // A gossip frame contains no message that is too large for a gossip frame.
            let fits = fits && (route != Route::Gossip || draft.size() <= GOSSIP_BATCH_BYTES);
            fits.then(|| draft.size())
        };
        let sizes: [Option<usize>; LANES] = std::array::from_fn(size);
        let files = Lane::Files.index();
        // Messages with files are rare, because the next one waits for the file before it. Behind those of high
        // priority they come first, or a busy lane would keep them for ever.
        let index = if sizes[0].is_none() && sizes[files].is_some() {
            files
        } else {
            Lane::Of(self.scheduler.pick(sizes[0], sizes[1], sizes[2])?).index()
        };
        Some((index, sizes[index]?))
    }

    /// Records completed bytes. A recipient that completes a message now and then makes no
    /// progress.
    pub(crate) fn record_progress(&mut self, bytes: usize, now: Instant) {
        self.progress_bytes += bytes;
        if self.progress_bytes >= PROGRESS_BYTES || self.queued.is_empty() {
            self.progress_bytes = 0;
            self.found_again = false;
            self.extend_stall_deadline(now);
        }
    }

    /// Returns until when a `send` may wait for room here; `None` if this priority has room.
    pub(crate) fn wait(&self, priority: Priority) -> Option<Wait> {
        let full = self.queued.bytes() >= capacity_for(DESTINATION_BYTES, priority);
        full.then_some(Wait::Recipient(self.stall_deadline))
    }

    /// Checks that the counters agree with the messages.
    #[cfg(test)]
    pub(crate) fn check_accounts(&self) {
        let (messages, bytes, waiting) = self.streams.iter().map(Stream::accounts).fold(
            (0, 0, 0),
            |(messages, bytes, waiting), (more_mails, more_bytes, more_waiting)| {
                (messages + more_mails, bytes + more_bytes, waiting + more_waiting)
            },
        );
        assert_eq!((self.queued, self.waiting), (Budget::of(messages, bytes), waiting));
        assert_eq!(self.in_flight_bytes, self.flights.iter().map(|flight| flight.bytes).sum::<usize>());
    }

    /// Returns when the next probe of a stream is due.
    pub(crate) fn probe_at(&self) -> Option<Instant> {
        self.streams.iter().filter_map(Stream::probe_at).min()
    }

    /// Queues again what the recipient's node received and did not acknowledge, if a probe is due.
    pub fn probe(&mut self, is_time: impl Fn(Instant) -> bool) {
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let bytes = stream.probe_at().filter(|at| is_time(*at)).and_then(|_| stream.probe());
            let Some(bytes) = bytes else { continue };
            self.waiting += bytes;
            for flight in &mut self.flights {
                flight.seqs[index] = None;
            }
        }
    }

    /// Returns the frames in flight by gossip that contain a message with the route `auto`.
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

    /// Lets a `send` wait for this recipient for another [`MAX_PAUSE`].
    pub(crate) fn extend_stall_deadline(&mut self, now: Instant) {
        self.stall_deadline = self.stall_deadline.max(now + MAX_PAUSE);
    }

    /// Records that the recipient is connected.
    pub fn found(&mut self, now: Instant) {
        if self.suspected && !self.backoff.is_failing() {
            self.suspected = false;
            if !std::mem::replace(&mut self.found_again, true) {
                self.extend_stall_deadline(now);
            }
        }
    }

    /// Postpones the next attempt: the record names no usable key, but the next record may.
    pub(crate) fn lacks_key(&mut self, cx: &mut Cx) {
        self.backoff.fail(cx.now.mono, Duration::ZERO, &mut cx.jitter);
        self.hindrance = Some(Hindrance::NoKey);
        cx.stats.count(Counter::MailWithoutKey);
    }

    /// Marks the recipient as possibly gone. The next attempt shows if it is.
    pub fn suspect(&mut self) {
        self.suspected = true;
        self.busy = false;
    }

    /// Records that the recipient has answered this frame.
    pub(crate) fn record_response(&mut self, token: Token) {
        let Some(flight) = self.flights.iter().find(|flight| flight.token == token) else { return };
        for (stream, seqs) in self.streams.iter_mut().zip(flight.seqs) {
            seqs.into_iter().for_each(|(first, last)| stream.record_response(first, last));
        }
    }

    /// Undoes the attempt to send this frame, because no peer received it.
    pub(crate) fn undo_send(&mut self, token: Token) {
        let Some(flight) = self.flights.iter().find(|flight| flight.token == token) else { return };
        for (stream, seqs) in self.streams.iter_mut().zip(flight.seqs) {
            seqs.into_iter().for_each(|(first, last)| stream.undo_send(first, last));
        }
    }

    /// Removes a frame, queues its uncompleted messages again, and returns `true` if there are any.
    pub(crate) fn complete(&mut self, token: Token) -> bool {
        let Some(index) = self.flights.iter().position(|flight| flight.token == token) else { return false };
        let flight = self.flights.remove(index);
        self.in_flight_bytes -= flight.bytes;
        let mut unsettled = false;
        for (index, seqs) in flight.seqs.into_iter().enumerate() {
            let Some((first, last)) =
                seqs.filter(|(first, last)| self.streams[index].has_sent(*first, *last))
            else {
                continue;
            };
            unsettled = true;
            self.waiting += self.streams[index].requeue_from(first);
            // The later messages of the stream are sent again too, so their frames no longer count.
            for other in &mut self.flights {
                other.seqs[index] = other.seqs[index].filter(|(_, other_last)| *other_last < first.min(last));
            }
        }
        unsettled
    }

    pub(crate) fn remove_completed(
        &mut self,
        messages: impl IntoIterator<Item = (QueuedMessage, bool)>,
    ) -> Vec<QueuedMessage> {
        let mut out = Vec::new();
        for (mail, in_flight) in messages {
            let size = mail.draft.size();
            self.queued.remove(size);
            if !in_flight && mail.persisted {
                self.waiting -= size;
            }
            out.push(mail);
        }
        out
    }
}
