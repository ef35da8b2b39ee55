//! The links of a connection to a peer: the transport connections of which it consists.

use std::collections::BTreeSet;
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};
use p2p_node_protocol::{LinkDirection, LinkTransport, PeerLink};
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::gate::host::Host;
use crate::local::addresses::is_relayed;
use crate::peers::Peers;
use crate::peers::score::Prefix;
use crate::peers::subnet::{Origin, Subnet};

/// Largest number of links to one peer: the swarm allows three.
const MAX_LINKS: usize = 4;
/// Longest address of a link that the node reports, in bytes: our choice. That of a relayed link holds
/// two PeerIds.
const MAX_ADDR_BYTES: usize = 160;

/// What the swarm reports of a connected peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerReport {
    /// A transport connection stands.
    LinkOpened {
        /// Number of the link, unique in this process.
        link: u64,
        /// `true` if this node dialled.
        dialer: bool,
        /// Address of the other end.
        remote: Multiaddr,
    },
    /// A transport connection ended.
    LinkClosed {
        /// Number of the link.
        link: u64,
    },
    /// The answer to a ping took this long.
    RoundTrip(Duration),
    /// The peer made a reservation at this node as its relay, on one of its links.
    ReservationMade,
    /// A reservation of the peer at this node ended.
    ReservationEnded,
    /// The queue of outgoing gossip to this peer is full.
    Slow,
    /// The peer speaks gossipsub, and libp2p has given up gossip on a connection to it.
    GossipDisabled,
}

#[derive(Clone, Debug)]
struct Link {
    number: u64,
    direction: LinkDirection,
    remote: Multiaddr,
    opened_at: Instant,
}

/// The links to a peer, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Links(Vec<Link>);

impl Links {
    fn open(&mut self, number: u64, dialer: bool, remote: Multiaddr, now: Instant) {
        if self.0.len() < MAX_LINKS {
            let direction = if dialer { LinkDirection::Outbound } else { LinkDirection::Inbound };
            self.0.push(Link { number, direction, remote, opened_at: now });
        }
    }

    fn close(&mut self, number: u64) {
        self.0.retain(|link| link.number != number);
    }

    /// Returns the IP prefixes of the direct links.
    pub(crate) fn prefixes(&self) -> BTreeSet<Prefix> {
        self.0.iter().filter_map(|link| Prefix::of(&link.remote)).collect()
    }

    /// Returns the host of the oldest direct link.
    pub(crate) fn host(&self) -> Option<Host> {
        self.0.iter().find_map(|link| Host::of(&link.remote))
    }

    /// Returns `true` if this node dialled one of the direct links.
    pub(crate) fn has_direct_outbound(&self) -> bool {
        self.0.iter().any(|link| link.direction == LinkDirection::Outbound && !is_relayed(&link.remote))
    }

    /// Returns the subnets of the direct links.
    pub(crate) fn subnets(&self) -> BTreeSet<Subnet> {
        Subnet::of_all(self.0.iter().map(|link| &link.remote))
    }

    /// Returns the origins of the links.
    pub(crate) fn origins(&self) -> BTreeSet<Origin> {
        self.0.iter().filter_map(|link| Origin::of(&link.remote)).collect()
    }

    /// Returns the links as the parent sees them.
    pub(crate) fn report(&self, now: Instant) -> Vec<PeerLink> {
        let report = |link: &Link| PeerLink {
            direction: link.direction,
            transport: transport(&link.remote),
            remote_address: link.remote.to_string().chars().take(MAX_ADDR_BYTES).collect(),
            age_ms: now.saturating_since(link.opened_at).as_millis() as u64,
        };
        self.0.iter().map(report).collect()
    }
}

fn transport(addr: &Multiaddr) -> LinkTransport {
    if is_relayed(addr) {
        LinkTransport::Relay
    } else if addr.iter().any(|part| part == Protocol::QuicV1) {
        LinkTransport::Quic
    } else {
        LinkTransport::Tcp
    }
}

impl Peers {
    /// Handles a report of a connected peer.
    pub(crate) fn on_peer_report(&mut self, peer: PeerId, report: PeerReport, cx: &mut Cx) {
        let now = cx.now.mono;
        match report {
            PeerReport::Slow => return self.on_slow_peer(peer, cx),
            PeerReport::GossipDisabled => return self.renew_gossip(peer, cx),
            _ => {}
        }
        let Some(connection) = self.table.connection_mut(&peer) else { return };
        match report {
            PeerReport::LinkOpened { link, dialer, remote } => {
                if dialer {
                    self.subnet_pauses.reached(&remote);
                }
                connection.links.open(link, dialer, remote, now);
            }
            PeerReport::LinkClosed { link } => connection.links.close(link),
            PeerReport::RoundTrip(round_trip) => {
                cx.stats.traffic.pinged(round_trip);
                self.histories.measured(&peer, round_trip);
            }
            PeerReport::ReservationMade => {
                connection.reservations = connection.reservations.saturating_add(1);
            }
            PeerReport::ReservationEnded => {
                connection.reservations = connection.reservations.saturating_sub(1);
            }
            PeerReport::Slow | PeerReport::GossipDisabled => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_show_direction_transport_address_and_age() {
        let (mut links, relay) = (Links::default(), PeerId::random());
        let remotes =
            ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/udp/1/quic-v1", &format!("/p2p/{relay}/p2p-circuit")];
        for (number, remote) in (0..).zip(remotes) {
            links.open(number, number == 1, remote.parse().expect("an address"), Instant::from_secs(number));
        }
        let report = links.report(Instant::from_secs(3));
        let shown = |link: &PeerLink| (link.direction, link.transport, link.age_ms);
        assert_eq!(
            report.iter().map(shown).collect::<Vec<_>>(),
            [
                (LinkDirection::Inbound, LinkTransport::Tcp, 3000),
                (LinkDirection::Outbound, LinkTransport::Quic, 2000),
                (LinkDirection::Inbound, LinkTransport::Relay, 1000),
            ]
        );
        assert_eq!(report.first().map(|link| link.remote_address.as_str()), Some("/ip4/192.0.2.1/tcp/1"));
        assert_eq!(links.prefixes().len(), 1);
        links.close(0);
        assert_eq!(links.report(Instant::ZERO).len(), 2);
        (10..20).for_each(|number| links.open(number, true, Multiaddr::empty(), Instant::ZERO));
        assert_eq!(links.report(Instant::ZERO).len(), MAX_LINKS);
    }
}
