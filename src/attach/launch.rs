//! Starts a daemon for `attach --start`.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use p2p_node_core::effect::ExitCode;

use super::bridge;
use crate::node::{StartError, now};

/// Longest wait for a daemon to listen. Our choice: a start that is tried again takes 3 s, and a node
/// that waits for its identity a few more.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Interval of the attempts to connect. Our choice: a node listens after some 20 ms.
const RETRY: Duration = Duration::from_millis(20);
/// How long to try on when our daemon ended because another one holds the identity, which may still
/// start. Our choice.
const OTHER_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest number of lines of a daemon that failed to start, of which the last one says why.
const MAX_LINES: usize = 100;
/// The flag that must not reach the daemon: the daemon outlives the process that started it.
const PARENT_PID: &str = "--parent-pid";
/// The same as a variable.
const PARENT_PID_VARIABLE: &str = "P2P_NODE_PARENT_PID";

/// What became of the start.
pub(super) enum Started {
    /// A daemon listens: ours, or one that another process started at the same time.
    Listens(UnixStream),
    /// The daemon ended. Its lines say why.
    Failed { code: ExitCode, lines: Vec<String> },
}

/// Starts a daemon with these flags and connects to it.
pub(super) fn start(path: &Path, flags: &[OsString]) -> Result<Started, StartError> {
    let failed = |error: std::io::Error| StartError::system("starting the daemon failed", &error);
    let binary = std::env::current_exe().map_err(failed)?;
    let mut daemon = Command::new(binary)
        .arg("daemon")
        .args(daemon_flags(flags))
        .arg("--socket")
        .arg(path)
        .env_remove(PARENT_PID_VARIABLE)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A parent that reads stderr to its end must not wait for the daemon.
        .stderr(Stdio::null())
        // A key press that ends the programs of a terminal does not end the daemon.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let mut deadline = now().mono + START_TIMEOUT;
    let mut ended = None;
    loop {
        if let Ok(stream) = bridge::connect(path) {
            return Ok(Started::Listens(stream));
        }
        if ended.is_none()
            && let Some(code) = poll_end(&mut daemon)
        {
            let lines = last_lines(&mut daemon);
            if code != ExitCode::InUse {
                return Ok(Started::Failed { code, lines });
            }
            deadline = now().mono + OTHER_TIMEOUT;
            ended = Some((code, lines));
        }
        if now().mono >= deadline {
            return match ended {
                Some((code, lines)) => Ok(Started::Failed { code, lines }),
                None => Err(StartError::Attach {
                    path: path.to_owned(),
                    why: format!("the daemon does not listen after {} s", START_TIMEOUT.as_secs()),
                }),
            };
        }
        std::thread::sleep(RETRY);
    }
}

/// Returns the flags without those that are for the process that attaches.
fn daemon_flags(flags: &[OsString]) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut rest = flags.iter();
    while let Some(flag) = rest.next() {
        let text = flag.to_string_lossy();
        if text == PARENT_PID || text == "--socket" {
            rest.next();
        } else if !text.starts_with("--parent-pid=") && !text.starts_with("--socket=") {
            kept.push(flag.clone());
        }
    }
    kept
}

fn poll_end(daemon: &mut Child) -> Option<ExitCode> {
    let status = daemon.try_wait().ok()??;
    Some(status.code().and_then(ExitCode::from_number).unwrap_or(ExitCode::Software))
}

fn last_lines(daemon: &mut Child) -> Vec<String> {
    let Some(stdout) = daemon.stdout.take() else { return Vec::new() };
    BufReader::new(stdout).lines().map_while(Result::ok).take(MAX_LINES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_the_attached_process_do_not_reach_the_daemon() {
        let flags = ["-n", "a", "--parent-pid", "7", "--parent-pid=8", "--socket", "x", "--ack", "manual"];
        let kept = daemon_flags(&flags.map(OsString::from));
        assert_eq!(kept, ["-n", "a", "--ack", "manual"].map(OsString::from));
    }
}
