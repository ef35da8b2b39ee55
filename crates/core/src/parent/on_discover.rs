//! The `discover` command: reports known agents, and agents that the node finds while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Discover, ErrorCode, Id, MAX_DISCOVER_MS};
use p2p_node_wire::identity::parse_address;
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::time::Instant;

use crate::MAX_INFLIGHT;
use crate::cx::Cx;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::lifecycle::Peer;
use crate::parent::Parent;
use crate::parent::peer_discovered::emit_peer_discovered;
use crate::peers::Peers;

/// Longest run of a `discover` without `timeoutMs`. Our choice: longer than a lookup in the DHT
/// takes.
const DEFAULT_DISCOVER: Duration = Duration::from_secs(2);
/// Pause between two lookups of an address in the DHT. Our choice: on a small network a lookup
/// takes some milliseconds.
const LOOKUP_PERIOD: Duration = Duration::from_millis(500);
/// A `discover` without `timeoutMs` ends when it has found nothing new for this time and no lookup
/// or dial is running. Our choice: long enough for the arrival of a subscription or record that a
/// peer announces at this moment.
const SETTLED: Duration = Duration::from_millis(250);

/// A `discover` that is running.
#[derive(Debug)]
pub(crate) struct Discovery {
    id: Option<Id>,
    wanted: Wanted,
    deadline: Instant,
    /// Ends early when no more results are likely (no `timeoutMs`).
    settles: bool,
    /// For an address: time of the next lookup. Otherwise: time of the next check for an early end.
    retry: Instant,
    seen: BTreeSet<Address>,
}

#[derive(Debug)]
enum Wanted {
    All,
    Topic(String),
    Capability(String),
    Address(Address),
}

impl Wanted {
    /// Returns `true` if the record matches. `peers` are the connected peers with their topics.
    fn matches(&self, record: &SignedRecord, peers: &BTreeMap<PeerId, Peer>) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Address(wanted) => *wanted == record.address(),
            Wanted::Capability(wanted) => record.record.capabilities.contains(wanted),
            Wanted::Topic(wanted) => {
                let peer = peers.get(&record.peer_id());
                record.record.topics.contains(wanted) || peer.is_some_and(|peer| peer.topics.contains(wanted))
            }
        }
    }
}

impl Parent {
    pub(crate) fn discover(
        &mut self,
        id: Option<Id>,
        discover: Discover,
        gate: &Gate,
        directory: &mut Directory,
        peers: &Peers,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        let timeout = discover.timeout_ms.map_or(DEFAULT_DISCOVER, Duration::from_millis);
        if timeout > Duration::from_millis(MAX_DISCOVER_MS) {
            let message = format!("`timeoutMs` must be at most {MAX_DISCOVER_MS}");
            return cx.refuse(id, ErrorCode::InvalidArgument, message);
        }
        if self.discoveries.len() >= MAX_INFLIGHT {
            return cx.refuse(
                id,
                ErrorCode::Busy,
                "too many `discover` commands are running; wait for one or cancel it",
            );
        }
        let wanted = match (discover.topic, discover.address, discover.capability) {
            (None, None, None) => Wanted::All,
            (Some(topic), None, None) => Wanted::Topic(topic),
            (None, None, Some(capability)) => Wanted::Capability(capability),
            (None, Some(address), None) => match parse_address(&address) {
                Ok(address) => Wanted::Address(address),
                Err(error) => {
                    return cx.refuse(id, ErrorCode::InvalidArgument, format!("`address`: {error}"));
                }
            },
            _ => {
                let message = "`discover` takes at most one of `topic`, `address` and `capability`";
                return cx.refuse(id, ErrorCode::InvalidArgument, message);
            }
        };
        cx.replies.open_requests.extend(id.clone());
        let deadline = now.mono + timeout;
        let (settles, retry) = match (&wanted, discover.timeout_ms) {
            (Wanted::Address(_), _) => (false, now.mono),
            (_, None) => (true, now.mono + SETTLED),
            (_, Some(_)) => (false, deadline),
        };
        self.discoveries.push(Discovery { id, wanted, deadline, settles, retry, seen: BTreeSet::new() });
        let known: Vec<SignedRecord> = directory.records.iter(now.unix_ms).cloned().collect();
        for record in known {
            self.found(&record, true, gate, peers, cx);
        }
        self.finish_expired_discoveries(gate, directory, peers, cx);
    }

    /// Reports an agent whose record the directory stored. `is_news` states that the record says more
    /// than the one before.
    pub(crate) fn on_record(
        &mut self,
        record: &SignedRecord,
        is_news: bool,
        gate: &Gate,
        peers: &Peers,
        cx: &mut Cx,
    ) {
        if is_news {
            emit_peer_discovered(record, None, gate, peers, cx);
        }
        self.found(record, false, gate, peers, cx);
    }

    /// Reports a found agent to all running `discover` commands, or with `by_latest` to the latest
    /// one.
    pub(crate) fn found(
        &mut self,
        record: &SignedRecord,
        by_latest: bool,
        gate: &Gate,
        peers: &Peers,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        // `end_discovery` reports the agents that this call skips while the parent does not read.
        if !cx.replies.output.can_accept_command() {
            return;
        }
        let skip = if by_latest { self.discoveries.len().saturating_sub(1) } else { 0 };
        let mut tell = Vec::new();
        for discovery in self.discoveries.iter_mut().skip(skip) {
            if discovery.wanted.matches(record, &peers.connected) && discovery.seen.insert(record.address()) {
                if discovery.settles {
                    discovery.retry = now.mono + SETTLED;
                }
                tell.push(discovery.id.clone());
            }
        }
        for id in tell {
            emit_peer_discovered(record, id, gate, peers, cx);
        }
    }

    /// Answers each `discover` that is done: it found its agent, no more results are likely, or its
    /// time is over. Repeats the lookups of the others.
    pub(crate) fn finish_expired_discoveries(
        &mut self,
        gate: &Gate,
        directory: &mut Directory,
        peers: &Peers,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        if self.discoveries.is_empty() {
            return;
        }
        let knows_all = knows_all_peers(directory, peers, cx);
        let is_done = |discovery: &Discovery| {
            let enough = match discovery.wanted {
                Wanted::Address(_) => true,
                _ => discovery.settles && knows_all && discovery.retry <= now.mono,
            };
            enough && !discovery.seen.is_empty() || discovery.deadline <= now.mono
        };
        // One at a time, because each may write as many lines as there are agents.
        while cx.replies.output.can_accept_command()
            && let Some(index) = self.discoveries.iter().position(is_done)
        {
            let discovery = self.discoveries.remove(index);
            end_discovery(discovery, gate, directory, peers, cx);
        }
        let mut lookups = Vec::new();
        for discovery in &mut self.discoveries {
            if discovery.retry > now.mono {
                continue;
            }
            match discovery.wanted {
                Wanted::Address(address) => {
                    discovery.retry = now.mono + LOOKUP_PERIOD;
                    lookups.push(address);
                }
                _ => discovery.retry = now.mono + SETTLED,
            }
        }
        for address in lookups {
            directory.resolve(address, cx);
        }
    }

    /// Returns when the next `discover` ends or repeats its lookup. Returns `None` while the parent
    /// does not read, because then no `discover` can end.
    pub(crate) fn discovery_deadline(&self, cx: &Cx) -> Option<Instant> {
        if !cx.replies.output.can_accept_command() {
            return None;
        }
        self.discoveries.iter().map(|discovery| discovery.retry.min(discovery.deadline)).min()
    }

    /// Ends the `discover` with this id. Returns `false` if there is none.
    pub(crate) fn cancel_discovery(&mut self, target: &Id, cx: &mut Cx) -> bool {
        let Some(index) = self.discoveries.iter().position(|discovery| discovery.id.as_ref() == Some(target))
        else {
            return false;
        };
        let discovery = self.discoveries.remove(index);
        cx.refuse(discovery.id, ErrorCode::Cancelled, "a `cancel` command ended this `discover`");
        true
    }

    /// Ends every `discover`, because the node closes.
    pub(crate) fn abandon_discoveries(&mut self, cx: &mut Cx) {
        for discovery in std::mem::take(&mut self.discoveries) {
            if discovery.id.is_some() {
                cx.refuse(discovery.id, ErrorCode::ShuttingDown, "the node closed during this `discover`");
            }
        }
    }
}

/// Returns `true` if no lookup or dial is running and the node has the records of all connected
/// peers.
fn knows_all_peers(directory: &Directory, peers: &Peers, cx: &Cx) -> bool {
    let now = cx.now;
    directory.lookups.running() + directory.lookups.waiting() == 0
        && peers.dialing.is_empty()
        && peers.connected.keys().all(|peer| directory.records.by_peer(peer, now.unix_ms).is_some())
}

/// Reports the agents that the parent could not read earlier, and answers the command.
fn end_discovery(mut discovery: Discovery, gate: &Gate, directory: &Directory, peers: &Peers, cx: &mut Cx) {
    let now = cx.now;
    let unseen: Vec<SignedRecord> = directory
        .records
        .iter(now.unix_ms)
        .filter(|record| discovery.wanted.matches(record, &peers.connected))
        .filter(|record| discovery.seen.insert(record.address()))
        .cloned()
        .collect();
    for record in unseen {
        emit_peer_discovered(&record, discovery.id.clone(), gate, peers, cx);
    }
    cx.answer(discovery.id, "discover", |answer| answer.count = Some(discovery.seen.len()));
}
