//! Reports of interactions to the registry: only when asked for, and never for each message, because each is a
//! transaction that the agent pays for.

use std::collections::VecDeque;
use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::{Counter, Level};
use p2p_node_wire::time::Instant;
use serde_json::json;

use super::Registry;
use crate::chain::{ChainCommand, InteractionReport};
use crate::cx::Cx;
use crate::gate::rate_limiter::{AtLimit, Quota, RateLimiter};

/// Reports of one kind about one agent: one a day, our choice.
const OF_AGENT: Quota =
    Quota { burst: 1, interval: Duration::from_secs(24 * 3600), max_keys: 4096, at_limit: AtLimit::Refuse };
/// Reports in all: one in a minute, our choice.
const PAUSE: Duration = Duration::from_secs(60);
/// Largest number of reports that wait: our choice, an hour's. Further ones are dropped and counted.
pub(super) const MAX_WAITING: usize = 60;

/// The reports that wait.
#[derive(Debug)]
pub(super) struct Reports {
    is_on: bool,
    of_agent: RateLimiter<(Address, bool)>,
    waiting: VecDeque<InteractionReport>,
    is_in_flight: bool,
    not_before: Instant,
}

impl Reports {
    pub(super) fn new(is_on: bool) -> Self {
        Reports {
            is_on,
            of_agent: RateLimiter::new(OF_AGENT),
            waiting: VecDeque::new(),
            is_in_flight: false,
            not_before: Instant::ZERO,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the time of the next report, if one waits.
    pub(super) fn next_at(&self) -> Option<Instant> {
        (!self.is_in_flight && !self.waiting.is_empty()).then_some(self.not_before)
    }
}

impl Registry {
    /// Handles that the node accepted mail of an agent, or banned it. Reports it, if the user wants that and the
    /// registry names the agent.
    pub(crate) fn on_interaction(&mut self, agent: &Address, is_positive: bool, cx: &mut Cx) {
        if is_positive {
            self.cache.count_mail(agent);
        }
        if !self.reports.is_on || !self.names(agent) {
            return;
        }
        // A report without room may come with the next interaction.
        if self.reports.waiting.len() >= MAX_WAITING {
            return cx.stats.count(Counter::RegistryReportsDropped);
        }
        if !self.reports.of_agent.admit((*agent, is_positive), cx.now.mono) {
            return;
        }
        let id = self.cache.claimed(agent);
        self.reports.waiting.push_back(InteractionReport { agent: *agent, id, is_positive });
    }

    /// Sends the next report, if one is due.
    pub(crate) fn send_report(&mut self, cx: &mut Cx) {
        if self.reports.next_at().is_none_or(|at| cx.now.mono < at) {
            return;
        }
        if let Some(report) = self.reports.waiting.pop_front() {
            (self.reports.is_in_flight, self.reports.not_before) = (true, cx.now.mono + PAUSE);
            cx.chain(ChainCommand::ReportInteraction(report));
        }
    }

    /// Handles the outcome of a report: the hash of its transaction, or why there is none. A report that failed
    /// is not repeated: the next day brings another.
    pub(super) fn on_reported(&mut self, agent: &Address, outcome: Result<String, String>, cx: &mut Cx) {
        self.reports.is_in_flight = false;
        match outcome {
            Ok(hash) => {
                cx.stats.count(Counter::RegistryReports);
                let meta = json!({ "address": agent.to_string(), "transaction": hash });
                let message = format!("an interaction with {agent} was reported: {hash}");
                cx.log_with(Level::Info, "registry", message, meta);
            }
            Err(reason) => {
                cx.stats.count(Counter::RegistryReportsFailed);
                let message = format!("the interaction with {agent} was not reported: {reason}");
                cx.log_with(Level::Warn, "registry", message, json!({ "address": agent.to_string() }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Core;
    use crate::chain::{AgentInfo, AgentQuery, ChainEvent};
    use crate::effect::Effect;
    use crate::gate::registry::{RegistryConfig, RegistryPolicy};
    use crate::testing::core_with;

    fn agent(number: u8) -> Address {
        Address::repeat_byte(number)
    }

    /// Returns a core whose registry names the agents 1 to 100.
    fn core(reports: bool) -> Core {
        let policy = RegistryPolicy::Warn;
        let config = RegistryConfig { policy, reports, ..RegistryConfig::default() };
        let mut core = core_with(|setup| setup.registry = Some(config));
        let now = core.cx.now.mono;
        for number in 1..=100 {
            core.gate.registry.look_up(&agent(number), true, now);
        }
        for _ in 0..2 {
            let read = core
                .gate
                .registry
                .cache
                .begin_read(|agent| Some(AgentQuery { agent: *agent, id: None }), now);
            let info = AgentInfo { is_active: true, ..AgentInfo::default() };
            let found: Vec<_> = read.iter().map(|query| (query.agent, Some(info.clone()))).collect();
            core.gate.registry.cache.on_read(&found, now);
        }
        core
    }

    /// Lets time pass, and returns the reports that the node sent.
    fn sent(core: &mut Core, secs: u64) -> Vec<(u8, bool)> {
        core.cx.now.mono += Duration::from_secs(secs);
        core.gate.registry.send_report(&mut core.cx);
        let effects = std::mem::take(&mut core.cx.effects);
        let report = |effect| match effect {
            Effect::Chain(ChainCommand::ReportInteraction(report)) => {
                Some((report.agent.0[0], report.is_positive))
            }
            _ => None,
        };
        effects.into_iter().filter_map(report).collect()
    }

    fn interact(core: &mut Core, number: u8, is_positive: bool) {
        core.gate.registry.on_interaction(&agent(number), is_positive, &mut core.cx);
    }

    fn finish(core: &mut Core, number: u8) {
        let event = ChainEvent::InteractionReported { agent: agent(number), outcome: Ok("0x1".to_owned()) };
        core.gate.registry.on_event(event, &mut core.cx);
    }

    #[test]
    fn interactions_are_reported_once_a_day_for_each_agent_and_once_a_minute_in_all() {
        let mut core = core(true);
        for number in [1, 1, 2, 200] {
            interact(&mut core, number, true);
        }
        interact(&mut core, 1, false);
        assert_eq!(sent(&mut core, 0), [(1, true)]);
        assert_eq!(sent(&mut core, 90), [], "the one before is on its way");
        finish(&mut core, 1);
        assert_eq!(sent(&mut core, 0), [(2, true)]);
        finish(&mut core, 2);
        assert_eq!(sent(&mut core, 59), []);
        assert_eq!(sent(&mut core, 1), [(1, false)], "of another kind; the registry does not name agent 200");
        finish(&mut core, 1);
        interact(&mut core, 1, true);
        assert_eq!(sent(&mut core, 3_600), []);
        core.cx.now.mono += Duration::from_secs(24 * 3600);
        interact(&mut core, 1, true);
        assert_eq!(sent(&mut core, 0), [(1, true)], "a day later");
    }

    #[test]
    fn reports_that_wait_are_bounded_and_there_are_none_unless_asked_for() {
        let mut core = core(true);
        (1..=100).for_each(|number| interact(&mut core, number, true));
        let usage = core.gate.registry.usage();
        let row = usage.iter().find(|row| row.name == "reports to the registry").expect("the row");
        assert_eq!((row.size, row.limit), (MAX_WAITING, MAX_WAITING));
        assert_eq!(core.cx.stats.get(Counter::RegistryReportsDropped), 40);
        let mut silent = self::core(false);
        interact(&mut silent, 1, true);
        assert_eq!(sent(&mut silent, 0), []);
    }
}
