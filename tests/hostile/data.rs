//! Payloads that try to look like other events to the victim's parent.

use bytes::Bytes;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use p2p_node_wire::envelope::{Message, Response, Scope, SignedAck};
use serde_json::{Value, json};

use crate::forge::{Forger, messages, topic};
use crate::peer::Hostile;
use crate::scene::{Scene, TOPIC, VICTIM};

const EVENTS: [&str; 8] =
    ["message", "error", "ready", "result", "closing", "log", "peer_discovered", "delivery"];

/// What no line can carry.
fn impossible() -> Vec<(&'static str, Bytes)> {
    let deep = |open: &str, close: &str| Bytes::from(open.repeat(32) + &close.repeat(32));
    vec![
        ("a line of its own", Bytes::from_static(b"1\n{\"type\":\"closing\",\"reason\":\"signal\"}")),
        ("a line inside a string", Bytes::from_static(b"\"\n{\\\"type\\\":\\\"ready\\\"}\"")),
        ("a carriage return", Bytes::from_static(b"1\r2")),
        ("an escape sequence", Bytes::from_static(b"\"\x1b[2J\"")),
        ("a zero byte", Bytes::from_static(b"\"\0\"")),
        (
            "a field of the event",
            Bytes::from_static(b"1,\"from\":\"0x0000000000000000000000000000000000000000\""),
        ),
        ("the end of the event", Bytes::from_static(b"1}")),
        ("two values", Bytes::from_static(b"1 2")),
        ("space around", Bytes::from_static(b" 1")),
        ("nothing", Bytes::new()),
        ("half an object", Bytes::from_static(b"{\"a\":1")),
        ("no JSON", Bytes::from_static(b"NaN")),
        ("no UTF-8", Bytes::from_static(b"\"\xff\xfe\"")),
        ("a surrogate in UTF-8", Bytes::from_static(b"\"\xed\xa0\x80\"")),
        ("half a surrogate pair", Bytes::from_static(b"\"\\ud800\"")),
        ("the other half first", Bytes::from_static(b"[\"\\udc00\\ud800\"]")),
        ("a number beyond all", Bytes::from_static(b"1e999")),
        ("a number of too many digits", Bytes::from("9".repeat(5000))),
        ("arrays too deep", deep("[", "]")),
        ("objects too deep", Bytes::from("{\"a\":".repeat(32) + "1" + &"}".repeat(32))),
    ]
}

/// What is odd and must come out as what it is.
fn odd() -> Vec<(&'static str, String)> {
    vec![
        ("separators of lines", "\"a\u{2028}b\u{2029}c\u{85}d\"".to_owned()),
        ("an escaped newline", r#""a\n{\"type\":\"ready\"}""#.to_owned()),
        ("an escaped escape sequence", r#""\u001b[2J\u0000""#.to_owned()),
        ("the look of an event", r#"{"type":"closing","reason":"signal","seq":1}"#.to_owned()),
        ("a surrogate pair", r#""\ud83d\ude00""#.to_owned()),
        ("the largest number", "1.7976931348623157e308".to_owned()),
        ("as deep as may be", "[".repeat(31) + &"]".repeat(31)),
    ]
}

/// Texts beside the payload that have the look of something else.
fn dressed(message: &mut Message) {
    message.kind = "k\"}{\"type\":\"ready\"}".to_owned();
    message.reply_to = "r\u{2028}\\u001b[2J".to_owned();
    message.conversation = "c\",\"from\":\"0x0".to_owned();
}

/// What is wrong, and how a message becomes so.
type Wrong = (&'static str, fn(&mut Message));

/// What may stand beside a payload as little as in a command of the parent's own.
fn untellable() -> Vec<Wrong> {
    vec![
        ("a newline in its kind", |message| message.kind = "k\n{\"type\":\"ready\"}".to_owned()),
        ("an escape sequence in what it answers", |message| message.reply_to = "r\u{1b}[2J".to_owned()),
        ("a zero byte in its conversation", |message| message.conversation = "c\0".to_owned()),
        ("a control character beyond ASCII", |message| message.kind = "k\u{9b}2J".to_owned()),
        ("a time that JSON readers round", |message| message.sent_at_ms = 1 << 53),
        ("the end of time", |message| message.sent_at_ms = u64::MAX),
    ]
}

/// The only line that came is the message; every line was JSON, or the reader would have ended the
/// test.
fn only_message(said: Vec<Value>, what: &str) -> Value {
    assert_eq!(said.len(), 1, "{what}: {said:#?}");
    assert_eq!(said[0]["type"], "message", "{what}: {said:#?}");
    said[0].clone()
}

async fn mail(hostile: &mut Hostile, scene: &Scene, scope: Scope, data: Bytes) -> Option<Response> {
    let frame = hostile.forger.frame(scope, data, |body| dressed(&mut messages(body)[0]));
    hostile.sealed_mail(&scene.victim, frame).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_payload_becomes_a_line_of_its_own() {
    let mut scene = Scene::new("full");
    let victim = Forger::new(VICTIM);
    let mut hostile = Hostile::meet(Forger::new(0x40), &scene.victim).await;
    hostile.subscribed(&scene.victim, TOPIC).await;
    scene.victim.said(&EVENTS);
    scene.honest.said(&EVENTS);
    for (number, (what, data)) in (1..).zip(impossible()) {
        let answer = mail(&mut hostile, &scene, victim.scope(), data.clone()).await;
        assert!(matches!(answer, Some(Response::Ack(_))), "{what}: settled by refusing it, {answer:?}");
        assert_eq!(scene.victim.counter("mail_refused"), number, "{what}");
        // The frame is authentic: it is passed on, and refused again by whoever would have to tell
        // it.
        let frame = hostile.forger.frame(topic(TOPIC), data, |body| dressed(&mut messages(body)[0]));
        hostile.publish(TOPIC, frame).await;
        scene.victim.until_counted("broadcasts_refused", number);
        scene.honest.until_counted("broadcasts_refused", number);
        let said = [scene.victim.said(&EVENTS), scene.honest.said(&EVENTS)].concat();
        assert!(said.is_empty(), "{what}: {said:#?}");
    }
    for (what, data) in odd() {
        let wanted: Value = serde_json::from_str(&data).unwrap();
        mail(&mut hostile, &scene, victim.scope(), data.clone().into()).await;
        let told = only_message(scene.victim.said(&EVENTS), what);
        assert_eq!((&told["data"], &told["from"]), (&wanted, &json!(hostile.forger.address())), "{what}");
        assert_eq!(told["kind"], "k\"}{\"type\":\"ready\"}");
        assert_eq!(told["conversationId"], "c\",\"from\":\"0x0");
        hostile.publish(TOPIC, hostile.forger.frame(topic(TOPIC), data, |_| {})).await;
        for node in [&mut scene.victim, &mut scene.honest] {
            let told = node.child.expect(what, |event| event["type"] == "message");
            assert_eq!((&told["data"], &told["topic"]), (&wanted, &json!(TOPIC)), "{what}");
        }
    }
    scene.nothing_said(&EVENTS);

    // Names of hosts hold anything, and those with control characters are not told.
    let host = "h\n{\"type\":\"ready\"}\u{2028}\u{1b}[2J".to_owned();
    let addr =
        |host: &str| Multiaddr::empty().with(Protocol::Dns4(host.to_owned().into())).with(Protocol::Tcp(1));
    let addrs = vec![addr(&host), addr("h\"}\u{2028}")];
    let record = hostile.forger.record(|record| record.addrs = addrs);
    hostile.hello(&scene.victim, record).await;
    let told = scene.victim.child.expect("the record", |event| event["type"] == "peer_discovered");
    assert_eq!(told["addrs"], json!(["/dns4/h\"}\u{2028}/tcp/1"]));
    scene.still_honest();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_message_with_control_characters_or_a_time_that_is_not_exact_is_refused() {
    let mut scene = Scene::new("full");
    let victim = Forger::new(VICTIM);
    let mut hostile = Hostile::meet(Forger::new(0x40), &scene.victim).await;
    hostile.subscribed(&scene.victim, TOPIC).await;
    scene.victim.said(&EVENTS);
    scene.honest.said(&EVENTS);
    for (number, (what, change)) in (1..).zip(untellable()) {
        let frame = hostile.forger.frame(victim.scope(), "1", |body| change(&mut messages(body)[0]));
        let answer = hostile.sealed_mail(&scene.victim, frame).await;
        let Some(Response::Ack(ack)) = answer else { panic!("{what}: {answer:?}") };
        let ack = SignedAck::decode(ack).unwrap();
        let outcomes = &ack.ack.streams[0].rejections;
        assert!(outcomes.iter().any(|outcome| outcome.code == "INVALID_ARGUMENT"), "{what}: {outcomes:?}");
        assert_eq!(scene.victim.counter("mail_refused"), number, "{what}");
        let frame = hostile.forger.frame(topic(TOPIC), "1", |body| change(&mut messages(body)[0]));
        hostile.publish(TOPIC, frame).await;
        scene.victim.until_counted("broadcasts_refused", number);
        scene.honest.until_counted("broadcasts_refused", number);
        scene.nothing_said(&EVENTS);
    }
    // Their neighbours are tellable, and told.
    let frame = hostile.forger.frame(victim.scope(), "\"good\"", |body| {
        messages(body)[0].sent_at_ms = (1 << 53) - 1;
        messages(body)[0].kind = "é\u{2028}".to_owned();
    });
    hostile.sealed_mail(&scene.victim, frame).await;
    let told = only_message(scene.victim.said(&EVENTS), "the last exact time");
    assert_eq!((&told["sentAtMs"], &told["kind"]), (&json!((1_u64 << 53) - 1), &json!("é\u{2028}")));
    scene.still_honest();
}
