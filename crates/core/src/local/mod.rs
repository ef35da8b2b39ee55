//! This node: its identity, record, binding, keys, frame numbers and clocks.

pub(crate) mod binding_renewal;
pub(crate) mod clock_jump;
pub(crate) mod clock_skew;
pub(crate) mod frame_numbers;
pub mod local_record;

use multiaddr::Multiaddr;

use p2p_node_wire::seal::kem::Keyring;

use crate::input::Now;
use binding_renewal::BindingWatch;
use clock_jump::ClockJumpDetector;
use clock_skew::ClockSkewDetector;
use local_record::LocalRecord;

/// The state of this node.
#[derive(Debug)]
pub(crate) struct Local {
    /// The addresses on which it listens.
    pub(crate) addrs: Vec<Multiaddr>,
    /// Its own record.
    pub(crate) record: LocalRecord,
    /// Its KEM keys.
    pub(crate) keyring: Keyring,
    /// The schedule of expiry checks of its binding.
    pub(crate) binding_watch: BindingWatch,
    /// Detects jumps of its wall clock.
    pub(crate) clock_jump: ClockJumpDetector,
    /// Compares its wall clock with those of connected peers.
    pub(crate) clock_skew: ClockSkewDetector,
}

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
}
