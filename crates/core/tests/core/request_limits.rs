//! Limits of requests: many at once, and too many.

use std::time::Duration;

use p2p_node_protocol::Counter;
use serde_json::{Value, json};

use crate::mesh::Mesh;
use crate::requests::{
    ask, assert_usage_is_within_limits, count, end, mesh, requests, respond_to, responses,
};

/// Writes many requests of node 0 and lets them arrive.
fn ask_many(mesh: &mut Mesh, ids: std::ops::Range<u32>) {
    let to = mesh.nodes[1].address.clone();
    for id in ids {
        let line = json!({"type": "request", "id": id, "peerId": to, "kind": "sum", "data": id, "deadlineMs": 60_000});
        mesh.queue_command(0, &line.to_string());
        if id % 500 == 0 {
            mesh.settle();
        }
    }
    mesh.settle();
    mesh.advance(Duration::from_secs(2));
}

/// Writes the answers of node 1 to these requests and lets them arrive.
fn answer_all<'a>(mesh: &mut Mesh, requests: impl Iterator<Item = &'a Value>) {
    for request in requests {
        let line = json!({"type": "respond", "ticket": request["ticket"], "data": request["data"]});
        mesh.queue_command(1, &line.to_string());
        if request["data"].as_u64().unwrap() % 500 == 0 {
            mesh.settle();
        }
    }
    mesh.settle();
}

fn ends(mesh: &Mesh, kind: &str) -> usize {
    mesh.lines(0, kind).iter().filter(|line| line["id"].is_u64()).count()
}

#[test]
fn ten_thousand_requests_at_once_are_answered() {
    let mut mesh = mesh(2);
    ask_many(&mut mesh, 0..10_000);
    assert_usage_is_within_limits(&mesh);
    let tickets: Vec<Value> = requests(&mesh, 1);
    assert_eq!((tickets.len(), ends(&mesh, "result")), (10_000, 0));
    assert!(mesh.reads_stdin(0), "open requests do not stop the commands behind them");
    answer_all(&mut mesh, tickets.iter().rev());
    mesh.advance(Duration::from_secs(2));
    assert_eq!((ends(&mesh, "result"), ends(&mesh, "error")), (10_000, 0));
    assert!(mesh.lines(0, "response").iter().all(|line| line["requestId"] == line["data"]));
    assert_eq!(count(&mesh, 0, Counter::ResponsesReceived), 10_000);
    assert_usage_is_within_limits(&mesh);
}

#[test]
fn answers_to_a_parent_that_reads_late_wait_and_none_is_lost() {
    let mut mesh = mesh(2);
    ask_many(&mut mesh, 0..10_000);
    mesh.nodes[0].reads = false;
    let tickets = requests(&mesh, 1);
    answer_all(&mut mesh, tickets.iter());
    mesh.advance(Duration::from_secs(2));
    let waiting = count(&mesh, 0, Counter::ResponsesReceived);
    assert!((1_000..10_000).contains(&waiting), "the room for answers is not in use: {waiting}");
    mesh.nodes[0].reads = true;
    mesh.settle();
    mesh.advance(Duration::from_secs(50));
    assert_eq!((ends(&mesh, "result"), ends(&mesh, "error")), (10_000, 0));
}

#[test]
fn requests_above_the_limits_of_asker_and_handler_are_refused_with_busy() {
    let mut mesh = mesh(2);
    ask_many(&mut mesh, 0..16_384);
    // The handler takes 10,240 requests of one agent.
    assert_eq!(requests(&mesh, 1).len(), 10_240);
    let refused: Vec<_> = mesh.lines(0, "error").iter().map(|line| line["code"].clone()).collect();
    assert!(refused.iter().all(|code| *code == "PEER_BUSY"), "{refused:?}");
    assert_eq!(refused.len(), 16_384 - 10_240);
    let unknown = crate::mesh::agent_key(0x77).address().to_string();
    for id in 0..(16_384 - 10_240) {
        let line = json!({"type": "request", "id": format!("u{id}"), "peerId": unknown, "data": 1});
        mesh.queue_command(0, &line.to_string());
    }
    mesh.settle();
    assert_usage_is_within_limits(&mesh);
    ask(&mut mesh, "one too many", json!({}));
    assert_eq!(end(&mesh, "one too many")["code"], "BUSY");
    let ticket = requests(&mesh, 1)[0]["ticket"].clone();
    respond_to(&mut mesh, 1, &ticket, json!({"data": 1}));
    ask(&mut mesh, "room again", json!({}));
    assert_eq!(requests(&mesh, 1).len(), 10_241);
}

#[test]
fn slow_handler_delays_neither_messages_nor_other_requests() {
    let mut mesh = mesh(3);
    ask_many(&mut mesh, 0..100);
    let other = mesh.nodes[2].address.clone();
    ask(&mut mesh, "q", json!({"peerId": other}));
    mesh.send(0, 1, 7, "");
    mesh.settle();
    assert_eq!(mesh.received(1), [7]);
    let ticket = requests(&mesh, 2)[0]["ticket"].clone();
    respond_to(&mut mesh, 2, &ticket, json!({"data": 3}));
    assert_eq!((&end(&mesh, "q")["type"], responses(&mesh, "q").len()), (&json!("result"), 1));
}

#[test]
fn client_that_reads_nothing_gets_no_more_requests_than_it_has_room_for() {
    let mut mesh = mesh(2);
    mesh.nodes[1].reads = false;
    let data = "x".repeat(100_000);
    for id in 0..400 {
        ask(&mut mesh, &format!("q{id}"), json!({"data": data, "deadlineMs": 20_000}));
    }
    assert_usage_is_within_limits(&mesh);
    mesh.advance(Duration::from_secs(21));
    assert_usage_is_within_limits(&mesh);
    let ended = mesh.lines(0, "error").len();
    assert_eq!(ended, 400, "each request ends at its deadline at the latest");
}
