//! This node: its identity, record, binding, keys, frame numbers and clocks.

pub(crate) mod binding_renewal;
pub(crate) mod clock_jump;
pub(crate) mod clock_skew;
pub(crate) mod frame_numbers;
pub mod local_record;
pub(crate) mod own_record;
pub mod publishing;

use multiaddr::{Multiaddr, Protocol};
use p2p_node_wire::record::MAX_RECORD_ADDRS;
use p2p_node_wire::seal;
use p2p_node_wire::seal::kem::Keyring;

use crate::cx::Cx;
use crate::input::Now;
use crate::source::{LocalNode, SourceCommand};
use crate::timers::TimerTable;
use crate::usage::Usage;
use binding_renewal::BindingWatch;
use clock_jump::ClockJumpDetector;
use clock_skew::ClockSkewDetector;
use local_record::LocalRecord;

/// The state of this node.
#[derive(Debug)]
pub(crate) struct Local {
    /// The addresses on which the node listens.
    pub(crate) addrs: Vec<Multiaddr>,
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
    pub(crate) fn new(record: LocalRecord, keyring: Keyring, now: Now) -> Self {
        Local {
            addrs: Vec::new(),
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
        let with_peer = |addr: Multiaddr| addr.with(Protocol::P2p(cx.identity.peer));
        self.addrs = addrs.iter().cloned().map(with_peer).collect();
        let advertised: Vec<_> = addrs.into_iter().filter(|addr| cx.identity.scope.permits(addr)).collect();
        if cx.identity.rendezvous {
            let mut addrs = cx.identity.scope.local(&advertised);
            addrs.truncate(MAX_LOCAL_ADDRS);
            let (agent, peer) = (cx.identity.address, cx.identity.peer);
            cx.source(SourceCommand::PublishLocalNode(LocalNode { agent, peer, addrs }));
        }
        self.record.set_addrs(advertised, cx.now);
    }

    /// Enters the timers of this node's identity.
    pub(crate) fn timers(&self, timers: &mut TimerTable, cx: &Cx) {
        timers.enter("KEM keys", self.keyring.next_deadline());
        timers.enter("own record", self.record.next_deadline());
        timers.enter("binding", self.binding_deadline(cx));
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        [
            ("clock samples", self.clock_skew.len(), clock_skew::MAX_CLOCKS),
            ("KEM keys", self.keyring.len(), seal::kem::MAX_KEYS),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
        .collect()
    }
}

#[cfg(test)]
mod tests;
