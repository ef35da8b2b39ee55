//! Everything that the core holds, with its bound: for tests, which hold one against the other after every step.

use p2p_node_protocol::MAX_LINE_BYTES;
use p2p_node_wire::{envelope, seal};

use crate::directory::lookups;
use crate::directory::on_record;
use crate::directory::{bindings, record_table};
use crate::gate::{access_list, high_priority_limiter};
use crate::gossip::gossip_budget;
use crate::gossip::{broadcast_queue, pacer};
use crate::local::clock_skew;
use crate::mail::inbound::{deferred_responses, digests, inbox};
use crate::mail::inbound::{pending_acks, unacked};
use crate::mail::outbound::outbox;
use crate::parent::output_queue;
use crate::peers::bootstrap;
use crate::peers::dialer;
use crate::{Core, MAX_INFLIGHT, MAX_INFLIGHT_BYTES, MAX_SUBSCRIPTIONS};

/// One thing that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// What.
    pub name: &'static str,
    /// How many or how much of it there is.
    pub size: usize,
    /// The most that there may be.
    pub limit: usize,
}

/// Lines that must be told beyond those at which stdin is no longer read: how every accepted mail and broadcast ends, the
/// answer of every command, and what one turn may bring.
const MUST_TELL: usize = output_queue::MUST_TELL_LINES
    + outbox::OUTBOX_MAILS
    + broadcast_queue::MAX_TOPICS * broadcast_queue::TOPIC_QUEUE_MESSAGES
    + MAX_INFLIGHT
    + record_table::MAX_AGENTS;

impl Core {
    /// What the core holds now.
    pub fn census(&self) -> Vec<Holding> {
        let [must, mail, topic, news, log] = self.outlet.lines();
        [
            ("commands unanswered", self.pending_ids.len(), MAX_INFLIGHT + 1),
            // In the lane one more than may be there, and as many at the disk.
            ("sends unanswered", self.pending_sends.len(), 2 * MAX_INFLIGHT + 1),
            ("answers unread", self.outlet.unread_others(), 2 * MAX_INFLIGHT + 1),
            ("answers to sends unread", self.outlet.unread_sends(), 2 * MAX_INFLIGHT + 1),
            ("sends that wait", self.lane.len(), MAX_INFLIGHT + 1),
            ("bytes of sends that wait", self.lane.bytes(), MAX_INFLIGHT_BYTES + crate::MAX_DIRECT_BYTES),
            ("commands that wait for ready", self.held.len(), 2 * MAX_INFLIGHT + 1),
            ("bytes that wait for ready", self.held.bytes(), MAX_INFLIGHT_BYTES + MAX_LINE_BYTES),
            ("lines that must be told", must, MUST_TELL),
            ("lines of mail", mail, output_queue::MAIL_LINES),
            ("lines of broadcasts", topic, output_queue::TOPIC_LINES),
            ("lines of news", news, output_queue::NEWS_LINES),
            ("lines of logs", log, output_queue::LOG_LINES),
            ("lines at the writer", self.outlet.at_writer_lines(), output_queue::WRITER_LINES),
            ("agents", self.book.len(), record_table::MAX_AGENTS),
            ("floors", self.book.floors(), record_table::MAX_AGENTS + record_table::MAX_FLOORS),
            (
                "bindings checked",
                self.bindings.len(),
                bindings::MAX_GOOD_BINDINGS + bindings::MAX_BAD_BINDINGS,
            ),
            ("bootstrap peers", self.bootstraps.len(), bootstrap::MAX_BOOTSTRAPS),
            ("lookups that run", self.queries.running(), lookups::MAX_QUERIES),
            ("lookups that wait", self.queries.waiting(), lookups::MAX_WAITING),
            ("peers whose topics are awaited", self.connecting.expected(), dialer::MAX_EXPECTED),
            ("dials that back off", self.connecting.backoffs(), dialer::MAX_BACKOFFS),
            ("discoveries", self.discoveries.len(), MAX_INFLIGHT),
            ("conflicts told", self.conflicts_told.len(), on_record::MAX_CONFLICTS_TOLD),
            ("standings", self.standings.len(), access_list::MAX_STANDINGS),
            (
                "bytes of gossip passed on lately",
                self.recent.bytes(),
                gossip_budget::KEPT_BYTES
                    + gossip_budget::RESERVED_BYTES
                    + pacer::FASTEST as usize * (gossip_budget::KEPT_SECS as usize + 1),
            ),
            ("clocks of neighbours", self.clocks.len(), clock_skew::MAX_CLOCKS),
            ("replay windows", self.replay.len(), envelope::replay::MAX_WINDOWS),
            (
                "keys whose earlier processes are forgotten",
                self.replay.outlived(),
                envelope::replay::MAX_OUTLIVED,
            ),
            ("KEM keys", self.keyring.len(), seal::kem::MAX_KEYS),
            ("sessions", self.sessions.len(), seal::session::MAX_SESSIONS),
            ("frames that are opened", self.opening.len(), on_record::MAX_PARKED),
            ("frames that are sealed", self.sealing.len(), outbox::OUTBOX_MAILS),
            ("things parked", self.parked.number(), on_record::MAX_PARKED),
            ("topics subscribed to", self.subscribed.len(), MAX_SUBSCRIPTIONS),
            (
                "things that are being kept",
                self.keeping.len(),
                outbox::OUTBOX_MAILS + inbox::inbox_limits::MAX_STREAMS,
            ),
            ("mails that are being kept", self.keeping.mails(), MAX_INFLIGHT),
            ("arrivals that are being kept", self.taking.len(), 2 * inbox::inbox_limits::MAX_STREAMS),
            ("mails in the outbox", self.outbox.len(), outbox::OUTBOX_MAILS),
            ("bytes in the outbox", self.outbox.bytes(), outbox::OUTBOX_BYTES + crate::MAX_DIRECT_BYTES),
            (
                "destinations",
                self.outbox.recipients().count(),
                outbox::OUTBOX_MAILS + outbox::MAX_IDLE_DESTINATIONS,
            ),
            ("streams received", self.inbox.len(), inbox::inbox_limits::MAX_STREAMS),
            (
                "mails remembered by their digests",
                self.inbox.digests(),
                inbox::inbox_limits::MAX_STREAMS * digests::REMEMBERED,
            ),
            ("mails that arrived before earlier ones", self.inbox.beyond(), inbox::inbox_limits::ALL_BEYOND),
            ("bytes that wait for earlier mail", self.inbox.held_bytes(), inbox::inbox_limits::HELD_BYTES),
            ("answers that wait", self.held_answers.len(), deferred_responses::MAX_HELD_ANSWERS),
            ("acknowledgements owed", self.acks_owed.len(), pending_acks::MAX_ACKS_OWED),
            ("acknowledgements on the wire", self.acks_owed.on_wire(), pending_acks::MAX_ACKS_ON_WIRE),
            ("mails that wait for an ack", self.taking.untaken.len(), unacked::MAX_UNTAKEN),
            (
                "bytes that wait for an ack",
                self.taking.untaken.bytes(),
                unacked::MAX_UNTAKEN_BYTES + 2 * crate::MAX_DIRECT_BYTES,
            ),
            ("mails that wait to be told", self.taking.untold().0, output_queue::MAIL_LINES),
            (
                "bytes that wait to be told",
                self.taking.untold().1,
                output_queue::MAIL_BYTES + crate::MAX_DIRECT_BYTES,
            ),
            ("authors of high mail", self.urgent.len(), high_priority_limiter::MAX_AUTHORS),
            ("topics with broadcasts", self.topics.len(), broadcast_queue::MAX_TOPICS),
            (
                "broadcasts held",
                self.topics.held(),
                broadcast_queue::MAX_TOPICS * broadcast_queue::TOPIC_QUEUE_MESSAGES,
            ),
        ]
        .into_iter()
        .map(|(name, size, limit)| Holding { name, size, limit })
        .collect()
    }
}
