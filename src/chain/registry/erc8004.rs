//! The identity and reputation registries of ERC-8004. A contract of this kind knows no addresses, so an
//! agent claims an entry in its record, and the node asks whether the entry is the agent's.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::rpc::types::Log;
use alloy::sol_types::{SolCall, SolEvent};
use p2p_node_core::chain::{AgentInfo, AgentQuery, Changes, InteractionReport};

use super::{Question, RegistryContract, invalid};
use crate::chain::contracts::{IdentityRegistry, ReputationRegistry};
use crate::chain::endpoint::Called;
use crate::chain::server_error::ServerError;

/// Key of the metadata that has the wallet of an agent (ERC-8004).
const WALLET_KEY: &str = "agentWallet";
/// Keys of the metadata that `register` writes: our choice.
const NAME_KEY: &str = "name";
const NODE_KEY: &str = "p2p-node";
/// Tag of the feedback that the node gives: our choice.
const FEEDBACK_TAG: &str = "p2p-node";

pub(super) fn events() -> Vec<B256> {
    vec![
        IdentityRegistry::Registered::SIGNATURE_HASH,
        IdentityRegistry::MetadataSet::SIGNATURE_HASH,
        IdentityRegistry::Transfer::SIGNATURE_HASH,
        IdentityRegistry::Approval::SIGNATURE_HASH,
        IdentityRegistry::ApprovalForAll::SIGNATURE_HASH,
    ]
}

pub(super) fn changes<'a>(logs: impl Iterator<Item = &'a Log>) -> Changes {
    let mut changes = Changes::default();
    for log in logs {
        let field = |number: usize| log.topics().get(number).copied();
        let id = match field(0) {
            Some(IdentityRegistry::Registered::SIGNATURE_HASH) => field(1),
            Some(IdentityRegistry::MetadataSet::SIGNATURE_HASH) => {
                field(1).filter(|_| field(2) == Some(keccak256(WALLET_KEY)))
            }
            Some(IdentityRegistry::ApprovalForAll::SIGNATURE_HASH) => {
                changes.agents.extend(field(2).map(Address::from_word));
                None
            }
            _ => field(3),
        };
        changes.ids.extend(id.map(|id| U256::from_be_bytes(id.0)));
    }
    changes
}

/// Returns no question for an agent that claims no entry.
pub(super) fn questions(registry: &RegistryContract, query: &AgentQuery) -> Vec<Question> {
    let Some(id) = query.id else { return Vec::new() };
    let identity = registry.address;
    let mut questions = vec![
        (identity, IdentityRegistry::ownerOfCall { agentId: id }.abi_encode().into()),
        (identity, IdentityRegistry::getAgentWalletCall { agentId: id }.abi_encode().into()),
        (
            identity,
            IdentityRegistry::isAuthorizedOrOwnerCall { spender: query.agent, agentId: id }
                .abi_encode()
                .into(),
        ),
    ];
    if let Some(reputation) = registry.reputation() {
        let summary = ReputationRegistry::getSummaryCall {
            agentId: id,
            clientAddresses: registry.reviewers.clone(),
            tag1: String::new(),
            tag2: String::new(),
        };
        questions.push((reputation, summary.abi_encode().into()));
    }
    questions
}

/// The name and the metadata become metadata of the entry; the entry has no file about the agent, whose
/// record says more.
pub(super) fn registration(name: &str, metadata: &str) -> Vec<u8> {
    let entry = |key: &str, value: &str| IdentityRegistry::MetadataEntry {
        metadataKey: key.to_owned(),
        metadataValue: value.as_bytes().to_vec().into(),
    };
    let metadata = vec![entry(NAME_KEY, name), entry(NODE_KEY, metadata)];
    IdentityRegistry::registerCall { agentURI: String::new(), metadata }.abi_encode()
}

pub(super) fn registered_id<'a>(mut logs: impl Iterator<Item = &'a Log>) -> Option<U256> {
    let log = logs.find(|log| log.topic0() == Some(&IdentityRegistry::Registered::SIGNATURE_HASH))?;
    log.topics().get(1).map(|id| U256::from_be_bytes(id.0))
}

/// Feedback is 100 or 0, without decimals.
pub(super) fn report(report: &InteractionReport) -> Option<Vec<u8>> {
    let feedback = ReputationRegistry::giveFeedbackCall {
        agentId: report.id?,
        value: if report.is_positive { 100 } else { 0 },
        valueDecimals: 0,
        tag1: FEEDBACK_TAG.to_owned(),
        tag2: String::new(),
        endpoint: String::new(),
        feedbackURI: String::new(),
        feedbackHash: B256::ZERO,
    };
    Some(feedback.abi_encode())
}

/// Decodes the answers. An entry is of its owner, of its wallet, and of an account that the owner approved. The
/// contract reverts for an entry that does not exist.
pub(super) fn entry(query: &AgentQuery, answers: Vec<Called>) -> Result<Option<AgentInfo>, ServerError> {
    if answers.contains(&Called::TooLarge) {
        return Ok(None);
    }
    let mut answers = answers.into_iter().map(|answer| match answer {
        Called::Returned(bytes) => Some(bytes),
        Called::Reverted | Called::TooLarge => None,
    });
    let mut next = || answers.next().flatten();
    let owner = next().map(|bytes| IdentityRegistry::ownerOfCall::abi_decode_returns_validate(&bytes));
    let wallet =
        next().map(|bytes| IdentityRegistry::getAgentWalletCall::abi_decode_returns_validate(&bytes));
    let approved =
        next().map(|bytes| IdentityRegistry::isAuthorizedOrOwnerCall::abi_decode_returns_validate(&bytes));
    let summary = next().map(|bytes| ReputationRegistry::getSummaryCall::abi_decode_returns_validate(&bytes));
    let owner = owner.transpose().map_err(invalid)?;
    let wallet = wallet.transpose().map_err(invalid)?;
    let is_approved = approved.transpose().map_err(invalid)?.unwrap_or(false);
    let summary = summary.transpose().map_err(invalid)?;
    Ok(Some(AgentInfo {
        is_active: owner.is_some()
            && (owner == Some(query.agent) || wallet == Some(query.agent) || is_approved),
        reputation: summary.filter(|summary| summary.count > 0).map(|summary| {
            let scale = 10_i128.checked_pow(summary.summaryValueDecimals.into()).unwrap_or(i128::MAX);
            u64::try_from((summary.summaryValue / scale).max(0)).unwrap_or(u64::MAX)
        }),
        ..AgentInfo::default()
    }))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Bytes, address};
    use proptest::prelude::*;

    use super::*;

    const AGENT: Address = address!("00000000000000000000000000000000000000a1");
    const OTHER: Address = address!("00000000000000000000000000000000000000b2");
    const QUERY: AgentQuery = AgentQuery { agent: AGENT, id: Some(U256::ZERO) };

    fn returned(bytes: Vec<u8>) -> Called {
        Called::Returned(Bytes::from(bytes))
    }

    fn answers(owner: Address, wallet: Address, is_approved: bool) -> Vec<Called> {
        vec![
            returned(IdentityRegistry::ownerOfCall::abi_encode_returns(&owner)),
            returned(IdentityRegistry::getAgentWalletCall::abi_encode_returns(&wallet)),
            returned(IdentityRegistry::isAuthorizedOrOwnerCall::abi_encode_returns(&is_approved)),
        ]
    }

    #[test]
    fn entry_is_of_its_owner_its_wallet_and_of_an_approved_agent_only() {
        let is_active = |answers| entry(&QUERY, answers).unwrap().unwrap().is_active;
        assert!(is_active(answers(AGENT, Address::ZERO, false)));
        assert!(is_active(answers(OTHER, AGENT, false)));
        assert!(is_active(answers(OTHER, OTHER, true)));
        assert!(!is_active(answers(OTHER, OTHER, false)));
        assert!(!is_active(vec![Called::Reverted; 3]), "the entry does not exist");
        assert!(!is_active(Vec::new()), "the agent claims none");
        assert_eq!(entry(&QUERY, vec![Called::TooLarge, Called::Reverted, Called::Reverted]), Ok(None));
    }

    #[test]
    fn reputation_is_the_whole_part_of_the_mean_and_absent_without_feedback() {
        let reputation = |count, value, decimals| {
            let summary = ReputationRegistry::getSummaryReturn {
                count,
                summaryValue: value,
                summaryValueDecimals: decimals,
            };
            let mut all = answers(AGENT, AGENT, true);
            all.push(returned(ReputationRegistry::getSummaryCall::abi_encode_returns(&summary)));
            entry(&QUERY, all).unwrap().unwrap().reputation
        };
        assert_eq!(reputation(3, 8_799, 2), Some(87));
        assert_eq!(reputation(3, -5, 0), Some(0));
        assert_eq!(reputation(1, i128::MAX, 0), Some(u64::MAX));
        assert_eq!(reputation(1, 7, 255), Some(0));
        assert_eq!(reputation(0, 0, 0), None);
    }

    proptest! {
        #[test]
        fn any_answers_are_an_entry_or_an_error(
            answers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..5),
        ) {
            let _ = entry(&QUERY, answers.into_iter().map(returned).collect());
        }
    }
}
