//! Acceptance of records and bindings: the same checks for every source.

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, Level};
use p2p_node_wire::record::{SignedRecord, kad_key};
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::directory::lookups::{Enqueue, Lookup};
use crate::directory::record_rejection::{rejection_counter, undecodable_counter, verdict_on};
use crate::directory::record_table::Freshness;
use crate::effect::{Effect, NetworkCommand, Verdict};
use crate::gate::Gate;
use crate::gate::access_list::AccessRule;
use crate::gate::pending_verification::{OfferedRecord, Pending, RecordSource};
use crate::gate::reputation::Conduct;
use crate::highest_seen::HighestSeen;
use crate::input::Token;
use crate::local::Local;
use crate::signal::Signal;

/// Largest number of agents whose conflicting records the node reports: our choice.
pub(crate) const MAX_REPORTED_CONFLICTS: usize = 64;

/// The records that the components above need. A full record table evicts these records last.
pub(crate) trait Demand {
    /// Returns `true` if the node is connected to this peer.
    fn is_connected(&self, peer: &PeerId) -> bool;
    /// Returns `true` if messages to this agent wait in the outbox.
    fn has_mail(&self, address: &Address) -> bool;
}

impl Directory {
    /// Checks a record and stores a valid record in the directory. The checks go from cheap to
    /// expensive: decoding, source, order, the rules of [`SignedRecord::check`], binding signature.
    pub(crate) fn on_record(
        &mut self,
        offered: OfferedRecord,
        local: &mut Local,
        gate: &mut Gate,
        demand: &dyn Demand,
        cx: &mut Cx,
    ) {
        let source = offered.source;
        let outcome = self.validate_record(offered, local, gate, demand, cx);
        if outcome == Some(Verdict::Reject) {
            let (peer, conduct) = source.fault();
            cx.observe(peer, conduct);
        }
        if let (RecordSource::Announcement(token, _), Some(verdict)) = (source, outcome) {
            cx.network(NetworkCommand::ReportValidation { token, verdict });
        }
    }

    /// Returns the verdict, or `None` if the record waits for the crypto pool.
    fn validate_record(
        &mut self,
        offered: OfferedRecord,
        local: &mut Local,
        gate: &mut Gate,
        demand: &dyn Demand,
        cx: &mut Cx,
    ) -> Option<Verdict> {
        let (now, source, expected) = (cx.now, offered.source, offered.expected_address);
        let signed = match SignedRecord::decode(offered.bytes.clone()) {
            Ok(signed) => signed,
            Err(error) => return Some(reject_record(undecodable_counter(&error), verdict_on(&error), cx)),
        };
        if let RecordSource::Hello(peer) = source
            && signed.peer_id() != peer
        {
            return Some(reject_record(Counter::RecordsOfOthers, Verdict::Reject, cx));
        }
        if local.record.is_ours(&signed) {
            self.on_record_of_ours(&signed, source, local, cx);
            return Some(Verdict::Ignore);
        }
        let freshness = self.records.compare(&signed, now.unix_ms);
        match freshness {
            Freshness::Same => return Some(self.on_known_record(&signed, source, cx)),
            Freshness::Stale => return Some(reject_record(Counter::RecordsStale, Verdict::Ignore, cx)),
            Freshness::New | Freshness::Newer | Freshness::Conflict => {}
        }
        if let Err(error) = signed.check(&cx.identity.network, expected, now.unix_ms) {
            if signed.is_sound_but_early(&cx.identity.network, expected, now.unix_ms) {
                // If the record is authentic, messages that wait for this agent fail with the clock
                // difference as the reason.
                let genuine = demand.has_mail(&signed.address())
                    && gate.check_binding(&signed.record.binding, || Pending::Record(offered), cx)?;
                cx.signal(Signal::RecordFromFuture { record: Box::new(signed), genuine });
            }
            return Some(reject_record(rejection_counter(&error), verdict_on(&error), cx));
        }
        match gate.check_binding(&signed.record.binding, || Pending::Record(offered), cx) {
            None => {
                self.on_answer(&signed, source);
                return None;
            }
            Some(false) => {
                return Some(reject_record(Counter::RecordsBindingForged, Verdict::Reject, cx));
            }
            Some(true) => {}
        }
        if signed.address() == cx.identity.address {
            return Some(local.on_own_record(&signed, cx));
        }
        if freshness == Freshness::Conflict {
            let is_allowed =
                gate.access_list.of(&signed.address(), &signed.peer_id()) == Some(AccessRule::Allowed);
            self.report_conflict(&signed, is_allowed || demand.has_mail(&signed.address()), cx);
            return Some(Verdict::Ignore);
        }
        self.store_record(signed, source, demand, cx);
        Some(Verdict::Accept)
    }

    /// Handles a record that the node has verified before, perhaps from another source. Peers behind
    /// us may not have it yet, so gossipsub should forward it.
    fn on_known_record(&mut self, signed: &SignedRecord, source: RecordSource, cx: &mut Cx) -> Verdict {
        if !source.is_hearsay() {
            self.records.meet(&signed.address());
        }
        if signed.record.expires_at_ms <= cx.now.unix_ms {
            return Verdict::Ignore;
        }
        if let RecordSource::Offer(_) = source {
            // The owner offers the record again because a lookup did not find it here.
            store_in_dht(signed, cx);
        }
        self.on_answer(signed, source);
        Verdict::Accept
    }

    /// Records that the DHT answered with a record that is the known one, or that the crypto pool
    /// still checks. Another answer is none, because a server may lie.
    fn on_answer(&mut self, signed: &SignedRecord, source: RecordSource) {
        if let RecordSource::Answer(_) = source {
            self.lookups.mark_answered(&signed.address());
        }
    }

    /// Handles a record that this process issued. Our current record, read back from the DHT,
    /// proves that the servers store the record.
    fn on_record_of_ours(&mut self, signed: &SignedRecord, source: RecordSource, local: &mut Local, cx: &Cx) {
        let current = local.record.current().is_some_and(|current| current.hash == signed.hash);
        if current && matches!(source, RecordSource::Answer(_)) {
            self.lookups.mark_found(&cx.identity.address);
            local.record.put_succeeded();
        }
    }

    /// Reports an agent that signed two records of the same order, if this agent deals with it: anybody
    /// can make a key and sign with it. The holder of a key can sign any number of such records, so the
    /// node reports each agent once. The parent cannot repair the
    /// conflict, so the report is a log message and not an error. Many peers may bring the same two
    /// records, so each order counts once against the agent.
    fn report_conflict(&mut self, signed: &SignedRecord, is_ours_to_know: bool, cx: &mut Cx) {
        cx.stats.count(Counter::RecordsConflicting);
        let (address, order) = (signed.address(), signed.order());
        let reported = self.reported_conflicts.get(&address).copied();
        if reported.is_none() && self.reported_conflicts.len() >= MAX_REPORTED_CONFLICTS {
            self.reported_conflicts.pop_first();
        }
        self.reported_conflicts.insert(address, order);
        if reported != Some(order) {
            cx.observe_agent(address, signed.peer_id(), Conduct::Equivocation);
        }
        if is_ours_to_know && reported.is_none() {
            let message =
                format!("agent {address} signed two records of the same order: the node keeps the first");
            cx.log(Level::Info, "directory", message);
        }
    }

    fn store_record(&mut self, signed: SignedRecord, source: RecordSource, demand: &dyn Demand, cx: &mut Cx) {
        let now = cx.now;
        let address = signed.address();
        cx.effects.push_back(Effect::PersistHighestSeen(HighestSeen::from(&signed)));
        let in_use = |record: &SignedRecord| {
            demand.is_connected(&record.peer_id()) || demand.has_mail(&record.address())
        };
        if let RecordSource::Answer(peer) | RecordSource::Found(peer) = source {
            cx.observe(peer, Conduct::RecordFound);
        }
        let is_hearsay = source.is_hearsay() && !demand.is_connected(&signed.peer_id());
        let update = self.records.insert(signed.clone(), is_hearsay, in_use, now);
        for evicted in self.records.drain_evicted() {
            remove_from_dht(&evicted, cx);
        }
        store_in_dht(&signed, cx);
        self.lookups.mark_found(&address);
        cx.stats.count(Counter::RecordsAccepted);
        cx.signal(Signal::RecordChanged { record: Box::new(signed), update });
    }

    /// Looks up an agent in the DHT, in the rendezvous directory, and at peers if the DHT has no
    /// answer. When the record of the agent arrives from any source, the node sends the messages to
    /// the agent. Returns `false` if the queue of lookups is full.
    pub(crate) fn resolve(&mut self, address: Address, cx: &mut Cx) -> bool {
        let token = cx.token();
        let outcome = self.lookups.enqueue(address, token);
        if outcome == Enqueue::Started {
            self.start_lookup(token, &address, cx);
        }
        outcome != Enqueue::Full
    }

    fn start_lookup(&mut self, token: Token, address: &Address, cx: &mut Cx) {
        cx.stats.count(Counter::DhtLookups);
        let key = Bytes::copy_from_slice(&kad_key(&cx.identity.network, address));
        cx.network(NetworkCommand::GetRecord { token, key });
        cx.find_local_agent(*address);
        cx.signal(Signal::LookupStarted(token, *address));
    }

    pub(crate) fn on_query_ended(&mut self, token: Token, local: &mut Local, cx: &mut Cx) {
        let now = cx.now;
        let (ended, next) = self.lookups.finish(token);
        if let Some((token, address)) = next {
            self.start_lookup(token, &address, cx);
        }
        match ended {
            Some(Lookup { address, found: false, .. }) if address == cx.identity.address => {
                cx.stats.count(Counter::RecordsNotStored);
                local.record.put_failed(now, &mut cx.jitter);
            }
            // The record may have arrived from another source during the lookup.
            Some(Lookup { address, .. }) => {
                let found = self.records.get(&address, now.unix_ms).is_some();
                cx.signal(Signal::LookupEnded { address, found });
            }
            None => {}
        }
    }

    pub(crate) fn on_record_put(&mut self, stored: bool, local: &mut Local, cx: &mut Cx) {
        let now = cx.now;
        if stored {
            cx.stats.count(Counter::RecordsPublished);
            // An answer from a server does not prove that the server stores the record. The node
            // reads its record back, and may find a newer record of another process.
            self.resolve(cx.identity.address, cx);
        } else {
            local.record.put_failed(now, &mut cx.jitter);
        }
    }
}

fn wants_to_serve_dht(local: &Local, cx: &Cx) -> bool {
    cx.identity.dht_mode.serves(local.addresses.is_reachable())
}

/// Counts a rejected record and returns the verdict.
fn reject_record(counter: Counter, verdict: Verdict, cx: &mut Cx) -> Verdict {
    cx.stats.count(counter);
    verdict
}

/// Stores the record in our DHT server, if the node serves the DHT.
fn store_in_dht(signed: &SignedRecord, cx: &mut Cx) {
    let now = cx.now;
    if cx.serves_dht {
        let lifetime = signed.record.expires_at_ms.saturating_sub(now.unix_ms);
        cx.network(NetworkCommand::StoreDhtRecord {
            key: Bytes::copy_from_slice(&kad_key(&cx.identity.network, &signed.address())),
            value: signed.bytes.clone(),
            lifetime: std::time::Duration::from_millis(lifetime),
        });
    }
}

/// Removes the record of an agent from our DHT server, if the node serves the DHT. So the
/// directory alone decides what a full server keeps.
fn remove_from_dht(address: &Address, cx: &mut Cx) {
    if cx.serves_dht {
        let key = Bytes::copy_from_slice(&kad_key(&cx.identity.network, address));
        cx.network(NetworkCommand::RemoveDhtRecord { key });
    }
}

impl Directory {
    /// Begins or ends to serve the DHT, when this node has become reachable or unreachable. A new
    /// server stores all records of the directory.
    pub(crate) fn follow_dht_mode(&self, local: &Local, cx: &mut Cx) {
        let serves = wants_to_serve_dht(local, cx);
        if std::mem::replace(&mut cx.serves_dht, serves) == serves {
            return;
        }
        cx.network(NetworkCommand::ServeDht(serves));
        let now_ms = cx.now.unix_ms;
        self.records.iter(now_ms).for_each(|record| store_in_dht(record, cx));
    }

    /// Returns the time at which the node changes its DHT mode: now, or never.
    pub(crate) fn dht_mode_deadline(&self, local: &Local, cx: &Cx) -> Option<Instant> {
        (wants_to_serve_dht(local, cx) != cx.serves_dht).then_some(cx.now.mono)
    }

    /// Handles a record that a peer asks us, a DHT server, to store. Only the owner of a record
    /// puts it, so that nobody fills the servers with the records of others.
    pub(crate) fn on_put(&self, peer: &PeerId, key: &Bytes, bytes: Bytes, gate: &mut Gate, cx: &mut Cx) {
        let tier = gate.tier_of_peer(peer, || self.agent_of(peer, cx));
        if !gate.limits.admit_put(*peer, tier, cx.now.mono) {
            cx.observe(*peer, Conduct::MessageRateExceeded);
            return cx.stats.count(Counter::RecordsOverLimit);
        }
        let signed = match SignedRecord::decode(bytes.clone()) {
            Ok(signed) => signed,
            Err(error) => {
                if error.is_provable() {
                    cx.observe(*peer, Conduct::InvalidRecord);
                }
                return cx.stats.count(undecodable_counter(&error));
            }
        };
        if signed.peer_id() != *peer {
            cx.observe(*peer, Conduct::InvalidRecord);
            return cx.stats.count(Counter::RecordsOfOthers);
        }
        let address = signed.address();
        if key.as_ref() != kad_key(&cx.identity.network, &address) {
            cx.observe(*peer, Conduct::InvalidRecord);
            return cx.stats.count(Counter::RecordsMisplaced);
        }
        let (source, expected_address) = (RecordSource::Offer(*peer), Some(address));
        cx.signal(Signal::RecordReceived(OfferedRecord { bytes, source, expected_address }));
    }

    /// Handles an answer to a lookup.
    pub(crate) fn on_dht_answer(&self, token: Token, server: PeerId, bytes: Bytes, cx: &mut Cx) {
        if let Some(address) = self.lookups.address(token) {
            let (source, expected_address) = (RecordSource::Answer(server), Some(address));
            cx.signal(Signal::RecordReceived(OfferedRecord { bytes, source, expected_address }));
        }
    }
}
