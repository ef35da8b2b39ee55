//! The gossip budget: limits the memory of forwarded messages. Gossipsub keeps each message for
//! some seconds, without a limit of its own.

use libp2p_identity::PeerId;
use p2p_node_wire::time::Instant;

use crate::budget::share_of_free;
use crate::peers::limits::MAX_CONNECTIONS;
use crate::recent_use::RecentUse;

/// Time for which gossipsub keeps a message, in seconds, rounded up. `io::swarm` configures the
/// time.
pub const RETENTION_SECS: u64 = 5;
/// Largest total size of these messages, in bytes. The target is 100,000 messages of 256 B a
/// second, which take 33 MB a second with their envelopes, for five seconds.
pub const MAX_RETAINED_BYTES: usize = 160 << 20;
/// Additional bytes for mail and the nodes' own topics, so that a flood on one topic does not cut
/// off the node.
pub const RESERVED_BYTES: usize = MAX_RETAINED_BYTES / 4;

/// Bytes of one neighbour for each byte that is free: our choice. A neighbour that floods alone
/// takes eight ninths of the budget, two such neighbours eight seventeenths each.
const TIMES_FREE: usize = 8;

/// Largest number of neighbours whose bytes the node counts: the connections of a bootstrap node,
/// and as many that ended in these seconds. The node drops the messages of further neighbours.
pub(crate) const MAX_NEIGHBOURS: usize = 2 * MAX_CONNECTIONS;

/// An estimate of the messages that gossipsub keeps. Only bytes: the node does not see the messages.
#[derive(Debug)]
pub struct GossipBudget {
    kept: RecentUse<PeerId>,
}

impl Default for GossipBudget {
    fn default() -> Self {
        GossipBudget { kept: RecentUse::new(RETENTION_SECS) }
    }
}

impl GossipBudget {
    /// Returns `true` if the budget permits a message of this size from a neighbour. `reserved` is
    /// `true` for mail and the nodes' own topics.
    pub fn has_room(&mut self, bytes: usize, from: &PeerId, reserved: bool, now: Instant) -> bool {
        self.kept.expire(now);
        let limit = if reserved { MAX_RETAINED_BYTES + RESERVED_BYTES } else { MAX_RETAINED_BYTES };
        let used = self.kept.used();
        let of_neighbour = match self.kept.used_by(from) {
            Some(bytes) => bytes,
            None if self.kept.keys() >= MAX_NEIGHBOURS => return false,
            None => 0,
        };
        used + bytes <= limit && of_neighbour + bytes <= share_of_free(limit, used, TIMES_FREE)
    }

    /// Records a message that gossipsub keeps: of a neighbour, or our own.
    pub fn record(&mut self, bytes: usize, from: Option<PeerId>, now: Instant) {
        self.kept.record(bytes, from, now);
    }

    /// Returns the number of bytes that gossipsub keeps.
    pub fn bytes(&self) -> usize {
        self.kept.used()
    }

    /// Returns the number of neighbours that sent some of these bytes.
    pub fn neighbours(&self) -> usize {
        self.kept.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbour(number: u8) -> PeerId {
        p2p_node_wire::identity::NodeKey::from_seed([number; 32]).peer_id()
    }

    #[test]
    fn gossip_budget_expires_old_seconds() {
        let mut budget = GossipBudget::default();
        let at = |millis: u64| Instant::from_millis(millis);
        for millis in 0..60_000 {
            budget.record(100, Some(neighbour(1)), at(millis));
        }
        assert!(budget.kept.seconds() <= RETENTION_SECS as usize + 1);
        assert_eq!(budget.bytes(), 6 * 100_000, "bytes of the current second and of five seconds before");
        assert_eq!(budget.neighbours(), 1);
        assert!(budget.has_room(MAX_RETAINED_BYTES / 2, &neighbour(1), false, at(70_000)));
        assert_eq!((budget.bytes(), budget.neighbours()), (0, 0));
    }

    #[test]
    fn gossip_budget_reserves_bytes_for_mail_and_node_topics() {
        let (mut budget, now) = (GossipBudget::default(), Instant::ZERO);
        budget.record(MAX_RETAINED_BYTES - 10, None, now);
        let mut fits = |bytes, reserved| budget.has_room(bytes, &neighbour(1), reserved, now);
        assert!(fits(10, false) && !fits(11, false));
        assert!(fits(10 + RESERVED_BYTES, true) && !fits(11 + RESERVED_BYTES, true));
    }

    #[test]
    fn neighbours_that_flood_leave_room_for_others() {
        let now = Instant::ZERO;
        for floods in 1..=4 {
            let mut budget = GossipBudget::default();
            for round in 0..10_000_u32 {
                let from = neighbour((round % floods) as u8);
                if budget.has_room(32 << 10, &from, false, now) {
                    budget.record(32 << 10, Some(from), now);
                }
            }
            let free = MAX_RETAINED_BYTES - budget.bytes();
            let fair = MAX_RETAINED_BYTES / (TIMES_FREE * floods as usize + 1);
            assert!(free.abs_diff(fair) < 1 << 20, "{floods} neighbours leave {free} bytes");
            assert!(budget.has_room(64 << 10, &neighbour(100), false, now));
        }
    }
}
