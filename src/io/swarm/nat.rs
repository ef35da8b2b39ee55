//! Traversal of NAT: relays, hole punching, AutoNAT and UPnP, with their limits.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::autonat::v2::client;
use libp2p::core::transport::{ListenerId, PortUse};
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId, identify, relay};

use super::listen::whole_reason;
use super::{MAX_ADDRS_PER_SERVER, SwarmDriver};
use p2p_node_core::gate::address_scope::AddressScope;
use p2p_node_core::input::{AddressEvent, Input, PeerReport};
use p2p_node_core::local::addresses::{ip_of, is_relayed};

/// Default of the bytes that a relay carries on one connection, both directions together: an hour of
/// the 10 KB/s that the CHORUS node package gives for a busy connection, and reserve. Mail of maximum
/// size passes 60 times.
pub const DEFAULT_RELAY_BYTES: u64 = 64 << 20;
/// Smallest limit of the bytes on a relayed connection: two messages of maximum size in each direction.
pub const MIN_RELAY_BYTES: u64 = 4 << 20;
/// Largest number of nodes that a relay serves: the connections of a bootstrap node.
const MAX_RESERVATIONS: usize = 1000;
/// Largest number of connections that a relay carries at once: our choice, two for each node that it
/// serves. An idle one costs two streams.
const MAX_CIRCUITS: usize = 2 * MAX_RESERVATIONS;
/// Largest number of connections of one node that a relay carries. Its streams share the connection to
/// the relay, which has 96.
const MAX_CIRCUITS_PER_PEER: usize = 32;
/// Life of a reservation, and longest life of a relayed connection: the default of libp2p for the
/// first.
const RELAY_LIFE: Duration = Duration::from_secs(60 * 60);
/// Most reservations and connections through a relay that one peer may request in a row, and the
/// interval after which it may request another. Our choice: a node that starts dials up to 8 peers, and
/// 5 in a second.
const PER_PEER: (NonZeroU32, Duration) = (NonZeroU32::new(64).unwrap(), Duration::from_secs(2));
/// The same for one IP address: our choice, 16 nodes behind one NAT.
const PER_IP: (NonZeroU32, Duration) = (NonZeroU32::new(1024).unwrap(), Duration::from_millis(125));
/// Largest number of addresses that AutoNAT tests in the life of a process. Peers name them, so the
/// number needs a bound. Our choice: several networks with four addresses each.
const MAX_CANDIDATES: usize = 64;

/// Returns the limits of a relay.
pub(super) fn relay_config(max_circuit_bytes: u64) -> relay::Config {
    let config = relay::Config {
        max_reservations: MAX_RESERVATIONS,
        max_reservations_per_peer: 2,
        reservation_duration: RELAY_LIFE,
        reservation_rate_limiters: Vec::new(),
        max_circuits: MAX_CIRCUITS,
        max_circuits_per_peer: MAX_CIRCUITS_PER_PEER,
        max_circuit_duration: RELAY_LIFE,
        max_circuit_bytes,
        circuit_src_rate_limiters: Vec::new(),
    };
    config
        .reservation_rate_per_peer(PER_PEER.0, PER_PEER.1)
        .reservation_rate_per_ip(PER_IP.0, PER_IP.1)
        .circuit_src_per_peer(PER_PEER.0, PER_PEER.1)
        .circuit_src_per_ip(PER_IP.0, PER_IP.1)
}

/// AutoNAT client that tests only addresses of the scope, and a limited number of them.
pub(super) struct AutonatClient {
    inner: client::Behaviour,
    scope: AddressScope,
    candidates: HashSet<Multiaddr>,
}

impl AutonatClient {
    pub(super) fn new(scope: AddressScope) -> Self {
        Self { inner: client::Behaviour::default(), scope, candidates: HashSet::new() }
    }

    /// Returns `true` if AutoNAT may test this address.
    fn admits(&mut self, addr: &Multiaddr) -> bool {
        if self.candidates.contains(addr) {
            return true;
        }
        let is_new = self.scope.permits(addr) && !is_relayed(addr) && self.candidates.len() < MAX_CANDIDATES;
        is_new && self.candidates.insert(addr.clone())
    }
}

impl NetworkBehaviour for AutonatClient {
    type ConnectionHandler = THandler<client::Behaviour>;
    type ToSwarm = client::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(connection, peer, addr, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::NewExternalAddrCandidate(candidate) = &event
            && !self.admits(candidate.addr)
        {
            return;
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<client::Event, THandlerInEvent<Self>>> {
        self.inner.poll(cx)
    }
}

/// What the driver knows about its direct connections and its relays. The limits of the swarm bound
/// the number of connections, and the core that of relays.
#[derive(Debug, Default)]
pub(super) struct NatState {
    /// The direct connections, with the dialled address of those that this node dialled.
    direct: HashMap<ConnectionId, Option<Multiaddr>>,
    /// The IP address at which the peer of a connection sees this node.
    observed: HashMap<ConnectionId, IpAddr>,
    /// The listeners at relays, with the addresses that each reported.
    relays: HashMap<ListenerId, (PeerId, Vec<Multiaddr>)>,
}

impl SwarmDriver {
    pub(super) fn on_link_established(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        endpoint: &ConnectedPoint,
        is_first: bool,
    ) {
        if !endpoint.is_relayed() {
            let dialled = endpoint.is_dialer().then(|| without_peer(endpoint.get_remote_address()));
            self.nat.direct.insert(connection, dialled);
        }
        if endpoint.is_relayed() || !is_first {
            self.report_path(peer);
        }
    }

    fn report_path(&mut self, peer: PeerId) {
        let is_relayed = self.swarm.behaviour().links.is_relayed(&peer);
        self.report_addresses(AddressEvent::Path { peer, is_relayed });
    }

    pub(super) fn on_link_closed(&mut self, connection: ConnectionId, peer: PeerId, is_last: bool) {
        self.nat.direct.remove(&connection);
        if self.nat.observed.remove(&connection).is_some() {
            self.report_observed();
        }
        if is_last {
            self.report_addresses(AddressEvent::RelayWithdrawn { relay: peer });
        } else {
            self.report_path(peer);
        }
    }

    /// Handles what identify says about this node's address and about a relay.
    pub(super) fn on_identified(&mut self, connection: ConnectionId, peer: PeerId, info: &identify::Info) {
        let Some(dialled) = self.nat.direct.get(&connection).cloned() else { return };
        let offers = info.protocols.contains(&relay::HOP_PROTOCOL_NAME);
        let event = if offers {
            let listening = self.scope.select(info.listen_addrs.clone()).into_iter();
            let addrs = dialled.clone().into_iter().chain(listening.map(|addr| without_peer(&addr)));
            let addrs = addrs.filter(|addr| !is_relayed(addr)).take(MAX_ADDRS_PER_SERVER).collect();
            AddressEvent::RelayOffered { relay: peer, addrs }
        } else {
            AddressEvent::RelayWithdrawn { relay: peer }
        };
        self.report_addresses(event);
        let Some(ip) = ip_of(&info.observed_addr) else { return };
        if self.nat.observed.insert(connection, ip) != Some(ip) {
            self.report_observed();
            if dialled.is_some() {
                self.add_candidates(&info.observed_addr, ip);
            }
        }
    }

    /// Names the addresses at which others may be able to dial this node: the one that the peer sees,
    /// and the ports on which the node listens at the same IP address.
    fn add_candidates(&mut self, observed: &Multiaddr, ip: IpAddr) {
        let at_observed_ip = |addr: &Multiaddr| {
            let own = ip_of(addr).filter(|own| own.is_ipv4() == ip.is_ipv4() && !is_relayed(addr))?;
            (!own.is_loopback() || ip.is_loopback()).then(|| addr.replace(0, |_| Some(Protocol::from(ip))))?
        };
        let translated: BTreeSet<Multiaddr> = self.swarm.listeners().filter_map(at_observed_ip).collect();
        let candidates = translated.into_iter().chain([without_peer(observed)]);
        let candidates: BTreeSet<_> = candidates.filter(|addr| self.scope.permits(addr)).collect();
        let links = &mut self.swarm.behaviour_mut().links;
        candidates.into_iter().for_each(|addr| links.add_candidate(addr));
    }

    /// Reports the peers that mDNS found, each with all its addresses.
    pub(super) fn on_peers_found(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let mut peers: HashMap<PeerId, Vec<Multiaddr>> = HashMap::new();
        for (peer, addr) in found {
            peers.entry(peer).or_default().push(addr);
        }
        for (peer, addrs) in peers {
            self.report_addresses(AddressEvent::PeerFound { peer, addrs });
        }
    }

    /// Reports the reservations of others at this node.
    pub(super) fn on_relay_event(&mut self, event: &relay::Event) {
        let (peer, report) = match event {
            relay::Event::ReservationReqAccepted { src_peer_id, renewed: false } => {
                (*src_peer_id, PeerReport::ReservationMade)
            }
            relay::Event::ReservationClosed { src_peer_id }
            | relay::Event::ReservationTimedOut { src_peer_id } => {
                (*src_peer_id, PeerReport::ReservationEnded)
            }
            _ => return,
        };
        self.inputs.push_back(Input::PeerReport { peer, report });
    }

    fn report_observed(&mut self) {
        let ips = self.nat.observed.values().copied().collect();
        self.report_addresses(AddressEvent::Observed(ips));
    }

    pub(super) fn report_addresses(&mut self, event: AddressEvent) {
        self.inputs.push_back(Input::Addresses(event));
    }

    /// Requests a reservation at a relay. The listener reports its outcome.
    pub(super) fn reserve_relay(&mut self, relay: PeerId, addr: Multiaddr) {
        let circuit = without_peer(&addr).with(Protocol::P2p(relay)).with(Protocol::P2pCircuit);
        match self.swarm.listen_on(circuit) {
            Ok(listener) => {
                self.nat.relays.insert(listener, (relay, Vec::new()));
            }
            Err(error) => {
                let reason = whole_reason(&error);
                self.report_addresses(AddressEvent::ReservationEnded { relay, reason });
            }
        }
    }

    /// Handles an address of a listener at a relay. Returns `false` for other listeners.
    pub(super) fn on_relayed_address(&mut self, listener: ListenerId, addr: &Multiaddr) -> bool {
        let Some((relay, addrs)) = self.nat.relays.get_mut(&listener) else { return false };
        if !addrs.contains(addr) && addrs.len() < MAX_ADDRS_PER_SERVER {
            addrs.push(addr.clone());
        }
        let event = AddressEvent::Reserved { relay: *relay, addrs: addrs.clone() };
        self.report_addresses(event);
        true
    }

    /// Handles the end of a listener at a relay. Returns `false` for other listeners.
    pub(super) fn on_reservation_ended(&mut self, listener: ListenerId, reason: &str) -> bool {
        let Some((relay, _)) = self.nat.relays.remove(&listener) else { return false };
        self.report_addresses(AddressEvent::ReservationEnded { relay, reason: reason.to_owned() });
        true
    }

    /// Replaces the external addresses of the swarm, except those at relays.
    pub(super) fn set_external_addresses(&mut self, addrs: Vec<Multiaddr>) {
        let old: Vec<_> = self.swarm.external_addresses().filter(|addr| !is_relayed(addr)).cloned().collect();
        for addr in old.iter().filter(|addr| !addrs.contains(addr)) {
            self.swarm.remove_external_address(addr);
        }
        for addr in addrs.into_iter().filter(|addr| !old.contains(addr)) {
            self.swarm.add_external_address(addr);
        }
    }
}

/// Returns an address without the PeerId at its end.
fn without_peer(addr: &Multiaddr) -> Multiaddr {
    let mut addr = addr.clone();
    if let Some(Protocol::P2p(_)) = addr.iter().last() {
        addr.pop();
    }
    addr
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn autonat_tests_a_limited_number_of_addresses_of_the_scope() {
        let mut client = AutonatClient::new(AddressScope::Public);
        let addr = |number: usize| format!("/ip4/8.8.8.{number}/tcp/1").parse().unwrap();
        assert!(!client.admits(&"/ip4/192.168.0.1/tcp/1".parse().unwrap()));
        assert!((0..MAX_CANDIDATES).all(|number| client.admits(&addr(number))));
        assert!(!client.admits(&addr(MAX_CANDIDATES)));
        assert!(client.admits(&addr(0)), "a known address may be named again");
    }

    #[test]
    fn peer_id_is_taken_from_the_end_only() {
        let peer = PeerId::random();
        let addr: Multiaddr = format!("/ip4/8.8.8.8/tcp/1/p2p/{peer}").parse().unwrap();
        assert_eq!(without_peer(&addr).to_string(), "/ip4/8.8.8.8/tcp/1");
        let relayed = addr.with(Protocol::P2pCircuit);
        assert_eq!(without_peer(&relayed), relayed);
    }
}
