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

use super::reader::QUEUED_CHUNKS;
use super::writer::WRITE_BYTES;
use super::*;

mod polled;

/// Timeout of the tests; a test that passes does not wait for it.
const PATIENCE: Duration = Duration::from_secs(60);

fn closing(reason: impl Into<String>) -> Event {
    Event::Closing(Closing { reason: reason.into() })
}

fn recv(pipe: &mut Pipe) -> Option<InputChunk> {
    futures::executor::block_on(pipe.input.recv())
}

/// Returns a summary of the next batch: for each line its id, its command, or its error code.
fn next(pipe: &mut Pipe) -> Vec<String> {
    match recv(pipe).expect("the reader tells how it ended") {
        InputChunk::Lines(lines) => lines
            .into_iter()
            .map(|line| match line {
                Ok(request) => {
                    request.id.map_or_else(|| request.command.name().to_owned(), |id| id.to_string())
                }
                Err(error) => error.code.to_string(),
            })
            .collect(),
        InputChunk::Ended => vec!["ended".to_owned()],
        InputChunk::Failed(reason) => vec![format!("failed: {reason}")],
    }
}

fn until_ended(pipe: &mut Pipe) -> Vec<String> {
    let mut all = Vec::new();
    while all.last().is_none_or(|line| line != "ended") {
        all.extend(next(pipe));
    }
    assert!(recv(pipe).is_none(), "something followed the end");
    all
}

/// Output whose writes block until the test receives the written bytes.
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
fn lines_travel_in_both_directions() {
    let (mut pipe, mut parent) = Pipe::memory().unwrap();
    parent.write_line(r#"{"type":"ping","id":7}"#).unwrap();
    assert_eq!(next(&mut pipe), ["7"]);
    pipe.output.send(vec![(closing("a"), true), (closing("b"), false), (closing("c"), true)]).unwrap();
    for line in [
        r#"{"type":"closing","reason":"a","seq":1}"#,
        r#"{"type":"closing","reason":"b"}"#,
        r#"{"type":"closing","reason":"c","seq":2}"#,
    ] {
        assert_eq!(parent.read_line().unwrap().as_deref(), Some(line));
    }
    drop(parent.input);
    assert_eq!(next(&mut pipe), ["ended"]);
    assert!(pipe.output.finish(PATIENCE));
    assert_eq!(pipe.progress.written(), 3);
    assert!(!pipe.progress.closed());
}

#[test]
fn bad_lines_are_reported_in_order_and_last_line_needs_no_newline() {
    let (mut pipe, mut parent) = Pipe::memory().unwrap();
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
    assert_eq!(until_ended(&mut pipe), expected);
    writing.join().unwrap();
}

#[test]
fn line_at_length_limit_is_read_completely() {
    let (mut pipe, mut parent) = Pipe::memory().unwrap();
    let blank = format!(r#"{{"type":"send","topic":"t","data":"{}","id":9}}"#, "");
    let line = blank.replace(r#":"","#, &format!(r#":"{}","#, "x".repeat(MAX_LINE_BYTES - blank.len())));
    assert_eq!(line.len(), MAX_LINE_BYTES);
    let writing = thread::spawn(move || parent.write_line(&line).unwrap());
    assert_eq!(until_ended(&mut pipe), ["9", "ended"]);
    writing.join().unwrap();
}

#[test]
fn failed_read_is_reported_with_reason() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("no such wire"))
        }
    }
    let mut pipe = Pipe::start(Broken, io::sink()).unwrap();
    assert_eq!(next(&mut pipe), ["failed: no such wire"]);
    assert!(recv(&mut pipe).is_none());
}

#[test]
fn unread_chunks_pause_reader() {
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
    let mut pipe = Pipe::start(Endless(Arc::clone(&reads)), io::sink()).unwrap();
    for taken in 0..200 {
        // The reader holds one more batch, which waits for a place in the queue.
        let most = taken + QUEUED_CHUNKS + 1;
        while reads.load(Ordering::SeqCst) < most {
            thread::yield_now();
        }
        thread::yield_now();
        assert_eq!(reads.load(Ordering::SeqCst), most);
        assert_eq!(next(&mut pipe), ["ping"]);
    }
}

#[tokio::test]
async fn burst_is_written_in_order_with_contiguous_numbers_and_counted() {
    const LINES: usize = 50_000;
    let (pipe, mut parent) = Pipe::memory().unwrap();
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
        let room = PIPE_WINDOW - (sent - pipe.progress.written() as usize);
        let end = LINES.min(sent + room.min(100));
        pipe.output.send((sent..end).map(|at| (closing(at.to_string()), at % 3 != 0)).collect()).unwrap();
        sent = end;
        while sent - pipe.progress.written() as usize == PIPE_WINDOW {
            pipe.progress.changed().await;
        }
    }
    while pipe.progress.written() < LINES as u64 {
        pipe.progress.changed().await;
    }
    assert!(pipe.output.finish(PATIENCE));
    reading.join().unwrap();
}

#[test]
fn queued_lines_are_written_together() {
    let (gate, writes) = Gate::new();
    let pipe = Pipe::start(io::empty(), gate).unwrap();
    let long = "x".repeat(2 * WRITE_BYTES);
    pipe.output.send(vec![(closing(&long), false)]).unwrap();
    // The writer blocks on the long line; the short lines stay in the queue.
    for _ in 0..100 {
        pipe.output.send(vec![(closing("short"), false), (closing("short"), false)]).unwrap();
    }
    let lines = |write: &[u8]| write.iter().filter(|&&byte| byte == b'\n').count();
    assert_eq!(lines(&writes.recv().unwrap()), 1);
    assert_eq!(lines(&writes.recv().unwrap()), 200);
    assert!(pipe.output.finish(PATIENCE));
}

#[test]
fn full_queue_rejects_line_and_writes_accepted_lines() {
    let (gate, writes) = Gate::new();
    let pipe = Pipe::start(io::empty(), gate).unwrap();
    pipe.output.send(vec![(closing("x".repeat(WRITE_BYTES)), false)]).unwrap();
    let mut taken = 1;
    let refused = loop {
        match pipe.output.send(vec![(closing("short"), false)]) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, SendError::Full);
    assert!((PIPE_WINDOW..=PIPE_WINDOW + 1).contains(&taken), "{taken} taken");
    let counting = thread::spawn(move || writes.iter().flatten().filter(|&byte| byte == b'\n').count());
    assert!(pipe.output.finish(PATIENCE));
    assert_eq!(counting.join().unwrap(), taken);
}

#[tokio::test]
async fn closed_reader_is_not_reported_as_failure() {
    let (pipe, parent) = Pipe::memory().unwrap();
    drop(parent.output);
    pipe.output.send(vec![(closing("a"), false)]).unwrap();
    while !pipe.progress.closed() {
        pipe.progress.changed().await;
    }
    assert_eq!((pipe.progress.failure(), pipe.progress.written()), (None, 0));
    while pipe.output.send(vec![(closing("b"), false)]).is_ok() {
        thread::yield_now();
    }
    assert_eq!(pipe.output.send(vec![(closing("c"), false)]), Err(SendError::Closed));
    assert!(!pipe.output.finish(PATIENCE), "a line was lost");
}

#[tokio::test]
async fn failed_write_is_reported_with_reason() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("disk full"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let pipe = Pipe::start(io::empty(), Full).unwrap();
    pipe.output.send(vec![(closing("a"), false)]).unwrap();
    while !pipe.progress.closed() {
        pipe.progress.changed().await;
    }
    assert_eq!(pipe.progress.failure(), Some("disk full"));
}

#[test]
fn finish_returns_when_parent_does_not_read() {
    let (pipe, mut parent) = Pipe::memory().unwrap();
    let long = "x".repeat(2 * WRITE_BYTES);
    pipe.output.send(vec![(closing(&long), false)]).unwrap();
    assert!(!pipe.output.finish(Duration::from_millis(20)));
    assert_eq!(pipe.progress.written(), 0);
    // The writer still writes the line when the parent reads again.
    assert!(parent.read_line().unwrap().unwrap().contains(&long));
    assert_eq!(parent.read_line().unwrap(), None);
}

/// Child process of the test below: plays the node.
#[test]
#[ignore = "takes over this process's stdin and stdout; run by the test below"]
fn stdio_test_child() {
    let mut pipe = Pipe::stdio().unwrap();
    println!("stray words of a library");
    let command = next(&mut pipe);
    pipe.output.send(vec![(closing(command.concat()), true)]).unwrap();
    assert_eq!(next(&mut pipe), ["ended"]);
    assert!(pipe.output.finish(PATIENCE));
}

#[test]
fn only_events_reach_stdout() {
    let mut child = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "pipe::tests::stdio_test_child", "--ignored", "--nocapture"])
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

/// Returns both ends of a non-blocking pipe.
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
fn nonblocking_descriptors_are_polled_and_keep_their_flags() {
    const LINES: usize = 20_000;
    let ((input, parent_input), (parent_output, output)) = (impatient_pipe(), impatient_pipe());
    let (shared_input, shared_output) = (input.try_clone().unwrap(), output.try_clone().unwrap());
    let mut pipe = Pipe::open(input, output).unwrap();
    let mut parent_input = Waiting::new(parent_input);
    // Writes half a line. While the reader returns nothing, it has found the pipe empty.
    parent_input.write_all(b"{\"type\":").unwrap();
    pipe.output.send((0..PIPE_WINDOW).map(|_| (closing("x".repeat(100)), true)).collect()).unwrap();
    // The writer has found the pipe full if it has written fewer lines than it was given.
    let mut parent_output = BufReader::new(Waiting::new(parent_output));
    let mut line = String::new();
    parent_output.read_line(&mut line).unwrap();
    for _ in 1..PIPE_WINDOW {
        line.clear();
        parent_output.read_line(&mut line).unwrap();
    }
    assert!(line.ends_with(&format!("\"seq\":{PIPE_WINDOW}}}\n")), "{line}");
    let writing = thread::spawn(move || {
        parent_input.write_all(b"\"ping\",\"id\":0}\n").unwrap();
        for id in 1..LINES {
            parent_input.write_all(format!("{{\"type\":\"ping\",\"id\":{id}}}\n").as_bytes()).unwrap();
        }
    });
    let all = until_ended(&mut pipe);
    writing.join().unwrap();
    assert_eq!(all.len(), LINES + 1);
    assert!(all[..LINES].iter().enumerate().all(|(id, told)| *told == id.to_string()));
    for shared in [&shared_input, &shared_output] {
        assert!(rustix::fs::fcntl_getfl(shared).unwrap().contains(OFlags::NONBLOCK));
    }
}

#[test]
fn error_line_has_id_of_command() {
    let (mut pipe, mut parent) = Pipe::memory().unwrap();
    parent.write_line(r#"{"type":"reboot","id":4}"#).unwrap();
    let Some(InputChunk::Lines(mut lines)) = recv(&mut pipe) else { panic!("no lines") };
    let error = lines.pop().unwrap().unwrap_err();
    assert_eq!((error.code, error.id), (ErrorCode::UnknownCommand, Some(Id::from(4))));
}
