//! Commands between `connect` and `ready` keep their order; the end of stdin and `shutdown` are
//! always handled.

use std::time::Duration;

use p2p_node_core::effect::ExitCode;
use p2p_node_core::input::Input;
use p2p_node_core::mail::outbound::outbox::PersistedMessage;
use p2p_node_core::{MAX_INFLIGHT, MAX_INFLIGHT_BYTES, MAX_PAUSE};
use p2p_node_protocol::Role;
use serde_json::{Value, json};

use crate::mesh::{CONNECT, FaultDecision, Mesh, START_MS, agent_key};

/// A server, an agent, and one that does not listen yet, which is the last.
fn fixture() -> Mesh {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    mesh.faults = Box::new(|node, input| match input {
        Input::Listening { .. } if node == 2 => FaultDecision::Lose,
        _ => FaultDecision::Deliver,
    });
    mesh.add(3, Role::Full);
    assert!(mesh.nodes[2].lines.is_empty());
    mesh
}

fn listen(mesh: &mut Mesh) {
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    mesh.input(2, Input::Listening { addrs: vec!["/ip4/127.0.0.1/tcp/1002".parse().unwrap()] });
}

fn say(mesh: &mut Mesh, command: Value) {
    assert!(mesh.nodes[2].core.can_accept_command(), "{command}");
    mesh.say(2, &command.to_string());
}

fn send(mesh: &mut Mesh, id: u64, data: &str) {
    let to = mesh.nodes[1].address.clone();
    say(mesh, json!({"type": "send", "peerId": to, "data": data, "id": id}));
}

fn answer(mesh: &Mesh, id: &Value) -> Option<Value> {
    let mut lines = mesh.nodes[2].lines.iter().filter(|line| line["id"] == *id);
    let line = lines.next().cloned();
    assert_eq!(lines.next(), None, "answered twice");
    line
}

fn held(mesh: &Mesh, name: &str) -> usize {
    let census = mesh.nodes[2].core.usage();
    for holding in &census {
        assert!(holding.size <= holding.limit, "{holding:?}");
    }
    census.iter().find(|holding| holding.name == name).unwrap().size
}

#[test]
fn commands_before_ready_are_carried_out_in_their_order_after_it() {
    let mut mesh = fixture();
    say(&mut mesh, json!({"type": "subscribe", "topic": "t", "id": "s"}));
    for id in 0..3 {
        send(&mut mesh, id, "x");
    }
    say(&mut mesh, json!({"type": "status", "id": "status"}));
    say(&mut mesh, json!({"type": "ping", "id": "ping"}));
    say(&mut mesh, json!({"type": "cancel", "target": 1, "id": "cancel"}));
    for id in [json!("s"), json!(0), json!("status"), json!("ping"), json!("cancel")] {
        assert_eq!(answer(&mesh, &id), None, "nothing is answered before `ready`");
    }
    say(&mut mesh, json!({"type": "ping", "id": "s"}));
    assert_eq!(mesh.lines(2, "error").last().unwrap()["code"], "DUPLICATE_ID", "its id is in use");
    mesh.pass(Duration::from_secs(60));
    assert_eq!(answer(&mesh, &json!(0)), None, "it is held, not refused");
    let before = mesh.nodes[2].lines.len();
    listen(&mut mesh);
    let after: Vec<Value> = mesh.nodes[2].lines[before..].iter().map(|line| line["id"].clone()).collect();
    let order = [json!("connect"), json!("s"), json!(0), json!(1), json!(2), json!("status"), json!("ping")];
    assert_eq!(after[0], Value::Null, "ready");
    assert_eq!(after[1..8], order);
    assert_eq!(answer(&mesh, &json!("cancel")).unwrap()["cancelled"], true);
    mesh.connect(2, 0);
    mesh.pass(Duration::from_secs(5));
    assert_eq!(mesh.lines(1, "message").len(), 2);
}

#[test]
fn what_ends_the_node_before_ready_waits_for_what_came_before_it() {
    for shuts_down in [true, false] {
        let mut mesh = fixture();
        send(&mut mesh, 0, "x");
        if shuts_down {
            say(&mut mesh, json!({"type": "shutdown", "id": "end"}));
            say(&mut mesh, json!({"type": "ping", "id": "late"}));
            say(&mut mesh, json!({"type": "status", "id": "too late"}));
            assert_eq!(answer(&mesh, &json!("too late")).unwrap()["code"], "SHUTTING_DOWN");
        } else {
            mesh.input(2, Input::StdinClosed);
        }
        mesh.pass(Duration::from_secs(1));
        assert_eq!(mesh.nodes[2].exit, None);
        listen(&mut mesh);
        mesh.connect(2, 0);
        mesh.pass(Duration::from_secs(6));
        assert_eq!(answer(&mesh, &json!(0)).unwrap()["delivery"], "accepted");
        assert_eq!((mesh.lines(1, "message").len(), mesh.nodes[2].exit), (1, Some(ExitCode::Ok)));
        assert_eq!(answer(&mesh, &json!("end")).is_some(), shuts_down);
    }
}

#[test]
fn a_node_that_never_listens_ends_all_the_same_and_answers_everything() {
    for end in ["shutdown", "eof", "signal"] {
        let mut mesh = fixture();
        send(&mut mesh, 0, "x");
        say(&mut mesh, json!({"type": "discover", "id": "d"}));
        match end {
            "shutdown" => say(&mut mesh, json!({"type": "shutdown", "id": "end"})),
            "eof" => mesh.input(2, Input::StdinClosed),
            _ => mesh.input(2, Input::Signal),
        }
        mesh.pass(Duration::from_secs(12));
        assert_eq!(mesh.nodes[2].exit, Some(ExitCode::Undelivered), "{end}: the send was not carried out");
        for id in [json!("connect"), json!(0), json!("d")] {
            assert_eq!(answer(&mesh, &id).unwrap()["code"], "SHUTTING_DOWN", "{end}: {id}");
        }
        assert_eq!(answer(&mesh, &json!("end")).is_some(), end == "shutdown");
        assert_eq!(mesh.nodes[2].lines.last().unwrap()["type"], "closing");
    }
}

#[test]
fn a_socket_that_cannot_be_opened_answers_everything_that_was_held() {
    let mut mesh = fixture();
    send(&mut mesh, 0, "x");
    say(&mut mesh, json!({"type": "shutdown", "id": "end"}));
    mesh.input(2, Input::ListenFailed { reason: "in use".to_owned() });
    mesh.pass(Duration::from_secs(2));
    assert_eq!(mesh.nodes[2].exit, Some(ExitCode::Unavailable));
    assert_eq!(answer(&mesh, &json!("connect")).unwrap()["code"], "LISTEN_FAILED");
    assert_eq!(answer(&mesh, &json!(0)).unwrap()["code"], "SHUTTING_DOWN");
    assert_eq!(answer(&mesh, &json!("end")).unwrap()["type"], "result");
}

#[test]
fn what_is_held_before_ready_is_bounded_and_the_pause_ends() {
    for bytes in [10, 100_000] {
        let mut mesh = fixture();
        let data = "x".repeat(bytes);
        let mut sent = 0;
        while mesh.nodes[2].core.can_accept_command() {
            send(&mut mesh, sent, &data);
            sent += 1;
        }
        let size = held(&mesh, "bytes that wait for ready");
        assert!(sent as usize == MAX_INFLIGHT + 1 || size > MAX_INFLIGHT_BYTES, "{sent} of {bytes}");
        mesh.pass(MAX_PAUSE - Duration::from_millis(1));
        assert!(!mesh.nodes[2].core.can_accept_command());
        mesh.pass(Duration::from_millis(1));
        assert!(mesh.nodes[2].core.can_accept_command());
        let busy = mesh.lines(2, "error").iter().filter(|line| line["code"] == "BUSY").count() as u64;
        assert_eq!(held(&mesh, "commands that wait for ready") as u64 + busy, sent);
        assert_eq!(answer(&mesh, &json!(0)), None, "the latest go");
        assert_eq!(answer(&mesh, &json!(sent - 1)).unwrap()["code"], "BUSY");
    }
}

#[test]
fn a_durable_node_whose_outbox_was_full_at_its_start_gets_ready_and_ends() {
    let mut mesh = Mesh::new(1);
    let first = mesh.add_with(2, Role::Full, CONNECT, |setup| setup.durable = true);
    let nobody = agent_key(0x77).address();
    let data = "x".repeat(10_000);
    for id in 0..208 {
        let send = json!({"type": "send", "peerId": nobody.to_string(), "data": data, "id": id});
        mesh.say(first, &send.to_string());
    }
    let mails: Vec<PersistedMessage> = mesh.store(first).messages.values().cloned().collect();
    assert!(mails.len() > 190 && mails.iter().all(|mail| mail.expires_at_ms > START_MS));
    let again = mesh.restart(first, 2, &[], |_| {});
    assert_eq!(mesh.lines(again, "ready").len(), 1);
    mesh.say(again, r#"{"type":"ping","id":"ping"}"#);
    assert_eq!(mesh.nodes[again].lines.last().unwrap()["id"], "ping");
    mesh.input(again, Input::StdinClosed);
    mesh.pass(Duration::from_secs(7));
    assert_eq!(mesh.nodes[again].exit, Some(ExitCode::Ok), "the mail is on the disk");
    assert_eq!(mesh.store(again).messages.len(), mails.len());
}

#[test]
fn sockets_that_name_no_address_delay_ready_no_longer_than_two_seconds() {
    let mut mesh = fixture();
    say(&mut mesh, json!({"type": "status", "id": "status"}));
    mesh.pass(Duration::from_millis(1900));
    assert_eq!(answer(&mesh, &json!("status")), None);
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    mesh.pass(Duration::from_millis(200));
    assert_eq!(mesh.lines(2, "ready")[0]["addrs"], json!([]));
    assert!(
        mesh.lines(2, "log").iter().any(|log| log["message"].as_str().unwrap().contains("no address yet"))
    );
    assert_eq!(answer(&mesh, &json!("status")).unwrap()["type"], "result");

    // An interface that comes later is used.
    mesh.input(2, Input::Listening { addrs: vec!["/ip4/127.0.0.1/tcp/1002".parse().unwrap()] });
    say(&mut mesh, json!({"type": "status", "id": "later"}));
    assert!(answer(&mesh, &json!("later")).unwrap()["status"]["addrs"].to_string().contains("1002"));
    assert_eq!(mesh.lines(2, "ready").len(), 1);
}

#[test]
fn the_end_of_stdin_before_a_connect_is_explained_and_ends_a_node_that_was_to_stay_as_wrongly_configured() {
    for (stays, code) in [(false, ExitCode::Ok), (true, ExitCode::Config)] {
        let mut mesh = Mesh::new(1);
        let ping = r#"{"type":"ping","id":1}"#;
        let node = mesh.add_with(2, Role::Full, ping, |setup| setup.stay_on_eof = stays);
        mesh.input(node, Input::StdinClosed);
        let kind = if stays { "error" } else { "log" };
        let said = mesh.lines(node, kind).last().unwrap()["message"].as_str().unwrap().to_owned();
        assert!(said.contains("--on-eof stay") && said.contains("--connect"), "{said}");
        assert_eq!(mesh.nodes[node].exit, Some(code));
    }
}
