//! The registry on a chain: what the node knows of agents, and what follows from it.
//!
//! Nothing waits for the chain. An agent that the node has not read yet is `Unknown`, and the policy says
//! what that means.

pub mod cache;
mod prior;
mod reports;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use p2p_node_protocol::{Counter, ErrorCode, ErrorEvent, Level, RegistryState, Trust};
use p2p_node_wire::identity::parse_address;
use p2p_node_wire::record::{RegistryClaim, SignedRecord};
use p2p_node_wire::time::Instant;

use crate::backoff::{Backoff, BackoffPolicy, Spread};
use crate::chain::ens_name::EnsName;
use crate::chain::{AgentInfo, AgentQuery, ChainCommand, ChainEvent};
use crate::cx::Cx;
use crate::effect::ExitCode;
use crate::input::Token;
use crate::replies::reply_to::ReplyTo;
use crate::signal::Signal;
use crate::timers::TimerTable;
use crate::usage::Usage;
use cache::Cache;
pub use cache::Registration;
use reports::Reports;

/// Pauses between two reads while the servers do not answer: our choice. Each server has a backoff of its
/// own.
const RETRY: BackoffPolicy = BackoffPolicy {
    start: Duration::from_secs(1),
    cap: Duration::from_secs(30),
    spread: Spread::Around,
    counts_during_pause: false,
};
/// Largest number of `registry` commands whose answer is open: our choice.
pub const MAX_OPEN_COMMANDS: usize = 64;

/// What the node makes of the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistryPolicy {
    /// The node reads agents only for the command `registry`.
    #[default]
    Off,
    /// The node tells its parent what the registry says of senders.
    Warn,
    /// The node also refuses agents that are not registered, or that are blocked.
    Enforce,
}

impl FromStr for RegistryPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(RegistryPolicy::Off),
            "warn" => Ok(RegistryPolicy::Warn),
            "enforce" => Ok(RegistryPolicy::Enforce),
            _ => Err("use `off`, `warn` or `enforce`".to_owned()),
        }
    }
}

impl fmt::Display for RegistryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RegistryPolicy::Off => "off",
            RegistryPolicy::Warn => "warn",
            RegistryPolicy::Enforce => "enforce",
        })
    }
}

impl Registration {
    /// Returns the trust that the parent reads.
    pub(crate) fn trust(self) -> Trust {
        match self {
            Registration::Unknown => Trust::Unverified,
            Registration::Registered => Trust::Registered,
            Registration::RegisteredOnce => Trust::Stale,
            Registration::NotRegistered => Trust::Unregistered,
            Registration::Blocked => Trust::Blocked,
        }
    }
}

/// Which registry the configuration names, and what the node makes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    /// What the node makes of the registry.
    pub policy: RegistryPolicy,
    /// The registry whose entries agents claim in their records; `None` for one that knows agents by their
    /// addresses.
    pub claims: Option<ClaimScope>,
    /// The entry that this agent claims there.
    pub own_claim: Option<RegistryClaim>,
    /// `true` if the node reports its interactions to the registry.
    pub reports: bool,
}

/// A registry that knows ids and no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimScope {
    /// Id of its chain.
    pub chain_id: u64,
    /// Its address.
    pub registry: Address,
}

impl ClaimScope {
    /// Returns the id that a claim gives in this registry.
    fn id(&self, claim: Option<RegistryClaim>) -> Option<U256> {
        let of_registry =
            |claim: &RegistryClaim| (claim.chain_id, claim.registry) == (self.chain_id, self.registry);
        claim.filter(of_registry).map(|claim| claim.agent_id)
    }
}

/// What the policy says of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegistryVerdict {
    /// The registry does not speak against the agent.
    Admit,
    /// The node does not know yet.
    Wait,
    /// The node refuses the agent.
    Refuse(ErrorCode),
}

/// The registry.
#[derive(Debug)]
pub(crate) struct Registry {
    policy: RegistryPolicy,
    /// `true` if the configuration names a registry.
    is_configured: bool,
    claims: Option<ClaimScope>,
    own_claim: Option<RegistryClaim>,
    reports: Reports,
    cache: Cache,
    /// The read on its way.
    read: Option<Token>,
    retry: Backoff,
    /// `true` from a failed read to the next that succeeds.
    is_down: bool,
    /// The `registry` commands whose answer is open.
    commands: BTreeMap<Token, ReplyTo>,
}

impl Registry {
    /// `config` is `None` if the configuration names no registry.
    pub(crate) fn new(config: Option<RegistryConfig>) -> Self {
        let RegistryConfig { policy, claims, own_claim, reports } = config.unwrap_or_default();
        Registry {
            policy,
            is_configured: config.is_some(),
            claims,
            own_claim,
            reports: Reports::new(reports),
            cache: Cache::default(),
            read: None,
            retry: Backoff::default(),
            is_down: false,
            commands: BTreeMap::new(),
        }
    }

    /// Returns what the node knows of an agent that does something now. `is_met` states that a node of the
    /// agent itself connected.
    pub(crate) fn look_up(&mut self, agent: &Address, is_met: bool, now: Instant) -> Registration {
        if self.policy == RegistryPolicy::Off {
            return Registration::Unknown;
        }
        self.cache.look_up(agent, is_met, now)
    }

    /// Returns the state for reports, if the configuration names a registry.
    pub(crate) fn state(&self) -> Option<RegistryState> {
        self.is_configured.then(|| RegistryState {
            policy: self.policy.to_string(),
            is_reachable: !self.is_down,
            agents: self.cache.len(),
        })
    }

    /// Returns what the node knows of an agent.
    pub(crate) fn peek(&self, agent: &Address, now: Instant) -> Registration {
        self.cache.peek(agent, now)
    }

    /// Returns `true` if the registry named the agent in its last answer.
    pub(crate) fn names(&self, agent: &Address) -> bool {
        self.cache.names(agent)
    }

    /// Returns what the policy says of an agent with this registration.
    pub(crate) fn verdict(&self, registration: Registration) -> RegistryVerdict {
        match (self.policy, registration) {
            (RegistryPolicy::Off | RegistryPolicy::Warn, _) => RegistryVerdict::Admit,
            (_, Registration::Registered | Registration::RegisteredOnce) => RegistryVerdict::Admit,
            (_, Registration::Unknown) => RegistryVerdict::Wait,
            (_, Registration::NotRegistered) => RegistryVerdict::Refuse(ErrorCode::NotRegistered),
            (_, Registration::Blocked) => RegistryVerdict::Refuse(ErrorCode::RegistryBlocked),
        }
    }

    /// Begins the next read, if agents wait. `record_of` returns the record of an agent, if the node has it.
    pub(crate) fn read_waiting<'a>(
        &mut self,
        record_of: impl Fn(&Address) -> Option<&'a SignedRecord>,
        cx: &mut Cx,
    ) {
        if !self.cache.can_read() || !self.retry.ready(cx.now.mono) {
            return;
        }
        let scope = self.claims;
        let agents = self.cache.begin_read(|agent| query(scope, *agent, record_of(agent)), cx.now.mono);
        if agents.is_empty() {
            return;
        }
        let token = cx.token();
        self.read = Some(token);
        cx.stats.count(Counter::RegistryReads);
        cx.chain(ChainCommand::ReadAgents { token, agents });
    }

    /// Handles a new record of an agent: it may claim another entry.
    pub(crate) fn on_record(&mut self, record: &SignedRecord) {
        if let Some(scope) = self.claims {
            self.cache.on_claim(&record.address(), scope.id(record.record.claim));
        }
    }

    /// Executes the command `registry`. `record_of` is as in [`Registry::read_waiting`].
    pub(crate) fn on_command<'a>(
        &mut self,
        to: ReplyTo,
        agent: &str,
        record_of: impl Fn(&Address) -> Option<&'a SignedRecord>,
        cx: &mut Cx,
    ) {
        let agent = match parse_address(agent) {
            Ok(agent) => agent,
            Err(error) => return cx.refuse(to, ErrorCode::InvalidArgument, format!("address: {error}")),
        };
        if !self.is_configured {
            let reason = "no registry is configured: set REGISTRY_ADDRESS and RPC_URL";
            return cx.refuse(to, ErrorCode::NoRegistry, reason);
        }
        if self.commands.len() >= MAX_OPEN_COMMANDS {
            return cx.refuse(to, ErrorCode::Busy, "too many commands `registry` have no answer yet");
        }
        let own = AgentQuery { agent, id: self.claims.and_then(|scope| scope.id(self.own_claim)) };
        let query = match agent == cx.identity.address {
            true => Some(own),
            false => query(self.claims, agent, record_of(&agent)),
        };
        let Some(query) = query else {
            let reason =
                "the node has no record of this agent, which claims its entry there: discover it first";
            return cx.refuse(to, ErrorCode::PeerNotFound, reason);
        };
        let token = cx.token();
        self.commands.insert(token, to);
        cx.stats.count(Counter::RegistryReads);
        cx.chain(ChainCommand::ReadEntry { token, query });
    }

    /// Returns `true` if no `registry` command waits for its answer.
    pub(crate) fn is_idle(&self) -> bool {
        self.commands.is_empty()
    }

    /// Refuses the `registry` commands without an answer, because the node closes.
    pub(crate) fn abandon_commands(&mut self, cx: &mut Cx) {
        for to in std::mem::take(&mut self.commands).into_values() {
            cx.refuse(to, ErrorCode::ShuttingDown, "the node closed before the registry answered");
        }
    }

    /// Handles a report of the chain.
    pub(crate) fn on_event(&mut self, event: ChainEvent, cx: &mut Cx) {
        match event {
            ChainEvent::AgentsRead { token, agents } if self.read == Some(token) => {
                self.on_read(&agents, cx);
            }
            ChainEvent::EntryRead { token, agent, info, ens_name } => {
                if let Some(to) = self.commands.remove(&token) {
                    answer_command(to, &agent, info, ens_name, cx);
                }
            }
            ChainEvent::AgentsRead { .. } | ChainEvent::NameResolved { .. } => {}
            ChainEvent::ReadFailed { token, reason } => match self.commands.remove(&token) {
                Some(to) => cx.refuse(to, ErrorCode::RegistryUnavailable, reason),
                None if self.read == Some(token) => self.on_read_failed(&reason, cx),
                None => {}
            },
            ChainEvent::AgentsChanged(changes) => self.cache.on_changed(&changes),
            ChainEvent::ChangesMissed => self.cache.on_changes_missed(),
            ChainEvent::InteractionReported { agent, outcome } => self.on_reported(&agent, outcome, cx),
            ChainEvent::WalletAsked { .. } => {}
            ChainEvent::Unusable { reason } => {
                let message = format!("the registry cannot be used: {reason}");
                cx.emit_error(ErrorEvent::new(ErrorCode::RegistryUnusable, message));
                cx.signal(Signal::Abort(ExitCode::Config));
            }
        }
    }

    fn on_read(&mut self, agents: &[(Address, Option<AgentInfo>)], cx: &mut Cx) {
        (self.read, self.retry) = (None, Backoff::default());
        if std::mem::take(&mut self.is_down) {
            cx.log(Level::Info, "registry", "the RPC servers answer again".to_owned());
        }
        for (agent, registration) in self.cache.on_read(agents, cx.now.mono) {
            cx.signal(Signal::RegistrationChanged(agent, registration));
        }
    }

    fn on_read_failed(&mut self, reason: &str, cx: &mut Cx) {
        self.read = None;
        self.cache.on_read_failed();
        self.retry.fail_by(&RETRY, cx.now.mono, Duration::ZERO, &mut cx.jitter);
        cx.stats.count(Counter::RegistryReadsFailed);
        if !std::mem::replace(&mut self.is_down, true) {
            let message = format!("the registry cannot be read, so the node uses what it knows: {reason}");
            cx.log(Level::Warn, "registry", message);
        }
    }

    /// Enters the time of the next read, if agents wait for it.
    pub(crate) fn timers(&self, timers: &mut TimerTable) {
        if self.cache.can_read() {
            timers.enter("read of the registry", Some(self.retry.not_before()));
        }
        timers.enter("report to the registry", self.reports.next_at());
    }

    pub(crate) fn usage(&self) -> [Usage; 4] {
        [
            ("agents of the registry", self.cache.len(), cache::MAX_AGENTS),
            ("agents that wait for the registry", self.cache.waiting(), cache::MAX_WAITING_IN_ALL),
            ("open registry commands", self.commands.len(), MAX_OPEN_COMMANDS),
            ("reports to the registry", self.reports.len(), reports::MAX_WAITING),
        ]
        .map(|(name, size, limit)| Usage { name, size, limit })
    }
}

/// Returns the question for the entry of an agent, or `None` if the registry knows ids, and the node has no
/// record that claims one.
fn query(scope: Option<ClaimScope>, agent: Address, record: Option<&SignedRecord>) -> Option<AgentQuery> {
    let id = match scope {
        None => None,
        Some(scope) => scope.id(record?.record.claim),
    };
    Some(AgentQuery { agent, id })
}

fn answer_command(
    to: ReplyTo,
    agent: &Address,
    info: Option<AgentInfo>,
    ens_name: Option<EnsName>,
    cx: &mut Cx,
) {
    let Some(info) = info else {
        let reason = "the RPC servers do not agree on this agent";
        return cx.refuse(to, ErrorCode::RegistryUnavailable, reason);
    };
    cx.answer(to, "registry", |answer| answer.registry = Some(Box::new(info.entry(agent, ens_name))));
}

#[cfg(test)]
mod tests;
