//! This node itself: its record, its binding, its frame numbers and its clocks.

pub(crate) mod binding_renewal;
pub(crate) mod clock_jump;
pub(crate) mod clock_skew;
pub(crate) mod frame_numbers;
pub mod local_record;

use multiaddr::Multiaddr;

use p2p_node_wire::seal::kem::Keyring;

use crate::config::Me;
use crate::input::Now;
use binding_renewal::BindingWatch;
use clock_jump::WallClock;
use clock_skew::Clocks;
use frame_numbers::FrameNumbers;
use local_record::Presence;

/// This node.
#[derive(Debug)]
pub(crate) struct Local {
    /// Who it is.
    pub(crate) identity: Me,
    /// Where it listens.
    pub(crate) addrs: Vec<Multiaddr>,
    /// Its record, as others should know it.
    pub(crate) record: Presence,
    /// Its KEM keys.
    pub(crate) keyring: Keyring,
    /// What tells its frames apart.
    pub(crate) frame_numbers: FrameNumbers,
    /// When its binding ends.
    pub(crate) binding_watch: BindingWatch,
    /// Notices when the wall clock is set.
    pub(crate) clock_jump: WallClock,
    /// How far its clock is off, by what others say.
    pub(crate) clock_skew: Clocks,
}

impl Local {
    pub(crate) fn new(identity: Me, record: Presence, keyring: Keyring, boot: u64, now: Now) -> Self {
        Local {
            identity,
            addrs: Vec::new(),
            record,
            keyring,
            frame_numbers: FrameNumbers::new(boot),
            binding_watch: BindingWatch::default(),
            clock_jump: WallClock::new(now),
            clock_skew: Clocks::default(),
        }
    }
}
