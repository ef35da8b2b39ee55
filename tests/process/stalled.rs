//! A parent that does not read stdout for a long time while other agents send to it.

use std::io::{BufRead, BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, SOON, command, resident_mib, tcp_address, test_key};

/// How long nobody reads, in seconds; minutes with `STALL_SECONDS`.
fn stall() -> Duration {
    let seconds = std::env::var("STALL_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

/// Memory that a node may take, in MiB: gossipsub keeps up to 160 of what was passed on lately, the
/// queues have room for 16 of mail and 16 of broadcasts, and all of it is more than its payload.
const MOST_MIB: u64 = 240;

/// How much longer than the stall it may take until all is read: the pauses of senders that were
/// refused grow with it.
const PATIENCE: Duration = Duration::from_secs(90);

/// Commands whose answers nobody reads: more than pipes and queues have room for.
const ASKED: u64 = 50_000;

/// What a parent has read.
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
        assert!(stdout.read_line(&mut line).unwrap() > 0, "the node lives");
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["seq"], self.last_seq + 1, "no line is missing");
        self.last_seq += 1;
        match event["type"].as_str().unwrap() {
            "message" if event["topic"].is_null() => self.mail += 1,
            "message" => self.broadcasts += 1,
            "overflow" => self.dropped = event["total"]["broadcasts"].as_u64().unwrap(),
            "result" if event["id"].is_u64() => {
                assert_eq!(event["id"], self.answers, "in order, each once");
                self.answers += 1;
            }
            _ => {}
        }
        event
    }

    fn until(&mut self, stdout: &mut impl BufRead, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next(stdout);
            if wanted(&event) {
                return event;
            }
        }
    }
}

/// Broadcasts as fast as its node takes them, until it is told to stop.
fn flood(mut flooder: Child, stop: Arc<AtomicBool>) -> JoinHandle<Child> {
    std::thread::spawn(move || {
        let text = "x".repeat(1000);
        while !stop.load(Ordering::Relaxed) {
            flooder.say(json!({"type":"send","topic":"t","data":text}));
        }
        flooder
    })
}

#[test]
fn memory_stays_bounded_the_network_stays_up_and_what_was_missed_is_told() {
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

    // From here on nobody reads what the node says, and more is asked of it than it may answer.
    let asking = std::thread::spawn(move || {
        for asked in 0..ASKED {
            writeln!(stdin, r#"{{"type":"ping","id":{asked}}}"#).unwrap();
        }
        stdin
    });
    let (flooder, _) = Child::join(0x92, 0, &[], &[entry]);
    let stop = Arc::new(AtomicBool::new(false));
    let flooding = flood(flooder, Arc::clone(&stop));
    sender.until("peers", |status| status["peers"] == 2);
    let (since, text) = (Instant::now(), "x".repeat(1000));
    let (mut mails, mut refused, mut most) = (0_u64, 0, 0);
    while since.elapsed() < stall() {
        for _ in 0..100 {
            sender.say(json!({"type":"send","peerId":address,"data":text,"ttlMs":600_000}));
            mails += 1;
        }
        // A recipient that does not read holds up nothing else, and is connected as before.
        let id = format!("p{mails}");
        sender.say(json!({"type":"peers","id":id}));
        // Its stdin pauses for as long as the recipient's node, which holds its answers back for 5
        // s, may still be moving: 15 s more.
        let peers = sender.expect_within(3 * SOON, "the peers", |event| event["id"] == id.as_str());
        assert_eq!(peers["count"], 2, "{peers}");
        // Those that are refused may be many: they are not to be looked through again and again.
        refused += sender.drop_seen("error");
        sender.drop_seen("delivery");
        most = most.max(resident_mib(stalled.id()).unwrap_or_default());
    }
    stop.store(true, Ordering::Relaxed);
    let flooder = flooding.join().unwrap();
    assert!(most < MOST_MIB, "{most} MiB");
    assert!(!asking.is_finished(), "stdin is read on though nobody reads the answers");

    // What never comes is not waited for for ever: without its node the pipe ends.
    let pid = rustix::process::Pid::from_child(&stalled);
    std::thread::spawn(move || {
        std::thread::sleep(stall() + PATIENCE);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    });
    // The parent reads again: every answer, every mail that its sender was told of, and a count of
    // what it missed.
    while read.answers < ASKED {
        read.next(&mut stdout);
    }
    let mut stdin = asking.join().unwrap();
    while read.mail + refused < mails {
        read.next(&mut stdout);
    }
    writeln!(stdin, r#"{{"type":"status","id":"end"}}"#).unwrap();
    let status = read.until(&mut stdout, |event| event["id"] == "end");
    let received = &status["status"]["counters"]["broadcasts_received"];
    assert_eq!(*received, read.broadcasts + read.dropped, "what was missed is told exactly: {read:?}");
    assert!(read.dropped > 0, "{read:?}");
    eprintln!("{mails} mails ({} refused), {most} MiB at most, {read:?}", refused);
    drop((stdin, flooder));
    assert_eq!(stalled.wait().unwrap().code(), Some(0));
}
