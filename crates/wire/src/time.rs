//! The two clocks of a node.

use std::time::Duration;

/// The two clocks, read once per turn of the event loop by the driver of the core. Suspending the
/// machine advances both; setting the clock moves only `unix_ms`.
///
/// The type of a time names its clock: a `Duration` is by `mono`; a `u64` whose name ends in `_ms`
/// or `_secs` is by the wall clock, which is ours unless the comment names another. Local timers
/// use `mono`: time to live, backoff, key rotation. Times that cross the network or outlive the
/// process use `unix_ms` (ADR 0004).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time since the process started. It never goes back, never jumps, and counts suspended time.
    /// All deadlines use it.
    pub mono: Duration,
    /// Wall clock in milliseconds since 1970. It may jump. Times on the network use it.
    pub unix_ms: u64,
}
