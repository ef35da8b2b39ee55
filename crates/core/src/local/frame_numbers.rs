//! Boot and counter of our frames. If another copy of this process used them before, for example
//! after a virtual machine went back to a snapshot, the process takes new numbers for everything
//! (ADR 0001).

use std::time::Duration;

use p2p_node_wire::envelope::Frame;
use p2p_node_wire::envelope::replay::WINDOW_IDLE;
use p2p_node_wire::identity::hash_fields;
use p2p_node_wire::time::Instant;

const BOOT_DOMAIN: &[u8] = b"p2p-node/boot/v1";

/// Shortest interval between two renewals. Peers track few boots of one key and may evict one after
/// this time, so a peer that lies about our counters must not make us use them up.
const MIN_RENEWAL_INTERVAL: Duration = WINDOW_IDLE;

/// The numbers that identify our frames.
#[derive(Debug)]
pub(crate) struct FrameNumbers {
    boot: u64,
    counter: u64,
    /// Time of the last renewal.
    renewed_at: Option<Instant>,
}

impl FrameNumbers {
    /// Creates the numbers of a process. `boot` must be random.
    pub(crate) fn new(boot: u64) -> Self {
        FrameNumbers { boot, counter: 0, renewed_at: None }
    }

    /// Returns boot and counter for the next frame.
    pub(crate) fn next(&mut self) -> (u64, u64) {
        self.counter += 1;
        (self.boot, self.counter)
    }

    /// Returns boot and counter of the latest frame.
    pub(crate) fn latest(&self) -> (u64, u64) {
        (self.boot, self.counter)
    }

    /// Returns `true` if a frame of ours has a counter that this process has not used yet.
    pub(crate) fn is_ahead(&self, frame: &Frame) -> bool {
        frame.body.boot == self.boot && frame.body.counter > self.counter
    }

    /// Records a renewal and returns `true`, unless the last one is too recent.
    pub(crate) fn may_renew(&mut self, now: Instant) -> bool {
        if self.renewed_at.is_some_and(|at| now < at + MIN_RENEWAL_INTERVAL) {
            return false;
        }
        self.renewed_at = Some(now);
        true
    }

    /// Takes a new boot that derives from the old one and the new id of the store.
    pub(crate) fn renew(&mut self, store_id: &[u8]) {
        let hash = hash_fields(&[BOOT_DOMAIN, store_id, &self.boot.to_be_bytes()]);
        let mut boot = [0; 8];
        boot.copy_from_slice(&hash[..8]);
        self.boot = u64::from_be_bytes(boot);
    }

    /// Returns the counter of the next frame.
    pub(crate) fn upcoming(&self) -> u64 {
        self.counter + 1
    }
}
