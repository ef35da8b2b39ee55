//! Two agents that are connected only through a js-libp2p node.

use serde_json::{Value, json};

use crate::child::{Child, test_key};
use crate::js::Js;

const CHAT: &str = "chat";

/// Starts an agent that knows only the js node and subscribes to the chat.
fn chat_agent(key: u8, js: &Js) -> (Child, Value) {
    let (mut child, ready) = Child::join(key, 0, &[], std::slice::from_ref(&js.addr));
    child.command(json!({"type":"subscribe","topic":CHAT,"id":"chat"}));
    child.answer("chat");
    (child, ready)
}

fn broadcast(child: &mut Child, id: &str) {
    child.command(json!({"type":"send","topic":CHAT,"data":{"text":id},"id":id}));
    assert_eq!(child.answer(id)["type"], "result");
}

fn count(status: &Value, counter: &str) -> u64 {
    status["counters"][counter].as_u64().unwrap_or_default()
}

/// Asserts that an agent is connected only to the js node, through which all messages must come.
/// The js node is one of the known agents.
fn assert_knows_only(child: &mut Child, agents: u64) {
    let status = child.until("status", |_| true);
    assert_eq!((&status["peers"], &status["agents"]), (&json!(1), &json!(agents)), "{status}");
}

/// Waits until the js node has both agents in its mesh: it does not forward to a peer that has only
/// just subscribed.
fn until_meshed(js: &mut Js, topic: &str) {
    js.until("mesh", json!({"topic":topic}), |answer| answer["mesh"].as_array().unwrap().len() == 2);
}

#[test]
fn js_node_forwards_broadcasts_and_agents_drop_forgeries() {
    let Some(mut js) = Js::start() else { return };
    // The js node forwards no announcements, so that the agents do not discover each other.
    js.subscribe(CHAT);
    let (mut alice, alice_ready) = chat_agent(0x63, &js);
    let (mut bob, bob_ready) = chat_agent(0x64, &js);
    until_meshed(&mut js, CHAT);

    for number in 0..20 {
        let id = format!("number {number}");
        broadcast(&mut alice, &id);
        let frame = js.received(CHAT, |event| event["from"] == alice_ready["address"]);
        assert_eq!(frame["via"], alice_ready["peerId"]);
        let message = bob.expect(&id, |event| event["type"] == "message" && event["data"]["text"] == id);
        assert_eq!((&message["from"], &message["route"]), (&alice_ready["address"], &json!("gossip")));
    }
    broadcast(&mut bob, "and back");
    let message = alice.expect("bob's", |event| event["type"] == "message");
    assert_eq!((&message["from"], &message["data"]["text"]), (&bob_ready["address"], &json!("and back")));
    let status = bob.until("status", |_| true);
    let refused = status["counters"].as_object().unwrap().keys().find(|name| name.starts_with("frames_"));
    assert_eq!(refused, None, "an honest relayer is penalised: {status}");

    // Two forgeries of a frame arrive before the frame.
    js.ask("pause", json!({"topic":CHAT}));
    broadcast(&mut alice, "pay 1");
    let frame = js.received(CHAT, |event| event["texts"] == json!([r#"{"text":"pay 1"}"#]));
    let bytes = hex::decode(frame["bytes"].as_str().unwrap()).unwrap();
    let text = bytes.windows(5).position(|bytes| bytes == b"pay 1").unwrap();
    for (forged, byte) in [(1, text + 4), (2, 0)] {
        let mut forgery = bytes.clone();
        forgery[byte] ^= 8;
        js.ask("publish", json!({"topic":CHAT,"bytes":hex::encode(forgery)}));
        bob.until("a refusal", |status| count(status, "frames_forged") == forged);
    }
    js.ask("release", json!({"topic":CHAT}));
    let message = bob.expect("the valid frame", |event| event["type"] == "message");
    assert_eq!(message["data"]["text"], "pay 1", "the forgeries are not delivered");
    assert_eq!(count(&bob.until("status", |_| true), "frames_forged"), 2);
    // Both received the forgeries, and remove the js node from their meshes.
    alice.until("the refusals", |status| count(status, "frames_forged") == 2);
    js.until("mesh", json!({"topic":CHAT}), |answer| answer["mesh"] == json!([]));
    assert_knows_only(&mut alice, 1);
    assert_knows_only(&mut bob, 1);
    assert!(js.finish().iter().all(|event| event["type"] != "rejected"));
}

#[test]
fn mail_and_ack_pass_through_a_js_node() {
    let Some(mut js) = Js::start() else { return };
    let (mut alice, alice_ready) = Child::join(0x65, 0, &[], std::slice::from_ref(&js.addr));
    // In the public scope bob has no address to announce and dials none on this machine. The js node
    // dials him, and mail to and from him must use gossip.
    let hidden = ["--address-scope", "public", "--upnp=false", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let mut bob = Child::spawn(&hidden, &[("PRIVATE_KEY", &test_key(0x66))]);
    bob.command(json!({"type":"connect","protocol":1}));
    let bob_ready = bob.expect("ready", |event| event["type"] == "ready");
    js.ask("dial", json!({"addr":bob_ready["addrs"][0]}));
    alice.until("alice connected", |status| status["peers"] == 1);
    bob.until("bob connected", |status| status["peers"] == 1);
    js.ask("pause", json!({"topic":"agent-announcements"}));
    for topic in ["agent-announcements", "agent-messages"] {
        js.subscribe(topic);
        until_meshed(&mut js, topic);
    }
    for ready in [&alice_ready, &bob_ready] {
        let announced = js.received("agent-announcements", |event| event["from"] == ready["address"]);
        assert_eq!((&announced["peerId"], &announced["via"]), (&ready["peerId"], &ready["peerId"]));
    }
    js.ask("release", json!({"topic":"agent-announcements"}));

    let exchange = |from: &mut Child, sender: &Value, to: &Child, recipient: &Value| {
        from.command(json!({"type":"send","peerId":recipient["address"],"data":"a secret","id":"mail"}));
        assert_eq!(from.answer("mail")["delivery"], "accepted");
        let message = to.expect("the message", |event| event["type"] == "message");
        assert_eq!(
            (&message["from"], &message["route"]),
            (&sender["address"], &json!("gossip")),
            "{message}"
        );
        let delivery = from.expect("delivery", |event| event["type"] == "delivery");
        assert_eq!((&delivery["state"], &delivery["route"]), (&json!("delivered"), &json!("gossip")));
        // The relayer sees the sender, but neither recipient nor content.
        let gossip_frame = js.received("agent-messages", |event| event["frame"]["sealed"].is_object());
        assert_eq!((&gossip_frame["from"], &gossip_frame["via"]), (&sender["address"], &sender["peerId"]));
        let bytes = hex::decode(gossip_frame["bytes"].as_str().unwrap()).unwrap();
        assert!(!bytes.windows(8).any(|bytes| bytes == b"a secret"), "{gossip_frame}");
        let ack = js.received("agent-messages", |event| event["acks"].as_array().unwrap().len() == 1);
        assert_eq!((&ack["from"], &ack["via"]), (&recipient["address"], &recipient["peerId"]));
    };
    exchange(&mut alice, &alice_ready, &bob, &bob_ready);
    exchange(&mut bob, &bob_ready, &alice, &alice_ready);
    assert_knows_only(&mut alice, 2);
    assert_knows_only(&mut bob, 2);
    assert!(js.finish().iter().all(|event| event["type"] != "rejected"));
}
