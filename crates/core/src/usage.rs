//! The size of every collection in the core with its limit. Tests compare the two after every step.

use p2p_node_protocol::MAX_LINE_BYTES;
use p2p_node_wire::{envelope, seal};

use crate::directory::lookups;
use crate::directory::on_record;
use crate::directory::{bindings, record_table};
use crate::gate::{access_list, high_priority_limiter, pending_verification};
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

/// The size of one collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Name of the collection.
    pub name: &'static str,
    /// Current size, in items or bytes.
    pub size: usize,
    /// Largest permitted size.
    pub limit: usize,
}

/// Largest number of required lines beyond those at which the node stops reading stdin: the
/// completion of every accepted message and broadcast, the reply to every command, and the lines of
/// one turn.
const MUST_TELL: usize = output_queue::MUST_TELL_LINES
    + outbox::OUTBOX_MAILS
    + broadcast_queue::MAX_TOPICS * broadcast_queue::TOPIC_QUEUE_MESSAGES
    + MAX_INFLIGHT
    + record_table::MAX_AGENTS;

impl Core {
    /// Returns the current sizes of all collections.
    pub fn usage(&self) -> Vec<Usage> {
        let [must, mail, topic, news, log] = self.cx.replies.output.lines();
        [
            ("commands unanswered", self.cx.replies.open_requests.len(), MAX_INFLIGHT + 1),
            // The lane may hold one send above its limit, and as many sends may wait for the disk.
            ("sends unanswered", self.cx.replies.open_sends.len(), 2 * MAX_INFLIGHT + 1),
            ("answers unread", self.cx.replies.output.unread_others(), 2 * MAX_INFLIGHT + 1),
            ("answers to sends unread", self.cx.replies.output.unread_sends(), 2 * MAX_INFLIGHT + 1),
            ("sends that wait", self.parent.send_lane.len(), MAX_INFLIGHT + 1),
            (
                "bytes of sends that wait",
                self.parent.send_lane.bytes(),
                MAX_INFLIGHT_BYTES + crate::MAX_DIRECT_BYTES,
            ),
            ("commands that wait for ready", self.parent.deferred.len(), 2 * MAX_INFLIGHT + 1),
            ("bytes that wait for ready", self.parent.deferred.bytes(), MAX_INFLIGHT_BYTES + MAX_LINE_BYTES),
            ("lines that must be told", must, MUST_TELL),
            ("lines of mail", mail, output_queue::MAIL_LINES),
            ("lines of broadcasts", topic, output_queue::TOPIC_LINES),
            ("lines of news", news, output_queue::NEWS_LINES),
            ("lines of logs", log, output_queue::LOG_LINES),
            ("lines at the writer", self.cx.replies.output.at_writer_lines(), output_queue::WRITER_LINES),
            ("agents", self.directory.records.len(), record_table::MAX_AGENTS),
            ("floors", self.directory.records.floors(), record_table::MAX_AGENTS + record_table::MAX_FLOORS),
            (
                "bindings checked",
                self.gate.binding_cache.len(),
                bindings::MAX_GOOD_BINDINGS + bindings::MAX_BAD_BINDINGS,
            ),
            ("bootstrap peers", self.peers.bootstrap.len(), bootstrap::MAX_BOOTSTRAPS),
            ("lookups that run", self.directory.lookups.running(), lookups::MAX_QUERIES),
            ("lookups that wait", self.directory.lookups.waiting(), lookups::MAX_WAITING),
            ("peers whose topics are awaited", self.peers.dialer.expected(), dialer::MAX_EXPECTED),
            ("dials that back off", self.peers.dialer.backoffs(), dialer::MAX_BACKOFFS),
            ("discoveries", self.parent.discoveries.len(), MAX_INFLIGHT),
            ("conflicts told", self.directory.reported_conflicts.len(), on_record::MAX_CONFLICTS_TOLD),
            ("standings", self.gate.access_list.len(), access_list::MAX_STANDINGS),
            (
                "bytes of gossip passed on lately",
                self.gossip.budget.bytes(),
                gossip_budget::KEPT_BYTES
                    + gossip_budget::RESERVED_BYTES
                    + pacer::FASTEST as usize * (gossip_budget::KEPT_SECS as usize + 1),
            ),
            ("clocks of neighbours", self.local.clock_skew.len(), clock_skew::MAX_CLOCKS),
            ("replay windows", self.gate.replay.len(), envelope::replay::MAX_WINDOWS),
            (
                "keys whose earlier processes are forgotten",
                self.gate.replay.outlived(),
                envelope::replay::MAX_OUTLIVED,
            ),
            ("KEM keys", self.local.keyring.len(), seal::kem::MAX_KEYS),
            ("sessions", self.mail.sessions.len(), seal::session::MAX_SESSIONS),
            ("frames that are opened", self.mail.pending_decryptions.len(), pending_verification::MAX_PARKED),
            ("frames that are sealed", self.mail.pending_encryptions.len(), outbox::OUTBOX_MAILS),
            ("things parked", self.gate.pending_verification.number(), pending_verification::MAX_PARKED),
            ("topics subscribed to", self.gossip.subscribed.len(), MAX_SUBSCRIPTIONS),
            (
                "things that are being kept",
                self.mail.pending_writes.len(),
                outbox::OUTBOX_MAILS + inbox::inbox_limits::MAX_STREAMS,
            ),
            ("mails that are being kept", self.mail.pending_writes.mails(), MAX_INFLIGHT),
            ("arrivals that are being kept", self.mail.delivery.len(), 2 * inbox::inbox_limits::MAX_STREAMS),
            ("mails in the outbox", self.mail.outbox.len(), outbox::OUTBOX_MAILS),
            ("bytes in the outbox", self.mail.outbox.bytes(), outbox::OUTBOX_BYTES + crate::MAX_DIRECT_BYTES),
            (
                "destinations",
                self.mail.outbox.recipients().count(),
                outbox::OUTBOX_MAILS + outbox::MAX_IDLE_DESTINATIONS,
            ),
            ("streams received", self.mail.inbox.len(), inbox::inbox_limits::MAX_STREAMS),
            (
                "mails remembered by their digests",
                self.mail.inbox.digests(),
                inbox::inbox_limits::MAX_STREAMS * digests::REMEMBERED,
            ),
            (
                "mails that arrived before earlier ones",
                self.mail.inbox.beyond(),
                inbox::inbox_limits::ALL_BEYOND,
            ),
            (
                "bytes that wait for earlier mail",
                self.mail.inbox.held_bytes(),
                inbox::inbox_limits::HELD_BYTES,
            ),
            ("answers that wait", self.mail.deferred_responses.len(), deferred_responses::MAX_HELD_ANSWERS),
            ("acknowledgements owed", self.mail.pending_acks.len(), pending_acks::MAX_ACKS_OWED),
            (
                "acknowledgements on the wire",
                self.mail.pending_acks.on_wire(),
                pending_acks::MAX_ACKS_ON_WIRE,
            ),
            ("mails that wait for an ack", self.mail.delivery.untaken.len(), unacked::MAX_UNTAKEN),
            (
                "bytes that wait for an ack",
                self.mail.delivery.untaken.bytes(),
                unacked::MAX_UNTAKEN_BYTES + 2 * crate::MAX_DIRECT_BYTES,
            ),
            ("mails that wait to be told", self.mail.delivery.untold().0, output_queue::MAIL_LINES),
            (
                "bytes that wait to be told",
                self.mail.delivery.untold().1,
                output_queue::MAIL_BYTES + crate::MAX_DIRECT_BYTES,
            ),
            (
                "authors of high mail",
                self.gate.high_priority_limiter.len(),
                high_priority_limiter::MAX_AUTHORS,
            ),
            ("topics with broadcasts", self.gossip.broadcasts.len(), broadcast_queue::MAX_TOPICS),
            (
                "broadcasts held",
                self.gossip.broadcasts.held(),
                broadcast_queue::MAX_TOPICS * broadcast_queue::TOPIC_QUEUE_MESSAGES,
            ),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
        .collect()
    }
}
