//! The id of a client: a program that writes commands to the node and reads its events.

/// Identifies a client. The driver chooses the ids of the clients that attach, and uses none twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u32);

impl ClientId {
    /// The parent process, on stdin and stdout. The node ends with it.
    pub const PARENT: ClientId = ClientId(0);
}

/// What happened to an attached client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The client connected to the socket. No other client ever had its id.
    Attached,
    /// The client writes no more commands. Its commands before this end were handed over.
    InputEnded,
    /// The client is gone, and reads nothing more.
    Detached,
}
