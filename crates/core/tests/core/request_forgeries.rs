//! Steps of requests that other agents invent.

use bytes::Bytes;
use p2p_node_core::input::Input;
use p2p_node_protocol::Counter;
use p2p_node_wire::envelope::{Call, CallStep, Message};
use serde_json::json;

use crate::forged;
use crate::mesh::{Mesh, agent_key};
use crate::requests::{ask, count, end, has_ended, mesh, requests, respond, responses};

/// Gives node 0 a frame of agent `from` with a step of its first request.
fn forge(mesh: &mut Mesh, from: u8, counter: u64, step: CallStep, parts: u32, code: &str) {
    let call = Call { step: step.into(), parts, code: code.to_owned(), ..Call::default() };
    forge_call(mesh, from, counter, call);
}

fn forge_part(mesh: &mut Mesh, from: u8, counter: u64, parts: u32, more: bool) {
    forge_call(mesh, from, counter, Call { step: CallStep::Part.into(), parts, more, ..Call::default() });
}

fn forge_call(mesh: &mut Mesh, from: u8, counter: u64, call: Call) {
    let id = [1_u64.to_be_bytes(), 1_u64.to_be_bytes()].concat().into();
    let call = Call { id, ..call };
    let message = Message {
        stream: Bytes::from_static(&[5; 16]),
        seq: counter,
        ttl_left_ms: 1000,
        data: Bytes::from_static(b"\"forged\""),
        call: Some(Box::new(call)),
        ..Message::default()
    };
    let peer = crate::mesh::node_key(from).peer_id();
    let frame = forged::sealed(from, 1, counter, vec![message]);
    mesh.input(0, Input::MailRequestReceived { token: counter, peer, frame });
}

#[test]
fn answer_of_an_agent_that_was_not_asked_is_ignored() {
    let mut mesh = mesh(2);
    forged::admit(&mut mesh, 0, 50);
    ask(&mut mesh, "q", json!({}));
    for (counter, step, code) in
        [(1, CallStep::Part, ""), (2, CallStep::Fail, "CODE"), (3, CallStep::Refuse, "NO_HANDLER")]
    {
        forge(&mut mesh, 50, counter, step, 0, code);
    }
    assert_eq!(count(&mesh, 0, Counter::ResponsesDropped), 3);
    assert!(responses(&mesh, "q").is_empty() && !has_ended(&mesh, "q"));
    respond(&mut mesh, 1, json!({"data": 3}));
    assert_eq!((&responses(&mesh, "q")[0]["data"], &end(&mesh, "q")["type"]), (&json!(3), &json!("result")));
}

#[test]
fn part_beyond_the_credit_and_repeated_part_are_ignored() {
    let mut mesh = mesh(1);
    forged::admit(&mut mesh, 0, 50);
    let other = agent_key(50).address().to_string();
    let line = json!({"type": "request", "id": "q", "peerId": other, "data": 1, "stream": true, "credit": 2});
    mesh.command(0, &line.to_string());
    for (counter, part) in [(1, 0), (2, 0), (3, 1), (4, 2)] {
        forge_part(&mut mesh, 50, counter, part, true);
    }
    let parts: Vec<_> = responses(&mesh, "q").iter().map(|line| line["part"].clone()).collect();
    assert_eq!((parts, count(&mesh, 0, Counter::ResponsesDropped)), (vec![json!(0), json!(1)], 2));
    assert!(!has_ended(&mesh, "q"));
    mesh.command(0, r#"{"type":"credit","target":"q","parts":9}"#);
    forge_part(&mut mesh, 50, 5, 3, false);
    assert_eq!(end(&mesh, "q")["code"], "RESPONSE_LOST", "part 2 is missing");
}

#[test]
fn cancel_and_credit_of_an_agent_that_did_not_ask_are_ignored() {
    let mut mesh = Mesh::new(1);
    mesh.command(0, r#"{"type":"handle","kinds":["*"]}"#);
    forged::admit(&mut mesh, 0, 50);
    forged::admit(&mut mesh, 0, 51);
    forge(&mut mesh, 50, 1, CallStep::Request, 1, "");
    assert_eq!(requests(&mesh, 0).len(), 1);
    forge(&mut mesh, 51, 1, CallStep::Cancel, 0, "");
    forge(&mut mesh, 51, 2, CallStep::Credit, 9, "");
    assert!(mesh.lines(0, "request_cancelled").is_empty() && mesh.lines(0, "credit").is_empty());
    // The same request again, under another number.
    forge(&mut mesh, 50, 2, CallStep::Request, 1, "");
    assert_eq!((requests(&mesh, 0).len(), count(&mesh, 0, Counter::RequestsRefused)), (1, 1));
    forge(&mut mesh, 50, 3, CallStep::Cancel, 0, "");
    assert_eq!(mesh.lines(0, "request_cancelled").len(), 1);
}
