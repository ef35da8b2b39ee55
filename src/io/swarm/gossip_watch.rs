//! Notices connections on which libp2p has given up gossip.
//!
//! Gossipsub keeps one stream in each direction. After the fifth stream of a connection in one direction it
//! disables its handler there for ever, and tells nobody. The peer stays connected and in the meshes, and
//! gets and sends no gossip. A disabled handler refuses every incoming stream; by that the wrapper of each
//! handler notices it.

use std::collections::{HashSet, VecDeque};
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::gossipsub;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::{AddressChange, ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::derive_prelude::Either;
use libp2p::swarm::handler::ConnectionEvent;
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    SubstreamProtocol, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, identify};

use super::gossip::Gossipsub;
use p2p_node_core::local::addresses::is_relayed;

/// First part of the names of gossipsub's protocols.
const GOSSIPSUB: &str = "/meshsub/";

type GossipHandler = <Gossipsub as NetworkBehaviour>::ConnectionHandler;

/// Gossipsub, and events of connections on which it is disabled.
pub(super) struct Watched {
    gossipsub: Gossipsub,
    events: VecDeque<Event>,
}

#[derive(Debug)]
pub(super) enum Event {
    Gossipsub(gossipsub::Event),
    /// Gossip is disabled on a connection to this peer. `spoke` states that the peer had opened a stream.
    Disabled {
        peer: PeerId,
        spoke: bool,
    },
}

impl Watched {
    pub(super) fn new(gossipsub: Gossipsub) -> Self {
        Watched { gossipsub, events: VecDeque::new() }
    }
}

impl Deref for Watched {
    type Target = Gossipsub;

    fn deref(&self) -> &Gossipsub {
        &self.gossipsub
    }
}

impl DerefMut for Watched {
    fn deref_mut(&mut self) -> &mut Gossipsub {
        &mut self.gossipsub
    }
}

impl NetworkBehaviour for Watched {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        let handler =
            self.gossipsub.handle_established_inbound_connection(connection, peer, local, remote)?;
        Ok(Handler::new(handler))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        let handler =
            self.gossipsub.handle_established_outbound_connection(connection, peer, remote, role, port)?;
        Ok(Handler::new(handler))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                let endpoint = &without_relay(event.endpoint);
                let event = ConnectionEstablished { endpoint, ..event };
                self.gossipsub.on_swarm_event(FromSwarm::ConnectionEstablished(event));
            }
            FromSwarm::ConnectionClosed(event) => {
                let endpoint = &without_relay(event.endpoint);
                let event = ConnectionClosed { endpoint, ..event };
                self.gossipsub.on_swarm_event(FromSwarm::ConnectionClosed(event));
            }
            FromSwarm::AddressChange(event) => {
                let (old, new) = (&without_relay(event.old), &without_relay(event.new));
                let event = AddressChange { old, new, ..event };
                self.gossipsub.on_swarm_event(FromSwarm::AddressChange(event));
            }
            event => self.gossipsub.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {
            Either::Left(event) => self.gossipsub.on_connection_handler_event(peer, connection, event),
            Either::Right(Disabled { spoke }) => self.events.push_back(Event::Disabled { peer, spoke }),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(event));
        }
        self.gossipsub.poll(cx).map(|event| event.map_out(Event::Gossipsub))
    }
}

/// Returns an endpoint without the address of the relay. Gossipsub takes the first IP address for that of
/// the peer, and would blame the peers behind a relay for sharing its address.
fn without_relay(endpoint: &ConnectedPoint) -> ConnectedPoint {
    let mut endpoint = endpoint.clone();
    let (ConnectedPoint::Dialer { address, .. } | ConnectedPoint::Listener { send_back_addr: address, .. }) =
        &mut endpoint;
    if is_relayed(address) {
        *address =
            address.iter().filter(|part| !matches!(part, Protocol::Ip4(_) | Protocol::Ip6(_))).collect();
    }
    endpoint
}

/// The handler of a connection is disabled. `spoke` states that the peer had opened a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disabled {
    spoke: bool,
}

/// The handler of gossipsub for one connection.
pub(super) struct Handler {
    inner: GossipHandler,
    spoke: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Enabled,
    /// Disabled, and not reported yet.
    Disabled,
    Reported,
}

impl Handler {
    fn new(inner: GossipHandler) -> Self {
        Handler { inner, spoke: false, state: State::Enabled }
    }

    fn is_disabled(&self) -> bool {
        let (protocol, ()) = self.inner.listen_protocol().into_upgrade();
        matches!(protocol, Either::Right(_))
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = <GossipHandler as ConnectionHandler>::FromBehaviour;
    type ToBehaviour = Either<<GossipHandler as ConnectionHandler>::ToBehaviour, Disabled>;
    type InboundProtocol = <GossipHandler as ConnectionHandler>::InboundProtocol;
    type OutboundProtocol = <GossipHandler as ConnectionHandler>::OutboundProtocol;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        self.inner.listen_protocol()
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        if self.state == State::Disabled {
            self.state = State::Reported;
            let disabled = Disabled { spoke: self.spoke };
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Either::Right(disabled)));
        }
        self.inner.poll(cx).map(|event| event.map_custom(Either::Left))
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        self.inner.on_behaviour_event(event);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>) {
        self.spoke |= matches!(event, ConnectionEvent::FullyNegotiatedInbound(_));
        self.inner.on_connection_event(event);
        if self.state == State::Enabled && self.is_disabled() {
            self.state = State::Disabled;
        }
    }
}

/// Connected peers on whose connections gossip is disabled, and those that speak it. A peer that does not
/// speak it is no fault. The limits of connections bound both.
#[derive(Debug, Default)]
pub(super) struct GossipHealth {
    disabled: HashSet<PeerId>,
    speakers: HashSet<PeerId>,
}

impl GossipHealth {
    /// Remembers that gossip with a peer is disabled. Returns `true` if the peer speaks gossipsub.
    pub(super) fn on_disabled(&mut self, peer: PeerId, spoke: bool) -> bool {
        let is_fault = spoke || self.speakers.contains(&peer);
        if !is_fault {
            self.disabled.insert(peer);
        }
        is_fault
    }

    /// Remembers if a peer says that it speaks gossipsub. Returns `true` if it does, and gossip with it is
    /// disabled.
    pub(super) fn on_identified(&mut self, peer: PeerId, info: &identify::Info) -> bool {
        if !info.protocols.iter().any(|protocol| protocol.as_ref().starts_with(GOSSIPSUB)) {
            return false;
        }
        self.speakers.insert(peer);
        self.disabled.remove(&peer)
    }

    /// Forgets a peer that is no longer connected.
    pub(super) fn on_disconnected(&mut self, peer: &PeerId) {
        self.disabled.remove(peer);
        self.speakers.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::swarm::gossip;
    use p2p_node_core::gate::address_scope::AddressScope;

    /// More peers than may share an address.
    const PEERS: usize = 20;

    /// Connects peers at this address, and returns their lowest score.
    fn lowest_score(scope: AddressScope, address: impl Fn(PeerId) -> String) -> f64 {
        let mut watched = Watched::new(gossip::build("/p2p-node/dev/topic/1/", scope).unwrap());
        let peers: Vec<PeerId> = (0..PEERS).map(|_| PeerId::random()).collect();
        for (number, peer) in peers.iter().enumerate() {
            let (connection, remote) = (ConnectionId::new_unchecked(number), address(*peer).parse().unwrap());
            let (role, port) = (Endpoint::Dialer, PortUse::New);
            watched.handle_established_outbound_connection(connection, *peer, &remote, role, port).unwrap();
            let endpoint = &ConnectedPoint::Dialer { address: remote, role_override: role, port_use: port };
            watched.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: *peer,
                connection_id: connection,
                endpoint,
                failed_addresses: &[],
                other_established: 0,
            }));
        }
        peers.iter().filter_map(|peer| watched.peer_score(peer)).fold(f64::MAX, f64::min)
    }

    #[tokio::test]
    async fn peers_of_one_address_lose_score_but_those_behind_a_relay_or_on_this_host() {
        let relay = PeerId::random();
        let direct = |_| "/ip4/8.8.4.4/tcp/1".to_owned();
        let relayed = |peer| format!("/ip4/8.8.4.4/tcp/1/p2p/{relay}/p2p-circuit/p2p/{peer}");
        let loopback = |_| "/ip4/127.0.0.1/tcp/1".to_owned();
        for scope in [AddressScope::Public, AddressScope::Private] {
            assert!(lowest_score(scope, direct) < 0.0);
            assert_eq!(lowest_score(scope, relayed), 0.0);
            assert_eq!(lowest_score(scope, loopback), 0.0);
        }
        assert_eq!(lowest_score(AddressScope::Loopback, direct), 0.0);
    }

    #[test]
    fn only_a_peer_that_speaks_gossipsub_can_lose_it() {
        let mut health = GossipHealth::default();
        let (speaker, other) = (PeerId::random(), PeerId::random());
        assert!(health.on_disabled(speaker, true), "it had opened a stream");
        assert!(!health.on_disabled(other, false));
        let info = |protocols: &[&'static str]| identify::Info {
            public_key: libp2p::identity::Keypair::generate_ed25519().public(),
            protocol_version: String::new(),
            agent_version: String::new(),
            listen_addrs: Vec::new(),
            protocols: protocols.iter().map(|name| libp2p::StreamProtocol::new(name)).collect(),
            observed_addr: Multiaddr::empty(),
            signed_peer_record: None,
        };
        assert!(!health.on_identified(other, &info(&["/ipfs/ping/1.0.0"])), "it speaks no gossipsub");
        assert!(health.on_identified(other, &info(&["/meshsub/1.2.0"])));
        assert!(!health.on_identified(other, &info(&["/meshsub/1.2.0"])), "it is reported once");
        assert!(health.on_disabled(other, false));
        health.on_disconnected(&other);
        assert!(!health.on_disabled(other, false));
    }
}
