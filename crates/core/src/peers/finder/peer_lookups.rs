//! Lookups of an address at connected peers, for networks without DHT servers. The node asks some
//! peers, and each of them may ask some of its own peers.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_protocol::Counter;
use p2p_node_wire::envelope::{FindAgents, WIRE_VERSION};
use p2p_node_wire::time::Instant;
use prost::Message as _;

use super::{MAX_PEERS_ASKED, Purpose};
use crate::cx::Cx;
use crate::directory::Directory;
use crate::directory::lookups::MAX_LOOKUPS;
use crate::effect::NetworkCommand;
use crate::gate::rate_limiter::{AtLimit, Quota, RateLimiter};
use crate::input::Token;
use crate::local::Local;
use crate::peers::Peers;
use crate::peers::limits::MAX_CONNECTIONS;
use crate::signal::Signal;

/// Largest number of questions of peers that the node forwards at the same time: our choice, four
/// peers that each run all their lookups at once.
pub(crate) const MAX_FORWARDED: usize = 4 * MAX_LOOKUPS;
/// Largest number of questions for lookups and forwarded questions without an answer.
pub(super) const MAX_QUESTIONS_FOR_ADDRESSES: usize = MAX_PEERS_ASKED * (MAX_LOOKUPS + MAX_FORWARDED);
/// Rate at which the node forwards the questions of each peer. Our choice: two rounds of all lookups of
/// a node at once; a peer that asks for ever costs 80 small questions a second.
const FORWARDS: Quota = Quota {
    burst: 2 * MAX_LOOKUPS as u32,
    interval: Duration::from_millis(100),
    max_keys: MAX_CONNECTIONS,
    at_limit: AtLimit::Forget,
};
/// Time after which the node answers a forwarded question in any case: our choice, less than half of
/// the timeout of the asking node.
const FORWARD_TIME: Duration = Duration::from_secs(2);

/// A lookup that asks peers.
#[derive(Debug)]
struct PeerLookup {
    /// Number of questions without an answer.
    open: usize,
    /// `true` if the lookup in the DHT has ended.
    dht_ended: bool,
}

/// The question of a peer that the node has forwarded.
#[derive(Debug)]
struct Forwarded {
    /// The peer that asked.
    peer: PeerId,
    question: FindAgents,
    address: Address,
    deadline: Instant,
    /// Number of questions without an answer.
    open: usize,
    /// `true` if an answer had a record. The directory may still verify it.
    has_record: bool,
}

/// The lookups at peers, and the forwarded questions.
#[derive(Debug)]
pub(crate) struct PeerLookups {
    /// By the token of the lookup in the directory.
    running: BTreeMap<Token, PeerLookup>,
    /// By the token of the question.
    forwarded: BTreeMap<Token, Forwarded>,
    forwards: RateLimiter<PeerId>,
}

impl Default for PeerLookups {
    fn default() -> Self {
        PeerLookups {
            running: BTreeMap::new(),
            forwarded: BTreeMap::new(),
            forwards: RateLimiter::new(FORWARDS),
        }
    }
}

impl PeerLookups {
    /// Returns the numbers of running lookups, of forwarded questions, and of peers with forwarded
    /// questions.
    pub(crate) fn lens(&self) -> (usize, usize, usize) {
        (self.running.len(), self.forwarded.len(), self.forwards.len())
    }
}

impl PeerLookups {
    /// Returns `true` if the node may forward one more question of a peer: one for each that is free,
    /// so that peers that ask all they can leave places for others.
    fn has_place(&self, peer: &PeerId) -> bool {
        let of_peer = self.forwarded.values().filter(|forwarded| forwarded.peer == *peer).count();
        of_peer < MAX_FORWARDED.saturating_sub(self.forwarded.len())
    }
}

impl Peers {
    /// Starts a lookup at peers beside the lookup in the DHT, if no DHT server is connected: the DHT
    /// would have no answer, or a late one.
    pub(crate) fn on_lookup_started(
        &mut self,
        lookup: Token,
        address: Address,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        if self.table.connected_servers().next().is_none() {
            self.look_up_at_peers(lookup, address, directory, cx);
        }
    }

    /// Handles the end of a lookup in the DHT. Without an answer, the lookup continues at peers.
    pub(crate) fn on_query_ended(
        &mut self,
        lookup: Token,
        local: &mut Local,
        directory: &mut Directory,
        cx: &mut Cx,
    ) {
        let unanswered = directory.lookups.unanswered(lookup);
        if let Some(address) = unanswered {
            self.look_up_at_peers(lookup, address, directory, cx);
        }
        match self.finder.lookups.running.get_mut(&lookup) {
            Some(running) if running.open > 0 && unanswered.is_some() => running.dht_ended = true,
            _ => {
                self.finder.lookups.running.remove(&lookup);
                directory.on_query_ended(lookup, local, cx);
            }
        }
    }

    /// Asks peers for an agent, once in each lookup.
    fn look_up_at_peers(&mut self, lookup: Token, address: Address, directory: &Directory, cx: &mut Cx) {
        // A node looks up its own record to check the DHT.
        if address == cx.identity.address || self.finder.lookups.running.contains_key(&lookup) {
            return;
        }
        let open = self.ask_for_address(&Purpose::Lookup(lookup, address), true, None, directory, cx);
        if open > 0 {
            cx.stats.count(Counter::PeerLookups);
            self.finder.lookups.running.insert(lookup, PeerLookup { open, dht_ended: false });
        }
    }

    /// Returns the connected nodes that answer questions, in random order, DHT servers and others in turn. So
    /// half of those asked are no servers: whoever surrounds an agent with servers that deny its record leaves
    /// the other half.
    fn peers_of_both_kinds(&self, directory: &Directory, cx: &mut Cx) -> Vec<PeerId> {
        let peers = self.peers_with_record(directory, cx);
        let (servers, others): (Vec<PeerId>, Vec<PeerId>) =
            peers.into_iter().partition(|peer| self.table.is_dht_server(peer));
        let (mut servers, mut others) = (servers.into_iter(), others.into_iter());
        let mut mixed = Vec::new();
        loop {
            let (other, server) = (others.next(), servers.next());
            if other.is_none() && server.is_none() {
                return mixed;
            }
            mixed.extend(other.into_iter().chain(server));
        }
    }

    /// Asks up to [`MAX_PEERS_ASKED`] peers for an address. Returns the number of questions.
    fn ask_for_address(
        &mut self,
        purpose: &Purpose,
        forward: bool,
        except: Option<PeerId>,
        directory: &Directory,
        cx: &mut Cx,
    ) -> usize {
        let (Purpose::Lookup(_, address) | Purpose::Forwarded(_, address)) = purpose else { return 0 };
        let mut peers = self.peers_of_both_kinds(directory, cx);
        peers.retain(|peer| Some(*peer) != except);
        peers.truncate(MAX_PEERS_ASKED);
        let question = FindAgents {
            version: WIRE_VERSION,
            network: cx.identity.network.clone(),
            limit: 1,
            address: Bytes::copy_from_slice(address.as_slice()),
            forward,
            ..FindAgents::default()
        };
        peers.iter().filter(|peer| self.put_question(**peer, *purpose, None, &question, cx)).count()
    }

    /// Records the end of a question of a lookup at peers.
    pub(super) fn on_lookup_answer(&mut self, lookup: Token, cx: &mut Cx) {
        let Some(running) = self.finder.lookups.running.get_mut(&lookup) else { return };
        running.open -= 1;
        if running.open == 0 && running.dht_ended {
            self.finder.lookups.running.remove(&lookup);
            cx.signal(Signal::PeersAnswered(lookup));
        }
    }

    /// Forwards the question of a peer for an unknown address. Returns `false` if the node has to
    /// answer at once.
    pub(super) fn forward_question(
        &mut self,
        token: Token,
        peer: PeerId,
        question: &FindAgents,
        directory: &Directory,
        cx: &mut Cx,
    ) -> bool {
        let Ok(address) = Address::try_from(question.address.as_ref()) else { return false };
        let is_known = directory.records.get(&address, cx.now.unix_ms).is_some();
        if !question.forward
            || is_known
            || address == cx.identity.address
            || !self.finder.lookups.has_place(&peer)
            || !self.finder.lookups.forwards.admit(peer, cx.now.mono)
        {
            return false;
        }
        let purpose = Purpose::Forwarded(token, address);
        let open = self.ask_for_address(&purpose, false, Some(peer), directory, cx);
        if open == 0 {
            return false;
        }
        cx.stats.count(Counter::FindsForwarded);
        let deadline = cx.now.mono + FORWARD_TIME;
        let question = question.clone();
        let forwarded = Forwarded { peer, question, address, deadline, open, has_record: false };
        self.finder.lookups.forwarded.insert(token, forwarded);
        true
    }

    /// Handles the answer to a forwarded question. The last answer without a record ends the
    /// question.
    pub(super) fn on_forwarded_answer(
        &mut self,
        token: Token,
        has_record: bool,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let Some(forwarded) = self.finder.lookups.forwarded.get_mut(&token) else { return };
        forwarded.open -= 1;
        forwarded.has_record |= has_record;
        if forwarded.open == 0 && !forwarded.has_record {
            self.end_forwarded(token, directory, cx);
        }
    }

    fn end_forwarded(&mut self, token: Token, directory: &Directory, cx: &mut Cx) {
        let Some(forwarded) = self.finder.lookups.forwarded.remove(&token) else { return };
        cx.stats.count(Counter::FindsAnswered);
        let body = self.found(&forwarded.question, directory, cx).encode_to_vec().into();
        cx.network(NetworkCommand::AnswerFind { token, body });
    }

    /// Answers the forwarded questions for an agent whose record the directory stored.
    pub(crate) fn answer_forwarded(&mut self, address: &Address, directory: &Directory, cx: &mut Cx) {
        self.end_forwarded_if(|forwarded| forwarded.address == *address, directory, cx);
    }

    /// Answers the forwarded questions whose time is over.
    pub(crate) fn end_overdue_forwarded(&mut self, directory: &Directory, cx: &mut Cx) {
        let now = cx.now.mono;
        self.end_forwarded_if(|forwarded| forwarded.deadline <= now, directory, cx);
    }

    fn end_forwarded_if(&mut self, is_over: impl Fn(&Forwarded) -> bool, directory: &Directory, cx: &mut Cx) {
        let all = self.finder.lookups.forwarded.iter();
        let over: Vec<Token> = all.filter(|(_, one)| is_over(one)).map(|(token, _)| *token).collect();
        for token in over {
            self.end_forwarded(token, directory, cx);
        }
    }

    /// Returns the end of the first forwarded question.
    pub(crate) fn forwarded_deadline(&self) -> Option<Instant> {
        self.finder.lookups.forwarded.values().map(|forwarded| forwarded.deadline).min()
    }
}
