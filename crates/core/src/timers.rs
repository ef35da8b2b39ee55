//! The table of timers: every deadline of every component, by name.

use p2p_node_wire::time::Instant;

/// The timer that is due first.
#[derive(Debug, Default)]
pub(crate) struct TimerTable {
    first: Option<(Instant, &'static str)>,
}

impl TimerTable {
    /// Enters a timer that is due at `at`. Ignores a timer that does not run (`None`).
    pub(crate) fn enter(&mut self, name: &'static str, at: Option<Instant>) {
        self.first = self.first.into_iter().chain(at.map(|at| (at, name))).min_by_key(|(at, _)| *at);
    }

    /// Returns the time and the name of the timer that is due first.
    pub(crate) fn first(&self) -> Option<(Instant, &'static str)> {
        self.first
    }
}
