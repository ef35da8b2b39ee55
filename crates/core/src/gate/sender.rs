//! The sender of a frame.

use alloy_primitives::Address;
use p2p_node_wire::envelope::Frame;
use p2p_node_wire::identity::NodePublicKey;
use p2p_node_wire::message_id::{MessageIdPrefix, StreamId, message_id, message_name};

use crate::gate::Gate;
use crate::gate::access_list::AccessRule;

/// The sender of a frame, in the form that the parent sees.
pub(crate) struct Sender {
    pub(crate) address: Address,
    pub(crate) address_text: String,
    pub(crate) peer_text: String,
    pub(crate) node_key: NodePublicKey,
    pub(crate) rule: Option<AccessRule>,
    /// The stream of the last computed prefix, with the prefix. The messages of a frame belong to
    /// few streams.
    last_prefix: Option<(StreamId, MessageIdPrefix)>,
}

impl Sender {
    /// Returns the id of a message of this sender.
    pub(crate) fn message_id(&mut self, stream: StreamId, seq: u64) -> String {
        let known = self.last_prefix.filter(|(last, _)| *last == stream);
        let (_, name) =
            *self.last_prefix.insert(known.unwrap_or_else(|| (stream, message_name(&self.address, &stream))));
        message_id(&name, seq)
    }
}

impl Gate {
    pub(crate) fn sender(&self, frame: &Frame) -> Sender {
        let binding = &frame.binding.binding;
        Sender {
            address: binding.account,
            address_text: binding.account.to_string(),
            peer_text: binding.peer_id.to_string(),
            node_key: binding.node_key,
            rule: self.access_list.of(&binding.account, &binding.peer_id),
            last_prefix: None,
        }
    }
}
