//! A node as a child process: sends commands, waits for events, and stops the process.

use std::collections::VecDeque;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2p_node_protocol::line::{Framed, Framer, decode_event};
use p2p_node_protocol::{ErrorEvent, Event, MAX_LINE_BYTES};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::Screen;

/// Capacity of the queue of unread events. The whole demo has about 30 lines.
const EVENT_QUEUE: usize = 64;

/// Maximum number of events that were read but did not match a wait yet.
const MAX_UNMATCHED: usize = 256;

/// Number of the last stderr lines that an error quotes.
const STDERR_LINES: usize = 10;
const STDERR_LINE_BYTES: usize = 500;

/// Maximum time for a node to exit after its stdin was closed; then the demo kills it.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// Environment variables that a child inherits. None of them configures the node.
const KEPT_VARIABLES: [&str; 4] = ["HOME", "LD_LIBRARY_PATH", "PATH", "RUST_BACKTRACE"];

/// Failure of a node.
#[derive(Debug, thiserror::Error)]
#[error("{name} {what}{}", quoted(stderr))]
pub struct DemoFailure {
    name: &'static str,
    what: String,
    /// Last lines on the node's stderr.
    stderr: Vec<String>,
}

fn quoted(stderr: &[String]) -> String {
    match stderr {
        [] => String::new(),
        lines => format!("; the last lines on its stderr:\n  {}", lines.join("\n  ")),
    }
}

/// One line of a node's stdout.
enum Line {
    Event(Box<Event>),
    Unreadable(String),
}

pub(super) struct Child {
    name: &'static str,
    process: tokio::process::Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<Line>,
    unmatched: VecDeque<Event>,
    stderr: Arc<Mutex<VecDeque<String>>>,
    stderr_reader: JoinHandle<()>,
    screen: Arc<Screen>,
    /// The end of all waits.
    pub(super) deadline: Instant,
}

impl Child {
    /// Starts a node in `directory`, without the environment variables of this process that could
    /// configure it. The environment passes the key, because only this user can read it. All waits
    /// end at `deadline`.
    pub(super) fn start(
        binary: &Path,
        name: &'static str,
        arguments: &[&str],
        key: &[u8; 32],
        directory: &Path,
        screen: &Arc<Screen>,
        deadline: Instant,
    ) -> Result<Self, DemoFailure> {
        let mut command = Command::new(binary);
        command.args(arguments).current_dir(directory).env_clear();
        command.envs(KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        // The three nodes meet by their bootstrap node, and no other node of this user.
        command.env("P2P_NODE_RENDEZVOUS", "off");
        command.env("PRIVATE_KEY", format!("0x{}", hex::encode(key)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // With its own process group the child does not get Ctrl-C; the demo stops its children.
        command.process_group(0).kill_on_drop(true);

        let mut process = command.spawn().map_err(|error| DemoFailure {
            name,
            what: format!("could not be started from {}: {error}", binary.display()),
            stderr: Vec::new(),
        })?;
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, lines) = mpsc::channel(EVENT_QUEUE);
        if let Some(stdout) = process.stdout.take() {
            tokio::spawn(read_events(name, stdout, Arc::clone(screen), sender));
        }
        let errors = process.stderr.take();
        let tail = Arc::clone(&stderr);
        let stderr_reader = tokio::spawn(async move {
            if let Some(errors) = errors {
                read_tail(errors, &tail).await;
            }
        });
        Ok(Child {
            name,
            stdin: process.stdin.take(),
            process,
            lines,
            unmatched: VecDeque::new(),
            stderr,
            stderr_reader,
            screen: Arc::clone(screen),
            deadline,
        })
    }

    /// Sends the command `kind` with `id` and the fields of the object `fields`.
    pub(super) async fn send(&mut self, kind: &str, id: &str, fields: Value) -> Result<(), DemoFailure> {
        let fields = fields.to_string();
        let comma = if fields == "{}" { "" } else { "," };
        // `type` comes first, because that is easier to read on the screen.
        let line = format!(r#"{{"type":"{kind}","id":"{id}"{comma}{}"#, &fields[1..]);
        self.screen.line(self.name, '>', &line);
        let written = match &mut self.stdin {
            Some(stdin) => timeout_at(self.deadline, stdin.write_all(format!("{line}\n").as_bytes())).await,
            None => return Err(self.fail("is already stopping").await),
        };
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.exited(&format!("did not accept {kind}")).await),
            Err(_) => Err(self.fail(format!("did not read {kind} in time")).await),
        }
    }

    /// Waits for an event that `pick` accepts and keeps the other events. An error that answers a
    /// command, or a failed delivery, ends the wait.
    pub(super) async fn expect<T>(
        &mut self,
        what: &str,
        pick: impl Fn(&Event) -> Option<T>,
    ) -> Result<T, DemoFailure> {
        for at in 0..self.unmatched.len() {
            if let Some(found) = pick(&self.unmatched[at]) {
                self.unmatched.remove(at);
                return Ok(found);
            }
        }
        loop {
            let event = match timeout_at(self.deadline, self.lines.recv()).await {
                Ok(Some(Line::Event(event))) => *event,
                Ok(Some(Line::Unreadable(line))) => {
                    return Err(self.fail(format!("wrote an invalid event: {line}")).await);
                }
                Ok(None) => return Err(self.exited(&format!("ended while {what} was awaited")).await),
                Err(_) => return Err(self.fail(format!("did not send {what} in time")).await),
            };
            if let Some(found) = pick(&event) {
                return Ok(found);
            }
            if let Some(reason) = failure(&event) {
                return Err(self.fail(format!("answered {reason} while {what} was awaited")).await);
            }
            if self.unmatched.len() == MAX_UNMATCHED {
                self.unmatched.pop_front();
            }
            self.unmatched.push_back(event);
        }
    }

    /// Waits for the node to exit by itself with code 0.
    pub(super) async fn ended(&mut self) -> Result<(), DemoFailure> {
        let left = timeout_at(self.deadline, async {
            // Drains stdout, which ends when the process exits.
            while self.lines.recv().await.is_some() {}
            self.process.wait().await
        })
        .await;
        match left {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.fail(format!("ended with {status} after shutdown")).await),
            Ok(Err(error)) => Err(self.fail(format!("could not be awaited: {error}")).await),
            Err(_) => Err(self.fail("did not exit after shutdown").await),
        }
    }

    /// Stops the process, by force if necessary, and reaps it.
    pub(super) async fn stop(&mut self) {
        drop(self.stdin.take());
        self.lines.close();
        if timeout(END_TIMEOUT, self.process.wait()).await.is_err() {
            // `kill` also waits. It fails only if the process is gone.
            let _ = self.process.kill().await;
        }
    }

    async fn exited(&mut self, what: &str) -> DemoFailure {
        let status: Option<ExitStatus> = match timeout(END_TIMEOUT, self.process.wait()).await {
            Ok(Ok(status)) => Some(status),
            _ => None,
        };
        let how = status.map_or_else(|| "its pipe is closed".to_owned(), |status| status.to_string());
        self.fail(format!("{what} ({how})")).await
    }

    async fn fail(&mut self, what: impl Into<String>) -> DemoFailure {
        if matches!(self.process.try_wait(), Ok(Some(_))) {
            // The pipe may still contain the last lines.
            let _ = timeout(END_TIMEOUT, &mut self.stderr_reader).await;
        }
        let stderr = self.stderr.lock().map(|lines| lines.iter().cloned().collect()).unwrap_or_default();
        DemoFailure { name: self.name, what: what.into(), stderr }
    }
}

/// Returns the reason if an event ends every wait.
fn failure(event: &Event) -> Option<String> {
    match event {
        Event::Error(error) => {
            let ErrorEvent { code, message, .. } = &**error;
            Some(format!("{code} ({message})"))
        }
        Event::Delivery(delivery) => delivery.code.map(|code| format!("the message failed with {code}")),
        _ => None,
    }
}

async fn read_events(name: &str, mut stdout: ChildStdout, screen: Arc<Screen>, to: mpsc::Sender<Line>) {
    let mut framer = Framer::new(MAX_LINE_BYTES);
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = stdout.read(&mut buffer).await {
        let mut lines = Vec::new();
        framer.push(&buffer[..length], |framed| {
            let line = match framed {
                Framed::Line { bytes: line, .. } => line,
                Framed::TooLong { .. } => b"a line over the limit",
            };
            screen.line(name, '<', &String::from_utf8_lossy(line));
            match decode_event(line) {
                Ok(Some(event)) => lines.push(Line::Event(Box::new(event))),
                // Ignores event types of newer nodes.
                Ok(None) => {}
                Err(_) => lines.push(Line::Unreadable(String::from_utf8_lossy(line).into_owned())),
            }
        });
        for line in lines {
            // After the demo nobody receives the lines, but the pipe must still be drained.
            let _ = to.send(line).await;
        }
    }
}

/// Reads stderr to the end and keeps the last lines.
async fn read_tail(mut stderr: impl AsyncRead + Unpin, tail: &Mutex<VecDeque<String>>) {
    let mut framer = Framer::new(STDERR_LINE_BYTES);
    let mut buffer = vec![0; 4096];
    let keep = |framed: Framed<'_>| {
        let line = match framed {
            Framed::Line { bytes: line, .. } => String::from_utf8_lossy(line).into_owned(),
            Framed::TooLong { .. } => "(a long line)".to_owned(),
        };
        if let Ok(mut tail) = tail.lock() {
            if tail.len() == STDERR_LINES {
                tail.pop_front();
            }
            tail.push_back(line);
        }
    };
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        framer.push(&buffer[..length], keep);
    }
    framer.finish(keep);
}
