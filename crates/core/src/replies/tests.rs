//! Two clients of one core.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::line::decode_request;
use p2p_node_protocol::{
    Counter, DeliveryState, ErrorCode, ErrorEvent, Event, Id, Level, MIN_LINE_BYTES, Message, Priority,
    Route, Trust,
};
use p2p_node_wire::message_id::StreamId;
use serde_json::value::RawValue;

use crate::client_id::ClientId;
use crate::input::{ClientEvent, Input, Now};
use crate::replies::clients::MAX_CLIENTS;
use crate::replies::output_queue::{MAIL_LINES, MailLine, WRITER_LINES, WriteToken};
use crate::testing::{START, TestCore as _, core};
use crate::{Core, MAX_INFLIGHT};

const PARENT: ClientId = ClientId::PARENT;
const SECOND: ClientId = ClientId(2);

/// Returns a core that is ready, with two clients. They use protocol version 1, and have read all
/// lines.
fn core_with_two_clients() -> Core {
    let mut core = core();
    core.handle(Input::Client { client: SECOND, event: ClientEvent::Attached }, START);
    command(&mut core, PARENT, r#"{"type":"connect","protocol":1}"#);
    core.handle(Input::Listening { addrs: Vec::new() }, START);
    command(&mut core, SECOND, r#"{"type":"connect","protocol":1}"#);
    for (client, _) in core.lines_by_client() {
        core.handle(Input::Written { client, lines: 1 }, START);
    }
    core
}

fn command(core: &mut Core, client: ClientId, line: &str) {
    let request = decode_request(line.as_bytes()).expect("a command");
    core.handle(Input::Command { client, request }, core.cx.now);
}

fn after(seconds: u64) -> Now {
    Now { mono: START.mono + Duration::from_secs(seconds), unix_ms: START.unix_ms + 1000 * seconds }
}

/// Writes the queued lines. Returns the clients that get an event for which `pick` returns a value,
/// each with this value.
fn lines_with<T>(core: &mut Core, pick: impl Fn(Event) -> Option<T>) -> Vec<(ClientId, T)> {
    let lines = core.lines_by_client().into_iter();
    lines.filter_map(|(client, event)| Some((client, pick(event)?))).collect()
}

fn code(event: Event) -> Option<(Option<Id>, ErrorCode)> {
    match event {
        Event::Error(error) => Some((error.id, error.code)),
        _ => None,
    }
}

fn answer(event: Event) -> Option<Id> {
    match event {
        Event::Result(answer) => Some(answer.id),
        _ => None,
    }
}

fn message(data: &str) -> Box<Message> {
    Box::new(Message {
        from: String::new(),
        data: RawValue::from_string(data.to_owned()).expect("JSON"),
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
    })
}

fn line(data: &str, receipt: Option<WriteToken>) -> MailLine {
    MailLine { priority: Priority::Medium, message: message(data), bytes: data.len(), receipt }
}

#[test]
fn equal_ids_of_two_clients_do_not_collide() {
    let mut core = core_with_two_clients();
    let discover = r#"{"type":"discover","id":1,"timeoutMs":9000}"#;
    for client in [PARENT, SECOND] {
        command(&mut core, client, discover);
    }
    assert_eq!(core.parent.discoveries.len(), 2);
    command(&mut core, SECOND, discover);
    assert_eq!(lines_with(&mut core, code), [(SECOND, (None, ErrorCode::DuplicateId))]);
    command(&mut core, SECOND, r#"{"type":"cancel","id":2,"target":1}"#);
    let id = || Some(Id::Number(1));
    assert_eq!(lines_with(&mut core, code), [(SECOND, (id(), ErrorCode::Cancelled))]);
    core.handle_timeout(after(10));
    assert_eq!(lines_with(&mut core, answer), [(PARENT, Id::Number(1))], "its own runs on");
}

#[test]
fn cancel_of_another_clients_message_is_rejected() {
    let mut core = core_with_two_clients();
    let to = Address::repeat_byte(9);
    command(&mut core, PARENT, &format!(r#"{{"type":"send","id":1,"peerId":"{to}","data":1}}"#));
    command(&mut core, SECOND, r#"{"type":"cancel","id":1,"target":1}"#);
    assert_eq!(core.mail.outbox.len(), 1);
    command(&mut core, PARENT, r#"{"type":"cancel","id":2,"target":1}"#);
    assert_eq!(core.mail.outbox.len(), 0);
}

#[test]
fn delivery_goes_to_the_client_that_sent_the_message() {
    let mut core = core_with_two_clients();
    let to = Address::repeat_byte(9);
    for client in [PARENT, SECOND] {
        let ttl = 1000 * u64::from(client.0 + 1);
        let send = format!(r#"{{"type":"send","id":1,"peerId":"{to}","data":1,"ttlMs":{ttl}}}"#);
        command(&mut core, client, &send);
    }
    let id = || Id::Number(1);
    assert_eq!(lines_with(&mut core, answer), [(PARENT, id()), (SECOND, id())]);
    let delivery = |event| match event {
        Event::Delivery(delivery) => Some((delivery.request_id, delivery.state)),
        _ => None,
    };
    for (client, seconds) in [(PARENT, 2), (SECOND, 4)] {
        core.handle_timeout(after(seconds));
        let expired = (Some(id()), DeliveryState::Expired);
        assert_eq!(lines_with(&mut core, delivery), [(client, expired)]);
    }
}

#[test]
fn client_that_does_not_read_delays_no_other_client() {
    let mut core = core_with_two_clients();
    for id in 0..MAX_INFLIGHT {
        assert!(core.can_accept_command(PARENT));
        command(&mut core, PARENT, &format!(r#"{{"type":"ping","id":{id}}}"#));
    }
    assert!(!core.can_accept_command(PARENT) && core.can_accept_command(SECOND));
    // Enough lines to fill the writer of the parent, and fewer commands than those at which a client pauses.
    for id in 0..(WRITER_LINES - MAX_INFLIGHT) as i64 {
        core.cx.emit_error(ErrorEvent::new(ErrorCode::Internal, "an error"));
        command(&mut core, SECOND, &format!(r#"{{"type":"ping","id":{id}}}"#));
        let lines = core.lines_by_client().iter().filter(|(client, _)| *client == SECOND).count();
        assert_eq!(lines, 2, "the error and the answer");
        core.handle(Input::Written { client: SECOND, lines }, START);
    }
    assert_eq!(core.cx.replies.clients.parent.output.at_writer_lines(), WRITER_LINES);
    assert!(core.can_accept_command(SECOND));
}

#[test]
fn event_without_a_command_goes_to_every_client() {
    let mut core = core_with_two_clients();
    core.cx.emit_error(ErrorEvent::new(ErrorCode::Internal, "an error"));
    core.cx.log(Level::Warn, "test", "a log");
    core.cx.emit_mail(line("1", None));
    core.cx.emit_broadcast(&BTreeSet::from([PARENT, SECOND]), Priority::Medium, message("2"), 1);
    let lines = core.lines_by_client();
    let of = |client| lines.iter().filter(move |(of, _)| *of == client).map(|(_, event)| event);
    for client in [PARENT, SECOND] {
        let events: Vec<&Event> = of(client).collect();
        assert!(
            matches!(events[..], [Event::Error(_), Event::Log(_), Event::Message(_), Event::Message(_)]),
            "{events:?}"
        );
    }
}

#[test]
fn mail_waits_for_the_parent_and_copies_for_other_clients_are_dropped() {
    let mut core = core_with_two_clients();
    let token = |seq| WriteToken { sender: Address::repeat_byte(9), stream: StreamId([1; 16]), seq };
    // Two clients share the limits, and one eighth is for high priority.
    let room = MAIL_LINES / 2 - MAIL_LINES / 2 / 8;
    let number = room + 10;
    for seq in 0..number as u64 {
        core.cx.emit_mail(line("1", Some(token(seq))));
    }
    let queued = |core: &Core, client| core.cx.replies.clients.get(client).expect("a client").output.lines();
    let ([_, mail, ..], [_, copies, ..]) = (queued(&core, PARENT), queued(&core, SECOND));
    assert_eq!((mail, copies), (number, room));
    let dropped = |event| match event {
        Event::Overflow(overflow) => Some(overflow.dropped.mail),
        _ => None,
    };
    assert_eq!(lines_with(&mut core, dropped), [(SECOND, 10)]);
    let written = |core: &mut Core, client| {
        core.cx.replies.clients.get_mut(client).expect("a client").output.written(5).len()
    };
    let written = (written(&mut core, SECOND), written(&mut core, PARENT));
    assert_eq!(written, (4, 5), "the other client has an overflow and copies");
}

#[test]
fn line_longer_than_a_client_reads_is_dropped_for_that_client() {
    let mut core = core_with_two_clients();
    core.cx.replies.clients.get_mut(SECOND).expect("attached").max_line = MIN_LINE_BYTES;
    let long = format!("\"{}\"", "x".repeat(MIN_LINE_BYTES));
    core.cx.emit_mail(line(&long, None));
    let lines = core.lines_by_client();
    assert!(matches!(lines[..], [(PARENT, Event::Message(_)), (SECOND, Event::Overflow(_))]), "{lines:?}");
}

#[test]
fn lines_for_a_detached_client_are_dropped() {
    let mut core = core_with_two_clients();
    let to = Address::repeat_byte(9);
    command(&mut core, SECOND, &format!(r#"{{"type":"send","id":1,"peerId":"{to}","data":1,"ttlMs":1000}}"#));
    command(&mut core, SECOND, r#"{"type":"discover","id":2,"timeoutMs":1000}"#);
    core.lines();
    core.handle(Input::Client { client: SECOND, event: ClientEvent::Detached }, START);
    assert!(!core.can_accept_command(SECOND));
    core.handle_timeout(after(2));
    assert!(core.mail.outbox.is_empty() && core.parent.discoveries.is_empty());
    assert_eq!(core.stats().get(Counter::MailExpired), 1, "the node counts the end of the message");
    command(&mut core, SECOND, r#"{"type":"ping","id":3}"#);
    core.handle(Input::Written { client: SECOND, lines: 1 }, after(2));
    let lines = core.lines_by_client();
    assert!(lines.iter().all(|(client, _)| *client == PARENT), "{lines:?}");
}

#[test]
fn exit_code_counts_only_commands_of_the_parent() {
    let mut core = core_with_two_clients();
    command(&mut core, SECOND, r#"{"type":"discover","id":1,"timeoutMs":999999999}"#);
    assert!(!core.cx.replies.required.refused);
    command(&mut core, PARENT, r#"{"type":"discover","id":1,"timeoutMs":999999999}"#);
    assert!(core.cx.replies.required.refused);
}

#[test]
fn every_client_gets_closing_before_the_node_exits() {
    let mut core = core_with_two_clients();
    command(&mut core, PARENT, r#"{"type":"shutdown","id":1}"#);
    core.handle_timeout(START);
    let closing = |event| matches!(event, Event::Closing(_)).then_some(());
    assert_eq!(lines_with(&mut core, closing), [(PARENT, ()), (SECOND, ())]);
    core.handle(Input::Written { client: PARENT, lines: 9 }, START);
    assert!(!core.cx.replies.clients.are_flushed(), "the other client has not read its last lines");
    core.handle(Input::Written { client: SECOND, lines: 9 }, START);
    assert!(core.cx.replies.clients.are_flushed());
}

#[test]
fn number_of_clients_is_limited_and_ids_are_unique() {
    let mut core = core();
    let clients = &mut core.cx.replies.clients;
    assert!(!clients.attach(PARENT));
    let attached = (1..).map(ClientId).take_while(|client| clients.attach(*client)).count();
    assert_eq!((attached + 1, clients.len()), (MAX_CLIENTS, MAX_CLIENTS));
    clients.detach(ClientId(1));
    assert!(!clients.attach(SECOND) && clients.attach(ClientId(1)));
    let usage = core.usage();
    let clients = usage.iter().find(|usage| usage.name == "clients").expect("a usage");
    assert_eq!((clients.size, clients.limit), (MAX_CLIENTS, MAX_CLIENTS));
}
