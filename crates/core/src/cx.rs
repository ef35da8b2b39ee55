//! What every component needs and none owns.

use std::collections::VecDeque;

use crate::backoff::Jitter;
use crate::effect::Effect;
use crate::input::Token;
use crate::stats::Stats;

/// Sinks for effects and counters, and the seeded random source.
#[derive(Debug)]
pub(crate) struct Cx {
    /// What is to be done, in this order.
    pub(crate) effects: VecDeque<Effect>,
    /// What happened so far.
    pub(crate) stats: Stats,
    /// Random pauses.
    pub(crate) jitter: Jitter,
    /// The token that was given out last.
    pub(crate) last_token: Token,
}

impl Cx {
    pub(crate) fn new(seed: u64) -> Self {
        Cx { effects: VecDeque::new(), stats: Stats::default(), jitter: Jitter::new(seed), last_token: 0 }
    }
}
