//! What the node knows of the registry: a bounded cache that is filled by reads of many agents at once.

use std::collections::VecDeque;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use p2p_node_wire::lru_map::LruMap;
use p2p_node_wire::time::Instant;

use crate::chain::{AgentInfo, AgentQuery, Changes, MAX_AGENTS_PER_READ};
use crate::gate::rate_limiter::{AtLimit, Quota, RateLimiter};

/// Largest number of agents in the cache: our choice, as many as there can be strangers with mail. The
/// one that was used longest ago gives way.
pub const MAX_AGENTS: usize = 4096;
/// Largest number of met agents that wait for a read because somebody used their entries: our choice, 16
/// reads. Further ones wait for their next use.
pub const MAX_WAITING: usize = 16 * MAX_AGENTS_PER_READ;
/// Reads of agents that the node never met: 64 at once and one a second, our choice. Invented
/// authors of broadcasts neither keep the agents waiting that are there, nor make the node flood the
/// servers.
const UNMET: Quota = Quota {
    burst: MAX_AGENTS_PER_READ as u32,
    interval: Duration::from_secs(1),
    max_keys: 1,
    at_limit: AtLimit::Refuse,
};
/// Largest number of agents that wait for a read or are in the one on its way: every agent of the cache can
/// have changed, and the burst of unmet ones waits apart.
pub const MAX_WAITING_IN_ALL: usize = MAX_AGENTS + 2 * MAX_AGENTS_PER_READ;
/// Time for which the entry of a registered or blocked agent counts as new: 10 min, as ERC-1271 results
/// in the design. Events of the registry end it earlier.
const FRESH: Duration = Duration::from_secs(600);
/// Time for which the absence of an entry counts as new: our choice, so that an agent that has just
/// registered does not wait long, if the event is missed.
const FRESH_ABSENCE: Duration = Duration::from_secs(60);
/// Part of these times (four fifths) after which a use begins a new read, so that agents in use do not
/// become old: our choice.
const REFRESH_AFTER_FIFTHS: u32 = 4;
/// Time for which the node goes on to use an old entry while the servers do not answer: 24 h, as the
/// design says of contract wallets. An old absence does not count.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// Time until an agent on whom the servers do not agree is read again: our choice.
const NO_AGREEMENT_PAUSE: Duration = Duration::from_secs(30);

/// Time until an agent whose record the node does not have is read again: our choice. The record itself
/// ends it.
const NO_RECORD_PAUSE: Duration = Duration::from_secs(5);

/// What the node knows of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// There is no answer yet, or none for too long.
    Unknown,
    /// The agent is registered.
    Registered,
    /// The agent was registered when the servers last answered, some time ago.
    RegisteredOnce,
    /// The agent is not registered, or deactivated itself.
    NotRegistered,
    /// The owner of the registry blocked the agent.
    Blocked,
}

/// The last answer about an agent.
#[derive(Clone, Copy, Debug)]
struct Answer {
    is_registered: bool,
    is_blocked: bool,
    reputation: Option<u64>,
    at: Instant,
}

impl Answer {
    fn fresh_for(&self) -> Duration {
        if self.is_registered || self.is_blocked { FRESH } else { FRESH_ABSENCE }
    }

    fn registration(&self, now: Instant) -> Registration {
        let age = now.saturating_since(self.at);
        let is_fresh = age < self.fresh_for();
        match (self.is_blocked, self.is_registered) {
            _ if !is_fresh && age >= STALE => Registration::Unknown,
            (true, _) => Registration::Blocked,
            (false, true) if is_fresh => Registration::Registered,
            (false, true) => Registration::RegisteredOnce,
            (false, false) if is_fresh => Registration::NotRegistered,
            (false, false) => Registration::Unknown,
        }
    }
}

/// Whether the node reads an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    No,
    Waits,
    OnItsWay,
}

#[derive(Debug, Default)]
struct Entry {
    answer: Option<Answer>,
    reading: Reading,
    /// The claim of the agent at the last read.
    id: Option<U256>,
    /// Number of mails of the agent that the node accepted since the entry came into the cache.
    mails: u32,
    /// No read before this time.
    not_before: Option<Instant>,
}

impl Entry {
    fn needs_read(&self, now: Instant) -> bool {
        if self.reading != Reading::No || self.not_before.is_some_and(|time| now < time) {
            return false;
        }
        self.answer.is_none_or(|answer| {
            now.saturating_since(answer.at) >= answer.fresh_for() * REFRESH_AFTER_FIFTHS / 5
        })
    }
}

/// The cache. One read is on its way at most.
#[derive(Debug)]
pub(super) struct Cache {
    entries: LruMap<Address, Entry>,
    /// Agents that the node met, and agents that the registry changed.
    waiting: VecDeque<Address>,
    /// Agents that the node never met; read when no others wait.
    unmet: VecDeque<Address>,
    reads_of_unmet: RateLimiter<()>,
    in_flight: Vec<Address>,
}

impl Default for Cache {
    fn default() -> Self {
        Cache {
            entries: LruMap::default(),
            waiting: VecDeque::new(),
            unmet: VecDeque::new(),
            reads_of_unmet: RateLimiter::new(UNMET),
            in_flight: Vec::new(),
        }
    }
}

impl Cache {
    /// Returns what the node knows of an agent. Asks for a read if that is nothing or soon old. `is_met`
    /// states that a node of the agent itself connected. An agent for whose read there is no room gets no
    /// entry, so it pushes nobody out.
    pub(super) fn look_up(&mut self, agent: &Address, is_met: bool, now: Instant) -> Registration {
        let entry = self.entries.touch(agent);
        let registration = entry
            .as_ref()
            .and_then(|entry| entry.answer)
            .map_or(Registration::Unknown, |answer| answer.registration(now));
        if entry.is_some_and(|entry| !entry.needs_read(now)) || !self.has_room_for_read(is_met, now) {
            return registration;
        }
        self.entries.touch_or_default(agent).reading = Reading::Waits;
        let queue = if is_met { &mut self.waiting } else { &mut self.unmet };
        queue.push_back(*agent);
        self.entries.shrink_to(MAX_AGENTS);
        registration
    }

    fn has_room_for_read(&mut self, is_met: bool, now: Instant) -> bool {
        match is_met {
            true => self.waiting.len() < MAX_WAITING,
            false => self.unmet.len() < MAX_AGENTS_PER_READ && self.reads_of_unmet.admit((), now),
        }
    }

    /// Returns what the node knows of an agent, without a use of the entry.
    pub(super) fn peek(&self, agent: &Address, now: Instant) -> Registration {
        let answer = self.entries.get(agent).and_then(|entry| entry.answer);
        answer.map_or(Registration::Unknown, |answer| answer.registration(now))
    }

    /// Returns `true` if the last answer about an agent was that it is registered and not blocked.
    pub(super) fn names(&self, agent: &Address) -> bool {
        let answer = self.entries.get(agent).and_then(|entry| entry.answer);
        answer.is_some_and(|answer| answer.is_registered && !answer.is_blocked)
    }

    /// Counts a mail of an agent as evidence of this node's own.
    pub(super) fn count_mail(&mut self, agent: &Address) {
        if let Some(entry) = self.entries.get_mut(agent) {
            entry.mails = entry.mails.saturating_add(1);
        }
    }

    /// Returns the id that an agent claimed at the last read.
    pub(super) fn claimed(&self, agent: &Address) -> Option<U256> {
        self.entries.get(agent)?.id
    }

    /// Returns the reputation of a registered agent, and the number of its mails; `None` without a reputation.
    pub(super) fn reputation(&self, agent: &Address) -> Option<(u64, u32)> {
        let entry = self.entries.get(agent)?;
        let answer = entry.answer.filter(|answer| answer.is_registered)?;
        Some((answer.reputation?, entry.mails))
    }

    /// Returns `true` if agents wait, and no read is on its way.
    pub(super) fn can_read(&self) -> bool {
        self.in_flight.is_empty() && !(self.waiting.is_empty() && self.unmet.is_empty())
    }

    /// Begins a read of the agents that wait. `query` returns the question for an agent, or `None` if
    /// the node does not know yet what it claims; such an agent is not read.
    pub(super) fn begin_read(
        &mut self,
        query: impl Fn(&Address) -> Option<AgentQuery>,
        now: Instant,
    ) -> Vec<AgentQuery> {
        let mut queries = Vec::new();
        while queries.len() < MAX_AGENTS_PER_READ {
            let Some(agent) = self.waiting.pop_front().or_else(|| self.unmet.pop_front()) else { break };
            let Some(entry) = self.entries.get_mut(&agent) else { continue };
            let Some(query) = query(&agent) else {
                (entry.reading, entry.not_before) = (Reading::No, Some(now + NO_RECORD_PAUSE));
                continue;
            };
            (entry.reading, entry.id) = (Reading::OnItsWay, query.id);
            queries.push(query);
        }
        self.in_flight = queries.iter().map(|query| query.agent).collect();
        queries
    }

    /// Takes the answers of the read. Returns the agents whose registration changed, with the new one.
    pub(super) fn on_read(
        &mut self,
        agents: &[(Address, Option<AgentInfo>)],
        now: Instant,
    ) -> Vec<(Address, Registration)> {
        self.in_flight.clear();
        let mut changed = Vec::new();
        for (agent, info) in agents {
            let before = self.peek(agent, now);
            let Some(entry) = self.entries.get_mut(agent) else { continue };
            if entry.reading == Reading::OnItsWay {
                entry.reading = Reading::No;
            }
            match info {
                Some(info) => {
                    let AgentInfo { is_active, is_blocked, reputation, .. } = *info;
                    let is_registered = is_active;
                    entry.answer = Some(Answer { is_registered, is_blocked, reputation, at: now });
                    entry.not_before = None;
                }
                None => entry.not_before = Some(now + NO_AGREEMENT_PAUSE),
            }
            let after = self.peek(agent, now);
            if before != after {
                changed.push((*agent, after));
            }
        }
        changed
    }

    /// Takes the failure of the read: its agents wait again.
    pub(super) fn on_read_failed(&mut self) {
        for agent in self.in_flight.drain(..).rev() {
            if let Some(entry) = self.entries.get_mut(&agent)
                && entry.reading == Reading::OnItsWay
            {
                entry.reading = Reading::Waits;
                self.waiting.push_front(agent);
            }
        }
    }

    /// Reads these agents again, because the registry changed them. Agents that are not in the cache are of
    /// no interest. A read that is on its way may have been answered before the change.
    pub(super) fn on_changed(&mut self, changes: &Changes) {
        self.read_again(&changes.agents);
        if changes.ids.is_empty() {
            return;
        }
        let claims = |entry: &Entry| entry.id.is_some_and(|id| changes.ids.contains(&id));
        let claimants = self.entries.iter_by_use().filter(|(_, entry)| claims(entry));
        let claimants: Vec<Address> = claimants.map(|(agent, _)| *agent).collect();
        self.read_again(&claimants);
    }

    /// Reads an agent again, if its record claims another entry than at the last read.
    pub(super) fn on_claim(&mut self, agent: &Address, id: Option<U256>) {
        let differs = |entry: &Entry| entry.id != id || entry.answer.is_none();
        if self.entries.get(agent).is_some_and(differs) {
            self.read_again(&[*agent]);
        }
    }

    fn read_again(&mut self, agents: &[Address]) {
        for agent in agents {
            if let Some(entry) = self.entries.get_mut(agent)
                && entry.reading != Reading::Waits
                && self.waiting.len() < MAX_AGENTS
            {
                (entry.reading, entry.not_before) = (Reading::Waits, None);
                self.waiting.push_back(*agent);
            }
        }
    }

    /// Reads all agents again, because changes may have been missed; those used last first.
    pub(super) fn on_changes_missed(&mut self) {
        let mut agents: Vec<Address> = self.entries.iter_by_use().map(|(agent, _)| *agent).collect();
        agents.reverse();
        self.read_again(&agents);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len() + self.unmet.len() + self.in_flight.len()
    }
}

#[cfg(test)]
mod tests;
