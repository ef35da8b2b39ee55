//! Requests between real nodes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::{Child, TIMEOUT, tcp_address};

/// Starts an asker and a handler of the kind `sum`, which knows the asker.
fn pair(first_key: u8) -> (Child, Child, Value) {
    let (mut handler, ready) = Child::join(first_key, 0, &[], &[]);
    let (asker, asker_ready) = Child::join(first_key + 1, 0, &[], &[tcp_address(&ready)]);
    handler.command(json!({"type": "allow", "peerId": asker_ready["address"]}));
    handler.command(json!({"type": "handle", "kinds": ["sum"], "id": "h"}));
    handler.expect("the answer to handle", |event| event["id"] == "h");
    (asker, handler, ready["address"].clone())
}

fn next_request(handler: &Child) -> Value {
    handler.expect("a request", |event| event["type"] == "request")
}

fn end_of(asker: &Child, id: &str) -> Value {
    asker.expect("the end of the request", |event| event["id"] == id)
}

#[test]
fn request_is_answered_refused_cancelled_and_overdue_between_nodes() {
    let (mut asker, mut handler, to) = pair(0xd0);
    let request = |id: &str, kind: &str, deadline_ms: u64| json!({"type": "request", "id": id, "peerId": to, "kind": kind, "data": [1, 2], "deadlineMs": deadline_ms});
    asker.command(request("q", "sum", 20_000));
    let asked = next_request(&handler);
    assert_eq!(asked["data"], json!([1, 2]));
    handler.command(json!({"type": "respond", "ticket": asked["ticket"], "data": 3}));
    let response = asker.expect("an answer", |event| event["type"] == "response");
    assert_eq!((&response["requestId"], &response["from"], &response["data"]), (&json!("q"), &to, &json!(3)));
    assert_eq!(end_of(&asker, "q")["answers"], 1);

    let start = Instant::now();
    asker.command(request("other", "product", 20_000));
    assert_eq!(end_of(&asker, "other")["code"], "NO_HANDLER");
    assert!(start.elapsed() < TIMEOUT / 2, "at once");

    asker.command(request("fails", "sum", 20_000));
    let error = json!({"code": "OVERFLOW", "message": "too large"});
    handler.command(json!({"type": "respond", "ticket": next_request(&handler)["ticket"], "error": error}));
    let end = end_of(&asker, "fails");
    assert_eq!((&end["code"], &end["details"]["code"]), (&json!("HANDLER_FAILED"), &json!("OVERFLOW")));

    asker.command(request("c", "sum", 20_000));
    let asked = next_request(&handler);
    asker.command(json!({"type": "cancel", "target": "c"}));
    assert_eq!(end_of(&asker, "c")["code"], "CANCELLED");
    let cancelled = handler.expect("the cancel", |event| event["type"] == "request_cancelled");
    assert_eq!((&cancelled["ticket"], &cancelled["reason"]), (&asked["ticket"], &json!("cancelled")));

    asker.command(request("late", "sum", 300));
    let asked = next_request(&handler);
    let cancelled = handler.expect("the deadline", |event| event["type"] == "request_cancelled");
    assert_eq!((&cancelled["ticket"], &cancelled["reason"]), (&asked["ticket"], &json!("deadline")));
    assert_eq!(end_of(&asker, "late")["code"], "DEADLINE_EXCEEDED");
    handler.command(json!({"type": "respond", "ticket": asked["ticket"], "data": 3, "id": "r"}));
    assert_eq!(handler.expect("a refusal", |event| event["id"] == "r")["code"], "TICKET_NOT_FOUND");
}

#[test]
fn answer_in_parts_arrives_in_order_with_the_credit_of_the_asker() {
    let (mut asker, mut handler, to) = pair(0xd2);
    asker.command(
        json!({"type": "request", "id": "q", "peerId": to, "kind": "sum", "data": 1, "stream": true}),
    );
    let ticket = next_request(&handler)["ticket"].clone();
    let parts = 1000;
    let mut credit = 64;
    for part in 0..parts {
        while part >= credit {
            let event = handler.expect("credit", |event| event["type"] == "credit");
            credit = event["parts"].as_u64().unwrap();
        }
        handler
            .command(json!({"type": "respond", "ticket": ticket, "data": part, "last": part + 1 == parts}));
    }
    for part in 0..parts {
        let response = asker.expect("a part", |event| event["type"] == "response");
        let last = part + 1 == parts;
        assert_eq!(
            (&response["data"], &response["part"], &response["last"]),
            (&json!(part), &json!(part), &json!(last))
        );
    }
    assert_eq!(end_of(&asker, "q")["type"], "result");
    assert!(!handler.seen().iter().any(|event| event["type"] == "error"));
}

#[test]
fn handler_that_ends_leaves_no_asker_waiting_for_the_deadline() {
    let (mut asker, mut handler, to) = pair(0xd4);
    asker.command(
        json!({"type": "request", "id": "q", "peerId": to, "kind": "sum", "data": 1, "deadlineMs": 600_000}),
    );
    next_request(&handler);
    handler.close_stdin();
    assert_eq!(end_of(&asker, "q")["code"], "HANDLER_GONE");
}

#[test]
fn ten_thousand_requests_wait_at_the_same_time_and_are_answered() {
    let (mut asker, mut handler, to) = pair(0xd6);
    let number = 10_000;
    let mut stdin = asker.take_stdin();
    let writing = std::thread::spawn(move || {
        use std::io::Write;
        for id in 0..number {
            let line = json!({"type": "request", "id": id, "peerId": to, "kind": "sum", "data": id, "deadlineMs": 300_000});
            writeln!(stdin, "{line}").unwrap();
        }
        stdin
    });
    let within = Duration::from_secs(120);
    let tickets: Vec<(Value, Value)> = (0..number)
        .map(|_| handler.expect_within(within, "a request", |event| event["type"] == "request"))
        .map(|request| (request["ticket"].clone(), request["data"].clone()))
        .collect();
    let _stdin = writing.join().unwrap();
    assert!(!asker.seen().iter().any(|event| event["id"].is_number()), "no request has ended");
    for (ticket, data) in tickets.iter().rev() {
        handler.command(json!({"type": "respond", "ticket": ticket, "data": data}));
    }
    let mut answered = BTreeSet::new();
    while answered.len() < number {
        let response = asker.expect_within(within, "an answer", |event| event["type"] == "response");
        assert_eq!(response["requestId"], response["data"]);
        answered.insert(response["data"].as_u64().unwrap());
    }
}
