//! Watches the process that is named as our parent: another that holds our stdin open must not keep us alive after it.

use std::io;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, getppid, test_kill_process};
use tokio::sync::oneshot;

use p2p_node_core::input::Input;

/// How often it is looked at where the system does not tell by itself. Ours: an orphan of half a second hurts nobody.
const PERIOD: Duration = Duration::from_millis(500);

/// A process that is watched.
#[derive(Debug)]
pub struct Parent(oneshot::Receiver<()>);

impl Parent {
    /// Watches a process from now on, on a thread of its own. One that cannot be seen from here is not watched, which `notice` tells:
    /// it may have ended, or be in another PID namespace, where its number means something else; the end of stdin tells then.
    /// Process 1 never ends before we do.
    ///
    /// # Errors
    /// When the system refuses the thread.
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
            // A node that is gone does not want to know.
            let _ = ended.send(());
        })?;
        Ok(Some(Parent(end)))
    }

    /// Waits for the end of the process, and is never told twice. Cancel-safe.
    pub async fn ended(watched: &mut Option<Self>) -> Input {
        let Some(parent) = watched else { return std::future::pending().await };
        let _ = (&mut parent.0).await;
        *watched = None;
        Input::ParentEnded
    }
}

/// Whether the process is there. Where our own parent is in another PID namespace, so is whoever named its number.
fn is_visible(pid: Pid) -> bool {
    getppid().is_some() && test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

#[cfg(target_os = "linux")]
fn wait(pid: Pid) {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::Errno;
    use rustix::process::{PidfdFlags, pidfd_open};

    match pidfd_open(pid, PidfdFlags::empty()) {
        // Whatever gets its number later, this stays the process that had it now.
        Ok(process) => while poll(&mut [PollFd::new(&process, PollFlags::IN)], None) == Err(Errno::INTR) {},
        Err(Errno::SRCH) => {}
        Err(_) => look(pid),
    }
}

#[cfg(not(target_os = "linux"))]
fn wait(pid: Pid) {
    look(pid);
}

/// Looks now and then whether the process is there, and still our parent if it was.
fn look(pid: Pid) {
    let was_parent = getppid() == Some(pid);
    while test_kill_process(pid) != Err(rustix::io::Errno::SRCH) && (!was_parent || getppid() == Some(pid)) {
        thread::sleep(PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn watch(pid: u32) -> (Option<Parent>, Vec<String>) {
        let mut notices = Vec::new();
        let pid = pid.try_into().expect("small");
        let parent = Parent::watch(pid, &mut |notice| notices.push(notice)).expect("a thread");
        (parent, notices)
    }

    fn told(pid: u32) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let mut parent = watch(pid).0;
        assert!(parent.is_some(), "it is watched");
        let ended = Parent::ended(&mut parent);
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), ended).await.is_ok() })
    }

    #[test]
    fn the_end_of_a_process_is_told() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat");
        let pid = child.id();
        let watched = std::thread::spawn(move || told(pid));
        assert!(child.try_wait().expect("a status").is_none());
        // Closed when the thread watches, or before: it is there until it is waited for.
        drop(child.stdin.take());
        assert!(watched.join().expect("no panic"));
        child.wait().expect("an end");
    }

    #[test]
    fn a_process_that_cannot_be_seen_is_not_watched_and_neither_is_the_first() {
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
    fn looking_finds_the_end_too() {
        let mut child = Command::new("true").spawn().expect("true");
        let pid = Pid::from_child(&child);
        child.wait().expect("an end");
        look(pid);
    }
}
