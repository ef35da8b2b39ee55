//! Commands at the limits of the pipe protocol, and their errors.

use std::time::Duration;

use p2p_node_core::client_id::ClientId;
use p2p_node_core::input::Input;
use p2p_node_protocol::Role;
use p2p_node_protocol::line::{LineError, decode_request};
use serde_json::{Value, json};

use crate::mesh::Mesh;

/// The address of a well-known example (EIP-55) with its last letter in the other case.
const MISTYPED: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD";

fn answers(mesh: &Mesh, id: &Value) -> Vec<Value> {
    mesh.nodes[0].lines.iter().filter(|line| line["id"] == *id).cloned().collect()
}

#[test]
fn connect_with_unsupported_protocol_is_refused_and_a_supported_one_connects() {
    let mut mesh = Mesh::new(0);
    mesh.add_with(1, Role::Full, r#"{"type":"ping"}"#, |_| {});
    for version in [0_u32, 2, 99, u32::MAX] {
        mesh.command(0, &json!({"type":"connect","protocol":version,"id":version}).to_string());
        let [error] = &answers(&mesh, &json!(version))[..] else { panic!("expected one answer") };
        assert_eq!(
            (&error["code"], &error["details"]["supported"]),
            (&json!("UNSUPPORTED_PROTOCOL"), &json!([1]))
        );
        assert_eq!(error["retryable"], false);
    }
    mesh.command(0, &json!({"type":"connect","protocol":1,"id":"c"}).to_string());
    assert_eq!(answers(&mesh, &json!("c"))[0]["type"], "result");
}

#[test]
fn address_with_wrong_checksum_is_refused_in_every_command() {
    let mut mesh = Mesh::new(1);
    let commands = |address: &str| {
        [
            json!({"type":"send","peerId":address,"data":1}),
            json!({"type":"discover","address":address,"timeoutMs":1}),
            json!({"type":"block","peerId":address}),
            json!({"type":"allow","peerId":address}),
            json!({"type":"unblock","peerId":address}),
        ]
    };
    for (number, mut command) in commands(MISTYPED).into_iter().enumerate() {
        command["id"] = json!(number);
        mesh.command(0, &command.to_string());
        let [error] = &answers(&mesh, &json!(number))[..] else { panic!("{command}: expected one answer") };
        assert_eq!(error["code"], "INVALID_ARGUMENT", "{command}");
        assert!(error["message"].as_str().unwrap().contains("EIP-55"), "{error}");
    }
    let digits = MISTYPED[2..].to_owned();
    for (form, digits) in [digits.to_lowercase(), digits.to_uppercase()].into_iter().enumerate() {
        for (number, mut command) in commands(&format!("0x{digits}")).into_iter().enumerate() {
            command["id"] = json!(format!("{form}-{number}"));
            mesh.command(0, &command.to_string());
            mesh.advance(Duration::from_millis(2));
            assert_eq!(answers(&mesh, &command["id"])[0]["type"], "result", "{command}");
        }
    }
}

#[test]
fn bad_line_is_answered_with_its_id_and_line_number() {
    let mut mesh = Mesh::new(1);
    let bad = decode_request(br#"{"type":"send","topic":"t","data":NaN,"id":5}"#).unwrap_err();
    mesh.input(0, Input::BadLine { client: ClientId::PARENT, error: bad.at(7) });
    let [error] = &answers(&mesh, &json!(5))[..] else { panic!("expected one answer") };
    assert_eq!((&error["code"], &error["details"]["line"]), (&json!("INVALID_JSON"), &json!(7)));
    let error = LineError::too_long(1 << 20, br#"{"id":"long","data":"#).at(8);
    mesh.input(0, Input::BadLine { client: ClientId::PARENT, error });
    let [error] = &answers(&mesh, &json!("long"))[..] else { panic!("expected one answer") };
    assert_eq!((&error["code"], &error["details"]["line"]), (&json!("LINE_TOO_LONG"), &json!(8)));
}

#[test]
fn broadcast_without_subscribers_fails_after_its_ttl_or_the_hold_time() {
    let mut mesh = Mesh::new(1);
    mesh.command(0, r#"{"type":"send","topic":"t","data":1,"ttlMs":1000,"id":"short"}"#);
    mesh.command(0, r#"{"type":"send","topic":"t","data":2,"ttlMs":60000,"id":"long"}"#);
    mesh.command(0, r#"{"type":"send","topic":"t","data":3,"id":"plain"}"#);
    let failed = |mesh: &Mesh| -> Vec<Value> {
        let of = |line: &&Value| line["type"] == "delivery" && line["code"] == "NO_SUBSCRIBERS";
        mesh.nodes[0].lines.iter().filter(of).map(|line| line["requestId"].clone()).collect()
    };
    mesh.advance(Duration::from_millis(900));
    assert!(failed(&mesh).is_empty());
    mesh.advance(Duration::from_millis(200));
    assert_eq!(failed(&mesh), ["short"]);
    mesh.advance(Duration::from_secs(8));
    assert_eq!(failed(&mesh), ["short"]);
    mesh.advance(Duration::from_secs(1));
    assert_eq!(failed(&mesh), ["short", "long", "plain"], "no broadcast waits longer than 10 s");
}

#[test]
fn times_out_of_range_are_refused() {
    let mut mesh = Mesh::new(1);
    for (number, (command, field)) in [
        (json!({"type":"send","topic":"t","data":1}), "ttlMs"),
        (json!({"type":"send","peerId":"0x000000000000000000000000000000000000dEaD","data":1}), "ttlMs"),
        (json!({"type":"discover"}), "timeoutMs"),
    ]
    .into_iter()
    .enumerate()
    {
        for (at, ms) in [u64::MAX, u64::MAX / 2, 604_800_001].into_iter().enumerate() {
            let mut command = command.clone();
            command[field] = json!(ms);
            command["id"] = json!(format!("{number}-{at}"));
            mesh.command(0, &command.to_string());
            assert_eq!(answers(&mesh, &command["id"])[0]["code"], "INVALID_ARGUMENT", "{command}");
        }
    }
}

#[test]
fn peer_topic_with_control_characters_is_not_reported() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    let peer = mesh.nodes[1].peer;
    for topic in ["fine", "not\nfine", "\u{9b}2J", ""] {
        mesh.input(0, Input::PeerSubscribed { peer, topic: topic.to_owned() });
    }
    mesh.nodes[0].lines.clear();
    mesh.command(0, r#"{"type":"discover","timeoutMs":1,"id":"d"}"#);
    mesh.advance(Duration::from_millis(2));
    let found = mesh.lines(0, "peer_discovered");
    assert_eq!(found.last().unwrap()["topics"], json!(["fine"]));
}
