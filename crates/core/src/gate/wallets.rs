//! What contract wallets say of bindings, from their chain: a bounded cache, and limits of the questions.

use std::collections::BTreeSet;
use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_wire::identity::BindingHash;
use p2p_node_wire::lru_map::LruMap;
use p2p_node_wire::time::Instant;

use crate::gate::rate_limiter::{AtLimit, Quota, RateLimiter};
use crate::usage::Usage;

/// Largest number of answers: our choice, as many as there are invalid bindings in the cache of keys. The one
/// that was used longest ago gives way.
pub const MAX_ANSWERS: usize = 1024;
/// Largest number of questions on their way: our choice, as many as a public server answers at once.
pub const MAX_QUESTIONS: usize = 16;
/// Number of these that bindings which no wallet confirmed yet may take: our choice. So invented bindings never
/// keep a node from asking again about a wallet in use.
const MAX_NEW: usize = 12;
/// Questions that frames and records of one neighbour may cause: 4 at once and one in 2 s, our choice.
/// Anybody can invent bindings of contract wallets.
const OF_NEIGHBOUR: Quota =
    Quota { burst: 4, interval: Duration::from_secs(2), max_keys: 1024, at_limit: AtLimit::Forget };
/// Questions about new bindings in all, and apart from them those about wallets in use: 32 at once and 4 a
/// second, our choice, so that servers do not refuse the node.
const IN_ALL: Quota =
    Quota { burst: 32, interval: Duration::from_millis(250), max_keys: 2, at_limit: AtLimit::Refuse };
/// Time for which an answer counts as new: 10 min, as the design says of contract wallets.
const FRESH: Duration = Duration::from_secs(600);
/// Time for which a refusal counts: our choice. A wallet may be deployed at any moment.
const FRESH_REFUSAL: Duration = Duration::from_secs(60);
/// Age (four fifths of `FRESH`) from which on a use asks again: our choice, so that a binding in use does not
/// become old.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(480);
/// Time for which the node goes on to use an old answer while no server answers: 24 h, as the design says.
const STALE: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, Debug)]
struct Answer {
    is_valid: bool,
    at: Instant,
}

/// What the node knows of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// `true` if the wallet said that the signature is its own.
    pub(crate) is_valid: bool,
    /// `true` if the node should ask again.
    pub(crate) is_old: bool,
}

/// The answers of contract wallets.
#[derive(Debug)]
pub(crate) struct Wallets {
    /// `true` if there are RPC servers to ask.
    pub(crate) can_ask: bool,
    answers: LruMap<BindingHash, Answer>,
    asked: BTreeSet<BindingHash>,
    of_neighbour: RateLimiter<PeerId>,
    /// By whether the binding is new.
    in_all: RateLimiter<bool>,
}

impl Wallets {
    pub(crate) fn new(can_ask: bool) -> Self {
        Wallets {
            can_ask,
            answers: LruMap::default(),
            asked: BTreeSet::new(),
            of_neighbour: RateLimiter::new(OF_NEIGHBOUR),
            in_all: RateLimiter::new(IN_ALL),
        }
    }

    /// Returns what the node knows of the signature of a binding that is used now.
    pub(crate) fn look_up(&mut self, binding: &BindingHash, now: Instant) -> Option<Known> {
        let Answer { is_valid, at } = *self.answers.touch(binding)?;
        let age = now.saturating_since(at);
        match is_valid {
            true if age < STALE => Some(Known { is_valid, is_old: age >= ASK_AGAIN_AFTER }),
            false if age < FRESH_REFUSAL => Some(Known { is_valid, is_old: false }),
            _ => None,
        }
    }

    /// Returns `true` if the wallet confirmed the binding some time ago, and not since.
    pub(crate) fn is_stale(&self, binding: &BindingHash, now: Instant) -> bool {
        self.answers.get(binding).is_some_and(|answer| now.saturating_since(answer.at) >= FRESH)
    }

    /// Returns `true` if the node may ask a wallet now, and counts the question. `from` is the neighbour that
    /// caused it; `None` for a wallet that confirmed the binding before.
    pub(crate) fn begin(&mut self, binding: BindingHash, from: Option<PeerId>, now: Instant) -> bool {
        let limit = if from.is_some() { MAX_NEW } else { MAX_QUESTIONS };
        let is_free = self.can_ask && self.asked.len() < limit && !self.asked.contains(&binding);
        let is_admitted = is_free
            && from.is_none_or(|from| self.of_neighbour.would_admit(&from, now))
            && self.in_all.admit(from.is_some(), now);
        if is_admitted {
            from.map(|from| self.of_neighbour.admit(from, now));
            self.asked.insert(binding);
        }
        is_admitted
    }

    /// Takes the outcome of a question.
    pub(crate) fn on_answer(&mut self, binding: BindingHash, outcome: Option<bool>, now: Instant) {
        self.asked.remove(&binding);
        if let Some(is_valid) = outcome {
            self.answers.insert(binding, Answer { is_valid, at: now });
            self.answers.shrink_to(MAX_ANSWERS);
        }
    }

    pub(crate) fn usage(&self) -> [Usage; 2] {
        [
            ("answers of contract wallets", self.answers.len(), MAX_ANSWERS),
            ("questions to contract wallets", self.asked.len(), MAX_QUESTIONS),
        ]
        .map(|(name, size, limit)| Usage { name, size, limit })
    }
}

#[cfg(test)]
mod tests;
