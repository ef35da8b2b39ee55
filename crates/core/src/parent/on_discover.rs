//! `discover`: agents that are known, and those that become known while it looks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Discover, ErrorCode, Id};

use crate::input::Now;
use crate::{Core, MAX_INFLIGHT, Peer};
use p2p_node_wire::identity::parse_address;
use p2p_node_wire::record::SignedRecord;

/// How long `discover` looks at most when `timeoutMs` is absent. Ours: longer than a lookup in the DHT takes.
const DEFAULT_DISCOVER: Duration = Duration::from_secs(2);
/// How often `discover` asks the DHT for an address. Ours: a lookup on a small network takes some milliseconds.
const LOOKUP_PERIOD: Duration = Duration::from_millis(500);
/// Without `timeoutMs`, `discover` ends when nothing has been found for so long and nothing is under way. Ours: a subscription or a record that is
/// announced at this moment is there by then.
const SETTLED: Duration = Duration::from_millis(250);
/// Longest `timeoutMs` of `discover`. Ours.
const MAX_DISCOVER: Duration = Duration::from_secs(60);

/// A `discover` that is still looking.
#[derive(Debug)]
pub(crate) struct Discovery {
    id: Option<Id>,
    wanted: Wanted,
    deadline: Duration,
    /// Whether it ends when nothing more is to come.
    settles: bool,
    /// When an address is looked up again, or whether anything more is to come.
    retry: Duration,
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
    /// Whether a record is what is looked for; `peers` are those that are connected, with their topics.
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

impl Core {
    pub(crate) fn discover(&mut self, id: Option<Id>, discover: Discover, now: Now) {
        let timeout = discover.timeout_ms.map_or(DEFAULT_DISCOVER, Duration::from_millis);
        if timeout > MAX_DISCOVER {
            let message = format!("`timeoutMs` may be at most {}", MAX_DISCOVER.as_millis());
            return self.refuse(id, ErrorCode::InvalidArgument, message);
        }
        if self.parent.discoveries.len() >= MAX_INFLIGHT {
            return self.refuse(id, ErrorCode::Busy, "too many `discover` commands are still looking");
        }
        let wanted = match (discover.topic, discover.address, discover.capability) {
            (None, None, None) => Wanted::All,
            (Some(topic), None, None) => Wanted::Topic(topic),
            (None, None, Some(capability)) => Wanted::Capability(capability),
            (None, Some(address), None) => match parse_address(&address) {
                Ok(address) => Wanted::Address(address),
                Err(error) => {
                    return self.refuse(id, ErrorCode::InvalidArgument, format!("`address`: {error}"));
                }
            },
            _ => {
                let message = "`discover` takes one of `topic`, `address` and `capability`";
                return self.refuse(id, ErrorCode::InvalidArgument, message);
            }
        };
        self.parent.open_requests.extend(id.clone());
        let deadline = now.mono + timeout;
        let (settles, retry) = match (&wanted, discover.timeout_ms) {
            (Wanted::Address(_), _) => (false, now.mono),
            (_, None) => (true, now.mono + SETTLED),
            (_, Some(_)) => (false, deadline),
        };
        self.parent.discoveries.push(Discovery {
            id,
            wanted,
            deadline,
            settles,
            retry,
            seen: BTreeSet::new(),
        });
        let known: Vec<SignedRecord> = self.directory.records.iter(now.unix_ms).cloned().collect();
        for record in known {
            self.found(&record, true, now);
        }
        self.end_discoveries(now);
    }

    /// Tells those who look for an agent that it was found; `by_latest` only the latest of them.
    pub(crate) fn found(&mut self, record: &SignedRecord, by_latest: bool, now: Now) {
        // What is not told because the parent does not read is told before the discovery ends.
        if !self.parent.output.takes_commands() {
            return;
        }
        let skip = if by_latest { self.parent.discoveries.len().saturating_sub(1) } else { 0 };
        let mut tell = Vec::new();
        let peers = &self.peers.connected;
        for discovery in self.parent.discoveries.iter_mut().skip(skip) {
            if discovery.wanted.matches(record, peers) && discovery.seen.insert(record.address()) {
                if discovery.settles {
                    discovery.retry = now.mono + SETTLED;
                }
                tell.push(discovery.id.clone());
            }
        }
        for id in tell {
            self.tell_found(record, id);
        }
    }

    /// Whether no records are on their way: nobody is looked up or dialled, and every connected peer's record is known.
    fn knows_all_peers(&self, now: Now) -> bool {
        self.directory.lookups.running() + self.directory.lookups.waiting() == 0
            && self.peers.dialing.is_empty()
            && self
                .peers
                .connected
                .keys()
                .all(|peer| self.directory.records.by_peer(peer, now.unix_ms).is_some())
    }

    /// Answers every `discover` that is done: it has found the one it wanted, or all that there is, or its time is over. Asks again for the rest.
    pub(crate) fn end_discoveries(&mut self, now: Now) {
        if self.parent.discoveries.is_empty() {
            return;
        }
        let knows_all = self.knows_all_peers(now);
        let is_done = |discovery: &Discovery| {
            let enough = match discovery.wanted {
                Wanted::Address(_) => true,
                _ => discovery.settles && knows_all && discovery.retry <= now.mono,
            };
            enough && !discovery.seen.is_empty() || discovery.deadline <= now.mono
        };
        // One at a time, for each may have as many lines to tell as there are agents.
        while self.parent.output.takes_commands()
            && let Some(index) = self.parent.discoveries.iter().position(is_done)
        {
            let discovery = self.parent.discoveries.remove(index);
            self.end_discovery(discovery, now);
        }
        let mut lookups = Vec::new();
        for discovery in &mut self.parent.discoveries {
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
            self.resolve(address);
        }
    }

    /// Tells what was found while the parent did not read, and answers.
    fn end_discovery(&mut self, mut discovery: Discovery, now: Now) {
        let unseen: Vec<SignedRecord> = self
            .directory
            .records
            .iter(now.unix_ms)
            .filter(|record| discovery.wanted.matches(record, &self.peers.connected))
            .filter(|record| discovery.seen.insert(record.address()))
            .cloned()
            .collect();
        for record in unseen {
            self.tell_found(&record, discovery.id.clone());
        }
        self.answer(discovery.id, "discover", |answer| answer.count = Some(discovery.seen.len()));
    }

    /// When a `discover` ends or asks again. While the parent does not read, none does.
    pub(crate) fn discovery_deadline(&self) -> Option<Duration> {
        if !self.parent.output.takes_commands() {
            return None;
        }
        self.parent.discoveries.iter().map(|discovery| discovery.retry.min(discovery.deadline)).min()
    }

    /// Ends the `discover` with this id; whether there was one.
    pub(crate) fn cancel_discovery(&mut self, target: &Id) -> bool {
        let Some(index) =
            self.parent.discoveries.iter().position(|discovery| discovery.id.as_ref() == Some(target))
        else {
            return false;
        };
        let discovery = self.parent.discoveries.remove(index);
        self.refuse(discovery.id, ErrorCode::Cancelled, "the search was given up as asked");
        true
    }

    /// Ends every `discover`, because the node closes.
    pub(crate) fn abandon_discoveries(&mut self) {
        for discovery in std::mem::take(&mut self.parent.discoveries) {
            if discovery.id.is_some() {
                self.refuse(discovery.id, ErrorCode::ShuttingDown, "the node closed while it was looking");
            }
        }
    }
}
