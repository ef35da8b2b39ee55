//! Encoding and decoding of events.

use std::collections::{BTreeMap, BTreeSet};

use p2p_node_protocol::line::{decode_event, encode_event};
use p2p_node_protocol::{
    Answer, Closing, Delivery, DeliveryState, DropCounts, Encoding, ErrorCode, ErrorEvent, Event, Level,
    Limits, Log, MAX_EXACT, Message, Overflow, PeerBanned, PeerConnected, PeerDisconnected, PeerDiscovered,
    PeerUnbanned, Priority, Ready, ReceivedFile, RegistryEntry, Role, Route, StatusReport, Transfer,
    TransferDirection, Trust,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

fn line(event: &Event, seq: Option<u64>) -> String {
    let mut out = b"before\n".to_vec();
    encode_event(event, seq, &mut out);
    let text = String::from_utf8(out).unwrap();
    let line = text.strip_prefix("before\n").unwrap().strip_suffix('\n').unwrap();
    assert!(!line.contains(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']), "more than one line: {line:?}");
    line.to_owned()
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn message(data: &str) -> Event {
    Event::Message(Box::new(Message {
        from: "0xA".to_owned(),
        data: raw(data),
        peer_id: "12D3".to_owned(),
        message_id: "m1".to_owned(),
        topic: Some("t".to_owned()),
        kind: Some("vote".to_owned()),
        priority: Priority::High,
        sent_at_ms: 1,
        received_at_ms: 2,
        route: Route::Gossip,
        reply_to: Some("m0".to_owned()),
        conversation_id: Some("c".to_owned()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        hops: None,
        encoding: Some(Encoding::Base64),
        file: Some(ReceivedFile {
            path: "/files/a".to_owned(),
            size: MAX_EXACT,
            hash: "0a".repeat(32),
            name: Some("../a".to_owned()),
        }),
        trust: Trust::Unverified,
        redelivered: false,
    }))
}

fn ready() -> Event {
    Event::Ready(Box::new(Ready {
        peer_id: "12D3".to_owned(),
        address: "0xA".to_owned(),
        name: "n".to_owned(),
        role: Role::Bootstrap,
        network: "dev".to_owned(),
        protocol: 1,
        version: "0.1.0".to_owned(),
        features: vec!["f".to_owned()],
        limits: Limits {
            max_line_bytes: 1,
            max_inflight: 2,
            max_direct_bytes: 3,
            max_topic_bytes: 4,
            max_file_bytes: 9,
            max_inflight_bytes: 5,
            max_pause_ms: 6,
            max_requests: 8,
            max_unacked: 7,
        },
        addrs: vec!["/ip4/127.0.0.1".to_owned()],
        durable: true,
        http: Some("http://127.0.0.1:9090".to_owned()),
        grpc: Some("127.0.0.1:50051".to_owned()),
        a2a: Some("http://127.0.0.1:8420".to_owned()),
    }))
}

fn peer_discovered() -> Event {
    Event::PeerDiscovered(Box::new(PeerDiscovered {
        peer_id: "12D3".to_owned(),
        topics: vec!["t".to_owned()],
        address: "0xA".to_owned(),
        name: Some("x".to_owned()),
        trust: Trust::Registered,
        role: Role::Full,
        addrs: vec![],
        capabilities: vec!["c".to_owned()],
        expires_at_ms: 9,
        request_id: Some(1.into()),
    }))
}

fn result() -> Event {
    Event::Result(Box::new(Answer {
        message_id: Some("x".to_owned()),
        delivery: Some("x".to_owned()),
        route: Some(Route::Auto),
        peers: Some(1),
        count: Some(2),
        time_ms: Some(3),
        status: Some(Box::new(StatusReport {
            counters: BTreeMap::from([("c".to_owned(), 1)]),
            ..StatusReport::default()
        })),
        address: Some("0xA".to_owned()),
        registry: Some(Box::new(RegistryEntry {
            address: "0xA".to_owned(),
            ens_name: Some("x.eth".to_owned()),
            is_registered: true,
            is_blocked: false,
            name: Some("x".to_owned()),
            metadata: Some("m".to_owned()),
            reputation: Some(4),
            registered_at_ms: 5,
        })),
        ..Answer::new(1.into(), "send")
    }))
}

fn delivery() -> Event {
    Event::Delivery(Box::new(Delivery {
        message_id: "m".to_owned(),
        request_id: Some(1.into()),
        state: DeliveryState::Expired,
        code: Some(ErrorCode::Expired),
        message: None,
        delivered_as: Some("x".to_owned()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        attempts: 2,
        redelivered: false,
        route: Some(Route::Direct),
    }))
}

/// Returns one event of every type with all its fields.
fn one_of_each() -> Vec<(&'static str, Event)> {
    let some = || Some("x".to_owned());
    vec![
        ("ready", ready()),
        ("message", message(r#"{"a":1}"#)),
        ("peer_discovered", peer_discovered()),
        (
            "error",
            Event::Error(Box::new(ErrorEvent {
                id: Some("a".into()),
                request_id: Some(2.into()),
                message_id: some(),
                details: Some(json!({ "id": 2 })),
                ..ErrorEvent::new(ErrorCode::PeerBusy, "full")
            })),
        ),
        (
            "log",
            Event::Log(Box::new(Log {
                level: Level::Warn,
                namespace: "n".to_owned(),
                message: "m".to_owned(),
                meta: Some(json!([1])),
            })),
        ),
        ("result", result()),
        ("delivery", delivery()),
        ("transfer", transfer()),
        ("peer_connected", Event::PeerConnected(PeerConnected { peer_id: "p".to_owned(), address: some() })),
        (
            "peer_disconnected",
            Event::PeerDisconnected(PeerDisconnected {
                peer_id: "p".to_owned(),
                address: some(),
                reason: some(),
            }),
        ),
        (
            "overflow",
            Event::Overflow(Overflow {
                dropped: DropCounts { broadcasts: 1, log: 2, ..DropCounts::default() },
                total: DropCounts { broadcasts: 3, log: 4, ..DropCounts::default() },
            }),
        ),
        ("closing", Event::Closing(Closing { reason: "eof".to_owned() })),
    ]
}

fn transfer() -> Event {
    Event::Transfer(Box::new(Transfer {
        message_id: "m".to_owned(),
        direction: TransferDirection::Send,
        address: "0x".to_owned(),
        bytes: 1,
        total: 2,
        request_id: Some(1.into()),
        code: Some(ErrorCode::FileChanged),
    }))
}

fn bans() -> [(&'static str, Event); 2] {
    let some = || Some("x".to_owned());
    [
        (
            "peer_banned",
            Event::PeerBanned(Box::new(PeerBanned {
                peer_id: some(),
                address: some(),
                ip: some(),
                reason: "invalid_mail".to_owned(),
                score: 0.2,
                until_ms: 1,
            })),
        ),
        (
            "peer_unbanned",
            Event::PeerUnbanned(PeerUnbanned {
                peer_id: some(),
                address: some(),
                ip: some(),
                reason: "recovered".to_owned(),
            }),
        ),
    ]
}

#[test]
fn event_round_trip_with_and_without_seq() {
    for (kind, event) in one_of_each().into_iter().chain(bans()) {
        let plain = line(&event, None);
        let value: Value = serde_json::from_str(&plain).unwrap();
        assert_eq!(value["type"], kind);
        let decoded =
            decode_event(plain.as_bytes()).unwrap().unwrap_or_else(|| panic!("unknown event {kind}"));
        assert_eq!(line(&decoded, None), plain);

        let numbered = line(&event, Some(u64::MAX));
        let mut value: Value = serde_json::from_str(&numbered).unwrap();
        assert_eq!(value.as_object_mut().unwrap().remove("seq"), Some(json!(u64::MAX)));
        assert_eq!(value, serde_json::from_str::<Value>(&plain).unwrap());
        assert!(decode_event(numbered.as_bytes()).unwrap().is_some());
    }
}

#[test]
fn empty_optional_fields_are_omitted() {
    let error = Event::Error(Box::new(ErrorEvent::new(ErrorCode::Busy, "b")));
    assert_eq!(line(&error, None), r#"{"type":"error","code":"BUSY","message":"b","retryable":true}"#);
    let answer = Event::Result(Box::new(Answer::new("i".into(), "ping")));
    assert_eq!(line(&answer, Some(7)), r#"{"type":"result","id":"i","command":"ping","seq":7}"#);
}

#[test]
fn text_with_line_separators_stays_in_one_line() {
    let text = "a\n\r\0\u{1f}\u{7f}\u{85}\u{2028}b\u{2029}\u{e9}\u{1f600}";
    let log = Event::Log(Box::new(Log {
        level: Level::Info,
        namespace: text.to_owned(),
        message: text.to_owned(),
        meta: Some(json!({ text: text })),
    }));
    let value: Value = serde_json::from_str(&line(&log, Some(1))).unwrap();
    assert_eq!(
        (&value["namespace"], &value["message"], &value["meta"][text]),
        (&json!(text), &json!(text), &json!(text))
    );

    let data = "[\n\"\u{85}\u{2028}\u{2029}\u{e9}\",\r\n\t1]";
    let value: Value = serde_json::from_str(&line(&message(data), None)).unwrap();
    assert_eq!(value["data"], json!(["\u{85}\u{2028}\u{2029}\u{e9}", 1]));
}

#[test]
fn raw_data_is_written_unchanged() {
    for data in [r#""\ud800""#, "1e999", "0.10", r#"{"a":1,"a":2}"#] {
        assert!(line(&message(data), None).contains(&format!(r#""data":{data},"#)));
    }
}

#[test]
fn unknown_events_and_fields_are_skipped_and_invalid_ones_refused() {
    assert!(decode_event(br#"{"type":"tomorrow","x":1}"#).unwrap().is_none());
    let event = decode_event(br#"{"type":"closing","reason":"eof","new":1}"#).unwrap();
    assert!(matches!(event, Some(Event::Closing(_))));
    let event = decode_event(br#"{"type":"error","code":"NEW_CODE","message":"","retryable":true}"#).unwrap();
    let Some(Event::Error(error)) = event else { panic!("not an error") };
    assert_eq!((error.code, error.retryable), (ErrorCode::Unknown, true));
    for wrong in ["", "[]", "{}", r#"{"type":"closing"}"#, r#"{"type":"closing","reason":1}"#, "panicked at"]
    {
        assert!(decode_event(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn error_codes_are_unique_upper_snake_case() {
    let mut seen = BTreeSet::new();
    for &code in ErrorCode::ALL {
        let text = code.as_str();
        assert!(seen.insert(text), "{text} twice");
        assert!(
            text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'),
            "{text}"
        );
        assert!(!text.starts_with('_') && !text.ends_with('_') && !text.contains("__"), "{text}");
        assert_eq!(serde_json::to_value(code).unwrap(), json!(text));
        assert_eq!(serde_json::from_value::<ErrorCode>(json!(text)).unwrap(), code);
        assert!(code.meaning().ends_with('.'), "{text}: {}", code.meaning());
    }
    assert!(!ErrorCode::ALL.contains(&ErrorCode::Unknown));
}

#[test]
fn name_of_a_delivery_state_is_the_same_as_in_its_line() {
    use DeliveryState::{Delivered, Expired, Failed, Rejected, Unknown};
    for state in [Delivered, Expired, Failed, Rejected, Unknown] {
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
}
