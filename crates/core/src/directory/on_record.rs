//! Acceptance of records and bindings: the same checks for every source.

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, Level};
use p2p_node_wire::record::{RecordError, SignedRecord, kad_key};
use p2p_node_wire::time::Instant;
use serde_json::json;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::directory::lookups::{Enqueue, Lookup};
use crate::directory::record_rejection::{refusal_for, rejection_counter, undecodable_counter, verdict_on};
use crate::directory::record_table::Freshness;
use crate::effect::{Effect, NetworkCommand, Verdict};
use crate::gate::Gate;
use crate::gate::access_list::AccessRule;
use crate::gate::admission_policy::Refusal;
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
        let (source, bytes) = (offered.source, offered.bytes.clone());
        let Some(checked) = self.validate_record(offered, local, gate, demand, cx) else { return };
        if checked.verdict == Verdict::Reject {
            let (peer, conduct) = source.fault();
            cx.observe(peer, conduct);
        }
        match source {
            RecordSource::Announcement(token, _) => {
                cx.network(NetworkCommand::ReportValidation { token, verdict: checked.verdict });
            }
            RecordSource::Admission(peer) => {
                let (record, outcome) = (SignedRecord::hash_of(&bytes), checked.agent);
                cx.signal(Signal::PeerRecordChecked { peer, record, outcome });
            }
            RecordSource::Offer(_) | RecordSource::Answer(_) | RecordSource::Found(_) => {}
        }
    }

    /// Returns the outcome, or `None` if the record waits for the crypto pool.
    fn validate_record(
        &mut self,
        offered: OfferedRecord,
        local: &mut Local,
        gate: &mut Gate,
        demand: &dyn Demand,
        cx: &mut Cx,
    ) -> Option<Checked> {
        let (now, source, expected) = (cx.now, offered.source, offered.expected_address);
        let is_admission = matches!(source, RecordSource::Admission(_));
        let signed = match SignedRecord::decode(offered.bytes.clone()) {
            Ok(signed) => signed,
            Err(error) => return Some(reject_record(undecodable_counter(&error), verdict_on(&error), cx)),
        };
        if local.record.is_ours(&signed) {
            self.on_record_of_ours(&signed, source, local, cx);
            return Some(Checked { verdict: Verdict::Ignore, agent: Err(Refusal::InvalidRecord) });
        }
        let freshness = self.records.compare(&signed, now.unix_ms);
        match freshness {
            Freshness::Same => return Some(self.on_known_record(&signed, source, cx)),
            Freshness::Stale if !is_admission || self.is_revoked(&signed, local, cx) => {
                let stale = reject_record(Counter::RecordsStale, Verdict::Ignore, cx);
                return Some(Checked { agent: Err(Refusal::Superseded), ..stale });
            }
            // A peer may have issued a newer record since it connected, which came another way.
            Freshness::Stale | Freshness::New | Freshness::Newer | Freshness::Conflict => {}
        }
        if let Err(error) = signed.check(&cx.identity.network, expected, now.unix_ms) {
            let is_wanted = is_admission || demand.has_mail(&signed.address());
            return refuse_record(signed, offered, &error, is_wanted, gate, cx);
        }
        match gate.check_binding(&signed.record.binding, || Pending::Record(offered), cx) {
            None => {
                self.on_answer(&signed, source);
                return None;
            }
            Some(Err(fault)) => {
                let counter = fault.counter(Counter::RecordsBindingForged);
                return Some(reject_record(counter, fault.verdict(), cx));
            }
            Some(Ok(())) => {}
        }
        let agent = signed.address();
        let verdict = if agent == cx.identity.address {
            local.on_own_record(&signed, cx)
        } else if freshness == Freshness::Conflict {
            let is_allowed = gate.access_list.of(&agent, &signed.peer_id()) == Some(AccessRule::Allowed);
            self.report_conflict(&signed, is_allowed || demand.has_mail(&agent), cx);
            Verdict::Ignore
        } else if freshness == Freshness::Stale {
            cx.stats.count(Counter::RecordsStale);
            Verdict::Ignore
        } else {
            self.store_record(signed, source, demand, cx);
            Verdict::Accept
        };
        Some(Checked { verdict, agent: Ok(agent) })
    }

    /// Returns `true` if the generation of a record is below the lowest that its agent may still use.
    fn is_revoked(&self, signed: &SignedRecord, local: &Local, cx: &Cx) -> bool {
        signed.order().0 < self.minimum_generation(&signed.address(), local, cx)
    }

    /// Handles a record that the node has verified before, perhaps from another source. Peers behind
    /// us may not have it yet, so gossipsub should forward it.
    fn on_known_record(&mut self, signed: &SignedRecord, source: RecordSource, cx: &mut Cx) -> Checked {
        if !source.is_hearsay() {
            self.records.meet(&signed.address());
        }
        if signed.record.expires_at_ms <= cx.now.unix_ms {
            return Checked { verdict: Verdict::Ignore, agent: Err(Refusal::ClockOutOfRange) };
        }
        if let RecordSource::Offer(_) = source {
            // The owner offers the record again because a lookup did not find it here.
            store_in_dht(signed, cx);
        }
        self.on_answer(signed, source);
        Checked { verdict: Verdict::Accept, agent: Ok(signed.address()) }
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
    pub(super) fn report_conflict(&mut self, signed: &SignedRecord, is_ours_to_know: bool, cx: &mut Cx) {
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
            cx.log_with(Level::Info, "directory", message, json!({ "address": address.to_string() }));
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

/// The outcome of the check of a record.
struct Checked {
    /// The verdict on the peer that sent the record.
    verdict: Verdict,
    /// The agent of the record, whose node is the one of the record, or why the node does not admit it.
    agent: Result<Address, Refusal>,
}

/// Refuses a record that breaks a rule. A record from the future is not usable yet, but shows whose node
/// the peer is. If a wanted record is authentic, messages that wait for its agent fail with the clock
/// difference as the reason. Returns `None` if the record waits for the crypto pool.
fn refuse_record(
    signed: SignedRecord,
    offered: OfferedRecord,
    error: &RecordError,
    is_wanted: bool,
    gate: &mut Gate,
    cx: &mut Cx,
) -> Option<Checked> {
    let now = cx.now.unix_ms;
    if signed.is_sound_but_early(&cx.identity.network, offered.expected_address, now) {
        let genuine =
            is_wanted && gate.check_binding(&signed.record.binding, || Pending::Record(offered), cx)?.is_ok();
        let agent = signed.address();
        cx.signal(Signal::RecordFromFuture { record: Box::new(signed), genuine });
        if genuine {
            let early = reject_record(rejection_counter(error), verdict_on(error), cx);
            return Some(Checked { agent: Ok(agent), ..early });
        }
    }
    let refused = reject_record(rejection_counter(error), verdict_on(error), cx);
    Some(Checked { agent: Err(refusal_for(error)), ..refused })
}

/// Counts a rejected record and returns the outcome.
fn reject_record(counter: Counter, verdict: Verdict, cx: &mut Cx) -> Checked {
    cx.stats.count(counter);
    Checked { verdict, agent: Err(Refusal::InvalidRecord) }
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
