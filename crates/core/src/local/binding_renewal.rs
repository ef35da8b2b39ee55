//! Our own binding: signed anew in time while we hold the agent's key, and watched when it was signed elsewhere.

use std::time::Duration;

use p2p_node_protocol::{ErrorCode, ErrorEvent, Level};

use crate::Core;
use crate::effect::ExitCode;
use crate::input::Now;
use p2p_node_wire::identity::Binding;
use p2p_node_wire::identity::binding::BINDING_LIFE_SECS;
use p2p_node_wire::identity::presigned::span;

/// The end of a binding that we cannot renew is told of from so long before. Ours: time enough to find the wallet.
const WARN_BEFORE_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// … and so often.
const WARN_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);
/// How often it is looked into at least, because the clock that the end is told by may be set.
const WATCH_PERIOD: Duration = Duration::from_secs(60 * 60);

/// When a binding that was signed elsewhere is looked into, and its end told of.
#[derive(Debug, Default)]
pub(crate) struct BindingWatch {
    next: Duration,
    warn: Duration,
}

impl BindingWatch {
    /// The end of the binding is told by the wall clock, which has jumped.
    pub(crate) fn clock_jumped(&mut self, now: Now) {
        self.next = self.next.min(now.mono);
    }
}

impl Core {
    /// Says at the start how long a binding that we cannot renew still lives.
    pub(crate) fn tell_binding_life(&mut self, now: Now) {
        let left_ms = self.local.identity.binding.left_ms(now.unix_ms);
        if self.local.identity.agent.is_some() || left_ms == 0 {
            return;
        }
        let level = if left_ms <= WARN_BEFORE_MS { Level::Warn } else { Level::Info };
        self.local.binding_watch.warn = now.mono + WARN_PERIOD;
        let message = format!(
            "the binding was signed elsewhere and ends in {}: have a new one signed before",
            span(left_ms / 1000)
        );
        self.log(level, "identity", message);
    }

    /// Sees to it that the binding is valid; whether it is.
    pub(crate) fn keep_bound(&mut self, now: Now) -> bool {
        if self.local.identity.agent.is_some() {
            self.renew_binding(now);
            return true;
        }
        if now.mono < self.local.binding_watch.next {
            return true;
        }
        let left_ms = self.local.identity.binding.left_ms(now.unix_ms);
        if left_ms == 0 {
            let message = "the binding, which was signed elsewhere, has expired: nobody believes this node any more. Have a new one signed, see `p2p-node bind --help`";
            self.complain(ErrorEvent::new(ErrorCode::IdentityInvalid, message));
            self.give_up(ExitCode::Config, now);
            return false;
        }
        if left_ms <= WARN_BEFORE_MS && now.mono >= self.local.binding_watch.warn {
            self.tell_binding_life(now);
        }
        self.local.binding_watch.next = now.mono + WATCH_PERIOD.min(Duration::from_millis(left_ms));
        true
    }

    pub(crate) fn binding_deadline(&self) -> Option<Duration> {
        self.local.identity.agent.is_none().then_some(self.local.binding_watch.next)
    }

    /// Signs a new binding when half the life of the old one is over.
    fn renew_binding(&mut self, now: Now) {
        let now_secs = now.unix_ms / 1000;
        let old = &self.local.identity.binding.binding;
        // One that begins in the future was made by a clock that was ahead.
        let due = now_secs + BINDING_LIFE_SECS / 2 > old.not_after || now_secs < old.not_before;
        let (Some(agent), true) = (&self.local.identity.agent, due) else { return };
        let binding =
            Binding { not_before: now_secs, not_after: now_secs + BINDING_LIFE_SECS, ..old.clone() };
        match agent.bind(binding) {
            Ok(signed) => {
                self.local.identity.binding_bytes = signed.encode();
                self.local.identity.binding = signed.clone();
                self.local.record.set_binding(signed, now);
            }
            Err(error) => {
                self.log(Level::Error, "identity", format!("the binding cannot be renewed: {error}"))
            }
        }
    }
}
