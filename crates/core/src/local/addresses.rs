//! The addresses of this node: where it listens, where others can dial it, and what its record says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol};
use p2p_node_wire::time::Instant;

use crate::config::AddressScope;

/// Time without a confirmed address after which the node counts as unreachable. Our choice: AutoNAT
/// tests an address every 5 s, and a dial takes up to 10 s.
pub const REACHABILITY_WAIT: Duration = Duration::from_secs(20);
/// Largest number of confirmed addresses: our choice, twice those of a record.
pub(crate) const MAX_CONFIRMED: usize = 16;
/// Largest number of relayed addresses for each relay: one over TCP and one over QUIC.
const MAX_ADDRS_PER_RELAY: usize = 2;
/// Largest number of IP addresses at which peers see this node: one for each connection of a bootstrap
/// node.
pub(crate) const MAX_OBSERVED: usize = 2000;

/// How a node finds out whether others can dial it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reachability {
    /// By AutoNAT: servers dial its addresses.
    #[default]
    Auto,
    /// Others can dial the addresses on which the node listens.
    Reachable,
    /// Others cannot dial the node, so it needs relays at once.
    Unreachable,
}

/// Error: the text names no [`Reachability`].
#[derive(Debug, thiserror::Error)]
#[error("the value must be auto, reachable or unreachable")]
pub struct UnknownReachability;

impl std::str::FromStr for Reachability {
    type Err = UnknownReachability;

    fn from_str(text: &str) -> Result<Self, UnknownReachability> {
        match text {
            "auto" => Ok(Self::Auto),
            "reachable" => Ok(Self::Reachable),
            "unreachable" => Ok(Self::Unreachable),
            _ => Err(UnknownReachability),
        }
    }
}

/// The addresses of this node.
#[derive(Debug)]
pub(crate) struct Addresses {
    scope: AddressScope,
    reachability: Reachability,
    /// Addresses from the configuration, at which others can dial the node.
    external: Vec<Multiaddr>,
    /// Addresses on which the node listens.
    listening: Vec<Multiaddr>,
    /// Addresses that others have dialled on request, oldest first.
    confirmed: VecDeque<Multiaddr>,
    /// IP addresses at which connected peers see this node.
    observed: BTreeSet<IpAddr>,
    /// Addresses at relays.
    relayed: BTreeMap<PeerId, Vec<Multiaddr>>,
    /// Time at which a node without a confirmed address counts as unreachable. `None` before the node
    /// listens, and while it has a confirmed address.
    unreachable_at: Option<Instant>,
}

impl Addresses {
    /// Creates the set with the external addresses of the configuration.
    pub(crate) fn new(scope: AddressScope, reachability: Reachability, external: Vec<Multiaddr>) -> Self {
        Addresses {
            scope,
            reachability,
            external,
            listening: Vec::new(),
            confirmed: VecDeque::new(),
            observed: BTreeSet::new(),
            relayed: BTreeMap::new(),
            unreachable_at: None,
        }
    }

    /// Returns the addresses on which the node listens.
    pub(crate) fn listening(&self) -> &[Multiaddr] {
        &self.listening
    }

    /// Replaces the addresses on which the node listens.
    pub(crate) fn set_listening(&mut self, addrs: Vec<Multiaddr>, now: Instant) {
        self.listening = addrs;
        self.judge(now);
    }

    /// Replaces the IP addresses at which connected peers see this node.
    pub(crate) fn set_observed(&mut self, mut ips: BTreeSet<IpAddr>, now: Instant) {
        while ips.len() > MAX_OBSERVED {
            ips.pop_last();
        }
        self.observed = ips;
        self.judge(now);
    }

    /// Records that another node dialled this address. Forgets the oldest above [`MAX_CONFIRMED`].
    pub(crate) fn confirm(&mut self, addr: Multiaddr, now: Instant) {
        if !self.scope.permits(&addr) || self.confirmed.contains(&addr) {
            return;
        }
        self.confirmed.push_back(addr);
        if self.confirmed.len() > MAX_CONFIRMED {
            self.confirmed.pop_front();
        }
        self.judge(now);
    }

    /// Records that a confirmed address does not lead to the node any more.
    pub(crate) fn expire(&mut self, addr: &Multiaddr, now: Instant) {
        self.confirmed.retain(|known| known != addr);
        self.judge(now);
    }

    /// Replaces the addresses at a relay. Only those that lead through this relay count.
    pub(crate) fn set_relayed(&mut self, relay: PeerId, addrs: Vec<Multiaddr>) {
        let mut addrs: Vec<_> = addrs
            .into_iter()
            .filter_map(|addr| relayed_address(&addr, &relay))
            .filter(|addr| self.scope.permits(addr))
            .collect();
        addrs.sort();
        addrs.dedup();
        // TCP comes first, and QUIC beside it.
        addrs.sort_by_key(|addr| !has_tcp(addr));
        if let Some(first_quic) = addrs.iter().position(|addr| !has_tcp(addr))
            && first_quic >= MAX_ADDRS_PER_RELAY
        {
            addrs.swap(MAX_ADDRS_PER_RELAY - 1, first_quic);
        }
        addrs.truncate(MAX_ADDRS_PER_RELAY);
        self.relayed.insert(relay, addrs);
    }

    /// Forgets the addresses at a relay.
    pub(crate) fn remove_relay(&mut self, relay: &PeerId) {
        self.relayed.remove(relay);
    }

    /// Returns `true` if others can dial the node directly, as far as the node knows.
    pub(crate) fn is_reachable(&self) -> bool {
        match self.reachability {
            Reachability::Reachable => true,
            Reachability::Unreachable => false,
            Reachability::Auto => !self.external.is_empty() || self.valid().next().is_some(),
        }
    }

    /// Returns `true` if others cannot dial the node directly, so that it needs relays.
    pub(crate) fn needs_relays(&self, now: Instant) -> bool {
        match self.reachability {
            Reachability::Reachable => false,
            Reachability::Unreachable => true,
            Reachability::Auto => self.unreachable_at.is_some_and(|at| at <= now),
        }
    }

    /// Returns the time at which the node begins to need relays.
    pub(crate) fn unreachable_at(&self) -> Option<Instant> {
        self.unreachable_at.filter(|_| self.reachability == Reachability::Auto)
    }

    /// Returns the direct addresses of which the node is sure: those of the configuration, and the
    /// confirmed ones. With `with_listening`, also those on which it listens.
    pub(crate) fn external(&self, with_listening: bool) -> Vec<Multiaddr> {
        let listening = self.listening.iter().filter(|addr| with_listening && self.scope.permits(addr));
        without_repeats(self.external.iter().chain(self.valid()).chain(listening))
    }

    /// Returns the addresses for the record: those at which others in the scope can dial the node.
    /// Relayed addresses come before those on which it listens, because a record may hold too few
    /// addresses for all.
    pub(crate) fn published(&self, now: Instant) -> Vec<Multiaddr> {
        let relays = self.relayed.values().flatten();
        let needs_relays = self.needs_relays(now);
        let listening = self.listening.iter().filter(|addr| {
            let is_dialable = match (self.reachability, self.scope) {
                (Reachability::Unreachable, _) => false,
                // Peers in the same local network can dial a node that servers elsewhere cannot.
                (_, AddressScope::Loopback | AddressScope::Private) => true,
                (_, AddressScope::Public) => !needs_relays,
            };
            is_dialable && self.scope.permits(addr)
        });
        let relays = relays.filter(|_| !self.is_reachable());
        without_repeats(self.external.iter().chain(self.valid()).chain(relays).chain(listening))
    }

    /// Returns the number of confirmed and of observed addresses.
    pub(crate) fn lens(&self) -> (usize, usize) {
        (self.confirmed.len(), self.observed.len())
    }

    /// Returns the confirmed addresses that still lead here: their IP address belongs to an interface
    /// of this node, or connected peers see the node there.
    fn valid(&self) -> impl Iterator<Item = &Multiaddr> {
        self.confirmed.iter().filter(|addr| {
            let Some(ip) = ip_of(addr) else { return false };
            self.observed.contains(&ip) || self.listening.iter().any(|own| ip_of(own) == Some(ip))
        })
    }

    fn judge(&mut self, now: Instant) {
        if self.listening.is_empty() || self.is_reachable() {
            self.unreachable_at = None;
        } else {
            self.unreachable_at.get_or_insert(now + REACHABILITY_WAIT);
        }
    }
}

/// Returns the IP address with which an address begins.
pub fn ip_of(addr: &Multiaddr) -> Option<IpAddr> {
    match addr.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// Returns `true` for an address of a node at a relay.
pub fn is_relayed(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Returns the relay through which an address leads, if it names one.
pub(crate) fn relay_of(addr: &Multiaddr) -> Option<PeerId> {
    let at = addr.iter().position(|part| part == Protocol::P2pCircuit)?;
    match addr.iter().nth(at.checked_sub(1)?)? {
        Protocol::P2p(relay) => Some(relay),
        _ => None,
    }
}

/// Returns a relayed address in the form of a record, without the PeerId of the node itself. `None` if
/// the address does not lead through this relay.
fn relayed_address(addr: &Multiaddr, relay: &PeerId) -> Option<Multiaddr> {
    let at = addr.iter().position(|part| part == Protocol::P2pCircuit)?;
    (relay_of(addr) == Some(*relay)).then(|| addr.iter().take(at + 1).collect())
}

fn has_tcp(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| matches!(part, Protocol::Tcp(_)))
}

fn without_repeats<'a>(addrs: impl Iterator<Item = &'a Multiaddr>) -> Vec<Multiaddr> {
    let mut unique: Vec<Multiaddr> = Vec::new();
    for addr in addrs {
        if !unique.contains(addr) {
            unique.push(addr.clone());
        }
    }
    unique
}

#[cfg(test)]
mod tests;
