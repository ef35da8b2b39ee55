//! Registries of ERC-8004: an agent claims an entry, and the node asks whether it is the agent's.

use alloy::primitives::{Address, U256};
use alloy::sol;
use p2p_node::chain::ChainConfig;
use p2p_node::chain::contracts::{IdentityRegistry, ReputationRegistry};
use p2p_node::chain::registry::{RegistryContract, RegistryKind};
use p2p_node_core::chain::{AgentQuery, ChainEvent, Changes};
use serde_json::json;

use crate::anvil::{Anvil, OWNER};
use crate::child::test_key;
use crate::commands::run;
use crate::nodes::{agent, mail, message, start_with};
use crate::reads::{config, is_registered, next, open, read_entries};

const ANN: Address = Address::repeat_byte(0xa1);
const BOB: Address = Address::repeat_byte(0xb2);
const EVE: Address = Address::repeat_byte(0xe3);
const FIRST: U256 = U256::ZERO;

sol! {
    function transferFrom(address from, address to, uint256 agentId) external;
    function setAgentWallet(uint256 agentId, address wallet) external;
    function approve(address approved, uint256 agentId) external;
    function setApprovalForAll(address operator, bool approved) external;
}

fn register(anvil: &Anvil, registry: Address, agent: Address) {
    let call = IdentityRegistry::registerCall { agentURI: String::new(), metadata: Vec::new() };
    anvil.call(agent, registry, &call);
}

/// Starts an EVM node with an identity registry whose first entry is Ann's.
fn with_ann() -> Option<(Anvil, Address)> {
    let anvil = Anvil::start()?;
    let registry = anvil.deploy("IdentityRegistry");
    register(&anvil, registry, ANN);
    Some((anvil, registry))
}

fn erc8004(
    anvil: &Anvil,
    address: Address,
    reputation: Option<Address>,
    reviewers: &[Address],
) -> ChainConfig {
    let (kind, reviewers) = (RegistryKind::Erc8004, reviewers.to_vec());
    let registry = Some(RegistryContract { kind, address, reputation, reviewers });
    ChainConfig { registry, ..config(address, &[anvil.url()], 1) }
}

fn claims(agent: Address, id: U256) -> AgentQuery {
    AgentQuery { agent, id: Some(id) }
}

#[tokio::test]
async fn entry_counts_for_its_owner_its_wallet_and_approved_agents_whoever_else_claims_it() {
    let Some((anvil, registry)) = with_ann() else { return };
    let mut chain = open(erc8004(&anvil, registry, None, &[]));
    let queries = [
        claims(ANN, FIRST),
        claims(BOB, FIRST),
        claims(EVE, U256::from(99)),
        AgentQuery { agent: ANN, id: None },
    ];
    for has_multicall in [false, true] {
        if has_multicall {
            anvil.add_multicall();
        }
        let found = read_entries(&mut chain, &queries).await.unwrap();
        let registered: Vec<bool> = found.iter().map(is_registered).collect();
        assert_eq!(registered, [true, false, false, false], "multicall: {has_multicall}");
    }
    let mut registered = async || {
        let queries = [claims(ANN, FIRST), claims(BOB, FIRST), claims(EVE, FIRST)];
        let found = read_entries(&mut chain, &queries).await.unwrap();
        found.iter().map(is_registered).collect::<Vec<_>>()
    };
    anvil.call(ANN, registry, &setAgentWalletCall { agentId: FIRST, wallet: BOB });
    assert_eq!(registered().await, [true, true, false], "the wallet of the entry");
    anvil.call(ANN, registry, &transferFromCall { from: ANN, to: EVE, agentId: FIRST });
    assert_eq!(registered().await, [false, false, true], "a transfer ends the wallet too");
    anvil.call(EVE, registry, &approveCall { approved: BOB, agentId: FIRST });
    assert_eq!(registered().await, [false, true, true]);
    anvil.call(EVE, registry, &setApprovalForAllCall { operator: ANN, approved: true });
    assert_eq!(registered().await, [true, true, true]);
}

#[tokio::test]
async fn changes_name_the_entry_or_the_operator() {
    let Some((anvil, registry)) = with_ann() else { return };
    let mut chain = open(erc8004(&anvil, registry, None, &[]));
    assert_eq!(next(&mut chain).await, ChainEvent::ChangesMissed);
    let changed = |agents: &[Address], ids: &[U256]| {
        ChainEvent::AgentsChanged(Changes { agents: agents.to_vec(), ids: ids.to_vec() })
    };
    anvil.call(ANN, registry, &setAgentWalletCall { agentId: FIRST, wallet: BOB });
    assert_eq!(next(&mut chain).await, changed(&[], &[FIRST]));
    anvil.call(ANN, registry, &setApprovalForAllCall { operator: EVE, approved: true });
    assert_eq!(next(&mut chain).await, changed(&[EVE], &[]));
    register(&anvil, registry, BOB);
    assert_eq!(next(&mut chain).await, changed(&[], &[U256::from(1), U256::from(1)]));
}

#[tokio::test]
async fn only_feedback_of_named_reviewers_makes_the_reputation() {
    let Some((anvil, registry)) = with_ann() else { return };
    let reputation = anvil.deploy("ReputationRegistry");
    for (client, value) in [(BOB, 80), (BOB, 90), (EVE, -100)] {
        let call = ReputationRegistry::giveFeedbackCall {
            agentId: FIRST,
            value,
            valueDecimals: 0,
            tag1: String::new(),
            tag2: String::new(),
            endpoint: String::new(),
            feedbackURI: String::new(),
            feedbackHash: [0; 32].into(),
        };
        anvil.call(client, reputation, &call);
    }
    for (reviewers, expected) in [(&[][..], None), (&[BOB], Some(85)), (&[EVE], Some(0)), (&[OWNER], None)] {
        let mut chain = open(erc8004(&anvil, registry, Some(reputation), reviewers));
        let found = read_entries(&mut chain, &[claims(ANN, FIRST)]).await.unwrap();
        let info = found[0].as_ref().unwrap();
        assert!(info.is_active);
        assert_eq!(info.reputation, expected, "{reviewers:?}");
    }
}

#[test]
fn nodes_admit_the_agent_whose_entry_it_is_and_refuse_one_that_claims_it_too() {
    let Some(anvil) = Anvil::start() else { return };
    let registry = anvil.deploy("IdentityRegistry");
    let (address, url) = (registry.to_string(), anvil.url());
    let env = |key: u8, id: Option<&'static str>| {
        let mut env = vec![
            ("PRIVATE_KEY", test_key(key)),
            ("REGISTRY_KIND", "erc8004".to_owned()),
            ("REGISTRY_ADDRESS", address.clone()),
            ("REGISTRY_CHAIN_ID", "31337".to_owned()),
            ("RPC_URL", url.clone()),
            ("REGISTRY_POLICY", "enforce".to_owned()),
            ("REGISTRY_DEPTH", "0".to_owned()),
            ("REGISTRY_REFRESH", "0.1".to_owned()),
        ];
        env.extend(id.map(|id| ("REGISTRY_AGENT_ID", id.to_owned())));
        env
    };
    // Ann registers by the command, which tells the id of her entry, and only once.
    anvil.request("anvil_setBalance", json!([agent(1), "0xde0b6b3a7640000"]));
    let given = |env: &[(&'static str, String)], args: &[&str]| {
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        run(args, &env)
    };
    let (code, shown, hints) = given(&env(1, None), &["register", "--name", "ann"]);
    assert_eq!(code, 0, "{hints}");
    assert!(shown.contains("agent id  0\n") && hints.contains("REGISTRY_AGENT_ID=0"), "{shown}{hints}");
    let (code, _, hints) = given(&env(1, None), &["register", "--name", "ann"]);
    assert!(code == 65 && hints.contains("REGISTRY_AGENT_ID"), "{code} {hints}");
    let (code, shown, _) = given(&env(1, Some("0")), &["register", "--name", "ann"]);
    assert_eq!((code, shown), (0, format!("{} is registered already\n", agent(1))));
    let (code, _, hints) = given(&env(3, Some("0")), &["register", "--name", "eve"]);
    assert!(code == 65 && hints.contains("is not of"), "{code} {hints}");
    let (code, shown, _) = given(&env(2, None), &["registry", &agent(1).to_string(), "--id", "0"]);
    assert!(code == 0 && shown.contains("registered  yes"), "{shown}");
    register(&anvil, registry, agent(2));

    let (ann, entry) = start_with(&env(1, Some("0")), &[]);
    let bootstrap = [entry];
    let (mut bob, _) = start_with(&env(2, Some("1")), &bootstrap);
    assert_eq!(mail(&mut bob, agent(1), "from bob")["state"], "delivered");
    assert_eq!(message(&ann, "from bob")["trust"], "registered");
    bob.command(json!({"type":"registry","address":agent(1).to_string(),"id":"entry"}));
    assert_eq!(bob.answer("entry")["registry"]["isRegistered"], true);
    // Eve claims Ann's entry, and Dan none.
    for (key, id) in [(3, Some("0")), (4, None)] {
        let (mut other, _) = start_with(&env(key, id), &bootstrap);
        let delivery = mail(&mut other, agent(1), "let me in");
        assert_eq!(delivery["code"], "NOT_REGISTERED", "{delivery}");
    }
}
