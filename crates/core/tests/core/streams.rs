//! Outbox and inbox over a link that loses, repeats and reorders frames, with several processes at
//! both ends and copies of the sender's store, compared with a simple model.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use p2p_node_core::backoff::Jitter;
use p2p_node_core::mail::inbound::digests::Digests;
use p2p_node_core::mail::inbound::inbox::{AckPolicy, Inbox, InsertOutcome, inbox_limits::SENDER_STREAMS};
use p2p_node_core::mail::inbound::receive_window::{DeliverDecision, StreamCheckpoint};
use p2p_node_core::mail::outbound::outbox::{Completed, Outbox, PersistedMessage};
use p2p_node_core::mail::outbound::stream::Renamed;
use p2p_node_core::outgoing::OutgoingMessage;
use p2p_node_protocol::{Priority, Route};
use p2p_node_wire::envelope::{Batch, Encoding, Rejection, SEQUENCE_REUSED, StreamAck};
use p2p_node_wire::message_id::{StreamId, StreamNamespace};
use p2p_node_wire::time::{Instant, Now};
use proptest::prelude::*;
use proptest::sample::Index;

const SENDER: Address = Address::repeat_byte(1);
const RECIPIENT: Address = Address::repeat_byte(2);
const NOW: Instant = Instant::ZERO;

type Name = (StreamId, u64);

/// Mail that says which one it is.
fn draft(priority: Priority, load: u64) -> OutgoingMessage {
    OutgoingMessage {
        data: Bytes::from(load.to_string()),
        encoding: Encoding::Json,
        kind: String::new(),
        priority,
        sent_at_ms: 0,
        expires: Instant::MAX,
        reply_to: String::new(),
        conversation: String::new(),
        route: Route::Auto,
        request_id: None,
    }
}

struct World {
    outbox: Outbox,
    inbox: Inbox,
    jitter: Jitter,
    token: u64,
    frames: Vec<(u64, Batch)>,
    acks: Vec<(Option<u64>, Vec<StreamAck>)>,
    /// What a store would have of the recipient.
    rows: BTreeMap<StreamId, StreamCheckpoint>,
    /// What a store would have of the sender, and what a copy of it had.
    mails: BTreeMap<Name, PersistedMessage>,
    copy: BTreeMap<Name, PersistedMessage>,
    /// What each name stands for, over all processes of the sender, of which there were so many.
    loads: BTreeMap<Name, u64>,
    lives: u8,
    /// The names under which mail was sent besides that with which it was accepted.
    renamed: BTreeMap<Name, Vec<Name>>,
    /// The model: what was accepted and how often it ended, what the parent was told in this
    /// process and ever, and what it took.
    accepted: BTreeMap<Name, usize>,
    told: Vec<Name>,
    ever: BTreeSet<Name>,
    took: BTreeSet<Name>,
    given_up: BTreeSet<Name>,
    /// What the parent has, and nobody waits for: its sender gave it up, or a process of its sender
    /// of which a frame came late.
    void: BTreeSet<Name>,
}

impl World {
    fn new(settling: AckPolicy) -> World {
        World {
            outbox: Outbox::new(StreamNamespace { account: SENDER, database: [0; 16] }),
            inbox: Inbox::new(settling),
            jitter: Jitter::new(1),
            token: 0,
            frames: Vec::new(),
            acks: Vec::new(),
            rows: BTreeMap::new(),
            mails: BTreeMap::new(),
            copy: BTreeMap::new(),
            loads: BTreeMap::new(),
            lives: 0,
            renamed: BTreeMap::new(),
            accepted: BTreeMap::new(),
            told: Vec::new(),
            ever: BTreeSet::new(),
            took: BTreeSet::new(),
            given_up: BTreeSet::new(),
            void: BTreeSet::new(),
        }
    }

    fn accept(&mut self, priority: Priority) {
        let load = self.loads.len() as u64;
        let draft = draft(priority, load);
        let accepted = self.outbox.accept(RECIPIENT, draft.clone(), true, NOW).unwrap();
        let name = (accepted.stream, accepted.seq);
        assert_eq!(self.loads.insert(name, load), None, "a name stands for one thing");
        self.accepted.insert(name, 0);
        let (stream, seq) = name;
        let (recipient, position, expires_at_ms) = (RECIPIENT, load, u64::MAX);
        let mail = PersistedMessage { recipient, stream, seq, sent_as: None, position, expires_at_ms, draft };
        self.mails.insert(name, mail);
    }

    fn send_next_batch(&mut self) {
        if self.outbox.destination(&RECIPIENT).is_some_and(|known| known.next_per_priority().next().is_some())
        {
            self.token += 1;
            let batch = self.outbox.send_next_batch(RECIPIENT, self.token, Route::Direct, NOW).unwrap();
            self.frames.push((self.token, batch));
        }
    }

    /// A frame arrives, and the answer to it is on its way.
    fn deliver(&mut self, (token, batch): (u64, Batch)) {
        let mut streams = BTreeSet::new();
        for message in &batch.messages {
            let stream: StreamId = message.stream.as_ref().try_into().unwrap();
            streams.insert(stream);
            let mut ready = Vec::new();
            let offer = self.inbox.offer(SENDER, message.clone(), NOW, &mut ready);
            for (key, seq) in self.inbox.drain_abandoned() {
                self.void.insert((key.1, seq));
                self.settle(key);
            }
            if offer == InsertOutcome::Reused {
                // Its sender had given it up, and knows nothing of that any more.
                assert!(!self.took.contains(&(stream, message.seq)), "every number stands for one thing");
                let outcome = Rejection { seq: message.seq, code: SEQUENCE_REUSED.to_owned() };
                self.inbox.refuse(&SENDER, &stream, outcome);
            }
            for message in ready {
                let name = (stream, message.seq);
                assert_eq!(message.data, self.loads[&name].to_string(), "that very mail");
                let handing = match self.inbox.settling() {
                    AckPolicy::OnReceipt => DeliverDecision::New { redelivered: false },
                    AckPolicy::OnPersisted | AckPolicy::Manual => {
                        self.inbox.deliver((SENDER, stream), message.seq)
                    }
                };
                let known = handing == DeliverDecision::Duplicate;
                assert_eq!(known, self.took.contains(&name), "what was taken is known, and nothing else is");
                if known {
                    self.settle((SENDER, stream));
                }
                if let DeliverDecision::New { redelivered: again } = handing {
                    assert!(!again || self.inbox.settling() != AckPolicy::OnReceipt);
                    self.told.push(name);
                    self.ever.insert(name);
                }
            }
        }
        let answer = streams.iter().map(|stream| self.ack(stream)).collect();
        self.acks.push((Some(token), answer));
    }

    fn ack(&self, stream: &StreamId) -> StreamAck {
        let (cumulative, beyond) = self.inbox.acked_up_to(&SENDER, stream);
        assert!(beyond.is_sorted_by(|one, other| one < other) && beyond.iter().all(|seq| *seq > cumulative));
        StreamAck {
            stream: Bytes::copy_from_slice(stream),
            cumulative,
            selective: beyond.iter().map(|seq| seq - cumulative).collect(),
            rejections: self.inbox.refusals(&SENDER, stream).cloned().collect(),
            received: self.inbox.received_up_to(&SENDER, stream),
            window: 0,
        }
    }

    /// The parent has done with a message, and the store knows.
    fn take(&mut self, name: Name) {
        let key = (SENDER, name.0);
        if self.inbox.settling() == AckPolicy::OnReceipt || !self.inbox.mark_acked(key, name.1) {
            return;
        }
        self.took.insert(name);
        self.settle(key);
        let ack = self.ack(&name.0);
        self.acks.push((None, vec![ack]));
    }

    /// The store knows how far the parent is.
    fn settle(&mut self, key: (Address, StreamId)) {
        let row = self.inbox.row(key).unwrap();
        self.inbox.settle(&row);
        let digests = &row.digests;
        let restored =
            Digests::restored(digests.latest().collect(), digests.forgotten(), digests.sent_at_ms());
        assert_eq!(restored.as_ref(), Some(digests), "the store can read it");
        self.rows.insert(key.1, row);
    }

    fn hear(&mut self, (token, ack): (Option<u64>, Vec<StreamAck>)) {
        if let Some(token) = token {
            self.outbox.note_answer(token);
        }
        for stream in ack {
            let now = Now { mono: NOW, unix_ms: u64::from(self.lives) };
            for Renamed { accepted_as, sent_as, .. } in
                self.outbox.renumber(&RECIPIENT, &stream, now, &mut self.jitter)
            {
                let load = self.loads[&accepted_as];
                assert_eq!(self.loads.insert(sent_as, load), None, "a name stands for one thing");
                self.renamed.entry(accepted_as).or_default().push(sent_as);
                let row = self.mails.get_mut(&accepted_as).unwrap();
                (row.sent_as, row.position) = (Some(sent_as), self.loads.len() as u64);
            }
            let ended = self.outbox.settle(&RECIPIENT, &stream, NOW);
            self.end(ended, true);
        }
        if let Some(token) = token {
            self.outbox.answered(token, NOW, &mut self.jitter);
        }
    }

    fn end(&mut self, ended: Vec<Completed>, delivered: bool) {
        for ended in ended {
            let name = (ended.stream, ended.seq);
            *self.accepted.get_mut(&name).unwrap() += 1;
            assert_eq!(self.accepted[&name], 1, "it ends once");
            self.mails.remove(&name);
            if delivered {
                let by = if self.inbox.settling() == AckPolicy::OnReceipt { &self.ever } else { &self.took };
                let has = |name: &Name| by.contains(name) || self.void.contains(name);
                let has = has(&name) || self.renamed.get(&name).is_some_and(|names| names.iter().any(has));
                assert!(has, "delivered, and the parent does not have it");
            } else {
                self.given_up.insert(name);
            }
        }
    }

    fn give_up(&mut self, which: &Index) {
        let Some(name) = pick(self.accepted.keys(), which) else { return };
        let recipients = self.outbox.remove_where(|mail| mail.seq == name.1);
        self.end(recipients, false);
    }

    fn restart(&mut self) {
        if self.inbox.settling() == AckPolicy::OnReceipt {
            return;
        }
        self.inbox = Inbox::new(self.inbox.settling());
        self.inbox.restore(self.rows.values().cloned().collect(), NOW);
        self.told.clear();
        // Frames to the old process are lost with it, and the new one is another to whom everything
        // is sent again.
        for (token, _) in std::mem::take(&mut self.frames) {
            self.outbox.failed(token, Duration::ZERO, NOW, &mut self.jitter);
        }
        self.probe();
    }

    /// The sender's process ends, and the next one takes up what is in the store. What is on the
    /// wire may arrive all the same.
    fn restart_sender(&mut self) {
        // The recipient remembers three streams of each.
        if 3 * usize::from(self.lives + 2) > SENDER_STREAMS {
            return;
        }
        self.lives += 1;
        self.outbox = Outbox::new(StreamNamespace { account: SENDER, database: [self.lives; 16] });
        self.outbox.restore(self.mails.values().cloned().collect(), Now { mono: NOW, unix_ms: 0 });
    }

    /// The next process takes up what was in a copy of the store.
    fn go_back(&mut self) {
        if 3 * usize::from(self.lives + 2) > SENDER_STREAMS {
            return;
        }
        self.mails = self.copy.clone();
        for (name, ends) in &mut self.accepted {
            // What was accepted since is lost, and what has ended since ends once more.
            *ends = usize::from(!self.copy.contains_key(name));
            if *ends > 0 {
                self.given_up.insert(*name);
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
                // It arrives, and its sender never hears of that.
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
                    self.hear(ack);
                }
            }
            7 => {
                // An acknowledgement that nobody asked for may be lost, or come again later.
                if let Some(at) = at(self.acks.len()) {
                    match self.acks[at].0 {
                        Some(_) => self.hear((None, self.acks[at].1.clone())),
                        None => drop(self.acks.remove(at)),
                    }
                }
            }
            8 | 9 => {
                if let Some(name) = pick(self.told.iter(), which) {
                    self.take(name);
                }
            }
            10 => self.give_up(which),
            11 => self.probe(),
            12 => self.restart(),
            13 => self.restart_sender(),
            14 => self.copy = self.mails.clone(),
            _ => self.go_back(),
        }
        let told: Vec<_> = self.told.iter().filter(|name| !self.took.contains(name)).collect();
        let mut last = BTreeMap::new();
        for (stream, seq) in told {
            assert!(last.insert(stream, seq).is_none_or(|before| before < seq), "in order, each once");
        }
    }

    /// Everything arrives from now on.
    fn finish(&mut self) {
        for _ in 0..100 {
            self.probe();
            self.send_next_batch();
            while let Some(frame) = (!self.frames.is_empty()).then(|| self.frames.remove(0)) {
                self.deliver(frame);
            }
            for name in self.told.clone() {
                self.take(name);
            }
            while let Some(ack) = (!self.acks.is_empty()).then(|| self.acks.remove(0)) {
                self.hear(ack);
            }
            if self.outbox.is_empty() {
                break;
            }
        }
        assert!(self.outbox.is_empty(), "{} mails never end", self.outbox.len());
        for (name, ends) in &self.accepted {
            assert_eq!(*ends, 1, "{name:?}");
            let told = |name: &Name| self.ever.contains(name);
            let told = told(name) || self.renamed.get(name).is_some_and(|names| names.iter().any(told));
            assert!(told || self.given_up.contains(name), "{name:?} is lost");
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
    fn whatever_the_wire_does_each_mail_is_told_in_its_turn_and_ends_once(
        settling in prop_oneof![Just(AckPolicy::OnReceipt), Just(AckPolicy::OnPersisted), Just(AckPolicy::Manual)],
        steps in prop::collection::vec((0..16_u8, any::<Index>()), 0..120),
    ) {
        let mut world = World::new(settling);
        for (kind, which) in &steps {
            world.step(*kind, which);
        }
        world.finish();
    }
}
