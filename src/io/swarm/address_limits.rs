//! Limits of incoming connections by IP address, so that one host cannot take the places of others.
//!
//! An address may always have a few connections, and more while many places are free: a share of the
//! free ones. So an office behind one address gets in while there is room, and a host that opens
//! hundreds leaves places for others. Addresses with a common prefix share a larger limit, because one
//! owner often has all of them. The operator may block addresses, and lift these limits for others.

use std::collections::HashMap;
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
use p2p_node_core::local::addresses::{ip_of, is_relayed};

use super::refused_hosts::RefusedHosts;

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

/// An incoming connection.
#[derive(Clone, Copy, Debug)]
struct Incoming {
    ip: IpAddr,
    /// The operator allowed the address: the connection counts, but not against its address.
    is_allowed: bool,
    is_established: bool,
}

/// The incoming connections by address. The limits of the swarm bound their number.
#[derive(Debug)]
pub(super) struct AddressLimits {
    places: Places,
    /// The hosts that may not connect.
    pub(super) refused: RefusedHosts,
    connections: HashMap<ConnectionId, Incoming>,
    blocks: HashMap<Block, Count>,
    all: Count,
}

impl AddressLimits {
    pub(super) fn new(places: Places, refused: RefusedHosts) -> Self {
        AddressLimits {
            places,
            refused,
            connections: HashMap::new(),
            blocks: HashMap::new(),
            all: Count::default(),
        }
    }

    /// Fails if an address is blocked, or that of a banned host that is not allowed.
    fn check_rules(&self, addr: &Multiaddr) -> Result<(), ConnectionDenied> {
        self.refused.refusal(addr).map_or(Ok(()), |refusal| Err(ConnectionDenied::new(refusal)))
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
    fn change(&mut self, incoming: Incoming, change: impl Fn(&mut Count)) {
        change(&mut self.all);
        if incoming.is_allowed {
            return;
        }
        for block in blocks(incoming.ip) {
            let count = self.blocks.entry(block).or_default();
            change(count);
            if count.pending == 0 && count.established == 0 {
                self.blocks.remove(&block);
            }
        }
    }

    fn on_established(&mut self, connection: ConnectionId) {
        if let Some(incoming) = self.connections.get_mut(&connection)
            && !std::mem::replace(&mut incoming.is_established, true)
        {
            let incoming = *incoming;
            self.change(incoming, |count| {
                count.pending -= 1;
                count.established += 1;
            });
        }
    }

    fn on_ended(&mut self, connection: ConnectionId) {
        match self.connections.remove(&connection) {
            Some(incoming) if incoming.is_established => {
                self.change(incoming, |count| count.established -= 1);
            }
            Some(incoming) => self.change(incoming, |count| count.pending -= 1),
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
        self.check_rules(remote)?;
        // The address of a relayed connection is that of the relay, which has limits for its clients.
        let Some(ip) = ip_of(remote).filter(|_| !is_relayed(remote)).map(|ip| ip.to_canonical()) else {
            return Ok(());
        };
        if ip.is_loopback() && self.places.exempts_loopback {
            return Ok(());
        }
        let is_allowed = self.refused.allows(remote);
        if !is_allowed && !self.has_place(ip) {
            return Err(ConnectionDenied::new(TooManyFromAddress(ip)));
        }
        let incoming = Incoming { ip, is_allowed, is_established: false };
        self.connections.insert(connection, incoming);
        self.change(incoming, |count| count.pending += 1);
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
        self.check_rules(addr)?;
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
mod tests;
