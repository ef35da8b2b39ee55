//! Clients that attach to a node: who gets what, and what becomes of it when one leaves.

use std::time::Duration;

use p2p_node_core::client_id::ClientId;
use p2p_node_core::input::ClientEvent;
use p2p_node_protocol::{Counter, Role};

use crate::acks::states;
use crate::mesh::{CONNECT, Mesh};

/// Returns a mesh of a server, a sender, and a daemon, and the index of the daemon.
fn daemon(durable: bool, manual_ack: bool) -> (Mesh, usize) {
    let mut mesh = Mesh::new(2);
    let daemon = mesh.add_with(3, Role::Full, CONNECT, |config| {
        (config.has_parent, config.durable, config.manual_ack) = (false, durable, manual_ack);
    });
    mesh.connect(1, 0);
    mesh.connect(daemon, 0);
    mesh.connect(1, daemon);
    (mesh, daemon)
}

fn send(mesh: &mut Mesh, to: usize, data: std::ops::RangeInclusive<u64>) {
    for data in data {
        mesh.send(1, to, data, "");
        mesh.advance(Duration::from_millis(10));
    }
}

fn ack(mesh: &mut Mesh, node: usize, client: ClientId, data: u64) -> String {
    let message = mesh.client_lines(node, client, "message").into_iter().rfind(|line| line["data"] == data);
    let id = message.unwrap()["messageId"].as_str().unwrap().to_owned();
    mesh.client_command(node, client, &format!(r#"{{"type":"ack","messageId":"{id}","id":"ack"}}"#));
    mesh.advance(Duration::from_millis(50));
    let last = mesh.clients[&(node, client)].lines.iter().rfind(|line| line["id"] == "ack").unwrap();
    last["code"].as_str().unwrap_or("ok").to_owned()
}

#[test]
fn mail_waits_for_the_first_client_of_a_daemon() {
    for durable in [false, true] {
        let (mut mesh, daemon) = daemon(durable, false);
        send(&mut mesh, daemon, 1..=3);
        assert_eq!(states(&mesh, 1).len(), if durable { 0 } else { 3 }, "a store waits for a client");
        let silent = mesh.attach(daemon, 1, r#","inbox":false"#);
        let client = mesh.attach(daemon, 2, "");
        mesh.advance(Duration::from_millis(50));
        assert_eq!(mesh.client_mail(daemon, client), [1, 2, 3]);
        assert_eq!(mesh.client_mail(daemon, silent), [0; 0]);
        assert_eq!(states(&mesh, 1), ["delivered"; 3]);
    }
}

#[test]
fn ready_comes_with_the_connect_of_each_client_and_nothing_before() {
    let (mut mesh, daemon) = daemon(false, false);
    let client = ClientId(1);
    mesh.client_event(daemon, client, ClientEvent::Attached);
    send(&mut mesh, daemon, 1..=1);
    mesh.client_command(daemon, client, r#"{"type":"ping","id":1}"#);
    mesh.client_command(daemon, client, r#"{"type":"status","id":2}"#);
    mesh.client_command(daemon, client, r#"{"type":"connect","id":3,"maxUnacked":7,"maxLineBytes":5000}"#);
    mesh.client_command(daemon, client, r#"{"type":"connect","id":4}"#);
    let lines = &mesh.clients[&(daemon, client)].lines;
    let told: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(told, ["result", "error", "ready", "result", "message", "error"]);
    let code = |index: usize| lines[index]["code"].as_str().unwrap();
    assert_eq!((code(1), code(5)), ("NOT_CONNECTED", "ALREADY_CONNECTED"));
    let limits = &lines[2]["limits"];
    assert_eq!((&limits["maxUnacked"], &limits["maxLineBytes"]), (&7.into(), &5000.into()));
}

#[test]
fn connect_of_a_client_waits_for_that_of_the_parent() {
    let mut mesh = Mesh::new(1);
    let node = mesh.add_with(2, Role::Full, r#"{"type":"ping","id":1}"#, |_| {});
    let client = mesh.attach(node, 1, "");
    mesh.client_command(node, client, r#"{"type":"status","id":2}"#);
    assert!(mesh.clients[&(node, client)].lines.is_empty());
    mesh.command(node, CONNECT);
    let ids: Vec<_> =
        mesh.client_lines(node, client, "result").iter().map(|line| line["id"].clone()).collect();
    assert_eq!(ids, ["connect".into(), serde_json::json!(2)]);
    assert_eq!(mesh.client_lines(node, client, "ready").len(), 1);
}

#[test]
fn one_client_of_a_group_gets_each_message_and_every_other_client_gets_all() {
    for (durable, manual_ack) in [(false, false), (true, false), (false, true), (true, true)] {
        let (mut mesh, daemon) = daemon(durable, manual_ack);
        let [one, two] = [1, 2].map(|number| mesh.attach(daemon, number, r#","group":"workers""#));
        let all = mesh.attach(daemon, 3, "");
        send(&mut mesh, daemon, 1..=6);
        let (of_one, of_two) = (mesh.client_mail(daemon, one), mesh.client_mail(daemon, two));
        assert_eq!((of_one.len(), of_two.len()), (3, 3), "in turn");
        let mut of_both = [of_one, of_two].concat();
        of_both.sort_unstable();
        assert_eq!(of_both, [1, 2, 3, 4, 5, 6]);
        assert_eq!(mesh.client_mail(daemon, all), [1, 2, 3, 4, 5, 6], "{durable} {manual_ack}");
    }
}

#[test]
fn unread_messages_of_a_client_that_goes_reach_another_of_its_group() {
    for durable in [false, true] {
        let (mut mesh, daemon) = daemon(durable, false);
        let [one, two] = [1, 2].map(|number| mesh.attach(daemon, number, r#","group":"workers""#));
        mesh.stop(daemon, one, true);
        send(&mut mesh, daemon, 1..=4);
        let got = mesh.client_lines(daemon, one, "message").len();
        assert!(got > 0, "the writer has lines that the client did not read");
        mesh.client_event(daemon, one, ClientEvent::Detached);
        mesh.advance(Duration::from_millis(50));
        let mut of_two = mesh.client_mail(daemon, two);
        of_two.sort_unstable();
        assert_eq!(of_two, [1, 2, 3, 4], "{durable}");
        let redelivered = mesh.client_lines(daemon, two, "message");
        assert_eq!(redelivered.iter().filter(|line| line["redelivered"] == true).count(), got);
        assert_eq!(mesh.nodes[daemon].core.stats().get(Counter::MailHandedOver), got as u64);
        assert_eq!(states(&mesh, 1), ["delivered"; 4]);
    }
}

#[test]
fn unread_messages_of_the_last_client_wait_for_the_next() {
    let (mut mesh, daemon) = daemon(true, false);
    let first = mesh.attach(daemon, 1, "");
    mesh.stop(daemon, first, true);
    send(&mut mesh, daemon, 1..=2);
    mesh.client_event(daemon, first, ClientEvent::Detached);
    assert_eq!(states(&mesh, 1), [""; 0]);
    let next = mesh.attach(daemon, 2, "");
    mesh.advance(Duration::from_millis(50));
    assert_eq!(mesh.client_mail(daemon, next), [1, 2]);
    assert_eq!(states(&mesh, 1), ["delivered"; 2]);
}

#[test]
fn unacked_messages_of_a_client_that_goes_reach_another_of_its_group() {
    for durable in [false, true] {
        let (mut mesh, daemon) = daemon(durable, true);
        let [one, two] = [1, 2].map(|number| mesh.attach(daemon, number, r#","group":"workers""#));
        send(&mut mesh, daemon, 1..=4);
        let of_one = mesh.client_mail(daemon, one);
        assert_eq!(ack(&mut mesh, daemon, one, of_one[0]), "ok");
        assert_eq!(states(&mesh, 1), ["delivered"]);
        mesh.client_event(daemon, one, ClientEvent::Detached);
        let mut of_two = mesh.client_mail(daemon, two);
        assert_eq!(of_two.pop(), Some(of_one[1]), "the message without an ack");
        assert_eq!(of_two.len(), 2);
        let last = mesh.client_lines(daemon, two, "message").pop().unwrap().clone();
        assert_eq!(last["redelivered"], true);
        for data in mesh.client_mail(daemon, two) {
            assert_eq!(ack(&mut mesh, daemon, two, data), "ok");
        }
        assert_eq!(states(&mesh, 1), ["delivered"; 4], "{durable}");
    }
}

#[test]
fn unacked_messages_of_the_last_client_of_a_group_wait_for_the_next_of_it() {
    let (mut mesh, daemon) = daemon(false, true);
    let worker = mesh.attach(daemon, 1, r#","group":"workers""#);
    let monitor = mesh.attach(daemon, 2, "");
    send(&mut mesh, daemon, 1..=2);
    assert_eq!(mesh.client_mail(daemon, worker), [1, 2]);
    mesh.client_event(daemon, worker, ClientEvent::Detached);
    assert_eq!(mesh.client_mail(daemon, monitor), [1, 2], "the monitor has them already");
    let next = mesh.attach(daemon, 3, r#","group":"workers""#);
    assert_eq!(mesh.client_mail(daemon, next), [1, 2]);
    assert_eq!(ack(&mut mesh, daemon, next, 1), "ok");
    assert_eq!(states(&mesh, 1), ["delivered"]);
}

#[test]
fn sender_gets_the_ack_of_every_group_or_of_the_first_client_without_one() {
    for durable in [false, true] {
        let (mut mesh, daemon) = daemon(durable, true);
        let one = mesh.attach(daemon, 1, "");
        let two = mesh.attach(daemon, 2, "");
        send(&mut mesh, daemon, 1..=1);
        assert_eq!(ack(&mut mesh, daemon, one, 1), "ok");
        assert_eq!(states(&mesh, 1), ["delivered"], "{durable}");
        assert_eq!(ack(&mut mesh, daemon, two, 1), "ok", "each client acks for itself");
        assert_eq!(ack(&mut mesh, daemon, two, 1), "MESSAGE_NOT_FOUND");
        let groups = [r#","group":"a""#, r#","group":"b""#];
        let [a, b] = [3, 4].map(|number| mesh.attach(daemon, number, groups[number as usize - 3]));
        send(&mut mesh, daemon, 2..=2);
        for client in [one, a] {
            assert_eq!(ack(&mut mesh, daemon, client, 2), "ok");
            assert_eq!(states(&mesh, 1).len(), 1, "group b has not acknowledged it");
        }
        assert_eq!(ack(&mut mesh, daemon, b, 2), "ok");
        assert_eq!(states(&mesh, 1).len(), 2);
    }
}

#[test]
fn client_cannot_ack_a_message_that_it_did_not_get() {
    let (mut mesh, daemon) = daemon(false, true);
    let one = mesh.attach(daemon, 1, "");
    let silent = mesh.attach(daemon, 2, r#","inbox":false"#);
    send(&mut mesh, daemon, 1..=1);
    let id = mesh.client_lines(daemon, one, "message")[0]["messageId"].as_str().unwrap().to_owned();
    mesh.client_command(daemon, silent, &format!(r#"{{"type":"ack","messageId":"{id}","id":"ack"}}"#));
    let answer = mesh.clients[&(daemon, silent)].lines.last().unwrap();
    assert_eq!(answer["code"], "MESSAGE_NOT_FOUND");
    assert_eq!(states(&mesh, 1), [""; 0]);
}

#[test]
fn client_holds_no_more_unacked_messages_than_it_permits() {
    let (mut mesh, daemon) = daemon(false, true);
    let client = mesh.attach(daemon, 1, r#","maxUnacked":1,"group":"workers""#);
    let other = mesh.attach(daemon, 2, r#","maxUnacked":9,"group":"workers""#);
    send(&mut mesh, daemon, 1..=8);
    let (of_client, of_other) = (mesh.client_mail(daemon, client), mesh.client_mail(daemon, other));
    assert_eq!((of_client.len(), of_other.len()), (1, 4), "one sender may use half of the room");
    assert_eq!(ack(&mut mesh, daemon, client, of_client[0]), "ok");
    mesh.advance(Duration::from_secs(60));
    assert_eq!(mesh.client_mail(daemon, client).len(), 2);
    assert_eq!(mesh.client_mail(daemon, other).len(), 4);
}

#[test]
fn stopped_client_delays_no_message_to_the_others() {
    for (durable, manual_ack) in [(false, false), (true, false), (true, true)] {
        let (mut mesh, daemon) = daemon(durable, manual_ack);
        let stopped = mesh.attach(daemon, 1, "");
        let reads = mesh.attach(daemon, 2, "");
        mesh.stop(daemon, stopped, true);
        let number = 20_000;
        for data in 1..=number {
            mesh.send(1, daemon, data, r#","ttlMs":600000"#);
            if data % 100 == 0 {
                // The node waits for the stopped client once.
                mesh.settle();
                mesh.advance(Duration::from_millis(20));
                if manual_ack {
                    (data - 99..=data).for_each(|data| drop(ack(&mut mesh, daemon, reads, data)));
                }
            }
            if manual_ack && data == 1000 {
                break;
            }
        }
        let number = if manual_ack { 1000 } else { number };
        mesh.advance(Duration::from_secs(5));
        assert!(mesh.client_mail(daemon, reads).into_iter().eq(1..=number), "{durable} {manual_ack}");
        assert_eq!(states(&mesh, 1).iter().filter(|state| **state == "delivered").count(), number as usize);
        let usage = mesh.nodes[daemon].core.usage();
        assert!(usage.iter().all(|usage| usage.size <= usage.limit), "{usage:?}");
        mesh.stop(daemon, stopped, false);
        let dropped: u64 = mesh
            .client_lines(daemon, stopped, "overflow")
            .iter()
            .map(|line| line["dropped"]["mail"].as_u64().unwrap())
            .sum();
        let got = mesh.client_mail(daemon, stopped).len() as u64;
        assert_eq!(got + dropped, number, "told what it lost");
        assert!(manual_ack || dropped > 0);
    }
}

#[test]
fn topic_is_left_with_its_last_subscriber_and_reaches_subscribers_only() {
    let (mut mesh, daemon) = daemon(false, false);
    let [one, two] = [1, 2].map(|number| mesh.attach(daemon, number, ""));
    let all = mesh.attach(daemon, 3, "");
    for client in [one, two] {
        mesh.client_command(daemon, client, r#"{"type":"subscribe","topic":"news"}"#);
    }
    let publish = |mesh: &mut Mesh, data: u64| {
        mesh.command(1, &format!(r#"{{"type":"send","topic":"news","data":{data}}}"#));
        mesh.advance(Duration::from_secs(11));
    };
    publish(&mut mesh, 1);
    mesh.client_command(daemon, one, r#"{"type":"unsubscribe","topic":"news"}"#);
    publish(&mut mesh, 2);
    mesh.client_event(daemon, two, ClientEvent::Detached);
    publish(&mut mesh, 3);
    assert_eq!((mesh.client_mail(daemon, one), mesh.client_mail(daemon, two)), (vec![1], vec![1, 2]));
    assert_eq!(mesh.client_mail(daemon, all), [0; 0]);
    assert_eq!(states(&mesh, 1), ["expired"], "nobody subscribes any more");
}

#[test]
fn shutdown_of_a_client_finishes_its_messages_and_leaves_the_node() {
    let (mut mesh, daemon) = daemon(false, false);
    let [leaver, other] = [1, 2].map(|number| mesh.attach(daemon, number, ""));
    let to = mesh.nodes[1].address.clone();
    mesh.client_command(daemon, leaver, &format!(r#"{{"type":"send","id":1,"peerId":"{to}","data":7}}"#));
    mesh.client_command(daemon, leaver, r#"{"type":"shutdown","id":2}"#);
    mesh.advance(Duration::from_secs(1));
    let client = &mesh.clients[&(daemon, leaver)];
    let told: Vec<String> = client
        .lines
        .iter()
        .map(|line| format!("{} {}", line["type"].as_str().unwrap(), line["id"]))
        .collect();
    let last = &told[told.len() - 2..];
    assert_eq!(last, ["result 2", "closing null"], "{told:?}");
    assert!(told.iter().any(|line| line == "delivery null"), "{told:?}");
    assert!(client.is_closed && mesh.nodes[daemon].exit.is_none());
    send(&mut mesh, daemon, 1..=1);
    assert_eq!(mesh.client_mail(daemon, other), [1]);
}

#[test]
fn end_of_input_of_a_client_is_the_end_of_that_client() {
    let (mut mesh, daemon) = daemon(false, false);
    let client = mesh.attach(daemon, 1, "");
    let unknown = "0x0909090909090909090909090909090909090909";
    mesh.client_command(
        daemon,
        client,
        &format!(r#"{{"type":"send","id":1,"peerId":"{unknown}","data":7}}"#),
    );
    mesh.client_event(daemon, client, ClientEvent::InputEnded);
    mesh.advance(Duration::from_secs(4));
    assert!(!mesh.clients[&(daemon, client)].is_closed, "it waits for the delivery");
    mesh.advance(Duration::from_secs(2));
    let closed = &mesh.clients[&(daemon, client)];
    assert!(closed.is_closed);
    assert_eq!(closed.lines.last().unwrap()["reason"], "eof");
    assert!(mesh.nodes[daemon].exit.is_none());
}

#[test]
fn client_that_shuts_down_may_write_no_more_commands() {
    let (mut mesh, daemon) = daemon(false, false);
    let client = mesh.attach(daemon, 1, "");
    let unknown = "0x0909090909090909090909090909090909090909";
    mesh.client_command(
        daemon,
        client,
        &format!(r#"{{"type":"send","id":1,"peerId":"{unknown}","data":7}}"#),
    );
    mesh.client_command(daemon, client, r#"{"type":"shutdown","id":2}"#);
    mesh.client_command(daemon, client, r#"{"type":"ping","id":3}"#);
    let last = mesh.clients[&(daemon, client)].lines.last().unwrap();
    assert_eq!((&last["id"], &last["code"]), (&3.into(), &"SHUTTING_DOWN".into()));
}

#[test]
fn too_many_clients_are_refused() {
    let (mut mesh, daemon) = daemon(false, false);
    let clients: Vec<ClientId> = (1..=40).map(|number| mesh.attach(daemon, number, "")).collect();
    let refused = clients.iter().filter(|client| mesh.clients[&(daemon, **client)].is_closed).count();
    assert_eq!(refused, 9, "a daemon has 31 clients");
    let last = &mesh.clients[&(daemon, ClientId(40))].lines;
    assert_eq!((last.len(), &last[0]["code"]), (1, &"BUSY".into()));
    assert_eq!(mesh.nodes[daemon].core.stats().get(Counter::ClientsRefused), 9);
    mesh.client_event(daemon, clients[0], ClientEvent::Detached);
    let late = mesh.attach(daemon, 41, "");
    assert_eq!(mesh.client_lines(daemon, late, "ready").len(), 1);
}

#[test]
fn client_that_reads_no_required_lines_is_closed() {
    let (mut mesh, daemon) = daemon(false, false);
    let client = mesh.attach(daemon, 1, "");
    mesh.stop(daemon, client, true);
    // Without an id a command of the client is answered only if it fails.
    for _ in 0..20_000 {
        let request = p2p_node_protocol::line::decode_request(br#"{"type":"discover","timeoutMs":999999}"#);
        let input = p2p_node_core::input::Input::Command { client, request: request.unwrap() };
        let now = mesh.clock_of(daemon);
        mesh.nodes[daemon].core.handle(input, now);
        if mesh.clients[&(daemon, client)].is_closed {
            break;
        }
        mesh.nodes[daemon].core.handle_timeout(now);
    }
    mesh.settle();
    assert!(mesh.clients[&(daemon, client)].is_closed);
    assert_eq!(mesh.nodes[daemon].core.stats().get(Counter::ClientsClosed), 1);
}
