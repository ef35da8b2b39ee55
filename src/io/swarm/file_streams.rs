//! The protocol `files/1`: raw streams for the driver of files.
//!
//! The swarm only opens and accepts the streams. It opens none to a peer that is not connected.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, SubstreamProtocol, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use p2p_node_core::local::addresses::is_relayed;
use tokio::sync::{mpsc, oneshot};

use crate::io::byte_streams::{BoxedStream, OpenStream, Streams};

/// Number of streams that wait for the driver of files, and of requests for streams. Our choice: as many as there
/// can be transfers. A stream that finds no room is closed.
const WAITING: usize = 64;
/// Number of streams of a connection that are being opened. Our choice: more than there are transfers with a peer.
const MAX_OPENING: usize = 8;
/// Time to open a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Gets a stream when it is open; dropped if there is none.
type Reply = oneshot::Sender<BoxedStream>;

/// The streams of all connections.
pub(super) struct FileStreams {
    protocol: StreamProtocol,
    /// The connections of each peer, direct ones first, and then oldest first.
    connections: HashMap<PeerId, Vec<(ConnectionId, bool)>>,
    requests: mpsc::Receiver<OpenStream>,
    incoming: mpsc::Sender<(PeerId, BoxedStream)>,
}

impl FileStreams {
    /// Creates the behaviour, and the other end of its streams.
    pub(super) fn new(protocol: StreamProtocol) -> (Self, Streams) {
        let (open, requests) = mpsc::channel(WAITING);
        let (incoming, arrived) = mpsc::channel(WAITING);
        let behaviour = FileStreams { protocol, connections: HashMap::new(), requests, incoming };
        (behaviour, Streams { open, incoming: arrived })
    }

    fn handler(&mut self, connection: ConnectionId, peer: PeerId, is_relayed: bool) -> Handler {
        let connections = self.connections.entry(peer).or_default();
        connections.push((connection, is_relayed));
        // The sort is stable.
        connections.sort_by_key(|(_, is_relayed)| *is_relayed);
        let (protocol, incoming) = (self.protocol.clone(), self.incoming.clone());
        Handler { protocol, peer, incoming, to_open: VecDeque::new(), opening: HashMap::new(), last: 0 }
    }

    fn forget(&mut self, peer: &PeerId, connection: ConnectionId) {
        if let Some(connections) = self.connections.get_mut(peer) {
            connections.retain(|(known, _)| *known != connection);
            if connections.is_empty() {
                self.connections.remove(peer);
            }
        }
    }
}

impl NetworkBehaviour for FileStreams {
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
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.forget(&peer_id, connection_id);
            }
            // Connections that another behaviour denied have no event that ends them for their peer.
            FromSwarm::ListenFailure(failure) => {
                let denied = failure.connection_id;
                self.connections.retain(|_, known| {
                    known.retain(|(connection, _)| *connection != denied);
                    !known.is_empty()
                });
            }
            FromSwarm::DialFailure(failure) => {
                if let Some(peer) = failure.peer_id {
                    self.forget(&peer, failure.connection_id);
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, never: THandlerOutEvent<Self>) {
        match never {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        while let Poll::Ready(Some(OpenStream { peer, reply })) = self.requests.poll_recv(cx) {
            // Dropping the reply says that there is no stream.
            let Some((connection, _)) = self.connections.get(&peer).and_then(|known| known.first()) else {
                continue;
            };
            let handler = NotifyHandler::One(*connection);
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id: peer, handler, event: ToOpen(reply) });
        }
        Poll::Pending
    }
}

/// Asks a handler for a stream.
pub(super) struct ToOpen(Reply);

impl fmt::Debug for ToOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ToOpen")
    }
}

/// The streams of one connection.
pub(super) struct Handler {
    protocol: StreamProtocol,
    peer: PeerId,
    incoming: mpsc::Sender<(PeerId, BoxedStream)>,
    to_open: VecDeque<Reply>,
    opening: HashMap<u64, Reply>,
    last: u64,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = ToOpen;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    /// Number of the request.
    type OutboundOpenInfo = u64;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, u64, Infallible>> {
        let Some(reply) = self.to_open.pop_front() else { return Poll::Pending };
        self.last += 1;
        self.opening.insert(self.last, reply);
        let upgrade = ReadyUpgrade::new(self.protocol.clone());
        let protocol = SubstreamProtocol::new(upgrade, self.last).with_timeout(OPEN_TIMEOUT);
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_behaviour_event(&mut self, ToOpen(reply): ToOpen) {
        if self.to_open.len() + self.opening.len() < MAX_OPENING {
            self.to_open.push_back(reply);
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, (), u64>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                // The peer opens another one later.
                let _ = self.incoming.try_send((self.peer, Box::new(stream)));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: number,
            }) => {
                if let Some(reply) = self.opening.remove(&number) {
                    // The transfer may have been cancelled.
                    let _ = reply.send(Box::new(stream));
                }
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: number, .. }) => {
                self.opening.remove(&number);
            }
            // The other events concern protocols whose upgrade cannot fail, or need no action.
            _ => {}
        }
    }
}
