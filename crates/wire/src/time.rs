//! The two clocks of a node.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A point in time by the monotonic clock, which starts at [`Instant::ZERO`] with the process. A
/// time span is a [`Duration`].
///
/// The driver of a core sets the clock, so that a test or a simulator can do so too; the standard
/// library's `Instant` permits only the clock of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// The start of the process.
    pub const ZERO: Instant = Instant(Duration::ZERO);
    /// A time that is never reached.
    pub const MAX: Instant = Instant(Duration::MAX);

    /// Returns the point in time that is this span after the start of the process.
    pub const fn after_start(span: Duration) -> Self {
        Instant(span)
    }

    /// Returns the time since the start of the process.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// Returns the point in time that is `secs` seconds after the start of the process.
    pub const fn from_secs(secs: u64) -> Self {
        Instant(Duration::from_secs(secs))
    }

    /// Returns the point in time that is `millis` milliseconds after the start of the process.
    pub const fn from_millis(millis: u64) -> Self {
        Instant(Duration::from_millis(millis))
    }

    /// Returns the time since `earlier`, or zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the point in time that is `span` earlier, or the start of the process.
    pub const fn saturating_sub(self, span: Duration) -> Self {
        Instant(self.0.saturating_sub(span))
    }

    /// Returns the point in time that is `span` later, or [`Instant::MAX`].
    pub const fn saturating_add(self, span: Duration) -> Self {
        Instant(self.0.saturating_add(span))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, span: Duration) -> Instant {
        Instant(self.0 + span)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, span: Duration) {
        self.0 += span;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, span: Duration) -> Instant {
        Instant(self.0 - span)
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.0 - earlier.0
    }
}

/// The two clocks, read once per turn of the event loop by the driver of the core. Suspending the
/// machine advances both; setting the clock moves only `unix_ms`.
///
/// The type of a time names its clock: an [`Instant`] is by `mono`; a `u64` whose name ends in
/// `_ms` or `_secs` is by the wall clock, which is ours unless the comment names another. Local
/// timers use `mono`: time to live, backoff, key rotation. Times that cross the network or outlive
/// the process use `unix_ms` (ADR 0004).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic clock. It never goes back, never jumps, and counts suspended time. All deadlines
    /// use it.
    pub mono: Instant,
    /// Wall clock in milliseconds since 1970. It may jump. Times on the network use it.
    pub unix_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_saturating_operations_of_instant_saturate() {
        let (early, late) = (Instant::from_millis(1_500), Instant::from_secs(2));
        assert_eq!(late - early, Duration::from_millis(500));
        assert_eq!((early + Duration::from_millis(500), late - Duration::from_millis(500)), (late, early));
        assert_eq!(early.saturating_since(late), Duration::ZERO);
        assert_eq!(early.saturating_sub(Duration::from_secs(9)), Instant::ZERO);
        assert_eq!(Instant::MAX.saturating_add(Duration::from_secs(1)), Instant::MAX);
        assert_eq!(Instant::after_start(late.since_start()), late);
    }
}
