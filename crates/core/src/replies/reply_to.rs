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
    /// The step of a request that the message of the command is.
    pub step: Option<StepOf>,
}

/// What waits for the end of a message that is a step of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOf {
    /// A request of a client.
    Request {
        /// The number of the request in this process.
        number: u64,
        /// The agent that is asked; `None` for a topic.
        target: Option<Address>,
    },
    /// An answer of a client, with the number of parts that it may send in all.
    Answer {
        /// The number of parts.
        credit: u32,
    },
    /// A step that the node takes by itself. Nothing waits for its end.
    Node,
}

impl ReplyTo {
    /// The parent, without an id. Stands for commands of earlier processes.
    pub const PARENT: ReplyTo = ReplyTo { client: ClientId::PARENT, id: None, resolved: None, step: None };

    /// Creates the destination of the answer to the command `id` of a client.
    pub fn new(client: ClientId, id: Option<Id>) -> Self {
        ReplyTo { client, id, resolved: None, step: None }
    }

    /// Creates the destination of reports of a step of a request.
    pub fn of_step(client: ClientId, id: Option<Id>, step: StepOf) -> Self {
        ReplyTo { step: Some(step), ..ReplyTo::new(client, id) }
    }

    /// Returns `true` for the command `id` of this client.
    pub fn is(&self, client: ClientId, id: &Id) -> bool {
        self.client == client && self.id.as_ref() == Some(id)
    }
}
