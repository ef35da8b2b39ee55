//! The reputation of an agent in the registry: what it takes from the one that a node keeps, and what the
//! node reports.

use std::time::Instant;

use alloy::primitives::Address;
use alloy::sol_types::SolCall;
use p2p_node::chain::contracts::AgentRegistry;
use serde_json::{Value, json};

use crate::anvil::{Anvil, OWNER};
use crate::child::{Child, TIMEOUT, test_key};
use crate::nodes::{agent, mail, message, start_with};

fn env(key: u8, registry: Address, url: &str, reports: &str) -> Vec<(&'static str, String)> {
    vec![
        ("PRIVATE_KEY", test_key(key)),
        ("REGISTRY_ADDRESS", registry.to_string()),
        ("RPC_URL", url.to_owned()),
        ("REGISTRY_DEPTH", "0".to_owned()),
        ("REGISTRY_REFRESH", "0.1".to_owned()),
        ("P2P_NODE_REPORT_INTERACTIONS", reports.to_owned()),
    ]
}

fn reputation(anvil: &Anvil, registry: Address, agent: Address) -> u64 {
    let call = AgentRegistry::getReputationCall { agent };
    let data = alloy::hex::encode_prefixed(call.abi_encode());
    let found = anvil.request("eth_call", json!([{"to": registry, "data": data}, "latest"]));
    u64::from_str_radix(found.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// Waits until `peers` of a node lists an agent in this way.
fn listed(node: &mut Child, agent: Address, is_as_wanted: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    for attempt in 0.. {
        let id = format!("peers {attempt}");
        node.command(json!({"type":"peers","id":id}));
        let answer = node.answer(&id);
        let peers = answer["connected"].as_array().unwrap();
        if peers.iter().any(|peer| peer["address"] == *agent.to_string() && is_as_wanted(peer)) {
            return;
        }
        assert!(Instant::now() < deadline, "{answer}");
    }
}

#[test]
fn node_reports_whose_mail_it_accepted_once_and_only_if_asked_to() {
    let Some(anvil) = Anvil::start() else { return };
    let registry = anvil.deploy("AgentRegistry");
    for (key, name) in [(1, "ann"), (2, "bob"), (3, "dan")] {
        anvil.register(registry, agent(key), name);
    }
    let (ann, entry) = start_with(&env(1, registry, &anvil.url(), "on"), &[]);
    let bootstrap = [entry];
    let (mut bob, _) = start_with(&env(2, registry, &anvil.url(), "off"), &bootstrap);
    let deadline = Instant::now() + TIMEOUT;
    for number in 0.. {
        let text = format!("mail {number}");
        assert_eq!(mail(&mut bob, agent(1), &text)["state"], "delivered");
        assert_eq!(message(&ann, &text)["from"], *agent(2).to_string());
        if reputation(&anvil, registry, agent(2)) > 50 {
            break;
        }
        assert!(Instant::now() < deadline, "the node reports nothing");
    }
    // Further mail is no further report, and Bob was not asked to report.
    let transactions = anvil.request("eth_getTransactionCount", json!([agent(1), "latest"]));
    assert_eq!(mail(&mut bob, agent(1), "more")["state"], "delivered");
    assert_eq!(anvil.request("eth_getTransactionCount", json!([agent(1), "latest"])), transactions);
    assert_eq!(reputation(&anvil, registry, agent(2)), 51);
    assert_eq!(reputation(&anvil, registry, agent(1)), 50);
}

#[test]
fn low_reputation_in_the_registry_shows_in_that_of_a_peer() {
    let Some(anvil) = Anvil::start() else { return };
    let registry = anvil.deploy("AgentRegistry");
    for (key, name) in [(1, "ann"), (2, "bob")] {
        anvil.register(registry, agent(key), name);
    }
    anvil.register(registry, OWNER, "owner");
    for _ in 0..50 {
        anvil.call(
            OWNER,
            registry,
            &AgentRegistry::reportInteractionCall { agent: agent(2), positive: false },
        );
    }
    assert_eq!(reputation(&anvil, registry, agent(2)), 0);
    let (mut ann, entry) = start_with(&env(1, registry, &anvil.url(), "off"), &[]);
    let (mut bob, _) = start_with(&env(2, registry, &anvil.url(), "off"), &[entry]);
    assert_eq!(mail(&mut bob, agent(1), "hello")["state"], "delivered");
    listed(&mut ann, agent(2), |peer| peer["reputation"].as_f64().is_some_and(|found| found < 0.7));
    listed(&mut bob, agent(1), |peer| peer["reputation"] == 1.0);
}
