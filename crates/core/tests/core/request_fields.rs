//! The fields of the commands of requests.

use serde_json::{Value, json};

use crate::requests::{ask, end, has_ended, mesh, requests, respond, respond_to};

#[test]
fn request_with_an_invalid_field_is_refused() {
    let mut mesh = mesh(2);
    let other = mesh.nodes[1].address.clone();
    let many = vec![other.clone(); 1001];
    for (index, (fields, text)) in [
        (json!({"deadlineMs": 0}), "`deadlineMs` must be 1 to 3600000"),
        (json!({"deadlineMs": 3_600_001}), "`deadlineMs` must be 1 to 3600000"),
        (json!({"kind": "k".repeat(65)}), "`kind` may have at most 64 bytes"),
        (json!({"kind": "a\u{7f}"}), "`kind` must not contain control characters"),
        (json!({"stream": true, "credit": 0}), "`credit` must be 1 to 256"),
        (json!({"stream": true, "credit": 257}), "`credit` must be 1 to 256"),
        (json!({"credit": 1}), "`credit` needs `stream`"),
        (json!({"peerId": null, "peerIds": [other], "stream": true}), "`stream` needs `peerId`"),
        (json!({"topic": "t"}), "exactly one of `peerId`, `peerIds` and `topic`"),
        (json!({"peerId": null}), "exactly one of `peerId`, `peerIds` and `topic`"),
        (json!({"quorum": 1}), "`quorum` needs `peerIds` or `topic`"),
        (json!({"peerId": null, "peerIds": [other], "quorum": 2}), "`quorum` must be 1 to 1"),
        (json!({"peerId": null, "peerIds": [other], "quorum": 0}), "`quorum` must be 1 to 1"),
        (json!({"peerId": null, "topic": "t", "quorum": 1001}), "`quorum` must be 1 to 1000"),
        (json!({"peerId": null, "peerIds": many}), "`peerIds` may name at most 1000 agents, not 1001"),
        (json!({"peerId": mesh.nodes[0].address}), "names this agent itself"),
        (json!({"peerId": "x"}), "`peerId` must be a PeerId"),
        (json!({"traceparent": "x"}), "`traceparent` must have"),
        (json!({"encoding": "base64"}), "`data` must be a string"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("q{index}");
        ask(&mut mesh, &id, fields.clone());
        let end = end(&mesh, &id);
        assert_eq!(end["code"], "INVALID_ARGUMENT", "{fields}");
        assert!(end["message"].as_str().unwrap().contains(text), "{fields}: {}", end["message"]);
    }
    ask(&mut mesh, "large", json!({"data": "x".repeat(1 << 20)}));
    assert_eq!(end(&mesh, "large")["code"], "MESSAGE_TOO_LARGE");
    ask(&mut mesh, "topic", json!({"peerId": null, "topic": "node-status"}));
    assert_eq!(end(&mesh, "topic")["code"], "RESERVED_TOPIC");
    mesh.command(0, &json!({"type": "request", "peerId": mesh.nodes[1].address, "data": 1}).to_string());
    assert!(mesh.nodes[0].lines.last().unwrap()["message"].as_str().unwrap().contains("needs an `id`"));
    assert!(requests(&mesh, 1).is_empty());
}

#[test]
fn answer_with_an_invalid_field_is_refused_and_the_request_waits_on() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({}));
    let error = |code: &str, message: &str| json!({"error": {"code": code, "message": message}});
    for fields in [
        json!({"data": 1, "error": {"code": "A", "message": ""}}),
        json!({"error": {"code": "A"}, "last": false}),
        json!({"data": 1, "last": false}),
        json!({"data": 1, "encoding": "base64"}),
        error("", ""),
        error("lower", ""),
        error(&"A".repeat(49), ""),
        error("A", &"m".repeat(1025)),
        error("A", "a\nb"),
    ] {
        assert_eq!(respond(&mut mesh, 1, fields.clone())["code"], "INVALID_ARGUMENT", "{fields}");
    }
    let large = json!({"data": "x".repeat(1 << 20)});
    assert_eq!(respond(&mut mesh, 1, large)["code"], "MESSAGE_TOO_LARGE");
    assert!(!has_ended(&mesh, "q"));
    assert_eq!(respond_to(&mut mesh, 1, &json!("0-1"), json!({"data": 1}))["code"], "TICKET_NOT_FOUND");
    respond(&mut mesh, 1, json!({"error": {"code": "A", "message": "m".repeat(1024)}}));
    assert_eq!(end(&mesh, "q")["code"], "HANDLER_FAILED");
    assert_eq!(respond(&mut mesh, 1, json!({"data": 1}))["code"], "TICKET_NOT_FOUND");
}

#[test]
fn handler_with_invalid_kinds_is_refused() {
    let mut mesh = mesh(2);
    let many: Vec<_> = (0..257).map(|number| number.to_string()).collect();
    for kinds in [json!([""]), json!(["k".repeat(65)]), json!(["a\u{1}"]), json!(many)] {
        mesh.command(1, &json!({"type": "handle", "kinds": kinds, "id": "h"}).to_string());
        assert_eq!(mesh.nodes[1].lines.last().unwrap()["code"], "INVALID_ARGUMENT", "{kinds}");
    }
    mesh.command(1, &json!({"type": "handle", "kinds": many[1..], "id": "h"}).to_string());
    assert_eq!(mesh.nodes[1].lines.last().unwrap()["type"], "result");
}

#[test]
fn bytes_travel_as_base64_in_both_directions() {
    let mut mesh = mesh(2);
    ask(&mut mesh, "q", json!({"data": "AAH/", "encoding": "base64"}));
    let request = &requests(&mesh, 1)[0];
    assert_eq!((&request["data"], &request["encoding"]), (&json!("AAH/"), &json!("base64")));
    respond(&mut mesh, 1, json!({"data": "/w==", "encoding": "base64"}));
    let response = &crate::requests::responses(&mesh, "q")[0];
    assert_eq!((&response["data"], &response["encoding"]), (&json!("/w=="), &json!("base64")));
    assert_eq!(end(&mesh, "q")["code"], Value::Null);
}
