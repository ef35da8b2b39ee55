//! Acceptance of records and bindings: the same checks for every source.

use crate::gate::pending_verification::GossipMessage;
use crate::gate::pending_verification::MailRequest;
use crate::gate::pending_verification::OfferedRecord;
use crate::gate::pending_verification::Pending;
use crate::gate::pending_verification::RecordSource;
use crate::signal::Signal;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, ErrorCode, ErrorEvent, Level, Role};

use crate::Core;
use crate::crypto_task::CryptoTask;
use crate::directory::lookups::{Lookup, Wanted};
use crate::directory::record_refusal::{no_record, refusal_counter, verdict_on};
use crate::directory::record_table::Order;
use crate::directory::rollback_guard::HighestSeen;
use crate::effect::{Effect, ExitCode, NetworkCommand, Verdict};
use crate::gate::pending_verification::BUSY_MS;
use crate::input::Token;
use p2p_node_wire::envelope::{Busy, Response};
use p2p_node_wire::identity::binding::MAX_SKEW_SECS;
use p2p_node_wire::identity::{BindingHash, SignedBinding};
use p2p_node_wire::record::{SignedRecord, kad_key};

/// Largest number of agents whose conflicting records the node reports: our choice.
pub(crate) const MAX_CONFLICTS_TOLD: usize = 64;
impl Core {
    /// Checks a record and, if it is valid, stores it in the directory. The checks go from cheap to
    /// expensive: decoding, source, order, the rules of [`SignedRecord::check`], binding signature.
    pub(crate) fn on_record(&mut self, offered: OfferedRecord) {
        let source = offered.source;
        let outcome = self.judge_record(offered);
        if let (RecordSource::Announcement(token), Some(verdict)) = (source, outcome) {
            self.cx.network(NetworkCommand::Judge { token, verdict });
        }
    }

    /// Returns the verdict, or `None` if the record waits for the crypto pool.
    fn judge_record(&mut self, offered: OfferedRecord) -> Option<Verdict> {
        let now = self.cx.now;
        let (source, asked) = (offered.source, offered.expected_address);
        let signed = match SignedRecord::decode(offered.bytes.clone()) {
            Ok(signed) => signed,
            Err(error) => return Some(self.refuse_record(no_record(&error), verdict_on(&error))),
        };
        if let RecordSource::Hello(peer) = source
            && signed.peer_id() != peer
        {
            return Some(self.refuse_record(Counter::RecordsOfOthers, Verdict::Reject));
        }
        if self.local.record.is_ours(&signed) {
            // Our own current record, read back from the DHT, proves that the servers have it.
            let current = self.local.record.current().is_some_and(|current| current.hash == signed.hash);
            if current && matches!(source, RecordSource::Answer) {
                self.directory.lookups.found(&self.cx.identity.address);
                self.local.record.put_succeeded();
            }
            return Some(Verdict::Ignore);
        }
        let order = self.directory.records.compare(&signed, now.unix_ms);
        match order {
            // The node has verified this record before, perhaps from another source. Peers behind
            // us may not have it yet, so gossipsub should forward it.
            Order::Same if signed.record.expires_at_ms > now.unix_ms => {
                if let RecordSource::Offer = source {
                    // The owner offers the record again because it was not found here.
                    self.keep_for_others(&signed);
                }
                return Some(Verdict::Accept);
            }
            Order::Same => return Some(Verdict::Ignore),
            Order::Stale => return Some(self.refuse_record(Counter::RecordsStale, Verdict::Ignore)),
            Order::New | Order::Newer | Order::Conflict => {}
        }
        if let Err(error) = signed.check(&self.cx.identity.network, asked, now.unix_ms) {
            if signed.is_sound_but_early(&self.cx.identity.network, asked, now.unix_ms) {
                // If the record is authentic, messages that wait for this agent fail with the clock
                // difference as the reason.
                let genuine = self.mail.outbox.has_mail_for(&signed.address())
                    && self.check_binding(&signed.record.binding, || Pending::Record(offered))?;
                self.cx.signal(Signal::RecordFromFuture { record: Box::new(signed), genuine });
            }
            return Some(self.refuse_record(refusal_counter(&error), verdict_on(&error)));
        }
        match self.check_binding(&signed.record.binding, || Pending::Record(offered)) {
            None => return None,
            Some(false) => return Some(self.refuse_record(Counter::RecordsUnbound, Verdict::Reject)),
            Some(true) => {}
        }
        if signed.address() == self.cx.identity.address {
            return Some(self.on_own_record(&signed));
        }
        if order == Order::Conflict {
            self.cx.stats.count(Counter::RecordsConflicting);
            let address = signed.address();
            // The holder of a key can produce conflicting records without end, so the node reports
            // each agent once. Neither the agent's users nor the parent can act on it, so it is not
            // an error.
            if self.directory.reported_conflicts.len() < MAX_CONFLICTS_TOLD
                && self.directory.reported_conflicts.insert(address)
            {
                let message =
                    format!("agent {address} signed two records of the same order: the node keeps the first");
                self.cx.log(Level::Info, "directory", message);
            }
            return Some(Verdict::Ignore);
        }
        self.store_record(signed);
        Some(Verdict::Accept)
    }

    fn refuse_record(&mut self, counter: Counter, verdict: Verdict) -> Verdict {
        self.cx.stats.count(counter);
        verdict
    }

    fn store_record(&mut self, signed: SignedRecord) {
        let now = self.cx.now;
        let address = signed.address();
        self.keep_for_others(&signed);
        self.cx.effects.push_back(Effect::PersistHighestSeen(HighestSeen::from(&signed)));
        let (peers, outbox) = (&self.peers.connected, &self.mail.outbox);
        let in_use = |record: &SignedRecord| {
            peers.contains_key(&record.peer_id()) || outbox.has_mail_for(&record.address())
        };
        let change = self.directory.records.insert(signed.clone(), in_use, now);
        self.directory.lookups.found(&address);
        self.cx.stats.count(Counter::RecordsAccepted);
        self.cx.signal(Signal::RecordChanged { record: Box::new(signed), change });
    }

    /// Stores the record in our DHT server, if the node is one.
    fn keep_for_others(&mut self, signed: &SignedRecord) {
        let now = self.cx.now;
        if self.cx.identity.role == Role::Bootstrap {
            let lifetime = signed.record.expires_at_ms.saturating_sub(now.unix_ms);
            self.cx.network(NetworkCommand::StoreDhtRecord {
                key: Bytes::copy_from_slice(&kad_key(&self.cx.identity.network, &signed.address())),
                value: signed.bytes.clone(),
                lifetime: std::time::Duration::from_millis(lifetime),
            });
        }
    }

    /// Handles a record of our own address that this process did not issue. The record has no
    /// effect if it is older than ours.
    fn on_own_record(&mut self, signed: &SignedRecord) -> Verdict {
        let now = self.cx.now;
        let ours = self.local.record.order();
        // Of two records of the same order, each peer keeps the one that it received first.
        let is_twin =
            |current: &SignedRecord| current.order() == signed.order() && current.hash != signed.hash;
        if signed.order() <= ours && !self.local.record.current().is_some_and(is_twin) {
            return Verdict::Ignore;
        }
        if signed.order().0 > ours.0 {
            self.cx.effects.push_back(Effect::PersistHighestSeen(HighestSeen::from(signed)));
            self.superseded(signed.order().0);
        } else if signed.peer_id() == self.cx.identity.peer
            && self.predates_process(signed)
            && !self.local.record.was_outdone()
        {
            // The previous process of this node issued the record, with a clock that was ahead of
            // ours.
            self.cx.stats.count(Counter::RecordsOutdone);
            self.local.record.raise_seq(signed.order().1, now);
        } else if self.local.record.conflicts_with(signed) {
            self.local.record.contest(signed.order().1, now);
            if self.cx.identity.one_of_several {
                let message = format!(
                    "node {} also belongs to this agent: mail goes to the node that announced its record last, broadcasts go to both",
                    signed.peer_id()
                );
                self.cx.log(Level::Info, "identity", message);
                return Verdict::Accept;
            }
            let message = format!(
                "node {} also announces this agent's address: two nodes use the agent's key, and mail goes to the one that announced its record last; stop one of them, or give each agent a key of its own",
                signed.peer_id()
            );
            self.cx.emit_error(ErrorEvent::new(ErrorCode::IdentityConflict, message));
        }
        Verdict::Accept
    }

    /// Returns `true` if the record was issued before this process started, within the tolerated
    /// clock skew.
    fn predates_process(&self, signed: &SignedRecord) -> bool {
        signed.record.issued_at_ms <= self.cx.identity.started_ms.saturating_add(MAX_SKEW_SECS * 1000)
    }

    /// Ends the node, because another node of the same address has a newer generation.
    pub(crate) fn superseded(&mut self, generation: u64) {
        if self.cx.is_flushing() {
            return;
        }
        let message = format!(
            "another node of this identity has generation {generation}, which revokes ours ({}): this node may no longer speak for the address; restart it with a higher --generation, or leave it stopped",
            self.cx.identity.binding.binding.generation
        );
        self.cx.emit_error(ErrorEvent::new(ErrorCode::IdentitySuperseded, message));
        self.cx.signal(Signal::GiveUp(ExitCode::Config));
    }

    /// Returns the validity of a binding's signature. Returns `None` if the check has yet to run;
    /// the object from `park` is then processed again after the check.
    pub(crate) fn check_binding(
        &mut self,
        binding: &SignedBinding,
        park: impl FnOnce() -> Pending,
    ) -> Option<bool> {
        let hash = binding.hash();
        if let Some(known) = self.gate.binding_cache.get(&hash) {
            return Some(known);
        }
        match self.gate.pending_verification.push(hash, park()) {
            Err(pending) => self.drop_parked(pending),
            Ok(true) => {
                let task = CryptoTask::CheckBinding(Box::new(binding.clone()));
                self.cx.effects.push_back(Effect::Crypto(task));
            }
            Ok(false) => {}
        }
        None
    }

    pub(crate) fn on_binding_checked(&mut self, hash: BindingHash, valid: Option<bool>) {
        if let Some(valid) = valid {
            self.gate.binding_cache.remember(hash, valid);
        }
        for parked in self.gate.pending_verification.remove(&hash) {
            match parked {
                parked if valid.is_none() => self.drop_parked(parked),
                Pending::Record(record) => self.on_record(record),
                Pending::Gossip(message) => self.on_gossip(message),
                Pending::Mail(request) => self.on_mail_asked(request),
            }
        }
    }

    /// Drops an object for which there is no capacity. The sender is not penalised; a sender of
    /// direct mail is asked to try again later.
    fn drop_parked(&mut self, parked: Pending) {
        self.cx.stats.count(Counter::CryptoPoolFull);
        match parked {
            Pending::Record(OfferedRecord { source: RecordSource::Announcement(token), .. })
            | Pending::Gossip(GossipMessage { token, .. }) => {
                self.cx.network(NetworkCommand::Judge { token, verdict: Verdict::Ignore });
            }
            Pending::Record(_) => {}
            Pending::Mail(MailRequest { token, .. }) => {
                self.cx.answer_mail(token, Response::Busy(Busy { retry_after_ms: BUSY_MS }));
            }
        }
    }

    pub(crate) fn on_record_offered(&mut self, _from: PeerId, key: &Bytes, value: Bytes) {
        let address = match SignedRecord::decode(value.clone()) {
            Ok(signed) => signed.address(),
            Err(error) => return self.cx.stats.count(no_record(&error)),
        };
        if key.as_ref() != kad_key(&self.cx.identity.network, &address) {
            return self.cx.stats.count(Counter::RecordsMisplaced);
        }
        self.on_record(OfferedRecord {
            bytes: value,
            source: RecordSource::Offer,
            expected_address: Some(address),
        });
    }

    pub(crate) fn on_record_found(&mut self, token: Token, value: Bytes) {
        if let Some(address) = self.directory.lookups.address(token) {
            self.on_record(OfferedRecord {
                bytes: value,
                source: RecordSource::Answer,
                expected_address: Some(address),
            });
        }
    }

    /// Looks up an agent in the DHT. When its record arrives from any source, messages to the agent
    /// are sent. Returns `false` if the queue of lookups is full.
    pub(crate) fn resolve(&mut self, address: Address) -> bool {
        let token = self.cx.token();
        let wanted = self.directory.lookups.want(address, token);
        if wanted == Wanted::Start {
            self.start_query(token, &address);
        }
        wanted != Wanted::Full
    }

    fn start_query(&mut self, token: Token, address: &Address) {
        self.cx.stats.count(Counter::DhtLookups);
        let key = Bytes::copy_from_slice(&kad_key(&self.cx.identity.network, address));
        self.cx.network(NetworkCommand::GetRecord { token, key });
    }

    pub(crate) fn on_query_ended(&mut self, token: Token) {
        let now = self.cx.now;
        let (ended, next) = self.directory.lookups.ended(token);
        if let Some((token, address)) = next {
            self.start_query(token, &address);
        }
        match ended {
            Some(Lookup { address, found: false }) if address == self.cx.identity.address => {
                self.cx.stats.count(Counter::RecordsNotKept);
                self.local.record.put_failed(now, &mut self.cx.jitter);
            }
            // The record may have arrived from another source during the lookup.
            Some(Lookup { address, .. }) => {
                let found = self.directory.records.get(&address, now.unix_ms).is_some();
                self.cx.signal(Signal::LookupEnded { address, found });
            }
            None => {}
        }
    }

    pub(crate) fn on_record_put(&mut self, stored: bool) {
        let now = self.cx.now;
        if stored {
            self.cx.stats.count(Counter::RecordsPublished);
            // An answer from a server does not prove that it stores the record. The node reads its
            // record back, and may find a newer one of another process.
            self.resolve(self.cx.identity.address);
        } else {
            self.local.record.put_failed(now, &mut self.cx.jitter);
        }
    }
}
