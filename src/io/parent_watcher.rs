//! Watches the process of `--parent-pid`, so that the node exits with it even if another process
//! keeps stdin open.

use std::io;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, getppid, test_kill_process};
use tokio::sync::oneshot;

use p2p_node_core::input::Input;

/// Polling interval on systems without pidfd. The node outlives its parent by at most this time.
const PERIOD: Duration = Duration::from_millis(500);

/// A watched process.
#[derive(Debug)]
pub struct ParentWatcher(oneshot::Receiver<()>);

impl ParentWatcher {
    /// Watches a process on a thread. If the process is not visible, because it has exited or is in
    /// another PID namespace, or is process 1, returns `None` and calls `notice`; then only the end
    /// of stdin ends the node.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub fn watch(pid: i32, notice: &mut dyn FnMut(String)) -> io::Result<Option<Self>> {
        let visible = Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 1 && is_visible(*pid));
        let Some(process) = visible else {
            notice(format!(
                "process {pid} of --parent-pid is not watched, because it is process 1, has ended, or is in another PID namespace: this \
                 node ends with its stdin"
            ));
            return Ok(None);
        };
        let (ended, end) = oneshot::channel();
        thread::Builder::new().name("parent".to_owned()).spawn(move || {
            wait(process);
            // Fails only if the node has exited.
            let _ = ended.send(());
        })?;
        Ok(Some(ParentWatcher(end)))
    }

    /// Waits for the exit of the process; completes only once. Cancel-safe.
    pub async fn ended(watched: &mut Option<Self>) -> Input {
        let Some(parent) = watched else { return std::future::pending().await };
        let _ = (&mut parent.0).await;
        *watched = None;
        Input::ParentEnded
    }
}

/// Returns `true` if the process exists. If our own parent is in another PID namespace, the given
/// number has another meaning here, and the process counts as not visible.
fn is_visible(pid: Pid) -> bool {
    getppid().is_some() && test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

#[cfg(target_os = "linux")]
fn wait(pid: Pid) {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::Errno;
    use rustix::process::{PidfdFlags, pidfd_open};

    match pidfd_open(pid, PidfdFlags::empty()) {
        // A pidfd refers to this process even if the system reuses its number.
        Ok(process) => while poll(&mut [PollFd::new(&process, PollFlags::IN)], None) == Err(Errno::INTR) {},
        Err(Errno::SRCH) => {}
        Err(_) => poll_until_exit(pid),
    }
}

#[cfg(not(target_os = "linux"))]
fn wait(pid: Pid) {
    poll_until_exit(pid);
}

/// Polls until the process has exited, or until it is no longer our parent if it was.
fn poll_until_exit(pid: Pid) {
    let was_parent = getppid() == Some(pid);
    while test_kill_process(pid) != Err(rustix::io::Errno::SRCH) && (!was_parent || getppid() == Some(pid)) {
        thread::sleep(PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn watch(pid: u32) -> (Option<ParentWatcher>, Vec<String>) {
        let mut notices = Vec::new();
        let pid = pid.try_into().expect("small");
        let parent = ParentWatcher::watch(pid, &mut |notice| notices.push(notice)).expect("a thread");
        (parent, notices)
    }

    fn reports_exit(pid: u32) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let mut parent = watch(pid).0;
        assert!(parent.is_some(), "it is watched");
        let ended = ParentWatcher::ended(&mut parent);
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), ended).await.is_ok() })
    }

    #[test]
    fn exit_of_parent_is_reported() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat");
        let pid = child.id();
        let watched = std::thread::spawn(move || reports_exit(pid));
        assert!(child.try_wait().expect("a status").is_none());
        // Closed when the thread watches, or before: it is there until it is waited for.
        drop(child.stdin.take());
        assert!(watched.join().expect("no panic"));
        child.wait().expect("an end");
    }

    #[test]
    fn invisible_process_and_process_1_are_not_watched() {
        let mut child = Command::new("true").spawn().expect("true");
        let ended = child.id();
        child.wait().expect("an end");
        for pid in [1, ended] {
            let (parent, notices) = watch(pid);
            assert!(parent.is_none());
            let [notice] = &notices[..] else { panic!("{notices:?}") };
            assert!(notice.contains(&format!("process {pid} ")), "{notice}");
        }
    }

    #[test]
    fn polling_detects_exit() {
        let mut child = Command::new("true").spawn().expect("true");
        let pid = Pid::from_child(&child);
        child.wait().expect("an end");
        poll_until_exit(pid);
    }
}
