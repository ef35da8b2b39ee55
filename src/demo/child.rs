//! One node as a child process: say something, expect something, and in the end it is gone.

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

/// Events read from a node and not yet looked at; the demo has some thirty lines in all.
const EVENT_QUEUE: usize = 64;

/// Events looked at that nobody has asked for yet.
const MAX_UNCLAIMED: usize = 256;

/// Last lines of a node's stderr that a failure quotes, and the longest part of one in bytes.
const STDERR_LINES: usize = 10;
const STDERR_LINE_BYTES: usize = 500;

/// How long a node may take to end once its stdin is closed, before it is killed.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// Variables that a child keeps; none of them configures the node.
const KEPT_VARIABLES: [&str; 4] = ["HOME", "LD_LIBRARY_PATH", "PATH", "RUST_BACKTRACE"];

/// What a node failed to do.
#[derive(Debug, thiserror::Error)]
#[error("{name} {what}{}", quoted(stderr))]
pub struct Trouble {
    name: &'static str,
    what: String,
    /// The last lines of its stderr.
    stderr: Vec<String>,
}

fn quoted(stderr: &[String]) -> String {
    match stderr {
        [] => String::new(),
        lines => format!("; its last words on stderr:\n  {}", lines.join("\n  ")),
    }
}

/// What a node's stdout brings.
enum Line {
    Event(Box<Event>),
    Unreadable(String),
}

pub(super) struct Child {
    name: &'static str,
    process: tokio::process::Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<Line>,
    unclaimed: VecDeque<Event>,
    stderr: Arc<Mutex<VecDeque<String>>>,
    stderr_reader: JoinHandle<()>,
    screen: Arc<Screen>,
    deadline: Instant,
}

impl Child {
    /// Starts a node in `directory`, with nothing of our environment that could configure it. The key travels in
    /// the environment, where only this user can see it. Whatever is expected of the node, it is expected by
    /// `deadline`.
    pub(super) fn start(
        binary: &Path,
        name: &'static str,
        arguments: &[&str],
        key: &[u8; 32],
        directory: &Path,
        screen: &Arc<Screen>,
        deadline: Instant,
    ) -> Result<Self, Trouble> {
        let mut command = Command::new(binary);
        command.args(arguments).current_dir(directory).env_clear();
        command.envs(KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.env("PRIVATE_KEY", format!("0x{}", hex::encode(key)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: Ctrl-C reaches the demo alone, which then ends its children itself.
        command.process_group(0).kill_on_drop(true);

        let mut process = command.spawn().map_err(|error| Trouble {
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
            unclaimed: VecDeque::new(),
            stderr,
            stderr_reader,
            screen: Arc::clone(screen),
            deadline,
        })
    }

    /// Writes the command `kind` with its `id` and the fields of an object.
    pub(super) async fn say(&mut self, kind: &str, id: &str, fields: Value) -> Result<(), Trouble> {
        let fields = fields.to_string();
        let comma = if fields == "{}" { "" } else { "," };
        // The type comes first, for whoever reads along.
        let line = format!(r#"{{"type":"{kind}","id":"{id}"{comma}{}"#, &fields[1..]);
        self.screen.line(self.name, '>', &line);
        let written = match &mut self.stdin {
            Some(stdin) => timeout_at(self.deadline, stdin.write_all(format!("{line}\n").as_bytes())).await,
            None => return Err(self.trouble("was told to end before").await),
        };
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.gone(&format!("could not be told {kind}")).await),
            Err(_) => Err(self.trouble(format!("did not read {kind} in time")).await),
        }
    }

    /// Waits for an event that `pick` takes, whatever else comes before it. An error that answers a command, or
    /// mail that failed, ends the wait.
    pub(super) async fn expect<T>(
        &mut self,
        what: &str,
        pick: impl Fn(&Event) -> Option<T>,
    ) -> Result<T, Trouble> {
        for at in 0..self.unclaimed.len() {
            if let Some(found) = pick(&self.unclaimed[at]) {
                self.unclaimed.remove(at);
                return Ok(found);
            }
        }
        loop {
            let event = match timeout_at(self.deadline, self.lines.recv()).await {
                Ok(Some(Line::Event(event))) => *event,
                Ok(Some(Line::Unreadable(line))) => {
                    return Err(self.trouble(format!("wrote what is not an event: {line}")).await);
                }
                Ok(None) => return Err(self.gone(&format!("ended while {what} was awaited")).await),
                Err(_) => return Err(self.trouble(format!("did not say {what} in time")).await),
            };
            if let Some(found) = pick(&event) {
                return Ok(found);
            }
            if let Some(reason) = failure(&event) {
                return Err(self.trouble(format!("answered {reason} while {what} was awaited")).await);
            }
            if self.unclaimed.len() == MAX_UNCLAIMED {
                self.unclaimed.pop_front();
            }
            self.unclaimed.push_back(event);
        }
    }

    /// Waits for the node to end by itself, in good order.
    pub(super) async fn ended(&mut self) -> Result<(), Trouble> {
        let left = timeout_at(self.deadline, async {
            // What it still says has been shown; the end of its stdout comes with its own.
            while self.lines.recv().await.is_some() {}
            self.process.wait().await
        })
        .await;
        match left {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(self.trouble(format!("ended with {status} after shutdown")).await),
            Ok(Err(error)) => Err(self.trouble(format!("could not be waited for: {error}")).await),
            Err(_) => Err(self.trouble("did not end after shutdown").await),
        }
    }

    /// Sees to it that the process is gone, and reaped.
    pub(super) async fn stop(&mut self) {
        drop(self.stdin.take());
        self.lines.close();
        if timeout(END_TIMEOUT, self.process.wait()).await.is_err() {
            // Kills and waits; it fails only for a process that is gone.
            let _ = self.process.kill().await;
        }
    }

    async fn gone(&mut self, what: &str) -> Trouble {
        let status: Option<ExitStatus> = match timeout(END_TIMEOUT, self.process.wait()).await {
            Ok(Ok(status)) => Some(status),
            _ => None,
        };
        let how = status.map_or_else(|| "its pipe is closed".to_owned(), |status| status.to_string());
        self.trouble(format!("{what} ({how})")).await
    }

    async fn trouble(&mut self, what: impl Into<String>) -> Trouble {
        if matches!(self.process.try_wait(), Ok(Some(_))) {
            // What it wrote last may still be in the pipe.
            let _ = timeout(END_TIMEOUT, &mut self.stderr_reader).await;
        }
        let stderr = self.stderr.lock().map(|lines| lines.iter().cloned().collect()).unwrap_or_default();
        Trouble { name: self.name, what: what.into(), stderr }
    }
}

/// Why an event ends every wait.
fn failure(event: &Event) -> Option<String> {
    match event {
        Event::Error(error) => {
            let ErrorEvent { code, message, .. } = &**error;
            Some(format!("{code} ({message})"))
        }
        Event::Delivery(delivery) => delivery.code.map(|code| format!("that mail failed with {code}")),
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
                // A newer node may say more than this demo knows.
                Ok(None) => {}
                Err(_) => lines.push(Line::Unreadable(String::from_utf8_lossy(line).into_owned())),
            }
        });
        for line in lines {
            // Nobody listens any more when the demo is over; the pipe must be emptied all the same.
            let _ = to.send(line).await;
        }
    }
}

/// Reads to the end and keeps the last lines.
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
