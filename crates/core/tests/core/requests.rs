//! Requests to one agent: answered, refused, cancelled, late.

use std::time::Duration;

use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};
use serde_json::{Value, json};

use crate::mesh::{CONNECT, FaultDecision, Mesh, agent_key};

/// Returns a mesh of an asker (node 0) and handlers of the kind `sum` on all other nodes.
pub fn mesh(number: u8) -> Mesh {
    let mut mesh = Mesh::new(number);
    for handler in 1..usize::from(number) {
        mesh.connect(handler, 0);
        mesh.command(handler, r#"{"type":"handle","kinds":["sum"]}"#);
    }
    mesh.advance(Duration::from_secs(2));
    mesh
}

/// Writes a request of node 0 to the agent of node 1, with more fields.
pub fn ask(mesh: &mut Mesh, id: &str, more: Value) {
    let mut line =
        json!({"type": "request", "id": id, "peerId": mesh.nodes[1].address, "kind": "sum", "data": [1, 2]});
    line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    mesh.command(0, &line.to_string());
}

/// Returns the requests that a handler got.
pub fn requests(mesh: &Mesh, node: usize) -> Vec<Value> {
    mesh.lines(node, "request").into_iter().cloned().collect()
}

/// Answers the last request that a handler got, with these fields. Returns the answer to the command.
pub fn respond(mesh: &mut Mesh, node: usize, fields: Value) -> Value {
    let ticket = requests(mesh, node).last().expect("a request")["ticket"].clone();
    respond_to(mesh, node, &ticket, fields)
}

pub fn respond_to(mesh: &mut Mesh, node: usize, ticket: &Value, fields: Value) -> Value {
    let id = format!("r{}", mesh.nodes[node].lines.len());
    let mut line = json!({"type": "respond", "id": id, "ticket": ticket});
    line.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    mesh.command(node, &line.to_string());
    let answer = mesh.nodes[node].lines.iter().find(|line| line["id"] == id);
    answer.expect("an answer to `respond`").clone()
}

/// Returns the answers that node 0 got to a request.
pub fn responses(mesh: &Mesh, id: &str) -> Vec<Value> {
    let lines = mesh.lines(0, "response").into_iter();
    lines.filter(|line| line["requestId"] == id).cloned().collect()
}

/// Returns the line that ended a request of node 0. There is one.
pub fn end(mesh: &Mesh, id: &str) -> Value {
    let ends: Vec<_> = mesh.nodes[0].lines.iter().filter(|line| line["id"] == id).collect();
    assert_eq!(ends.len(), 1, "one line with the id {id}: {ends:?}");
    ends[0].clone()
}

pub fn has_ended(mesh: &Mesh, id: &str) -> bool {
    mesh.nodes[0].lines.iter().any(|line| line["id"] == id)
}

pub fn count(mesh: &Mesh, node: usize, counter: Counter) -> u64 {
    mesh.nodes[node].core.stats().get(counter)
}

pub fn assert_usage_is_within_limits(mesh: &Mesh) {
    for node in &mesh.nodes {
        for usage in node.core.usage() {
            assert!(usage.size <= usage.limit, "{}: {} > {}", usage.name, usage.size, usage.limit);
        }
    }
}

#[test]
fn request_reaches_the_handler_and_its_answer_the_asker() {
    let mut mesh = mesh(2);
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    ask(&mut mesh, "q", json!({"deadlineMs": 5000, "traceparent": traceparent}));
    let [request] = &requests(&mesh, 1)[..] else { panic!("one request") };
    assert_eq!(request["from"], mesh.nodes[0].address.as_str());
    assert_eq!(request["peerId"], mesh.nodes[0].peer.to_string());
    assert_eq!((&request["kind"], &request["data"]), (&json!("sum"), &json!([1, 2])));
    assert_eq!((&request["deadlineMs"], &request["credit"]), (&json!(5000), &json!(1)));
    assert_eq!((&request["traceparent"], &request["stream"]), (&json!(traceparent), &Value::Null));
    assert!(!has_ended(&mesh, "q"), "a request ends with its answer");
    assert_eq!(respond(&mut mesh, 1, json!({"data": 3}))["type"], "result");
    let [response] = &responses(&mesh, "q")[..] else { panic!("one answer") };
    assert_eq!(response["from"], mesh.nodes[1].address.as_str());
    assert_eq!(
        (&response["data"], &response["part"], &response["last"]),
        (&json!(3), &json!(0), &json!(true))
    );
    let end = end(&mesh, "q");
    assert_eq!(
        (&end["type"], &end["command"], &end["answers"]),
        (&json!("result"), &json!("request"), &json!(1))
    );
    let position = |kind: &str| mesh.nodes[0].lines.iter().rposition(|line| line["type"] == kind);
    assert!(position("result") > position("response"), "the end comes behind the answer");
    // Nothing of a request looks like a message.
    assert!(
        [0, 1].iter().all(|node| mesh.received(*node).is_empty() && mesh.lines(*node, "delivery").is_empty())
    );
    mesh.advance(Duration::from_secs(10));
    assert!(mesh.lines(1, "request_cancelled").is_empty());
    let answered =
        [Counter::RequestsAccepted, Counter::RequestsAnswered].map(|counter| count(&mesh, 0, counter));
    assert_eq!(answered, [1, 1]);
    assert_eq!((count(&mesh, 1, Counter::RequestsReceived), count(&mesh, 1, Counter::ResponsesSent)), (1, 1));
}

#[test]
fn request_without_a_handler_fails_at_once() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({"kind": "other"}));
    assert_eq!(
        (&end(&mesh, "q")["code"], &end(&mesh, "q")["retryable"]),
        (&json!("NO_HANDLER"), &json!(true))
    );
    mesh.command(1, r#"{"type":"handle","kinds":["*"]}"#);
    ask(&mut mesh, "again", json!({"kind": "other"}));
    assert_eq!(requests(&mesh, 1).len(), 1);
    mesh.command(1, r#"{"type":"handle","kinds":[]}"#);
    ask(&mut mesh, "late", json!({}));
    assert_eq!(end(&mesh, "late")["code"], "NO_HANDLER");
    // The handler answers what it got before it gave the kind up.
    respond(&mut mesh, 1, json!({"data": null}));
    assert_eq!(
        (&end(&mesh, "again")["type"], &responses(&mesh, "again")[0]["data"]),
        (&json!("result"), &Value::Null)
    );
    assert_eq!(count(&mesh, 1, Counter::RequestsRefused), 2);
}

#[test]
fn error_of_the_handler_reaches_the_asker_with_its_code() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({}));
    respond(&mut mesh, 1, json!({"error": {"code": "OVERFLOW", "message": "too large"}}));
    let end = end(&mesh, "q");
    assert_eq!((&end["code"], &end["message"]), (&json!("HANDLER_FAILED"), &json!("too large")));
    let details = json!({"code": "OVERFLOW", "from": mesh.nodes[1].address});
    assert_eq!(end["details"], details);
    assert!(responses(&mesh, "q").is_empty());
}

#[test]
fn deadline_ends_the_request_at_both_ends() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({"deadlineMs": 1000}));
    mesh.advance(Duration::from_millis(999));
    assert!(!has_ended(&mesh, "q") && mesh.lines(1, "request_cancelled").is_empty());
    mesh.advance(Duration::from_millis(1));
    assert_eq!(end(&mesh, "q")["code"], "DEADLINE_EXCEEDED");
    let cancelled = mesh.lines(1, "request_cancelled")[0].clone();
    assert_eq!(
        (&cancelled["reason"], &cancelled["ticket"]),
        (&json!("deadline"), &requests(&mesh, 1)[0]["ticket"])
    );
    assert_eq!(respond(&mut mesh, 1, json!({"data": 3}))["code"], "TICKET_NOT_FOUND");
    assert!(responses(&mesh, "q").is_empty());
    ask(&mut mesh, "default", json!({}));
    mesh.advance(Duration::from_secs(30));
    assert_eq!(end(&mesh, "default")["code"], "DEADLINE_EXCEEDED", "the default deadline is 30 s");
}

#[test]
fn cancel_ends_the_request_and_reaches_the_handler() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({}));
    mesh.command(0, r#"{"type":"cancel","target":"q","id":"c"}"#);
    assert_eq!(end(&mesh, "q")["code"], "CANCELLED");
    assert_eq!(end(&mesh, "c")["cancelled"], true);
    assert_eq!(mesh.lines(1, "request_cancelled")[0]["reason"], "cancelled");
    assert_eq!(respond(&mut mesh, 1, json!({"data": 3}))["code"], "TICKET_NOT_FOUND");
    mesh.command(0, r#"{"type":"cancel","target":"q","id":"c2"}"#);
    assert_eq!(end(&mesh, "c2")["cancelled"], false);
    mesh.advance(Duration::from_secs(31));
    assert_eq!(
        (end(&mesh, "q")["code"].as_str(), mesh.lines(1, "request_cancelled").len()),
        (Some("CANCELLED"), 1)
    );
}

#[test]
fn request_that_is_cancelled_before_it_left_never_reaches_the_handler() {
    let mut mesh = mesh(2);
    mesh.partition(0, 1);
    ask(&mut mesh, "q", json!({}));
    mesh.command(0, r#"{"type":"cancel","target":"q"}"#);
    assert_eq!(end(&mesh, "q")["code"], "CANCELLED");
    let queued = mesh.nodes[0].core.usage().into_iter().find(|usage| usage.name == "messages in the outbox");
    assert_eq!(queued.unwrap().size, 0);
}

#[test]
fn request_to_an_agent_that_nobody_knows_says_so() {
    let mut mesh = mesh(2);
    let unknown = agent_key(0x77).address().to_string();
    ask(&mut mesh, "q", json!({"peerId": unknown, "deadlineMs": 2000}));
    mesh.advance(Duration::from_secs(2));
    assert_eq!(end(&mesh, "q")["code"], "PEER_NOT_FOUND");
    ask(&mut mesh, "peer", json!({"peerId": crate::mesh::node_key(0x77).peer_id().to_string()}));
    assert_eq!(end(&mesh, "peer")["code"], "PEER_NOT_FOUND");
    let known = mesh.nodes[1].peer.to_string();
    ask(&mut mesh, "known", json!({"peerId": known}));
    assert_eq!(requests(&mesh, 1).len(), 1);
}

#[test]
fn request_to_an_agent_that_blocks_the_asker_is_rejected_at_once() {
    let mut mesh = mesh(2);
    let asker = mesh.nodes[0].address.clone();
    mesh.command(1, &json!({"type": "block", "peerId": asker}).to_string());
    ask(&mut mesh, "q", json!({}));
    mesh.advance(Duration::from_millis(100));
    assert!(requests(&mesh, 1).is_empty());
    assert_eq!(end(&mesh, "q")["code"], "PEER_REJECTED");
}

#[test]
fn request_whose_ack_is_lost_calls_the_handler_once() {
    let mut mesh = mesh(2);
    let mut lost = 3;
    mesh.faults = Box::new(move |node, input| match input {
        Input::MailResponseReceived { .. } if node == 0 && lost > 0 => {
            lost -= 1;
            FaultDecision::Drop
        }
        _ => FaultDecision::Deliver,
    });
    ask(&mut mesh, "q", json!({}));
    mesh.fail_open_requests(0);
    mesh.advance(Duration::from_secs(10));
    mesh.fail_open_requests(0);
    mesh.advance(Duration::from_secs(10));
    assert_eq!(requests(&mesh, 1).len(), 1);
    respond(&mut mesh, 1, json!({"data": 3}));
    mesh.advance(Duration::from_secs(5));
    assert_eq!((responses(&mesh, "q").len(), &end(&mesh, "q")["type"]), (1, &json!("result")));
}

#[test]
fn id_of_a_request_is_in_use_until_the_request_ends() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({}));
    mesh.command(0, r#"{"type":"ping","id":"q"}"#);
    let error = mesh.lines(0, "error")[0].clone();
    assert_eq!((&error["code"], &error["details"]["id"]), (&json!("DUPLICATE_ID"), &json!("q")));
    respond(&mut mesh, 1, json!({"data": 3}));
    mesh.command(0, r#"{"type":"ping","id":"q"}"#);
    assert_eq!(mesh.nodes[0].lines.last().unwrap()["command"], "ping");
}

#[test]
fn handler_whose_program_is_gone_leaves_no_asker_waiting() {
    for ends in [Input::StdinClosed, Input::StdoutClosed { broken: false }, Input::Signal] {
        let mut mesh = mesh(2);
        ask(&mut mesh, "q", json!({}));
        mesh.input(1, ends);
        assert_eq!(end(&mesh, "q")["code"], "HANDLER_GONE");
        ask(&mut mesh, "late", json!({"deadlineMs": 1000}));
        mesh.advance(Duration::from_secs(1));
        assert_ne!(end(&mesh, "late")["type"], "result");
    }
}

#[test]
fn asker_that_reads_no_more_cancels_its_requests() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({}));
    mesh.input(0, Input::StdoutClosed { broken: false });
    assert_eq!(mesh.lines(1, "request_cancelled")[0]["reason"], "cancelled");
    assert_eq!(count(&mesh, 0, Counter::RequestsCancelled), 1);
}

#[test]
fn node_that_closes_waits_for_answers_and_reports_the_others() {
    for (answers, code) in [(true, Value::Null), (false, json!("SHUTTING_DOWN"))] {
        let mut mesh = mesh(2);
        ask(&mut mesh, "q", json!({}));
        mesh.input(0, Input::StdinClosed);
        assert!(mesh.nodes[0].exit.is_none());
        if answers {
            respond(&mut mesh, 1, json!({"data": 3}));
        }
        mesh.advance(Duration::from_secs(7));
        assert_eq!((&end(&mesh, "q")["code"], mesh.nodes[0].exit.is_some()), (&code, true));
    }
}

#[test]
fn steps_of_requests_never_wait_for_the_store_or_an_ack_of_the_program() {
    for manual_ack in [false, true] {
        let mut mesh = Mesh::new(1);
        let durable = |config: &mut p2p_node_core::CoreConfig| {
            config.durable = true;
            config.manual_ack = manual_ack;
        };
        mesh.add_with(2, Role::Full, CONNECT, durable);
        mesh.add_with(3, Role::Full, CONNECT, durable);
        mesh.connect(1, 0);
        mesh.connect(2, 0);
        mesh.connect(2, 1);
        mesh.command(2, r#"{"type":"handle","kinds":["sum"]}"#);
        mesh.advance(Duration::from_secs(2));
        mesh.disk_writes = false;
        let to = mesh.nodes[2].address.clone();
        mesh.command(
            1,
            &json!({"type": "request", "id": "q", "peerId": to, "kind": "sum", "data": 1}).to_string(),
        );
        assert_eq!(requests(&mesh, 2).len(), 1, "manual ack: {manual_ack}");
        respond(&mut mesh, 2, json!({"data": 3}));
        assert!(mesh.nodes[1].lines.iter().any(|line| line["id"] == "q" && line["type"] == "result"));
        mesh.resume_writes();
        assert!(mesh.store(1).messages.is_empty() && mesh.store(2).messages.is_empty());
        assert_usage_is_within_limits(&mesh);
    }
}

#[test]
fn request_that_the_disk_of_the_handlers_node_knows_is_not_handled_again_after_a_restart() {
    let mut mesh = Mesh::new(1);
    let handler = mesh.add_with(2, Role::Full, CONNECT, |config| config.durable = true);
    mesh.connect(handler, 0);
    mesh.command(handler, r#"{"type":"handle","kinds":["sum"]}"#);
    mesh.advance(Duration::from_secs(2));
    // The asker never learns that the first process has the request.
    mesh.faults = Box::new(|node, input| match input {
        Input::MailResponseReceived { .. } if node == 0 => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    ask(&mut mesh, "q", json!({"deadlineMs": 60_000}));
    assert_eq!(requests(&mesh, handler).len(), 1);
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    let again = mesh.restart(handler, 2, &[0], |_| {});
    mesh.command(again, r#"{"type":"handle","kinds":["sum"]}"#);
    mesh.fail_open_requests(0);
    mesh.advance(Duration::from_secs(30));
    mesh.advance(Duration::from_secs(30));
    assert!(requests(&mesh, again).is_empty());
    assert_eq!(end(&mesh, "q")["code"], "DEADLINE_EXCEEDED");
}
