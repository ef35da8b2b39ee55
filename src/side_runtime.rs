//! A runtime on a thread of its own, for work that must not delay the loop of the node.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A thread with a runtime. Dropping it ends the thread and all tasks of the runtime.
///
/// The thread also has an arena of the allocator: what its tasks allocate makes no holes in the heap of the
/// loop.
#[derive(Debug)]
pub struct SideRuntime {
    handle: Handle,
    _stop: oneshot::Sender<()>,
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
        let run = move || drop(runtime.block_on(stopped));
        std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(SideRuntime { handle, _stop: stop })
    }

    /// Returns the handle for new tasks.
    pub fn handle(&self) -> &Handle {
        &self.handle
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
        let there = side.handle().spawn(async { std::thread::current().id() }).await.unwrap();
        assert_ne!(there, std::thread::current().id());
        let (told, dropped) = oneshot::channel();
        let held = Held(Some(told));
        side.handle().spawn(async move {
            let _held = held;
            pending::<()>().await;
        });
        drop(side);
        dropped.await.expect("the task is dropped");
    }
}
