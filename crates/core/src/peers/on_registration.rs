//! What follows for connections when the registry changes its word about an agent.

use alloy_primitives::Address;
use p2p_node_protocol::{Counter, Level};
use p2p_node_wire::record::SignedRecord;
use serde_json::json;

use crate::cx::Cx;
use crate::directory::Directory;
use crate::effect::NetworkCommand;
use crate::gate::Gate;
use crate::gate::access_list::AccessRule;
use crate::gate::registry::{Registration, RegistryVerdict};
use crate::peers::Peers;

impl Peers {
    /// Disconnects the nodes of an agent that the policy refuses from now on. An agent that the parent
    /// allows stays. If the registry decides on admission, a peer whose handshake waits for it tries again,
    /// and gets the reason.
    pub(crate) fn on_registration(
        &mut self,
        agent: &Address,
        registration: Registration,
        gate: &Gate,
        directory: &Directory,
        cx: &mut Cx,
    ) {
        let RegistryVerdict::Refuse(code) = gate.registry.verdict(registration) else { return };
        let Some(peer) = directory.records.get(agent, cx.now.unix_ms).map(SignedRecord::peer_id) else {
            return;
        };
        if gate.access_list.of(agent, &peer) == Some(AccessRule::Allowed) || !self.is_connected(&peer) {
            return;
        }
        if gate.admission.asks_registry() && !self.is_admitted(&peer) {
            return;
        }
        cx.stats.count(Counter::RegistryDisconnects);
        let meta = json!({ "address": agent.to_string(), "peerId": peer.to_string(), "code": code });
        cx.log_with(Level::Info, "registry", format!("{agent} is refused: {code}"), meta);
        if let Some(connection) = self.table.connection_mut(&peer) {
            connection.closing = Some(format!("the registry refuses its agent: {code}"));
        }
        cx.network(NetworkCommand::Disconnect { peer });
    }
}
