//! Copies stdin to the socket and the socket to stdout.

use std::io::{self, Read, Write, stderr};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use p2p_node_core::effect::ExitCode;
use tokio::sync::oneshot;

use crate::io::parent_watcher::ParentWatcher;
use crate::node::{Signals, StartError};
use crate::pipe;

/// Size of the buffers: the capacity of a Linux pipe.
const BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of the end of the output that show how it ended. A line `closing` has fewer.
const TAIL_BYTES: usize = 512;

/// Connects to a node of this user.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    check_owner(&stream)?;
    Ok(stream)
}

/// Checks that the node belongs to this user, who could otherwise be made to send through another one.
#[cfg(target_os = "linux")]
fn check_owner(stream: &UnixStream) -> io::Result<()> {
    if rustix::net::sockopt::socket_peercred(stream)?.uid == rustix::process::geteuid() {
        return Ok(());
    }
    Err(io::Error::other("the node there belongs to another user"))
}

/// Elsewhere the permissions of the directory alone protect the socket.
#[cfg(not(target_os = "linux"))]
fn check_owner(_stream: &UnixStream) -> io::Result<()> {
    Ok(())
}

/// Writes the lines of a node that failed to start.
pub(super) fn print(lines: &[String]) {
    if let Ok(mut out) = pipe::stdout() {
        // A parent that does not read still gets the exit code.
        let _ = lines.iter().try_for_each(|line| writeln!(out, "{line}"));
    }
}

/// Copies until the node has closed the connection. The end of stdin, a signal or the end of the
/// parent ends the input of the node; a second signal ends this process.
pub(super) fn run(stream: UnixStream, parent_pid: Option<i32>) -> Result<ExitCode, StartError> {
    let failed = |error: io::Error| StartError::system("attaching failed", &error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (to_node, from_node) = (stream.try_clone().map_err(failed)?, stream.try_clone().map_err(failed)?);
    // Set when this process has ended the input of the node.
    let has_left = Arc::new(AtomicBool::new(false));
    let (done, mut ended) = oneshot::channel();
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn({
            let has_left = Arc::clone(&has_left);
            move || copy_input(io::stdin(), to_node, &has_left)
        })
        .map_err(failed)?;
    let out = pipe::stdout().map_err(failed)?;
    let copy = move || done.send(copy_output(from_node, out));
    thread::Builder::new().name("stdout".to_owned()).spawn(copy).map_err(failed)?;
    let mut notice = |message: String| drop(writeln!(stderr(), "p2p-node: {message}"));
    let mut parent = match parent_pid {
        Some(pid) => ParentWatcher::watch(pid, &mut notice).map_err(failed)?,
        None => None,
    };
    Ok(runtime.block_on(async {
        let Ok(mut signals) = Signals::new() else { return ExitCode::Software };
        let mut is_leaving = false;
        loop {
            tokio::select! {
                end = &mut ended => {
                    return match end.unwrap_or(End::Lost) {
                        End::Lost if has_left.load(Ordering::Acquire) => ExitCode::Ok,
                        end => end.exit_code(),
                    };
                }
                () = signals.next() => {
                    if std::mem::replace(&mut is_leaving, true) {
                        return ExitCode::Ok;
                    }
                }
                _ = ParentWatcher::ended(&mut parent) => is_leaving = true,
            }
            has_left.store(true, Ordering::Release);
            // Fails only if the node has closed the connection, which ends the copy.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }))
}

/// How the output of the node ended.
enum End {
    /// The client left.
    Left,
    /// The node ended in good order.
    NodeClosed,
    /// The connection broke off, or the node refused the client.
    Lost,
    /// Nobody reads stdout any more.
    OutputClosed,
}

impl End {
    fn exit_code(self) -> ExitCode {
        match self {
            End::Left | End::OutputClosed => ExitCode::Ok,
            End::NodeClosed => ExitCode::Unavailable,
            End::Lost => ExitCode::Io,
        }
    }
}

/// Copies stdin. A last line without a newline gets one, because the node ignores what a killed
/// program left unfinished.
fn copy_input(mut input: impl Read, mut node: UnixStream, has_left: &AtomicBool) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut last = b'\n';
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                last = buffer[length - 1];
                if node.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    if last != b'\n' && node.write_all(b"\n").is_err() {
        return;
    }
    has_left.store(true, Ordering::Release);
    let _ = node.shutdown(Shutdown::Write);
}

fn copy_output(mut node: UnixStream, mut out: impl Write) -> End {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut tail = Vec::new();
    loop {
        match node.read(&mut buffer) {
            Ok(0) | Err(_) => return end_of(&tail),
            Ok(length) => {
                let read = &buffer[..length];
                if out.write_all(read).and_then(|()| out.flush()).is_err() {
                    return End::OutputClosed;
                }
                tail.extend_from_slice(&read[length.saturating_sub(TAIL_BYTES)..]);
                tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
            }
        }
    }
}

/// Returns how an output ended with these last bytes.
fn end_of(tail: &[u8]) -> End {
    let text = String::from_utf8_lossy(tail);
    let last = text.trim_end().rsplit('\n').next().unwrap_or_default();
    let event: serde_json::Value = serde_json::from_str(last).unwrap_or_default();
    match (event["type"].as_str(), event["reason"].as_str()) {
        (Some("closing"), Some("eof" | "shutdown")) => End::Left,
        (Some("closing"), _) => End::NodeClosed,
        // Without protocol version 1 the answer is the last line.
        (Some("result"), _) if event["command"] == "shutdown" => End::Left,
        _ => End::Lost,
    }
}
