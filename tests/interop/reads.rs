//! Another decoder reads the bytes of this implementation: golden files, the record in the DHT, and
//! frames on a topic.

use std::process::Command;

use serde_json::{Value, json};

use crate::child::{Child, tcp_address};
use crate::js::{Js, directory, installed};
use crate::npm::run;

#[test]
fn decoder_from_the_specification_accepts_only_the_golden_bytes() {
    if !installed() {
        return;
    }
    let output = run(Command::new("node").arg("golden.mjs").current_dir(directory())).unwrap();
    let output: Value = serde_json::from_str(&output).unwrap();
    assert!(output["flips"].as_u64() > Some(7000), "{output}");
}

#[test]
fn js_node_finds_an_agent_in_the_dht_and_receives_its_broadcasts() {
    let Some(mut js) = Js::start() else { return };
    let (_bootstrap, entry) = Child::join(0x60, 0, &["--role", "bootstrap"], &[]);
    let entries = [tcp_address(&entry)];
    let (mut alice, alice_ready) = Child::join(0x61, 0, &["-n", "alice"], &entries);
    let (mut bob, bob_ready) = Child::join(0x62, 0, &["-n", "bob"], &entries);
    alice.until("alice in the DHT", |status| status["counters"]["records_published"].as_u64() >= Some(1));

    js.ask("dial", json!({"addr":entries[0]}));
    js.until("servers", json!({}), |answer| answer["servers"] == 1);
    let found = js.ask("lookup", json!({"address":alice_ready["address"]}));
    assert_eq!((&found["server"], &found["peerId"]), (&entry["peerId"], &alice_ready["peerId"]), "{found}");
    assert_eq!((&found["from"], &found["record"]["name"]), (&alice_ready["address"], &json!("alice")));
    let status = alice.until("status", |_| true);
    assert_eq!(status["servers"], 1, "a DHT client counts as a server: {status}");
    let addr = found["addrs"].as_array().unwrap().iter().find(|addr| **addr == tcp_address(&alice_ready));
    let unknown = js.try_request("lookup", json!({"address":"0x000000000000000000000000000000000000dEaD"}));
    assert!(unknown.is_err_and(|reason| reason.contains("no record")));

    js.subscribe("news");
    let dialled = js.ask("dial", json!({"addr":addr.expect("the address is in the record")}));
    assert_eq!(dialled["peer"], alice_ready["peerId"]);
    let news = json!({"headline":"waits for the js node"});
    alice.command(json!({"type":"send","topic":"news","data":news,"kind":"report","id":"send"}));
    alice.answer("send");
    let frame = js.received("news", |_| true);
    assert_eq!((&frame["from"], &frame["via"]), (&alice_ready["address"], &alice_ready["peerId"]), "{frame}");
    assert_eq!((&frame["peerId"], &frame["messages"][0]["kind"]), (&alice_ready["peerId"], &json!("report")));
    assert_eq!(frame["texts"], json!([news.to_string()]));

    // Bob does not know the js node. Alice validates his frame and forwards it.
    alice.command(json!({"type":"subscribe","topic":"news","id":"news"}));
    alice.answer("news");
    bob.command(json!({"type":"send","topic":"news","data":"from bob","id":"send"}));
    bob.answer("send");
    let frame = js.received("news", |event| event["texts"] == json!([r#""from bob""#]));
    assert_eq!((&frame["from"], &frame["via"]), (&bob_ready["address"], &alice_ready["peerId"]), "{frame}");
    let refused: Vec<_> = js.finish().into_iter().filter(|event| event["type"] == "rejected").collect();
    assert!(refused.is_empty(), "{refused:#?}");
}
