//! Where the answer of a command goes.

use alloy_primitives::Address;
use p2p_node_protocol::Id;

use crate::client_id::ClientId;

/// The client that wrote a command, and the id of the command. The ids of two clients are
/// independent: the same id may name one command of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The client.
    pub client: ClientId,
    /// The id of the command. The node does not answer a command without an id, and reports only
    /// its failure.
    pub id: Option<Id>,
    /// The address of the name in the command, which the answer tells.
    pub resolved: Option<Address>,
}

impl ReplyTo {
    /// The parent, without an id. Stands for commands of earlier processes.
    pub const PARENT: ReplyTo = ReplyTo { client: ClientId::PARENT, id: None, resolved: None };

    /// Creates the destination of the answer to the command `id` of a client.
    pub fn new(client: ClientId, id: Option<Id>) -> Self {
        ReplyTo { client, id, resolved: None }
    }

    /// Returns `true` for the command `id` of this client.
    pub fn is(&self, client: ClientId, id: &Id) -> bool {
        self.client == client && self.id.as_ref() == Some(id)
    }
}
