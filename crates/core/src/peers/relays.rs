//! Relays: the peers through which others reach a node that they cannot dial.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::{Counter, Level};
use p2p_node_wire::time::Instant;
use serde_json::json;

use crate::backoff::{Backoff, BackoffPolicy, Spread};
use crate::cx::Cx;
use crate::effect::NetworkCommand;
use crate::local::Local;
use crate::peers::Peers;

/// Number of relays at which an unreachable node has a reservation: our choice, so that one may fail.
pub(crate) const MAX_RELAYS: usize = 2;
/// Largest number of connected peers that offer to relay: our choice, as many as bootstrap peers.
pub(crate) const MAX_OFFERS: usize = 64;
/// Largest number of relays with a pause, as many as offers.
pub(crate) const MAX_RELAY_PAUSES: usize = MAX_OFFERS;
/// Pauses after a relay refused a reservation or ended it. Our choice: a relay that restarts is back
/// within seconds, and one without room asks for patience.
const PAUSES: BackoffPolicy = BackoffPolicy {
    start: Duration::from_secs(2),
    cap: Duration::from_secs(300),
    spread: Spread::Around,
    counts_during_pause: true,
};

/// What the swarm found out about the addresses of this node and about relays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressEvent {
    /// Another node dialled this address of ours, or a gateway maps it.
    Confirmed(Multiaddr),
    /// A confirmed address does not lead here any more.
    Expired(Multiaddr),
    /// The IP addresses at which the connected peers see this node.
    Observed(BTreeSet<IpAddr>),
    /// mDNS found a peer in the local network.
    PeerFound {
        /// The peer.
        peer: PeerId,
        /// Addresses of the peer.
        addrs: Vec<Multiaddr>,
    },
    /// A directly connected peer offers to relay, at these addresses.
    RelayOffered {
        /// The peer.
        relay: PeerId,
        /// Addresses of the relay, the best first.
        addrs: Vec<Multiaddr>,
    },
    /// A peer disconnected or does not offer to relay any more.
    RelayWithdrawn {
        /// The peer.
        relay: PeerId,
    },
    /// The node reaches a connected peer only through relays, or directly.
    Path {
        /// The peer.
        peer: PeerId,
        /// `true` if all connections go through relays.
        is_relayed: bool,
    },
    /// A relay has accepted our reservation. Relayed addresses of this node follow from it.
    Reserved {
        /// The relay.
        relay: PeerId,
        /// Addresses of this node at the relay.
        addrs: Vec<Multiaddr>,
    },
    /// A relay refused our reservation or ended it.
    ReservationEnded {
        /// The relay.
        relay: PeerId,
        /// Reason, for people.
        reason: String,
    },
}

/// The relays that this node uses, and those that it could use.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    /// Connected peers that offer to relay, with an address of each.
    offers: BTreeMap<PeerId, Multiaddr>,
    /// Relays with a reservation or a request for one. `true` for a reservation.
    reservations: BTreeMap<PeerId, bool>,
    /// Relays that refused or ended a reservation.
    pauses: BTreeMap<PeerId, Backoff>,
}

impl Relays {
    /// Returns the relays that the node may ask for a reservation now.
    fn candidates(&self, now: Instant) -> Vec<(PeerId, Multiaddr)> {
        let is_free = |relay: &PeerId| {
            !self.reservations.contains_key(relay)
                && self.pauses.get(relay).is_none_or(|pause| pause.ready(now))
        };
        let free = self.offers.iter().filter(|(relay, _)| is_free(relay));
        free.map(|(relay, addr)| (*relay, addr.clone())).collect()
    }

    fn wants_more(&self) -> bool {
        self.reservations.len() < MAX_RELAYS
    }

    /// Returns the time at which the pause of an offered relay ends.
    fn next_pause_end(&self) -> Option<Instant> {
        let idle = |relay: &&PeerId| !self.reservations.contains_key(*relay);
        let ends = self.offers.keys().filter(idle).filter_map(|relay| self.pauses.get(relay));
        ends.map(Backoff::not_before).min()
    }

    /// Takes a peer as a relay.
    #[cfg(test)]
    pub(crate) fn reserve_for_test(&mut self, relay: PeerId) {
        self.reservations.insert(relay, true);
    }

    /// Returns `true` if others reach this node through the peer.
    pub(crate) fn uses(&self, peer: &PeerId) -> bool {
        self.reservations.contains_key(peer)
    }

    fn pause(&mut self, relay: PeerId, cx: &mut Cx) {
        let now = cx.now.mono;
        if self.pauses.len() >= MAX_RELAY_PAUSES {
            self.pauses.retain(|_, pause| !pause.ready(now));
        }
        let full = self.pauses.len() >= MAX_RELAY_PAUSES;
        match self.pauses.entry(relay) {
            Entry::Vacant(_) if full => {}
            entry => entry.or_default().fail_by(&PAUSES, now, Duration::ZERO, &mut cx.jitter),
        }
    }

    /// Returns the numbers of offers, reservations and pauses.
    pub(crate) fn lens(&self) -> (usize, usize, usize) {
        (self.offers.len(), self.reservations.len(), self.pauses.len())
    }
}

impl Peers {
    /// Handles news about the addresses of this node and about relays.
    pub(crate) fn on_address_event(&mut self, event: AddressEvent, local: &mut Local, cx: &mut Cx) {
        let now = cx.now.mono;
        match event {
            AddressEvent::Confirmed(addr) => local.addresses.confirm(addr, now),
            AddressEvent::Expired(addr) => local.addresses.expire(&addr, now),
            AddressEvent::Observed(ips) => local.addresses.set_observed(ips, now),
            AddressEvent::PeerFound { peer, addrs } => self.on_peer_found(peer, addrs, cx),
            AddressEvent::RelayOffered { relay, addrs } => self.on_relay_offered(relay, addrs, cx),
            AddressEvent::RelayWithdrawn { relay } => {
                self.relays.offers.remove(&relay);
            }
            AddressEvent::Path { peer, is_relayed } => {
                if let Some(connection) = self.table.connection_mut(&peer) {
                    connection.is_relayed = is_relayed;
                }
            }
            AddressEvent::Reserved { relay, addrs } => {
                if let Some(accepted) = self.relays.reservations.get_mut(&relay) {
                    *accepted = true;
                    self.relays.pauses.remove(&relay);
                    cx.stats.count(Counter::RelayReservations);
                    local.addresses.set_relayed(relay, addrs);
                }
            }
            AddressEvent::ReservationEnded { relay, reason } => {
                if self.relays.reservations.remove(&relay).is_some() {
                    cx.stats.count(Counter::RelayReservationsEnded);
                    let message = format!("the reservation at the relay {relay} ended: {reason}");
                    cx.log_with(Level::Info, "network", message, json!({ "relay": relay.to_string() }));
                    self.relays.pause(relay, cx);
                    local.addresses.remove_relay(&relay);
                }
            }
        }
        local.publish_addresses(cx);
    }

    fn on_relay_offered(&mut self, relay: PeerId, addrs: Vec<Multiaddr>, cx: &Cx) {
        let addr = addrs.into_iter().find(|addr| cx.identity.may_dial(addr));
        let Some(addr) = addr else { return };
        if self.is_connected(&relay)
            && (self.relays.offers.len() < MAX_OFFERS || self.relays.offers.contains_key(&relay))
        {
            self.relays.offers.insert(relay, addr);
        }
    }

    /// Asks for reservations if others cannot dial this node. A random choice spreads the nodes over
    /// the relays.
    pub(crate) fn reserve_relays(&mut self, local: &mut Local, cx: &mut Cx) {
        let now = cx.now.mono;
        if !local.addresses.needs_relays(now) || !self.relays.wants_more() {
            return;
        }
        let mut candidates = self.relays.candidates(now);
        while self.relays.wants_more() && !candidates.is_empty() {
            let (relay, addr) = candidates.swap_remove(cx.jitter.index(candidates.len()));
            self.relays.reservations.insert(relay, false);
            cx.network(NetworkCommand::ReserveRelay { relay, addr });
        }
        // The record no longer holds addresses that nobody can dial.
        local.publish_addresses(cx);
    }

    /// Returns the time at which the node may have to ask a relay.
    pub(crate) fn relays_deadline(&self, local: &Local, cx: &Cx) -> Option<Instant> {
        if local.addresses.needs_relays(cx.now.mono) {
            self.relays.next_pause_end().filter(|_| self.relays.wants_more())
        } else {
            local.addresses.unreachable_at()
        }
    }
}

#[cfg(test)]
mod tests;
