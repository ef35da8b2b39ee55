//! A runtime on a thread of its own, for work that must not delay the loop of the node.

use std::io;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// By how much the niceness of the thread is above that of the process. Our choice: the loop is preferred to the
/// thread, which still gets about a tenth of a processor that both want (the kernel weighs a niceness of 0 with
/// 1024, and one of 10 with 110).
#[cfg(target_os = "linux")]
const ADDED_NICENESS: i32 = 10;

/// Gives way to the loop. On other systems a niceness is that of the whole process.
#[cfg(target_os = "linux")]
fn give_way() -> io::Result<()> {
    use rustix::process::{getpriority_process, setpriority_process};
    let own = getpriority_process(None)?;
    Ok(setpriority_process(None, own + ADDED_NICENESS)?)
}
#[cfg(not(target_os = "linux"))]
fn give_way() -> io::Result<()> {
    Ok(())
}

/// A thread with a runtime. Dropping it ends all tasks of the runtime, and waits for those that just run: they
/// must not block.
///
/// The thread gives way to the loop, and has an arena of the allocator: what its tasks allocate makes no holes
/// in the heap of the loop.
#[derive(Debug)]
pub struct SideRuntime {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SideRuntime {
    /// Starts the thread.
    ///
    /// # Errors
    /// Fails if the system has no room for a thread or a descriptor.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            if let Err(error) = give_way() {
                tracing::debug!(%error, "the thread keeps its priority");
            }
            // An error is the end, too: the sender is gone.
            let _ = runtime.block_on(stopped);
            // A lookup of a host name may block its thread for seconds.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(SideRuntime { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the handle for new tasks.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for SideRuntime {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic has ended the process already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// Tells when it is dropped.
    struct Held(Option<oneshot::Sender<()>>);

    impl Drop for Held {
        fn drop(&mut self) {
            if let Some(told) = self.0.take() {
                told.send(()).expect("the test listens");
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn thread_gives_way_to_the_loop() {
        use rustix::process::getpriority_process;
        let side = SideRuntime::start("test").unwrap();
        let there = side.handle().spawn(async { getpriority_process(None).unwrap() }).await.unwrap();
        assert_eq!(there, (getpriority_process(None).unwrap() + ADDED_NICENESS).min(19));
    }

    #[tokio::test]
    async fn tasks_run_on_another_thread_and_end_with_it() {
        let side = SideRuntime::start("test").unwrap();
        let there = side.handle().spawn(async { thread::current().id() }).await.unwrap();
        assert_ne!(there, thread::current().id());
        let (told, mut dropped) = oneshot::channel();
        let held = Held(Some(told));
        side.handle().spawn(async move {
            let _held = held;
            pending::<()>().await;
        });
        drop(side);
        assert_eq!(dropped.try_recv(), Ok(()), "the task is dropped");
    }
}
