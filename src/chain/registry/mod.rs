//! The registry of agents: which contract it is, and what it says of agents.

mod agent_registry;
mod erc8004;

use std::fmt;
use std::str::FromStr;

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::rpc::types::Log;
use alloy::sol_types::SolCall;
use futures::stream::{self, StreamExt, TryStreamExt};
use p2p_node_core::chain::{AgentInfo, AgentQuery, Changes, InteractionReport};

use super::contracts::{ERC8004_IDENTITY, ERC8004_REPUTATION, MULTICALL3, Multicall3};
use super::endpoint::{Called, Endpoint};
use super::server_error::{ServerError, short};

/// Calls at the same time to a server whose chain has no Multicall3: our choice, so that public servers
/// do not refuse them.
const CONCURRENT_CALLS: usize = 8;

/// Largest number of reviewers: our choice. Each makes the questions about 64 agents 2 KiB longer.
pub const MAX_REVIEWERS: usize = 16;

/// Which interface the registry has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistryKind {
    /// The `AgentRegistry` of the source document.
    #[default]
    AgentRegistry,
    /// The identity registry of ERC-8004.
    Erc8004,
}

impl RegistryKind {
    /// Returns the address that many chains have for this kind.
    pub fn known_address(self) -> Option<Address> {
        (self == RegistryKind::Erc8004).then_some(ERC8004_IDENTITY)
    }
}

impl FromStr for RegistryKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "agent-registry" => Ok(RegistryKind::AgentRegistry),
            "erc8004" => Ok(RegistryKind::Erc8004),
            _ => Err("use `agent-registry` or `erc8004`".to_owned()),
        }
    }
}

impl fmt::Display for RegistryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RegistryKind::AgentRegistry => "agent-registry",
            RegistryKind::Erc8004 => "erc8004",
        })
    }
}

/// The registry that a node reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryContract {
    /// Its interface.
    pub kind: RegistryKind,
    /// Its address.
    pub address: Address,
    /// Address of the reputation registry of ERC-8004. `None` for the known one, if the registry is the
    /// known one too.
    pub reputation: Option<Address>,
    /// The clients whose feedback in the reputation registry counts.
    pub reviewers: Vec<Address>,
}

/// A call to a contract: its address and the encoded question.
pub(super) type Question = (Address, Bytes);

impl RegistryContract {
    /// Returns the address of the reputation registry, if feedback of anybody counts.
    fn reputation(&self) -> Option<Address> {
        self.known_reputation().filter(|_| !self.reviewers.is_empty())
    }

    fn known_reputation(&self) -> Option<Address> {
        self.reputation.or_else(|| (self.address == ERC8004_IDENTITY).then_some(ERC8004_REPUTATION))
    }

    /// Returns the events that change what the node keeps of an agent.
    pub(super) fn events(&self) -> Vec<B256> {
        match self.kind {
            RegistryKind::AgentRegistry => agent_registry::events(),
            RegistryKind::Erc8004 => erc8004::events(),
        }
    }

    /// Returns the entries that events of this contract name.
    pub(super) fn changes(&self, logs: &[Log]) -> Changes {
        let own = logs.iter().filter(|log| log.address() == self.address);
        match self.kind {
            RegistryKind::AgentRegistry => agent_registry::changes(own),
            RegistryKind::Erc8004 => erc8004::changes(own),
        }
    }

    /// Returns the calls that read the entry of an agent.
    pub(super) fn questions(&self, query: &AgentQuery) -> Vec<Question> {
        match self.kind {
            RegistryKind::AgentRegistry => agent_registry::questions(self.address, query),
            RegistryKind::Erc8004 => erc8004::questions(self, query),
        }
    }

    /// Returns the entry of an agent, from the answers to the questions: `None` if it is too large.
    pub(super) fn entry(
        &self,
        query: &AgentQuery,
        answers: Vec<Called>,
    ) -> Result<Option<AgentInfo>, ServerError> {
        match self.kind {
            RegistryKind::AgentRegistry => agent_registry::entry(answers),
            RegistryKind::Erc8004 => erc8004::entry(query, answers),
        }
    }

    /// Returns the encoded call that registers the agent that makes it.
    pub(super) fn registration(&self, name: &str, metadata: &str) -> Vec<u8> {
        match self.kind {
            RegistryKind::AgentRegistry => agent_registry::registration(name, metadata),
            RegistryKind::Erc8004 => erc8004::registration(name, metadata),
        }
    }

    /// Returns the contract and the encoded call that reports an interaction, if there is one.
    pub(super) fn report(&self, report: &InteractionReport) -> Option<(Address, Vec<u8>)> {
        match self.kind {
            RegistryKind::AgentRegistry => Some((self.address, agent_registry::report(report))),
            RegistryKind::Erc8004 => Some((self.known_reputation()?, erc8004::report(report)?)),
        }
    }

    /// Returns the id of the entry that a transaction made, if this registry has ids.
    pub(super) fn registered_id(&self, logs: &[Log]) -> Option<U256> {
        match self.kind {
            RegistryKind::AgentRegistry => None,
            RegistryKind::Erc8004 => {
                erc8004::registered_id(logs.iter().filter(|log| log.address() == self.address))
            }
        }
    }

    /// Returns what the registry says of each agent at a block, in the order of the queries: `None` for an
    /// entry that is too large.
    pub(super) async fn read(
        &self,
        endpoint: &Endpoint,
        queries: &[AgentQuery],
        block: u64,
    ) -> Result<Vec<Option<AgentInfo>>, ServerError> {
        let questions: Vec<_> = queries.iter().map(|query| self.questions(query)).collect();
        let number: usize = questions.iter().map(Vec::len).sum();
        if number < 2 || !endpoint.has_multicall(block).await? {
            return self.read_one_by_one(endpoint, queries, block).await;
        }
        let mut found = self.read_at_once(endpoint, queries, questions, block).await?;
        // The entry of another agent may have taken the room or the gas, so those without an answer are
        // read alone.
        let (places, rest): (Vec<usize>, Vec<AgentQuery>) =
            queries.iter().copied().enumerate().filter(|(place, _)| found[*place].is_none()).unzip();
        for (place, info) in places.into_iter().zip(self.read_one_by_one(endpoint, &rest, block).await?) {
            found[place] = info;
        }
        Ok(found)
    }

    async fn read_one_by_one(
        &self,
        endpoint: &Endpoint,
        queries: &[AgentQuery],
        block: u64,
    ) -> Result<Vec<Option<AgentInfo>>, ServerError> {
        let questions: Vec<_> = queries.iter().map(|query| self.questions(query)).collect();
        let lengths: Vec<usize> = questions.iter().map(Vec::len).collect();
        let calls: Vec<_> =
            questions.into_iter().flatten().map(|(to, data)| endpoint.call(to, data, block)).collect();
        let answers: Vec<Called> = stream::iter(calls).buffered(CONCURRENT_CALLS).try_collect().await?;
        let mut answers = answers.into_iter();
        let each = queries.iter().zip(lengths);
        each.map(|(query, number)| self.entry(query, answers.by_ref().take(number).collect())).collect()
    }

    /// Reads many agents by one call. The answer has `None` for each agent with a call that failed.
    async fn read_at_once(
        &self,
        endpoint: &Endpoint,
        queries: &[AgentQuery],
        questions: Vec<Vec<Question>>,
        block: u64,
    ) -> Result<Vec<Option<AgentInfo>>, ServerError> {
        let lengths: Vec<usize> = questions.iter().map(Vec::len).collect();
        let one = |(target, call_data)| Multicall3::Call { target, allowFailure: true, callData: call_data };
        let calls: Vec<_> = questions.into_iter().flatten().map(one).collect();
        let number = calls.len();
        let data = Multicall3::aggregate3Call { calls }.abi_encode().into();
        let bytes = match endpoint.call(MULTICALL3, data, block).await {
            Ok(Called::Returned(bytes)) => bytes,
            // All entries together are too large, or take more gas than the server gives.
            Ok(Called::Reverted | Called::TooLarge) | Err(ServerError::Refused(_)) => {
                return Ok(vec![None; queries.len()]);
            }
            Err(error) => return Err(error),
        };
        let results = Multicall3::aggregate3Call::abi_decode_returns_validate(&bytes).map_err(invalid)?;
        if results.len() != number {
            return Err(ServerError::Invalid("the number of results is wrong".to_owned()));
        }
        let mut results = results.into_iter();
        let each = queries.iter().zip(lengths);
        each.map(|(query, number)| {
            let answers: Vec<_> = results.by_ref().take(number).collect();
            if answers.iter().any(|answer| !answer.success) {
                return Ok(None);
            }
            let returned = answers.into_iter().map(|answer| Called::Returned(answer.returnData));
            self.entry(query, returned.collect())
        })
        .collect()
    }
}

pub(super) fn invalid(error: alloy::sol_types::Error) -> ServerError {
    ServerError::Invalid(short(&error.to_string()))
}

/// Cuts a text off at a character, at most so many bytes long.
fn cut(mut text: String, max: usize) -> String {
    text.truncate(text.floor_char_boundary(max));
    text
}
