//! The gate: decides which data from the network the node accepts, from which agents, at which
//! priority.

pub mod access_list;
pub mod address_rules;
pub mod address_scope;
pub mod admission_policy;
pub mod binding_cache;
pub(crate) mod binding_check;
pub mod flow_guards;
pub(crate) mod frame_checks;
pub(crate) mod high_priority;
pub mod high_priority_limiter;
pub mod host;
pub mod limits;
pub(crate) mod message_event;
pub(crate) mod pending_verification;
pub mod rate_limiter;
pub mod registry;
pub mod reputation;
pub(crate) mod sender;
pub mod tier;
pub(crate) mod wallets;

use p2p_node_wire::envelope;
use p2p_node_wire::envelope::ReplayWindows;

use crate::config::CoreConfig;
use crate::gate::binding_cache::BindingCache;
use crate::gate::pending_verification::PendingVerifications;
use crate::input::Now;
use crate::usage::Usage;
use access_list::AccessList;
use admission_policy::AdmissionPolicy;
use flow_guards::FlowGuards;
use high_priority_limiter::HighPriorityLimiter;
use limits::Limits;
use registry::Registry;
use reputation::Reputations;
use tier::Tiers;
use wallets::Wallets;

/// The state of the gate.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Agents and nodes that the parent blocked or allowed.
    pub(crate) access_list: AccessList,
    /// What the tiers of agents depend on, beside the access list.
    pub(crate) tiers: Tiers,
    /// The rate limits of peers and authors.
    pub(crate) limits: Limits,
    /// The flow guards of the parent.
    pub(crate) flow: FlowGuards,
    /// The registry on a chain.
    pub(crate) registry: Registry,
    /// What contract wallets said of bindings.
    pub(crate) wallets: Wallets,
    /// Reputations and bans of agents, nodes and hosts.
    pub(crate) reputations: Reputations,
    /// Which agents the node admits.
    pub(crate) admission: AdmissionPolicy,
    /// Windows of frame counters, against replay.
    pub(crate) replay: ReplayWindows,
    /// Results of checks of binding signatures.
    pub(crate) binding_cache: BindingCache,
    /// Records and frames that wait for the check of a binding signature.
    pub(crate) pending_verification: PendingVerifications,
    /// Limits the rate of high-priority messages of each author.
    pub(crate) high_priority_limiter: HighPriorityLimiter,
    /// The sender of the last frame: many frames in a row have one sender.
    last_names: Option<sender::Names>,
}

impl Gate {
    pub(crate) fn new(config: &CoreConfig, now: Now) -> Self {
        let mailed = config.outbox.iter().map(|message| message.recipient);
        Gate {
            access_list: AccessList::new(config.access_rules.iter().copied()),
            tiers: Tiers::new(config.limits_apply, mailed),
            limits: Limits::default(),
            flow: FlowGuards::new(config.flow),
            registry: Registry::new(config.registry),
            wallets: Wallets::new(config.has_chain),
            reputations: Reputations::new(&config.bans, now),
            admission: AdmissionPolicy::new(config.admission),
            replay: ReplayWindows::default(),
            binding_cache: BindingCache::default(),
            pending_verification: PendingVerifications::default(),
            high_priority_limiter: HighPriorityLimiter::default(),
            last_names: None,
        }
    }

    /// Returns the size of each collection, with its limit.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        let [agents, nodes, hosts, bans] = self.reputations.lens();
        [
            (
                "bindings checked",
                self.binding_cache.len(),
                binding_cache::MAX_VALID_BINDINGS + binding_cache::MAX_INVALID_BINDINGS,
            ),
            ("agents with faults", agents, reputation::MAX_STANDINGS),
            ("nodes with faults", nodes, reputation::MAX_STANDINGS),
            ("hosts with faults", hosts, reputation::MAX_STANDINGS),
            ("bans", bans, reputation::MAX_BANS),
            ("known nodes", self.admission.known_nodes(), admission_policy::MAX_KNOWN_NODES),
            ("access rules", self.access_list.len(), access_list::MAX_ACCESS_RULES),
            ("mailed agents", self.tiers.mailed(), tier::MAX_MAILED),
            ("correspondents", self.tiers.correspondents(), tier::MAX_MAILED),
            ("replay windows", self.replay.len(), envelope::replay::MAX_WINDOWS),
            ("node keys with evicted replay windows", self.replay.outlived(), envelope::replay::MAX_OUTLIVED),
            ("checks of bindings", self.pending_verification.checks(), pending_verification::MAX_CHECKS),
            ("pending verifications", self.pending_verification.len(), pending_verification::MAX_PENDING),
            (
                "authors of high-priority messages",
                self.high_priority_limiter.len(),
                high_priority_limiter::MAX_AUTHORS,
            ),
        ]
        .into_iter()
        .map(|(name, size, limit)| Usage { name, size, limit })
        .chain(self.flow.usage())
        .chain(self.limits.usage())
        .chain(self.registry.usage())
        .chain(self.wallets.usage())
        .collect()
    }
}

#[cfg(test)]
mod tests;
