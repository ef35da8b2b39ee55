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
fn held(mesh: &Mesh, node: usize, name: &str) -> usize {
    let census = mesh.nodes[node].core.usage();
    for holding in &census {
        assert!(holding.size <= holding.limit, "{holding:?}");
    }
    census.iter().find(|holding| holding.name == name).unwrap().size
}

fn count(mesh: &Mesh, node: usize, name: Counter) -> u64 {
    mesh.nodes[node].core.stats().get(name)
}

fn send(mesh: &mut Mesh, from: usize, to: usize, id: u64, bytes: usize) {
    let (to, data) = (mesh.nodes[to].address.clone(), "x".repeat(bytes));
    mesh.say_quietly(from, &json!({"type": "send", "peerId": to, "data": data, "id": id}).to_string());
}

/// Returns the terminal lines of the commands, by id.
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

/// A server, an agent that writes, one whose parent has to acknowledge, and one that takes
/// everything; all connected.
fn fixture() -> Mesh {
    let mut mesh = Mesh::new(2);
    mesh.add_with(3, Role::Full, CONNECT, |setup| setup.manual_ack = true);
    mesh.add(4, Role::Full);
    for node in 1..4 {
        mesh.connect(node, 0);
    }
    mesh.connect(1, 2);
    mesh.connect(1, 3);
    mesh
}

const SLOW: usize = 2;
const QUICK: usize = 3;

/// Sends from the writing agent until `waiting` sends wait. Returns the next id.
fn fill(mesh: &mut Mesh, waiting: usize, bytes: usize) -> u64 {
    let mut id = 0;
    while held(mesh, 1, "sends that wait") < waiting {
        send(mesh, 1, SLOW, id, bytes);
        id += 1;
        if id % 100 == 0 {
            mesh.settle();
        }
        assert!(id < 10_000, "they find room");
    }
    mesh.settle();
    id
}

/// Acknowledges the messages that have come since.
fn take(mesh: &mut Mesh, node: usize, taken: &mut usize, most: usize) {
    let lines = mesh.lines(node, "message");
    let ids: Vec<Value> = lines[*taken..].iter().take(most).map(|line| line["messageId"].clone()).collect();
    *taken += ids.len();
    for ids in ids.chunks(1000) {
        mesh.say(node, &json!({"type": "ack", "messageIds": ids}).to_string());
    }
}

#[test]
fn one_recipient_that_stalls_or_trickles_costs_the_others_nothing_and_no_pause() {
    for trickles in [false, true] {
        let mut mesh = fixture();
        let (mut id, mut to_quick, mut taken) = (0, 0, 0);
        for step in 0..600 {
            for to in [SLOW, QUICK].repeat(10) {
                // Half of what may be unanswered is for each.
                if to == SLOW && held(&mesh, 1, "sends that wait") >= MAX_INFLIGHT / 2 {
                    continue;
                }
                assert!(mesh.nodes[1].core.can_accept_command(), "stdin is read");
                send(&mut mesh, 1, to, id, 1000);
                id += 1;
                to_quick += usize::from(to == QUICK);
            }
            mesh.settle();
            if trickles && step % 50 == 0 {
                take(&mut mesh, SLOW, &mut taken, 1);
            }
            mesh.pass(Duration::from_millis(10));
            assert_eq!(mesh.lines(QUICK, "message").len(), to_quick, "accepted and there in 10 ms");
        }
        assert!(codes(&mesh, 1, "BUSY") > 1000, "the one that stalls is not waited for");
        assert_eq!(codes(&mesh, 1, "BUSY"), codes_to(&mesh, 1, "outbox"), "and all of that is of its mail");
        mesh.pass(MAX_PAUSE);
        assert_eq!(answers(&mesh, 1).len() as u64, id + 1, "each has its answer, and `connect`");
        assert_eq!((held(&mesh, 1, "sends that wait"), taken > 0), (0, trickles));
    }
}

fn codes_to(mesh: &Mesh, node: usize, text: &str) -> usize {
    mesh.lines(node, "error").iter().filter(|line| line["message"].as_str().unwrap().contains(text)).count()
}

/// A parent that writes before it reads, in the one order of its stdin.
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
        while mesh.nodes[node].core.can_accept_command()
            && let Some(command) = self.stdin.pop_front()
        {
            mesh.say_quietly(node, &command.to_string());
            self.paused_since = None;
        }
        if mesh.nodes[node].core.can_accept_command() {
            self.paused_since = None;
            return;
        }
        let since = *self.paused_since.get_or_insert(mesh.now);
        self.longest_pause = self.longest_pause.max(mesh.now - since);
    }
}

#[test]
fn two_agents_that_write_all_their_mail_before_their_first_ack_get_on() {
    const MAILS: usize = 4000;
    let mut mesh = Mesh::new(1);
    for number in [2, 3] {
        let node = mesh.add_with(number, Role::Full, CONNECT, |setup| setup.manual_ack = true);
        mesh.connect(node, 0);
    }
    mesh.connect(1, 2);
    let sends = |mesh: &Mesh, to: usize| -> Vec<Value> {
        let (to, data) = (mesh.nodes[to].address.clone(), "x".repeat(1000));
        (0..MAILS)
            .map(|id| json!({"type": "send", "peerId": to, "data": data, "id": id, "ttlMs": 600_000}))
            .collect()
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
        held(&mesh, 1, "sends that wait");
        mesh.pass(Duration::from_millis(10));
        if writers.iter().all(|writer| writer.delivered == MAILS) {
            break;
        }
    }
    for writer in &writers {
        assert_eq!(writer.delivered, MAILS);
        assert!(writer.longest_pause <= MAX_PAUSE, "{:?}", writer.longest_pause);
    }
    assert!(count(&mesh, 1, Counter::SendsRefusedAfterPause) > 0, "they were in each other's way");
}

#[test]
fn other_commands_do_not_wait_behind_sends_that_wait() {
    let mut mesh = fixture();
    mesh.send(QUICK, 1, 1, "");
    let id = fill(&mut mesh, MAX_INFLIGHT, 1000);
    assert!(mesh.nodes[1].core.can_accept_command(), "a parent that keeps to what it may finds stdin read");
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
        mesh.say(1, &command.to_string());
    }
    send(&mut mesh, 1, QUICK, id, 10);
    mesh.settle();
    let answers = answers(&mesh, 1);
    for id in ["ping", "status", "peers", "subscribe", "unsubscribe", "block", "cancel"] {
        assert_eq!(answers[&format!("{id:?}")]["type"], "result", "{id}");
    }
    assert_eq!(answers["\"cancel\""]["cancelled"], true);
    assert_eq!(answers[&waiting.to_string()]["code"], "CANCELLED");
    assert_eq!(answers[&id.to_string()]["delivery"], "accepted", "others have room");
    assert_eq!(mesh.lines(QUICK, "message").len(), 1);
    assert!(!answers.contains_key(&(waiting - 1).to_string()), "it waits");
    assert_eq!(held(&mesh, 1, "sends that wait"), MAX_INFLIGHT - 1);
}

#[test]
fn the_send_that_is_one_too_many_stops_stdin_and_the_longest_pause_ends_it() {
    for bytes in [1000, 100_000] {
        let mut mesh = fixture();
        let mut id = 0;
        while mesh.nodes[1].core.can_accept_command() {
            send(&mut mesh, 1, SLOW, id, bytes);
            id += 1;
            if id % 100 == 0 {
                mesh.settle();
            }
        }
        mesh.settle();
        let (sends, size) = (held(&mesh, 1, "sends that wait"), held(&mesh, 1, "bytes of sends that wait"));
        assert!(sends == MAX_INFLIGHT + 1 || size > MAX_INFLIGHT_BYTES, "{sends} sends, {size} bytes");
        // Further commands are rejected.
        send(&mut mesh, 1, SLOW, id, bytes);
        assert_eq!(mesh.nodes[1].core.stats().get(Counter::SendsRefused), 1);
        mesh.pass(MAX_PAUSE - Duration::from_millis(100));
        assert!(!mesh.nodes[1].core.can_accept_command());
        mesh.pass(Duration::from_millis(100));
        assert!(mesh.nodes[1].core.can_accept_command());
        assert_eq!((codes(&mesh, 1, "BUSY"), held(&mesh, 1, "sends that wait")), (sends + 1, 0));
    }
}

#[test]
fn a_recipient_that_moves_too_slowly_for_a_full_lane_keeps_half_of_it() {
    let mut mesh = fixture();
    let (mut id, mut taken, mut since) = (0, 0, Instant::ZERO);
    // It takes 40 kB a second, and the lane waits for ten times as much.
    while count(&mesh, 1, Counter::SendsRefusedAfterPause) == 0 {
        while mesh.nodes[1].core.can_accept_command() {
            since = mesh.now;
            send(&mut mesh, 1, SLOW, id, if id < 50 { 10_000 } else { 300_000 });
            id += 1;
            mesh.settle();
        }
        mesh.pass(Duration::from_millis(500));
        take(&mut mesh, SLOW, &mut taken, 2);
        assert!(mesh.now - since <= MAX_PAUSE, "stdin is paused for too long");
    }
    assert_eq!(mesh.now - since, MAX_PAUSE);
    let left = held(&mesh, 1, "bytes of sends that wait");
    assert!((1..=MAX_INFLIGHT_BYTES / 2).contains(&left), "{left} bytes wait");
    assert_eq!(answers(&mesh, 1)[&(id - 1).to_string()]["code"], "BUSY", "the latest went");
    let refused = codes(&mesh, 1, "BUSY");
    for _ in 0..20 {
        mesh.pass(Duration::from_millis(500));
        take(&mut mesh, SLOW, &mut taken, usize::MAX);
    }
    assert_eq!((held(&mesh, 1, "sends that wait"), answers(&mesh, 1).len() as u64), (0, id + 1));
    assert_eq!(codes(&mesh, 1, "BUSY"), refused, "the others were waited for");
}

#[test]
fn a_recipient_that_moves_is_waited_for_however_long_it_takes_in_all() {
    let mut mesh = fixture();
    let next = fill(&mut mesh, MAX_INFLIGHT, 1000);
    let mut taken = 0;
    for _ in 0..60 {
        mesh.pass(Duration::from_secs(1));
        take(&mut mesh, SLOW, &mut taken, 60);
        held(&mesh, 1, "sends that wait");
    }
    assert_eq!((codes(&mesh, 1, "BUSY"), held(&mesh, 1, "sends that wait")), (0, 0));
    assert_eq!(answers(&mesh, 1).len() as u64, next + 1);
    mesh.pass(Duration::from_secs(1));
    take(&mut mesh, SLOW, &mut taken, usize::MAX);
    let sizes: Vec<u64> = mesh.lines(1, "result").iter().filter_map(|line| line["id"].as_u64()).collect();
    assert!(sizes.is_sorted(), "in their order");
}

#[test]
fn broadcasts_wait_for_room_where_they_are_heard_and_nowhere_else() {
    for heard in [true, false] {
        let mut mesh = fixture();
        if heard {
            mesh.say(QUICK, r#"{"type":"subscribe","topic":"t","id":"t"}"#);
        }
        let data = "x".repeat(1000);
        for id in 0..1500 {
            mesh.say_quietly(1, &json!({"type": "send", "topic": "t", "data": data, "id": id}).to_string());
        }
        assert_eq!(held(&mesh, 1, "sends that wait") > 0, heard);
        assert_eq!(codes(&mesh, 1, "BUSY"), 0, "nothing was told yet");
        mesh.pass(MAX_PAUSE);
        let busy = codes(&mesh, 1, "BUSY");
        assert_eq!((busy == 0, mesh.lines(QUICK, "message").len()), (heard, if heard { 1500 } else { 0 }));
        assert_eq!(answers(&mesh, 1).len(), 1501);
    }
}

#[test]
fn sends_that_wait_for_a_disk_that_hangs_hold_up_nothing_and_end() {
    let mut mesh = Mesh::new(2);
    let node = mesh.add_with(3, Role::Full, CONNECT, |setup| {
        (setup.durable, setup.manual_ack) = (true, true);
    });
    mesh.connect(1, 0);
    mesh.connect(node, 0);
    mesh.connect(1, node);
    mesh.disk_writes = false;
    for id in 0..MAX_INFLIGHT as u64 + 100 {
        assert!(mesh.nodes[node].core.can_accept_command());
        send(&mut mesh, node, 1, id, 10);
    }
    assert_eq!(held(&mesh, node, "pending writes of messages"), MAX_INFLIGHT);
    assert_eq!(held(&mesh, node, "sends that wait"), 100);
    mesh.say(node, r#"{"type":"ping","id":"ping"}"#);
    assert_eq!(answers(&mesh, node)["\"ping\""]["type"], "result");
    mesh.pass(MAX_PAUSE);
    assert_eq!((codes(&mesh, node, "BUSY"), held(&mesh, node, "sends that wait")), (100, 0));
    mesh.write_on();
    mesh.pass(Duration::from_secs(1));
    assert_eq!(mesh.lines(1, "message").len(), MAX_INFLIGHT);
}

#[test]
fn what_waits_at_the_end_of_stdin_goes_as_there_is_room_or_is_refused_and_told_by_the_exit_code() {
    for takes in [true, false] {
        let mut mesh = fixture();
        let sent = fill(&mut mesh, 200, 1000);
        mesh.input(1, Input::StdinClosed);
        let mut taken = 0;
        for _ in 0..60 {
            mesh.pass(Duration::from_millis(100));
            if takes {
                take(&mut mesh, SLOW, &mut taken, usize::MAX);
            }
        }
        let expected = if takes { (ExitCode::Ok, 0) } else { (ExitCode::Undelivered, 200) };
        let refused = mesh
            .lines(1, "error")
            .into_iter()
            .filter(|line| line["code"] == "SHUTTING_DOWN" && !line["id"].is_null());
        assert_eq!((mesh.nodes[1].exit, refused.count()), (Some(expected.0), expected.1));
        assert_eq!(answers(&mesh, 1).len() as u64, sent + 1);
        let delivered = mesh.lines(1, "delivery").iter().filter(|line| line["state"] == "delivered").count();
        assert_eq!(delivered as u64, if takes { sent } else { 0 });
    }
}

#[test]
fn a_durable_node_that_refuses_what_waits_says_so_by_its_exit_code() {
    let mut mesh = Mesh::new(1);
    let node = mesh.add_with(2, Role::Full, CONNECT, |setup| setup.durable = true);
    let nobody = agent_key(0x77).address().to_string();
    let data = "x".repeat(10_000);
    for id in 0..300 {
        mesh.say(node, &json!({"type": "send", "peerId": nobody, "data": data, "id": id}).to_string());
    }
    assert!(held(&mesh, node, "sends that wait") > 50);
    mesh.say(node, r#"{"type":"shutdown","id":"end"}"#);
    mesh.pass(Duration::from_secs(7));
    assert_eq!(mesh.nodes[node].exit, Some(ExitCode::Undelivered));
    assert_eq!(answers(&mesh, node).len(), 302);
}
