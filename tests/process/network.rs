//! A network of four bootstrap nodes and six agents: every agent reaches every other over each
//! route, also after restarts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::{Child, tcp_address};

const AGENTS: usize = 6;

struct Network {
    _bootstraps: Vec<Child>,
    entries: Vec<String>,
    agents: Vec<Child>,
    ready: Vec<Value>,
}

fn network(first_key: u8) -> Network {
    let mut bootstraps = Vec::new();
    let mut entries: Vec<String> = Vec::new();
    for index in 0..4 {
        let (child, ready) = Child::join(first_key + index, 0, &["--role", "bootstrap"], &entries);
        entries.push(tcp_address(&ready));
        bootstraps.push(child);
    }
    for bootstrap in &mut bootstraps {
        bootstrap.until("all bootstrap nodes connected", |status| status["peers"].as_u64() >= Some(3));
    }
    let (agents, ready) =
        (0..AGENTS as u8).map(|index| Child::join(first_key + 4 + index, 0, &[], &entries)).unzip();
    Network { _bootstraps: bootstraps, entries, agents, ready }
}

fn address(ready: &Value) -> &str {
    ready["address"].as_str().unwrap()
}

/// Sends a message from every agent to every other, and checks messages and deliveries.
fn send_between_all(network: &mut Network, route: &str) {
    let addresses: Vec<String> = network.ready.iter().map(|ready| address(ready).to_owned()).collect();
    for (from, agent) in network.agents.iter_mut().enumerate() {
        for (to, recipient) in addresses.iter().enumerate().filter(|(to, _)| *to != from) {
            let id = format!("{route}-{from}-{to}");
            agent.command(json!({"type":"send","peerId":recipient,"data":{"from":from,"to":to,"route":route},"route":route,"id":id}));
        }
    }
    let mut message_ids = BTreeMap::new();
    for (from, agent) in network.agents.iter().enumerate() {
        for to in (0..AGENTS).filter(|to| *to != from) {
            let id = format!("{route}-{from}-{to}");
            let answer = agent.answer(&id);
            assert_eq!(
                (&answer["type"], &answer["delivery"]),
                (&json!("result"), &json!("accepted")),
                "{answer}"
            );
            let delivery = agent
                .expect("delivery", |event| event["type"] == "delivery" && event["requestId"] == id.as_str());
            assert_eq!(delivery["state"], "delivered", "{delivery}");
            assert_eq!(delivery["messageId"], answer["messageId"]);
            message_ids.insert((from, to), answer["messageId"].clone());
        }
    }
    for (to, agent) in network.agents.iter().enumerate() {
        for from in (0..AGENTS).filter(|from| *from != to) {
            let message =
                agent.expect("message", |event| event["type"] == "message" && event["data"]["from"] == from);
            assert_eq!(message["from"], addresses[from].as_str(), "{message}");
            assert_eq!(message["peerId"], network.ready[from]["peerId"]);
            assert_eq!(message["messageId"], message_ids[&(from, to)]);
            assert_eq!(message["data"]["to"], to);
            if route != "auto" {
                assert_eq!(message["route"], route, "{message}");
            }
        }
    }
}

/// Asserts that no message and no delivery is left, after all expected ones were taken. The answer
/// to the ping follows all earlier lines.
fn assert_no_duplicates(network: &mut Network) {
    for agent in &mut network.agents {
        agent.command(json!({"type":"ping","id":"last"}));
        agent.answer("last");
        agent.command(json!({"type":"shutdown"}));
        let rest = agent.rest();
        let duplicates: Vec<_> =
            rest.iter().filter(|event| event["type"] == "message" || event["type"] == "delivery").collect();
        assert!(duplicates.is_empty(), "{duplicates:#?}");
    }
}

#[test]
fn agents_reach_each_other_also_after_a_restart_on_another_port() {
    let mut network = network(0x10);
    send_between_all(&mut network, "auto");

    let lost = network.ready[0].clone();
    network.agents[0].kill();
    let (agent, ready) = Child::join(0x14, 0, &[], &network.entries);
    let back = Instant::now();
    assert_eq!(ready["peerId"], lost["peerId"], "the agent key determines the node key");
    assert_ne!(tcp_address(&ready), tcp_address(&lost), "another port");
    network.agents[0] = agent;
    network.ready[0] = ready;
    let recipient = address(&lost).to_owned();
    for (from, sender) in network.agents.iter_mut().enumerate().skip(1) {
        sender.command(
            json!({"type":"send","peerId":recipient,"data":{"again":from},"id":format!("again-{from}")}),
        );
    }
    for from in 1..AGENTS {
        network.agents[0].expect("mail after the restart", |event| event["data"]["again"] == from);
    }
    assert!(back.elapsed() < Duration::from_secs(5), "mail arrived only after {:?}", back.elapsed());
    for (from, sender) in network.agents.iter().enumerate().skip(1) {
        let delivery = sender.expect("delivery", |event| {
            event["type"] == "delivery" && event["requestId"] == format!("again-{from}").as_str()
        });
        assert_eq!(delivery["state"], "delivered");
    }
    assert_no_duplicates(&mut network);
}

#[test]
fn agents_reach_each_other_by_gossip() {
    let mut network = network(0x30);
    send_between_all(&mut network, "gossip");
    assert_no_duplicates(&mut network);
}

#[test]
fn discover_finds_agents_by_address_and_topic() {
    let (_bootstrap, entry) = Child::join(0x50, 0, &["--role", "bootstrap"], &[]);
    let entries = [tcp_address(&entry)];
    let (mut alice, _) = Child::join(0x51, 0, &["-n", "alice"], &entries);
    let (mut bob, bob_ready) = Child::join(0x52, 0, &["-n", "bob"], &entries);
    let bob_address = address(&bob_ready);

    alice.command(json!({"type":"discover","address":bob_address,"timeoutMs":10_000,"id":"by-address"}));
    let found =
        alice.expect("bob", |event| event["type"] == "peer_discovered" && event["requestId"] == "by-address");
    assert_eq!((&found["address"], &found["name"]), (&bob_ready["address"], &json!("bob")));
    assert_eq!(found["peerId"], bob_ready["peerId"]);
    assert_eq!(alice.answer("by-address")["count"], 1);

    bob.command(json!({"type":"subscribe","topic":"jobs","id":"jobs"}));
    bob.answer("jobs");
    alice.command(json!({"type":"send","topic":"jobs","data":"waits for bob's subscription","id":"first"}));
    alice.answer("first");
    let message = bob.expect("the broadcast", |event| event["type"] == "message");
    assert_eq!((&message["topic"], &message["route"]), (&json!("jobs"), &json!("gossip")));

    alice.command(json!({"type":"discover","topic":"jobs","timeoutMs":10_000,"id":"by-topic"}));
    let found =
        alice.expect("bob", |event| event["type"] == "peer_discovered" && event["requestId"] == "by-topic");
    assert_eq!(found["address"], bob_ready["address"]);
    assert!(found["topics"].as_array().unwrap().contains(&json!("jobs")), "{found}");
}

#[test]
fn bootstrap_peer_of_another_network_is_reported_and_disconnected() {
    let (_dev, ready) = Child::join(0xd8, 0, &["--role", "bootstrap"], &[]);
    let flags = ["--network", "other", "--address-scope", "loopback"];
    let (mut other, _) = Child::join(0xd9, 0, &flags, &[tcp_address(&ready)]);
    let error = other.expect("the error", |event| event["type"] == "error");
    assert_eq!((&error["code"], &error["retryable"]), (&json!("WRONG_NETWORK"), &json!(false)));
    assert_eq!(error["details"], json!({"peerId": ready["peerId"], "network": "dev"}));
    other.expect("the disconnection", |event| event["type"] == "peer_disconnected");
    other.until("no peers", |status| status["peers"] == 0);
}

#[test]
fn messages_without_recipient_are_reported() {
    let unknown = "0x000000000000000000000000000000000000dEaD";
    let (mut single, ready) = Child::join(0x58, 0, &[], &[]);
    single.command(json!({"type":"send","topic":"empty","data":1,"id":"broadcast"}));
    assert_eq!(single.answer("broadcast")["peers"], 0);
    single.command(json!({"type":"send","peerId":unknown,"data":1,"ttlMs":300,"id":"mail"}));
    let expired = single.expect("the delivery of the mail", |event| event["requestId"] == "mail");
    assert_eq!(
        (&expired["state"], &expired["code"]),
        (&json!("expired"), &json!("PEER_NOT_FOUND")),
        "{expired}"
    );
    let failed = single.expect("the delivery of the broadcast", |event| event["requestId"] == "broadcast");
    assert_eq!(
        (&failed["state"], &failed["code"]),
        (&json!("expired"), &json!("NO_SUBSCRIBERS")),
        "{failed}"
    );

    single.command(json!({"type":"send","peerId":"12D3KooWKuFX4DETfucjwfbwvnuQUvzwX1gfWbwgiSqQbaMxXMQR","data":1,"id":"peer"}));
    assert_eq!(single.answer("peer")["code"], "PEER_NOT_FOUND");
    single.command(json!({"type":"send","peerId":ready["address"],"data":1,"id":"self"}));
    assert_eq!(single.answer("self")["code"], "INVALID_ARGUMENT");

    let mut plain = Child::spawn(&[], &[]);
    plain.command(json!({"type":"connect","port":0}));
    plain.command(json!({"type":"send","peerId":unknown,"data":1,"ttlMs":200}));
    let error = plain.expect("an error that names the mail", |event| event["type"] == "error");
    assert_eq!(error["code"], "PEER_NOT_FOUND");
    assert!(error["messageId"].is_string(), "{error}");
}

#[test]
fn discover_finds_agent_by_its_current_capability() {
    let (_bootstrap, ready) = Child::join(180, 0, &["--role", "bootstrap"], &[]);
    let entries = [tcp_address(&ready)];
    let (mut reviewer, ready) = Child::join(181, 0, &["--capability", "review,translate"], &entries);
    let (mut searcher, _) = Child::join(182, 0, &[], &entries);
    let reviewer_address = address(&ready).to_owned();
    let mut found = |id: &str, capability: &str| {
        searcher.command(json!({"type":"discover","capability":capability,"timeoutMs":60_000,"id":id}));
        let found = searcher
            .expect("the agent", |event| event["type"] == "peer_discovered" && event["requestId"] == id);
        searcher.command(json!({"type":"cancel","target":id}));
        (found["address"].as_str().map(str::to_owned), found["capabilities"].clone())
    };
    let (by_flag, capabilities) = found("flag", "translate");
    assert_eq!(
        (by_flag.as_deref(), capabilities),
        (Some(&*reviewer_address), json!(["review", "translate"]))
    );
    reviewer.command(json!({"type":"capabilities","capabilities":["plan"],"id":"set"}));
    assert_eq!(reviewer.answer("set")["type"], "result");
    let (by_command, capabilities) = found("command", "plan");
    assert_eq!((by_command.as_deref(), capabilities), (Some(&*reviewer_address), json!(["plan"])));
}
