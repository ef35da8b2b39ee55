use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use p2p_node_protocol::{Closing, ErrorCode, Event, Id, MAX_LINE_BYTES};
use rustix::fs::OFlags;
use serde_json::Value;

use super::reader::QUEUED_BATCHES;
use super::writer::WRITE_BYTES;
use super::*;

/// Long enough for any machine; no test that passes waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

fn closing(reason: impl Into<String>) -> Event {
    Event::Closing(Closing { reason: reason.into() })
}

/// The next batch, told in a few words: an id, a command without one, or a code for each line.
fn next(front: &mut Front) -> Vec<String> {
    match front.input.blocking_recv().expect("the reader tells how it ended") {
        Batch::Lines(lines) => lines
            .into_iter()
            .map(|line| match line {
                Ok(request) => {
                    request.id.map_or_else(|| request.command.name().to_owned(), |id| id.to_string())
                }
                Err(error) => error.code.to_string(),
            })
            .collect(),
        Batch::Ended => vec!["ended".to_owned()],
        Batch::Failed(reason) => vec![format!("failed: {reason}")],
    }
}

fn until_ended(front: &mut Front) -> Vec<String> {
    let mut all = Vec::new();
    while all.last().is_none_or(|line| line != "ended") {
        all.extend(next(front));
    }
    assert!(front.input.blocking_recv().is_none(), "something followed the end");
    all
}

/// An output whose every write waits until the test takes what is written.
struct Gate(SyncSender<Vec<u8>>);

impl Gate {
    fn new() -> (Gate, Receiver<Vec<u8>>) {
        let (writes, taken) = sync_channel(0);
        (Gate(writes), taken)
    }
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_go_both_ways() {
    let (mut front, mut parent) = Front::memory().unwrap();
    parent.write_line(r#"{"type":"ping","id":7}"#).unwrap();
    assert_eq!(next(&mut front), ["7"]);
    front.output.send(vec![(closing("a"), true), (closing("b"), false), (closing("c"), true)]).unwrap();
    for line in [
        r#"{"type":"closing","reason":"a","seq":1}"#,
        r#"{"type":"closing","reason":"b"}"#,
        r#"{"type":"closing","reason":"c","seq":2}"#,
    ] {
        assert_eq!(parent.read_line().unwrap().as_deref(), Some(line));
    }
    drop(parent.input);
    assert_eq!(next(&mut front), ["ended"]);
    assert!(front.output.finish(PATIENCE));
    assert_eq!(front.progress.written(), 3);
    assert!(!front.progress.closed());
}

#[test]
fn bad_lines_are_told_in_their_place_and_the_last_line_needs_no_newline() {
    let (mut front, mut parent) = Front::memory().unwrap();
    let writing = thread::spawn(move || {
        parent.write_line("\u{feff}{\"type\":\"ping\",\"id\":1}\r").unwrap();
        parent.write_line("").unwrap();
        parent.write_line("garbage").unwrap();
        parent.write_line(&"x".repeat(MAX_LINE_BYTES + 1)).unwrap();
        parent.input.write_all(b"\xff\n").unwrap();
        parent.write_line(r#"{"type":"subscribe","id":2}"#).unwrap();
        parent.input.write_all(br#"{"type":"ping","id":3}"#).unwrap();
    });
    let expected = ["1", "INVALID_JSON", "LINE_TOO_LONG", "INVALID_UTF8", "INVALID_ARGUMENT", "3", "ended"];
    assert_eq!(until_ended(&mut front), expected);
    writing.join().unwrap();
}

#[test]
fn a_line_of_the_greatest_length_is_read_whole() {
    let (mut front, mut parent) = Front::memory().unwrap();
    let blank = format!(r#"{{"type":"send","topic":"t","data":"{}","id":9}}"#, "");
    let line = blank.replace(r#":"","#, &format!(r#":"{}","#, "x".repeat(MAX_LINE_BYTES - blank.len())));
    assert_eq!(line.len(), MAX_LINE_BYTES);
    let writing = thread::spawn(move || parent.write_line(&line).unwrap());
    assert_eq!(until_ended(&mut front), ["9", "ended"]);
    writing.join().unwrap();
}

#[test]
fn a_broken_input_is_told_with_its_reason() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("no such wire"))
        }
    }
    let mut front = Front::start(Broken, io::sink()).unwrap();
    assert_eq!(next(&mut front), ["failed: no such wire"]);
    assert!(front.input.blocking_recv().is_none());
}

#[test]
fn a_node_that_takes_no_batch_stops_the_reader() {
    struct Endless(Arc<AtomicUsize>);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let line = b"{\"type\":\"ping\"}\n";
            buffer[..line.len()].copy_from_slice(line);
            Ok(line.len())
        }
    }
    let reads = Arc::new(AtomicUsize::new(0));
    let mut front = Front::start(Endless(Arc::clone(&reads)), io::sink()).unwrap();
    for taken in 0..200 {
        // One read more than the queue holds is in the reader's hand, waiting for a place.
        let most = taken + QUEUED_BATCHES + 1;
        while reads.load(Ordering::SeqCst) < most {
            thread::yield_now();
        }
        thread::yield_now();
        assert_eq!(reads.load(Ordering::SeqCst), most);
        assert_eq!(next(&mut front), ["ping"]);
    }
}

#[tokio::test]
async fn a_burst_is_written_in_order_numbered_without_gap_and_counted() {
    const LINES: usize = 50_000;
    let (front, mut parent) = Front::memory().unwrap();
    let reading = thread::spawn(move || {
        let mut numbered = 0;
        for expected in 0..LINES {
            let line = parent.read_line().unwrap().unwrap();
            let value: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["reason"], expected.to_string());
            if expected % 3 != 0 {
                numbered += 1;
                assert_eq!(value["seq"], numbered);
            } else {
                assert!(value.get("seq").is_none());
            }
        }
        assert_eq!(parent.read_line().unwrap(), None);
    });
    let mut sent = 0;
    while sent < LINES {
        let room = FRONT_WINDOW - (sent - front.progress.written() as usize);
        let end = LINES.min(sent + room.min(100));
        front.output.send((sent..end).map(|at| (closing(at.to_string()), at % 3 != 0)).collect()).unwrap();
        sent = end;
        while sent - front.progress.written() as usize == FRONT_WINDOW {
            front.progress.changed().await;
        }
    }
    while front.progress.written() < LINES as u64 {
        front.progress.changed().await;
    }
    assert!(front.output.finish(PATIENCE));
    reading.join().unwrap();
}

#[test]
fn what_is_queued_goes_out_in_one_write() {
    let (gate, writes) = Gate::new();
    let front = Front::start(io::empty(), gate).unwrap();
    let long = "x".repeat(2 * WRITE_BYTES);
    front.output.send(vec![(closing(&long), false)]).unwrap();
    // The writer waits at the gate with the long line, or will; the short ones gather behind it.
    for _ in 0..100 {
        front.output.send(vec![(closing("short"), false), (closing("short"), false)]).unwrap();
    }
    let lines = |write: &[u8]| write.iter().filter(|&&byte| byte == b'\n').count();
    assert_eq!(lines(&writes.recv().unwrap()), 1);
    assert_eq!(lines(&writes.recv().unwrap()), 200);
    assert!(front.output.finish(PATIENCE));
}

#[test]
fn a_full_queue_is_an_error_and_keeps_what_it_took() {
    let (gate, writes) = Gate::new();
    let front = Front::start(io::empty(), gate).unwrap();
    front.output.send(vec![(closing("x".repeat(WRITE_BYTES)), false)]).unwrap();
    let mut taken = 1;
    let refused = loop {
        match front.output.send(vec![(closing("short"), false)]) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, SendError::Full);
    assert!((FRONT_WINDOW..=FRONT_WINDOW + 1).contains(&taken), "{taken} taken");
    let counting = thread::spawn(move || writes.iter().flatten().filter(|&byte| byte == b'\n').count());
    assert!(front.output.finish(PATIENCE));
    assert_eq!(counting.join().unwrap(), taken);
}

#[tokio::test]
async fn a_closed_reader_is_no_failure() {
    let (front, parent) = Front::memory().unwrap();
    drop(parent.output);
    front.output.send(vec![(closing("a"), false)]).unwrap();
    while !front.progress.closed() {
        front.progress.changed().await;
    }
    assert_eq!((front.progress.failure(), front.progress.written()), (None, 0));
    while front.output.send(vec![(closing("b"), false)]).is_ok() {
        thread::yield_now();
    }
    assert_eq!(front.output.send(vec![(closing("c"), false)]), Err(SendError::Closed));
    assert!(!front.output.finish(PATIENCE), "a line was lost");
}

#[tokio::test]
async fn a_failed_write_is_told_with_its_reason() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("disk full"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let front = Front::start(io::empty(), Full).unwrap();
    front.output.send(vec![(closing("a"), false)]).unwrap();
    while !front.progress.closed() {
        front.progress.changed().await;
    }
    assert_eq!(front.progress.failure(), Some("disk full"));
}

#[test]
fn a_parent_that_does_not_read_does_not_keep_the_process() {
    let (front, mut parent) = Front::memory().unwrap();
    let long = "x".repeat(2 * WRITE_BYTES);
    front.output.send(vec![(closing(&long), false)]).unwrap();
    assert!(!front.output.finish(Duration::from_millis(20)));
    assert_eq!(front.progress.written(), 0);
    // The writer still has it, should the parent wake up.
    assert!(parent.read_line().unwrap().unwrap().contains(&long));
    assert_eq!(parent.read_line().unwrap(), None);
}

/// Plays the node for the test below, in a process of its own.
#[test]
#[ignore = "takes over this process's stdin and stdout; run by the test below"]
fn child_of_the_stdio_test() {
    let mut front = Front::stdio().unwrap();
    println!("stray words of a library");
    let command = next(&mut front);
    front.output.send(vec![(closing(command.concat()), true)]).unwrap();
    assert_eq!(next(&mut front), ["ended"]);
    assert!(front.output.finish(PATIENCE));
}

#[test]
fn only_events_reach_stdout() {
    let mut child = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "front::tests::child_of_the_stdio_test", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"{\"type\":\"ping\",\"id\":\"hello\"}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{stderr}");
    let event = "{\"type\":\"closing\",\"reason\":\"hello\",\"seq\":1}\n";
    assert!(stdout.ends_with(event) && !stdout.contains("stray"), "{stdout}");
    assert!(stderr.contains("stray words of a library"), "{stderr}");
}

/// Both ends of a pipe, of which nothing waits by itself.
fn impatient_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = io::pipe().unwrap();
    let ends = (OwnedFd::from(reader), OwnedFd::from(writer));
    for end in [&ends.0, &ends.1] {
        let flags = rustix::fs::fcntl_getfl(end).unwrap();
        rustix::fs::fcntl_setfl(end, flags | OFlags::NONBLOCK).unwrap();
    }
    ends
}

#[test]
fn descriptors_that_do_not_wait_are_waited_for_and_left_as_they_are() {
    const LINES: usize = 20_000;
    let ((input, parent_input), (parent_output, output)) = (impatient_pipe(), impatient_pipe());
    let (shared_input, shared_output) = (input.try_clone().unwrap(), output.try_clone().unwrap());
    let mut front = Front::start(Waiting::new(input), Waiting::new(output)).unwrap();
    let mut parent_input = Waiting::new(parent_input);
    // Half a line, and nothing for a while: the reader has found the pipe empty when it answers nothing.
    parent_input.write_all(b"{\"type\":").unwrap();
    front.output.send((0..FRONT_WINDOW).map(|_| (closing("x".repeat(100)), true)).collect()).unwrap();
    // The writer has found the pipe full when it has written less than it has.
    let mut parent_output = BufReader::new(Waiting::new(parent_output));
    let mut line = String::new();
    parent_output.read_line(&mut line).unwrap();
    for _ in 1..FRONT_WINDOW {
        line.clear();
        parent_output.read_line(&mut line).unwrap();
    }
    assert!(line.ends_with(&format!("\"seq\":{FRONT_WINDOW}}}\n")), "{line}");
    let writing = thread::spawn(move || {
        parent_input.write_all(b"\"ping\",\"id\":0}\n").unwrap();
        for id in 1..LINES {
            parent_input.write_all(format!("{{\"type\":\"ping\",\"id\":{id}}}\n").as_bytes()).unwrap();
        }
    });
    let all = until_ended(&mut front);
    writing.join().unwrap();
    assert_eq!(all.len(), LINES + 1);
    assert!(all[..LINES].iter().enumerate().all(|(id, told)| *told == id.to_string()));
    for shared in [&shared_input, &shared_output] {
        assert!(rustix::fs::fcntl_getfl(shared).unwrap().contains(OFlags::NONBLOCK));
    }
}

#[test]
fn an_error_keeps_its_id() {
    let (mut front, mut parent) = Front::memory().unwrap();
    parent.write_line(r#"{"type":"reboot","id":4}"#).unwrap();
    let Some(Batch::Lines(mut lines)) = front.input.blocking_recv() else { panic!("no lines") };
    let error = lines.pop().unwrap().unwrap_err();
    assert_eq!((error.code, error.id), (ErrorCode::UnknownCommand, Some(Id::from(4))));
}
