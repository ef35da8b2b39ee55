//! Questions for agents: `discover` asks other nodes, and each node answers.

use std::time::Duration;

use bytes::Bytes;
use p2p_node_core::MAX_SUBSCRIPTIONS;
use p2p_node_core::input::{Input, Token};
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::{FindAgents, FoundAgents, WIRE_VERSION};
use p2p_node_wire::record::{encode_topic_hashes, topic_hash};
use prost::Message as _;
use serde_json::{Value, json};

use crate::forged::admit_unknown;
use crate::mesh::{FaultDecision, Mesh};

/// A bootstrap node, and this number of agents that are connected to it alone.
fn star(agents: u8) -> Mesh {
    let mut mesh = Mesh::new(0);
    mesh.add(1, Role::Bootstrap);
    for number in 0..agents {
        let agent = mesh.add(2 + number, Role::Full);
        mesh.connect(agent, 0);
    }
    mesh.advance(Duration::from_secs(5));
    mesh
}

/// Searches, and returns the result after this time.
fn discover(mesh: &mut Mesh, node: usize, filter: Value, time: Duration) -> Value {
    let id = format!("{filter} at {:?}", mesh.now);
    let mut command = json!({"type":"discover","id":id});
    command.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
    mesh.command(node, &command.to_string());
    mesh.advance(time);
    mesh.lines(node, "result").into_iter().find(|line| line["id"] == id).expect("a result").clone()
}

#[test]
fn agent_is_found_by_each_of_the_most_topics() {
    let mut mesh = star(2);
    for number in 0..MAX_SUBSCRIPTIONS {
        mesh.command(1, &json!({"type":"subscribe","topic":format!("subject {number}")}).to_string());
    }
    mesh.advance(Duration::from_secs(5));
    for number in [0, 64, MAX_SUBSCRIPTIONS - 1] {
        let topic = format!("subject {number}");
        let result = discover(&mut mesh, 2, json!({"topic":topic,"timeoutMs":10}), Duration::from_secs(1));
        assert_eq!((&result["count"], &result["complete"]), (&json!(1), &json!(true)), "{topic}");
        let found = mesh.lines(2, "peer_discovered").into_iter().last().expect("an agent");
        assert!(found["topics"].as_array().expect("a list").contains(&json!(topic)));
    }
    let none = discover(&mut mesh, 2, json!({"topic":"none","timeoutMs":10}), Duration::from_secs(1));
    assert_eq!((&none["count"], &none["complete"]), (&json!(0), &json!(true)));
}

#[test]
fn search_without_answer_ends_in_time_and_incomplete() {
    let mut mesh = star(2);
    mesh.faults = Box::new(|_, input| match input {
        Input::FindResponseReceived { outcome: Ok(_), .. } => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    let result = discover(&mut mesh, 1, json!({"timeoutMs":500}), Duration::from_millis(600));
    assert_eq!(result["complete"], false);
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    let result = discover(&mut mesh, 1, json!({}), Duration::from_secs(2));
    assert_eq!((&result["count"], &result["complete"]), (&json!(2), &json!(true)));
}

#[test]
fn search_begins_when_a_peer_connects() {
    let mut mesh = star(1);
    let late = mesh.add(9, Role::Full);
    mesh.advance(Duration::from_secs(1));
    mesh.command(late, r#"{"type":"discover","timeoutMs":3000,"id":"d"}"#);
    mesh.advance(Duration::from_secs(1));
    mesh.connect(late, 0);
    mesh.advance(Duration::from_secs(3));
    let result = mesh.lines(late, "result").into_iter().find(|line| line["id"] == "d").expect("a result");
    assert_eq!((&result["count"], &result["complete"]), (&json!(2), &json!(true)));
}

fn question(change: impl FnOnce(&mut FindAgents)) -> Bytes {
    let mut question = FindAgents {
        version: WIRE_VERSION,
        network: "dev".to_owned(),
        topic_hashes: Bytes::new(),
        capability: String::new(),
        after: Bytes::new(),
        limit: 64,
        address: Bytes::new(),
        forward: false,
    };
    change(&mut question);
    question.encode_to_vec().into()
}

#[test]
fn questions_are_answered_up_to_the_rate_of_each_peer() {
    let mut mesh = star(1);
    let (asker, other) = (admit_unknown(&mut mesh, 0, 20), admit_unknown(&mut mesh, 0, 21));
    let mut ask = |peer, body: Bytes, token: Token| {
        mesh.input(0, Input::FindRequestReceived { token, peer, body });
        let stats = mesh.nodes[0].core.stats();
        (stats.get(Counter::FindsAnswered), stats.get(Counter::FindsRefused))
    };
    let before = ask(asker, question(|_| {}), 1).0 - 1;
    for token in 2..300 {
        ask(asker, question(|_| {}), token);
    }
    let (answered, refused) = ask(other, question(|_| {}), 300);
    assert_eq!((answered - before, refused), (256 + 1, 299 - 256));
    for (token, bad) in [
        question(|question| question.limit = 0),
        question(|question| question.limit = 65),
        question(|question| question.network = "main".to_owned()),
        question(|question| question.after = Bytes::from_static(b"short")),
        question(|question| question.topic_hashes = Bytes::from_static(b"abc")),
        question(|question| {
            question.topic_hashes = encode_topic_hashes(&[topic_hash("t")]);
            question.capability = "both".to_owned();
        }),
        Bytes::from_static(b"?"),
    ]
    .into_iter()
    .enumerate()
    {
        let refused = refused + token as u64 + 1;
        assert_eq!(ask(other, bad, 1000 + token as u64), (answered, refused), "{token}");
    }
}

#[test]
fn peer_that_always_has_more_is_not_asked_for_ever() {
    let mut mesh = star(2);
    let same = FoundAgents {
        version: WIRE_VERSION,
        records: vec![mesh.record_in_dht(2).bytes],
        more: true,
        agents: 1,
        servers: 1,
        partial: false,
    };
    let same = Bytes::from(same.encode_to_vec());
    // The answers of the bootstrap node get lost. In their place come answers that have the same
    // record and promise more.
    let kept = same.clone();
    mesh.faults = Box::new(move |_, input| match input {
        Input::FindResponseReceived { outcome: Ok(body), .. } if *body != kept => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    let before = mesh.nodes[0].core.stats().get(Counter::FindsAnswered);
    mesh.command(1, r#"{"type":"discover","timeoutMs":2000,"id":"d"}"#);
    for token in 0..10_000 {
        mesh.input(1, Input::FindResponseReceived { token, outcome: Ok(same.clone()) });
    }
    let asked = mesh.nodes[0].core.stats().get(Counter::FindsAnswered) - before;
    assert_eq!(asked, 2, "the second answer has nothing new");
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    mesh.advance(Duration::from_secs(3));
    let result = mesh.lines(1, "result").into_iter().find(|line| line["id"] == "d").expect("a result");
    assert_eq!((&result["count"], &result["complete"]), (&json!(2), &json!(true)), "asked anew");
}

#[test]
fn light_node_is_not_asked_for_agents_and_answers_no_question() {
    let mut mesh = Mesh::new(0);
    let full = mesh.add(1, Role::Full);
    let light = mesh.add(2, Role::Light);
    mesh.connect(light, full);
    mesh.advance(Duration::from_secs(2));
    discover(&mut mesh, full, json!({"timeoutMs":1000}), Duration::from_secs(2));
    let counts = |mesh: &Mesh| {
        let stats = mesh.nodes[light].core.stats();
        (stats.get(Counter::FindsAnswered), stats.get(Counter::FindsRefused))
    };
    assert_eq!(counts(&mesh), (0, 0), "not asked");
    let peer = mesh.nodes[full].peer;
    mesh.input(light, Input::FindRequestReceived { token: 9, peer, body: question(|_| {}) });
    assert_eq!(counts(&mesh), (0, 1));
}
