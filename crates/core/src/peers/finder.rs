//! The finder: asks other nodes which agents they know, and answers such questions. A DHT server
//! has the records of all agents for which it is one of the closest servers; in a network of up to
//! [`REPLICATION`] servers these are all agents. What a node answers is a hint: the directory
//! verifies each record.

mod network_size;
pub(crate) mod peer_lookups;
pub(crate) mod query;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::limits::{MAX_FIND_TOPICS, MAX_FOUND_BYTES, MAX_FOUND_RECORDS};
use p2p_node_wire::envelope::{FindAgents, FoundAgents, WIRE_VERSION};
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::time::Instant;
use prost::Message as _;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::directory::record_table::MAX_AGENTS;
use crate::effect::NetworkCommand;
use crate::gate::pending_verification::{OfferedRecord, RecordSource};
use crate::gate::rate_limiter::{AtLimit, Quota, RateLimiter};
use crate::input::Token;
use crate::peers::Peers;
use crate::peers::limits::{MAX_CONNECTIONS, MIN_PEERS};
use crate::signal::Signal;
use crate::topics::is_node_topic;
use peer_lookups::{MAX_QUESTIONS_FOR_ADDRESSES, PeerLookups};
pub(crate) use query::Query;
use query::decode;

/// Number of servers that store a record, from Kademlia.
pub(crate) const REPLICATION: u32 = 20;
/// Largest number of peers that one `discover` or one lookup asks: our choice, twice the four bootstrap nodes of
/// the first sidecar's network.
const MAX_PEERS_ASKED: usize = 8;
/// Largest number of questions without an answer: our choice, eight searches by eight peers each,
/// beside those for addresses.
pub(crate) const MAX_QUESTIONS: usize = 64 + MAX_QUESTIONS_FOR_ADDRESSES;
/// Number of records that the node asks for to find peers: twice the connections that it seeks.
const SAMPLE: u32 = 2 * MIN_PEERS as u32;
/// Delay of a question after a reason for it, so that one question serves several: our choice.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Shortest interval between two questions for peers: our choice.
const SHORTEST: Duration = Duration::from_secs(1);
/// Longest interval between two questions for peers: our choice, about one question a second for
/// each server of a network of 64 nodes for each server.
const LONGEST: Duration = Duration::from_secs(64);
/// Rate at which the node answers each peer. Our choice: a `discover` in a network of 1,000 agents
/// asks about 30 times at once, and the search of a full directory for 64 topics takes 20 ms.
const ANSWERS: Quota = Quota {
    burst: 256,
    interval: Duration::from_millis(100),
    max_keys: MAX_CONNECTIONS,
    at_limit: AtLimit::Forget,
};
/// Reserve in an answer for the fields beside the records, in bytes.
const RESERVE: usize = 64;

/// The reason for a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The `discover` with this number.
    Discovery(u64),
    /// More connections.
    Connections,
    /// The lookup with this token, of this agent.
    Lookup(Token, Address),
    /// The question of a peer with this token, for this agent.
    Forwarded(Token, Address),
}

impl Purpose {
    /// Returns the agent that the question is for.
    fn address(&self) -> Option<Address> {
        match self {
            Purpose::Discovery(_) | Purpose::Connections => None,
            Purpose::Lookup(_, address) | Purpose::Forwarded(_, address) => Some(*address),
        }
    }
}

/// The result of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The peer did not answer, or not properly.
    Failed,
    /// The peer has more records behind this address.
    More(Address),
    /// The peer has no more records.
    Last {
        /// Number of DHT servers that the peer knows.
        servers: u32,
        /// `true` if the peer learns of some agents only.
        partial: bool,
    },
}

/// A question without an answer.
#[derive(Debug)]
struct Question {
    peer: PeerId,
    purpose: Purpose,
    after: Option<Address>,
}

/// The questions, and the schedule of those for connections.
#[derive(Debug)]
pub(crate) struct Finder {
    open: BTreeMap<Token, Question>,
    answers: RateLimiter<PeerId>,
    due: Instant,
    last: Instant,
    interval: Duration,
    /// The number of agents that a bootstrap peer last claimed.
    claimed_by_bootstrap: usize,
    /// Earliest time of the next question for the size of the network.
    size_due: Instant,
    lookups: PeerLookups,
}

impl Default for Finder {
    fn default() -> Self {
        Finder {
            open: BTreeMap::new(),
            answers: RateLimiter::new(ANSWERS),
            due: Instant::ZERO,
            last: Instant::ZERO,
            interval: SHORTEST,
            claimed_by_bootstrap: 0,
            size_due: Instant::ZERO,
            lookups: PeerLookups::default(),
        }
    }
}

impl Finder {
    pub(crate) fn questions(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn peers_answered(&self) -> usize {
        self.answers.len()
    }

    pub(crate) fn lookups(&self) -> &PeerLookups {
        &self.lookups
    }
}

impl Peers {
    /// Returns the peers that know most agents: connected DHT servers, otherwise connected nodes of
    /// our network. In random order.
    fn knowing_peers(&self, directory: &Directory, cx: &mut Cx) -> Vec<PeerId> {
        let servers: Vec<PeerId> = self.table.connected_servers().collect();
        if servers.is_empty() { self.peers_with_record(directory, cx) } else { shuffled(servers, cx) }
    }

    /// Returns the connected nodes of our network that answer questions, in random order.
    fn peers_with_record(&self, directory: &Directory, cx: &mut Cx) -> Vec<PeerId> {
        let answers = |peer: &PeerId| {
            let record = directory.records.by_peer(peer, cx.now.unix_ms);
            record.is_some_and(|record| record.record.role != Role::Light)
        };
        let peers = self.table.admitted().filter(answers).collect();
        shuffled(peers, cx)
    }

    /// Asks several peers for a `discover`. Returns the number of questions.
    pub(crate) fn ask_for_discovery(
        &mut self,
        number: u64,
        query: &Query,
        directory: &Directory,
        cx: &mut Cx,
    ) -> usize {
        self.sought.add(query);
        let mut peers = self.knowing_peers(directory, cx);
        peers.truncate(MAX_PEERS_ASKED);
        let limit = MAX_FOUND_RECORDS as u32;
        let asked = |peer: &PeerId| self.ask(*peer, Purpose::Discovery(number), query, None, limit, cx);
        peers.iter().map(asked).filter(|asked| *asked).count()
    }

    /// Asks a peer for the agents behind an address. Returns `false` if too many questions are open.
    pub(crate) fn ask(
        &mut self,
        peer: PeerId,
        purpose: Purpose,
        query: &Query,
        after: Option<Address>,
        limit: u32,
        cx: &mut Cx,
    ) -> bool {
        let question = FindAgents {
            after: after.map_or_else(Bytes::new, |address| Bytes::copy_from_slice(address.as_slice())),
            limit,
            ..query.question(&cx.identity.network)
        };
        self.put_question(peer, purpose, after, &question, cx)
    }

    /// Sends a question. Returns `false` if too many questions are open.
    fn put_question(
        &mut self,
        peer: PeerId,
        purpose: Purpose,
        after: Option<Address>,
        question: &FindAgents,
        cx: &mut Cx,
    ) -> bool {
        if self.finder.open.len() >= MAX_QUESTIONS {
            return false;
        }
        let token = cx.token();
        self.finder.open.insert(token, Question { peer, purpose, after });
        cx.network(NetworkCommand::SendFind { token, peer, body: question.encode_to_vec().into() });
        true
    }

    /// Handles the answer to a question. The directory verifies the records.
    pub(crate) fn on_found(
        &mut self,
        token: Token,
        response: Result<Bytes, String>,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let Some(Question { peer, purpose, after }) = self.finder.open.remove(&token) else { return };
        let found = response.ok().and_then(|body| decode::<FoundAgents>(peer, &body, cx));
        let answer = match &found {
            None => Answer::Failed,
            Some(FoundAgents { more: false, servers, partial, .. }) => {
                Answer::Last { servers: *servers, partial: *partial }
            }
            // A peer that does not advance would be asked for ever.
            Some(found) => found
                .records
                .last()
                .and_then(|last| SignedRecord::decode(last.clone()).ok())
                .map(|last| last.address())
                .filter(|last| after.is_none_or(|after| *last > after))
                .map_or(Answer::Failed, Answer::More),
        };
        // A wrong claim costs announcements or adds some, and no record.
        if let Some(found) = &found
            && self.table.is_dht_server(&peer)
            && self.table.is_bootstrap(&peer)
        {
            self.finder.claimed_by_bootstrap = (found.agents as usize).min(MAX_AGENTS);
        }
        let expected_address = purpose.address();
        let limit = if expected_address.is_some() { 1 } else { MAX_FOUND_RECORDS };
        let records = found.map(|found| found.records).unwrap_or_default();
        let has_record = !records.is_empty();
        for bytes in records.into_iter().take(limit) {
            let source = RecordSource::Found(peer);
            cx.signal(Signal::RecordReceived(OfferedRecord { bytes, source, expected_address }));
        }
        match purpose {
            Purpose::Discovery(number) => cx.signal(Signal::FindAnswered { number, peer, answer }),
            Purpose::Connections => {}
            Purpose::Lookup(lookup, _) => self.on_lookup_answer(lookup, cx),
            Purpose::Forwarded(question, _) => self.on_forwarded_answer(question, has_record, directory, cx),
        }
    }

    /// Answers the question of a peer from the directory, or forwards it. The answer to a peer that
    /// asks too often or improperly is empty.
    pub(crate) fn find(
        &mut self,
        token: Token,
        peer: PeerId,
        body: Bytes,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let question = decode::<FindAgents>(peer, &body, cx)
            .filter(|question| question.network == cx.identity.network)
            .filter(|_| cx.identity.role != Role::Light && self.finder.answers.admit(peer, cx.now.mono));
        if question.is_some() {
            self.touch(&peer, cx);
        }
        let body = match question {
            Some(question) if self.forward_question(token, peer, &question, directory, cx) => return,
            Some(question) => {
                cx.stats.count(Counter::FindsAnswered);
                self.found(&question, directory, cx).encode_to_vec().into()
            }
            None => {
                cx.stats.count(Counter::FindsRefused);
                Bytes::new()
            }
        };
        cx.network(NetworkCommand::AnswerFind { token, body });
    }

    fn found(&self, question: &FindAgents, directory: &Directory, cx: &Cx) -> FoundAgents {
        let query = Query::from(question);
        let after = Address::try_from(question.after.as_ref()).ok();
        let mut found = FoundAgents {
            version: WIRE_VERSION,
            records: Vec::new(),
            more: false,
            agents: directory.records.met_len() as u32,
            servers: self.table.servers_len() as u32,
            partial: directory.is_partial,
        };
        if let Ok(address) = Address::try_from(question.address.as_ref()) {
            let known = directory.records.get(&address, cx.now.unix_ms);
            found.records.extend(known.map(|record| record.bytes.clone()));
            return found;
        }
        let mut bytes = RESERVE;
        let behind = directory.records.behind(after, cx.now.unix_ms);
        for (record, _) in behind.filter(|(record, hashes)| query.selects(record, hashes)) {
            // Tag and length take at most 4 bytes.
            bytes += record.bytes.len() + 4;
            found.more = found.records.len() >= question.limit as usize || bytes > MAX_FOUND_BYTES;
            if found.more {
                break;
            }
            found.records.push(record.bytes.clone());
        }
        found
    }

    /// Schedules a question for more connections soon: the node has a new subscription, a new
    /// server, or lost a connection.
    pub(crate) fn find_soon(&mut self, cx: &Cx) {
        let soon = (cx.now.mono + DEBOUNCE).max(self.finder.last + SHORTEST);
        self.finder.due = self.finder.due.min(soon);
        self.finder.interval = SHORTEST;
    }

    pub(crate) fn find_deadline(&self, cx: &Cx) -> Option<Instant> {
        (cx.identity.role != Role::Bootstrap && self.table.connections_len() > 0).then_some(self.finder.due)
    }

    /// Asks one peer for agents to connect to, when this is due and the node needs connections.
    /// `topics` returns the topics that need connected subscribers. A bootstrap node does not seek
    /// connections.
    pub(crate) fn find_peers_to_dial(
        &mut self,
        topics: impl FnOnce() -> BTreeSet<String>,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let now = cx.now.mono;
        if self.find_deadline(cx).is_none_or(|due| now < due) {
            return;
        }
        let mut lacking = topics();
        lacking.retain(|topic| !is_node_topic(topic) && self.subscribers(topic) < self.wanted_subscribers());
        let lacking: Vec<String> = lacking.into_iter().collect();
        let few = self.has_few();
        self.finder.last = now;
        self.finder.due = now + cx.jitter.spread(self.finder.interval);
        self.finder.interval = (2 * self.finder.interval).min(LONGEST);
        if !few && lacking.is_empty() {
            self.finder.due = now + cx.jitter.spread(LONGEST);
            return;
        }
        let Some(peer) = self.knowing_peers(directory, cx).pop() else { return };
        let queries = lacking.chunks(MAX_FIND_TOPICS).map(Query::topics);
        let all = few.then(Query::default);
        for query in all.into_iter().chain(queries) {
            // A random start spreads the connections over all agents. Agents in front of it matter if
            // there are few.
            let mut start = [0; 20];
            start.iter_mut().for_each(|byte| *byte = cx.jitter.index(256) as u8);
            self.ask(peer, Purpose::Connections, &query, Some(Address::from(start)), SAMPLE, cx);
            if query != Query::default() || directory.records.len() < MIN_PEERS {
                self.ask(peer, Purpose::Connections, &query, None, SAMPLE, cx);
            }
        }
    }
}

/// Returns the peers in random order.
fn shuffled(mut peers: Vec<PeerId>, cx: &mut Cx) -> Vec<PeerId> {
    for end in (1..peers.len()).rev() {
        peers.swap(end, cx.jitter.index(end + 1));
    }
    peers
}

#[cfg(test)]
mod tests;
