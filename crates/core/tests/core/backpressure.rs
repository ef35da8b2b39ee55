//! While the parent does not read, the node's memory stays bounded, no message is lost, no peer
//! leaves; afterwards `overflow` counts the dropped lines.

use std::time::Duration;

use p2p_node_protocol::Role;
use serde_json::{Value, json};

use crate::mesh::{Mesh, agent_key};

fn usage_of(mesh: &Mesh, node: usize, name: &str) -> usize {
    let usages = mesh.nodes[node].core.usage();
    for usage in &usages {
        assert!(usage.size <= usage.limit, "{usage:?}");
    }
    usages.iter().find(|usage| usage.name == name).unwrap().size
}

#[test]
fn stdin_pauses_at_max_inflight_and_every_command_is_answered() {
    let mut mesh = Mesh::new(1);
    let limit = mesh.lines(0, "ready")[0]["limits"]["maxInflight"].as_u64().unwrap() as usize;
    mesh.nodes[0].reads = false;
    let mut written = 0;
    while mesh.reads_stdin(0) {
        mesh.queue_command(0, &json!({"type": "ping", "id": written}).to_string());
        written += 1;
        assert!(written <= limit, "stdin is still read");
    }
    assert_eq!(written, limit);
    mesh.advance(Duration::from_secs(600));
    assert!(!mesh.reads_stdin(0));
    assert_eq!(usage_of(&mesh, 0, "unread replies"), limit);
    mesh.nodes[0].reads = true;
    mesh.settle();
    assert!(mesh.reads_stdin(0));
    let ids: Vec<&Value> =
        mesh.lines(0, "result").into_iter().map(|line| &line["id"]).filter(|id| id.is_u64()).collect();
    assert_eq!(ids, (0..limit).map(Value::from).collect::<Vec<_>>().iter().collect::<Vec<_>>());
}

#[test]
fn overflow_counts_every_dropped_broadcast() {
    const BROADCASTS: u64 = 9000;
    let mut mesh = Mesh::new(3);
    mesh.connect(1, 0);
    mesh.connect(2, 0);
    mesh.command(2, r#"{"type":"subscribe","topic":"t","id":"t"}"#);
    mesh.advance(Duration::from_secs(1));
    mesh.nodes[2].reads = false;
    for data in 0..BROADCASTS {
        mesh.queue_command(1, &json!({"type": "send", "topic": "t", "data": data}).to_string());
        if data % 100 == 0 {
            mesh.settle();
            mesh.advance(Duration::from_millis(200));
        }
    }
    mesh.settle();
    mesh.advance(Duration::from_secs(30));
    usage_of(&mesh, 2, "lines of broadcasts");
    mesh.nodes[2].reads = true;
    mesh.settle();
    let received = mesh.received(2);
    let overflows = mesh.lines(2, "overflow");
    let dropped: u64 = overflows.iter().map(|line| line["dropped"]["broadcasts"].as_u64().unwrap()).sum();
    assert!(dropped > 0 && received.len() as u64 + dropped == BROADCASTS, "{} + {dropped}", received.len());
    assert_eq!(overflows.last().unwrap()["total"]["broadcasts"], dropped);
    assert!(received.is_sorted());
    assert_eq!(received.last(), Some(&(BROADCASTS - 1)), "the node drops the oldest broadcasts");
}

#[test]
fn overflow_counts_broadcast_longer_than_max_line_bytes() {
    let mut mesh = Mesh::new(2);
    let short = r#"{"type":"connect","protocol":1,"maxLineBytes":4096,"id":"connect"}"#;
    let reader = mesh.add_with(3, Role::Full, short, |_| {});
    mesh.connect(1, 0);
    mesh.connect(reader, 0);
    mesh.command(reader, r#"{"type":"subscribe","topic":"t","id":"t"}"#);
    mesh.advance(Duration::from_secs(1));
    mesh.command(1, &json!({"type": "send", "topic": "t", "data": "x".repeat(5000)}).to_string());
    mesh.advance(Duration::from_secs(1));
    let overflow = mesh.lines(reader, "overflow");
    assert_eq!(
        overflow[0]["dropped"],
        json!({"broadcasts": 0, "mail": 0, "oversized": 1, "peerEvents": 0, "log": 0})
    );
    assert!(mesh.nodes[reader].longest_line <= 4096);
}

#[test]
fn message_to_busy_recipient_expires_with_peer_busy() {
    let mut mesh = Mesh::new(3);
    mesh.connect(1, 0);
    mesh.connect(2, 0);
    mesh.connect(1, 2);
    mesh.nodes[2].reads = false;
    for data in 0..40_000_u64 {
        mesh.send(1, 2, data, r#","ttlMs":20000"#);
        if data % 500 == 0 {
            mesh.settle();
            mesh.advance(Duration::from_millis(20));
        }
    }
    mesh.advance(Duration::from_secs(40));
    let deliveries: Vec<Value> = mesh.lines(1, "delivery").into_iter().cloned().collect();
    let count = |code: Value| deliveries.iter().filter(|line| line["code"] == code).count();
    assert_eq!(deliveries.len() + mesh.lines(1, "error").len(), 40_000);
    assert!(count(json!("PEER_BUSY")) > 1000, "{} busy", count(json!("PEER_BUSY")));
    mesh.nodes[2].reads = true;
    mesh.settle();
    assert_eq!(mesh.received(2).len(), count(Value::Null), "the parent has every delivered message");
}

#[test]
fn node_with_receive_after_eof_receives_for_that_time() {
    use p2p_node_core::effect::ExitCode;
    use p2p_node_core::input::Input;

    let mut mesh = Mesh::new(2);
    let receiver = mesh.add_with(3, Role::Full, crate::mesh::CONNECT, |config| {
        config.receive_after_eof = Duration::from_secs(10);
    });
    mesh.connect(1, 0);
    mesh.connect(receiver, 0);
    mesh.input(receiver, Input::StdinClosed);
    mesh.advance(Duration::from_secs(9));
    mesh.send(1, receiver, 7, "");
    mesh.advance(Duration::from_millis(900));
    assert_eq!((mesh.received(receiver), mesh.nodes[receiver].exit), (vec![7], None));
    mesh.advance(Duration::from_millis(200));
    assert_eq!(mesh.nodes[receiver].exit, Some(ExitCode::Ok));
    assert_eq!(mesh.lines(receiver, "closing")[0]["reason"], "eof");

    // The end of the parent ends the node even with `--on-eof stay`, and the exit code tells that
    // a message was not delivered.
    let staying = mesh.add_with(4, Role::Full, crate::mesh::CONNECT, |config| config.stay_on_eof = true);
    mesh.input(staying, Input::StdinClosed);
    mesh.advance(Duration::from_secs(60));
    assert_eq!(mesh.nodes[staying].exit, None);
    mesh.queue_command(
        staying,
        &json!({"type": "send", "peerId": agent_key(0x77).address().to_string(), "data": 1}).to_string(),
    );
    mesh.input(staying, Input::ParentEnded);
    mesh.advance(Duration::from_secs(6));
    assert_eq!(mesh.nodes[staying].exit, Some(ExitCode::Undelivered));
    assert_eq!(mesh.lines(staying, "closing")[0]["reason"], "parent");
}

#[test]
fn broken_pipe_sets_exit_code() {
    use p2p_node_core::effect::ExitCode;
    use p2p_node_core::input::Input;

    let ends = [
        (Input::InputFailed { reason: "it is a directory".to_owned() }, ExitCode::Io),
        (Input::StdoutClosed { broken: true }, ExitCode::Io),
        (Input::StdoutClosed { broken: false }, ExitCode::Ok),
    ];
    for (input, code) in ends {
        let mut mesh = Mesh::new(1);
        mesh.input(0, input);
        mesh.advance(Duration::from_secs(6));
        assert_eq!(mesh.nodes[0].exit, Some(code));
    }
}
