//! The peer score of the TOS document: what a peer is worth to this node. It ranks whom to dial and
//! whom to keep.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_wire::record::SignedRecord;

use crate::directory::Directory;
use crate::input::Now;
use crate::local::addresses::{ip_of, is_relayed};
use crate::peers::Peers;
use crate::peers::finder::query::Query;
use crate::peers::table::Connection;
use crate::topics::is_node_topic;

/// Uptime of a peer that the node does not know, from the TOS document.
pub(crate) const DEFAULT_UPTIME: f64 = 0.8;
/// Round trip time of a peer that the node has not measured, from the TOS document.
const DEFAULT_LATENCY: Duration = Duration::from_millis(100);
/// Bandwidth of every peer in Mbit/s, from the TOS document. The node does not measure bandwidth: what
/// agents exchange is small, so its rate says nothing about the path.
const BANDWIDTH: f64 = 10.0;
/// Number of recent searches whose matches count as sought: our choice.
pub(crate) const MAX_SOUGHT: usize = 8;

/// What the score of a peer depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Observed {
    /// Share of the time in which the peer was up, from 0 to 1. `None` for an unknown peer.
    pub(crate) uptime: Option<f64>,
    /// Round trip time, by pings.
    pub(crate) latency: Option<Duration>,
    /// The peer's agent has a topic of this agent, or matches what this agent recently searched for.
    pub(crate) is_sought: bool,
    /// The peer has an address in an IP prefix in which the node has no other connection.
    pub(crate) is_diverse: bool,
}

/// Returns the score of a peer: 79 for an unknown one. At most 125, because the uptime that the node
/// observes is a share.
pub(crate) fn score(observed: &Observed) -> f64 {
    let uptime = observed.uptime.unwrap_or(DEFAULT_UPTIME).min(1.5);
    let latency_ms = observed.latency.unwrap_or(DEFAULT_LATENCY).as_secs_f64() * 1000.0;
    let latency = (1.2 - latency_ms / 1000.0).max(0.5);
    let bandwidth = (0.8 + BANDWIDTH / 100.0).min(1.3);
    let sought = if observed.is_sought { 1.1 } else { 1.0 };
    let diverse = if observed.is_diverse { 1.05 } else { 1.0 };
    100.0 * uptime * latency * bandwidth * sought * diverse
}

/// A part of the Internet, which often has one owner: our choice of /16 for IPv4 and /32 for IPv6, as
/// providers get them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefix([u8; 5]);

impl Prefix {
    /// Returns the prefix of a direct address. That of a relayed one is the relay's.
    pub(crate) fn of(addr: &Multiaddr) -> Option<Self> {
        let ip = ip_of(addr).filter(|_| !is_relayed(addr))?;
        Some(Prefix(match ip {
            IpAddr::V4(ip) => {
                let [first, second, ..] = ip.octets();
                [4, first, second, 0, 0]
            }
            IpAddr::V6(ip) => {
                let [first, second, third, fourth, ..] = ip.octets();
                [first, second, third, fourth, 6]
            }
        }))
    }
}

/// The searches of this agent, the latest last.
#[derive(Debug, Default)]
pub(crate) struct Sought(VecDeque<Query>);

impl Sought {
    /// Adds a search. One for all agents says nothing about any of them.
    pub(crate) fn add(&mut self, query: &Query) {
        if *query == Query::default() || self.0.contains(query) {
            return;
        }
        if self.0.len() >= MAX_SOUGHT {
            self.0.pop_front();
        }
        self.0.push_back(query.clone());
    }

    /// Returns the number of searches.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn matches(&self, record: &SignedRecord) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let hashes = record.record.all_topic_hashes();
        self.0.iter().any(|query| query.selects(record, &hashes))
    }
}

/// What all scores of one decision share.
#[derive(Debug)]
pub(crate) struct Scoring<'a> {
    peers: &'a Peers,
    /// The topics of this agent.
    topics: &'a BTreeSet<String>,
    /// Number of connected peers in each prefix.
    prefixes: BTreeMap<Prefix, usize>,
    now: Now,
}

impl<'a> Scoring<'a> {
    /// Prepares a decision at this time.
    pub(crate) fn new(peers: &'a Peers, topics: &'a BTreeSet<String>, now: Now) -> Self {
        let mut prefixes = BTreeMap::new();
        for (_, connection) in peers.table.connections() {
            for prefix in connection.links.prefixes() {
                *prefixes.entry(prefix).or_default() += 1;
            }
        }
        Scoring { peers, topics, prefixes, now }
    }

    fn count(&self, prefix: &Prefix) -> usize {
        self.prefixes.get(prefix).copied().unwrap_or_default()
    }

    fn observed(&self, peer: &PeerId) -> Observed {
        let history = self.peers.histories.get(peer);
        let uptime = history.map(|history| history.uptime(self.now.mono));
        let latency = history.and_then(|history| history.latency());
        Observed { uptime, latency, is_sought: false, is_diverse: false }
    }

    /// Returns the score of a connected peer.
    pub(crate) fn of_connected(&self, peer: &PeerId, connection: &Connection, directory: &Directory) -> f64 {
        let record = directory.records.by_peer(peer, self.now.unix_ms);
        let shares = |topic: &String| !is_node_topic(topic) && self.topics.contains(topic);
        score(&Observed {
            is_sought: connection.topics.iter().any(shares)
                || record.is_some_and(|record| self.peers.sought.matches(record)),
            is_diverse: connection.links.prefixes().iter().any(|prefix| self.count(prefix) == 1),
            ..self.observed(peer)
        })
    }

    /// Returns the score of a node that the node may dial.
    pub(crate) fn of_candidate(&self, record: &SignedRecord) -> f64 {
        let shares = |topic: &String| !is_node_topic(topic) && record.record.has_topic(topic);
        let mut prefixes = record.record.addrs.iter().filter_map(Prefix::of);
        score(&Observed {
            is_sought: self.topics.iter().any(shares) || self.peers.sought.matches(record),
            is_diverse: prefixes.any(|prefix| self.count(&prefix) == 0),
            ..self.observed(&record.peer_id())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uptime: f64, latency_ms: u64, is_sought: bool, is_diverse: bool) -> f64 {
        let latency = Some(Duration::from_millis(latency_ms));
        score(&Observed { uptime: Some(uptime), latency, is_sought, is_diverse })
    }

    fn is(score: f64, expected: f64) -> bool {
        (score - expected).abs() < 1e-9
    }

    #[test]
    fn score_is_the_product_of_the_factors_of_the_source_document() {
        assert!(is(score(&Observed::default()), 100.0 * 0.8 * 1.1 * 0.9), "the defaults");
        assert!(is(of(1.0, 0, false, false), 100.0 * 1.2 * 0.9));
        assert!(is(of(1.0, 700, false, false), 100.0 * 0.5 * 0.9), "the latency factor is at least 0.5");
        assert!(is(of(1.0, 60_000, false, false), 100.0 * 0.5 * 0.9));
        assert!(is(of(2.0, 200, false, false), 100.0 * 1.5 * 0.9), "the uptime factor is at most 1.5");
        assert!(is(of(1.0, 200, true, false), 100.0 * 0.9 * 1.1));
        assert!(is(of(1.0, 200, false, true), 100.0 * 0.9 * 1.05));
        assert!(is(of(0.5, 100, true, true), 100.0 * 0.5 * 1.1 * 0.9 * 1.1 * 1.05));
        assert!(is(of(0.0, 100, true, true), 0.0));
    }

    #[test]
    fn prefix_is_16_bits_of_ipv4_and_32_of_ipv6_of_direct_addresses() {
        let prefix = |addr: &str| Prefix::of(&addr.parse().expect("an address"));
        assert_eq!(prefix("/ip4/192.0.2.1/tcp/1"), prefix("/ip4/192.0.77.9/udp/2/quic-v1"));
        assert_ne!(prefix("/ip4/192.0.2.1/tcp/1"), prefix("/ip4/192.1.2.1/tcp/1"));
        assert_eq!(prefix("/ip6/2001:db8:1::1/tcp/1"), prefix("/ip6/2001:db8:2::1/tcp/1"));
        assert_ne!(prefix("/ip6/2001:db8:1::1/tcp/1"), prefix("/ip6/2001:db9:1::1/tcp/1"));
        assert_eq!(prefix(&format!("/ip4/192.0.2.1/tcp/1/p2p/{}/p2p-circuit", PeerId::random())), None);
        assert_eq!(prefix("/dns4/example.org/tcp/1"), None);
    }

    #[test]
    fn searches_are_remembered_once_and_the_oldest_is_dropped() {
        let mut sought = Sought::default();
        sought.add(&Query::default());
        assert_eq!(sought.len(), 0);
        for number in 0..2 * MAX_SOUGHT {
            sought.add(&Query::capability(&number.to_string()));
            sought.add(&Query::capability(&number.to_string()));
        }
        assert_eq!(sought.len(), MAX_SOUGHT);
        assert_eq!(sought.0.back(), Some(&Query::capability(&(2 * MAX_SOUGHT - 1).to_string())));
    }
}
