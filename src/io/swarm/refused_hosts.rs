//! The hosts that may not connect: those that the operator blocked, and banned ones. The transport asks before
//! a handshake takes a place, and the swarm refuses the connection.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p::Multiaddr;
use p2p_node_core::gate::address_rules::AddressRules;
use p2p_node_core::gate::host::Host;

/// Why a host may not connect.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The operator blocked its address.
    #[error("--block-ip blocks {0}")]
    Blocked(Multiaddr),
    /// It is banned.
    #[error("{0} is banned")]
    Banned(Host),
}

/// The hosts that may not connect. All copies are of the same hosts.
#[derive(Clone, Debug)]
pub(super) struct RefusedHosts {
    rules: Arc<AddressRules>,
    /// The core bounds their number.
    banned: Arc<Mutex<HashSet<Host>>>,
}

impl RefusedHosts {
    pub(super) fn new(rules: Arc<AddressRules>) -> Self {
        RefusedHosts { rules, banned: Arc::default() }
    }

    fn banned(&self) -> MutexGuard<'_, HashSet<Host>> {
        self.banned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses new connections of a host.
    pub(super) fn ban(&self, host: Host) {
        self.banned().insert(host);
    }

    /// Accepts connections of a host again.
    pub(super) fn unban(&self, host: &Host) {
        self.banned().remove(host);
    }

    /// Returns `true` if the operator allowed an address, so that no ban holds for it.
    pub(super) fn allows(&self, addr: &Multiaddr) -> bool {
        self.rules.allows(addr)
    }

    /// Returns why an address may not connect, if it may not.
    pub(super) fn refusal(&self, addr: &Multiaddr) -> Option<Refusal> {
        if self.rules.blocks(addr) {
            return Some(Refusal::Blocked(addr.clone()));
        }
        if self.rules.allows(addr) {
            return None;
        }
        Host::of(addr).filter(|host| self.banned().contains(host)).map(Refusal::Banned)
    }
}
