//! The sender of a frame.

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::{ErrorCode, Trust};
use p2p_node_wire::envelope::Frame;
use p2p_node_wire::identity::{Binding, NodePublicKey};
use p2p_node_wire::message_id::{MessageIdPrefix, StreamId, message_id, message_name};
use p2p_node_wire::time::Instant;

use crate::gate::Gate;
use crate::gate::access_list::AccessRule;
use crate::gate::admission_policy::Refusal;
use crate::gate::limits::Author;
use crate::gate::registry::RegistryVerdict;
use crate::gate::tier::Tier;

/// The sender of a frame, in the form that the parent sees.
pub(crate) struct Sender {
    pub(crate) address: Address,
    pub(crate) address_text: String,
    pub(crate) peer_text: String,
    pub(crate) node_key: NodePublicKey,
    pub(crate) peer_id: PeerId,
    pub(crate) rule: Option<AccessRule>,
    /// `true` if the node accepts no mail of the sender.
    is_refused: bool,
    /// What the policy of the registry says of the sender. An allowed one needs no entry.
    registry: RegistryVerdict,
    pub(crate) trust: Trust,
    pub(crate) tier: Tier,
    /// `true` if a node of the agent itself connected.
    is_met: bool,
    /// The stream of the last computed prefix, with the prefix. The messages of a frame belong to
    /// few streams.
    last_prefix: Option<(StreamId, MessageIdPrefix)>,
}

impl Sender {
    /// Returns why the node refuses the sender: the parent blocks it, the node bans it, or the registry
    /// speaks against it.
    pub(crate) fn refusal(&self) -> Option<ErrorCode> {
        if self.is_refused {
            return Some(ErrorCode::PeerRejected);
        }
        match self.registry {
            RegistryVerdict::Refuse(code) => Some(code),
            RegistryVerdict::Admit | RegistryVerdict::Wait => None,
        }
    }

    /// Returns `true` if the node has to read the sender's entry in the registry first.
    pub(crate) fn awaits_registry(&self) -> bool {
        self.refusal().is_none() && self.registry == RegistryVerdict::Wait
    }

    /// Returns the author of its messages.
    pub(crate) fn author(&self) -> Author<'_> {
        Author { agent: &self.address, node: &self.peer_id, tier: self.tier, is_met: self.is_met }
    }

    /// Returns the id of a message of this sender.
    pub(crate) fn message_id(&mut self, stream: StreamId, seq: u64) -> String {
        let known = self.last_prefix.filter(|(last, _)| *last == stream);
        let (_, name) =
            *self.last_prefix.insert(known.unwrap_or_else(|| (stream, message_name(&self.address, &stream))));
        message_id(&name, seq)
    }
}

/// The names of a sender as text. Formatting them costs a hash and a division of long numbers.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    address: Address,
    peer_id: PeerId,
    address_text: String,
    peer_text: String,
}

impl Names {
    fn of(binding: &Binding) -> Self {
        Names {
            address: binding.account,
            peer_id: binding.peer_id,
            address_text: binding.account.to_string(),
            peer_text: binding.peer_id.to_string(),
        }
    }

    fn are_of(&self, binding: &Binding) -> bool {
        (self.address, self.peer_id) == (binding.account, binding.peer_id)
    }
}

impl Gate {
    /// Returns the trust in an agent on a node, as the parent reads it.
    pub(crate) fn trust(&self, agent: &Address, node: &PeerId, now: Instant) -> Trust {
        match self.access_list.of(agent, node) {
            Some(AccessRule::Allowed) => Trust::Allowed,
            _ => self.registry.peek(agent, now).trust(),
        }
    }

    /// Returns the sender of a frame. `is_met` states that a node of the agent itself connected.
    pub(crate) fn sender(&mut self, frame: &Frame, is_met: bool, now: Instant) -> Sender {
        let binding = &frame.binding.binding;
        let rule = self.access_list.of(&binding.account, &binding.peer_id);
        let is_allowed = rule == Some(AccessRule::Allowed);
        let registration = self.registry.look_up(&binding.account, is_met, now);
        let acceptance = self.accepts_mail(&binding.account, &binding.peer_id, registration);
        let (is_refused, registry) = match acceptance {
            Err(Refusal::RegistryUnread) => (false, RegistryVerdict::Wait),
            Err(_) => (true, RegistryVerdict::Admit),
            Ok(()) if is_allowed => (false, RegistryVerdict::Admit),
            Ok(()) => (false, self.registry.verdict(registration)),
        };
        let is_stale =
            frame.binding.may_be_of_contract() && self.wallets.is_stale(&frame.binding.hash(), now);
        let tier = self.tier(Some(&binding.account), &binding.peer_id);
        let known = self.last_names.take().filter(|names| names.are_of(binding));
        let names = self.last_names.insert(known.unwrap_or_else(|| Names::of(binding)));
        Sender {
            address: binding.account,
            address_text: names.address_text.clone(),
            peer_text: names.peer_text.clone(),
            node_key: binding.node_key,
            peer_id: binding.peer_id,
            is_refused,
            rule,
            registry,
            trust: match registration.trust() {
                _ if is_allowed => Trust::Allowed,
                Trust::Registered if is_stale => Trust::Stale,
                trust => trust,
            },
            tier,
            is_met,
            last_prefix: None,
        }
    }
}
