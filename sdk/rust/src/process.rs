//! The child process. It runs in its own process group, the SDK buffers the end of its stderr, and
//! a thread always reaps it.

use std::collections::VecDeque;
use std::io;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The number of bytes of stderr that the SDK buffers: the capacity of a Linux pipe.
const STDERR_BYTES: usize = 64 * 1024;

/// The number of bytes of stderr that an error quotes: about twenty lines.
const QUOTED_BYTES: usize = 2048;

/// A child process. Dropping it kills the process, with or without a runtime; a thread reaps it.
pub(crate) struct Process {
    child: Arc<Mutex<Child>>,
    group: Pid,
    exit: Exit,
}

/// The parent's ends of the child's pipes.
pub(crate) struct Pipes {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

impl Process {
    /// Starts `command` in its own process group, so that Ctrl-C at a terminal reaches only the
    /// parent, which can then let the child drain.
    pub(crate) fn spawn(mut command: Command) -> io::Result<(Process, Pipes)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = Pid::from_child(&child);
        let child = Arc::new(Mutex::new(child));
        let (exited, exit) = watch::channel(None);
        let process = Process { child: Arc::clone(&child), group, exit: Exit(exit) };
        let reaper = thread::Builder::new().name("p2p-node reaper".to_owned());
        if let Err(error) = reaper.spawn(move || reap(&child, group, &exited)) {
            process.kill();
            // No thread reaps it, and a killed process ends quickly.
            let _ = lock(&process.child).wait();
            return Err(error);
        }
        let pipes = Pipes {
            stdin: ChildStdin::from_std(stdin.expect("stdin was asked for"))?,
            stdout: ChildStdout::from_std(stdout.expect("stdout was asked for"))?,
            stderr: ChildStderr::from_std(stderr.expect("stderr was asked for"))?,
        };
        Ok((process, pipes))
    }

    /// Returns a handle that reports the exit.
    pub(crate) fn exit(&self) -> Exit {
        self.exit.clone()
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.group.as_raw_nonzero().get().unsigned_abs()
    }

    /// Returns a handle that can kill the process and does not keep it alive.
    pub(crate) fn killer(&self) -> Killer {
        Killer { child: Arc::clone(&self.child), group: self.group }
    }

    /// Kills the process and its children.
    pub(crate) fn kill(&self) {
        self.killer().kill();
    }
}

/// A handle that terminates or kills a process.
#[derive(Clone)]
pub(crate) struct Killer {
    child: Arc<Mutex<Child>>,
    group: Pid,
}

impl Killer {
    /// Sends SIGTERM to the process and its children.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGKILL to the process and its children, unless the process has ended.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        let mut child = lock(&self.child);
        // The lock prevents the reaper from reaping the child, so no other process can have its id.
        if matches!(child.try_wait(), Ok(None)) {
            // An error means that the process has just ended, which is the goal.
            let _ = kill_process_group(self.group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for the exit without reaping, so that it does not hold the lock meanwhile, then reaps.
fn reap(child: &Mutex<Child>, pid: Pid, exited: &watch::Sender<Option<ExitStatus>>) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), options) {}
    if let Ok(status) = lock(child).wait() {
        exited.send_replace(Some(status));
    }
}

/// A handle that reports the exit of a process.
#[derive(Clone)]
pub(crate) struct Exit(watch::Receiver<Option<ExitStatus>>);

impl Exit {
    /// Returns the exit status, if the process has ended.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        *self.0.borrow()
    }

    /// Waits until the process has ended and the thread has reaped it. Returns `None` if the system
    /// does not report the status, which happens when the embedding program ignores SIGCHLD.
    pub(crate) async fn wait(&mut self) -> Option<ExitStatus> {
        match self.0.wait_for(Option::is_some).await {
            Ok(status) => *status,
            Err(_) => None,
        }
    }
}

/// The program's callback for the node's stderr.
pub(crate) type OnStderr = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// The last bytes that a child wrote to stderr.
#[derive(Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    /// Reads `stderr` to its end, even if no code uses it: a full pipe would block the child.
    pub(crate) fn drain(&self, mut stderr: ChildStderr, hook: Option<OnStderr>) -> JoinHandle<()> {
        let tail = self.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 8 * 1024];
            while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
                tail.push(&buffer[..length]);
                if let Some(hook) = &hook {
                    // The panic hook has already reported a panic, and a panic must not block the
                    // child.
                    let _ = catch_unwind(AssertUnwindSafe(|| hook(&buffer[..length])));
                }
            }
        })
    }

    /// Returns the part that an error quotes.
    pub(crate) fn quote(&self) -> String {
        let bytes = lock(&self.0);
        let last: Vec<u8> = bytes.iter().skip(bytes.len().saturating_sub(QUOTED_BYTES)).copied().collect();
        String::from_utf8_lossy(&last).into_owned()
    }

    /// Returns the whole buffer.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(lock(&self.0).make_contiguous()).into_owned()
    }

    fn push(&self, bytes: &[u8]) {
        let mut kept = lock(&self.0);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(STDERR_BYTES);
        kept.drain(..excess);
    }
}

/// Locks `mutex`, even if it is poisoned: no code of this crate leaves data inconsistent under a
/// lock, so a panic does no harm.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stderr_tail_keeps_last_bytes() {
        let tail = Tail::default();
        tail.push(b"first");
        assert_eq!(tail.text(), "first");
        for _ in 0..20 {
            tail.push(&[b'x'; 8 * 1024]);
        }
        tail.push(b"last");
        assert_eq!(tail.text().len(), STDERR_BYTES);
        assert!(tail.text().ends_with("xlast") && !tail.text().contains("first"));
        assert_eq!(tail.quote().len(), QUOTED_BYTES);
        assert!(tail.quote().ends_with("xlast"));
    }
}
