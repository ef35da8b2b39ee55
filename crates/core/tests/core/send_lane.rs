//! The send lane: sends without capacity wait in order and block no other command.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use p2p_node_core::effect::ExitCode;
use p2p_node_core::input::Input;
use p2p_node_core::{MAX_INFLIGHT, MAX_INFLIGHT_BYTES, MAX_PAUSE};
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::time::Instant;
use serde_json::{Value, json};

use crate::mesh::{CONNECT, Mesh, agent_key};

/// Returns the usage of a collection and checks that it is within its limit.
fn usage(mesh: &Mesh, node: usize, name: &str) -> usize {
    let usages = mesh.nodes[node].core.usage();
    for usage in &usages {
        assert!(usage.size <= usage.limit, "{usage:?}");
    }
    usages.iter().find(|usage| usage.name == name).unwrap().size
}

fn count(mesh: &Mesh, node: usize, name: Counter) -> u64 {
    mesh.nodes[node].core.stats().get(name)
}

fn send(mesh: &mut Mesh, from: usize, to: usize, id: u64, bytes: usize) {
    let (to, data) = (mesh.nodes[to].address.clone(), "x".repeat(bytes));
    mesh.queue_command(from, &json!({"type": "send", "peerId": to, "data": data, "id": id}).to_string());
}

/// Returns the terminal lines by command id.
fn answers(mesh: &Mesh, node: usize) -> BTreeMap<String, &Value> {
    let mut answers = BTreeMap::new();
    for line in mesh.nodes[node].lines.iter().filter(|line| !line["id"].is_null()) {
        assert!(answers.insert(line["id"].to_string(), line).is_none(), "answered twice: {line}");
    }
    answers
}

fn codes(mesh: &Mesh, node: usize, code: &str) -> usize {
    mesh.lines(node, "error").iter().filter(|line| line["code"] == code).count()
}

/// Returns a mesh of a server, a sender, a recipient with manual ack (`SLOW`), and one that acks
/// everything (`FAST`); all are connected.
fn fixture() -> Mesh {
    let mut mesh = Mesh::new(2);
    mesh.add_with(3, Role::Full, CONNECT, |config| config.manual_ack = true);
    mesh.add(4, Role::Full);
    for (one, other) in [(1, 0), (2, 0), (3, 0), (1, SLOW), (1, FAST)] {
        mesh.connect(one, other);
    }
    mesh
}

const SLOW: usize = 2;
const FAST: usize = 3;

/// Sends from the writing agent until `waiting` sends wait. Returns the next id.
fn fill(mesh: &mut Mesh, waiting: usize, bytes: usize) -> u64 {
    let mut id = 0;
    while usage(mesh, 1, "waiting sends") < waiting {
        send(mesh, 1, SLOW, id, bytes);
        id += 1;
        if id % 100 == 0 {
            mesh.settle();
        }
        assert!(id < 10_000, "all sends find capacity");
    }
    mesh.settle();
    id
}

/// Acks at most `limit` of the messages received since the last call.
fn ack_new(mesh: &mut Mesh, node: usize, acked: &mut usize, limit: usize) {
    let lines = mesh.lines(node, "message");
    let ids: Vec<Value> = lines[*acked..].iter().take(limit).map(|line| line["messageId"].clone()).collect();
    *acked += ids.len();
    for ids in ids.chunks(1000) {
        mesh.command(node, &json!({"type": "ack", "messageIds": ids}).to_string());
    }
}

#[test]
fn stalled_or_slow_recipient_delays_no_other_and_causes_no_pause() {
    for is_slow in [false, true] {
        let mut mesh = fixture();
        let (mut id, mut to_fast, mut acked) = (0, 0, 0);
        for step in 0..600 {
            for to in [SLOW, FAST].repeat(10) {
                // One recipient may use half of `maxInflight`.
                if to == SLOW && usage(&mesh, 1, "waiting sends") >= MAX_INFLIGHT / 2 {
                    continue;
                }
                assert!(mesh.reads_stdin(1), "stdin is read");
                send(&mut mesh, 1, to, id, 1000);
                id += 1;
                to_fast += usize::from(to == FAST);
            }
            mesh.settle();
            if is_slow && step % 50 == 0 {
                ack_new(&mut mesh, SLOW, &mut acked, 1);
            }
            mesh.advance(Duration::from_millis(10));
            assert_eq!(mesh.lines(FAST, "message").len(), to_fast, "delivered within 10 ms");
        }
        assert!(codes(&mesh, 1, "BUSY") > 1000, "sends to the stalled recipient are refused");
        assert_eq!(codes(&mesh, 1, "BUSY"), count_errors_with(&mesh, 1, "outbox"), "only those are refused");
        mesh.advance(MAX_PAUSE);
        assert_eq!(answers(&mesh, 1).len() as u64, id + 1, "every send is answered, and `connect`");
        assert_eq!((usage(&mesh, 1, "waiting sends"), acked > 0), (0, is_slow));
    }
}

/// Returns how many errors contain this text.
fn count_errors_with(mesh: &Mesh, node: usize, text: &str) -> usize {
    mesh.lines(node, "error").iter().filter(|line| line["message"].as_str().unwrap().contains(text)).count()
}

/// A parent that writes all its commands in order before it reads.
#[derive(Default)]
struct Writer {
    stdin: VecDeque<Value>,
    seen: usize,
    delivered: usize,
    paused_since: Option<Instant>,
    longest_pause: Duration,
}

impl Writer {
    /// Reads all lines: acks messages, and sends rejected messages again after all others.
    fn read(&mut self, mesh: &Mesh, node: usize, sends: &[Value]) {
        let lines = &mesh.nodes[node].lines;
        for line in &lines[self.seen..] {
            match line["type"].as_str().unwrap() {
                "message" => {
                    self.stdin.push_back(json!({"type": "ack", "messageId": line["messageId"]}));
                }
                "delivery" => {
                    assert_eq!(line["state"], "delivered", "{line}");
                    self.delivered += 1;
                }
                "error" => {
                    assert_eq!(line["code"], "BUSY", "{line}");
                    self.stdin.push_back(sends[line["id"].as_u64().unwrap() as usize].clone());
                }
                _ => {}
            }
        }
        self.seen = lines.len();
    }

    fn write(&mut self, mesh: &mut Mesh, node: usize) {
        while mesh.reads_stdin(node)
            && let Some(command) = self.stdin.pop_front()
        {
            mesh.queue_command(node, &command.to_string());
            self.paused_since = None;
        }
        if mesh.reads_stdin(node) {
            self.paused_since = None;
            return;
        }
        let since = *self.paused_since.get_or_insert(mesh.now);
        self.longest_pause = self.longest_pause.max(mesh.now - since);
    }
}

#[test]
fn two_agents_that_send_everything_before_their_first_ack_finish() {
    const MESSAGES: usize = 4000;
    let mut mesh = Mesh::new(1);
    for number in [2, 3] {
        let node = mesh.add_with(number, Role::Full, CONNECT, |config| config.manual_ack = true);
        mesh.connect(node, 0);
    }
    mesh.connect(1, 2);
    let sends = |mesh: &Mesh, to: usize| -> Vec<Value> {
        let (to, data) = (mesh.nodes[to].address.clone(), "x".repeat(1000));
        let send = |id| json!({"type": "send", "peerId": to, "data": data, "id": id, "ttlMs": 600_000});
        (0..MESSAGES).map(send).collect()
    };
    let sends = [sends(&mesh, 2), sends(&mesh, 1)];
    let mut writers = sends.clone().map(|sends| Writer { stdin: sends.into(), ..Writer::default() });
    for _ in 0..6000 {
        for (index, writer) in writers.iter_mut().enumerate() {
            writer.write(&mut mesh, index + 1);
        }
        mesh.settle();
        for (index, writer) in writers.iter_mut().enumerate() {
            writer.read(&mesh, index + 1, &sends[index]);
        }
        usage(&mesh, 1, "waiting sends");
        mesh.advance(Duration::from_millis(10));
        if writers.iter().all(|writer| writer.delivered == MESSAGES) {
            break;
        }
    }
    for writer in &writers {
        assert_eq!(writer.delivered, MESSAGES);
        assert!(writer.longest_pause <= MAX_PAUSE, "{:?}", writer.longest_pause);
    }
    assert!(count(&mesh, 1, Counter::SendsRefusedAfterPause) > 0, "the two agents block each other");
}

#[test]
fn other_commands_are_answered_while_sends_wait() {
    let mut mesh = fixture();
    mesh.send(FAST, 1, 1, "");
    let id = fill(&mut mesh, MAX_INFLIGHT, 1000);
    assert!(mesh.reads_stdin(1), "stdin is read while the parent keeps to maxInflight");
    let slow = mesh.nodes[SLOW].address.clone();
    let waiting = id - 1;
    for command in [
        json!({"type": "ping", "id": "ping"}),
        json!({"type": "status", "id": "status"}),
        json!({"type": "peers", "id": "peers"}),
        json!({"type": "subscribe", "topic": "t", "id": "subscribe"}),
        json!({"type": "unsubscribe", "topic": "t", "id": "unsubscribe"}),
        json!({"type": "block", "peerId": slow, "id": "block"}),
        json!({"type": "cancel", "target": waiting, "id": "cancel"}),
    ] {
        mesh.command(1, &command.to_string());
    }
    send(&mut mesh, 1, FAST, id, 10);
    mesh.settle();
    let answers = answers(&mesh, 1);
    for id in ["ping", "status", "peers", "subscribe", "unsubscribe", "block", "cancel"] {
        assert_eq!(answers[&format!("{id:?}")]["type"], "result", "{id}");
    }
    assert_eq!(answers["\"cancel\""]["cancelled"], true);
    assert_eq!(answers[&waiting.to_string()]["code"], "CANCELLED");
    assert_eq!(answers[&id.to_string()]["delivery"], "accepted", "other recipients have capacity");
    assert_eq!(mesh.lines(FAST, "message").len(), 1);
    assert!(!answers.contains_key(&(waiting - 1).to_string()), "the send still waits");
    assert_eq!(usage(&mesh, 1, "waiting sends"), MAX_INFLIGHT - 1);
}

#[test]
fn send_above_max_inflight_pauses_stdin_for_at_most_max_pause() {
    for bytes in [1000, 100_000] {
        let mut mesh = fixture();
        let mut id = 0;
        while mesh.reads_stdin(1) {
            send(&mut mesh, 1, SLOW, id, bytes);
            id += 1;
            if id % 100 == 0 {
                mesh.settle();
            }
        }
        mesh.settle();
        let (sends, size) = (usage(&mesh, 1, "waiting sends"), usage(&mesh, 1, "bytes of waiting sends"));
        assert!(sends == MAX_INFLIGHT + 1 || size > MAX_INFLIGHT_BYTES, "{sends} sends, {size} bytes");
        send(&mut mesh, 1, SLOW, id, bytes);
        assert_eq!(mesh.nodes[1].core.stats().get(Counter::SendsRefused), 1, "a command beyond the limit");
        mesh.advance(MAX_PAUSE - Duration::from_millis(100));
        assert!(!mesh.reads_stdin(1));
        mesh.advance(Duration::from_millis(100));
        assert!(mesh.reads_stdin(1));
        assert_eq!((codes(&mesh, 1, "BUSY"), usage(&mesh, 1, "waiting sends")), (sends + 1, 0));
    }
}

#[test]
fn slow_recipient_keeps_half_of_a_full_send_lane() {
    let mut mesh = fixture();
    let (mut id, mut acked, mut since) = (0, 0, Instant::ZERO);
    // The recipient acks 40 kB a second, and ten times as much waits in the lane.
    while count(&mesh, 1, Counter::SendsRefusedAfterPause) == 0 {
        while mesh.reads_stdin(1) {
            since = mesh.now;
            send(&mut mesh, 1, SLOW, id, if id < 50 { 10_000 } else { 300_000 });
            id += 1;
            mesh.settle();
        }
        mesh.advance(Duration::from_millis(500));
        ack_new(&mut mesh, SLOW, &mut acked, 2);
        assert!(mesh.now - since <= MAX_PAUSE, "stdin is paused for too long");
    }
    assert_eq!(mesh.now - since, MAX_PAUSE);
    let left = usage(&mesh, 1, "bytes of waiting sends");
    assert!((1..=MAX_INFLIGHT_BYTES / 2).contains(&left), "{left} bytes wait");
    assert_eq!(answers(&mesh, 1)[&(id - 1).to_string()]["code"], "BUSY", "the latest send is refused");
    let refused = codes(&mesh, 1, "BUSY");
    for _ in 0..20 {
        mesh.advance(Duration::from_millis(500));
        ack_new(&mut mesh, SLOW, &mut acked, usize::MAX);
    }
    assert_eq!((usage(&mesh, 1, "waiting sends"), answers(&mesh, 1).len() as u64), (0, id + 1));
    assert_eq!(codes(&mesh, 1, "BUSY"), refused, "the other sends are not refused");
}

#[test]
fn sends_to_recipient_that_makes_progress_are_never_refused() {
    let mut mesh = fixture();
    let next = fill(&mut mesh, MAX_INFLIGHT, 1000);
    let mut acked = 0;
    for _ in 0..60 {
        mesh.advance(Duration::from_secs(1));
        ack_new(&mut mesh, SLOW, &mut acked, 60);
        usage(&mesh, 1, "waiting sends");
    }
    assert_eq!((codes(&mesh, 1, "BUSY"), usage(&mesh, 1, "waiting sends")), (0, 0));
    assert_eq!(answers(&mesh, 1).len() as u64, next + 1);
    mesh.advance(Duration::from_secs(1));
    ack_new(&mut mesh, SLOW, &mut acked, usize::MAX);
    let ids: Vec<u64> = mesh.lines(1, "result").iter().filter_map(|line| line["id"].as_u64()).collect();
    assert!(ids.is_sorted(), "the sends are answered in order");
}

#[test]
fn broadcasts_wait_for_capacity_only_with_subscribers() {
    for subscribed in [true, false] {
        let mut mesh = fixture();
        if subscribed {
            mesh.command(FAST, r#"{"type":"subscribe","topic":"t","id":"t"}"#);
        }
        let data = "x".repeat(1000);
        for id in 0..1500 {
            mesh.queue_command(1, &json!({"type": "send", "topic": "t", "data": data, "id": id}).to_string());
        }
        assert_eq!(usage(&mesh, 1, "waiting sends") > 0, subscribed);
        assert_eq!(codes(&mesh, 1, "BUSY"), 0, "no send is refused before the pause ends");
        mesh.advance(MAX_PAUSE);
        let busy = codes(&mesh, 1, "BUSY");
        assert_eq!(
            (busy == 0, mesh.lines(FAST, "message").len()),
            (subscribed, if subscribed { 1500 } else { 0 })
        );
        assert_eq!(answers(&mesh, 1).len(), 1501);
    }
}

#[test]
fn sends_that_wait_for_stalled_disk_end_and_block_no_command() {
    let mut mesh = Mesh::new(2);
    let node = mesh.add_with(3, Role::Full, CONNECT, |config| {
        (config.durable, config.manual_ack) = (true, true);
    });
    mesh.connect(1, 0);
    mesh.connect(node, 0);
    mesh.connect(1, node);
    mesh.disk_writes = false;
    for id in 0..MAX_INFLIGHT as u64 + 100 {
        assert!(mesh.reads_stdin(node));
        send(&mut mesh, node, 1, id, 10);
    }
    assert_eq!(usage(&mesh, node, "pending writes of messages"), MAX_INFLIGHT);
    assert_eq!(usage(&mesh, node, "waiting sends"), 100);
    mesh.command(node, r#"{"type":"ping","id":"ping"}"#);
    assert_eq!(answers(&mesh, node)["\"ping\""]["type"], "result");
    mesh.advance(MAX_PAUSE);
    assert_eq!((codes(&mesh, node, "BUSY"), usage(&mesh, node, "waiting sends")), (100, 0));
    mesh.resume_writes();
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.lines(1, "message").len(), MAX_INFLIGHT);
}

#[test]
fn waiting_sends_at_eof_are_sent_or_refused_with_exit_code() {
    for recipient_acks in [true, false] {
        let mut mesh = fixture();
        let sent = fill(&mut mesh, 200, 1000);
        mesh.input(1, Input::StdinClosed);
        let mut acked = 0;
        for _ in 0..60 {
            mesh.advance(Duration::from_millis(100));
            if recipient_acks {
                ack_new(&mut mesh, SLOW, &mut acked, usize::MAX);
            }
        }
        let expected = if recipient_acks { (ExitCode::Ok, 0) } else { (ExitCode::Undelivered, 200) };
        let refused = mesh
            .lines(1, "error")
            .into_iter()
            .filter(|line| line["code"] == "SHUTTING_DOWN" && !line["id"].is_null());
        assert_eq!((mesh.nodes[1].exit, refused.count()), (Some(expected.0), expected.1));
        assert_eq!(answers(&mesh, 1).len() as u64, sent + 1);
        let delivered = mesh.lines(1, "delivery").iter().filter(|line| line["state"] == "delivered").count();
        assert_eq!(delivered as u64, if recipient_acks { sent } else { 0 });
    }
}

#[test]
fn durable_node_that_refuses_waiting_sends_exits_undelivered() {
    let mut mesh = Mesh::new(1);
    let node = mesh.add_with(2, Role::Full, CONNECT, |config| config.durable = true);
    let unknown = agent_key(0x77).address().to_string();
    let data = "x".repeat(10_000);
    for id in 0..300 {
        mesh.command(node, &json!({"type": "send", "peerId": unknown, "data": data, "id": id}).to_string());
    }
    assert!(usage(&mesh, node, "waiting sends") > 50);
    mesh.command(node, r#"{"type":"shutdown","id":"end"}"#);
    mesh.advance(Duration::from_secs(7));
    assert_eq!(mesh.nodes[node].exit, Some(ExitCode::Undelivered));
    assert_eq!(answers(&mesh, node).len(), 302);
}
