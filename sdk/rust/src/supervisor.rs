//! Decides when to restart a node after its process has ended. Has no I/O: time and randomness are
//! arguments.

use std::time::Duration;

use p2p_node_protocol::ExitCode;

/// Restart policy: the pause doubles from `first` to `max`, and the SDK multiplies it by a random
/// factor from 0.5 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The first pause. 1 s by default.
    pub first: Duration,
    /// The longest pause. 60 s by default.
    pub max: Duration,
    /// A run of this length, counted from `ready`, resets the pause. 60 s by default.
    pub stable: Duration,
    /// This many crashes within `window` make the node unhealthy
    /// ([`Event::Unhealthy`](crate::Event::Unhealthy)). 3 by default.
    pub crashes: usize,
    /// The time in which `crashes` count. 60 s by default.
    pub window: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Restart { first: Duration::from_secs(1), max: minute, stable: minute, crashes: 3, window: minute }
    }
}

/// The decision to restart the node after `delay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RestartDecision {
    pub(crate) delay: Duration,
    /// The number of starts since the last stable run, including this one.
    pub(crate) attempt: u32,
    /// `true` if the crashes reached the limit of the policy.
    pub(crate) unhealthy: bool,
}

/// Decides after each exit of a node's process. Times count from any fixed moment.
#[derive(Debug)]
pub(crate) struct Supervisor {
    policy: Option<Restart>,
    attempts: u32,
    ready_at: Option<Duration>,
    crashes: Vec<Duration>,
    reported: bool,
}

impl Supervisor {
    /// Without a policy the supervisor never restarts.
    pub(crate) fn new(policy: Option<Restart>) -> Self {
        Supervisor { policy, attempts: 0, ready_at: None, crashes: Vec::new(), reported: false }
    }

    /// Records that the process is ready.
    pub(crate) fn ready(&mut self, now: Duration) {
        self.ready_at = Some(now);
    }

    /// Handles an unexpected exit, with the exit code if there is one; `chance` is from 0 to 1.
    /// Returns `None` if the SDK must not restart the node.
    pub(crate) fn ended(&mut self, code: Option<i32>, now: Duration, chance: f64) -> Option<RestartDecision> {
        let ready_at = self.ready_at.take();
        let policy = self.policy?;
        if code.is_some_and(is_final) {
            return None;
        }
        if ready_at.is_some_and(|at| now.saturating_sub(at) >= policy.stable) {
            (self.attempts, self.reported) = (0, false);
            self.crashes.clear();
        }
        self.crashes.retain(|at| now.saturating_sub(*at) < policy.window);
        let excess = (self.crashes.len() + 1).saturating_sub(policy.crashes.max(1));
        self.crashes.drain(..excess);
        self.crashes.push(now);
        let unhealthy = self.crashes.len() >= policy.crashes && !self.reported;
        self.reported |= unhealthy;
        let pause = policy.first.saturating_mul(1 << self.attempts.min(30)).min(policy.max);
        self.attempts = self.attempts.saturating_add(1);
        Some(RestartDecision { delay: pause.mul_f64(0.5 + 0.5 * chance), attempt: self.attempts, unhealthy })
    }
}

/// Returns `true` if a restart after this exit code would fail the same way.
fn is_final(code: i32) -> bool {
    ExitCode::ALL.iter().any(|known| *known as i32 == code && !known.restart())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    fn ended(supervisor: &mut Supervisor, now: f64, chance: f64) -> RestartDecision {
        supervisor.ended(None, secs(now), chance).unwrap()
    }

    fn supervisor() -> Supervisor {
        Supervisor::new(Some(Restart::default()))
    }

    #[test]
    fn final_exit_codes_are_not_restarted() {
        for code in 0..256 {
            let verdict = supervisor().ended(Some(code), secs(0.0), 0.5);
            assert_eq!(verdict.is_none(), [0, 64, 65, 67, 68, 73, 77, 78].contains(&code), "{code}");
        }
        assert!(supervisor().ended(None, secs(0.0), 0.5).is_some());
        assert!(Supervisor::new(None).ended(None, secs(0.0), 0.5).is_none());
    }

    #[test]
    fn restart_delay_doubles_to_a_minute_with_jitter_of_half() {
        let (mut all, mut half) = (supervisor(), supervisor());
        let pauses: Vec<u64> = (0..2000).map(|_| ended(&mut all, 0.0, 1.0).delay.as_secs()).collect();
        assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pauses.last(), Some(&60));
        let pauses: Vec<u128> = (0..3).map(|_| ended(&mut half, 0.0, 0.0).delay.as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000]);
    }

    #[test]
    fn ten_minutes_of_crashes_cause_few_restarts_and_one_report() {
        let (mut supervisor, mut now, mut starts, mut unhealthy) = (supervisor(), 0.0, 0, 0);
        while now < 600.0 {
            supervisor.ready(secs(now));
            now += 1.0;
            let decision = ended(&mut supervisor, now, 1.0);
            starts += 1;
            unhealthy += u32::from(decision.unhealthy);
            assert_eq!(decision.attempt, starts);
            now += decision.delay.as_secs_f64();
        }
        assert_eq!((starts, unhealthy), (15, 1));
    }

    #[test]
    fn only_a_stable_run_resets_delay() {
        let mut supervisor = supervisor();
        for now in [0.0, 1.0, 2.0] {
            supervisor.ready(secs(now));
            ended(&mut supervisor, now, 1.0);
        }
        supervisor.ready(secs(100.0));
        assert_eq!(ended(&mut supervisor, 159.9, 1.0).delay, secs(8.0), "ready again is not stable");
        supervisor.ready(secs(200.0));
        assert_eq!(ended(&mut supervisor, 260.0, 1.0).delay, secs(1.0));
        let reported = [261.0, 262.0].map(|now| ended(&mut supervisor, now, 1.0).unhealthy);
        assert_eq!(reported, [false, true], "the next failure is reported again after a healthy time");
    }

    #[test]
    fn crashes_far_apart_are_not_unhealthy() {
        let mut supervisor = supervisor();
        for now in [0.0, 31.0, 61.0, 92.0, 122.0] {
            assert!(!ended(&mut supervisor, now, 1.0).unhealthy, "{now}");
        }
        assert!(ended(&mut supervisor, 123.0, 1.0).unhealthy);
    }
}
