//! Test harness: a node process and the parent's view of its lines.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Timeout of all waits in tests that do not test time.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Capacity of the queue of unread lines.
const LINES: usize = 100_000;

/// Returns the Ethereum test key of a number. For tests only.
pub fn test_key(number: u8) -> String {
    format!("0x{}", format!("{number:02x}").repeat(32))
}

/// Returns the TCP address in a `ready` event.
pub fn tcp_address(ready: &Value) -> String {
    let addrs = ready["addrs"].as_array().unwrap();
    let tcp = addrs.iter().find(|addr| addr.as_str().unwrap().contains("/tcp/")).unwrap();
    tcp.as_str().unwrap().to_owned()
}

/// Returns the memory of a process in MiB, if the system reports it.
pub fn resident_mib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(kib.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
}

/// Limits of a small container, in which a node gets through every flood: 64 open files, and 256 MiB of
/// writable memory of its own (`RLIMIT_DATA`).
pub const SMALL: &str = "ulimit -n 64 && ulimit -d 262144";

/// Returns the command of the binary in its own environment, below limits of the system.
pub fn limited_command(home: &Path, ulimit: &str) -> Command {
    let node = command(home);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!(r#"{ulimit} && exec "$0" "$@""#)]).arg(node.get_program());
    shell.env_clear().envs(node.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(home).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

/// Running node. `Drop` kills and reaps the process.
pub struct Child {
    process: std::process::Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
    /// Lines that were read but not matched yet.
    seen: RefCell<Vec<Value>>,
    stderr: Option<std::thread::JoinHandle<String>>,
    /// Working directory and lock scope, so that several tests may use one key.
    _home: TempDir,
}

/// Returns the command of the binary in its own environment.
pub fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_p2p-node"));
    command
        .env_clear()
        .env("P2P_NODE_NETWORK", "dev")
        .env("P2P_NODE_LOCK_SCOPE", home)
        .env("P2P_NODE_RENDEZVOUS", "off")
        // No test sends packets into the network of the machine.
        .env("P2P_NODE_MDNS", "false")
        .env("P2P_NODE_UPNP", "false")
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Child {
    /// Starts a node with these arguments and variables.
    pub fn spawn(args: &[&str], env: &[(&str, &str)]) -> Child {
        let home = TempDir::new().unwrap();
        Child::spawn_in(home, args, env)
    }

    pub fn spawn_in(home: TempDir, args: &[&str], env: &[(&str, &str)]) -> Child {
        let mut command = command(home.path());
        command.args(args).envs(env.iter().copied());
        Child::start(home, command)
    }

    /// As `spawn`, below limits of the system.
    pub fn spawn_limited(ulimit: &str, args: &[&str], env: &[(&str, &str)]) -> Child {
        let home = TempDir::new().unwrap();
        let mut command = limited_command(home.path(), ulimit);
        command.args(args).envs(env.iter().copied());
        Child::start(home, command)
    }

    /// Starts a program that writes JSON lines, with all three of its streams piped.
    pub fn start(home: TempDir, mut command: Command) -> Child {
        let mut process = command.spawn().unwrap();
        let stdin = process.stdin.take();
        let (sender, lines) = sync_channel(LINES);
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            loop {
                let mut line = Vec::new();
                match stdout.read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) if sender.send(line).is_err() => return,
                    Ok(_) => {}
                }
            }
        });
        let mut stderr = process.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Child { process, stdin, lines, seen: RefCell::default(), stderr: Some(stderr), _home: home }
    }

    /// Starts a node with bootstrap peers and waits until it is ready. Returns its `ready`.
    pub fn join(key: u8, port: u16, args: &[&str], bootstraps: &[String]) -> (Child, Value) {
        let mut child = Child::spawn(args, &[("PRIVATE_KEY", &test_key(key))]);
        let ready = child.connect(port, bootstraps);
        (child, ready)
    }

    /// As `join`, on any port and below limits of the system.
    pub fn join_limited(ulimit: &str, key: u8, args: &[&str], bootstraps: &[String]) -> (Child, Value) {
        let mut child = Child::spawn_limited(ulimit, args, &[("PRIVATE_KEY", &test_key(key))]);
        let ready = child.connect(0, bootstraps);
        (child, ready)
    }

    /// Connects a node and waits until it is ready. Returns its `ready`.
    fn connect(&mut self, port: u16, bootstraps: &[String]) -> Value {
        self.command(
            json!({"type":"connect","port":port,"bootstrapPeers":bootstraps,"protocol":1,"id":"connect"}),
        );
        let ready = self.expect("ready", |event| event["type"] == "ready");
        self.expect("the answer to connect", |event| event["id"] == "connect");
        ready
    }

    pub fn command(&mut self, command: Value) {
        self.write(format!("{command}\n").as_bytes());
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Returns stdin, for a separate thread.
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().unwrap()
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Returns the next line, or `None` at the end of stdout.
    fn next(&self, deadline: Instant, what: &str) -> Option<Value> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => {
                assert_eq!(line.last(), Some(&b'\n'), "an incomplete line");
                let text = String::from_utf8_lossy(&line);
                assert!(
                    !text.contains(['\u{85}', '\u{2028}', '\u{2029}']),
                    "a Unicode line separator: {text}"
                );
                let event = serde_json::from_slice(&line);
                Some(event.unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&line))))
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!(
                    "no {what} in time; the last lines: {:#?}",
                    self.seen.borrow().iter().rev().take(8).collect::<Vec<_>>()
                )
            }
        }
    }

    /// Takes the next line for which `matches` holds, as text. Drops the lines before it.
    pub fn raw_line(&self, what: &str, matches: impl Fn(&str) -> bool) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(TIMEOUT) else { panic!("no {what}") };
            let line = String::from_utf8(line).unwrap();
            if matches(&line) {
                return line;
            }
        }
    }

    /// Takes the first line for which `matches` holds, and waits for it if necessary.
    pub fn expect(&self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        self.expect_within(TIMEOUT, what, matches)
    }

    pub fn expect_within(&self, time: Duration, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let found = self.seen.borrow().iter().position(&matches);
        if let Some(index) = found {
            return self.seen.borrow_mut().remove(index);
        }
        let deadline = Instant::now() + time;
        loop {
            match self.next(deadline, what) {
                Some(event) if matches(&event) => return event,
                Some(event) => self.seen.borrow_mut().push(event),
                None => panic!("stdout ended without {what}: {:#?}", self.seen.borrow()),
            }
        }
    }

    /// Waits for a line for which `matches` holds and takes it. Returns `false` if none comes in time.
    pub fn received_within(&self, time: Duration, matches: impl Fn(&Value) -> bool) -> bool {
        let deadline = Instant::now() + time;
        while self.take(&matches).is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else { return false };
            self.seen.borrow_mut().push(serde_json::from_slice(&line).unwrap());
        }
        true
    }

    /// Returns the lines that can be read without waiting. Those that were read before are not among
    /// them.
    pub fn read_now(&self) -> Vec<Value> {
        self.lines.try_iter().map(|line| serde_json::from_slice(&line).unwrap()).collect()
    }

    /// Takes the first line so far for which `matches` holds, if any.
    pub fn take(&self, matches: impl Fn(&Value) -> bool) -> Option<Value> {
        let mut seen = self.seen.borrow_mut();
        let index = seen.iter().position(matches)?;
        Some(seen.remove(index))
    }

    /// Drops the unmatched lines of a type and returns their number.
    pub fn drop_seen(&self, kind: &str) -> u64 {
        let mut seen = self.seen.borrow_mut();
        let before = seen.len();
        seen.retain(|event| event["type"] != kind);
        (before - seen.len()) as u64
    }

    /// Waits for the answer to the command with this id.
    pub fn answer(&self, id: &str) -> Value {
        self.expect(&format!("answer to {id}"), |event| event["id"] == id)
    }

    /// Waits for the result of the `discover` with this id. Drops the agents that it found.
    pub fn answer_of_discover(&self, id: &str) -> Value {
        let result = self.expect("result", |event| event["type"] == "result" && event["id"] == id);
        while self.take(|event| event["requestId"] == id).is_some() {}
        result
    }

    /// Waits until a condition on the node's `status` holds, and returns the status.
    pub fn until(&mut self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        self.until_within(TIMEOUT, what, matches)
    }

    pub fn until_within(&mut self, time: Duration, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + time;
        for attempt in 0.. {
            let id = format!("status-{what}-{attempt}");
            self.command(json!({"type":"status","id":id}));
            let mut answer = self.answer(&id);
            if matches(&answer["status"]) {
                return answer["status"].take();
            }
            assert!(Instant::now() < deadline, "never {what}: {answer}");
            std::thread::sleep(Duration::from_millis(10));
        }
        unreachable!("attempts do not end")
    }

    /// Returns the lines that were read but not matched.
    pub fn seen(&self) -> Vec<Value> {
        self.seen.borrow().clone()
    }

    /// Returns all unmatched lines up to the end of stdout.
    pub fn rest(&self) -> Vec<Value> {
        let deadline = Instant::now() + TIMEOUT;
        while let Some(event) = self.next(deadline, "end of stdout") {
            self.seen.borrow_mut().push(event);
        }
        self.seen.take()
    }

    /// Waits until the process exits by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_within(TIMEOUT)
    }

    pub fn wait_within(&mut self, time: Duration) -> ExitStatus {
        let deadline = Instant::now() + time;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the node does not end: {:#?}", self.seen.borrow());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Closes stdin and waits for the exit. Returns the exit code and stderr.
    pub fn finish(mut self) -> (i32, Vec<Value>, String) {
        self.close_stdin();
        let rest = self.rest();
        let code = self.wait().code().unwrap();
        let stderr = self.stderr.take().unwrap().join().unwrap();
        (code, rest, stderr)
    }

    /// Returns the process ID.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(self.process.id() as i32).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
