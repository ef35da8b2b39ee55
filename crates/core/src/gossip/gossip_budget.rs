//! How much gossip was passed on lately: gossipsub keeps each message for some seconds to pass it on again, however many there are.

use std::collections::VecDeque;
use std::time::Duration;

/// For how long gossipsub keeps a message, with the second in which it began: as `io::swarm` sets it up.
pub const KEPT_SECS: u64 = 5;
/// Most bytes of gossip to be kept so. Ours: 100,000 messages of 256 B a second (design §10), which take 33 MB with what is around
/// them, for as long.
pub const KEPT_BYTES: usize = 160 << 20;
/// What mail and the nodes' own topics may take beyond that, so that a flood on a topic does not cut off the network.
pub const RESERVED_BYTES: usize = KEPT_BYTES / 4;

/// What gossipsub keeps by now, about.
#[derive(Debug, Default)]
pub struct GossipBudget {
    /// Bytes of each second, oldest first.
    seconds: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl GossipBudget {
    /// Whether so much more may be kept; `reserved`: as mail and the nodes' own topics may.
    pub fn has_room(&mut self, bytes: usize, reserved: bool, now: Duration) -> bool {
        self.forget(now);
        let limit = if reserved { KEPT_BYTES + RESERVED_BYTES } else { KEPT_BYTES };
        self.bytes + bytes <= limit
    }

    /// So much more is kept.
    pub fn take(&mut self, bytes: usize, now: Duration) {
        self.forget(now);
        match self.seconds.back_mut() {
            Some((second, sum)) if *second == now.as_secs() => *sum += bytes,
            _ => self.seconds.push_back((now.as_secs(), bytes)),
        }
        self.bytes += bytes;
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn forget(&mut self, now: Duration) {
        while let Some((second, bytes)) = self.seconds.front()
            && second + KEPT_SECS < now.as_secs()
        {
            self.bytes -= bytes;
            self.seconds.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_long_ago_makes_room_and_seconds_are_bounded() {
        let mut recent = GossipBudget::default();
        let at = |millis: u64| Duration::from_millis(millis);
        for millis in 0..60_000 {
            recent.take(100, at(millis));
        }
        assert!(recent.seconds.len() <= KEPT_SECS as usize + 1);
        assert_eq!(recent.bytes(), 6 * 100_000, "of the running second and of five before it");
        assert!(recent.has_room(KEPT_BYTES, false, at(70_000)));
        assert_eq!(recent.bytes(), 0);
    }

    #[test]
    fn a_flood_leaves_room_for_what_holds_the_network_together() {
        let (mut recent, now) = (GossipBudget::default(), Duration::ZERO);
        recent.take(KEPT_BYTES - 10, now);
        assert!(recent.has_room(10, false, now) && !recent.has_room(11, false, now));
        assert!(recent.has_room(10 + RESERVED_BYTES, true, now));
        assert!(!recent.has_room(11 + RESERVED_BYTES, true, now));
    }
}
