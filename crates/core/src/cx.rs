//! The context that every component uses and none owns.

use std::collections::VecDeque;

use crate::backoff::Jitter;
use crate::effect::Effect;
use crate::input::Token;
use crate::stats::Stats;

/// Sinks for effects and counters, and the seeded random source.
#[derive(Debug)]
pub(crate) struct Cx {
    /// Effects to execute, in this order.
    pub(crate) effects: VecDeque<Effect>,
    /// Counters of events.
    pub(crate) stats: Stats,
    /// Random source of pauses.
    pub(crate) jitter: Jitter,
    /// The most recently issued token.
    pub(crate) last_token: Token,
}

impl Cx {
    pub(crate) fn new(seed: u64) -> Self {
        Cx { effects: VecDeque::new(), stats: Stats::default(), jitter: Jitter::new(seed), last_token: 0 }
    }
}
