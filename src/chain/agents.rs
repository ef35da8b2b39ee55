//! Reads what an `AgentRegistry` says of agents, from one server.

use alloy::primitives::{Address, Bytes, U256};
use alloy::sol_types::SolCall;
use futures::stream::{self, StreamExt, TryStreamExt};
use p2p_node_core::chain::{AgentInfo, MAX_METADATA_BYTES, MAX_NAME_BYTES};

use super::contracts::{AgentRegistry, MULTICALL3, Multicall3};
use super::endpoint::{Called, Endpoint};
use super::server_error::ServerError;

/// Calls at the same time to a server whose chain has no Multicall3: our choice, so that public servers
/// do not refuse them.
const CONCURRENT_CALLS: usize = 8;

impl Endpoint {
    /// Returns what the registry says of each agent at a block, in the order of the agents: `None` for an
    /// entry that is too large.
    pub(super) async fn agents(
        &self,
        registry: Address,
        agents: &[Address],
        block: u64,
    ) -> Result<Vec<Option<AgentInfo>>, ServerError> {
        if agents.len() < 2 || !self.has_multicall(block).await? {
            return self.agents_one_by_one(registry, agents, block).await;
        }
        let mut found = self.agents_at_once(registry, agents, block).await?;
        // The entry of another agent may have taken the room or the gas, so those without an answer are
        // read alone.
        let (places, rest): (Vec<usize>, Vec<Address>) =
            agents.iter().enumerate().filter(|(place, _)| found[*place].is_none()).unzip();
        for (place, info) in places.into_iter().zip(self.agents_one_by_one(registry, &rest, block).await?) {
            found[place] = info;
        }
        Ok(found)
    }

    async fn agents_one_by_one(
        &self,
        registry: Address,
        agents: &[Address],
        block: u64,
    ) -> Result<Vec<Option<AgentInfo>>, ServerError> {
        let calls: Vec<_> = agents.iter().map(|agent| self.call(registry, question(*agent), block)).collect();
        stream::iter(calls).buffered(CONCURRENT_CALLS).map(|called| agent_info(called?)).try_collect().await
    }

    /// Reads many agents by one call. The answer has `None` for each agent whose own call failed.
    async fn agents_at_once(
        &self,
        registry: Address,
        agents: &[Address],
        block: u64,
    ) -> Result<Vec<Option<AgentInfo>>, ServerError> {
        let one = |agent: &Address| Multicall3::Call {
            target: registry,
            allowFailure: true,
            callData: question(*agent),
        };
        let calls = agents.iter().map(one).collect();
        let data = Multicall3::aggregate3Call { calls }.abi_encode().into();
        let bytes = match self.call(MULTICALL3, data, block).await {
            Ok(Called::Returned(bytes)) => bytes,
            // All entries together are too large, or take more gas than the server gives.
            Ok(Called::Reverted | Called::TooLarge) | Err(ServerError::Refused(_)) => {
                return Ok(vec![None; agents.len()]);
            }
            Err(error) => return Err(error),
        };
        let results = Multicall3::aggregate3Call::abi_decode_returns_validate(&bytes).map_err(invalid)?;
        if results.len() != agents.len() {
            return Err(ServerError::Invalid("the number of results is wrong".to_owned()));
        }
        let info = |result: Multicall3::CallResult| match result.success {
            true => agent_info(Called::Returned(result.returnData)),
            false => Ok(None),
        };
        results.into_iter().map(info).collect()
    }
}

/// Returns the encoded call that reads the entry of an agent.
fn question(agent: Address) -> Bytes {
    AgentRegistry::getAgentInfoCall { agent }.abi_encode().into()
}

/// Decodes the entry of an agent. Some registries revert for an agent that they do not know.
pub(super) fn agent_info(called: Called) -> Result<Option<AgentInfo>, ServerError> {
    let bytes = match called {
        Called::Returned(bytes) => bytes,
        Called::Reverted => return Ok(Some(AgentInfo::default())),
        Called::TooLarge => return Ok(None),
    };
    let entry = AgentRegistry::getAgentInfoCall::abi_decode_returns_validate(&bytes).map_err(invalid)?;
    Ok(Some(AgentInfo {
        is_active: entry.isActive,
        is_blocked: entry.isBlocked,
        name: cut(entry.name, MAX_NAME_BYTES),
        metadata: cut(entry.metadata, MAX_METADATA_BYTES),
        reputation: saturating(entry.reputation),
        registered_at: saturating(entry.registrationTime),
    }))
}

fn invalid(error: alloy::sol_types::Error) -> ServerError {
    ServerError::Invalid(super::server_error::short(&error.to_string()))
}

fn saturating(number: U256) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}

/// Cuts a text off at a character, at most so many bytes long.
fn cut(mut text: String, max: usize) -> String {
    text.truncate(text.floor_char_boundary(max));
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str, metadata: &str) -> Bytes {
        let entry = AgentRegistry::getAgentInfoReturn {
            name: name.to_owned(),
            metadata: metadata.to_owned(),
            reputation: U256::MAX,
            isActive: true,
            isBlocked: false,
            registrationTime: U256::from(7),
        };
        AgentRegistry::getAgentInfoCall::abi_encode_returns(&entry).into()
    }

    #[test]
    fn texts_of_an_agent_are_cut_off_at_a_character() {
        let long = "ä".repeat(MAX_METADATA_BYTES);
        let info = agent_info(Called::Returned(entry(&format!("x{long}"), &long))).unwrap().unwrap();
        assert_eq!((info.name.len(), info.metadata.len()), (MAX_NAME_BYTES - 1, MAX_METADATA_BYTES));
        assert_eq!((info.reputation, info.registered_at), (u64::MAX, 7));
    }

    #[test]
    fn reverted_call_means_an_unknown_agent_and_an_empty_answer_an_error() {
        assert_eq!(agent_info(Called::Reverted), Ok(Some(AgentInfo::default())));
        assert_eq!(agent_info(Called::TooLarge), Ok(None));
        assert!(matches!(agent_info(Called::Returned(Bytes::new())), Err(ServerError::Invalid(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_entry_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = agent_info(Called::Returned(bytes.into()));
        }

        #[test]
        fn changed_entry_is_an_entry_or_an_error(at in 0_usize..400, value: u8) {
            let mut bytes = entry("a name", "metadata").to_vec();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = agent_info(Called::Returned(bytes.into()));
        }
    }
}
