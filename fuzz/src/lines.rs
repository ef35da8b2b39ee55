//! The pipe: every line of a parent becomes a request or an error, and every event one line.

use p2p_node_protocol::line::{
    Framed, Framer, MAX_ERROR_CHARS, check_data, decode_event, decode_request, encode_event, encode_request,
};
use p2p_node_protocol::{
    Answer, Closing, Command, Delivery, DeliveryState, DropCounts, Encoding, ErrorCode, ErrorEvent, Event,
    Id, Level, Limits, Log, MAX_LINE_BYTES, Message, Overflow, PeerConnected, PeerDisconnected,
    PeerDiscovered, Priority, Ready, ReceivedFile, Role, Route, StatusReport, Trust,
};
use serde_json::value::{RawValue, to_raw_value};

use super::source::Source;

/// A stream of lines. The first byte chooses the limit, the second the sizes of the chunks.
pub fn line(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let limit = source.pick(&[MAX_LINE_BYTES, 4096, 64, 8]);
    let mut cut = usize::from(source.byte());
    let input = source.rest();

    let whole = framed(limit, std::iter::once(input));
    let mut rest = input;
    let chunks = std::iter::from_fn(|| {
        cut = (cut * 5 + 1) % 61;
        let (head, tail) = rest.split_at(cut.min(rest.len()));
        let ended = rest.is_empty();
        rest = tail;
        (!ended).then_some(head)
    });
    assert_eq!(framed(limit, chunks), whole, "the lines do not depend on the chunks");
    for line in whole.into_iter().flatten() {
        assert!(line.len() <= limit && !line.contains(&b'\n') && !line.trim_ascii().is_empty());
        check_line(&line);
    }
}

/// Returns the lines; `None` stands for a line over the limit.
fn framed<'a>(limit: usize, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Option<Vec<u8>>> {
    let mut framer = Framer::new(limit);
    let mut lines = Vec::new();
    let mut on = |framed: Framed<'_>| {
        lines.push(match framed {
            Framed::Line { bytes: line, .. } => Some(line.to_vec()),
            Framed::TooLong { .. } => None,
        });
    };
    chunks.for_each(|chunk| framer.push(chunk, &mut on));
    framer.finish(&mut on);
    lines
}

/// Checks a line as an event and as a request.
fn check_line(line: &[u8]) {
    if let Ok(Some(event)) = decode_event(line) {
        check_event(&event, None);
    }
    match decode_request(line) {
        Err(error) => {
            assert!(error.message.chars().count() <= MAX_ERROR_CHARS);
            assert!(error.id.as_ref().is_none_or(Id::is_valid));
            assert!(matches!(
                error.code,
                ErrorCode::InvalidUtf8
                    | ErrorCode::InvalidJson
                    | ErrorCode::InvalidArgument
                    | ErrorCode::UnknownCommand
            ));
            let event = ErrorEvent { id: error.id, ..ErrorEvent::new(error.code, error.message) };
            check_event(&Event::Error(Box::new(event)), Some(1));
        }
        Ok(request) => {
            assert!(request.id.as_ref().is_none_or(Id::is_valid));
            let mut written = Vec::new();
            encode_request(&request, &mut written);
            assert!(written.pop() == Some(b'\n') && !written.contains(&b'\n'));
            let again = decode_request(&written).expect("an encoded request decodes again");
            let mut rewritten = Vec::new();
            encode_request(&again, &mut rewritten);
            assert_eq!(rewritten.strip_suffix(b"\n"), Some(&*written));
            if let Command::Send(send) = request.command {
                check_forwarding(&send.data);
            }
        }
    }
}

/// Checks that another parent can read the `data`.
fn check_forwarding(data: &RawValue) {
    let arrived = check_data(data.get().as_bytes()).expect("accepted data passes the receiver's check");
    assert_eq!(arrived.get(), data.get());
    let mut source = Source::new(&[]);
    let event = Event::Message(Box::new(Message { data: arrived, ..message(&mut source) }));
    let line = check_event(&event, Some(u64::MAX));
    let Ok(Some(Event::Message(read))) = decode_event(&line) else { panic!("the event is no message") };
    if data.get().is_ascii() {
        assert_eq!(read.data.get(), data.get());
    }
}

/// An event whose fields have random content.
pub fn event(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let seq = source.optional(Source::u64);
    check_event(&any_event(&mut source), seq);
}

/// Encodes an event and checks that it is one line of JSON that decodes to the same event.
pub fn check_event(event: &Event, seq: Option<u64>) -> Vec<u8> {
    let mut line = b"before".to_vec();
    encode_event(event, seq, &mut line);
    let mut line = line.split_off(b"before".len());
    assert_eq!(line.pop(), Some(b'\n'), "the line ends with a newline");
    assert!(line.iter().all(|byte| *byte >= b' '), "no other control character");
    let text = std::str::from_utf8(&line).expect("a line is UTF-8");
    assert!(!text.contains(['\u{85}', '\u{2028}', '\u{2029}']), "no Unicode line separator");
    serde_json::from_slice::<&RawValue>(&line).expect("a line is JSON");
    assert!(text.starts_with(r#"{"type":""#) && text.ends_with('}'));
    if let Some(seq) = seq {
        assert!(text.ends_with(&format!(r#","seq":{seq}}}"#)));
    }
    let read = decode_event(&line).expect("a line is an event").expect("of a known type");
    let mut again = Vec::new();
    encode_event(&read, seq, &mut again);
    // The last digit of a fraction in `details` or `meta` may change when it is decoded.
    if !matches!(event, Event::Error(_) | Event::Log(_)) {
        assert_eq!(again.strip_suffix(b"\n"), Some(&*line), "the decoded event encodes to the same line");
    }
    line
}

fn id(source: &mut Source<'_>) -> Id {
    if source.flag() { Id::Text(source.text()) } else { Id::Number(source.u64().cast_signed()) }
}

fn raw(source: &mut Source<'_>) -> Box<RawValue> {
    let text = source.text();
    match source.below(3) {
        0 => RawValue::from_string(text.clone()).unwrap_or_else(|_| to_raw_value(&text).expect("a string")),
        1 => to_raw_value(&source.json()).expect("a value"),
        _ => RawValue::from_string(serde_json::to_string_pretty(&source.json()).expect("a value"))
            .expect("a value"),
    }
}

fn message(source: &mut Source<'_>) -> Message {
    Message {
        from: source.text(),
        data: raw(source),
        peer_id: source.text(),
        message_id: source.text(),
        topic: source.optional(Source::text),
        kind: source.optional(Source::text),
        priority: source.pick(&[Priority::Low, Priority::Medium, Priority::High]),
        sent_at_ms: source.u64(),
        received_at_ms: source.u64(),
        route: source.pick(&[Route::Auto, Route::Direct, Route::Gossip]),
        reply_to: source.optional(Source::text),
        conversation_id: source.optional(Source::text),
        hops: source.optional(|source| source.u64() as u32),
        traceparent: source.optional(Source::text),
        encoding: source.optional(|_| Encoding::Base64),
        file: source.optional(|source| ReceivedFile {
            path: source.text(),
            size: source.u64(),
            hash: source.text(),
            name: source.optional(Source::text),
        }),
        trust: Trust::Unverified,
        redelivered: source.byte() == 255,
    }
}

fn answer(source: &mut Source<'_>) -> Answer {
    let status = |source: &mut Source<'_>| {
        let counters = source.list(3, |source| (source.text(), source.u64()));
        Box::new(StatusReport {
            peer_id: source.text(),
            topics: source.list(3, Source::text),
            counters: counters.into_iter().collect(),
            ..StatusReport::default()
        })
    };
    Answer {
        message_id: source.optional(Source::text),
        delivery: source.optional(Source::text),
        route: source.optional(|_| Route::Auto),
        peers: source.optional(|source| source.below(9)),
        count: source.optional(|source| source.below(9)),
        time_ms: source.optional(Source::u64),
        status: source.optional(status),
        ..Answer::new(id(source), &source.text())
    }
}

fn any_event(source: &mut Source<'_>) -> Event {
    let dropped = |source: &mut Source<'_>| DropCounts {
        broadcasts: source.u64(),
        mail: source.u64(),
        oversized: source.u64(),
        peer_events: source.u64(),
        log: source.u64(),
    };
    match source.below(11) {
        0 => Event::Message(Box::new(message(source))),
        1 => Event::Result(Box::new(answer(source))),
        2 => any_ready(source),
        3 => any_discovered(source),
        4 => Event::Error(Box::new(ErrorEvent {
            id: source.optional(id),
            request_id: source.optional(id),
            message_id: source.optional(Source::text),
            details: source.optional(Source::json),
            ..ErrorEvent::new(source.pick(ErrorCode::ALL), source.text())
        })),
        5 => Event::Log(Box::new(Log {
            level: source.pick(&[Level::Debug, Level::Info, Level::Warn, Level::Error]),
            namespace: source.text(),
            message: source.text(),
            meta: source.optional(Source::json),
        })),
        6 => any_delivery(source),
        7 => Event::PeerConnected(PeerConnected {
            peer_id: source.text(),
            address: source.optional(Source::text),
        }),
        8 => Event::PeerDisconnected(PeerDisconnected {
            peer_id: source.text(),
            address: source.optional(Source::text),
            reason: source.optional(Source::text),
        }),
        9 => Event::Overflow(Overflow { dropped: dropped(source), total: dropped(source) }),
        _ => Event::Closing(Closing { reason: source.text() }),
    }
}

fn any_ready(source: &mut Source<'_>) -> Event {
    Event::Ready(Box::new(Ready {
        peer_id: source.text(),
        address: source.text(),
        name: source.text(),
        role: source.pick(&[Role::Full, Role::Bootstrap]),
        network: source.text(),
        protocol: 1,
        version: source.text(),
        features: source.list(3, Source::text),
        limits: Limits::STANDARD,
        addrs: source.list(3, Source::text),
        durable: source.flag(),
        http: source.optional(Source::text),
        grpc: source.optional(Source::text),
        a2a: source.optional(Source::text),
    }))
}

fn any_discovered(source: &mut Source<'_>) -> Event {
    Event::PeerDiscovered(Box::new(PeerDiscovered {
        peer_id: source.text(),
        topics: source.list(3, Source::text),
        address: source.text(),
        name: source.optional(Source::text),
        trust: Trust::Unverified,
        role: Role::Full,
        addrs: source.list(3, Source::text),
        capabilities: source.list(3, Source::text),
        expires_at_ms: source.u64(),
        request_id: source.optional(id),
    }))
}

fn any_delivery(source: &mut Source<'_>) -> Event {
    Event::Delivery(Box::new(Delivery {
        message_id: source.text(),
        request_id: source.optional(id),
        state: source.pick(&[DeliveryState::Delivered, DeliveryState::Failed]),
        code: source.optional(|source| source.pick(ErrorCode::ALL)),
        message: source.optional(Source::text),
        delivered_as: source.optional(Source::text),
        traceparent: source.optional(Source::text),
        attempts: source.u16().into(),
        route: source.optional(|_| Route::Direct),
        redelivered: source.byte() == 255,
    }))
}
