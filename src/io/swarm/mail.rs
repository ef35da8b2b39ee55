//! The protocol `mail/1`: frames and their responses.
//!
//! A connection has up to two long-lived streams in each direction, one for small frames and one for
//! large ones, so that a small frame never waits behind a large one. The end that opens a stream sends
//! requests on it, and the other end sends the responses back on the same stream. Each request and
//! response has a length, an id and a body. A request gets its response, or fails: after
//! [`MAIL_TIMEOUT`], or when the stream or the connection ends. See docs/adr/0029-mail-streams.md.

mod framing;
mod handler;
mod inbound_stream;
mod link;
mod memory_budget;
mod request_lane;
#[cfg(test)]
mod testing;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use p2p_node_core::input::Token;
use p2p_node_core::local::addresses::is_relayed;

use handler::Handler;
use link::{Command, Inbox, Link};
pub(super) use link::{MailEvent, Reply};
use memory_budget::MemoryBudget;

/// Maximum time from a request to its response.
pub const MAIL_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of a mail frame, in bytes: one message of at most 1 MiB − 8 KiB, and 16 KiB for
/// encryption, signature and fields.
pub const MAX_MAIL: usize = (1 << 20) + (8 << 10);

/// Maximum size of a response to a mail frame, in bytes. An ack has less than 1 KiB, a record with
/// `KEM_UNKNOWN` less than 4 KiB; the rest is reserve for later versions.
pub const MAX_MAIL_RESPONSE: usize = 64 << 10;

/// Size in bytes above which a frame goes on the stream for large frames: as many as one Yamux frame
/// holds. A small frame then waits for at most a few others of its size.
const LARGE_FRAME: usize = 16 << 10;

/// Maximum number of requests in flight on one stream. A sender closes a frame every 2 ms and has at
/// most 1 MiB in flight to a peer, so 128 suffice up to a round trip of 250 ms.
const MAX_IN_FLIGHT: usize = 128;

/// Maximum number of requests of one connection that have no response, or whose response the peer has
/// not read: as many as our sender has in flight on one stream. At the limit the node does not read
/// further requests.
const MAX_UNANSWERED: usize = 128;

/// Maximum number of inbound streams of a connection: the two lanes of the peer, and as many that
/// replace them after a failure. A further stream closes the oldest.
const MAX_INBOUND_STREAMS: usize = 4;

/// Limit of the bytes that arrive on one connection at once, in requests of maximum size: as many as
/// the QUIC window allows. Our sender has at most two in flight (1 MiB, and the frame that exceeds it).
const MAX_ARRIVING: usize = 4;

/// Limit of the bytes that arrive on all connections at once, in requests of maximum size: 64 MiB, as
/// much as 16 connections may have. Without the limit 1,000 connections could pin 4 GiB.
const MAX_ARRIVING_IN_ALL: usize = 64;

/// Mail of all connections.
#[derive(Debug)]
pub(super) struct Mail {
    protocol: StreamProtocol,
    inbox: Arc<Inbox>,
    /// The connections of each peer, direct ones first, and then oldest first. The limits of the swarm
    /// bound their number.
    links: HashMap<PeerId, Vec<(ConnectionId, Arc<Link>)>>,
    /// Remaining bytes of the budget that all connections share.
    shared_budget: Arc<AtomicUsize>,
}

impl Mail {
    pub(super) fn new(protocol: StreamProtocol) -> Self {
        Mail {
            protocol,
            inbox: Arc::default(),
            links: HashMap::new(),
            shared_budget: Arc::new(AtomicUsize::new(MAX_ARRIVING_IN_ALL * MAX_MAIL)),
        }
    }

    /// Sends a frame. Returns `false` if the peer is not connected; otherwise
    /// [`MailEvent::Response`] follows.
    pub(super) fn send(&self, peer: &PeerId, token: Token, frame: Bytes) -> bool {
        let open = self.links.get(peer).and_then(|links| links.iter().find(|(_, link)| link.is_open()));
        open.is_some_and(|(_, link)| link.push(Command::Request { token, frame }))
    }

    /// Returns `true` if no mail is in flight on a connection, in either direction.
    pub(super) fn is_idle(&self, peer: &PeerId, connection: ConnectionId) -> bool {
        let mut links = self.links.get(peer).into_iter().flatten();
        links.find(|(id, _)| *id == connection).is_none_or(|(_, link)| link.is_idle())
    }

    /// Returns the next event, or wakes the task when one comes.
    pub(super) fn poll_event(&self, cx: &Context<'_>) -> Option<MailEvent> {
        self.inbox.pop(cx)
    }

    /// Returns `true` if responses were given that have not left.
    pub(super) fn has_unsent_responses(&self) -> bool {
        self.inbox.has_unsent_responses()
    }

    /// Returns the number of requests since the last call that were too long, incomplete or too slow.
    pub(super) fn take_failed_reads(&self) -> u64 {
        self.inbox.take_failed_reads()
    }

    fn handler(&mut self, connection: ConnectionId, peer: PeerId, is_relayed: bool) -> Handler {
        let link = Arc::new(Link::new(Arc::clone(&self.inbox), is_relayed));
        let links = self.links.entry(peer).or_default();
        // A connection that another behaviour denied has no event that ends it.
        links.retain(|(_, link)| link.is_open());
        links.push((connection, Arc::clone(&link)));
        // The sort is stable.
        links.sort_by_key(|(_, link)| link.is_relayed());
        let budget = MemoryBudget::new(MAX_ARRIVING * MAX_MAIL, Arc::clone(&self.shared_budget));
        Handler::new(self.protocol.clone(), peer, link, Arc::clone(&self.inbox), budget)
    }
}

impl NetworkBehaviour for Mail {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(connection, peer, is_relayed(local)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(connection, peer, is_relayed(addr)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) = event else {
            return;
        };
        if let Some(links) = self.links.get_mut(&peer_id) {
            links.retain(|(connection, _)| *connection != connection_id);
            if links.is_empty() {
                self.links.remove(&peer_id);
            }
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, never: THandlerOutEvent<Self>) {
        match never {}
    }

    /// The driver takes the events itself; see [`Mail::poll_event`].
    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
