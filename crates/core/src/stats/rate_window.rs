//! The number of events in the last minute.

use p2p_node_wire::time::Instant;

/// Length of the window in seconds, from the TOS document.
pub(crate) const WINDOW_SECS: u64 = 60;

/// Counts of events in the last [`WINDOW_SECS`] seconds. Its size is fixed.
#[derive(Clone, Debug)]
pub(crate) struct RateWindow {
    seconds: [u32; WINDOW_SECS as usize],
    /// The second of the latest event.
    latest: u64,
}

impl Default for RateWindow {
    fn default() -> Self {
        RateWindow { seconds: [0; WINDOW_SECS as usize], latest: 0 }
    }
}

impl RateWindow {
    /// Records an event.
    pub(crate) fn record(&mut self, now: Instant) {
        let second = now.since_start().as_secs();
        for gone in self.latest + 1..=second.min(self.latest + WINDOW_SECS) {
            self.seconds[(gone % WINDOW_SECS) as usize] = 0;
        }
        self.latest = self.latest.max(second);
        let count = &mut self.seconds[(self.latest % WINDOW_SECS) as usize];
        *count = count.saturating_add(1);
    }

    /// Returns the number of events a second.
    pub(crate) fn rate(&self, now: Instant) -> f64 {
        let second = now.since_start().as_secs();
        let first =
            (second + 1).saturating_sub(WINDOW_SECS).max((self.latest + 1).saturating_sub(WINDOW_SECS));
        let counts = (first..=self.latest).map(|second| self.seconds[(second % WINDOW_SECS) as usize]);
        counts.map(f64::from).sum::<f64>() / WINDOW_SECS as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_counts_the_events_of_the_last_minute_only() {
        let mut window = RateWindow::default();
        let rate =
            |window: &RateWindow, second| (window.rate(Instant::from_secs(second)) * 60.0).round() as u64;
        assert_eq!(rate(&window, 5), 0);
        (0..30).for_each(|second| window.record(Instant::from_secs(second)));
        assert_eq!(rate(&window, 29), 30);
        assert_eq!(rate(&window, 59), 30);
        assert_eq!(rate(&window, 60), 29);
        assert_eq!(rate(&window, 88), 1);
        assert_eq!(rate(&window, 89), 0);
        window.record(Instant::from_secs(75));
        assert_eq!(rate(&window, 75), 15);
        window.record(Instant::from_secs(1000));
        window.record(Instant::from_secs(1000));
        assert_eq!(rate(&window, 1000), 2, "the old seconds are cleared");
        assert_eq!(rate(&window, 1059), 2);
        assert_eq!(rate(&window, 1060), 0);
    }
}
