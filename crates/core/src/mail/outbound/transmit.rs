//! Sends queued messages by the route that reaches their recipient, and reports the messages that
//! failed.

use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, Delivery, DeliveryState, ErrorCode, Level, Priority, Route};
use p2p_node_wire::identity::binding::MAX_SKEW_SECS;
use p2p_node_wire::message_id::StreamNamespace;
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::seal::kem::{KemId, usable_key};
use p2p_node_wire::seal::suite::Suite;
use p2p_node_wire::time::Instant;

use crate::MAX_TOPIC_BYTES;
use crate::backoff::{BackoffPolicy, Spread};
use crate::cx::Cx;
use crate::directory::Directory;
use crate::directory::lookups::MAX_LOOKUPS;
use crate::gossip::Gossip;
use crate::input::{PublishOutcome, Token};
use crate::local::Local;
use crate::local::clock_skew::describe_skew;
use crate::mail::Mail;
use crate::mail::encryption::PendingEncryption;
use crate::mail::outbound::destination::Hindrance;
use crate::mail::outbound::outbox::Completed;
use crate::mail::outbound::route::{Reach, RouteDecision, dial_recipient};
use crate::peers::Peers;
use crate::peers::candidate::Candidate;

/// The text of a `delivery` whose message expired because the record of the recipient has no key.
const NO_KEY: &str = "the recipient's record has no usable encryption key; send the message again later";

/// Time for which the node repeats failed lookups more often, if mail waits for few agents: our
/// choice, longer than the start of 300 nodes on one machine takes.
const STARTING: Duration = Duration::from_secs(30);
/// Pauses between these lookups: our choice.
const PAUSES_WHILE_STARTING: BackoffPolicy = BackoffPolicy {
    start: Duration::from_millis(250),
    cap: Duration::from_millis(500),
    spread: Spread::Around,
    counts_during_pause: false,
};

/// Returns the text of a `delivery` whose message expired because the clock of the recipient and
/// the clock of this machine differ. `ahead_ms` is the recipient's time minus this node's time.
fn clocks_apart(ahead_ms: i64) -> String {
    let (seconds, which) = describe_skew(ahead_ms);
    format!(
        "the clocks of the recipient's machine and of this machine differ by {seconds} s, and this machine is {which}; set the wrong clock: \
         nodes refuse frames that are more than 30 s ahead or 2 minutes old"
    )
}

/// Returns the text of a `delivery` whose message expired because the clock of this machine is
/// wrong. `ahead_ms` is the time of the peers minus this node's time.
fn clock_off(ahead_ms: i64) -> String {
    let (seconds, which) = describe_skew(ahead_ms);
    format!(
        "the clock of this machine seems to be {seconds} s {which}, so this node or the recipient refused a record, an ack or the message; \
         set the clock"
    )
}

impl Mail {
    /// Sends the messages to this agent again at once, because a change may let them get through.
    pub(crate) fn wake(&mut self, recipient: &Address) {
        if let Some(destination) = self.outbox.destination(recipient) {
            destination.awaiting_record = false;
            destination.dialing_until = None;
            destination.paced_until = Instant::ZERO;
            destination.unreachable = false;
            destination.backoff.reset();
            // The recipient's node may be another process, which does not have the received
            // messages.
            destination.probe(|_| true);
            self.recipients_to_flush.insert(*recipient);
        }
        // Messages that went by gossip because no other route was open need not wait for their ack.
        self.outbox.cancel_gossip(recipient);
    }

    /// Sends the messages to this agent if they waited for its record.
    pub(crate) fn on_record_available(&mut self, recipient: &Address) {
        if self.outbox.destination(recipient).is_some_and(|destination| destination.awaiting_record) {
            self.wake(recipient);
        }
    }

    /// Sends the gossip messages to this agent at once, because a peer now receives gossip.
    pub(crate) fn retry_gossip(&mut self, recipient: &Address) {
        if let Some(destination) = self.outbox.destination(recipient)
            && (destination.unreachable
                || destination.next_mail().is_some_and(|(route, _)| route == Route::Gossip))
        {
            destination.backoff.reset();
            self.recipients_to_flush.insert(*recipient);
        }
    }

    /// Updates the destination after the directory stored a record of the recipient. `may_help`
    /// states that messages that failed may now get through.
    pub(crate) fn on_record(&mut self, recipient: &Address, may_help: bool) {
        self.unhinder(recipient);
        if may_help {
            self.wake(recipient);
        }
    }

    /// Retries the gossip messages of all recipients, because a peer subscribed to the topic.
    pub(crate) fn retry_all_gossip(&mut self) {
        let waiting: Vec<_> = self.outbox.recipients().copied().collect();
        waiting.iter().for_each(|recipient| self.retry_gossip(recipient));
    }

    /// Retries the messages to agents without a record. Messages to known agents need no lookup.
    /// Retrying them here would let a peer that reconnects cause retransmissions.
    pub(crate) fn wake_unresolved(&mut self, directory: &Directory, cx: &Cx) {
        let now = cx.now;
        let unknown = |address: &&Address| directory.records.get(address, now.unix_ms).is_none();
        let unresolved: Vec<_> = self.outbox.recipients().filter(unknown).copied().collect();
        for address in unresolved {
            self.wake(&address);
        }
    }

    /// Starts new frame numbers and new streams, because a copy of this process has used the
    /// counters of this node: a peer has seen a counter that this process used once, or the network
    /// carries a frame of this node that this process has not sent. Accepted messages keep their
    /// numbers, because the recipient may have them already. If the recipient knows another message
    /// under a number, it answers `SEQUENCE_REUSED`. Returns the namespace of the new streams, or
    /// `None` if the last renewal is too recent.
    pub(crate) fn renew_streams(&mut self, cx: &mut Cx) -> Option<StreamNamespace> {
        if !cx.frame_numbers.may_renew(cx.now.mono) {
            return None;
        }
        cx.stats.count(Counter::FrameCountersReused);
        let origin = self.outbox.renew(cx.now.unix_ms);
        cx.identity.status_stream = origin.stream(b"status", 0, &[], Priority::Medium);
        cx.frame_numbers.renew(&origin.database);
        let message = "a peer has seen frame numbers that this process has not used: a copy of the process has run, or the machine was set back to a snapshot; the process continues with new numbers";
        cx.log(Level::Warn, "identity", message);
        Some(origin)
    }

    /// Ends the sessions with a peer. The messages in flight to its agent may be lost.
    pub(crate) fn on_peer_disconnected(&mut self, peer: &PeerId, address: Option<Address>) {
        self.sessions.forget(peer);
        if let Some(destination) = address.and_then(|address| self.outbox.destination(&address)) {
            destination.session = None;
            destination.suspect();
        }
    }

    /// Handles a failed dial to the agent's node: lets `auto` messages use gossip, and postpones
    /// messages that only a connection can carry.
    /// A node that does not follow the announcements also looks up the agent: it may have moved.
    pub(crate) fn on_unreachable(&mut self, recipient: Address, directory: &mut Directory, cx: &mut Cx) {
        let now = cx.now;
        let Some(destination) = self.outbox.destination(&recipient) else { return };
        if destination.dialing_until.take().is_some() {
            destination.unreachable = true;
            if destination
                .next_mail()
                .is_some_and(|(route, size)| route == Route::Direct || size > MAX_TOPIC_BYTES)
            {
                destination.backoff.fail(now.mono, Duration::ZERO, &mut cx.jitter);
            }
            self.recipients_to_flush.insert(recipient);
        }
        if directory.is_partial {
            directory.resolve(recipient, cx);
        }
    }

    /// Looks for the node of an agent that appeared on this machine, if messages wait for the agent.
    pub(crate) fn on_agent_sighted(&mut self, recipient: Address, cx: &mut Cx) {
        if self.outbox.destination(&recipient).is_some() {
            cx.find_local_agent(recipient);
        }
    }

    /// Sends or postpones the messages to an agent after the lookup of its record.
    pub(crate) fn on_lookup_ended(&mut self, recipient: &Address, found: bool, cx: &mut Cx) {
        if found {
            self.on_record_available(recipient);
        } else {
            self.on_lookup_failed(recipient, cx);
        }
    }

    /// Postpones the messages to an agent whose record the DHT does not have. While this node starts,
    /// the agent may be starting as well.
    pub(crate) fn on_lookup_failed(&mut self, recipient: &Address, cx: &mut Cx) {
        let now = cx.now;
        let few = self.outbox.recipients().count() <= MAX_LOOKUPS;
        if let Some(destination) = self.outbox.destination(recipient) {
            destination.awaiting_record = false;
            if few && now.mono.since_start() < STARTING {
                destination.backoff.fail_by(&PAUSES_WHILE_STARTING, now.mono, Duration::ZERO, &mut cx.jitter);
            } else {
                destination.backoff.fail(now.mono, Duration::ZERO, &mut cx.jitter);
            }
        }
    }

    /// Reports expired messages and sends every frame that is due.
    pub(crate) fn send_mail_due(
        &mut self,
        local: &Local,
        directory: &mut Directory,
        peers: &mut Peers,
        gossip: &Gossip,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        for ended in self.outbox.expire(now.mono, &mut cx.jitter) {
            self.report_expired(ended, local, directory, cx);
        }
        let mut due = std::mem::take(&mut self.recipients_to_flush);
        due.extend(self.outbox.due(now.mono));
        for recipient in due {
            while self.send_frame(recipient, directory, peers, gossip, cx) {}
        }
    }

    /// Starts a lookup for the record of the recipient. Its messages wait until the lookup ends.
    fn await_record(&mut self, recipient: Address, directory: &mut Directory, cx: &mut Cx) {
        if let Some(destination) = self.outbox.destination(&recipient) {
            destination.awaiting_record = true;
            destination.suspect();
        }
        if !directory.resolve(recipient, cx) {
            self.on_lookup_failed(&recipient, cx);
        }
    }

    /// Sends the next frame to a recipient, if one is due. Returns `true` if it did.
    fn send_frame(
        &mut self,
        recipient: Address,
        directory: &mut Directory,
        peers: &mut Peers,
        gossip: &Gossip,
        cx: &mut Cx,
    ) -> bool {
        let now = cx.now;
        let Some(destination) = self.outbox.destination(&recipient) else { return false };
        if destination.frame_due().is_none_or(|due| due > now.mono) {
            return false;
        }
        let heads: Vec<(Route, usize)> = destination.next_per_priority().collect();
        directory.records.touch(&recipient);
        let Some(record) = directory.records.get(&recipient, now.unix_ms) else {
            self.await_record(recipient, directory, cx);
            return false;
        };
        let (peer, node_key) = (record.peer_id(), record.record.binding.binding.node_key);
        let reach = Reach::of(destination, &peer, peers, now.mono);
        let Some(way) = reach.route(&heads) else { return false };
        if let RouteDecision::Dial(wait) = way {
            dial_recipient(destination, record, wait, peers, cx);
            return false;
        }
        // A message that goes by gossip does not keep another from a connection.
        if reach.needs_dial(&heads) {
            peers.dial_for_mail(Candidate::from(record), cx);
        }
        // The messages have waited for the dial before, so they keep `dialing_until` while gossip
        // is paced.
        if matches!(way, RouteDecision::Gossip) && now.mono < gossip.mail_ready_at() {
            destination.paced_until = gossip.mail_ready_at();
            return false;
        }
        destination.dialing_until = None;
        if matches!(way, RouteDecision::Direct) {
            destination.found(now.mono);
            peers.touch(&peer, cx);
        }
        let Some((kem_id, public_key, suite)) = key_of(record, cx) else {
            destination.lacks_key(cx);
            directory.resolve(recipient, cx);
            return false;
        };
        destination.hindrance.take_if(|hindrance| *hindrance == Hindrance::NoKey);
        let token = cx.token();
        let (route, peer) = match way {
            RouteDecision::Direct => (Route::Direct, Some(peer)),
            RouteDecision::Gossip | RouteDecision::Dial(_) => (Route::Gossip, None),
        };
        let Some(batch) = self.outbox.send_next_batch(recipient, token, route, now.mono) else {
            return false;
        };
        peers.count_frame(peer.as_ref(), &batch, cx);
        let to = PendingEncryption { recipient, peer, node_key, kem_id, suite };
        self.seal_mail(token, to, &public_key, &batch, cx);
        true
    }

    fn report_expired(&mut self, ended: Completed, local: &Local, directory: &Directory, cx: &mut Cx) {
        let now = cx.now;
        // The last obstacle explains more than the expiry does.
        let known = directory.records.get(&ended.recipient, now.unix_ms).is_some();
        let hindrance =
            self.outbox.destination(&ended.recipient).and_then(|destination| destination.hindrance);
        let our_clock =
            local.clock_skew.skew().filter(|ahead_ms| ahead_ms.unsigned_abs() > MAX_SKEW_SECS * 1000);
        let (code, message) = match (hindrance, our_clock) {
            (Some(Hindrance::Clocks { ahead_ms }), _) => (ErrorCode::ClockSkew, Some(clocks_apart(ahead_ms))),
            (None, Some(ahead_ms)) if !known || ended.mail.last_route == Some(Route::Gossip) => {
                (ErrorCode::ClockSkew, Some(clock_off(ahead_ms)))
            }
            _ if !known => (ErrorCode::PeerNotFound, None),
            _ if self.outbox.is_busy(&ended.recipient) => (ErrorCode::PeerBusy, None),
            (Some(Hindrance::NoKey), _) => (ErrorCode::Expired, Some(NO_KEY.to_owned())),
            _ if ended.mail.attempts == 0 => (ErrorCode::PeerUnreachable, None),
            _ => (ErrorCode::Expired, None),
        };
        self.report_failed_because(ended, DeliveryState::Expired, code, message, cx);
    }

    /// Handles the outcome of a publication of a broadcast or of a mail frame.
    pub(crate) fn on_published(
        &mut self,
        token: Token,
        outcome: PublishOutcome,
        gossip: &mut Gossip,
        cx: &mut Cx,
    ) {
        gossip.on_published(token, outcome, cx);
        let now = cx.now;
        if matches!(outcome, PublishOutcome::NoPeers | PublishOutcome::TooLarge)
            && let Some(recipient) = self.outbox.recipient(token)
        {
            self.outbox.undo_batch(token, now.mono, &mut cx.jitter);
            self.recipients_to_flush.insert(recipient);
        }
    }

    /// Reports that an accepted message was not delivered, or possibly not.
    pub(crate) fn report_failed(
        &mut self,
        ended: Completed,
        state: DeliveryState,
        code: ErrorCode,
        cx: &mut Cx,
    ) {
        self.report_failed_because(ended, state, code, None, cx);
    }

    /// Reports a failed message as `report_failed` does. `message` replaces the standard text of
    /// `code`.
    pub(crate) fn report_failed_because(
        &mut self,
        ended: Completed,
        state: DeliveryState,
        code: ErrorCode,
        message: Option<String>,
        cx: &mut Cx,
    ) {
        self.forget_mail(&ended, cx);
        let Completed { message_id, delivered_as, mail, .. } = ended;
        let command = mail.draft.command.clone();
        let mut delivery = Delivery {
            message_id,
            request_id: command.id.clone(),
            state,
            code: Some(code),
            message,
            attempts: mail.attempts,
            route: mail.last_route,
            redelivered: mail.restored,
            delivered_as,
            traceparent: None,
        };
        cx.end_mail_span(&mail.draft, &mut delivery);
        cx.report_delivery(&command, delivery);
    }
}

/// Returns the id and the public key of the KEM key to which a message may be encrypted now, and
/// the suite that suits both nodes.
fn key_of(record: &SignedRecord, cx: &Cx) -> Option<(KemId, Bytes, Suite)> {
    let kem = record.record.kem.as_ref()?;
    let (kem_id, suite) = usable_key(kem, cx.now.unix_ms)?;
    Some((kem_id, kem.public_key.clone(), suite.between(cx.identity.suite)))
}
