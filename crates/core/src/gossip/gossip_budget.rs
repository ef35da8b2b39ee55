//! The gossip budget: limits the memory of forwarded messages. Gossipsub keeps each message for
//! some seconds, without a limit of its own.

use std::collections::VecDeque;

use p2p_node_wire::time::Instant;

/// Time for which gossipsub keeps a message, in seconds, rounded up. `io::swarm` configures the
/// time.
pub const RETENTION_SECS: u64 = 5;
/// Largest total size of these messages, in bytes. The target is 100,000 messages of 256 B a
/// second, which take 33 MB a second with their envelopes, for five seconds.
pub const MAX_RETAINED_BYTES: usize = 160 << 20;
/// Additional bytes for mail and the nodes' own topics, so that a flood on one topic does not cut
/// off the node.
pub const RESERVED_BYTES: usize = MAX_RETAINED_BYTES / 4;

/// An estimate of the messages that gossipsub keeps.
#[derive(Debug, Default)]
pub struct GossipBudget {
    /// Bytes of each second, oldest first.
    seconds: VecDeque<(u64, usize)>,
    /// Sum of `seconds`. Only bytes: the node does not see the messages that gossipsub keeps.
    bytes: usize,
}

impl GossipBudget {
    /// Returns `true` if the budget permits a message of this size. `reserved` is `true` for mail
    /// and the nodes' own topics.
    pub fn has_room(&mut self, bytes: usize, reserved: bool, now: Instant) -> bool {
        self.expire(now);
        let limit = if reserved { MAX_RETAINED_BYTES + RESERVED_BYTES } else { MAX_RETAINED_BYTES };
        self.bytes + bytes <= limit
    }

    /// Records a message that gossipsub keeps.
    pub fn record(&mut self, bytes: usize, now: Instant) {
        self.expire(now);
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

    /// Removes the messages that gossipsub no longer keeps.
    fn expire(&mut self, now: Instant) {
        while let Some((second, bytes)) = self.seconds.front()
            && second + RETENTION_SECS < now.since_start().as_secs()
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
    fn gossip_budget_expires_old_seconds() {
        let mut budget = GossipBudget::default();
        let at = |millis: u64| Instant::from_millis(millis);
        for millis in 0..60_000 {
            budget.record(100, at(millis));
        }
        assert!(budget.seconds.len() <= RETENTION_SECS as usize + 1);
        assert_eq!(budget.bytes(), 6 * 100_000, "bytes of the current second and of five seconds before");
        assert!(budget.has_room(MAX_RETAINED_BYTES, false, at(70_000)));
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn gossip_budget_reserves_bytes_for_mail_and_node_topics() {
        let (mut budget, now) = (GossipBudget::default(), Instant::ZERO);
        budget.record(MAX_RETAINED_BYTES - 10, now);
        assert!(budget.has_room(10, false, now) && !budget.has_room(11, false, now));
        assert!(budget.has_room(10 + RESERVED_BYTES, true, now));
        assert!(!budget.has_room(11 + RESERVED_BYTES, true, now));
    }
}
