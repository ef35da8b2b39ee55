//! The gossip budget: limits the memory of forwarded messages. Gossipsub keeps each message for
//! some seconds, without a limit of its own.

use std::collections::VecDeque;

use p2p_node_wire::time::Instant;

/// Time for which gossipsub keeps a message, in seconds, rounded up, as configured in `io::swarm`.
pub const KEPT_SECS: u64 = 5;
/// Largest total size of these messages, in bytes. The target is 100,000 messages of 256 B a
/// second, which take 33 MB a second with their envelopes, for five seconds.
pub const KEPT_BYTES: usize = 160 << 20;
/// Additional bytes for mail and the nodes' own topics, so that a flood on one topic does not cut
/// off the node.
pub const RESERVED_BYTES: usize = KEPT_BYTES / 4;

/// An estimate of the messages that gossipsub keeps.
#[derive(Debug, Default)]
pub struct GossipBudget {
    /// Bytes of each second, oldest first.
    seconds: VecDeque<(u64, usize)>,
    /// Sum of `seconds`. Only bytes: the node does not see the messages that gossipsub keeps.
    bytes: usize,
}

impl GossipBudget {
    /// Returns `true` if the budget permits this number of bytes. `reserved` is `true` for mail and
    /// the nodes' own topics.
    pub fn has_room(&mut self, bytes: usize, reserved: bool, now: Instant) -> bool {
        self.forget(now);
        let limit = if reserved { KEPT_BYTES + RESERVED_BYTES } else { KEPT_BYTES };
        self.bytes + bytes <= limit
    }

    /// Records a message that gossipsub keeps.
    pub fn take(&mut self, bytes: usize, now: Instant) {
        self.forget(now);
        match self.seconds.back_mut() {
            Some((second, sum)) if *second == now.since_start().as_secs() => *sum += bytes,
            _ => self.seconds.push_back((now.since_start().as_secs(), bytes)),
        }
        self.bytes += bytes;
    }

    /// Returns the number of bytes that gossipsub keeps.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn forget(&mut self, now: Instant) {
        while let Some((second, bytes)) = self.seconds.front()
            && second + KEPT_SECS < now.since_start().as_secs()
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
        let at = |millis: u64| Instant::from_millis(millis);
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
        let (mut recent, now) = (GossipBudget::default(), Instant::ZERO);
        recent.take(KEPT_BYTES - 10, now);
        assert!(recent.has_room(10, false, now) && !recent.has_room(11, false, now));
        assert!(recent.has_room(10 + RESERVED_BYTES, true, now));
        assert!(!recent.has_room(11 + RESERVED_BYTES, true, now));
    }
}
