//! The connection manager of real processes: connections settle between the watermarks, and mail flows.

use std::time::Duration;

use serde_json::{Value, json};

use crate::child::{Child, tcp_address};

const AGENTS: u8 = 11;
const HIGH: u64 = 6;
/// Checks follow each other by 10 s, and each closes a quarter of what is too much.
const SETTLE: Duration = Duration::from_secs(120);

/// Sends a message from each agent to each other, and waits until all are delivered.
fn mail_between_all(agents: &mut [Child], ready: &[Value], round: &str) {
    let addresses: Vec<String> =
        ready.iter().map(|ready| ready["address"].as_str().unwrap().to_owned()).collect();
    for (from, agent) in agents.iter_mut().enumerate() {
        for (to, recipient) in addresses.iter().enumerate().filter(|(to, _)| *to != from) {
            let id = format!("{round}-{from}-{to}");
            agent.command(json!({"type":"send","peerId":recipient,"data":round,"route":"direct","id":id}));
        }
    }
    for (from, agent) in agents.iter().enumerate() {
        for to in (0..addresses.len()).filter(|to| *to != from) {
            let id = format!("{round}-{from}-{to}");
            let delivery = agent
                .expect("delivery", |event| event["type"] == "delivery" && event["requestId"] == id.as_str());
            assert_eq!(delivery["state"], "delivered", "{delivery}");
        }
    }
}

/// Returns the connected peers, as `peers` lists them.
fn listed(agent: &mut Child, id: &str) -> Vec<Value> {
    agent.command(json!({"type":"peers","id":id}));
    agent.answer(id)["connected"].as_array().unwrap().clone()
}

#[test]
fn connections_settle_between_the_watermarks_and_mail_flows_to_all() {
    let args = ["--high-watermark", "6", "--low-watermark", "4", "--connection-grace", "2"];
    let (mut bootstrap, ready) = Child::join(200, 0, &["--role", "bootstrap"], &[]);
    let entry = [tcp_address(&ready)];
    let (mut agents, ready): (Vec<Child>, Vec<Value>) =
        (0..AGENTS).map(|number| Child::join(201 + number, 0, &args, &entry)).unzip();
    bootstrap.until("all agents joined", |status| status["peers"].as_u64() >= Some(u64::from(AGENTS)));
    mail_between_all(&mut agents, &ready, "first");
    let peer = listed(&mut agents[0], "listed").into_iter().find(|peer| peer["role"] == "bootstrap").unwrap();
    assert!(peer["keptFor"].as_array().unwrap().contains(&json!("bootstrap")), "{peer}");
    let link = &peer["links"][0];
    assert_eq!((&link["direction"], &link["transport"]), (&json!("outbound"), &json!("tcp")), "{peer}");
    assert!(link["remoteAddress"].as_str().unwrap().starts_with("/ip4/127.0.0.1/tcp/"), "{peer}");
    assert!(peer["score"].as_u64() > Some(70) && peer["roundTripMs"].as_u64().is_some(), "{peer}");
    for agent in &mut agents {
        agent.until_within(SETTLE, "few connections", |status| status["peers"].as_u64() <= Some(HIGH));
    }
    let trimmed: u64 = agents
        .iter_mut()
        .map(|agent| {
            agent.until("a status", |_| true)["counters"]["connections_trimmed"].as_u64().unwrap_or(0)
        })
        .sum();
    assert!(trimmed > 0, "eleven agents that all exchange mail have more connections than six");
    for agent in &mut agents {
        let kept = listed(agent, "kept");
        assert!(kept.iter().any(|peer| peer["role"] == "bootstrap"), "the bootstrap peer stays: {kept:?}");
    }
    mail_between_all(&mut agents, &ready, "second");
}

#[test]
fn numbers_of_connections_that_contradict_each_other_are_refused() {
    for (args, message) in [
        (
            vec!["--high-watermark", "20", "--low-watermark", "30"],
            "--low-watermark (30) must not exceed --high-watermark (20)",
        ),
        (
            vec!["--max-connections", "100", "--high-watermark", "120"],
            "--high-watermark (120) must not exceed --max-connections (100)",
        ),
        (vec!["--min-peers", "30"], "--min-peers (30) must not exceed --target-peers (25)"),
        (vec!["--dial-concurrency", "17"], "from 1 to 16"),
    ] {
        let (code, _, stderr) = Child::spawn(&args, &[]).finish();
        assert_eq!(code, 64, "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
    }
}
