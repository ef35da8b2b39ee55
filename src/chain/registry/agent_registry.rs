//! The `AgentRegistry` of the source document.

use alloy::primitives::{Address, B256, U256};
use alloy::rpc::types::Log;
use alloy::sol_types::{SolCall, SolEvent};
use p2p_node_core::chain::{
    AgentInfo, AgentQuery, Changes, InteractionReport, MAX_METADATA_BYTES, MAX_NAME_BYTES,
};

use super::{Question, cut, invalid};
use crate::chain::contracts::AgentRegistry;
use crate::chain::endpoint::Called;
use crate::chain::server_error::ServerError;

pub(super) fn events() -> Vec<B256> {
    vec![
        AgentRegistry::AgentRegistered::SIGNATURE_HASH,
        AgentRegistry::AgentDeactivated::SIGNATURE_HASH,
        AgentRegistry::AgentBlocked::SIGNATURE_HASH,
        AgentRegistry::AgentUnblocked::SIGNATURE_HASH,
    ]
}

/// Each event has the agent as its first indexed field.
pub(super) fn changes<'a>(logs: impl Iterator<Item = &'a Log>) -> Changes {
    let agents = logs.filter_map(|log| log.topics().get(1)).map(|topic| Address::from_word(*topic));
    Changes { agents: agents.collect(), ids: Vec::new() }
}

pub(super) fn questions(registry: Address, query: &AgentQuery) -> Vec<Question> {
    vec![(registry, AgentRegistry::getAgentInfoCall { agent: query.agent }.abi_encode().into())]
}

pub(super) fn registration(name: &str, metadata: &str) -> Vec<u8> {
    AgentRegistry::registerAgentCall { name: name.to_owned(), metadata: metadata.to_owned() }.abi_encode()
}

pub(super) fn report(report: &InteractionReport) -> Vec<u8> {
    AgentRegistry::reportInteractionCall { agent: report.agent, positive: report.is_positive }.abi_encode()
}

/// Decodes the entry of an agent. Some registries revert for an agent that they do not know.
pub(super) fn entry(answers: Vec<Called>) -> Result<Option<AgentInfo>, ServerError> {
    let bytes = match answers.into_iter().next() {
        Some(Called::Returned(bytes)) => bytes,
        Some(Called::Reverted) => return Ok(Some(AgentInfo::default())),
        Some(Called::TooLarge) | None => return Ok(None),
    };
    let entry = AgentRegistry::getAgentInfoCall::abi_decode_returns_validate(&bytes).map_err(invalid)?;
    let registered_at = saturating(entry.registrationTime);
    Ok(Some(AgentInfo {
        is_active: entry.isActive,
        is_blocked: entry.isBlocked,
        name: cut(entry.name, MAX_NAME_BYTES),
        metadata: cut(entry.metadata, MAX_METADATA_BYTES),
        reputation: (registered_at > 0).then(|| saturating(entry.reputation)),
        registered_at,
    }))
}

fn saturating(number: U256) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn entry_of(called: Called) -> Result<Option<AgentInfo>, ServerError> {
        entry(vec![called])
    }

    fn encoded(name: &str, metadata: &str) -> Bytes {
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
        let info = entry_of(Called::Returned(encoded(&format!("x{long}"), &long))).unwrap().unwrap();
        assert_eq!((info.name.len(), info.metadata.len()), (MAX_NAME_BYTES - 1, MAX_METADATA_BYTES));
        assert_eq!((info.reputation, info.registered_at), (Some(u64::MAX), 7));
    }

    #[test]
    fn reverted_call_means_an_unknown_agent_and_an_empty_answer_an_error() {
        assert_eq!(entry_of(Called::Reverted), Ok(Some(AgentInfo::default())));
        assert_eq!(entry_of(Called::TooLarge), Ok(None));
        assert!(matches!(entry_of(Called::Returned(Bytes::new())), Err(ServerError::Invalid(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_entry_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = entry_of(Called::Returned(bytes.into()));
        }

        #[test]
        fn changed_entry_is_an_entry_or_an_error(at in 0_usize..400, value: u8) {
            let mut bytes = encoded("a name", "metadata").to_vec();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = entry_of(Called::Returned(bytes.into()));
        }
    }
}
