//! Searches for agents by topic and by capability.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::{Child, TIMEOUT, tcp_address};

/// Topics of one agent: far more than the 64 names in a record.
const TOPICS: usize = 300;

fn topic(number: usize) -> String {
    format!("subject-{number:03}")
}

/// Searches and returns the agents found and the result.
fn discover(node: &mut Child, id: &str, filter: Value) -> (Vec<Value>, Value) {
    let mut command = json!({"type":"discover","id":id});
    command.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
    node.command(command);
    let result = node.expect("result", |event| event["type"] == "result" && event["id"] == id);
    let mut found = Vec::new();
    while let Some(event) = node.take(|event| event["type"] == "peer_discovered" && event["requestId"] == id)
    {
        found.push(event);
    }
    (found, result)
}

/// Searches again and again until the result is complete and has this number of agents.
fn discover_until(node: &mut Child, filter: &Value, number: usize) -> Vec<Value> {
    let deadline = Instant::now() + TIMEOUT;
    for attempt in 0.. {
        let (found, result) = discover(node, &format!("{filter}-{attempt}"), filter.clone());
        assert_eq!(result["count"], found.len());
        if found.len() == number && result["complete"] == true {
            return found;
        }
        assert!(Instant::now() < deadline, "{filter}: {found:?}, {result}");
    }
    unreachable!("attempts do not end")
}

#[test]
fn agent_with_300_topics_is_found_by_each_and_by_capability() {
    let (_hub, ready) = Child::join(0xB1, 0, &["--role", "bootstrap"], &[]);
    let entry = [tcp_address(&ready)];
    let (mut agent, agent_ready) = Child::join(0xB2, 0, &[], &entry);
    let (mut searcher, _) = Child::join(0xB3, 0, &[], &entry);
    // Without a connection the searcher does not see the subscriptions themselves.
    searcher.command(json!({"type":"block","peerId":agent_ready["peerId"],"id":"block"}));
    assert_eq!(searcher.answer("block")["type"], "result");
    for number in 0..TOPICS {
        agent.command(json!({"type":"subscribe","topic":topic(number),"id":number}));
        assert_eq!(agent.expect("the answer", |event| event["id"] == number)["type"], "result");
    }
    agent.command(json!({"type":"capabilities","capabilities":["review"],"id":"capabilities"}));
    assert_eq!(agent.answer("capabilities")["type"], "result");

    discover_until(&mut searcher, &json!({"topic": topic(TOPICS - 1)}), 1);
    for number in 0..TOPICS {
        let id = format!("topic-{number}");
        let (found, result) = discover(&mut searcher, &id, json!({"topic": topic(number), "timeoutMs": 20}));
        assert_eq!(found.len(), 1, "{number}: {result}");
        assert_eq!(found[0]["address"], agent_ready["address"]);
        let topics = found[0]["topics"].as_array().unwrap();
        assert!(topics.contains(&json!(topic(number))), "{number}: {topics:?}");
    }
    discover_until(&mut searcher, &json!({"capability": "review"}), 1);
    let (found, result) = discover(&mut searcher, "none", json!({"topic": "subject-300"}));
    assert_eq!((found.len(), &result["complete"]), (0, &json!(true)), "{result}");
}

#[test]
fn newcomer_finds_agents_that_it_never_met() {
    let (_hub, ready) = Child::join(0xB4, 0, &["--role", "bootstrap"], &[]);
    let entry = [tcp_address(&ready)];
    let mut agents: Vec<Child> = (0..3).map(|number| Child::join(0xB5 + number, 0, &[], &entry).0).collect();
    for agent in &mut agents {
        agent.command(json!({"type":"subscribe","topic":"news","id":"subscribe"}));
        assert_eq!(agent.answer("subscribe")["type"], "result");
        agent.until("a stored record", |status| status["counters"]["records_published"].as_u64() >= Some(2));
    }
    let (mut newcomer, _) = Child::join(0xB8, 0, &[], &entry);
    let found = discover_until(&mut newcomer, &json!({"topic": "news"}), 3);
    assert!(found.iter().all(|agent| agent["topics"] == json!(["news"])), "{found:?}");
}

#[test]
fn discover_answers_in_time_and_as_incomplete_while_a_server_is_silent() {
    let (_hub, ready) = Child::join(0xB9, 0, &["--role", "bootstrap"], &[]);
    let mut entries = vec![tcp_address(&ready)];
    let (silent, ready) = Child::join(0xBA, 0, &["--role", "bootstrap"], &entries);
    entries.push(tcp_address(&ready));
    let (mut agent, _) = Child::join(0xBB, 0, &[], &entries);
    agent.command(json!({"type":"capabilities","capabilities":["review"],"id":"capabilities"}));
    let (mut searcher, _) = Child::join(0xBC, 0, &[], &entries);
    discover_until(&mut searcher, &json!({"capability": "review"}), 1);

    silent.signal(rustix::process::Signal::STOP);
    let start = Instant::now();
    let (found, result) =
        discover(&mut searcher, "silent", json!({"capability": "review", "timeoutMs": 1000}));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!((found.len(), &result["complete"]), (1, &json!(false)), "{result}");
    silent.signal(rustix::process::Signal::CONT);
}

#[test]
fn discover_of_a_node_without_peers_is_incomplete() {
    let (mut node, _) = Child::join(0xBD, 0, &[], &[]);
    let (found, result) = discover(&mut node, "alone", json!({"timeoutMs": 10}));
    assert_eq!((found.len(), &result["complete"]), (0, &json!(false)), "{result}");
}
