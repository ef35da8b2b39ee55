//! The listener, and the connections of all clients.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use p2p_node_core::Core;
use p2p_node_core::client_id::ClientId;
use p2p_node_core::input::{ClientEvent, Input, Now};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc};

use super::MAX_CONNECTIONS;
use super::connection::Connection;
use super::place::{Place, SocketError};
use crate::pipe::{InputChunk, Line};

/// Pause after the system refused a connection, for lack of descriptors for example. Our choice: other
/// clients may have gone then.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The socket of a node.
#[derive(Debug)]
pub struct Door {
    /// The listener and its place; none if only the node itself makes clients.
    listener: Option<(UnixListener, Place)>,
    /// Clients that the node itself makes: those of the gRPC server.
    attaching: Option<mpsc::Receiver<UnixStream>>,
    connections: BTreeMap<ClientId, Connection>,
    /// The last id that was used.
    last: ClientId,
    /// The client whose lines came first in the last turn.
    first: ClientId,
    /// Wakes the loop when a writer has made progress.
    changed: Arc<Notify>,
}

/// Returns `true` if the process at the other end belongs to the user of this one.
pub(crate) fn is_of_this_user(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == ours => return true,
        Ok(peer) => tracing::warn!("refused a client of user {}: it is not this user", peer.uid()),
        Err(error) => tracing::warn!("refused a client whose user is unknown: {error}"),
    }
    false
}

/// Something that happened at the socket.
#[derive(Debug)]
pub enum DoorEvent {
    /// A program connected.
    Connected(UnixStream),
    /// A client wrote lines, or ended its input.
    Read(ClientId, InputChunk),
    /// A writer has made progress, or a pause is over.
    Progress,
}

impl Door {
    /// Listens on a socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Fails if another process listens there, or the system refuses the socket.
    pub fn open(path: &Path) -> Result<Self, SocketError> {
        let (place, listener) = Place::listen(path)?;
        let listener = UnixListener::from_std(listener)
            .map_err(|source| SocketError::Io { path: path.to_owned(), source })?;
        Ok(Door { listener: Some((listener, place)), ..Door::without_listener() })
    }

    /// Returns a door at which only the node itself makes clients.
    pub fn without_listener() -> Self {
        Door {
            listener: None,
            attaching: None,
            connections: BTreeMap::new(),
            last: ClientId::PARENT,
            first: ClientId::PARENT,
            changed: Arc::new(Notify::new()),
        }
    }

    /// Attaches the clients that come through a channel.
    #[must_use]
    pub fn attaching(self, clients: mpsc::Receiver<UnixStream>) -> Self {
        Door { attaching: Some(clients), ..self }
    }

    /// Waits for the next event. Reads only from clients whose commands the core accepts. Cancel-safe.
    pub async fn next(&mut self, core: &Core) -> DoorEvent {
        let Door { listener, attaching, connections, changed, .. } = self;
        let mut progress = pin!(changed.notified());
        let mut pause = pin!(tokio::time::sleep(ACCEPT_PAUSE));
        let mut is_refused = false;
        poll_fn(|cx| {
            if progress.as_mut().poll(cx).is_ready() {
                return Poll::Ready(DoorEvent::Progress);
            }
            for (client, connection) in connections.iter_mut() {
                if core.can_accept_command(*client)
                    && let Poll::Ready(chunk) = connection.poll_input(cx)
                {
                    return Poll::Ready(DoorEvent::Read(*client, chunk));
                }
            }
            let has_room = connections.len() < MAX_CONNECTIONS;
            if let Some(clients) = attaching.as_mut().filter(|_| has_room)
                && let Poll::Ready(Some(stream)) = clients.poll_recv(cx)
            {
                return Poll::Ready(DoorEvent::Connected(stream));
            }
            if let Some((listener, _)) = listener.as_ref().filter(|_| has_room && !is_refused) {
                match listener.poll_accept(cx) {
                    Poll::Ready(Ok((stream, _))) => return Poll::Ready(DoorEvent::Connected(stream)),
                    Poll::Ready(Err(error)) => {
                        tracing::warn!("a client could not connect: {error}");
                        is_refused = true;
                    }
                    Poll::Pending => {}
                }
            }
            if is_refused && pause.as_mut().poll(cx).is_ready() {
                return Poll::Ready(DoorEvent::Progress);
            }
            Poll::Pending
        })
        .await
    }

    /// Handles an event.
    pub fn on_event(&mut self, event: DoorEvent, core: &mut Core, now: Now) {
        match event {
            DoorEvent::Connected(stream) => self.connect(stream, core, now),
            DoorEvent::Read(client, chunk) => {
                if let Some(connection) = self.connections.get_mut(&client) {
                    connection.on_chunk(client, chunk, core, now);
                }
            }
            DoorEvent::Progress => {}
        }
    }

    fn connect(&mut self, stream: UnixStream, core: &mut Core, now: Now) {
        if !is_of_this_user(&stream) {
            return;
        }
        let connection = stream.into_std().and_then(|stream| Connection::new(stream, &self.changed));
        match connection {
            Ok(connection) => {
                self.last = ClientId(self.last.0 + 1);
                self.connections.insert(self.last, connection);
                core.handle(Input::Client { client: self.last, event: ClientEvent::Attached }, now);
            }
            Err(error) => tracing::warn!("a client could not connect: {error}"),
        }
    }

    /// Passes lines of the clients to the core: at most `budget` of each, and in turn, so that a client
    /// that floods delays no other.
    pub fn accept_lines(&mut self, budget: usize, core: &mut Core, now: Now) {
        let ids: Vec<ClientId> = self.connections.keys().copied().collect();
        let start = ids.partition_point(|id| *id <= self.first);
        for id in ids[start..].iter().chain(&ids[..start]) {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.accept_lines(*id, budget, core, now);
            }
        }
        self.first = ids.get(start).or(ids.first()).copied().unwrap_or(ClientId::PARENT);
    }

    /// Returns the number of clients.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Returns `true` if there is no client.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Returns `true` if there are lines that the core accepts now.
    pub fn has_more(&self, core: &Core) -> bool {
        self.connections.iter().any(|(id, connection)| connection.has_lines() && core.can_accept_command(*id))
    }

    /// Reports the progress of the writers to the core. Returns `true` if one wrote lines.
    pub fn poll_writers(&mut self, core: &mut Core, now: Now) -> bool {
        let mut has_written = false;
        let mut closed = Vec::new();
        for (id, connection) in &mut self.connections {
            has_written |= connection.poll_writer(*id, core, now);
            if connection.is_closed() {
                closed.push(*id);
            }
        }
        for client in closed {
            self.connections.remove(&client);
            core.handle(Input::Client { client, event: ClientEvent::Detached }, now);
        }
        has_written
    }

    /// Writes lines to a client, without waiting.
    pub fn send(&self, client: ClientId, lines: Vec<Line>) {
        if let Some(connection) = self.connections.get(&client) {
            connection.send(lines);
        }
    }

    /// Closes the connection of a client.
    pub fn close(&mut self, client: ClientId) {
        self.connections.remove(&client);
    }
}
