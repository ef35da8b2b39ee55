//! What a peer says of itself, and what this node's policy says of that.

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::Counter;
use p2p_node_wire::envelope::Connect;
use p2p_node_wire::record::SignedRecord;

use super::Offer;
use crate::cx::Cx;
use crate::directory::record_rejection::undecodable_counter;
use crate::gate::Gate;
use crate::gate::admission_policy::Refusal;
use crate::gate::registry::Registration;
use crate::gate::reputation::Conduct;
use crate::gate::tier::Tier;
use crate::peers::Peers;

impl Peers {
    /// Counts a `Connect`. Fails if the peer, its neighbours or all peers together sent too many.
    pub(super) fn count_connect(&mut self, peer: &PeerId, gate: &Gate, cx: &Cx) -> Result<(), Refusal> {
        let now = cx.now.mono;
        if self.admissions.update(peer, |state| state.has_too_many_connects(now)) == Some(true) {
            return Err(Refusal::TooMany);
        }
        let agent = self.admissions.recorded_agent(peer);
        let is_known = self.is_configured(peer)
            || gate.admission.knows(peer)
            || gate.tier(agent.as_ref(), peer) >= Tier::Known;
        let origins = self.table.connection(peer).map(|known| known.links.origins()).unwrap_or_default();
        match self.admissions.connects.admit(*peer, is_known, origins, now) {
            true => Ok(()),
            false => Err(Refusal::Busy),
        }
    }

    /// Checks what a peer says of itself, without any signature.
    pub(super) fn check_offer(
        &self,
        peer: &PeerId,
        offered: Connect,
        gate: &Gate,
        cx: &mut Cx,
    ) -> Result<Offer, Refusal> {
        if offered.network != cx.identity.network {
            return Err(Refusal::WrongNetwork);
        }
        let role = offered.stated_role();
        let signed = SignedRecord::decode(offered.record).map_err(|error| {
            cx.stats.count(undecodable_counter(&error));
            if !error.is_provable() {
                return Refusal::UnsupportedVersion;
            }
            cx.observe(*peer, Conduct::InvalidAdmission);
            Refusal::InvalidRecord
        })?;
        if signed.peer_id() != *peer {
            cx.stats.count(Counter::RecordsOfOthers);
            cx.observe(*peer, Conduct::InvalidAdmission);
            return Err(Refusal::InvalidRecord);
        }
        if signed.record.role != role {
            return Err(Refusal::WrongRole);
        }
        let agent = signed.address();
        // The peer may name any agent, so the node does not read the registry for it yet.
        match self.decide(peer, &agent, gate.registry.peek(&agent, cx.now.mono), gate, cx) {
            Ok(()) | Err(Refusal::RegistryUnread) => {}
            Err(refusal) => return Err(refusal),
        }
        Ok(Offer { record: signed.bytes, hash: signed.hash, role, time_ms: offered.time_ms })
    }

    /// Decides whether the node admits a peer that has proven its agent.
    pub(crate) fn decide_on_proven(
        &self,
        peer: &PeerId,
        agent: Address,
        gate: &mut Gate,
        cx: &Cx,
    ) -> Result<Address, Refusal> {
        let registration = gate.registry.look_up(&agent, true, cx.now.mono);
        self.decide(peer, &agent, registration, gate, cx)?;
        if self.is_ours(peer, &agent, cx) {
            gate.admission.meet(*peer);
        }
        Ok(agent)
    }

    fn decide(
        &self,
        peer: &PeerId,
        agent: &Address,
        registration: Registration,
        gate: &Gate,
        cx: &Cx,
    ) -> Result<(), Refusal> {
        gate.admits(agent, peer, self.is_ours(peer, agent, cx), registration)
    }

    /// Returns `true` if the configuration names this node, or for another node of our own agent.
    fn is_ours(&self, peer: &PeerId, agent: &Address, cx: &Cx) -> bool {
        self.is_configured(peer) || *agent == cx.identity.address
    }

    /// Returns `true` if the configuration names this node.
    fn is_configured(&self, peer: &PeerId) -> bool {
        self.table.is_bootstrap(peer) || self.regions.names(peer)
    }
}
