//! JSON edge cases: those of `fixtures/protocol/json_cases.txt`, and cases too long for a table.

use std::collections::BTreeSet;

use p2p_node_protocol::line::{
    Framed, Framer, MAX_DEPTH, check_data, decode_event, decode_request, encode_event, encode_request,
};
use p2p_node_protocol::{Command, ErrorCode, Event, Id, MAX_LINE_BYTES, Message, Priority, Route, Trust};
use serde_json::value::RawValue;

const CASES: &str = include_str!("../../../../fixtures/protocol/json_cases.txt");

fn send_of(data: &[u8]) -> Vec<u8> {
    [br#"{"type":"send","topic":"t","data":"#, data, br#","id":1}"#].concat()
}

/// Returns "-" for a valid line, otherwise the error code.
fn outcome(line: &[u8]) -> &'static str {
    match decode_request(line) {
        Ok(_) => "-",
        Err(error) => error.code.as_str(),
    }
}

fn decode_and_encode_again(line: &[u8]) -> Box<RawValue> {
    let request = decode_request(line).unwrap();
    assert_eq!(request.id, Some(Id::from(1)));
    let mut written = Vec::new();
    encode_request(&request, &mut written);
    let again = decode_request(written.trim_ascii_end()).unwrap();
    match (request.command, again.command) {
        (Command::Send(send), Command::Send(again)) => {
            assert_eq!(send.data.get(), again.data.get());
            send.data
        }
        other => panic!("{other:?}"),
    }
}

/// Asserts that another node accepts the data and that its parent reads it from one line.
fn assert_received(data: &RawValue) {
    let data = check_data(data.get().as_bytes()).unwrap();
    let event = Event::Message(Box::new(Message {
        from: String::new(),
        data: data.clone(),
        peer_id: String::new(),
        message_id: String::new(),
        topic: None,
        kind: None,
        priority: Priority::Medium,
        sent_at_ms: 0,
        received_at_ms: 0,
        route: Route::Direct,
        reply_to: None,
        conversation_id: None,
        traceparent: None,
        hops: None,
        encoding: None,
        file: None,
        trust: Trust::Unverified,
        redelivered: false,
    }));
    let mut line = Vec::new();
    encode_event(&event, Some(1), &mut line);
    assert_eq!(line.iter().filter(|byte| **byte < b' ').count(), 1, "one line");
    let Some(Event::Message(message)) = decode_event(&line).unwrap() else { panic!("not a message") };
    if data.get().is_ascii() {
        assert_eq!(message.data.get(), data.get());
    }
}

#[test]
fn json_cases_have_their_outcomes() {
    let mut names = BTreeSet::new();
    for row in crate::rows::rows(CASES, 4) {
        let [name, place, expected, text] = row[..] else { panic!("{row:?} has not four columns") };
        assert!(names.insert(name), "{name} twice");
        match (&name[..2], expected) {
            ("y_", "-") | ("i_", _) => {}
            ("n_", code) if code != "-" => {}
            other => panic!("{name}: {other:?}"),
        }
        let text = crate::rows::bytes(text);
        let line = if place == "data" { send_of(&text) } else { text.clone() };
        assert_eq!(outcome(&line), expected, "{name}");
        assert_eq!(outcome(&line), expected, "{name}, second time");
        if (place, expected) == ("data", "-") {
            assert_received(&decode_and_encode_again(&line));
        }
        if place == "data" && expected != "-" {
            assert!(check_data(&text).is_err(), "{name} from the network");
        }
    }
    assert!(names.len() > 180, "only {} cases", names.len());
}

#[test]
fn depth_limit_includes_the_object_of_the_line() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"":"#, "}]")] {
        let levels = open.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
        let nested = |depth: usize| {
            let pairs = depth / levels;
            format!("{}1{}", open.repeat(pairs), close.repeat(pairs)).into_bytes()
        };
        for depth in [30, 31, 32, 33, 100_000] {
            let data = nested(depth);
            let fits = depth / levels * levels < MAX_DEPTH;
            assert_eq!(
                outcome(&send_of(&data)),
                if fits { "-" } else { "INVALID_ARGUMENT" },
                "{open} {depth}"
            );
            assert_eq!(check_data(&data).is_ok(), fits, "{open} {depth}");
        }
    }
    for open in ["[", r#"{"a":"#, r#"[{"":"#] {
        assert_eq!(outcome(&send_of(open.repeat(100_000).as_bytes())), "INVALID_JSON", "{open} without end");
    }
    let unread = format!(r#"{{"type":"ping","x":{}{}}}"#, "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    assert_eq!(outcome(unread.as_bytes()), "INVALID_ARGUMENT", "the limit covers unknown fields");
}

#[test]
fn line_of_one_mebibyte_is_read_and_longer_one_refused() {
    let line = |length: usize| {
        let around = send_of(b"\"\"").len();
        send_of(format!("\"{}\"", "x".repeat(length - around)).as_bytes())
    };
    for (length, ending, fits) in [
        (MAX_LINE_BYTES - 1, "\n", true),
        (MAX_LINE_BYTES, "\n", true),
        (MAX_LINE_BYTES, "\r\n", true),
        (MAX_LINE_BYTES, "", true),
        (MAX_LINE_BYTES + 1, "\n", false),
        (MAX_LINE_BYTES + 1, "", false),
    ] {
        let line = line(length);
        assert_eq!(line.len(), length);
        let mut framer = Framer::new(MAX_LINE_BYTES);
        let mut outcomes = Vec::new();
        let mut on = |framed: Framed<'_>| {
            outcomes.push(match framed {
                Framed::Line { bytes: line, .. } => outcome(line),
                Framed::TooLong { .. } => ErrorCode::LineTooLong.as_str(),
            });
        };
        for chunk in [&line, ending.as_bytes()].concat().chunks(65_536) {
            framer.push(chunk, &mut on);
        }
        framer.finish(&mut on);
        assert_eq!(outcomes, [if fits { "-" } else { "LINE_TOO_LONG" }], "{length} bytes, then {ending:?}");
    }
    // The contents that take longest to parse in a line of that length.
    for filling in ["[],", "{},", "0,", "\"\\u0000\",", "1e9,", "\"\u{85}\","] {
        let items = filling.repeat((MAX_LINE_BYTES - 100) / filling.len());
        let data = format!("[{}]", items.trim_end_matches(','));
        assert_received(&decode_and_encode_again(&send_of(data.as_bytes())));
    }
}
