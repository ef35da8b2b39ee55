//! A copy of this process has spoken before it, as when a virtual machine goes back to a snapshot: everything that it numbers gets
//! another name.

use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::{Counter, Level, Priority};

use crate::Core;
use crate::input::Now;
use p2p_node_wire::envelope::Frame;
use p2p_node_wire::envelope::replay::WINDOW_IDLE;
use p2p_node_wire::identity::hash_fields;

const BOOT_DOMAIN: &[u8] = b"p2p-node/boot/v1";

/// Another boot is taken no more often. Peers remember few boots of one key, and forget one after this time; a peer that lies about our
/// counters cannot make us use them up.
const LEAST_PAUSE: Duration = WINDOW_IDLE;

/// What tells our frames from each other, and from those of other processes.
#[derive(Debug)]
pub(crate) struct FrameNumbers {
    boot: u64,
    counter: u64,
    /// When a copy of this process was found out.
    renewed_at: Option<Duration>,
}

impl FrameNumbers {
    /// Those of a process; `boot` is random.
    pub(crate) fn new(boot: u64) -> Self {
        FrameNumbers { boot, counter: 0, renewed_at: None }
    }

    /// Boot and counter of the next frame.
    pub(crate) fn next(&mut self) -> (u64, u64) {
        self.counter += 1;
        (self.boot, self.counter)
    }

    /// Boot and counter of the frame that was made last.
    pub(crate) fn latest(&self) -> (u64, u64) {
        (self.boot, self.counter)
    }

    /// Whether a frame is one that this process has yet to send, if it is ours.
    pub(crate) fn is_ahead(&self, frame: &Frame) -> bool {
        frame.body.boot == self.boot && frame.body.counter > self.counter
    }

    /// The counter of the frame that comes next.
    pub(crate) fn upcoming(&self) -> u64 {
        self.counter + 1
    }
}

/// Frames in a row of which a recipient says that it knows their counters, until that is believed. Ours: the third attempt comes after some
/// two seconds, and a network that repeats frames hardly repeats three in a row.
const REPLAYED_IN_A_ROW: u32 = 3;

impl Core {
    /// A recipient has answered that it knows the counter of a frame, or something else. Once may be a frame that came twice.
    pub(crate) fn note_replayed(&mut self, recipient: &Address, is_replayed: bool, now: Now) {
        let Some(destination) = self.mail.outbox.destination(recipient) else { return };
        destination.replayed = if is_replayed { destination.replayed + 1 } else { 0 };
        if destination.replayed >= REPLAYED_IN_A_ROW {
            destination.replayed = 0;
            self.on_counter_reused(now);
        }
    }

    /// A peer has seen the counter of a frame that this process sent once, or the network has a frame of ours that we have yet to
    /// send. Frames to come have another boot, and mail and broadcasts to
    /// come are numbered in other streams. Mail that was accepted keeps its numbers, for the recipient may have it; if those stand for
    /// other mail there, the recipient says so.
    pub(crate) fn on_counter_reused(&mut self, now: Now) {
        if self.local.frame_numbers.renewed_at.is_some_and(|at| now.mono < at + LEAST_PAUSE) {
            return;
        }
        self.local.frame_numbers.renewed_at = Some(now.mono);
        self.cx.stats.count(Counter::FrameCountersReused);
        let origin = self.mail.outbox.renew(now.unix_ms);
        self.gossip.broadcasts.renew(origin);
        self.local.identity.status_stream = origin.stream(b"status", 0, &[], Priority::Medium);
        let hash =
            hash_fields(&[BOOT_DOMAIN, &origin.database, &self.local.frame_numbers.boot.to_be_bytes()]);
        let mut boot = [0; 8];
        boot.copy_from_slice(&hash[..8]);
        self.local.frame_numbers.boot = u64::from_be_bytes(boot);
        let message = "a peer has seen frames that this process has yet to send: a copy of it has run, or it was set back to a snapshot; it goes on under other numbers";
        self.log(Level::Warn, "identity", message);
    }
}
