//! Reputations: a score from 0 to 1 of each node, agent and host, and the bans of those below the
//! threshold. It begins at 1, so good conduct only makes up for faults, and nobody earns credit.

mod bans;
pub(crate) mod conduct;
mod standings;

use std::fmt;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_wire::time::Instant;

use crate::gate::host::Host;
use crate::input::Now;
pub(crate) use bans::Ban;
use bans::Bans;
pub use bans::{MAX_BANS, PersistedBan};
pub use conduct::Conduct;
pub use standings::MAX_STANDINGS;
use standings::{Standing, Standings};

/// Reputation below which a party is banned, from the TOS document.
pub(crate) const THRESHOLD: f64 = 0.3;
/// Part of a penalty of a node that its host gets. Our choice: the hosts of an office or a campus have
/// one address, and one bad node must not cost the others theirs.
pub(crate) const HOST_SHARE: f64 = 0.25;
/// Number of banned nodes of a host from which on the host may be banned, as in Lighthouse
/// (`BANNED_PEERS_PER_IP_THRESHOLD`).
pub(crate) const BANNED_NODES_OF_HOST: usize = 5;

/// Whose reputation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// An agent, on any node.
    Agent(Address),
    /// A node, for any agent.
    Node(PeerId),
    /// A host, with all its nodes.
    Host(Host),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::Agent(address) => address.fmt(f),
            Party::Node(peer) => peer.fmt(f),
            Party::Host(host) => host.fmt(f),
        }
    }
}

/// The reputations and bans.
#[derive(Debug, Default)]
pub(crate) struct Reputations {
    agents: Standings,
    nodes: Standings,
    hosts: Standings,
    bans: Bans,
}

impl Reputations {
    /// Restores the bans of an earlier process that have not ended.
    pub(crate) fn new(persisted: &[(Party, PersistedBan)], now: Now) -> Self {
        Reputations { bans: Bans::restore(persisted, now), ..Reputations::default() }
    }

    fn standings(&self, party: &Party) -> &Standings {
        match party {
            Party::Agent(_) => &self.agents,
            Party::Node(_) => &self.nodes,
            Party::Host(_) => &self.hosts,
        }
    }

    fn standings_mut(&mut self, party: &Party) -> &mut Standings {
        match party {
            Party::Agent(_) => &mut self.agents,
            Party::Node(_) => &mut self.nodes,
            Party::Host(_) => &mut self.hosts,
        }
    }

    /// Returns the reputation of a party, from 0 to 1.
    pub(crate) fn score(&self, party: &Party, now: Instant) -> f64 {
        match self.bans.get(party) {
            Some(ban) => ban.score(now),
            None => self.standings(party).score(party, now),
        }
    }

    /// Returns the lower reputation of a node and its agent, with two digits. `prior` is what the registry
    /// takes from that of the agent.
    pub(crate) fn of_peer(&self, agent: Option<Address>, node: &PeerId, prior: f64, now: Instant) -> f64 {
        let of_agent = agent.map_or(1.0, |agent| (self.score(&Party::Agent(agent), now) - prior).max(0.0));
        rounded(of_agent.min(self.score(&Party::Node(*node), now)))
    }

    /// Changes the reputation of a party by a share of what a conduct costs or earns. Returns `true`
    /// if the party is to be banned. A ban leaves the reputation of its party to time. `prior` is what the
    /// registry takes from the reputation; alone it bans nobody.
    pub(crate) fn apply(
        &mut self,
        party: Party,
        conduct: Conduct,
        share: f64,
        prior: f64,
        now: Instant,
    ) -> bool {
        if self.bans.get(&party).is_some() {
            return false;
        }
        let score = self.standings_mut(&party).apply(party, conduct, share, now);
        conduct.rule().change < 0.0 && score - prior < THRESHOLD
    }

    /// Returns `true` if no reputation can rise.
    pub(crate) fn are_full(&self) -> bool {
        self.agents.len() + self.nodes.len() + self.hosts.len() == 0
    }

    /// Bans a party. `host` is the host of a node. Returns the ban, and the party whose ban ended
    /// because there are too many.
    pub(crate) fn ban(
        &mut self,
        party: Party,
        reason: Conduct,
        host: Option<Host>,
        now: Instant,
    ) -> (Ban, Option<Party>) {
        let score = self.score(&party, now);
        let earlier = self.standings_mut(&party).take(&party).map_or(0, |standing| standing.bans);
        let ban = Ban::new(score, reason, earlier, host, now);
        (ban, self.bans.insert(party, ban))
    }

    /// Returns the ban of a party.
    pub(crate) fn ban_of(&self, party: &Party) -> Option<&Ban> {
        self.bans.get(party)
    }

    /// Returns `true` if an agent or its node is banned.
    pub(crate) fn is_banned(&self, agent: &Address, node: &PeerId) -> bool {
        !self.bans.is_empty()
            && (self.bans.get(&Party::Agent(*agent)).is_some()
                || self.bans.get(&Party::Node(*node)).is_some())
    }

    /// Returns the number of banned nodes of a host.
    pub(crate) fn banned_nodes(&self, host: Host) -> usize {
        self.bans.nodes_of(host)
    }

    /// Returns the banned parties.
    pub(crate) fn banned(&self) -> impl Iterator<Item = (&Party, &Ban)> {
        self.bans.iter()
    }

    /// Ends the bans that are over, and returns their parties.
    pub(crate) fn end_bans(&mut self, now: Instant) -> Vec<Party> {
        let mut ended = Vec::new();
        while let Some((party, ban)) = self.bans.pop_ended(now) {
            let standing = Standing::after_ban(ban.number, now);
            self.standings_mut(&party).set(party, standing, now);
            ended.push(party);
        }
        ended
    }

    /// Gives a party its full reputation. Returns `true` if that ends a ban.
    pub(crate) fn pardon(&mut self, party: &Party) -> bool {
        self.standings_mut(party).take(party);
        self.bans.remove(party).is_some()
    }

    /// Returns the time at which the next ban ends.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.bans.next_end()
    }

    /// Returns the numbers of agents, nodes and hosts whose reputation is not full, and of bans.
    pub(crate) fn lens(&self) -> [usize; 4] {
        [self.agents.len(), self.nodes.len(), self.hosts.len(), self.bans.len()]
    }
}

/// Rounds a reputation to two digits, as the parent sees it.
pub(crate) fn rounded(score: f64) -> f64 {
    (score * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests;
