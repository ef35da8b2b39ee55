//! A runtime on a thread of its own, for work that must not delay the loop of the node.

use std::io;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A thread with a runtime. Dropping it ends all tasks of the runtime, and waits for those that just run: they
/// must not block.
///
/// The thread also has an arena of the allocator: what its tasks allocate makes no holes in the heap of the
/// loop.
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
