//! The chain: what the core asks of it, and what it reports.

pub mod ens_name;

use alloy_primitives::{Address, B256, U256};
use bytes::Bytes;
use p2p_node_protocol::RegistryEntry;
use p2p_node_wire::identity::{BindingHash, SignedBinding};

use crate::cx::Cx;
use crate::effect::Effect;
use crate::input::Token;
use ens_name::EnsName;

/// Longest name of an agent that the node keeps of the registry, in bytes: our choice, twice the longest
/// display name.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest metadata of an agent that the node keeps of the registry, in bytes: our choice.
pub const MAX_METADATA_BYTES: usize = 2048;
/// Largest number of agents in one request: our choice. Their answers are far below the limit of a
/// response, and 100 agents take two requests.
pub const MAX_AGENTS_PER_READ: usize = 64;

/// An agent whose entry the core wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentQuery {
    /// The agent.
    pub agent: Address,
    /// Id of the entry that its record claims in this registry.
    pub id: Option<U256>,
}

/// The entries that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The agents whose entries changed.
    pub agents: Vec<Address>,
    /// Ids of other entries that changed.
    pub ids: Vec<U256>,
}

/// What the registry says of an agent. The texts are the agent's own, so they may be hostile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentInfo {
    /// `true` if the agent registered and did not deactivate itself.
    pub is_active: bool,
    /// `true` if the owner of the registry blocked the agent.
    pub is_blocked: bool,
    /// Name, cut off at `MAX_NAME_BYTES`.
    pub name: String,
    /// Metadata, cut off at `MAX_METADATA_BYTES`.
    pub metadata: String,
    /// Reputation, from 0 to 100 as a rule; `None` if the registry has none of the agent.
    pub reputation: Option<u64>,
    /// Time of the registration, in seconds since 1970; 0 for an unknown agent.
    pub registered_at: u64,
}

impl AgentInfo {
    /// Returns the entry of an agent as a parent reads it.
    pub fn entry(self, agent: &Address, ens_name: Option<EnsName>) -> RegistryEntry {
        RegistryEntry {
            address: agent.to_string(),
            ens_name: ens_name.map(|name| name.to_string()),
            is_registered: self.is_active,
            is_blocked: self.is_blocked,
            name: Some(self.name).filter(|name| !name.is_empty()),
            metadata: Some(self.metadata).filter(|metadata| !metadata.is_empty()),
            reputation: self.reputation,
            registered_at_ms: self.registered_at.saturating_mul(1_000),
        }
    }
}

/// A request to the chain. Each is answered by one `ChainEvent` with its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainCommand {
    /// Reads what the registry says of agents. Answered by `AgentsRead` or `ReadFailed`.
    ReadAgents {
        /// Token of the answer.
        token: Token,
        /// The agents, at most `MAX_AGENTS_PER_READ`.
        agents: Vec<AgentQuery>,
    },
    /// Asks a contract wallet whether a signature is its own. Answered by `WalletAsked`.
    AskWallet(Box<WalletQuestion>),
    /// Reports an interaction to the registry, by a transaction of the agent. Answered by
    /// `InteractionReported`.
    ReportInteraction(InteractionReport),
    /// Reads what the registry says of one agent, and its name in ENS. Answered by `EntryRead` or
    /// `ReadFailed`.
    ReadEntry {
        /// Token of the answer.
        token: Token,
        /// The agent.
        query: AgentQuery,
    },
    /// Reads the address of a name. Answered by `NameResolved`.
    ResolveName {
        /// Token of the answer.
        token: Token,
        /// The name.
        name: EnsName,
    },
}

/// What the node says of an agent to the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InteractionReport {
    /// The agent.
    pub agent: Address,
    /// Id of its entry, in a registry that has ids.
    pub id: Option<U256>,
    /// `true` if the node accepted its mail, `false` if it banned the agent.
    pub is_positive: bool,
}

/// A question to a contract wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletQuestion {
    /// The binding that has the signature.
    pub binding: BindingHash,
    /// Id of the wallet's chain.
    pub chain_id: u64,
    /// Address of the wallet.
    pub account: Address,
    /// The signed hash.
    pub hash: B256,
    /// The signature.
    pub signature: Bytes,
}

impl WalletQuestion {
    /// Returns the question whether the account of a binding made its signature.
    pub fn of(signed: &SignedBinding) -> Self {
        WalletQuestion {
            binding: signed.hash(),
            chain_id: signed.binding.chain_id,
            account: signed.binding.account,
            hash: signed.binding.signing_hash(),
            signature: signed.signature.clone(),
        }
    }
}

/// A report of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainEvent {
    /// What the registry says of the agents of a `ReadAgents`.
    AgentsRead {
        /// Token of the `ReadAgents`.
        token: Token,
        /// The agents. `None` if the servers do not agree on an agent, or its entry is too large.
        agents: Vec<(Address, Option<AgentInfo>)>,
    },
    /// What the registry and ENS say of the agent of a `ReadEntry`.
    EntryRead {
        /// Token of the `ReadEntry`.
        token: Token,
        /// The agent.
        agent: Address,
        /// What the registry says, as in `AgentsRead`.
        info: Option<AgentInfo>,
        /// Its name, if the address of that name is this agent.
        ens_name: Option<EnsName>,
    },
    /// No agent of a `ReadAgents` or `ReadEntry` could be read.
    ReadFailed {
        /// Token of the request.
        token: Token,
        /// Why, for people.
        reason: String,
    },
    /// The answer to an `AskWallet`: `None` if no server answered, or the servers do not agree.
    WalletAsked {
        /// The binding of the `AskWallet`.
        binding: BindingHash,
        /// `true` if the signature is the wallet's.
        outcome: Option<bool>,
    },
    /// The outcome of a `ReportInteraction`.
    InteractionReported {
        /// The agent.
        agent: Address,
        /// The hash of the transaction, or why there is none, for people.
        outcome: Result<String, String>,
    },
    /// The address of the name of a `ResolveName`.
    NameResolved {
        /// Token of the `ResolveName`.
        token: Token,
        /// The address: `None` if the name has none. The error says for people why it could not be read.
        outcome: Result<Option<Address>, String>,
    },
    /// The registry changed these entries.
    AgentsChanged(Changes),
    /// The node may have missed changes.
    ChangesMissed,
    /// The configuration does not fit the chain, so the node must not run.
    Unusable {
        /// Why, for people.
        reason: String,
    },
}

impl Cx {
    /// Sends a request to the chain.
    pub(crate) fn chain(&mut self, command: ChainCommand) {
        self.effects.push_back(Effect::Chain(command));
    }
}
