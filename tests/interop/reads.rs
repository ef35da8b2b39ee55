//! A foreign decoder reads our bytes: golden files, the record in the DHT, the frames on a topic.

use std::process::Command;

use serde_json::{Value, json};

use crate::child::{Child, tcp_address};
use crate::js::{Js, directory, installed, run};

#[test]
fn a_reader_that_rests_on_the_text_takes_the_golden_bytes_and_nothing_else() {
    if !installed() {
        return;
    }
    let told = run(Command::new("node").arg("golden.mjs").current_dir(directory())).unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["flips"].as_u64() > Some(9000), "{told}");
}

#[test]
fn a_foreign_node_finds_an_agent_in_the_dht_and_hears_it() {
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
    assert_eq!(status["servers"], 1, "a client is not taken for a server: {status}");
    let addr = found["addrs"].as_array().unwrap().iter().find(|addr| **addr == tcp_address(&alice_ready));
    let nobody = js.try_to("lookup", json!({"address":"0x000000000000000000000000000000000000dEaD"}));
    assert!(nobody.is_err_and(|reason| reason.contains("no record")));

    js.subscribe("news");
    let met = js.ask("dial", json!({"addr":addr.expect("the address is in the record")}));
    assert_eq!(met["peer"], alice_ready["peerId"]);
    let news = json!({"headline":"held until the js node is seen"});
    alice.say(json!({"type":"send","topic":"news","data":news,"kind":"report","id":"send"}));
    alice.answer("send");
    let heard = js.heard("news", |_| true);
    assert_eq!((&heard["from"], &heard["via"]), (&alice_ready["address"], &alice_ready["peerId"]), "{heard}");
    assert_eq!((&heard["peerId"], &heard["messages"][0]["kind"]), (&alice_ready["peerId"], &json!("report")));
    assert_eq!(heard["texts"], json!([news.to_string()]));

    // Bob does not know the js node: his frame comes by alice, who checks it and passes it on.
    alice.say(json!({"type":"subscribe","topic":"news","id":"news"}));
    alice.answer("news");
    bob.say(json!({"type":"send","topic":"news","data":"from bob","id":"send"}));
    bob.answer("send");
    let heard = js.heard("news", |event| event["texts"] == json!([r#""from bob""#]));
    assert_eq!((&heard["from"], &heard["via"]), (&bob_ready["address"], &alice_ready["peerId"]), "{heard}");
    let refused: Vec<_> = js.finish().into_iter().filter(|event| event["type"] == "refused").collect();
    assert!(refused.is_empty(), "{refused:#?}");
}
