//! The order of messages of different priorities: high strictly first, and medium and low in a
//! fixed ratio of bytes, so that low is slow but never stops.

use p2p_node_protocol::Priority;

/// Bytes of medium for each byte of low: our choice.
pub(crate) const MEDIUM_PER_LOW: usize = 4;

/// Decides which priority is served next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PriorityScheduler {
    /// Credit of low, in bytes times [`MEDIUM_PER_LOW`]. Medium adds to it, low uses it.
    low_credit: usize,
    max_credit: usize,
}

impl PriorityScheduler {
    /// Creates a scheduler. `burst` is the number of bytes of low that may follow each other while
    /// medium waits.
    pub(crate) const fn new(burst: usize) -> Self {
        PriorityScheduler { low_credit: 0, max_credit: MEDIUM_PER_LOW * burst }
    }

    /// Returns the priority to serve next. The arguments are the sizes, in bytes, of the next
    /// message of each priority, or `None` if none waits.
    pub(crate) fn pick(
        &self,
        high: Option<usize>,
        medium: Option<usize>,
        low: Option<usize>,
    ) -> Option<Priority> {
        match (high, medium, low) {
            (Some(_), _, _) => Some(Priority::High),
            (None, Some(_), Some(low)) if self.low_credit >= MEDIUM_PER_LOW * low => Some(Priority::Low),
            (None, Some(_), _) => Some(Priority::Medium),
            (None, None, Some(_)) => Some(Priority::Low),
            (None, None, None) => None,
        }
    }

    /// Records that a message of this priority and size was served.
    pub(crate) fn served(&mut self, priority: Priority, bytes: usize) {
        match priority {
            Priority::High => {}
            Priority::Medium => self.low_credit = (self.low_credit + bytes).min(self.max_credit),
            Priority::Low => self.low_credit = self.low_credit.saturating_sub(MEDIUM_PER_LOW * bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Option<usize> = Some(10);

    #[test]
    fn high_priority_is_picked_first_and_low_priority_when_alone() {
        let scheduler = PriorityScheduler::new(100);
        assert_eq!(scheduler.pick(SIZE, SIZE, SIZE), Some(Priority::High));
        assert_eq!(scheduler.pick(None, None, SIZE), Some(Priority::Low));
        assert_eq!(scheduler.pick(None, None, None), None);
    }

    #[test]
    fn medium_and_low_priority_share_bytes_in_fixed_ratio() {
        let mut scheduler = PriorityScheduler::new(100);
        let mut low = 0;
        for _ in 0..100 {
            let next = scheduler.pick(None, SIZE, SIZE).expect("both wait");
            low += usize::from(next == Priority::Low);
            scheduler.served(next, 10);
        }
        assert_eq!(low, 100 / (MEDIUM_PER_LOW + 1));
    }

    #[test]
    fn low_priority_credit_is_limited_to_burst() {
        let mut scheduler = PriorityScheduler::new(20);
        (0..1000).for_each(|_| scheduler.served(Priority::Medium, 10));
        let mut in_a_row = 0;
        while scheduler.pick(None, SIZE, SIZE) == Some(Priority::Low) {
            scheduler.served(Priority::Low, 10);
            in_a_row += 1;
        }
        assert_eq!(in_a_row, 2);
    }
}
