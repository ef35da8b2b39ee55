//! A chain in memory: the registry of agents, contract wallets and ENS.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use bytes::Bytes;
use p2p_node_core::chain::{AgentInfo, AgentQuery, ChainCommand, ChainEvent};

/// The registry and the names that all nodes read.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// The entries. Other agents are not registered.
    pub agents: BTreeMap<Address, AgentInfo>,
    /// The contract wallets, each with the signature that it accepts for anything.
    pub wallets: BTreeMap<Address, Bytes>,
    /// `true` while requests have no answer at all, not even an error.
    pub is_silent: bool,
    /// `true` while no server answers.
    pub is_down: bool,
    /// Number of reads so far.
    pub reads: usize,
    /// The addresses of names. Other names have none.
    pub names: BTreeMap<String, Address>,
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
        let reason = || "the servers are down".to_owned();
        let info = |agent: &Address| Some(self.agents.get(agent).cloned().unwrap_or_default());
        match command {
            ChainCommand::ReportInteraction(report) => {
                let outcome = Err("the chain of the simulator takes no reports".to_owned());
                ChainEvent::InteractionReported { agent: report.agent, outcome }
            }
            ChainCommand::AskWallet(question) => {
                let is_valid = self.wallets.get(&question.account) == Some(&question.signature);
                let outcome = (!self.is_down).then_some(is_valid);
                ChainEvent::WalletAsked { binding: question.binding, outcome }
            }
            ChainCommand::ResolveName { token, name } => {
                let address = self.names.get(name.as_str()).copied();
                let outcome = if self.is_down { Err(reason()) } else { Ok(address) };
                ChainEvent::NameResolved { token, outcome }
            }
            ChainCommand::ReadAgents { token, .. } | ChainCommand::ReadEntry { token, .. }
                if self.is_down =>
            {
                ChainEvent::ReadFailed { token, reason: reason() }
            }
            ChainCommand::ReadEntry { token, query: AgentQuery { agent, .. } } => {
                let name = self.names.iter().find(|(_, address)| **address == agent);
                let ens_name = name.and_then(|(name, _)| name.parse().ok());
                ChainEvent::EntryRead { token, agent, info: info(&agent), ens_name }
            }
            ChainCommand::ReadAgents { token, agents } => {
                let entry = |AgentQuery { agent, .. }| (agent, info(&agent));
                ChainEvent::AgentsRead { token, agents: agents.into_iter().map(entry).collect() }
            }
        }
    }
}
