//! The registry of agents and the contract wallets of a chain, in memory.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use bytes::Bytes;
use p2p_node_core::chain::{AgentInfo, AgentQuery, ChainCommand, ChainEvent};

/// The registry that all nodes read.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// The entries. Other agents are not registered.
    pub agents: BTreeMap<Address, AgentInfo>,
    /// The contract wallets, each with the signature that it accepts for anything.
    pub wallets: BTreeMap<Address, Bytes>,
    /// `true` while no server answers.
    pub is_down: bool,
    /// Number of reads so far.
    pub reads: usize,
}

impl Registry {
    /// Registers an agent.
    pub fn register(&mut self, agent: Address) {
        self.agents.insert(agent, AgentInfo { is_active: true, ..AgentInfo::default() });
    }

    /// Blocks a registered agent, or ends the block.
    pub fn set_blocked(&mut self, agent: &Address, is_blocked: bool) {
        if let Some(info) = self.agents.get_mut(agent) {
            info.is_blocked = is_blocked;
        }
    }

    /// Returns the answer to a request.
    pub fn answer(&mut self, command: ChainCommand) -> ChainEvent {
        self.reads += 1;
        let (token, agents) = match command {
            ChainCommand::ReadAgents { token, agents } => (token, agents),
            ChainCommand::ReportInteraction(report) => {
                let outcome = Err("the chain of the simulator takes no reports".to_owned());
                return ChainEvent::InteractionReported { agent: report.agent, outcome };
            }
            ChainCommand::AskWallet(question) => {
                let is_valid = self.wallets.get(&question.account) == Some(&question.signature);
                let outcome = (!self.is_down).then_some(is_valid);
                return ChainEvent::WalletAsked { binding: question.binding, outcome };
            }
        };
        if self.is_down {
            return ChainEvent::ReadFailed { token, reason: "the registry is down".to_owned() };
        }
        let entry =
            |AgentQuery { agent, .. }| (agent, Some(self.agents.get(&agent).cloned().unwrap_or_default()));
        ChainEvent::AgentsRead { token, agents: agents.into_iter().map(entry).collect() }
    }
}
