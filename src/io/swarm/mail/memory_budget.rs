//! Memory budgets for arriving requests: one per connection and one for all connections.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes per connection that do not count against the shared budget. 128 KiB hold a usual mail
/// frame, so peers that exhaust the shared budget cannot block the others.
const ALWAYS_ARRIVING: usize = 128 << 10;

/// Memory budget for the requests that arrive on one connection.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    /// Number of reserved bytes.
    used: AtomicUsize,
    /// Maximum number of reserved bytes.
    most: usize,
    /// Remaining bytes of the budget that all connections share.
    shared: Arc<AtomicUsize>,
}

impl MemoryBudget {
    /// Creates a budget of `most` bytes for a connection, backed by the shared budget.
    pub(super) fn new(most: usize, shared: Arc<AtomicUsize>) -> Self {
        MemoryBudget { used: AtomicUsize::new(0), most, shared }
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns the part of `used` that counts against the shared budget.
    fn counted(used: usize) -> usize {
        used.saturating_sub(ALWAYS_ARRIVING)
    }

    /// Reserves bytes. Returns `false` if a budget does not allow it.
    pub(super) fn try_reserve(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.most);
        let Ok(before) = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) else {
            return false;
        };
        let counted = Self::counted(before + bytes) - Self::counted(before);
        let less = |left: usize| left.checked_sub(counted);
        let taken = self.shared.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
        if !taken {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken
    }

    fn release(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.fetch_add(Self::counted(before) - Self::counted(before - bytes), Ordering::Relaxed);
    }
}

/// Bytes that are reserved until the reservation is dropped.
#[derive(Debug)]
pub(in super::super) struct Reservation {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl Reservation {
    /// Creates a reservation of no bytes.
    pub(super) fn new(budget: Arc<MemoryBudget>) -> Self {
        Reservation { budget, bytes: 0 }
    }

    /// Reserves more bytes.
    ///
    /// # Errors
    /// Fails if a budget does not allow it.
    pub(super) fn grow(&mut self, bytes: usize) -> io::Result<()> {
        if !self.budget.try_reserve(bytes) {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many bytes are arriving at once"));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Returns the reservation and leaves an empty one.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(Arc::clone(&self.budget)))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_memory_budget_and_each_keeps_minimum() {
        const MOST: usize = 4 << 20;
        const ALL: usize = 64 << 20;
        let shared = Arc::new(AtomicUsize::new(ALL));
        let rooms: Vec<MemoryBudget> =
            (0..100).map(|_| MemoryBudget::new(MOST, Arc::clone(&shared))).collect();
        let filled = rooms.iter().take_while(|room| room.try_reserve(MOST)).count();
        assert_eq!(filled, ALL / (MOST - ALWAYS_ARRIVING));
        let (first, last) = (&rooms[0], &rooms[99]);
        assert!(!first.try_reserve(1), "its own room is used up");
        assert!(last.try_reserve(ALWAYS_ARRIVING) && !last.try_reserve(MOST - ALWAYS_ARRIVING));
        first.release(MOST);
        assert!(last.try_reserve(MOST - ALWAYS_ARRIVING) && !first.try_reserve(MOST));
        assert!(first.try_reserve(ALWAYS_ARRIVING));
        rooms[1..filled].iter().for_each(|room| room.release(MOST));
        first.release(ALWAYS_ARRIVING);
        last.release(MOST);
        assert_eq!(shared.load(Ordering::Relaxed), ALL, "all of it is back");
        assert!(rooms.iter().all(|room| room.used() == 0));
    }
}
