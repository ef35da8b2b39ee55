//! Bans: what the node does about nodes, agents and hosts whose reputation is below the threshold.
//!
//! Only what a node could have known counts against it. A node that forwards gossip answers for what
//! every relayer can check, and never for the content, the times or the limits of an authentic frame.

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Counter, Event, Level, PeerBanned, PeerUnbanned};
use p2p_node_wire::record::SignedRecord;
use serde_json::json;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::{Effect, NetworkCommand};
use crate::gate::Gate;
use crate::gate::access_list::{AccessRule, Subject};
use crate::gate::host::Host;
use crate::gate::reputation::Conduct;
use crate::gate::reputation::conduct::Report;
use crate::gate::reputation::{BANNED_NODES_OF_HOST, HOST_SHARE, Party, rounded};
use crate::gate::tier::Tier;
use crate::peers::Peers;

/// Why a ban ends, as `peer_unbanned` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BanEnd {
    /// The reputation has recovered.
    Recovered,
    /// The parent allowed or unblocked the party.
    Pardoned,
    /// There are too many bans.
    Evicted,
}

impl BanEnd {
    fn name(self) -> &'static str {
        match self {
            BanEnd::Recovered => "recovered",
            BanEnd::Pardoned => "pardoned",
            BanEnd::Evicted => "evicted",
        }
    }
}

impl Peers {
    /// Changes the reputation of a node, of its agent and of its host by what the node did. Bans those
    /// that fall below the threshold.
    pub(crate) fn on_conduct(&mut self, report: Report, gate: &mut Gate, directory: &Directory, cx: &mut Cx) {
        let (now, Report { node, agent, conduct }) = (cx.now, report);
        let is_good = conduct.rule().change > 0.0;
        if node == cx.identity.peer {
            return;
        }
        let known = directory.records.by_peer(&node, now.unix_ms).map(SignedRecord::address);
        let agent = agent.or(known);
        if conduct == Conduct::MailAccepted
            && let Some(agent) = &agent
        {
            gate.registry.on_interaction(agent, true, cx);
        }
        if is_good && gate.reputations.are_full() {
            return;
        }
        if gate.tier(agent.as_ref(), &node) == Tier::Allowed {
            return;
        }
        let host = self.host_of(&node, cx);
        let parties = [Some(Party::Node(node)), agent.map(Party::Agent), host.map(Party::Host)];
        for party in parties.into_iter().flatten() {
            let share = if matches!(party, Party::Host(_)) { HOST_SHARE } else { 1.0 };
            let prior = if let Party::Agent(agent) = &party { gate.registry.prior(Some(agent)) } else { 0.0 };
            if !gate.reputations.apply(party, conduct, share, prior, now.mono) {
                continue;
            }
            let has_few = |host| gate.reputations.banned_nodes(host) < BANNED_NODES_OF_HOST;
            if let Party::Host(host) = party
                && has_few(host)
            {
                continue;
            }
            self.ban(party, report, host, gate, directory, cx);
        }
    }

    /// Returns the host of a peer, by its oldest direct link. The node never blames a host that its
    /// operator allowed.
    fn host_of(&self, peer: &PeerId, cx: &Cx) -> Option<Host> {
        let host = self.table.connection(peer)?.links.host()?;
        (cx.identity.address_rules.of_ip(host.ip()) != Some(AccessRule::Allowed)).then_some(host)
    }

    fn ban(
        &mut self,
        party: Party,
        report: Report,
        host: Option<Host>,
        gate: &mut Gate,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        let host = host.filter(|_| matches!(party, Party::Node(_)));
        let (ban, evicted) = gate.reputations.ban(party, report.conduct, host, now.mono);
        if let Some(evicted) = evicted {
            self.end_ban(evicted, BanEnd::Evicted, cx);
        }
        cx.stats.count(Counter::PeersBanned);
        cx.effects.push_back(Effect::PersistBan { party, ban: Some(ban.persisted(now)) });
        let reason = ban.reason.name();
        let meta = json!({ "party": party.to_string(), "reason": reason });
        cx.log_with(Level::Info, "network", format!("banned {party}: {reason}"), meta);
        let agent = match party {
            Party::Agent(agent) => Some(agent),
            Party::Node(node) => directory.records.by_peer(&node, now.unix_ms).map(SignedRecord::address),
            Party::Host(_) => None,
        };
        cx.emit_peer_event(Event::PeerBanned(Box::new(PeerBanned {
            peer_id: node_of(party).map(|node| node.to_string()),
            address: agent.map(|agent| agent.to_string()),
            ip: ip_of(party),
            reason: reason.to_owned(),
            score: rounded(ban.score(now.mono)),
            until_ms: ban.until_ms(now),
        })));
        self.enforce_ban(party, cx);
        if let Party::Agent(agent) = &party {
            gate.registry.on_interaction(agent, false, cx);
        }
        if let Party::Agent(agent) = party
            && let Some(record) = directory.records.get(&agent, now.unix_ms)
        {
            self.disconnect_banned(record.peer_id(), reason, cx);
        }
    }

    /// Makes the swarm and the dialer refuse a banned node or host.
    fn enforce_ban(&mut self, party: Party, cx: &mut Cx) {
        match party {
            Party::Node(peer) => {
                self.set_closing(&peer, "banned");
                self.forget_queued_dial(&peer);
                self.table.set_banned(peer, true);
                cx.network(NetworkCommand::Block { peer });
            }
            Party::Host(host) => cx.network(NetworkCommand::BlockHost { host }),
            Party::Agent(_) => {}
        }
    }

    fn set_closing(&mut self, peer: &PeerId, reason: &str) {
        if let Some(connection) = self.table.connection_mut(peer) {
            connection.closing = Some(reason.to_owned());
        }
    }

    fn disconnect_banned(&mut self, peer: PeerId, reason: &str, cx: &mut Cx) {
        if self.is_connected(&peer) {
            self.set_closing(&peer, &format!("its agent is banned: {reason}"));
            cx.network(NetworkCommand::Disconnect { peer });
        }
    }

    /// Disconnects a peer whose agent is banned: the swarm refuses banned nodes, and knows no agents.
    pub(crate) fn refuse_banned_agent(&mut self, peer: PeerId, agent: &Address, gate: &Gate, cx: &mut Cx) {
        if let Some(ban) = gate.reputations.ban_of(&Party::Agent(*agent))
            && self.is_connected(&peer)
        {
            cx.stats.count(Counter::ConnectionsRefusedBanned);
            self.disconnect_banned(peer, ban.reason.name(), cx);
        }
    }

    /// Enforces the bans of an earlier process.
    pub(crate) fn restore_bans(&mut self, gate: &Gate, cx: &mut Cx) {
        let parties: Vec<Party> = gate.reputations.banned().map(|(party, _)| *party).collect();
        parties.into_iter().for_each(|party| self.enforce_ban(party, cx));
    }

    /// Ends the bans that are over.
    pub(crate) fn end_bans(&mut self, gate: &mut Gate, cx: &mut Cx) {
        for party in gate.reputations.end_bans(cx.now.mono) {
            self.end_ban(party, BanEnd::Recovered, cx);
        }
    }

    /// Ends the bans of an agent or node that the parent allowed or unblocked, of its node or agent, and
    /// gives all of them their full reputation.
    pub(crate) fn pardon(&mut self, subject: Subject, gate: &mut Gate, directory: &Directory, cx: &mut Cx) {
        let now = cx.now;
        let parties = match subject {
            Subject::Agent(agent) => {
                let record = directory.records.get(&agent, now.unix_ms);
                [Some(Party::Agent(agent)), record.map(|record| Party::Node(record.peer_id()))]
            }
            Subject::Node(node) => {
                let record = directory.records.by_peer(&node, now.unix_ms);
                [Some(Party::Node(node)), record.map(|record| Party::Agent(record.address()))]
            }
        };
        for party in parties.into_iter().flatten() {
            if gate.reputations.pardon(&party) {
                self.end_ban(party, BanEnd::Pardoned, cx);
            }
        }
    }

    fn end_ban(&mut self, party: Party, end: BanEnd, cx: &mut Cx) {
        cx.stats.count(Counter::BansLifted);
        cx.effects.push_back(Effect::PersistBan { party, ban: None });
        match party {
            Party::Node(peer) => {
                self.table.set_banned(peer, false);
                cx.network(NetworkCommand::Unblock { peer });
                self.connect_soon(cx);
            }
            Party::Host(host) => cx.network(NetworkCommand::UnblockHost { host }),
            Party::Agent(_) => {}
        }
        let address = if let Party::Agent(agent) = party { Some(agent.to_string()) } else { None };
        cx.emit_peer_event(Event::PeerUnbanned(PeerUnbanned {
            peer_id: node_of(party).map(|node| node.to_string()),
            address,
            ip: ip_of(party),
            reason: end.name().to_owned(),
        }));
    }
}

fn node_of(party: Party) -> Option<PeerId> {
    if let Party::Node(node) = party { Some(node) } else { None }
}

fn ip_of(party: Party) -> Option<String> {
    if let Party::Host(host) = party { Some(host.to_string()) } else { None }
}
