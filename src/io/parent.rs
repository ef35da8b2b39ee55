//! Watches the process that is named as our parent: another that holds our stdin open must not keep us alive after it.

use std::io;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, getppid, test_kill_process};
use tokio::sync::oneshot;

use crate::core::input::Input;

/// How often it is looked at where the system does not tell by itself. Ours: an orphan of half a second hurts nobody.
const PERIOD: Duration = Duration::from_millis(500);

/// A process that is watched.
#[derive(Debug)]
pub struct Parent(oneshot::Receiver<()>);

impl Parent {
    /// Watches a process from now on, on a thread of its own. One that does not exist has ended.
    ///
    /// # Errors
    /// When the system refuses the thread.
    pub fn watch(pid: i32) -> io::Result<Self> {
        let (ended, end) = oneshot::channel();
        thread::Builder::new().name("parent".to_owned()).spawn(move || {
            if let Some(pid) = Pid::from_raw(pid) {
                wait(pid);
            }
            // A node that is gone does not want to know.
            let _ = ended.send(());
        })?;
        Ok(Parent(end))
    }

    /// Waits for the end of the process, and is never told twice. Cancel-safe.
    pub async fn ended(watched: &mut Option<Self>) -> Input {
        let Some(parent) = watched else { return std::future::pending().await };
        let _ = (&mut parent.0).await;
        *watched = None;
        Input::ParentEnded
    }
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

    fn told(pid: u32) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let mut parent = Some(Parent::watch(pid.try_into().expect("small")).expect("a thread"));
        let ended = Parent::ended(&mut parent);
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), ended).await.is_ok() })
    }

    #[test]
    fn the_end_of_a_process_is_told_also_when_it_came_before() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat");
        let pid = child.id();
        let watched = std::thread::spawn(move || told(pid));
        assert!(child.try_wait().expect("a status").is_none());
        drop(child.stdin.take());
        child.wait().expect("an end");
        assert!(watched.join().expect("no panic"));
        assert!(told(pid), "it has ended");
    }

    #[test]
    fn looking_finds_the_end_too() {
        let mut child = Command::new("true").spawn().expect("true");
        let pid = Pid::from_child(&child);
        child.wait().expect("an end");
        look(pid);
    }
}
