//! Roles and DHT modes: light nodes, and networks without a bootstrap node.

use serde_json::{Value, json};

use crate::child::{Child, tcp_address};

/// Sends a message to an address and waits for its delivery and arrival.
fn mail(from: &mut Child, to: &mut Child, address: &Value, text: &str) {
    from.command(json!({"type":"send","peerId":address,"data":text,"id":text}));
    let delivery =
        from.expect("the delivery", |event| event["type"] == "delivery" && event["requestId"] == text);
    assert_eq!(delivery["state"], "delivered", "{delivery}");
    to.expect("the message", |event| event["type"] == "message" && event["data"] == text);
}

#[test]
fn light_node_exchanges_mail_and_serves_nothing() {
    let (mut server, ready) = Child::join(0xD1, 0, &["--role", "bootstrap"], &[]);
    let entries = [tcp_address(&ready)];
    let (mut full, full_ready) = Child::join(0xD2, 0, &[], &entries);
    let (mut light, light_ready) = Child::join(0xD3, 0, &["--role", "light"], &entries);
    assert_eq!(light_ready["role"], "light");
    mail(&mut light, &mut full, &full_ready["address"], "to full");
    mail(&mut full, &mut light, &light_ready["address"], "to light");
    full.command(json!({"type":"discover","address":light_ready["address"],"id":"light"}));
    let found = full.expect("the light agent", |event| {
        event["type"] == "peer_discovered" && event["address"] == light_ready["address"]
    });
    assert_eq!(found["role"], "light");
    // Others ask a light node for agents in vain, so they do not ask.
    let answered = light.until("status", |_| true)["counters"]["finds_answered"].clone();
    assert_eq!(answered, Value::Null, "counters of what never happened are absent");
    server.until("two agents", |status| status["agents"] == 2);
}

#[test]
fn light_node_that_is_to_serve_does_not_start() {
    for args in [["--role", "light", "--relay"].as_slice(), &["--role", "light", "--dht-mode", "auto"]] {
        let mut node = Child::spawn(args, &[]);
        let error = node.expect("the error", |event| event["type"] == "error");
        assert_eq!(error["code"], "INVALID_ARGUMENT", "{error}");
        assert_eq!(node.wait().code(), Some(78), "{args:?}");
    }
}

/// The first node has these arguments. Two others know its address alone, and mail each other.
fn meet_through(args: &[&str]) -> Child {
    let (entry, ready) = Child::join(0xD5, 0, args, &[]);
    let entries = [tcp_address(&ready)];
    let (mut one, one_ready) = Child::join(0xD6, 0, &[], &entries);
    let (mut other, other_ready) = Child::join(0xD7, 0, &[], &entries);
    mail(&mut one, &mut other, &other_ready["address"], "there");
    mail(&mut other, &mut one, &one_ready["address"], "back");
    let servers = one.until("status", |_| true)["servers"].clone();
    assert_eq!(servers, json!(usize::from(args.contains(&"auto"))), "DHT servers");
    entry
}

#[test]
fn agents_meet_through_a_plain_node() {
    meet_through(&[]);
}

#[test]
fn reachable_node_in_mode_auto_serves_the_dht() {
    let mut entry = meet_through(&["--dht-mode", "auto"]);
    entry.until("it stores records", |status| status["counters"]["records_accepted"].as_u64() >= Some(2));
}

#[test]
fn unreachable_node_in_mode_auto_is_a_client() {
    let (_entry, ready) = Child::join(0xD8, 0, &["--dht-mode", "auto", "--reachability", "unreachable"], &[]);
    let (mut one, _) = Child::join(0xD9, 0, &[], &[tcp_address(&ready)]);
    one.until("the connection", |status| status["peers"] == 1 && status["agents"] == 1);
    assert_eq!(one.until("status", |_| true)["servers"], 0);
}
