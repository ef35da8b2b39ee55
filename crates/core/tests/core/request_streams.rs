//! Answers in parts: order, credit, ends.

use std::time::Duration;

use p2p_node_core::input::Input;
use p2p_node_protocol::Counter;
use serde_json::{Value, json};

use crate::mesh::Mesh;
use crate::requests::{
    ask, assert_usage_is_within_limits, count, end, has_ended, mesh, requests, respond, responses,
};

/// Sends parts until the node refuses one. Returns the number of parts sent.
fn send_parts(mesh: &mut Mesh, most: u32) -> u32 {
    for part in 0..most {
        let answer = respond(mesh, 1, json!({"data": part, "last": false}));
        if answer["type"] == "error" {
            assert_eq!(answer["code"], "NO_CREDIT");
            return part;
        }
    }
    most
}

fn data_of(mesh: &Mesh, id: &str) -> Vec<u64> {
    responses(mesh, id).iter().map(|line| line["data"].as_u64().unwrap()).collect()
}

#[test]
fn parts_arrive_in_order_and_the_last_one_ends_the_request() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({"stream": true}));
    let request = &requests(&mesh, 1)[0];
    assert_eq!((&request["stream"], &request["credit"]), (&json!(true), &json!(64)));
    for part in 0..3 {
        assert_eq!(respond(&mut mesh, 1, json!({"data": part, "last": false}))["credit"], 64);
    }
    assert!(!has_ended(&mesh, "q"));
    respond(&mut mesh, 1, json!({"data": 3}));
    assert_eq!(data_of(&mesh, "q"), [0, 1, 2, 3]);
    let parts: Vec<_> =
        responses(&mesh, "q").iter().map(|line| (line["part"].clone(), line["last"].clone())).collect();
    assert_eq!(parts[2..], [(json!(2), json!(false)), (json!(3), json!(true))]);
    assert_eq!((&end(&mesh, "q")["type"], &end(&mesh, "q")["answers"]), (&json!("result"), &json!(1)));
    assert_eq!(respond(&mut mesh, 1, json!({"data": 4}))["code"], "TICKET_NOT_FOUND");
}

#[test]
fn node_permits_more_parts_as_its_client_reads() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({"stream": true}));
    assert_eq!(send_parts(&mut mesh, 500), 500);
    respond(&mut mesh, 1, json!({"data": 500}));
    assert_eq!(data_of(&mesh, "q"), (0..=500).collect::<Vec<_>>());
    let credits: Vec<_> =
        mesh.lines(1, "credit").iter().map(|line| line["parts"].as_u64().unwrap()).collect();
    assert!(credits.is_sorted() && credits.len() >= 8, "{credits:?}");
    assert_usage_is_within_limits(&mesh);
}

#[test]
fn client_that_does_not_read_stops_the_handler() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({"stream": true}));
    mesh.nodes[0].reads = false;
    let mut sent = 0;
    let data = "x".repeat(60_000);
    loop {
        let answer = respond(&mut mesh, 1, json!({"data": data, "last": false}));
        if answer["type"] == "error" {
            assert!(["NO_CREDIT", "BUSY"].contains(&answer["code"].as_str().unwrap()), "{answer}");
            break;
        }
        sent += 1;
        assert!(sent < 1000, "the handler is never stopped");
    }
    assert_usage_is_within_limits(&mesh);
    mesh.nodes[0].reads = true;
    mesh.advance(Duration::from_secs(5));
    assert_eq!(responses(&mesh, "q").len(), sent);
    assert_eq!(respond(&mut mesh, 1, json!({"data": 1}))["type"], "result");
    assert_eq!(end(&mesh, "q")["type"], "result");
}

#[test]
fn client_with_credit_of_its_own_permits_each_part() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({"stream": true, "credit": 2}));
    assert_eq!(send_parts(&mut mesh, 10), 2);
    mesh.command(0, r#"{"type":"credit","target":"q","parts":5,"id":"c"}"#);
    assert_eq!(end(&mesh, "c")["type"], "result");
    assert_eq!(mesh.lines(1, "credit")[0]["parts"], 5);
    // A smaller number takes nothing back.
    mesh.command(0, r#"{"type":"credit","target":"q","parts":1}"#);
    assert_eq!(send_parts(&mut mesh, 10), 3);
    mesh.command(0, r#"{"type":"credit","target":"q","parts":262,"id":"far"}"#);
    assert_eq!(end(&mesh, "far")["code"], "INVALID_ARGUMENT", "256 more than 5 is 261");
    mesh.command(0, r#"{"type":"credit","target":"q","parts":261,"id":"most"}"#);
    assert_eq!(end(&mesh, "most")["type"], "result");
    respond(&mut mesh, 1, json!({"data": 9}));
    assert_eq!(responses(&mesh, "q").len(), 6);
    // The answer has ended while the command was on its way.
    mesh.command(0, r#"{"type":"credit","target":"q","parts":9,"id":"late"}"#);
    assert_eq!(end(&mesh, "late")["type"], "result");
    ask(&mut mesh, "auto", json!({"stream": true}));
    mesh.command(0, r#"{"type":"credit","target":"auto","parts":9,"id":"wrong"}"#);
    assert_eq!(end(&mesh, "wrong")["code"], "INVALID_ARGUMENT");
}

#[test]
fn answer_in_parts_may_end_without_another_part() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({"stream": true, "credit": 2}));
    assert_eq!(send_parts(&mut mesh, 2), 2);
    assert_eq!(respond(&mut mesh, 1, json!({"last": false}))["code"], "INVALID_ARGUMENT");
    // The end needs no credit.
    respond(&mut mesh, 1, json!({}));
    assert_eq!((data_of(&mesh, "q"), &end(&mesh, "q")["answers"]), (vec![0, 1], &json!(1)));
    ask(&mut mesh, "one", json!({}));
    respond(&mut mesh, 1, json!({}));
    assert_eq!(
        (&responses(&mesh, "one")[0]["data"], &end(&mesh, "one")["answers"]),
        (&Value::Null, &json!(1))
    );
}

#[test]
fn error_after_some_parts_ends_the_request() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({"stream": true, "credit": 1}));
    assert_eq!(send_parts(&mut mesh, 2), 1);
    // An error needs no credit.
    respond(&mut mesh, 1, json!({"error": {"code": "BROKEN", "message": "no more"}}));
    assert_eq!((data_of(&mesh, "q"), &end(&mesh, "q")["details"]["code"]), (vec![0], &json!("BROKEN")));
}

#[test]
fn cancelled_stream_stops_its_handler() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({"stream": true}));
    send_parts(&mut mesh, 3);
    mesh.command(0, r#"{"type":"cancel","target":"q"}"#);
    assert_eq!(mesh.lines(1, "request_cancelled")[0]["reason"], "cancelled");
    assert_eq!(respond(&mut mesh, 1, json!({"data": 1}))["code"], "TICKET_NOT_FOUND");
    assert_eq!((responses(&mesh, "q").len(), &end(&mesh, "q")["code"]), (3, &json!("CANCELLED")));
}

#[test]
fn deadline_holds_for_the_whole_stream() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({"stream": true, "deadlineMs": 1000}));
    for _ in 0..3 {
        mesh.advance(Duration::from_millis(300));
        respond(&mut mesh, 1, json!({"data": 1, "last": false}));
    }
    mesh.advance(Duration::from_millis(100));
    assert_eq!((responses(&mesh, "q").len(), &end(&mesh, "q")["code"]), (3, &json!("DEADLINE_EXCEEDED")));
    assert_eq!(mesh.lines(1, "request_cancelled")[0]["reason"], "deadline");
}

#[test]
fn stream_whose_frames_are_lost_arrives_whole() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({"stream": true, "deadlineMs": 600_000}));
    let mut number = 0;
    mesh.faults = Box::new(move |_, input| {
        number += 1;
        match input {
            Input::MailRequestReceived { .. } | Input::MailResponseReceived { .. } if number % 3 == 0 => {
                crate::mesh::FaultDecision::Drop
            }
            _ => crate::mesh::FaultDecision::Deliver,
        }
    });
    let mut sent = 0;
    while sent < 200 {
        let answer = respond(&mut mesh, 1, json!({"data": sent, "last": sent == 199}));
        if answer["type"] == "result" {
            sent += 1;
        } else {
            [0, 1].iter().for_each(|node| mesh.fail_open_requests(*node));
            mesh.advance(Duration::from_secs(2));
        }
    }
    for _ in 0..20 {
        [0, 1].iter().for_each(|node| mesh.fail_open_requests(*node));
        mesh.advance(Duration::from_secs(5));
    }
    assert_eq!(data_of(&mesh, "q"), (0..200).collect::<Vec<_>>());
    assert_eq!(
        (&end(&mesh, "q")["type"], count(&mesh, 0, Counter::ResponsesReceived)),
        (&json!("result"), 200)
    );
    assert_eq!(end(&mesh, "q")["code"], Value::Null);
}
