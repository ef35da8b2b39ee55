//! One stream as it arrives.

use std::collections::VecDeque;
use std::time::Duration;

use super::held::Held;
use super::share::Share;
use crate::core::delivery::arrivals::Arrivals;
use crate::core::envelope::Outcome;

/// One stream as it arrives.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) next: u64,
    /// Unused where mail is settled at once.
    pub(super) arrivals: Arrivals,
    pub(super) held: Held,
    pub(super) refusals: VecDeque<Outcome>,
    pub(super) last_used: Duration,
}

impl Incoming {
    /// Something becomes of what was handed on, which is accounted for.
    pub(super) fn change<T>(
        &mut self,
        share: &mut Share,
        beyond: &mut usize,
        change: impl FnOnce(&mut Arrivals) -> T,
    ) -> T {
        let before = (self.arrivals.outstanding(), self.arrivals.beyond());
        let done = change(&mut self.arrivals);
        share.outstanding = share.outstanding + self.arrivals.outstanding() - before.0;
        share.beyond = share.beyond + self.arrivals.beyond() - before.1;
        *beyond = *beyond + self.arrivals.beyond() - before.1;
        done
    }
}
