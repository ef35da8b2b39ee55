//! Requests to a list of agents and to a topic.

use std::time::Duration;

use p2p_node_protocol::{Counter, Role};
use serde_json::{Value, json};

use crate::mesh::{Mesh, agent_key};
use crate::requests::{
    ask, assert_usage_is_within_limits, count, end, has_ended, mesh, requests, respond, responses,
};

fn addresses(mesh: &Mesh, nodes: std::ops::Range<usize>) -> Vec<String> {
    mesh.nodes[nodes].iter().map(|node| node.address.clone()).collect()
}

fn ask_list(mesh: &mut Mesh, id: &str, nodes: std::ops::Range<usize>, more: Value) {
    let mut fields = json!({"peerId": null, "peerIds": addresses(mesh, nodes)});
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ask(mesh, id, fields);
}

#[test]
fn request_to_a_list_ends_with_the_last_answer() {
    let mut mesh = mesh(4);
    ask_list(&mut mesh, "q", 1..4, json!({}));
    for node in [2, 1] {
        respond(&mut mesh, node, json!({"data": node}));
    }
    assert!(!has_ended(&mesh, "q"));
    respond(&mut mesh, 3, json!({"error": {"code": "TIRED", "message": "later"}}));
    let answers: Vec<_> = responses(&mesh, "q").iter().map(|line| line["data"].clone()).collect();
    assert_eq!(answers, [json!(2), json!(1), Value::Null]);
    let failed = &responses(&mesh, "q")[2];
    assert_eq!(
        failed["error"],
        json!({"code": "HANDLER_FAILED", "message": "later", "handlerCode": "TIRED"})
    );
    assert_eq!((&failed["from"], &failed["last"]), (&json!(mesh.nodes[3].address), &json!(true)));
    let end = end(&mesh, "q");
    assert_eq!(
        (&end["type"], &end["answers"], &end["complete"]),
        (&json!("result"), &json!(2), &json!(false))
    );
    assert_eq!(end["missing"], json!([mesh.nodes[3].address]));
}

#[test]
fn quorum_ends_the_request_and_stops_the_other_handlers() {
    let mut mesh = mesh(5);
    ask_list(&mut mesh, "q", 1..5, json!({"quorum": 2}));
    respond(&mut mesh, 1, json!({"data": 1}));
    respond(&mut mesh, 4, json!({"data": 4}));
    assert_eq!((&end(&mesh, "q")["answers"], &end(&mesh, "q")["complete"]), (&json!(2), &json!(false)));
    for node in [2, 3] {
        assert_eq!(mesh.lines(node, "request_cancelled").len(), 1);
        assert_eq!(respond(&mut mesh, node, json!({"data": 1}))["code"], "TICKET_NOT_FOUND");
    }
    assert_eq!(responses(&mesh, "q").len(), 2);
}

#[test]
fn quorum_that_cannot_be_reached_any_more_fails_at_once() {
    let mut mesh = mesh(4);
    mesh.command(2, r#"{"type":"handle","kinds":[]}"#);
    ask_list(&mut mesh, "q", 1..4, json!({"quorum": 3}));
    let end_line = end(&mesh, "q");
    assert_eq!(
        (&end_line["code"], &end_line["details"]["quorum"]),
        (&json!("QUORUM_NOT_REACHED"), &json!(3))
    );
    assert_eq!(responses(&mesh, "q")[0]["error"]["code"], "NO_HANDLER");
    assert!(
        [1, 3].iter().all(
            |node| requests(&mesh, *node).is_empty() || mesh.lines(*node, "request_cancelled").len() == 1
        )
    );
    ask_list(&mut mesh, "late", 1..4, json!({"quorum": 2, "deadlineMs": 1000}));
    respond(&mut mesh, 1, json!({"data": 1}));
    mesh.advance(Duration::from_secs(1));
    let end_line = end(&mesh, "late");
    assert_eq!(
        (&end_line["code"], &end_line["details"]["answers"]),
        (&json!("QUORUM_NOT_REACHED"), &json!(1))
    );
}

#[test]
fn agent_that_a_list_names_twice_is_asked_once() {
    let mut mesh = mesh(2);
    let address = mesh.nodes[1].address.clone();
    ask(&mut mesh, "q", json!({"peerId": null, "peerIds": [address, address.to_lowercase()]}));
    assert_eq!(requests(&mesh, 1).len(), 1);
    respond(&mut mesh, 1, json!({"data": 1}));
    assert_eq!((&end(&mesh, "q")["answers"], &end(&mesh, "q")["missing"]), (&json!(1), &json!([])));
}

#[test]
fn fifty_agents_of_which_ten_are_dead_give_forty_answers_at_the_deadline() {
    let mut mesh = Mesh::new(1);
    for number in 2..=51 {
        let node = mesh.add(number, Role::Full);
        mesh.connect(node, 0);
        mesh.command(node, r#"{"type":"handle","kinds":["sum"]}"#);
    }
    mesh.advance(Duration::from_secs(2));
    for dead in 41..=50 {
        mesh.kill(dead);
    }
    ask_list(&mut mesh, "q", 1..51, json!({"deadlineMs": 3000}));
    for node in 1..41 {
        respond(&mut mesh, node, json!({"data": node}));
    }
    mesh.advance(Duration::from_millis(2999));
    assert!(!has_ended(&mesh, "q"));
    mesh.advance(Duration::from_millis(1));
    let answers: Vec<_> = responses(&mesh, "q").into_iter().filter(|line| line["error"].is_null()).collect();
    assert_eq!(answers.len(), 40);
    let end = end(&mesh, "q");
    assert_eq!(
        (&end["type"], &end["answers"], &end["complete"]),
        (&json!("result"), &json!(40), &json!(false))
    );
    let mut dead = addresses(&mesh, 41..51);
    let mut missing: Vec<String> = serde_json::from_value(end["missing"].clone()).unwrap();
    dead.sort();
    missing.sort();
    assert_eq!(missing, dead);
    assert_usage_is_within_limits(&mesh);
}

fn ask_topic(mesh: &mut Mesh, id: &str, more: Value) {
    let mut fields = json!({"peerId": null, "topic": "jobs"});
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ask(mesh, id, fields);
}

#[test]
fn request_to_a_topic_collects_answers_until_its_deadline_or_quorum() {
    let mut mesh = mesh(5);
    for node in 1..4 {
        mesh.command(node, r#"{"type":"subscribe","topic":"jobs"}"#);
    }
    mesh.command(3, r#"{"type":"handle","kinds":[]}"#);
    mesh.advance(Duration::from_secs(2));
    ask_topic(&mut mesh, "q", json!({"deadlineMs": 2000}));
    mesh.advance(Duration::from_millis(100));
    let asked: Vec<_> = (1..5).map(|node| requests(&mesh, node).len()).collect();
    assert_eq!(asked, [1, 1, 0, 0], "subscribers with a handler");
    assert_eq!(
        (&requests(&mesh, 1)[0]["topic"], &requests(&mesh, 1)[0]["stream"]),
        (&json!("jobs"), &Value::Null)
    );
    assert!(mesh.received(3).is_empty());
    respond(&mut mesh, 1, json!({"data": 1}));
    respond(&mut mesh, 2, json!({"error": {"code": "NO", "message": ""}}));
    assert!(!has_ended(&mesh, "q"));
    mesh.advance(Duration::from_secs(2));
    assert_eq!((&end(&mesh, "q")["type"], &end(&mesh, "q")["answers"]), (&json!("result"), &json!(1)));
    assert_eq!((responses(&mesh, "q").len(), &end(&mesh, "q")["missing"]), (2, &Value::Null));
    ask_topic(&mut mesh, "quorum", json!({"quorum": 1}));
    mesh.advance(Duration::from_millis(100));
    respond(&mut mesh, 2, json!({"data": 2}));
    assert_eq!(end(&mesh, "quorum")["answers"], 1);
    respond(&mut mesh, 1, json!({"data": 1}));
    assert_eq!((responses(&mesh, "quorum").len(), count(&mesh, 0, Counter::ResponsesDropped)), (1, 1));
}

#[test]
fn request_to_a_topic_without_subscribers_says_so() {
    let mut mesh = mesh(2);
    ask_topic(&mut mesh, "q", json!({"deadlineMs": 5000}));
    mesh.advance(Duration::from_secs(5));
    assert_eq!(end(&mesh, "q")["code"], "NO_SUBSCRIBERS");
    let (unknown, known) = (agent_key(0x77).address().to_string(), mesh.nodes[1].address.clone());
    ask(&mut mesh, "list", json!({"peerId": null, "peerIds": [unknown, known], "deadlineMs": 5000}));
    respond(&mut mesh, 1, json!({"data": 1}));
    mesh.advance(Duration::from_secs(5));
    assert_eq!(responses(&mesh, "list")[1]["error"]["code"], "PEER_NOT_FOUND");
    assert_eq!(
        (&end(&mesh, "list")["answers"], &end(&mesh, "list")["missing"]),
        (&json!(1), &json!([unknown]))
    );
}
