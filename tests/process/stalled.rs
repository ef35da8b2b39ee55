//! A parent that does not read stdout for a long time while other agents send to it.

use std::io::{BufRead, BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, TIMEOUT, command, resident_mib, tcp_address, test_key};

/// How long the parent does not read; `STALL_SECONDS` overrides it.
fn stall_time() -> Duration {
    let seconds = std::env::var("STALL_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

/// Most memory of a node, in MiB: gossipsub keeps up to 160 of recent messages, the queues have 16
/// for mail and 16 for broadcasts, and there is overhead.
const MAX_MIB: u64 = 240;

/// Longest time to read everything after the stall, besides the stall itself: the backoff of refused
/// senders grows with the stall.
const READ_TIMEOUT: Duration = Duration::from_secs(90);

/// Commands whose answers the parent does not read: more than pipes and queues can hold.
const COMMANDS: u64 = 50_000;

/// The lines that a parent has read.
#[derive(Debug, Default)]
struct Read {
    mail: u64,
    broadcasts: u64,
    dropped: u64,
    answers: u64,
    last_seq: u64,
}

impl Read {
    /// Takes the next line, and returns it.
    fn next(&mut self, stdout: &mut impl BufRead) -> Value {
        let mut line = String::new();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "the node has ended");
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["seq"], self.last_seq + 1, "no line is missing");
        self.last_seq += 1;
        match event["type"].as_str().unwrap() {
            "message" if event["topic"].is_null() => self.mail += 1,
            "message" => self.broadcasts += 1,
            "overflow" => self.dropped = event["total"]["broadcasts"].as_u64().unwrap(),
            "result" if event["id"].is_u64() => {
                assert_eq!(event["id"], self.answers, "answers in order, each once");
                self.answers += 1;
            }
            _ => {}
        }
        event
    }

    fn until(&mut self, stdout: &mut impl BufRead, matches: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next(stdout);
            if matches(&event) {
                return event;
            }
        }
    }
}

/// Broadcasts as fast as the node accepts commands, until `stop` is set.
fn flood(mut publisher: Child, stop: Arc<AtomicBool>) -> JoinHandle<Child> {
    std::thread::spawn(move || {
        let text = "x".repeat(1000);
        while !stop.load(Ordering::Relaxed) {
            publisher.command(json!({"type":"send","topic":"t","data":text}));
        }
        publisher
    })
}

/// Sends mail to the stalled node, which delays no other command. Returns the numbers of sent and
/// refused messages, and the largest memory of the stalled node, in MiB.
fn send_while_stalled(sender: &mut Child, address: &Value, stalled: u32) -> (u64, u64, u64) {
    let (since, text) = (Instant::now(), "x".repeat(1000));
    let (mut sent, mut refused, mut max_mib) = (0_u64, 0, 0);
    while since.elapsed() < stall_time() {
        for _ in 0..100 {
            sender.command(json!({"type":"send","peerId":address,"data":text,"ttlMs":600_000}));
            sent += 1;
        }
        // The stalled recipient delays no other command and stays connected.
        let id = format!("p{sent}");
        sender.command(json!({"type":"peers","id":id}));
        // The sender's stdin may pause while the recipient's node, which delays responses by 5 s,
        // may still make progress: 15 s more.
        let peers = sender.expect_within(3 * TIMEOUT, "the peers", |event| event["id"] == id.as_str());
        assert_eq!(peers["count"], 2, "{peers}");
        // Drops refused sends, which may be many and would slow down every search.
        refused += sender.drop_seen("error");
        sender.drop_seen("delivery");
        max_mib = max_mib.max(resident_mib(stalled).unwrap_or_default());
    }
    (sent, refused, max_mib)
}

/// Ends the test if it waits for ever: a killed node closes the pipe.
fn kill_later(stalled: &std::process::Child) {
    let pid = rustix::process::Pid::from_child(stalled);
    std::thread::spawn(move || {
        std::thread::sleep(stall_time() + READ_TIMEOUT);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    });
}

#[test]
fn stalled_parent_keeps_memory_bounded_and_peers_connected_and_learns_its_losses() {
    let (mut sender, sender_ready) = Child::join(0x90, 0, &[], &[]);
    let entry = tcp_address(&sender_ready);
    let home = TempDir::new().unwrap();
    let mut stalled = command(home.path());
    let mut stalled = stalled.env("PRIVATE_KEY", test_key(0x91)).spawn().unwrap();
    let mut stdin = stalled.stdin.take().unwrap();
    let mut stdout = BufReader::new(stalled.stdout.take().unwrap());
    writeln!(stdin, "{}", json!({"type":"connect","protocol":1,"bootstrapPeers":[entry]})).unwrap();
    writeln!(stdin, r#"{{"type":"subscribe","topic":"t","id":"t"}}"#).unwrap();
    let mut read = Read::default();
    let address = read.until(&mut stdout, |event| event["type"] == "ready")["address"].clone();
    read.until(&mut stdout, |event| event["id"] == "t");

    // The parent stops reading, and writes more commands than the node can answer.
    let writer = std::thread::spawn(move || {
        for id in 0..COMMANDS {
            writeln!(stdin, r#"{{"type":"ping","id":{id}}}"#).unwrap();
        }
        stdin
    });
    let (publisher, _) = Child::join(0x92, 0, &[], &[entry]);
    let stop = Arc::new(AtomicBool::new(false));
    let publishing = flood(publisher, Arc::clone(&stop));
    sender.until("peers", |status| status["peers"] == 2);
    let (sent, refused, max_mib) = send_while_stalled(&mut sender, &address, stalled.id());
    stop.store(true, Ordering::Relaxed);
    let publisher = publishing.join().unwrap();
    assert!(max_mib < MAX_MIB, "{max_mib} MiB");
    assert!(!writer.is_finished(), "stdin is read although the answers are unread");

    kill_later(&stalled);
    // The parent reads again: every answer, every accepted message, and the number of dropped
    // broadcasts.
    while read.answers < COMMANDS {
        read.next(&mut stdout);
    }
    let mut stdin = writer.join().unwrap();
    while read.mail + refused < sent {
        read.next(&mut stdout);
    }
    writeln!(stdin, r#"{{"type":"status","id":"end"}}"#).unwrap();
    let status = read.until(&mut stdout, |event| event["id"] == "end");
    let received = &status["status"]["counters"]["broadcasts_received"];
    assert_eq!(
        *received,
        read.broadcasts + read.dropped,
        "the dropped broadcasts are counted exactly: {read:?}"
    );
    assert!(read.dropped > 0, "{read:?}");
    eprintln!("{sent} messages ({} refused), at most {max_mib} MiB, {read:?}", refused);
    drop((stdin, publisher));
    assert_eq!(stalled.wait().unwrap().code(), Some(0));
}
