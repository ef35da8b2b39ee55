//! The two clocks of a node.

use std::time::Duration;

/// The two clocks, read once per turn of the loop by whoever drives the core. A suspended machine moves both; a clock that is set moves
/// `unix_ms` alone.
///
/// The type of a moment says by which clock it is: a `Duration` by `mono`, a `u64` whose name ends in `_ms` or `_secs` by the wall clock, ours
/// unless its comment names another's. What happens here goes by `mono`: time to live, pauses, rotation of keys. What crosses the network
/// or outlives the process goes by `unix_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the process started; never goes back, never jumps, and runs on while the machine is suspended. Deadlines are kept in it.
    pub mono: Duration,
    /// Milliseconds since 1970; may jump. What crosses the network is dated in it.
    pub unix_ms: u64,
}
