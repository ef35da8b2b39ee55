//! Our own binding: the node renews it if it holds the agent's key; otherwise it warns of the
//! expiry.

use std::time::Duration;

use p2p_node_protocol::{ErrorCode, ErrorEvent, Level};
use p2p_node_wire::identity::Binding;
use p2p_node_wire::identity::binding::BINDING_LIFE_SECS;
use p2p_node_wire::identity::presigned::span;
use p2p_node_wire::time::Instant;

use crate::cx::Cx;
use crate::effect::ExitCode;
use crate::input::Now;
use crate::local::Local;
use crate::signal::Signal;

/// Time before the expiry at which the node starts to warn, in ms: our choice, 7 days for a person
/// to find the wallet.
const WARN_BEFORE_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Interval between two warnings: our choice, a day.
const WARN_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest interval between two checks. The wall clock, by which the binding expires, may be set at
/// any time.
const CHECK_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The schedule of checks and warnings for a binding that a wallet signed.
#[derive(Debug, Default)]
pub(crate) struct BindingWatch {
    next: Instant,
    warn: Instant,
}

impl BindingWatch {
    /// Schedules a check at once, because the binding expires by the wall clock, which jumped.
    pub(crate) fn clock_jumped(&mut self, now: Now) {
        self.next = self.next.min(now.mono);
    }
}

impl Local {
    /// Logs at the start when a binding that the node cannot renew will expire.
    pub(crate) fn report_binding_life(&mut self, cx: &mut Cx) {
        let now = cx.now;
        let left_ms = cx.identity.binding.left_ms(now.unix_ms);
        if cx.identity.agent.is_some() || left_ms == 0 {
            return;
        }
        let level = if left_ms <= WARN_BEFORE_MS { Level::Warn } else { Level::Info };
        self.binding_watch.warn = now.mono + WARN_INTERVAL;
        let message = format!(
            "the node cannot renew its binding, which expires in {}: sign a new one before, see `p2p-node bind --help`",
            span(left_ms / 1000)
        );
        cx.log(level, "identity", message);
    }

    /// Renews the binding or checks its expiry. Returns `false` if the binding has expired, which
    /// ends the node.
    pub(crate) fn check_binding_expiry(&mut self, cx: &mut Cx) -> bool {
        let now = cx.now;
        if cx.identity.agent.is_some() {
            self.renew_binding(cx);
            return true;
        }
        if now.mono < self.binding_watch.next {
            return true;
        }
        let left_ms = cx.identity.binding.left_ms(now.unix_ms);
        if left_ms == 0 {
            let message = "the binding has expired and peers now reject this node: sign a new one, see `p2p-node bind --help`";
            cx.emit_error(ErrorEvent::new(ErrorCode::IdentityInvalid, message));
            cx.signal(Signal::Abort(ExitCode::Config));
            return false;
        }
        if left_ms <= WARN_BEFORE_MS && now.mono >= self.binding_watch.warn {
            self.report_binding_life(cx);
        }
        self.binding_watch.next = now.mono + CHECK_INTERVAL.min(Duration::from_millis(left_ms));
        true
    }

    pub(crate) fn binding_deadline(&self, cx: &Cx) -> Option<Instant> {
        cx.identity.agent.is_none().then_some(self.binding_watch.next)
    }

    /// Signs a new binding after half the life of the old one.
    fn renew_binding(&mut self, cx: &mut Cx) {
        let now = cx.now;
        let now_secs = now.unix_ms / 1000;
        let old = &cx.identity.binding.binding;
        // A binding that begins in the future was signed while the clock was ahead.
        let due = now_secs + BINDING_LIFE_SECS / 2 > old.not_after || now_secs < old.not_before;
        let (Some(agent), true) = (&cx.identity.agent, due) else { return };
        let binding =
            Binding { not_before: now_secs, not_after: now_secs + BINDING_LIFE_SECS, ..old.clone() };
        match agent.bind(binding) {
            Ok(signed) => {
                cx.identity.binding_bytes = signed.encode();
                cx.identity.binding = signed.clone();
                self.record.set_binding(signed, now);
            }
            Err(error) => {
                cx.log(Level::Error, "identity", format!("the node cannot renew its binding: {error}"))
            }
        }
    }
}
