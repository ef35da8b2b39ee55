//! Outbox and inbox over a faulty link, with restarts and copies of the store, compared with a model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use p2p_node_core::backoff::Jitter;
use p2p_node_core::mail::inbound::digests::Digests;
use p2p_node_core::mail::inbound::inbox::{AckPolicy, Inbox, InsertOutcome, inbox_limits::SENDER_STREAMS};
use p2p_node_core::mail::inbound::receive_window::{DeliverDecision, StreamCheckpoint};
use p2p_node_core::mail::outbound::outbox::{Completed, Outbox, PersistedMessage};
use p2p_node_core::outgoing::OutgoingMessage;
use p2p_node_protocol::{Priority, Route};
use p2p_node_wire::envelope::{Batch, Encoding, Rejection, SEQUENCE_REUSED, StreamAck};
use p2p_node_wire::message_id::{StreamId, StreamNamespace};
use p2p_node_wire::time::{Instant, Now};
use proptest::{prelude::*, sample::Index};

const SENDER: Address = Address::repeat_byte(1);
const RECIPIENT: Address = Address::repeat_byte(2);
const NOW: Instant = Instant::ZERO;
type Name = (StreamId, u64);

fn outgoing(priority: Priority, payload: u64) -> OutgoingMessage {
    OutgoingMessage {
        data: Bytes::from(payload.to_string()),
        encoding: Encoding::Json,
        kind: String::new(),
        priority,
        sent_at_ms: 0,
        asked_at: None,
        expires: Instant::MAX,
        reply_to: String::new(),
        conversation: String::new(),
        hops: 0,
        trace: None,
        call: None,
        file: None,
        route: Route::Auto,
        command: p2p_node_core::replies::reply_to::ReplyTo::PARENT,
    }
}

struct World {
    outbox: Outbox,
    inbox: Inbox,
    jitter: Jitter,
    token: u64,
    frames: Vec<(u64, Batch)>,
    acks: Vec<(Option<u64>, Vec<StreamAck>)>,
    /// The recipient's persisted checkpoints.
    rows: BTreeMap<StreamId, StreamCheckpoint>,
    /// The sender's persisted messages, and a copy of them from an earlier time.
    stored: BTreeMap<Name, PersistedMessage>,
    copy: BTreeMap<Name, PersistedMessage>,
    /// The payload of each name in all processes of the sender, and the number of its restarts.
    payloads: BTreeMap<Name, u64>,
    restarts: u8,
    /// Further names of renumbered messages, by the name under which they were accepted.
    renamed: BTreeMap<Name, Vec<Name>>,
    /// The model: how often each accepted message completed; messages delivered by this process;
    /// and messages that the parent received from any process, and acked.
    accepted: BTreeMap<Name, usize>,
    delivered: Vec<Name>,
    received: BTreeSet<Name>,
    acked: BTreeSet<Name>,
    cancelled: BTreeSet<Name>,
    /// Messages that the recipient counts as abandoned by their sender.
    abandoned: BTreeSet<Name>,
}

impl World {
    fn new(policy: AckPolicy) -> World {
        World {
            outbox: Outbox::new(StreamNamespace { account: SENDER, database: [0; 16] }),
            inbox: Inbox::new(policy),
            jitter: Jitter::new(1),
            token: 0,
            frames: Vec::new(),
            acks: Vec::new(),
            rows: BTreeMap::new(),
            stored: BTreeMap::new(),
            copy: BTreeMap::new(),
            payloads: BTreeMap::new(),
            restarts: 0,
            renamed: BTreeMap::new(),
            accepted: BTreeMap::new(),
            delivered: Vec::new(),
            received: BTreeSet::new(),
            acked: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            abandoned: BTreeSet::new(),
        }
    }

    fn accept(&mut self, priority: Priority) {
        let payload = self.payloads.len() as u64;
        let draft = outgoing(priority, payload);
        let accepted = self.outbox.accept(RECIPIENT, draft.clone(), true, NOW).unwrap();
        let name = (accepted.stream, accepted.seq);
        assert_eq!(self.payloads.insert(name, payload), None, "a name stands for one payload");
        self.accepted.insert(name, 0);
        let ((stream, seq), recipient, position, expires_at_ms) = (name, RECIPIENT, payload, u64::MAX);
        let row = PersistedMessage { recipient, stream, seq, sent_as: None, position, expires_at_ms, draft };
        self.stored.insert(name, row);
    }

    fn send_next_batch(&mut self) {
        if self.outbox.destination(&RECIPIENT).is_some_and(|known| known.next_per_priority().next().is_some())
        {
            self.token += 1;
            let batch = self.outbox.send_next_batch(RECIPIENT, self.token, Route::Direct, NOW).unwrap();
            self.frames.push((self.token, batch));
        }
    }

    /// Delivers a frame and queues the response to it.
    fn deliver(&mut self, (token, batch): (u64, Batch)) {
        let mut streams = BTreeSet::new();
        for message in &batch.messages {
            let stream: StreamId = message.stream.as_ref().try_into().unwrap();
            streams.insert(stream);
            let mut ready = Vec::new();
            let outcome = self.inbox.insert(SENDER, message.clone(), NOW, &mut ready);
            for (key, seq) in self.inbox.drain_abandoned() {
                self.abandoned.insert((key.1, seq));
                self.persist_checkpoint(key);
            }
            if outcome == InsertOutcome::Reused {
                // The sender cancelled the earlier message of this number and lost its state since.
                assert!(!self.acked.contains(&(stream, message.seq)), "an acked number is reused");
                let rejection = Rejection { seq: message.seq, code: SEQUENCE_REUSED.to_owned() };
                self.inbox.refuse(&SENDER, &stream, rejection);
            }
            for message in ready {
                let name = (stream, message.seq);
                assert_eq!(message.data, self.payloads[&name].to_string(), "the payload of its name");
                let decision = match self.inbox.ack_policy() {
                    AckPolicy::OnReceipt => DeliverDecision::New { redelivered: false },
                    AckPolicy::OnPersisted | AckPolicy::Manual => {
                        self.inbox.deliver((SENDER, stream), message.seq)
                    }
                };
                let known = decision == DeliverDecision::Duplicate;
                assert_eq!(known, self.acked.contains(&name), "exactly the acked messages are known");
                if known {
                    self.persist_checkpoint((SENDER, stream));
                }
                if let DeliverDecision::New { redelivered } = decision {
                    assert!(!redelivered || self.inbox.ack_policy() != AckPolicy::OnReceipt);
                    self.delivered.push(name);
                    self.received.insert(name);
                }
            }
        }
        let response = streams.iter().map(|stream| self.ack(stream)).collect();
        self.acks.push((Some(token), response));
    }

    fn ack(&self, stream: &StreamId) -> StreamAck {
        let (cumulative, selective) = self.inbox.acked_up_to(&SENDER, stream);
        assert!([&[cumulative], selective].concat().is_sorted_by(|one, other| one < other));
        StreamAck {
            stream: Bytes::copy_from_slice(stream),
            cumulative,
            selective: selective.iter().map(|seq| seq - cumulative).collect(),
            rejections: self.inbox.refusals(&SENDER, stream).cloned().collect(),
            received: self.inbox.received_up_to(&SENDER, stream),
            window: 0,
        }
    }

    /// Acks a message by the parent and persists that.
    fn ack_message(&mut self, name: Name) {
        let key = (SENDER, name.0);
        if self.inbox.ack_policy() == AckPolicy::OnReceipt || !self.inbox.mark_acked(key, name.1) {
            return;
        }
        self.acked.insert(name);
        self.persist_checkpoint(key);
        let ack = self.ack(&name.0);
        self.acks.push((None, vec![ack]));
    }

    /// Persists the checkpoint of a stream.
    fn persist_checkpoint(&mut self, key: (Address, StreamId)) {
        let row = self.inbox.row(key).unwrap();
        self.inbox.commit(&row);
        let digests = &row.digests;
        let restored =
            Digests::restored(digests.latest().collect(), digests.forgotten(), digests.sent_at_ms());
        assert_eq!(restored.as_ref(), Some(digests), "the store can decode the digests");
        self.rows.insert(key.1, row);
    }

    fn on_response(&mut self, (token, ack): (Option<u64>, Vec<StreamAck>)) {
        if let Some(token) = token {
            self.outbox.record_response(token);
        }
        for stream in ack {
            let now = Now { mono: NOW, unix_ms: u64::from(self.restarts) };
            for p2p_node_core::mail::outbound::stream::Renamed { accepted_as, sent_as, .. } in
                self.outbox.renumber(&RECIPIENT, &stream, now, &mut self.jitter)
            {
                let payload = self.payloads[&accepted_as];
                assert_eq!(self.payloads.insert(sent_as, payload), None, "a name stands for one payload");
                self.renamed.entry(accepted_as).or_default().push(sent_as);
                let row = self.stored.get_mut(&accepted_as).unwrap();
                (row.sent_as, row.position) = (Some(sent_as), self.payloads.len() as u64);
            }
            let completed = self.outbox.apply_ack(&RECIPIENT, &stream, NOW);
            self.complete(completed, true);
        }
        if let Some(token) = token {
            self.outbox.answered(token, NOW, &mut self.jitter);
        }
    }

    fn complete(&mut self, completed: Vec<Completed>, delivered: bool) {
        for message in completed {
            let name = (message.stream, message.seq);
            *self.accepted.get_mut(&name).unwrap() += 1;
            assert_eq!(self.accepted[&name], 1, "a message completes once");
            self.stored.remove(&name);
            if delivered {
                let on_receipt = self.inbox.ack_policy() == AckPolicy::OnReceipt;
                let by = if on_receipt { &self.received } else { &self.acked };
                let has = |name: &Name| by.contains(name) || self.abandoned.contains(name);
                let has = has(&name) || self.renamed.get(&name).is_some_and(|names| names.iter().any(has));
                assert!(has, "reported as delivered without delivery to the parent");
            } else {
                self.cancelled.insert(name);
            }
        }
    }

    fn cancel(&mut self, which: &Index) {
        let Some(name) = pick(self.accepted.keys(), which) else { return };
        let removed = self.outbox.remove_where(|message| message.seq == name.1);
        self.complete(removed, false);
    }

    fn restart(&mut self) {
        if self.inbox.ack_policy() == AckPolicy::OnReceipt {
            return;
        }
        self.inbox = Inbox::new(self.inbox.ack_policy());
        self.inbox.restore(self.rows.values().cloned().collect(), NOW);
        self.delivered.clear();
        // Frames to the old process are lost. The sender sends everything again to the new one.
        for (token, _) in std::mem::take(&mut self.frames) {
            self.outbox.failed(token, Duration::ZERO, NOW, &mut self.jitter);
        }
        self.probe();
    }

    /// Restarts the sender from its store. Frames in flight may still arrive.
    fn restart_sender(&mut self) {
        // Each process uses three streams, and the recipient tracks a limited number.
        if 3 * usize::from(self.restarts + 2) > SENDER_STREAMS {
            return;
        }
        self.restarts += 1;
        self.outbox = Outbox::new(StreamNamespace { account: SENDER, database: [self.restarts; 16] });
        self.outbox.restore(self.stored.values().cloned().collect(), Now { mono: NOW, unix_ms: 0 });
    }

    /// Restarts the sender from a copy of its store.
    fn restore_copy(&mut self) {
        if 3 * usize::from(self.restarts + 2) > SENDER_STREAMS {
            return;
        }
        self.stored = self.copy.clone();
        for (name, completions) in &mut self.accepted {
            // Messages accepted since are lost. Messages completed since complete once more.
            *completions = usize::from(!self.copy.contains_key(name));
            if *completions > 0 {
                self.cancelled.insert(*name);
            }
        }
        self.restart_sender();
    }

    fn probe(&mut self) {
        if let Some(destination) = self.outbox.destination(&RECIPIENT) {
            destination.probe(|_| true);
        }
    }

    fn step(&mut self, kind: u8, which: &Index) {
        let at = |length: usize| (length > 0).then(|| which.index(length));
        match kind {
            0 | 1 => self.accept([Priority::Low, Priority::Medium, Priority::High][which.index(3)]),
            2 => self.send_next_batch(),
            3 => {
                if let Some(at) = at(self.frames.len()) {
                    let frame = self.frames.remove(at);
                    self.deliver(frame);
                }
            }
            4 => {
                // The frame arrives, and its response is lost.
                if let Some(at) = at(self.frames.len()) {
                    let (token, batch) = self.frames.remove(at);
                    self.deliver((token, batch));
                    self.acks.pop();
                    self.outbox.failed(token, Duration::ZERO, NOW, &mut self.jitter);
                }
            }
            5 => {
                if let Some(at) = at(self.frames.len()) {
                    let (token, _) = self.frames.remove(at);
                    self.outbox.failed(token, Duration::ZERO, NOW, &mut self.jitter);
                }
            }
            6 => {
                if let Some(at) = at(self.acks.len()) {
                    let ack = self.acks.remove(at);
                    self.on_response(ack);
                }
            }
            7 => {
                // An ack without a request may be lost; a response may arrive twice.
                if let Some(at) = at(self.acks.len()) {
                    match self.acks[at].0 {
                        Some(_) => self.on_response((None, self.acks[at].1.clone())),
                        None => drop(self.acks.remove(at)),
                    }
                }
            }
            8 | 9 => {
                if let Some(name) = pick(self.delivered.iter(), which) {
                    self.ack_message(name);
                }
            }
            10 => self.cancel(which),
            11 => self.probe(),
            12 => self.restart(),
            13 => self.restart_sender(),
            14 => self.copy = self.stored.clone(),
            _ => self.restore_copy(),
        }
        self.check_order();
    }

    fn check_order(&self) {
        let mut last = BTreeMap::new();
        for (stream, seq) in self.delivered.iter().filter(|name| !self.acked.contains(name)) {
            assert!(last.insert(stream, seq).is_none_or(|before| before < seq), "in order, each once");
        }
    }

    /// Delivers everything without faults until the outbox is empty.
    fn finish(&mut self) {
        for _ in 0..100 {
            self.probe();
            self.send_next_batch();
            while let Some(frame) = (!self.frames.is_empty()).then(|| self.frames.remove(0)) {
                self.deliver(frame);
            }
            for name in self.delivered.clone() {
                self.ack_message(name);
            }
            while let Some(ack) = (!self.acks.is_empty()).then(|| self.acks.remove(0)) {
                self.on_response(ack);
            }
            if self.outbox.is_empty() {
                break;
            }
        }
        assert!(self.outbox.is_empty(), "{} messages never complete", self.outbox.len());
        for (name, completions) in &self.accepted {
            assert_eq!(*completions, 1, "{name:?}");
            let has = |name: &Name| self.received.contains(name);
            let has = has(name) || self.renamed.get(name).is_some_and(|names| names.iter().any(has));
            assert!(has || self.cancelled.contains(name), "{name:?} is lost");
        }
    }
}

fn pick<'a>(mut names: impl ExactSizeIterator<Item = &'a Name>, which: &Index) -> Option<Name> {
    let at = (names.len() > 0).then(|| which.index(names.len()))?;
    names.nth(at).copied()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2 * ProptestConfig::default().cases, ..ProptestConfig::default() })]
    #[test]
    fn messages_over_faulty_link_are_delivered_in_order_and_complete_once(
        policy in prop_oneof![Just(AckPolicy::OnReceipt), Just(AckPolicy::OnPersisted), Just(AckPolicy::Manual)],
        steps in prop::collection::vec((0..16_u8, any::<Index>()), 0..120),
    ) {
        let mut world = World::new(policy);
        for (kind, which) in &steps {
            world.step(*kind, which);
        }
        world.finish();
    }
}
