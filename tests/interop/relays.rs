//! Two agents that are connected only through a js-libp2p node.

use serde_json::{Value, json};

use crate::child::{Child, test_key};
use crate::js::Js;

const CHAT: &str = "chat";

/// An agent that knows the js node only, and subscribes to the chat.
fn chatter(key: u8, js: &Js) -> (Child, Value) {
    let (mut child, ready) = Child::join(key, 0, &[], std::slice::from_ref(&js.addr));
    child.say(json!({"type":"subscribe","topic":CHAT,"id":"chat"}));
    child.answer("chat");
    (child, ready)
}

fn broadcast(child: &mut Child, id: &str) {
    child.say(json!({"type":"send","topic":CHAT,"data":{"said":id},"id":id}));
    assert_eq!(child.answer(id)["type"], "result");
}

fn count(status: &Value, counter: &str) -> u64 {
    status["counters"][counter].as_u64().unwrap_or_default()
}

/// Neither knows more of the network than the js node, so that whatever arrives has come through
/// it.
fn knows_only(child: &mut Child, agents: u64) {
    let status = child.until("status", |_| true);
    assert_eq!((&status["peers"], &status["agents"]), (&json!(1), &json!(agents)), "{status}");
}

/// Waits until the js node has both agents in its mesh: it passes nothing on to a peer that has
/// only just subscribed.
fn meshed(js: &mut Js, topic: &str) {
    js.until("mesh", json!({"topic":topic}), |answer| answer["mesh"].as_array().unwrap().len() == 2);
}

#[test]
fn a_foreign_node_carries_broadcasts_and_no_forgery_gets_past_an_agent() {
    let Some(mut js) = Js::start() else { return };
    // It carries no announcements, so that the agents never hear of each other.
    js.subscribe(CHAT);
    let (mut alice, alice_ready) = chatter(0x63, &js);
    let (mut bob, bob_ready) = chatter(0x64, &js);
    meshed(&mut js, CHAT);

    for number in 0..20 {
        let id = format!("number {number}");
        broadcast(&mut alice, &id);
        let heard = js.heard(CHAT, |event| event["from"] == alice_ready["address"]);
        assert_eq!(heard["via"], alice_ready["peerId"]);
        let message = bob.expect(&id, |event| event["type"] == "message" && event["data"]["said"] == id);
        assert_eq!((&message["from"], &message["route"]), (&alice_ready["address"], &json!("gossip")));
    }
    broadcast(&mut bob, "and back");
    let message = alice.expect("bob's", |event| event["type"] == "message");
    assert_eq!((&message["from"], &message["data"]["said"]), (&bob_ready["address"], &json!("and back")));
    let status = bob.until("status", |_| true);
    let refused = status["counters"].as_object().unwrap().keys().find(|name| name.starts_with("frames_"));
    assert_eq!(refused, None, "an honest relayer is blamed for nothing: {status}");

    // Two forgeries of a frame come before the frame itself.
    js.ask("hold", json!({"topic":CHAT}));
    broadcast(&mut alice, "pay 1");
    let heard = js.heard(CHAT, |event| event["texts"] == json!([r#"{"said":"pay 1"}"#]));
    let frame = hex::decode(heard["bytes"].as_str().unwrap()).unwrap();
    let said = frame.windows(5).position(|bytes| bytes == b"pay 1").unwrap();
    for (forged, byte) in [(1, said + 4), (2, 0)] {
        let mut bytes = frame.clone();
        bytes[byte] ^= 8;
        js.ask("publish", json!({"topic":CHAT,"bytes":hex::encode(bytes)}));
        bob.until("a refusal", |status| count(status, "frames_forged") == forged);
    }
    js.ask("release", json!({"topic":CHAT}));
    let message = bob.expect("the frame itself", |event| event["type"] == "message");
    assert_eq!(message["data"]["said"], "pay 1", "and nothing before it");
    assert_eq!(count(&bob.until("status", |_| true), "frames_forged"), 2);
    // Bob, who saw the forgeries, leaves the forger out; Alice, who saw an honest relayer, does
    // not.
    js.until("mesh", json!({"topic":CHAT}), |answer| answer["mesh"] == json!([alice_ready["peerId"]]));
    knows_only(&mut alice, 0);
    knows_only(&mut bob, 0);
    assert!(js.finish().iter().all(|event| event["type"] != "refused"));
}

#[test]
fn mail_and_its_acknowledgement_go_through_a_foreign_node() {
    let Some(mut js) = Js::start() else { return };
    let (mut alice, alice_ready) = Child::join(0x65, 0, &[], std::slice::from_ref(&js.addr));
    // In the public scope bob listens as told, but has no address to tell of and dials none on this
    // machine: the js node dials him, and mail to and from him has to go by gossip.
    let hidden = ["--address-scope", "public", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let mut bob = Child::spawn(&hidden, &[("PRIVATE_KEY", &test_key(0x66))]);
    bob.say(json!({"type":"connect","protocol":1}));
    let bob_ready = bob.expect("ready", |event| event["type"] == "ready");
    js.ask("dial", json!({"addr":bob_ready["addrs"][0]}));
    alice.until("alice connected", |status| status["peers"] == 1);
    bob.until("bob connected", |status| status["peers"] == 1);
    js.ask("hold", json!({"topic":"agent-announcements"}));
    for topic in ["agent-announcements", "agent-messages"] {
        js.subscribe(topic);
        meshed(&mut js, topic);
    }
    for ready in [&alice_ready, &bob_ready] {
        let announced = js.heard("agent-announcements", |event| event["from"] == ready["address"]);
        assert_eq!((&announced["peerId"], &announced["via"]), (&ready["peerId"], &ready["peerId"]));
    }
    js.ask("release", json!({"topic":"agent-announcements"}));

    let exchange = |from: &mut Child, sender: &Value, to: &Child, recipient: &Value| {
        from.say(json!({"type":"send","peerId":recipient["address"],"data":"a letter","id":"mail"}));
        assert_eq!(from.answer("mail")["delivery"], "accepted");
        let message = to.expect("the letter", |event| event["type"] == "message");
        assert_eq!(
            (&message["from"], &message["route"]),
            (&sender["address"], &json!("gossip")),
            "{message}"
        );
        let delivery = from.expect("delivery", |event| event["type"] == "delivery");
        assert_eq!((&delivery["state"], &delivery["route"]), (&json!("delivered"), &json!("gossip")));
        // Who carries it sees from whom it is, and neither for whom nor what.
        let letter = js.heard("agent-messages", |event| event["frame"]["sealed"].is_object());
        assert_eq!((&letter["from"], &letter["via"]), (&sender["address"], &sender["peerId"]));
        let bytes = hex::decode(letter["bytes"].as_str().unwrap()).unwrap();
        assert!(!bytes.windows(8).any(|bytes| bytes == b"a letter"), "{letter}");
        let ack = js.heard("agent-messages", |event| event["acks"].as_array().unwrap().len() == 1);
        assert_eq!((&ack["from"], &ack["via"]), (&recipient["address"], &recipient["peerId"]));
    };
    exchange(&mut alice, &alice_ready, &bob, &bob_ready);
    exchange(&mut bob, &bob_ready, &alice, &alice_ready);
    knows_only(&mut alice, 1);
    knows_only(&mut bob, 1);
    assert!(js.finish().iter().all(|event| event["type"] != "refused"));
}
