//! Limits of incoming connections by IP address, so that one host cannot take the places of others.
//!
//! An address may always have a few connections, and more while many places are free: a share of the
//! free ones. So an office behind one address gets in while there is room, and a host that opens
//! hundreds leaves places for others. Addresses with a common prefix share a larger limit, because one
//! owner often has all of them.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, ListenFailure};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use p2p_node_core::gate::host::Host;
use p2p_node_core::local::addresses::{ip_of, is_relayed};

/// Handshakes that an address may always have: our choice, a few peers that start at the same time.
const MIN_PENDING: u32 = 4;
/// Part of the free places for handshakes that one address may take, and one prefix.
const PENDING_SHARE: Share = Share { of_address: 4, of_prefix: 2 };
/// Part of the free places for connections that one address may take, and one prefix. Our choice: the
/// first host gets 16 of the 150 places of an agent's node, and 166 of the 1,500 of a bootstrap node.
const CONNECTION_SHARE: Share = Share { of_address: 8, of_prefix: 2 };
/// Number of addresses whose guaranteed connections one prefix may have, as in go-libp2p (8 for an
/// address, 64 for a prefix).
const ADDRESSES_OF_PREFIX: u32 = 8;

#[derive(Clone, Copy, Debug)]
struct Share {
    of_address: u32,
    of_prefix: u32,
}

/// The limits of incoming connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Largest number of handshakes.
    pub pending: u32,
    /// Largest number of connections.
    pub established: u32,
    /// Number of connections that one address may always have.
    pub of_address: u32,
    /// `true` if loopback addresses have no limit of their own: on the loopback scope all nodes have
    /// the same.
    pub exempts_loopback: bool,
}

/// The connection was refused: its address has too many.
#[derive(Debug, thiserror::Error)]
#[error("too many connections from {0} or its neighbours")]
pub(super) struct TooManyFromAddress(IpAddr);

/// The connection was refused: its address is banned.
#[derive(Debug, thiserror::Error)]
#[error("{0} is banned")]
pub(super) struct BannedHost(Host);

/// The addresses that share a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Block {
    /// An IPv4 address, or the /64 of an IPv6 address, which one host has as a whole.
    Host(IpAddr),
    /// The /24 of an IPv4 address, or the /48 of an IPv6 address.
    Prefix(IpAddr),
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    pending: u32,
    established: u32,
}

/// The incoming connections by address. The limits of the swarm bound their number.
#[derive(Debug)]
pub(super) struct AddressLimits {
    places: Places,
    connections: HashMap<ConnectionId, (IpAddr, bool)>,
    blocks: HashMap<Block, Count>,
    all: Count,
    /// Hosts whose connections are refused. The core bounds their number.
    banned: HashSet<Host>,
}

impl AddressLimits {
    pub(super) fn new(places: Places) -> Self {
        AddressLimits {
            places,
            connections: HashMap::new(),
            blocks: HashMap::new(),
            all: Count::default(),
            banned: HashSet::new(),
        }
    }

    /// Refuses new connections of a host.
    pub(super) fn block(&mut self, host: Host) {
        self.banned.insert(host);
    }

    /// Accepts connections of a host again.
    pub(super) fn unblock(&mut self, host: &Host) {
        self.banned.remove(host);
    }

    /// Fails if an address is that of a banned host.
    fn check_ban(&self, addr: &Multiaddr) -> Result<(), ConnectionDenied> {
        match Host::of(addr).filter(|host| self.banned.contains(host)) {
            Some(host) => Err(ConnectionDenied::new(BannedHost(host))),
            None => Ok(()),
        }
    }

    /// Returns `true` if there is a place for one more handshake from the address.
    fn has_place(&self, ip: IpAddr) -> bool {
        let free_pending = self.places.pending.saturating_sub(self.all.pending);
        let free = self.places.established.saturating_sub(self.all.established);
        blocks(ip).into_iter().all(|block| {
            let count = self.blocks.get(&block).copied().unwrap_or_default();
            let (times, pending_share, share) = match block {
                Block::Host(_) => (1, PENDING_SHARE.of_address, CONNECTION_SHARE.of_address),
                Block::Prefix(_) => {
                    (ADDRESSES_OF_PREFIX, PENDING_SHARE.of_prefix, CONNECTION_SHARE.of_prefix)
                }
            };
            count.pending < (MIN_PENDING * times).max(free_pending / pending_share)
                && count.pending + count.established < (self.places.of_address * times).max(free / share)
        })
    }

    /// Applies a change to the counts of an address. Forgets blocks without connections.
    fn change(&mut self, ip: IpAddr, change: impl Fn(&mut Count)) {
        change(&mut self.all);
        for block in blocks(ip) {
            let count = self.blocks.entry(block).or_default();
            change(count);
            if count.pending == 0 && count.established == 0 {
                self.blocks.remove(&block);
            }
        }
    }

    fn on_established(&mut self, connection: ConnectionId) {
        if let Some((ip, established)) = self.connections.get_mut(&connection)
            && !std::mem::replace(established, true)
        {
            let ip = *ip;
            self.change(ip, |count| {
                count.pending -= 1;
                count.established += 1;
            });
        }
    }

    fn on_ended(&mut self, connection: ConnectionId) {
        match self.connections.remove(&connection) {
            Some((ip, true)) => self.change(ip, |count| count.established -= 1),
            Some((ip, false)) => self.change(ip, |count| count.pending -= 1),
            None => {}
        }
    }
}

/// Returns the prefix of an address.
pub(super) fn prefix_of(ip: IpAddr) -> Block {
    let [_, prefix] = blocks(ip);
    prefix
}

/// Returns the blocks of an address.
fn blocks(ip: IpAddr) -> [Block; 2] {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            [Block::Host(ip), Block::Prefix([a, b, c, 0].into())]
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            let prefix = |d| IpAddr::V6(Ipv6Addr::from([a, b, c, d, 0, 0, 0, 0]));
            [Block::Host(prefix(d)), Block::Prefix(prefix(0))]
        }
    }
}

impl NetworkBehaviour for AddressLimits {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.check_ban(remote)?;
        // The address of a relayed connection is that of the relay, which has limits for its clients.
        let Some(ip) = ip_of(remote).filter(|_| !is_relayed(remote)).map(|ip| ip.to_canonical()) else {
            return Ok(());
        };
        if ip.is_loopback() && self.places.exempts_loopback {
            return Ok(());
        }
        if !self.has_place(ip) {
            return Err(ConnectionDenied::new(TooManyFromAddress(ip)));
        }
        self.connections.insert(connection, (ip, false));
        self.change(ip, |count| count.pending += 1);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        addr: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // The core and Kademlia dial by PeerId, and a host may be banned for other nodes.
        self.check_ban(addr)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { connection_id, .. }) => {
                self.on_established(connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => self.on_ended(connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: Places = Places { pending: 64, established: 150, of_address: 3, exempts_loopback: false };

    struct Remote {
        limits: AddressLimits,
        last: usize,
    }

    impl Remote {
        fn new(places: Places) -> Self {
            Remote { limits: AddressLimits::new(places), last: 0 }
        }

        /// Begins a handshake. Returns `None` if it is refused.
        fn begin(&mut self, remote: &str) -> Option<ConnectionId> {
            self.last += 1;
            let connection = ConnectionId::new_unchecked(self.last);
            let (local, remote) = ("/ip4/10.0.0.1/tcp/1".parse().unwrap(), remote.parse().unwrap());
            let begun = self.limits.handle_pending_inbound_connection(connection, &local, &remote);
            begun.is_ok().then_some(connection)
        }

        /// Connects as often as the limits permit, at most 1,000 times.
        fn connect_all(&mut self, remote: impl Fn(u32) -> String) -> Vec<ConnectionId> {
            let connections = (0..1000).filter_map(|number| {
                let connection = self.begin(&remote(number))?;
                self.limits.on_established(connection);
                Some(connection)
            });
            connections.collect()
        }
    }

    #[test]
    fn silent_host_leaves_places_for_handshakes_of_others() {
        let mut host = Remote::new(PLACES);
        let silent = (0..1000).filter(|_| host.begin("/ip4/192.0.2.1/tcp/5").is_some()).count();
        assert_eq!(silent, 13, "a quarter of the free places");
        assert!(host.begin("/ip4/192.0.2.2/tcp/5").is_some());
        assert!(host.begin("/ip6/2001:db8::1/udp/5/quic-v1").is_some());
        let neighbours = (0..1000)
            .filter(|number| host.begin(&format!("/ip4/192.0.2.{}/tcp/5", 3 + number % 250)).is_some())
            .count();
        assert!(14 + neighbours <= 33, "a prefix takes half: {neighbours}");
        assert!(host.begin("/ip4/198.51.100.1/tcp/5").is_some());
    }

    #[test]
    fn one_address_never_takes_all_connections_and_always_gets_some() {
        let mut host = Remote::new(PLACES);
        let first = host.connect_all(|_| "/ip4/192.0.2.1/tcp/5".to_owned());
        assert_eq!(first.len(), 16, "an eighth of the free places");
        host.connect_all(|number| format!("/ip4/203.0.{}.1/tcp/5", number % 250));
        assert_eq!(host.limits.all.established, 16 + 250 * 3, "three each");
        for connection in first {
            host.limits.on_ended(connection);
        }
        assert_eq!(host.connect_all(|_| "/ip4/192.0.2.1/tcp/5".to_owned()).len(), 3, "as long as it is full");
    }

    #[test]
    fn hosts_of_one_ipv6_network_share_their_limits() {
        let mut host = Remote::new(PLACES);
        let of_host = host.connect_all(|number| format!("/ip6/2001:db8:0:1::{number:x}/tcp/5"));
        assert_eq!(of_host.len(), 16, "a /64 is one host");
        let of_prefix = host.connect_all(|number| format!("/ip6/2001:db8:0:{number:x}::1/tcp/5"));
        assert!(of_host.len() + of_prefix.len() <= 50, "a /48 takes half of the free places");
        assert_eq!(host.connect_all(|_| "/ip6/2001:db9::1/tcp/5".to_owned()).len(), 11);
    }

    #[test]
    fn banned_host_is_refused_until_its_ban_ends() {
        let mut host = Remote::new(PLACES);
        let banned = Host::of_ip([192, 0, 2, 1].into());
        host.limits.block(banned);
        assert!(host.begin("/ip4/192.0.2.1/tcp/5").is_none());
        assert!(host.limits.check_ban(&"/ip4/192.0.2.1/udp/5/quic-v1".parse().unwrap()).is_err());
        assert!(host.begin("/ip4/192.0.2.2/tcp/5").is_some());
        host.limits.unblock(&banned);
        assert!(host.begin("/ip4/192.0.2.1/tcp/5").is_some());
    }

    #[test]
    fn counts_end_with_their_connections() {
        let mut host = Remote::new(PLACES);
        let pending = host.begin("/ip4/192.0.2.1/tcp/5").unwrap();
        let all = host.connect_all(|_| "/ip4/192.0.2.1/tcp/5".to_owned());
        for connection in all.into_iter().chain([pending, pending]) {
            host.limits.on_ended(connection);
        }
        assert!(host.limits.blocks.is_empty() && host.limits.connections.is_empty());
        assert_eq!((host.limits.all.pending, host.limits.all.established), (0, 0));
    }

    #[test]
    fn relayed_connections_and_those_of_the_loopback_scope_are_exempt() {
        let mut host = Remote::new(Places { exempts_loopback: true, ..PLACES });
        assert_eq!(host.connect_all(|_| "/ip4/127.0.0.1/tcp/5".to_owned()).len(), 1000);
        let relayed =
            "/ip4/192.0.2.1/tcp/5/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit";
        assert_eq!(host.connect_all(|_| relayed.to_owned()).len(), 1000);
        assert_eq!(Remote::new(PLACES).connect_all(|_| "/ip4/127.0.0.1/tcp/5".to_owned()).len(), 16);
    }
}
