//! Lookups of agents at connected peers: no DHT server is connected, or the DHT has no answer.

use std::time::Duration;

use bytes::Bytes;
use p2p_node_core::input::{Input, Token};
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::{FindAgents, FoundAgents, WIRE_VERSION, strict_decode};
use p2p_node_wire::record::kad_key;
use prost::Message as _;
use serde_json::json;

use crate::forged::admit_unknown;
use crate::mesh::{FaultDecision, Faults, Mesh, agent_key, node_key};

fn is_by_address(question: &Bytes) -> bool {
    !strict_decode::<FindAgents>(question).unwrap().address.is_empty()
}

/// Nobody tells of other agents unless somebody asks for them by address.
fn only_by_address() -> Faults {
    Box::new(|_, input| match input {
        Input::Gossip { .. } => FaultDecision::Drop,
        Input::FindRequestReceived { body, .. } if !is_by_address(body) => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    })
}

/// Agents, each of which is connected to the next one and knows its neighbours alone.
fn row(agents: usize) -> Mesh {
    let mut mesh = Mesh::new(0);
    mesh.faults = only_by_address();
    for node in 0..agents {
        mesh.add(1 + node as u8, Role::Full);
        if node > 0 {
            mesh.connect(node, node - 1);
        }
    }
    mesh
}

/// Searches for the agent of a node for half a second. Returns `true` if it is found.
fn finds(mesh: &mut Mesh, searcher: usize, agent: usize) -> bool {
    let id = format!("{agent} at {:?}", mesh.now);
    let command = json!({"type":"discover","address":mesh.nodes[agent].address,"timeoutMs":500,"id":id});
    mesh.command(searcher, &command.to_string());
    mesh.advance(Duration::from_millis(600));
    let results = mesh.lines(searcher, "result");
    results.into_iter().find(|line| line["id"] == id).expect("a result")["count"] == 1
}

fn count(mesh: &Mesh, node: usize, counter: Counter) -> u64 {
    mesh.nodes[node].core.stats().get(counter)
}

fn open_forwarded(mesh: &Mesh, node: usize) -> usize {
    let usage = mesh.nodes[node].core.usage();
    usage.iter().find(|usage| usage.name == "forwarded questions").expect("a limit").size
}

#[test]
fn mail_reaches_agent_that_only_a_peer_of_a_peer_knows() {
    let mut mesh = row(4);
    mesh.send(0, 3, 7, "");
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.received(3), [7]);
    assert_eq!(count(&mesh, 1, Counter::FindsForwarded), 1);
    assert_eq!(count(&mesh, 2, Counter::FindsForwarded), 0, "a forwarded question is not forwarded");
}

#[test]
fn lookup_at_peers_ends_behind_the_peers_of_a_peer() {
    let mut mesh = row(5);
    assert!(!finds(&mut mesh, 0, 4));
    assert!(finds(&mut mesh, 1, 4));
}

#[test]
fn agent_without_record_in_the_dht_is_found_at_peers() {
    let mut mesh = Mesh::new(3);
    mesh.faults = only_by_address();
    mesh.connect(1, 0);
    mesh.connect(2, 0);
    let hidden = mesh.add(9, Role::Full);
    mesh.connect(hidden, 2);
    assert!(finds(&mut mesh, 1, hidden), "the bootstrap node asks the other agent");
    assert_eq!(count(&mesh, 1, Counter::PeerLookups), 1);
    assert!(finds(&mut mesh, 1, 2));
    assert_eq!(count(&mesh, 1, Counter::PeerLookups), 1, "the DHT has the record of this agent");
}

#[test]
fn false_answer_of_the_dht_does_not_end_a_lookup() {
    for lie in ["junk", "record of another agent"] {
        let mut mesh = Mesh::new(3);
        mesh.faults = only_by_address();
        mesh.connect(1, 0);
        mesh.connect(2, 0);
        let hidden = mesh.add(9, Role::Full);
        mesh.connect(hidden, 2);
        let value = if lie == "junk" { Bytes::from_static(b"junk") } else { mesh.record_in_dht(2).bytes };
        let key = Bytes::copy_from_slice(&kad_key("dev", &agent_key(9).address()));
        mesh.dht_mut().insert(key, value);
        assert!(finds(&mut mesh, 1, hidden), "{lie}: a peer knows the agent");
    }
}

#[test]
fn lookups_of_own_record_ask_no_peer() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    mesh.advance(Duration::from_secs(1));
    mesh.dht_mut().clear();
    mesh.advance(Duration::from_secs(3600));
    assert!(count(&mesh, 1, Counter::DhtLookups) > 0);
    assert_eq!(count(&mesh, 1, Counter::PeerLookups), 0);
}

#[test]
fn other_record_than_the_wanted_one_is_no_answer() {
    // The record of an agent that node 0 does not know comes from the DHT of another mesh.
    let mut other = Mesh::new(3);
    other.connect(2, 0);
    let record = other.record_in_dht(2).bytes;
    let mut mesh = row(2);
    let wanted = agent_key(77).address();
    mesh.faults = Box::new(|_, input| match input {
        Input::FindRequestReceived { .. } | Input::Gossip { .. } => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    mesh.command(
        0,
        &json!({"type":"discover","address":wanted.to_string(),"timeoutMs":900,"id":"d"}).to_string(),
    );
    let before = mesh.lines(0, "peer_discovered").len();
    for token in 0..10_000 {
        let outcome = Ok(answer(record.clone()));
        mesh.input(0, Input::FindResponseReceived { token, outcome });
    }
    assert_eq!(mesh.lines(0, "peer_discovered").len(), before);
}

fn answer(record: Bytes) -> Bytes {
    let found = FoundAgents { version: WIRE_VERSION, records: vec![record], ..FoundAgents::default() };
    found.encode_to_vec().into()
}

/// Asks node 0 of a mesh for an unknown agent.
fn ask(mesh: &mut Mesh, asker: u8, token: Token) {
    let question = FindAgents {
        version: WIRE_VERSION,
        network: "dev".to_owned(),
        limit: 1,
        address: Bytes::copy_from_slice(agent_key(88).address().as_slice()),
        forward: true,
        ..FindAgents::default()
    };
    let peer = node_key(asker).peer_id();
    mesh.input(0, Input::FindRequestReceived { token, peer, body: question.encode_to_vec().into() });
}

#[test]
fn questions_of_each_peer_are_forwarded_up_to_a_rate() {
    let mut mesh = row(2);
    for asker in 20..22 {
        admit_unknown(&mut mesh, 0, asker);
    }
    for token in 0..40 {
        ask(&mut mesh, 20, token);
    }
    assert_eq!(count(&mesh, 0, Counter::FindsForwarded), 32);
    ask(&mut mesh, 21, 40);
    assert_eq!(count(&mesh, 0, Counter::FindsForwarded), 33);
    assert_eq!(count(&mesh, 0, Counter::FindsAnswered), 41);
}

#[test]
fn forwarded_questions_are_bounded_and_end_in_time_without_answers() {
    let mut mesh = row(2);
    mesh.faults = Box::new(|node, input| match input {
        Input::FindRequestReceived { body, .. } if node == 1 || !is_by_address(body) => FaultDecision::Drop,
        Input::Gossip { .. } => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    for asker in 20..26 {
        admit_unknown(&mut mesh, 0, asker);
    }
    let answered = count(&mesh, 0, Counter::FindsAnswered);
    for token in 0..192 {
        ask(&mut mesh, 20 + (token / 32) as u8, token);
    }
    // 32 of the first peer, then each peer gets half of the free places.
    assert_eq!((open_forwarded(&mesh, 0), count(&mesh, 0, Counter::FindsAnswered) - answered), (63, 129));
    mesh.advance(Duration::from_millis(1900));
    assert_eq!(open_forwarded(&mesh, 0), 63);
    mesh.advance(Duration::from_millis(200));
    assert_eq!((open_forwarded(&mesh, 0), count(&mesh, 0, Counter::FindsAnswered) - answered), (0, 192));
}
