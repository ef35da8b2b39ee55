//! Commands and events of requests.

use p2p_node_protocol::line::{decode_event, decode_request, encode_event, encode_request};
use p2p_node_protocol::{
    AgentError, Ask, Command, Credit, ErrorCode, Event, Handle, HandlerError, IncomingRequest, Request,
    RequestCancelled, Respond, Response, ResponseCredit, Trust,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn command_line(command: Command) -> Value {
    let mut line = Vec::new();
    encode_request(&Request { id: Some(1.into()), command }, &mut line);
    let decoded = decode_request(line.strip_suffix(b"\n").unwrap()).unwrap();
    let mut again = Vec::new();
    encode_request(&decoded, &mut again);
    assert_eq!(line, again);
    serde_json::from_slice(&line).unwrap()
}

#[test]
fn commands_of_requests_round_trip_with_the_default_fields_left_out() {
    let ask = Ask { stream: true, credit: Some(4), deadline_ms: Some(9), ..Ask::to_peer("0x1", raw("[1]")) };
    let expected = json!({
        "type": "request", "id": 1, "peerId": "0x1", "data": [1], "deadlineMs": 9, "stream": true, "credit": 4
    });
    assert_eq!(command_line(Command::Ask(ask)), expected);
    let list = Ask { quorum: Some(2), ..Ask::to_peers(vec!["a".to_owned(), "b".to_owned()], raw("1")) };
    let expected = json!({"type": "request", "id": 1, "peerIds": ["a", "b"], "data": 1, "quorum": 2});
    assert_eq!(command_line(Command::Ask(list)), expected);
    let topic = Command::Ask(Ask::to_topic("t", raw("1")));
    assert_eq!(command_line(topic), json!({"type": "request", "id": 1, "topic": "t", "data": 1}));
    let part = Command::Respond(Respond::part("t", raw("2")));
    assert_eq!(
        command_line(part),
        json!({"type": "respond", "id": 1, "ticket": "t", "data": 2, "last": false})
    );
    let last = Command::Respond(Respond::last("t", raw("2")));
    assert_eq!(command_line(last), json!({"type": "respond", "id": 1, "ticket": "t", "data": 2}));
    let error = HandlerError { code: "A".to_owned(), message: "b".to_owned() };
    let expected = json!({"type": "respond", "id": 1, "ticket": "t", "error": {"code": "A", "message": "b"}});
    assert_eq!(command_line(Command::Respond(Respond::error("t", error))), expected);
    let handle = Command::Handle(Handle { kinds: vec!["sum".to_owned()] });
    assert_eq!(command_line(handle), json!({"type": "handle", "id": 1, "kinds": ["sum"]}));
    let credit = Command::Credit(Credit { target: "q".into(), parts: 7 });
    assert_eq!(command_line(credit), json!({"type": "credit", "id": 1, "target": "q", "parts": 7}));
}

#[test]
fn payloads_of_requests_and_answers_are_checked_and_lose_only_white_space() {
    for (kind, more) in [("request", r#""peerId":"0x1""#), ("respond", r#""ticket":"t""#)] {
        let line = |data: &str| format!(r#"{{"type":"{kind}",{more},"data":{data},"id":3}}"#);
        let decoded = decode_request(line("[ 1 ,\t2 ]").as_bytes()).unwrap();
        assert_eq!(decoded.command.data().unwrap().get(), "[1,2]");
        let error = decode_request(line("1e999").as_bytes()).unwrap_err();
        assert_eq!((error.code, error.id), (ErrorCode::InvalidArgument, Some(3.into())));
    }
    let data_of =
        |line: &str| decode_request(line.as_bytes()).unwrap().command.data().map(ToString::to_string);
    assert_eq!(data_of(r#"{"type":"respond","ticket":"t"}"#), None);
    assert_eq!(data_of(r#"{"type":"respond","ticket":"t","data":null}"#).as_deref(), Some("null"));
}

#[test]
fn events_of_requests_round_trip() {
    let request = Event::Request(Box::new(IncomingRequest {
        ticket: "t".to_owned(),
        from: "0xA".to_owned(),
        peer_id: "p".to_owned(),
        kind: None,
        data: raw("null"),
        encoding: None,
        topic: None,
        message_id: "m".to_owned(),
        deadline_ms: 5,
        credit: 1,
        stream: false,
        traceparent: None,
        trust: Trust::Unverified,
    }));
    let response = Event::Response(Box::new(Response {
        request_id: "q".into(),
        from: "0xA".to_owned(),
        peer_id: None,
        data: None,
        encoding: None,
        error: Some(AgentError { code: ErrorCode::NoHandler, message: "n".to_owned(), handler_code: None }),
        part: 0,
        last: true,
        trust: Trust::Unverified,
    }));
    let cancelled = RequestCancelled { ticket: "t".to_owned(), reason: "cancelled".to_owned() };
    let credit = ResponseCredit { ticket: "t".to_owned(), parts: 9 };
    let events = [request, response, Event::RequestCancelled(cancelled), Event::Credit(credit)];
    for (event, kind) in events.into_iter().zip(["request", "response", "request_cancelled", "credit"]) {
        let mut line = Vec::new();
        encode_event(&event, None, &mut line);
        let value: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["type"], kind);
        let mut again = Vec::new();
        encode_event(&decode_event(line.strip_suffix(b"\n").unwrap()).unwrap().unwrap(), None, &mut again);
        assert_eq!(line, again);
        assert!(Event::NAMES.contains(&kind));
    }
}
