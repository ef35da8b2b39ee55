//! The clocks of the process.

use std::time::{Duration, SystemTime};

use p2p_node_core::input::Now;
use p2p_node_wire::time::Instant;

/// Returns the time in ms since 1970, for subcommands.
pub fn unix_ms() -> u64 {
    Clock::start().now().unix_ms
}

/// Returns the time, for subcommands.
pub fn now() -> Now {
    Clock::start().now()
}

/// Clocks of the process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    started: Duration,
}

impl Clock {
    pub(super) fn start() -> Self {
        Clock { started: since_boot() }
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place where the clocks are read")]
    pub(super) fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mono = Instant::after_start(since_boot().saturating_sub(self.started));
        Now { mono, unix_ms: unix.as_millis() as u64 }
    }
}

/// Returns a monotonic time that includes suspends, measured from an arbitrary moment before the
/// start of the process.
fn since_boot() -> Duration {
    // On macOS the monotonic clock includes suspends. Other systems have no such clock.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}
