//! Payloads that try to look like other events to the victim's parent.

use bytes::Bytes;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use p2p_node_wire::envelope::{Ack, Message, Response, Scope, strict_decode};
use serde_json::{Value, json};

use crate::fixture::{Fixture, TOPIC, VICTIM};
use crate::forge::{Forger, messages, topic};
use crate::peer::Hostile;

const EVENTS: [&str; 8] =
    ["message", "error", "ready", "result", "closing", "log", "peer_discovered", "delivery"];

/// Payloads that no line can contain.
fn invalid_payloads() -> Vec<(&'static str, Bytes)> {
    let deep = |open: &str, close: &str| Bytes::from(open.repeat(32) + &close.repeat(32));
    vec![
        ("a separate line", Bytes::from_static(b"1\n{\"type\":\"closing\",\"reason\":\"signal\"}")),
        ("a line inside a string", Bytes::from_static(b"\"\n{\\\"type\\\":\\\"ready\\\"}\"")),
        ("a carriage return", Bytes::from_static(b"1\r2")),
        ("an escape sequence", Bytes::from_static(b"\"\x1b[2J\"")),
        ("a zero byte", Bytes::from_static(b"\"\0\"")),
        (
            "another field of the event",
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
        ("a number out of range", Bytes::from_static(b"1e999")),
        ("a number of too many digits", Bytes::from("9".repeat(5000))),
        ("arrays too deep", deep("[", "]")),
        ("objects too deep", Bytes::from("{\"a\":".repeat(32) + "1" + &"}".repeat(32))),
    ]
}

/// Unusual payloads that must arrive unchanged.
fn unusual_payloads() -> Vec<(&'static str, String)> {
    vec![
        ("separators of lines", "\"a\u{2028}b\u{2029}c\u{85}d\"".to_owned()),
        ("an escaped newline", r#""a\n{\"type\":\"ready\"}""#.to_owned()),
        ("an escaped escape sequence", r#""\u001b[2J\u0000""#.to_owned()),
        ("an object like an event", r#"{"type":"closing","reason":"signal","seq":1}"#.to_owned()),
        ("a surrogate pair", r#""\ud83d\ude00""#.to_owned()),
        ("the largest number", "1.7976931348623157e308".to_owned()),
        ("the greatest depth", "[".repeat(31) + &"]".repeat(31)),
    ]
}

/// Sets the text fields of a message to misleading texts.
fn with_misleading_texts(message: &mut Message) {
    message.kind = "k\"}{\"type\":\"ready\"}".to_owned();
    message.reply_to = "r\u{2028}\\u001b[2J".to_owned();
    message.conversation = "c\",\"from\":\"0x0".to_owned();
}

/// A description, and the change that makes a message invalid.
type Wrong = (&'static str, fn(&mut Message));

/// Invalid values of the fields beside the payload.
fn invalid_fields() -> Vec<Wrong> {
    vec![
        ("a newline in its kind", |message| message.kind = "k\n{\"type\":\"ready\"}".to_owned()),
        ("an escape sequence in what it answers", |message| message.reply_to = "r\u{1b}[2J".to_owned()),
        ("a zero byte in its conversation", |message| message.conversation = "c\0".to_owned()),
        ("a control character beyond ASCII", |message| message.kind = "k\u{9b}2J".to_owned()),
        ("a time that JSON readers round", |message| message.sent_at_ms = 1 << 53),
        ("the largest time", |message| message.sent_at_ms = u64::MAX),
    ]
}

/// Asserts that the only event is a message, and returns it. (The reader panics if a line is no
/// JSON.)
fn assert_single_message(events: Vec<Value>, what: &str) -> Value {
    assert_eq!(events.len(), 1, "{what}: {events:#?}");
    assert_eq!(events[0]["type"], "message", "{what}: {events:#?}");
    events[0].clone()
}

async fn mail(hostile: &mut Hostile, fixture: &Fixture, scope: Scope, data: Bytes) -> Option<Response> {
    let frame = hostile.forger.frame(scope, data, |body| with_misleading_texts(&mut messages(body)[0]));
    hostile.sealed_mail(&fixture.victim, frame).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn payload_never_becomes_a_separate_line() {
    let mut fixture = Fixture::new("full");
    let victim = Forger::new(VICTIM);
    let mut hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    hostile.subscribed(&fixture.victim, TOPIC).await;
    hostile.publish("agent-announcements", hostile.forger.early_record()).await;
    fixture.honest.child.expect("the peer", |event| event["type"] == "peer_discovered");
    fixture.victim.take_events(&EVENTS);
    fixture.honest.take_events(&EVENTS);
    for (number, (what, data)) in (1..).zip(invalid_payloads()) {
        let answer = mail(&mut hostile, &fixture, victim.scope(), data.clone()).await;
        assert!(matches!(answer, Some(Response::Ack(_))), "{what}: not completed by a rejection, {answer:?}");
        assert_eq!(fixture.victim.counter("mail_refused"), number, "{what}");
        // The frame is authentic, so the victim forwards it. The honest peer refuses it too.
        let frame =
            hostile.forger.frame(topic(TOPIC), data, |body| with_misleading_texts(&mut messages(body)[0]));
        hostile.publish(TOPIC, frame).await;
        fixture.victim.until_counted("broadcasts_refused", number);
        fixture.honest.until_counted("broadcasts_refused", number);
        let events = [fixture.victim.take_events(&EVENTS), fixture.honest.take_events(&EVENTS)].concat();
        assert!(events.is_empty(), "{what}: {events:#?}");
    }
    for (what, data) in unusual_payloads() {
        let expected: Value = serde_json::from_str(&data).unwrap();
        mail(&mut hostile, &fixture, victim.scope(), data.clone().into()).await;
        let message = assert_single_message(fixture.victim.take_events(&EVENTS), what);
        assert_eq!(
            (&message["data"], &message["from"]),
            (&expected, &json!(hostile.forger.address())),
            "{what}"
        );
        assert_eq!(message["kind"], "k\"}{\"type\":\"ready\"}");
        assert_eq!(message["conversationId"], "c\",\"from\":\"0x0");
        hostile.publish(TOPIC, hostile.forger.frame(topic(TOPIC), data, |_| {})).await;
        for node in [&mut fixture.victim, &mut fixture.honest] {
            let message = node.child.expect(what, |event| event["type"] == "message");
            assert_eq!((&message["data"], &message["topic"]), (&expected, &json!(TOPIC)), "{what}");
        }
    }
    fixture.assert_no_events(&EVENTS);

    // Host names may contain any characters; those with control characters are not reported.
    let host = "h\n{\"type\":\"ready\"}\u{2028}\u{1b}[2J".to_owned();
    let addr =
        |host: &str| Multiaddr::empty().with(Protocol::Dns4(host.to_owned().into())).with(Protocol::Tcp(1));
    let addrs = vec![addr(&host), addr("h\"}\u{2028}")];
    let record = hostile.forger.record(|record| record.addrs = addrs);
    hostile.admit(&fixture.victim, record).await;
    let message = fixture.victim.child.expect("the record", |event| event["type"] == "peer_discovered");
    assert_eq!(message["addrs"], json!(["/dns4/h\"}\u{2028}/tcp/1"]));
    fixture.check_honest_traffic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn message_with_control_characters_or_inexact_time_is_refused() {
    let mut fixture = Fixture::new("full");
    let victim = Forger::new(VICTIM);
    let mut hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    hostile.subscribed(&fixture.victim, TOPIC).await;
    fixture.victim.take_events(&EVENTS);
    fixture.honest.take_events(&EVENTS);
    for (number, (what, change)) in (1..).zip(invalid_fields()) {
        let frame = hostile.forger.frame(victim.scope(), "1", |body| change(&mut messages(body)[0]));
        let answer = hostile.sealed_mail(&fixture.victim, frame).await;
        let Some(Response::Ack(ack)) = answer else { panic!("{what}: {answer:?}") };
        let rejections = &strict_decode::<Ack>(&ack).unwrap().streams[0].rejections;
        assert!(
            rejections.iter().any(|outcome| outcome.code == "INVALID_ARGUMENT"),
            "{what}: {rejections:?}"
        );
        assert_eq!(fixture.victim.counter("mail_refused"), number, "{what}");
        let frame = hostile.forger.frame(topic(TOPIC), "1", |body| change(&mut messages(body)[0]));
        hostile.publish(TOPIC, frame).await;
        fixture.victim.until_counted("broadcasts_refused", number);
        fixture.honest.until_counted("broadcasts_refused", number);
        fixture.assert_no_events(&EVENTS);
    }
    // The nearest valid values are delivered.
    let frame = hostile.forger.frame(victim.scope(), "\"good\"", |body| {
        messages(body)[0].sent_at_ms = (1 << 53) - 1;
        messages(body)[0].kind = "é\u{2028}".to_owned();
    });
    hostile.sealed_mail(&fixture.victim, frame).await;
    let message = assert_single_message(fixture.victim.take_events(&EVENTS), "the last exact time");
    assert_eq!((&message["sentAtMs"], &message["kind"]), (&json!((1_u64 << 53) - 1), &json!("é\u{2028}")));
    fixture.check_honest_traffic();
}
