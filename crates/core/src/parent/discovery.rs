//! A running `discover`: what it searches for, and how far it is.

use std::collections::BTreeSet;

use alloy_primitives::Address;
use p2p_node_protocol::Discover;
use p2p_node_wire::identity::parse_address;
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::time::Instant;

use crate::peers::Peers;
use crate::peers::finder::query::Query;
use crate::replies::reply_to::ReplyTo;

/// Largest number of questions of one `discover`, so that a peer with an endless list of agents does
/// not keep the node busy. Our choice: eight peers that know 10,000 agents, 35 in each answer.
pub(super) const MAX_QUESTIONS: usize = 2300;

/// A `discover` that is running.
#[derive(Debug)]
pub(crate) struct Discovery {
    /// The command, to which the node answers.
    pub(super) command: ReplyTo,
    pub(super) filter: DiscoverFilter,
    pub(super) deadline: Instant,
    /// `true` if the `discover` ends early when no more results are likely (no `timeoutMs`).
    pub(super) ends_when_quiet: bool,
    /// For an address: time of the next lookup. Otherwise: time of the next check for an early end.
    pub(super) retry: Instant,
    pub(super) seen: BTreeSet<Address>,
    /// Distinguishes this `discover` in the answers of peers.
    pub(super) number: u64,
    /// Number of questions to peers without an answer.
    pub(super) open_questions: usize,
    /// Number of questions so far.
    pub(super) questions: usize,
    /// `true` if a peer has listed all matching agents that it knows.
    pub(super) answered: bool,
    /// `true` if matching agents may be missing: a peer failed to answer, or no peer can know all.
    pub(super) incomplete: bool,
}

impl Discovery {
    /// Returns `true` if the results are complete as far as the network knows.
    pub(super) fn is_complete(&self) -> bool {
        match self.filter {
            DiscoverFilter::Address(_) => !self.seen.is_empty(),
            _ => self.answered && self.open_questions == 0 && !self.incomplete,
        }
    }
}

/// The agents that a `discover` searches for.
#[derive(Debug)]
pub(super) enum DiscoverFilter {
    All,
    Topic(String),
    Capability(String),
    Address(Address),
}

impl DiscoverFilter {
    /// Returns what a command searches for.
    ///
    /// # Errors
    /// Returns an explanation for people if the command selects in two ways or has no valid address.
    pub(super) fn of(discover: Discover) -> Result<Self, String> {
        match (discover.topic, discover.address, discover.capability) {
            (None, None, None) => Ok(DiscoverFilter::All),
            (Some(topic), None, None) => Ok(DiscoverFilter::Topic(topic)),
            (None, None, Some(capability)) => Ok(DiscoverFilter::Capability(capability)),
            (None, Some(address), None) => parse_address(&address)
                .map(DiscoverFilter::Address)
                .map_err(|error| format!("`address`: {error}")),
            _ => Err("`discover` takes at most one of `topic`, `address` and `capability`".to_owned()),
        }
    }

    /// Returns the question to other nodes. An address is looked up in the DHT instead.
    pub(super) fn query(&self) -> Option<Query> {
        match self {
            DiscoverFilter::All => Some(Query::default()),
            DiscoverFilter::Topic(topic) => Some(Query::topics([topic])),
            DiscoverFilter::Capability(capability) => Some(Query::capability(capability)),
            DiscoverFilter::Address(_) => None,
        }
    }

    /// Returns the topic that the parent searches for.
    pub(super) fn topic(&self) -> Option<&str> {
        match self {
            DiscoverFilter::Topic(topic) => Some(topic),
            _ => None,
        }
    }

    /// Returns `true` if the record matches. `peers` has the topics of connected peers.
    pub(super) fn matches(&self, record: &SignedRecord, peers: &Peers) -> bool {
        match self {
            DiscoverFilter::All => true,
            DiscoverFilter::Address(wanted) => *wanted == record.address(),
            DiscoverFilter::Capability(wanted) => record.record.capabilities.contains(wanted),
            DiscoverFilter::Topic(wanted) => {
                let peer = peers.table.connection(&record.peer_id());
                record.record.has_topic(wanted) || peer.is_some_and(|peer| peer.topics.contains(wanted))
            }
        }
    }
}
