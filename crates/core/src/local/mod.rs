//! This node: its identity, record, binding, keys, frame numbers and clocks.

pub mod addresses;
pub(crate) mod binding_renewal;
pub(crate) mod clock_jump;
pub(crate) mod clock_skew;
pub mod dht_mode;
pub(crate) mod frame_numbers;
pub mod local_record;
pub(crate) mod own_record;
pub mod publishing;

use multiaddr::{Multiaddr, Protocol};
use p2p_node_wire::record::MAX_RECORD_ADDRS;
use p2p_node_wire::seal;
use p2p_node_wire::seal::kem::Keyring;

use crate::config::LocalIdentity;
use crate::cx::Cx;
use crate::effect::NetworkCommand;
use crate::input::Now;
use crate::source::{LocalNode, SourceCommand};
use crate::timers::TimerTable;
use crate::usage::Usage;
use addresses::Addresses;
use binding_renewal::BindingWatch;
use clock_jump::ClockJumpDetector;
use clock_skew::ClockSkewDetector;
use local_record::LocalRecord;

/// The state of this node.
#[derive(Debug)]
pub(crate) struct Local {
    /// The addresses of this node.
    pub(crate) addresses: Addresses,
    /// The external addresses that the swarm has.
    declared: Vec<Multiaddr>,
    /// The record of this node.
    pub(crate) record: LocalRecord,
    /// The KEM keys of this node.
    pub(crate) keyring: Keyring,
    /// The schedule of expiry checks of our binding.
    pub(crate) binding_watch: BindingWatch,
    /// Detects jumps of our wall clock.
    pub(crate) clock_jump: ClockJumpDetector,
    /// Compares our wall clock with those of connected peers.
    pub(crate) clock_skew: ClockSkewDetector,
}

/// Largest number of addresses in the rendezvous directory: as many as a record has.
const MAX_LOCAL_ADDRS: usize = MAX_RECORD_ADDRS;

impl Local {
    pub(crate) fn new(record: LocalRecord, keyring: Keyring, identity: &LocalIdentity, now: Now) -> Self {
        Local {
            addresses: identity.addresses(),
            declared: Vec::new(),
            record,
            keyring,
            binding_watch: BindingWatch::default(),
            clock_jump: ClockJumpDetector::new(now),
            clock_skew: ClockSkewDetector::default(),
        }
    }

    /// Replaces the addresses on which the node listens. The record advertises those in its scope,
    /// and the rendezvous directory those that other nodes on this machine can dial.
    pub(crate) fn set_addrs(&mut self, addrs: Vec<Multiaddr>, cx: &mut Cx) {
        if cx.identity.rendezvous {
            let permitted: Vec<_> =
                addrs.iter().filter(|addr| cx.identity.scope.permits(addr)).cloned().collect();
            let mut addrs = cx.identity.scope.local(&permitted);
            addrs.truncate(MAX_LOCAL_ADDRS);
            let (agent, peer) = (cx.identity.address, cx.identity.peer);
            cx.source(SourceCommand::PublishLocalNode(LocalNode { agent, peer, addrs }));
        }
        self.addresses.set_listening(addrs, cx.now.mono);
        self.declare_addresses(cx);
    }

    /// Returns the addresses on which the node listens, each with the PeerId of the node.
    pub(crate) fn listening(&self, cx: &Cx) -> Vec<Multiaddr> {
        let with_peer = |addr: &Multiaddr| addr.clone().with(Protocol::P2p(cx.identity.peer));
        self.addresses.listening().iter().map(with_peer).collect()
    }

    /// Updates the record, and the addresses that the swarm tells peers, after a change. A node that
    /// does not listen yet has no record.
    pub(crate) fn publish_addresses(&mut self, cx: &mut Cx) {
        if !self.addresses.listening().is_empty() || self.record.current().is_some() {
            self.declare_addresses(cx);
        }
    }

    fn declare_addresses(&mut self, cx: &mut Cx) {
        self.record.set_addrs(self.addresses.published(cx.now.mono), cx.now);
        let external = self.addresses.external(cx.identity.serves_relay && self.addresses.is_reachable());
        if external != self.declared {
            self.declared.clone_from(&external);
            cx.network(NetworkCommand::SetExternalAddresses { addrs: external });
        }
    }

    /// Enters the timers of this node's identity.
    pub(crate) fn timers(&self, timers: &mut TimerTable, cx: &Cx) {
        timers.enter("KEM keys", self.keyring.next_deadline());
        timers.enter("own record", self.record.next_deadline());
        timers.enter("binding", self.binding_deadline(cx));
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        let (confirmed, observed) = self.addresses.lens();
        [
            ("clock samples", self.clock_skew.len(), clock_skew::MAX_CLOCKS),
            ("KEM keys", self.keyring.len(), seal::kem::MAX_KEYS),
            ("confirmed addresses", confirmed, addresses::MAX_CONFIRMED),
            ("observed addresses", observed, addresses::MAX_OBSERVED),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
        .collect()
    }
}

#[cfg(test)]
mod tests;
