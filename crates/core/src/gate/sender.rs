//! Who sent a frame.

use alloy_primitives::Address;

use crate::Core;
use crate::gate::access_list::Standing;
use p2p_node_wire::envelope::Frame;
use p2p_node_wire::message_id::{MessageName, StreamId, message_id, message_name};

/// Who sent a frame, as a parent reads it.
pub(crate) struct Sender {
    pub(crate) address: Address,
    pub(crate) address_text: String,
    pub(crate) peer_text: String,
    pub(crate) node_key: [u8; 32],
    pub(crate) standing: Option<Standing>,
    /// The stream that was named last, and the name: a frame's messages are of few streams.
    named: Option<(StreamId, MessageName)>,
}

impl Sender {
    /// The id of one of its messages.
    pub(crate) fn message_id(&mut self, stream: StreamId, seq: u64) -> String {
        let known = self.named.filter(|(last, _)| *last == stream);
        let (_, name) =
            *self.named.insert(known.unwrap_or_else(|| (stream, message_name(&self.address, &stream))));
        message_id(&name, seq)
    }
}

impl Core {
    pub(crate) fn sender(&self, frame: &Frame) -> Sender {
        let binding = &frame.binding.binding;
        Sender {
            address: binding.account,
            address_text: binding.account.to_string(),
            peer_text: binding.peer_id.to_string(),
            node_key: binding.node_key,
            standing: self.gate.access_list.of(&binding.account, &binding.peer_id),
            named: None,
        }
    }
}
