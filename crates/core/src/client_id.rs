//! The id of a client: a program that writes commands to the node and reads its events.

/// Identifies a client. The driver chooses the ids of the clients that attach, and uses none twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u32);

impl ClientId {
    /// The parent process, on stdin and stdout. The node ends with it.
    pub const PARENT: ClientId = ClientId(0);
}
