//! Decoding and encoding of commands.

use p2p_node_protocol::line::{
    LineError, MAX_DEPTH, MAX_ERROR_CHARS, check_data, decode_request, encode_request,
};
use p2p_node_protocol::{Command, Connect, ErrorCode, Id, Priority, Request, Send};
use proptest::prelude::*;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

fn decode(line: &str) -> Request {
    decode_request(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn sent(line: &str) -> Send {
    match decode(line).command {
        Command::Send(send) => send,
        other => panic!("{line} is {other:?}"),
    }
}

fn decode_error(line: &str) -> LineError {
    decode_request(line.as_bytes()).expect_err(line)
}

#[test]
fn bad_lines_have_their_code_and_id() {
    let table = include_str!("../../../../fixtures/protocol/bad_lines.txt");
    let mut checked = 0;
    for row in crate::rows::rows(table, 3) {
        let [code, id, line] = row[..] else { panic!("{row:?} has not three columns") };
        let line = crate::rows::bytes(line);
        let id: Option<Id> = (id != "-").then(|| serde_json::from_str(id).unwrap());
        match decode_request(&line) {
            Ok(request) => panic!("{row:?} was decoded as {request:?}"),
            Err(error) => {
                assert_eq!((error.code.as_str(), error.id), (code, id), "{row:?}: {}", error.message)
            }
        }
        checked += 1;
    }
    assert!(checked > 80, "only {checked} rows");
}

#[test]
fn commands_of_the_first_sidecar_are_decoded() {
    let line = r#"{"type":"connect","port":0,"bootstrapPeers":["/ip4/127.0.0.1/tcp/1/p2p/x"],"protocol":1}"#;
    let Command::Connect(connect) = decode(line).command else { panic!("not a connect") };
    let peers = vec!["/ip4/127.0.0.1/tcp/1/p2p/x".to_owned()];
    let expected = Connect { port: Some(0), bootstrap_peers: peers, protocol: Some(1), ..Connect::default() };
    assert_eq!(connect, expected);
    for name in ["connect", "discover", "status", "ping", "shutdown"] {
        assert_eq!(decode(&format!(r#"{{"type":"{name}"}}"#)).command.name(), name);
    }
    for name in ["subscribe", "unsubscribe"] {
        assert_eq!(decode(&format!(r#"{{"type":"{name}","topic":"t"}}"#)).command.name(), name);
    }
    assert_eq!(sent(r#"{"type":"send","peerId":"0x1","data":"hi"}"#).peer_id.as_deref(), Some("0x1"));
}

#[test]
fn unknown_fields_white_space_and_escapes_are_accepted() {
    let request = decode(" {\t\"new\":[{}], \"ty\\u0070e\":\"pi\\u006eg\" , \"id\" : \"a\\u0020b\" } ");
    assert_eq!((request.command.name(), request.id), ("ping", Some(Id::from("a b"))));
}

#[test]
fn id_is_decoded_unchanged() {
    let id = |id: &str| decode(&format!(r#"{{"type":"ping","id":{id}}}"#)).id;
    let longest = "x".repeat(128);
    for text in ["", "7", "\u{e9}", &longest] {
        assert_eq!(id(&json!(text).to_string()), Some(Id::from(text)));
    }
    for number in [0, -1, (1 << 53) - 1, 1 - (1 << 53)] {
        assert_eq!(id(&number.to_string()), Some(Id::from(number)));
    }
    assert_eq!(decode(r#"{"type":"ping"}"#).id, None);
    let too_long = format!(r#"{{"type":"ping","id":"{longest}x"}}"#);
    assert_eq!(decode_error(&too_long).code, ErrorCode::InvalidArgument);
}

#[test]
fn data_is_any_json_value_and_loses_only_white_space() {
    let data = |data: &str| sent(&format!(r#"{{"type":"send","topic":"t","data":{data}}}"#)).data.to_string();
    for unchanged in [
        "null",
        "\"a  b\"",
        "1e-999",
        "123456789012345678901234567890",
        "0.10",
        r#""\ud83d\ude00""#,
        r#"{"b":1,"a":1,"a":2}"#,
    ] {
        assert_eq!(data(unchanged), unchanged);
    }
    for invalid in ["1e999", r#"{"a":["\ud800"]}"#, &"9".repeat(5000)] {
        let error = decode_error(&format!(r#"{{"type":"send","topic":"t","data":{invalid},"id":3}}"#));
        assert_eq!((error.code, error.id), (ErrorCode::InvalidArgument, Some(Id::from(3))));
    }
    assert_eq!(data("\t[ 1 , { \"a b\" : \"\\\" }\" } ]\r "), r#"[1,{"a b":"\" }"}]"#);
}

#[test]
fn depth_above_the_limit_is_refused_with_the_id() {
    let line = |levels: usize| {
        let data = format!("{}{}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(r#"{{"type":"send","topic":"t","data":{data},"id":3}}"#)
    };
    decode(&line(MAX_DEPTH));
    for levels in [MAX_DEPTH + 1, 400_000] {
        let error = decode_error(&line(levels));
        assert_eq!((error.code, error.id), (ErrorCode::InvalidArgument, Some(Id::from(3))));
    }
    assert_eq!(decode_error(&"[".repeat(1 << 20)).code, ErrorCode::InvalidJson);
}

#[test]
fn null_id_is_refused() {
    let error = decode_error(r#"{"type":"ping","id":null}"#);
    assert_eq!((error.code, error.id), (ErrorCode::InvalidArgument, None));
    assert!(
        error.message.starts_with("`id` must be a string of at most 128 bytes, or an integer"),
        "{}",
        error.message
    );
}

#[test]
fn number_that_is_no_json_is_explained() {
    for word in ["NaN", "Infinity", "-Infinity"] {
        let error =
            decode_error(&format!(r#"{{"type":"send","topic":"t","data":{{"x":[1,{word}]}},"id":5}}"#));
        assert_eq!((error.code, error.id), (ErrorCode::InvalidJson, Some(Id::from(5))));
        assert!(error.message.contains(&format!("JSON has no {word};")), "{}", error.message);
    }
    assert!(!decode_error(r#"{"type":"send","x":"NaN","y":nan}"#).message.contains("JSON has no"));
}

#[test]
fn line_over_the_limit_keeps_the_id_in_its_head() {
    let id = |head: &str| LineError::too_long(1 << 20, head.as_bytes()).id;
    assert_eq!(id(r#"{"type":"send","id":"a","topic":"t","data":"xxxx"#), Some(Id::from("a")));
    assert_eq!(id(r#"{"type":"send","topic":"t","data":"xxxx"#), None);
}

#[test]
fn error_message_length_is_bounded() {
    let long = "x".repeat(1 << 19);
    for line in [
        format!(r#"{{"type":"{long}"}}"#),
        format!(r#"{{"type":"send","data":1,"priority":"{long}"}}"#),
        format!(r#"{{"type":"connect","port":"{long}"}}"#),
    ] {
        let message = decode_error(&line).message;
        assert_eq!(message.chars().count(), MAX_ERROR_CHARS, "{message}");
    }
    assert_eq!(LineError::too_long(1 << 20, b"").code, ErrorCode::LineTooLong);
}

#[test]
fn request_round_trip_in_one_line() {
    let spread = RawValue::from_string("{\n \"a\":\r\n [1]}".to_owned()).unwrap();
    let send = Send {
        kind: Some("line\nfeed".to_owned()),
        priority: Some(Priority::High),
        ..Send::to_peer("0x1", spread)
    };
    let mut line = Vec::new();
    encode_request(&Request { id: Some("q\"".into()), command: Command::Send(send) }, &mut line);
    assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
    assert_eq!(line.pop(), Some(b'\n'));
    let request = decode_request(&line).unwrap();
    assert_eq!(request.id, Some("q\"".into()));
    let Command::Send(send) = request.command else { panic!("not a send") };
    assert_eq!((send.data.get(), send.kind.as_deref()), (r#"{"a":[1]}"#, Some("line\nfeed")));
    assert_eq!(send.priority, Some(Priority::High));

    let mut line = Vec::new();
    let send = Send::to_topic("t", to_raw_value(&[1]).unwrap());
    encode_request(&Request { id: None, command: Command::Send(send) }, &mut line);
    assert_eq!(line, b"{\"type\":\"send\",\"topic\":\"t\",\"data\":[1]}\n");
    let mut line = Vec::new();
    encode_request(&Request { id: Some(7.into()), command: Command::Ping(Default::default()) }, &mut line);
    assert_eq!(line, b"{\"type\":\"ping\",\"id\":7}\n");
}

#[test]
fn check_data_accepts_one_json_value_without_control_characters() {
    let deepest = format!("{}{}", "[".repeat(MAX_DEPTH - 1), "]".repeat(MAX_DEPTH - 1));
    for good in ["1", "null", "\"a b\"", r#"{"a": [ ]}"#, r#""\n\ud83d\ude00""#, "\"\u{2028}\"", &deepest] {
        assert_eq!(check_data(good.as_bytes()).expect(good).get(), good);
    }
    let too_deep = format!("[{deepest}]");
    let bad: &[&[u8]] = &[
        b"",
        b" ",
        b" 1",
        b"1 ",
        b"1 2",
        b"{}{}",
        b"1\n",
        b"[\n1]",
        b"[\t1]",
        b"\"\n\"",
        b"\"a\0\"",
        b"\"\xff\"",
        b"\"\\ud800\"",
        b"1e999",
        b"nul",
        b"[1",
        b"1}{\"type\":\"ready\"",
        too_deep.as_bytes(),
    ];
    for bad in bad {
        assert!(check_data(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
    }
}

proptest! {
    #[test]
    fn decoder_with_any_bytes_fails_with_a_stable_code(
        line in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        if let Err(error) = decode_request(&line) {
            prop_assert!(matches!(error.code, ErrorCode::InvalidUtf8 | ErrorCode::InvalidJson));
        }
    }

    #[test]
    fn checked_data_round_trip_in_a_line(text in "[ -~\u{85}\u{2028}é]{0,20}") {
        let data = serde_json::to_vec(&json!({ "text": text })).unwrap();
        let raw = check_data(&data).unwrap();
        let mut line = Vec::new();
        let command = Command::Send(Send::to_topic("t", raw));
        encode_request(&Request { id: None, command }, &mut line);
        let value: Value = serde_json::from_slice(&line).unwrap();
        prop_assert_eq!(&value["data"]["text"], &json!(text));
    }
}
