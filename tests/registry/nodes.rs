//! Real nodes with a registry on a real chain.

use std::time::{Duration, Instant};

use alloy::primitives::Address;
use p2p_node::chain::contracts::AgentRegistry;
use p2p_node_wire::identity::AgentKey;
use serde_json::{Value, json};

use crate::anvil::{Anvil, OWNER};
use crate::child::{Child, TIMEOUT, tcp_address, test_key};
use crate::servers::Server;

/// Returns the address of a test agent.
pub fn agent(key: u8) -> Address {
    AgentKey::from_hex(&test_key(key)).unwrap().address()
}

/// Starts a node that reads a registry by an RPC server.
fn start(key: u8, policy: &str, registry: Address, url: &str, bootstrap: &[String]) -> (Child, String) {
    start_in("open", key, policy, registry, url, bootstrap)
}

/// As `start`, in this mode of admission.
fn start_in(
    admission: &str,
    key: u8,
    policy: &str,
    registry: Address,
    url: &str,
    bootstrap: &[String],
) -> (Child, String) {
    let registry = registry.to_string();
    let env = [
        ("PRIVATE_KEY", test_key(key)),
        ("REGISTRY_ADDRESS", registry),
        ("RPC_URL", url.to_owned()),
        ("REGISTRY_POLICY", policy.to_owned()),
        ("REGISTRY_DEPTH", "0".to_owned()),
        ("REGISTRY_REFRESH", "0.1".to_owned()),
        ("P2P_NODE_ADMISSION", admission.to_owned()),
    ];
    start_with(&env, bootstrap)
}

/// Starts a node with these settings. Returns it with its address.
pub fn start_with(env: &[(&str, String)], bootstrap: &[String]) -> (Child, String) {
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut child = Child::spawn(&[], &env);
    child.command(json!({"type":"connect","port":0,"bootstrapPeers":bootstrap,"protocol":1,"id":"connect"}));
    let ready = child.expect("ready", |event| event["type"] == "ready");
    (child, tcp_address(&ready))
}

/// Sends a mail, and returns its `delivery`.
pub fn mail(from: &mut Child, to: Address, data: &str) -> Value {
    from.command(json!({"type":"send","peerId":to,"data":data,"id":data}));
    let answer = from.answer(data);
    let id = answer["messageId"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    from.expect("a delivery", |event| event["type"] == "delivery" && event["messageId"] == *id)
}

/// Takes the message with this text.
pub fn message(at: &Child, data: &str) -> Value {
    at.expect("a message", |event| event["type"] == "message" && event["data"] == data)
}

#[test]
fn enforcing_nodes_talk_to_registered_agents_and_refuse_others() {
    let Some(anvil) = Anvil::start() else { return };
    let registry = anvil.deploy("AgentRegistry");
    for (key, name) in [(1, "ann"), (2, "bob"), (3, "eve")] {
        anvil.register(registry, agent(key), name);
    }
    anvil.call(OWNER, registry, &AgentRegistry::blockAgentCall { agent: agent(3) });
    let (mut ann, addr) = start(1, "enforce", registry, &anvil.url(), &[]);
    let entry = [addr];
    let (mut bob, _) = start(2, "enforce", registry, &anvil.url(), &entry);
    assert_eq!(mail(&mut bob, agent(1), "from bob")["state"], "delivered");
    assert_eq!(message(&ann, "from bob")["trust"], "registered");
    assert_eq!(mail(&mut ann, agent(2), "from ann")["state"], "delivered");

    // Eve is blocked, and nobody registered Dan.
    for (key, code) in [(3, "REGISTRY_BLOCKED"), (4, "NOT_REGISTERED")] {
        let (mut other, _) = start(key, "off", registry, &anvil.url(), &entry);
        let delivery = mail(&mut other, agent(1), "let me in");
        assert_eq!((&delivery["state"], &delivery["code"]), (&json!("rejected"), &json!(code)), "{delivery}");
    }

    // A block on the chain disconnects Bob and refuses his next mail; an end of the block admits him.
    anvil.call(OWNER, registry, &AgentRegistry::blockAgentCall { agent: agent(2) });
    let bob_address = agent(2).to_string();
    let lost = ann.expect("peer_disconnected", |event| {
        event["type"] == "peer_disconnected" && event["address"] == *bob_address
    });
    assert!(lost["reason"].as_str().unwrap().contains("REGISTRY_BLOCKED"), "{lost}");
    assert_eq!(mail(&mut bob, agent(1), "blocked")["code"], "REGISTRY_BLOCKED");
    anvil.call(OWNER, registry, &AgentRegistry::unblockAgentCall { agent: agent(2) });
    bob.command(json!({"type":"registry","address":bob_address,"id":"entry"}));
    let entry = bob.answer("entry")["registry"].clone();
    assert_eq!((&entry["name"], &entry["isBlocked"]), (&json!("bob"), &json!(false)), "{entry}");
    let deadline = Instant::now() + TIMEOUT;
    for attempt in 0.. {
        if mail(&mut bob, agent(1), &format!("again {attempt}"))["state"] == "delivered" {
            break;
        }
        assert!(Instant::now() < deadline, "the node does not learn of the end of the block");
    }
    let seen = ann.seen();
    assert!(!seen.iter().any(|event| event["data"] == "let me in" || event["data"] == "blocked"), "{seen:?}");
}

#[test]
fn node_that_admits_registered_agents_refuses_others_with_the_reason() {
    let Some(anvil) = Anvil::start() else { return };
    let registry = anvil.deploy("AgentRegistry");
    for (key, name) in [(1, "ann"), (2, "bob")] {
        anvil.register(registry, agent(key), name);
    }
    let (ann, addr) = start_in("registered", 1, "enforce", registry, &anvil.url(), &[]);
    let entry = [addr];
    // Each of the two reads the other in the registry.
    let (mut bob, _) = start_in("registered", 2, "enforce", registry, &anvil.url(), &entry);
    assert_eq!(mail(&mut bob, agent(1), "from bob")["state"], "delivered");
    assert_eq!(message(&ann, "from bob")["trust"], "registered");
    let (dan, _) = start(4, "off", registry, &anvil.url(), &entry);
    let ended = dan.expect("the end", |event| event["type"] == "peer_disconnected");
    assert!(ended["reason"].as_str().unwrap().contains("NOT_REGISTERED"), "{ended}");
    let seen = ann.seen();
    assert!(!seen.iter().any(|event| event["address"] == agent(4).to_string().as_str()), "{seen:?}");
}

#[test]
fn allowed_agent_needs_no_entry_and_a_warning_node_tells_what_the_registry_says() {
    let Some(anvil) = Anvil::start() else { return };
    let registry = anvil.deploy("AgentRegistry");
    anvil.register(registry, agent(1), "ann");
    let (mut ann, addr) = start(1, "enforce", registry, &anvil.url(), &[]);
    let bob_address = agent(2).to_string();
    ann.command(json!({"type":"allow","peerId":bob_address,"id":"allow"}));
    ann.answer("allow");
    let (mut bob, _) = start(2, "warn", registry, &anvil.url(), &[addr]);
    assert_eq!(mail(&mut bob, agent(1), "allowed")["state"], "delivered");
    assert_eq!(message(&ann, "allowed")["trust"], "allowed");

    let trusts = |ann: &mut Child, bob: &Child, trust: &str| {
        let deadline = Instant::now() + TIMEOUT;
        for attempt in 0.. {
            let data = format!("{trust} {attempt}");
            assert_eq!(mail(ann, agent(2), &data)["state"], "delivered");
            if message(bob, &data)["trust"] == trust {
                return;
            }
            assert!(Instant::now() < deadline, "never {trust}");
        }
    };
    trusts(&mut ann, &bob, "registered");
    anvil.call(OWNER, registry, &AgentRegistry::blockAgentCall { agent: agent(1) });
    trusts(&mut ann, &bob, "blocked");
    anvil.call(OWNER, registry, &AgentRegistry::unblockAgentCall { agent: agent(1) });
    anvil.call(agent(1), registry, &AgentRegistry::deactivateAgentCall {});
    trusts(&mut ann, &bob, "unregistered");
}

#[test]
fn no_mail_is_lost_while_the_servers_are_down() {
    let Some(anvil) = Anvil::start() else { return };
    let registry = anvil.deploy("AgentRegistry");
    for (key, name) in [(1, "ann"), (2, "bob"), (3, "carl")] {
        anvil.register(registry, agent(key), name);
    }
    let url = anvil.url();
    let (mut ann, addr) = start(1, "enforce", registry, &url, &[]);
    let entry = [addr];
    let (mut bob, _) = start(2, "enforce", registry, &url, &entry);
    assert_eq!(mail(&mut bob, agent(1), "before")["state"], "delivered");
    let stopped = anvil.kill();
    // The node knows Bob, and goes on with what it knows.
    for number in 0..20 {
        assert_eq!(mail(&mut bob, agent(1), &format!("while down {number}"))["state"], "delivered");
    }
    // It does not know Carl yet, so his mail waits at its sender.
    let (mut carl, _) = start(3, "off", registry, &url, &entry);
    carl.command(json!({"type":"send","peerId":agent(1),"data":"from carl","id":"send"}));
    carl.answer("send");
    ann.until("a failed read", |status| !status["counters"]["registry_reads_failed"].is_null());
    assert!(!ann.seen().iter().any(|event| event["data"] == "from carl"));
    let _anvil = stopped.restart();
    let delivery =
        carl.expect_within(Duration::from_secs(60), "a delivery", |event| event["type"] == "delivery");
    assert_eq!(delivery["state"], "delivered", "{delivery}");
    assert_eq!(message(&ann, "from carl")["trust"], "registered");
    for number in 0..20 {
        message(&ann, &format!("while down {number}"));
    }
}

#[test]
fn mail_is_as_fast_while_the_server_hangs() {
    let Some(anvil) = Anvil::start() else { return };
    let registry = anvil.deploy("AgentRegistry");
    let silent = Server::start(|_, _| None);
    let mut medians = Vec::new();
    for (policy, url) in [("off", anvil.url()), ("warn", silent.url())] {
        let (ann, addr) = start(1, policy, registry, &url, &[]);
        let (mut bob, _) = start(2, policy, registry, &url, &[addr]);
        mail(&mut bob, agent(1), "first");
        let mut times: Vec<Duration> = (0..200)
            .map(|number| {
                let (began, data) = (Instant::now(), format!("mail {number}"));
                assert_eq!(mail(&mut bob, agent(1), &data)["state"], "delivered");
                assert_eq!(message(&ann, &data)["trust"], "unverified");
                began.elapsed()
            })
            .collect();
        times.sort_unstable();
        medians.push(times[100]);
    }
    eprintln!(
        "median of a mail and its ack: {:?} without a registry, {:?} while its server hangs",
        medians[0], medians[1]
    );
    // A mail that waited for the server would take its timeout of 5 s.
    assert!(medians[1] < Duration::from_secs(1), "{medians:?}");
}

#[test]
fn node_does_not_start_with_servers_of_another_chain() {
    let Some(anvil) = Anvil::start() else { return };
    let registry = anvil.deploy("AgentRegistry").to_string();
    let env =
        [("REGISTRY_ADDRESS", registry.as_str()), ("RPC_URL", &anvil.url()), ("REGISTRY_CHAIN_ID", "1")];
    let mut child = Child::spawn(&[], &env);
    child.command(json!({"type":"connect","port":0,"protocol":1}));
    let error = child.expect("an error", |event| event["type"] == "error");
    assert_eq!(error["code"], "REGISTRY_UNUSABLE", "{error}");
    assert!(error["message"].as_str().unwrap().contains("31337"), "{error}");
    assert_eq!(child.wait().code(), Some(78));
}
