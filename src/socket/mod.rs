//! The socket for clients (`--socket`): a Unix socket on which programs of the same user speak the pipe
//! protocol with a running node. See docs/adr/0064-attached-clients.md.

mod connection;
mod door;
mod place;

#[cfg(test)]
mod tests;

pub(crate) use door::is_of_this_user;
pub use door::{Door, DoorEvent};
pub(crate) use place::Place;
pub use place::{SocketError, default_path};

/// Largest number of connections to the socket. Our choice: a few more than the clients that the core
/// permits, so that the core can tell the next ones why it refuses them.
pub const MAX_CONNECTIONS: usize = 40;
