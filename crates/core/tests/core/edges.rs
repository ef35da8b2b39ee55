//! Commands at the limits of the pipe protocol, and their errors.

use std::time::Duration;

use p2p_node_core::input::Input;
use p2p_node_protocol::Role;
use p2p_node_protocol::line::{LineError, decode_request};
use serde_json::{Value, json};

use crate::mesh::Mesh;

/// The address of a well-known example (EIP-55) with its last letter in the other case.
const MISTYPED: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD";

fn answered(mesh: &Mesh, id: &Value) -> Vec<Value> {
    mesh.nodes[0].lines.iter().filter(|line| line["id"] == *id).cloned().collect()
}

#[test]
fn a_version_that_is_not_spoken_is_refused_and_the_right_one_still_connects() {
    let mut mesh = Mesh::new(0);
    mesh.add_with(1, Role::Full, r#"{"type":"ping"}"#, |_| {});
    for version in [0_u32, 2, 99, u32::MAX] {
        mesh.say(0, &json!({"type":"connect","protocol":version,"id":version}).to_string());
        let [error] = &answered(&mesh, &json!(version))[..] else { panic!("not one answer") };
        assert_eq!(
            (&error["code"], &error["details"]["supported"]),
            (&json!("UNSUPPORTED_PROTOCOL"), &json!([1]))
        );
        assert_eq!(error["retryable"], false);
    }
    mesh.say(0, &json!({"type":"connect","protocol":1,"id":"c"}).to_string());
    assert_eq!(answered(&mesh, &json!("c"))[0]["type"], "result");
}

#[test]
fn an_address_with_a_wrong_checksum_is_refused_wherever_it_stands() {
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
        mesh.say(0, &command.to_string());
        let [error] = &answered(&mesh, &json!(number))[..] else { panic!("{command}: not one answer") };
        assert_eq!(error["code"], "INVALID_ARGUMENT", "{command}");
        assert!(error["message"].as_str().unwrap().contains("EIP-55"), "{error}");
    }
    let digits = MISTYPED[2..].to_owned();
    for (form, digits) in [digits.to_lowercase(), digits.to_uppercase()].into_iter().enumerate() {
        for (number, mut command) in commands(&format!("0x{digits}")).into_iter().enumerate() {
            command["id"] = json!(format!("{form}-{number}"));
            mesh.say(0, &command.to_string());
            mesh.pass(Duration::from_millis(2));
            assert_eq!(answered(&mesh, &command["id"])[0]["type"], "result", "{command}");
        }
    }
}

#[test]
fn a_line_that_is_no_command_is_answered_with_its_id_and_its_number() {
    let mut mesh = Mesh::new(1);
    let bad = decode_request(br#"{"type":"send","topic":"t","data":NaN,"id":5}"#).unwrap_err();
    mesh.input(0, Input::BadLine(bad.at(7)));
    let [error] = &answered(&mesh, &json!(5))[..] else { panic!("not one answer") };
    assert_eq!((&error["code"], &error["details"]["line"]), (&json!("INVALID_JSON"), &json!(7)));
    mesh.input(0, Input::BadLine(LineError::too_long(1 << 20, br#"{"id":"long","data":"#).at(8)));
    let [error] = &answered(&mesh, &json!("long"))[..] else { panic!("not one answer") };
    assert_eq!((&error["code"], &error["details"]["line"]), (&json!("LINE_TOO_LONG"), &json!(8)));
}

#[test]
fn a_broadcast_waits_for_subscribers_no_longer_than_its_time_to_live() {
    let mut mesh = Mesh::new(1);
    mesh.say(0, r#"{"type":"send","topic":"t","data":1,"ttlMs":1000,"id":"short"}"#);
    mesh.say(0, r#"{"type":"send","topic":"t","data":2,"ttlMs":60000,"id":"long"}"#);
    mesh.say(0, r#"{"type":"send","topic":"t","data":3,"id":"plain"}"#);
    let ended = |mesh: &Mesh| -> Vec<Value> {
        let of = |line: &&Value| line["type"] == "delivery" && line["code"] == "NO_SUBSCRIBERS";
        mesh.nodes[0].lines.iter().filter(of).map(|line| line["requestId"].clone()).collect()
    };
    mesh.pass(Duration::from_millis(900));
    assert!(ended(&mesh).is_empty());
    mesh.pass(Duration::from_millis(200));
    assert_eq!(ended(&mesh), ["short"]);
    mesh.pass(Duration::from_secs(8));
    assert_eq!(ended(&mesh), ["short"]);
    mesh.pass(Duration::from_secs(1));
    assert_eq!(ended(&mesh), ["short", "long", "plain"], "the hold is the longest time");
}

#[test]
fn times_at_the_end_of_their_range_are_refused() {
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
            mesh.say(0, &command.to_string());
            assert_eq!(answered(&mesh, &command["id"])[0]["code"], "INVALID_ARGUMENT", "{command}");
        }
    }
}

#[test]
fn a_topic_of_a_peer_whose_name_holds_control_characters_is_not_told() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    let peer = mesh.nodes[1].peer;
    for topic in ["fine", "not\nfine", "\u{9b}2J", ""] {
        mesh.input(0, Input::PeerSubscribed { peer, topic: topic.to_owned() });
    }
    mesh.nodes[0].lines.clear();
    mesh.say(0, r#"{"type":"discover","timeoutMs":1,"id":"d"}"#);
    mesh.pass(Duration::from_millis(2));
    let found = mesh.lines(0, "peer_discovered");
    assert_eq!(found.last().unwrap()["topics"], json!(["fine"]));
}
