//! A small pool for what costs most and a stranger could make us repeat: it runs beside the loop, and no more of it than that can
//! afford.

use std::collections::VecDeque;
use std::sync::Arc;

use getrandom::SysRng;
use hpke::rand_core::UnwrapErr;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task;

use p2p_node_core::crypto_task::CryptoTask;
use p2p_node_core::input::Input;

/// A bounded pool of tasks.
pub struct Pool {
    /// One permit per task that is running, waiting, or done and not yet told of.
    slots: Arc<Semaphore>,
    /// One permit per task that is running.
    workers: Arc<Semaphore>,
    /// As long as there are slots, so that a task that is done never waits to say so.
    done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
    /// Tasks that found the pool full, to be told of first. Emptied by `next`; grows by one per effect of a turn at most.
    refused: VecDeque<Input>,
}

/// A result, and the slot that becomes free when it is told.
type Done = (Input, OwnedSemaphorePermit);

impl Pool {
    /// A pool that runs `workers` tasks at once, at least one, and lets `queue` more wait.
    pub fn new(workers: usize, queue: usize) -> Self {
        let workers = workers.max(1);
        let slots = workers + queue;
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            workers: Arc::new(Semaphore::new(workers)),
            done: mpsc::channel(slots),
            refused: VecDeque::new(),
        }
    }

    /// Has a task done; `next` tells what came of it, or that the pool was full. Must be called within a tokio runtime.
    pub fn submit(&mut self, task: CryptoTask) {
        // The system's own randomness, which fails at the start of a process if at all.
        self.run(task.refused(), move || task.run(&mut UnwrapErr(SysRng)));
    }

    /// Waits for the next result. Cancel-safe: nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Input {
        if let Some(refused) = self.refused.pop_front() {
            return refused;
        }
        match self.done.1.recv().await {
            Some((input, _slot)) => input,
            // The pool itself holds a sender.
            None => std::future::pending().await,
        }
    }

    fn run(&mut self, refused: Input, work: impl FnOnce() -> Input + Send + 'static) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.refused.push_back(refused);
            return;
        };
        let workers = Arc::clone(&self.workers);
        let done = self.done.0.clone();
        task::spawn(async move {
            // Never closed, so that it cannot fail.
            let _worker = workers.acquire_owned().await;
            // Work that panics has not found anything.
            let input = task::spawn_blocking(work).await.unwrap_or(refused);
            let _ = done.send((input, slot)).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    impl Pool {
        /// A check of a binding of this hash.
        fn check(&mut self, hash: [u8; 32], check: impl FnOnce() -> bool + Send + 'static) {
            let answer = move |valid| Input::BindingChecked { hash, valid };
            self.run(answer(None), move || answer(Some(check())));
        }
    }

    async fn next(pool: &mut Pool) -> (u8, Option<bool>) {
        match tokio::time::timeout(Duration::from_secs(10), pool.next()).await.unwrap() {
            Input::BindingChecked { hash, valid } => (hash[0], valid),
            other => panic!("unexpected {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_check_is_answered_with_what_it_found() {
        let mut pool = Pool::new(2, 0);
        pool.check([1; 32], || true);
        assert_eq!(next(&mut pool).await, (1, Some(true)));
        pool.check([2; 32], || false);
        assert_eq!(next(&mut pool).await, (2, Some(false)));
    }

    #[tokio::test]
    async fn a_full_pool_refuses_at_once_and_recovers() {
        let mut pool = Pool::new(1, 1);
        let (release, released) = mpsc::sync_channel(1);
        pool.check([1; 32], move || released.recv().is_ok());
        pool.check([2; 32], || true);
        pool.check([3; 32], || true);
        assert_eq!(next(&mut pool).await, (3, None));
        release.send(()).unwrap();
        assert_eq!(next(&mut pool).await, (1, Some(true)));
        assert_eq!(next(&mut pool).await, (2, Some(true)));
        pool.check([4; 32], || true);
        assert_eq!(next(&mut pool).await, (4, Some(true)));
    }

    #[tokio::test]
    async fn a_result_that_nobody_took_holds_its_slot() {
        let mut pool = Pool::new(1, 0);
        let (ran, has_run) = tokio::sync::oneshot::channel();
        pool.check([1; 32], move || ran.send(()).is_ok());
        has_run.await.unwrap();
        pool.check([2; 32], || true);
        assert_eq!(next(&mut pool).await, (2, None));
        assert_eq!(next(&mut pool).await, (1, Some(true)));
    }

    #[tokio::test]
    async fn a_check_that_panics_is_answered_all_the_same() {
        let mut pool = Pool::new(1, 0);
        pool.check([1; 32], || panic!("on purpose"));
        assert_eq!(next(&mut pool).await, (1, None));
    }
}
