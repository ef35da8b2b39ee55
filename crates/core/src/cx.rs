//! The context: what every component uses and no component owns.

use std::collections::VecDeque;

use crate::backoff::Jitter;
use crate::config::LocalIdentity;
use crate::effect::Effect;
use crate::input::{Now, Token};
use crate::parent::replies::Replies;
use crate::stats::Stats;

/// The time, the identity, the sinks for effects, lines and counters, and the random source.
#[derive(Debug)]
pub(crate) struct Cx {
    /// The time of the current event.
    pub(crate) now: Now,
    /// The identity of this node.
    pub(crate) identity: LocalIdentity,
    /// Effects to execute, in this order.
    pub(crate) effects: VecDeque<Effect>,
    /// Lines for the parent, and its unanswered commands.
    pub(crate) replies: Replies,
    /// Counters of events.
    pub(crate) stats: Stats,
    /// Random source of pauses.
    pub(crate) jitter: Jitter,
    /// The most recently issued token.
    last_token: Token,
}

impl Cx {
    pub(crate) fn new(identity: LocalIdentity, replies: Replies, seed: u64, now: Now) -> Self {
        Cx {
            now,
            identity,
            effects: VecDeque::new(),
            replies,
            stats: Stats::default(),
            jitter: Jitter::new(seed),
            last_token: 0,
        }
    }

    /// Returns a token that the core has not used before.
    pub(crate) fn token(&mut self) -> Token {
        self.last_token += 1;
        self.last_token
    }
}
