//! The event `transfer`: the progress of a file.

use alloy_primitives::Address;
use p2p_node_protocol::{ErrorCode, Event, Transfer, TransferDirection};

use crate::cx::Cx;
use crate::replies::reply_to::ReplyTo;

/// What the events of a transfer have in common.
#[derive(Debug)]
pub(super) struct TransferOf {
    event: Transfer,
    /// The `send`, whose client gets the events of a file that leaves.
    command: Option<ReplyTo>,
    /// The last known position, in bytes.
    pub(super) bytes: u64,
    /// The node has stopped the transfer, and its end has not come yet.
    pub(super) is_stopped: bool,
}

impl TransferOf {
    /// Returns the transfer of a file that leaves.
    pub(super) fn sent(message_id: String, recipient: Address, total: u64, command: ReplyTo) -> Self {
        let request_id = command.id.clone();
        let event = event(message_id, TransferDirection::Send, recipient, total);
        let event = Transfer { request_id, ..event };
        TransferOf { event, command: Some(command), bytes: 0, is_stopped: false }
    }

    /// Returns the transfer of a file that arrives.
    pub(super) fn received(message_id: String, sender: Address, total: u64) -> Self {
        let event = event(message_id, TransferDirection::Receive, sender, total);
        TransferOf { event, command: None, bytes: 0, is_stopped: false }
    }

    /// Reports how far the transfer is. The driver says that at most once a second.
    pub(super) fn report(&mut self, bytes: u64, cx: &mut Cx) {
        self.bytes = bytes;
        self.emit(None, cx);
    }

    /// Reports that the transfer stopped.
    pub(super) fn fail(&self, code: ErrorCode, cx: &mut Cx) {
        self.emit(Some(code), cx);
    }

    /// Reports that the file does not come any more, if anything of it has come.
    pub(super) fn give_up(&self, cx: &mut Cx) {
        if self.bytes > 0 {
            self.fail(ErrorCode::Expired, cx);
        }
    }

    fn emit(&self, code: Option<ErrorCode>, cx: &mut Cx) {
        let event = Transfer { bytes: self.bytes, code, ..self.event.clone() };
        let (id, direction) = (event.message_id.clone(), event.direction);
        let is_same = |other: &Event| matches!(other, Event::Transfer(other) if other.message_id == id && other.direction == direction);
        let to = self.command.as_ref().map(|command| command.client);
        for (client_id, client) in cx.replies.clients.iter_mut() {
            if client.protocol_v1 && to.is_none_or(|to| to == client_id) {
                client.output.push_peer_event(Event::Transfer(Box::new(event.clone())), is_same);
            }
        }
    }
}

fn event(message_id: String, direction: TransferDirection, agent: Address, total: u64) -> Transfer {
    let address = agent.to_string();
    Transfer { message_id, direction, address, bytes: 0, total, request_id: None, code: None }
}
