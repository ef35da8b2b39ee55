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

/// Returns a mesh of a server, an agent, and a node that does not listen yet (index 2).
fn fixture() -> Mesh {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    mesh.faults = Box::new(|node, input| match input {
        Input::Listening { .. } if node == 2 => FaultDecision::Drop,
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

fn command(mesh: &mut Mesh, command: Value) {
    assert!(mesh.reads_stdin(2), "{command}");
    mesh.command(2, &command.to_string());
}

fn send(mesh: &mut Mesh, id: u64, data: &str) {
    let to = mesh.nodes[1].address.clone();
    command(mesh, json!({"type": "send", "peerId": to, "data": data, "id": id}));
}

fn answer(mesh: &Mesh, id: &Value) -> Option<Value> {
    let mut lines = mesh.nodes[2].lines.iter().filter(|line| line["id"] == *id);
    let line = lines.next().cloned();
    assert_eq!(lines.next(), None, "answered twice");
    line
}

fn usage_of(mesh: &Mesh, name: &str) -> usize {
    let usages = mesh.nodes[2].core.usage();
    for usage in &usages {
        assert!(usage.size <= usage.limit, "{usage:?}");
    }
    usages.iter().find(|usage| usage.name == name).unwrap().size
}

#[test]
fn commands_before_ready_are_executed_in_order_after_ready() {
    let mut mesh = fixture();
    command(&mut mesh, json!({"type": "subscribe", "topic": "t", "id": "s"}));
    for id in 0..3 {
        send(&mut mesh, id, "x");
    }
    command(&mut mesh, json!({"type": "status", "id": "status"}));
    command(&mut mesh, json!({"type": "ping", "id": "ping"}));
    command(&mut mesh, json!({"type": "cancel", "target": 1, "id": "cancel"}));
    for id in [json!("s"), json!(0), json!("status"), json!("ping"), json!("cancel")] {
        assert_eq!(answer(&mesh, &id), None, "no command is answered before `ready`");
    }
    command(&mut mesh, json!({"type": "ping", "id": "s"}));
    assert_eq!(mesh.lines(2, "error").last().unwrap()["code"], "DUPLICATE_ID", "the id is in use");
    mesh.advance(Duration::from_secs(60));
    assert_eq!(answer(&mesh, &json!(0)), None, "the command waits and is not refused");
    let before = mesh.nodes[2].lines.len();
    listen(&mut mesh);
    let after: Vec<Value> = mesh.nodes[2].lines[before..].iter().map(|line| line["id"].clone()).collect();
    let order = [json!("connect"), json!("s"), json!(0), json!(1), json!(2), json!("status"), json!("ping")];
    assert_eq!(after[0], Value::Null, "ready");
    assert_eq!(after[1..8], order);
    assert_eq!(answer(&mesh, &json!("cancel")).unwrap()["cancelled"], true);
    mesh.connect(2, 0);
    mesh.advance(Duration::from_secs(5));
    assert_eq!(mesh.lines(1, "message").len(), 2);
}

#[test]
fn shutdown_before_ready_waits_for_earlier_commands() {
    for shuts_down in [true, false] {
        let mut mesh = fixture();
        send(&mut mesh, 0, "x");
        if shuts_down {
            command(&mut mesh, json!({"type": "shutdown", "id": "end"}));
            command(&mut mesh, json!({"type": "ping", "id": "late"}));
            command(&mut mesh, json!({"type": "status", "id": "too late"}));
            assert_eq!(answer(&mesh, &json!("too late")).unwrap()["code"], "SHUTTING_DOWN");
        } else {
            mesh.input(2, Input::StdinClosed);
        }
        mesh.advance(Duration::from_secs(1));
        assert_eq!(mesh.nodes[2].exit, None);
        listen(&mut mesh);
        mesh.connect(2, 0);
        mesh.advance(Duration::from_secs(6));
        assert_eq!(answer(&mesh, &json!(0)).unwrap()["delivery"], "accepted");
        assert_eq!((mesh.lines(1, "message").len(), mesh.nodes[2].exit), (1, Some(ExitCode::Ok)));
        assert_eq!(answer(&mesh, &json!("end")).is_some(), shuts_down);
    }
}

#[test]
fn node_that_never_listens_ends_and_answers_every_command() {
    for end in ["shutdown", "eof", "signal"] {
        let mut mesh = fixture();
        send(&mut mesh, 0, "x");
        command(&mut mesh, json!({"type": "discover", "id": "d"}));
        match end {
            "shutdown" => command(&mut mesh, json!({"type": "shutdown", "id": "end"})),
            "eof" => mesh.input(2, Input::StdinClosed),
            _ => mesh.input(2, Input::Signal),
        }
        mesh.advance(Duration::from_secs(12));
        assert_eq!(mesh.nodes[2].exit, Some(ExitCode::Undelivered), "{end}: the send was not executed");
        for id in [json!("connect"), json!(0), json!("d")] {
            assert_eq!(answer(&mesh, &id).unwrap()["code"], "SHUTTING_DOWN", "{end}: {id}");
        }
        assert_eq!(answer(&mesh, &json!("end")).is_some(), end == "shutdown");
        assert_eq!(mesh.nodes[2].lines.last().unwrap()["type"], "closing");
    }
}

#[test]
fn listen_failure_answers_every_waiting_command() {
    let mut mesh = fixture();
    send(&mut mesh, 0, "x");
    command(&mut mesh, json!({"type": "shutdown", "id": "end"}));
    mesh.input(2, Input::ListenFailed { reason: "in use".to_owned() });
    mesh.advance(Duration::from_secs(2));
    assert_eq!(mesh.nodes[2].exit, Some(ExitCode::Unavailable));
    assert_eq!(answer(&mesh, &json!("connect")).unwrap()["code"], "LISTEN_FAILED");
    assert_eq!(answer(&mesh, &json!(0)).unwrap()["code"], "SHUTTING_DOWN");
    assert_eq!(answer(&mesh, &json!("end")).unwrap()["type"], "result");
}

#[test]
fn commands_before_ready_are_bounded_and_the_pause_ends() {
    for bytes in [10, 100_000] {
        let mut mesh = fixture();
        let data = "x".repeat(bytes);
        let mut sent = 0;
        while mesh.reads_stdin(2) {
            send(&mut mesh, sent, &data);
            sent += 1;
        }
        let size = usage_of(&mesh, "bytes of deferred sends");
        assert!(sent as usize == MAX_INFLIGHT + 1 || size > MAX_INFLIGHT_BYTES, "{sent} of {bytes}");
        mesh.advance(MAX_PAUSE - Duration::from_millis(1));
        assert!(!mesh.reads_stdin(2));
        mesh.advance(Duration::from_millis(1));
        assert!(mesh.reads_stdin(2));
        let busy = mesh.lines(2, "error").iter().filter(|line| line["code"] == "BUSY").count() as u64;
        assert_eq!(usage_of(&mesh, "deferred commands") as u64 + busy, sent);
        assert_eq!(answer(&mesh, &json!(0)), None, "the latest commands are refused");
        assert_eq!(answer(&mesh, &json!(sent - 1)).unwrap()["code"], "BUSY");
    }
}

#[test]
fn durable_node_with_full_outbox_at_start_becomes_ready_and_ends() {
    let mut mesh = Mesh::new(1);
    let first = mesh.add_with(2, Role::Full, CONNECT, |config| config.durable = true);
    let unknown = agent_key(0x77).address();
    let data = "x".repeat(10_000);
    for id in 0..208 {
        let send = json!({"type": "send", "peerId": unknown.to_string(), "data": data, "id": id});
        mesh.command(first, &send.to_string());
    }
    let messages: Vec<PersistedMessage> = mesh.store(first).messages.values().cloned().collect();
    assert!(messages.len() > 190 && messages.iter().all(|message| message.expires_at_ms > START_MS));
    let again = mesh.restart(first, 2, &[], |_| {});
    assert_eq!(mesh.lines(again, "ready").len(), 1);
    mesh.command(again, r#"{"type":"ping","id":"ping"}"#);
    assert_eq!(mesh.nodes[again].lines.last().unwrap()["id"], "ping");
    mesh.input(again, Input::StdinClosed);
    mesh.advance(Duration::from_secs(7));
    assert_eq!(mesh.nodes[again].exit, Some(ExitCode::Ok), "the messages are persisted");
    assert_eq!(mesh.store(again).messages.len(), messages.len());
}

#[test]
fn listener_without_address_delays_ready_by_at_most_two_seconds() {
    let mut mesh = fixture();
    command(&mut mesh, json!({"type": "status", "id": "status"}));
    mesh.advance(Duration::from_millis(1900));
    assert_eq!(answer(&mesh, &json!("status")), None);
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    mesh.advance(Duration::from_millis(200));
    assert_eq!(mesh.lines(2, "ready")[0]["addrs"], json!([]));
    assert!(
        mesh.lines(2, "log").iter().any(|log| log["message"].as_str().unwrap().contains("no address yet"))
    );
    assert_eq!(answer(&mesh, &json!("status")).unwrap()["type"], "result");

    // The node uses an interface that appears later.
    mesh.input(2, Input::Listening { addrs: vec!["/ip4/127.0.0.1/tcp/1002".parse().unwrap()] });
    command(&mut mesh, json!({"type": "status", "id": "later"}));
    assert!(answer(&mesh, &json!("later")).unwrap()["status"]["addrs"].to_string().contains("1002"));
    assert_eq!(mesh.lines(2, "ready").len(), 1);
}

#[test]
fn eof_before_connect_is_explained_and_exits_78_with_stay_on_eof() {
    for (stay_on_eof, exit_code) in [(false, ExitCode::Ok), (true, ExitCode::Config)] {
        let mut mesh = Mesh::new(1);
        let ping = r#"{"type":"ping","id":1}"#;
        let node = mesh.add_with(2, Role::Full, ping, |config| config.stay_on_eof = stay_on_eof);
        mesh.input(node, Input::StdinClosed);
        let kind = if stay_on_eof { "error" } else { "log" };
        let text = mesh.lines(node, kind).last().unwrap()["message"].as_str().unwrap().to_owned();
        assert!(text.contains("--on-eof stay") && text.contains("--connect"), "{text}");
        assert_eq!(mesh.nodes[node].exit, Some(exit_code));
    }
}
