//! Bounded pool for expensive cryptography that strangers can trigger. It runs beside the main
//! loop, and its bound limits the CPU time that strangers can use.

use std::collections::VecDeque;
use std::sync::Arc;

use getrandom::SysRng;
use hpke::rand_core::UnwrapErr;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task;

use p2p_node_core::crypto_task::CryptoTask;
use p2p_node_core::input::Input;

/// Bounded pool of tasks.
pub struct Pool {
    /// One permit for each task that is queued, running, or finished but not yet returned.
    slots: Arc<Semaphore>,
    /// One permit for each running task.
    workers: Arc<Semaphore>,
    /// Results. The capacity equals the number of slots, so a finished task never waits.
    done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
    /// Rejections of tasks that found the pool full; `next` returns them first. Grows by at most
    /// one for each effect of a turn.
    refused: VecDeque<Input>,
}

/// A result, and the slot that becomes free when `next` returns the result.
type Done = (Input, OwnedSemaphorePermit);

impl Pool {
    /// Creates a pool that runs `workers` tasks at once (at least one) and queues `queue` more.
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

    /// Queues a task. `next` returns its result, or a rejection if the pool is full. Must be called
    /// within a tokio runtime.
    pub fn submit(&mut self, task: CryptoTask) {
        // The system's randomness; if it fails at all, it fails at the start of the process.
        self.run(task.rejected_by_pool(), move || task.run(&mut UnwrapErr(SysRng)));
    }

    /// Waits for the next result. Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Input {
        if let Some(refused) = self.refused.pop_front() {
            return refused;
        }
        match self.done.1.recv().await {
            Some((input, _slot)) => input,
            // Cannot happen, because the pool holds a sender.
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
            // Cannot fail, because the semaphore is never closed.
            let _worker = workers.acquire_owned().await;
            // A task that panicked counts as rejected.
            let input = task::spawn_blocking(work).await.unwrap_or(refused);
            let _ = done.send((input, slot)).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use p2p_node_wire::identity::BindingHash;

    use super::*;

    impl Pool {
        /// Submits a check of the binding with this hash.
        fn check(&mut self, hash: [u8; 32], check: impl FnOnce() -> bool + Send + 'static) {
            let answer = move |valid| Input::BindingChecked { hash: BindingHash(hash), valid };
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
    async fn check_reports_its_result() {
        let mut pool = Pool::new(2, 0);
        pool.check([1; 32], || true);
        assert_eq!(next(&mut pool).await, (1, Some(true)));
        pool.check([2; 32], || false);
        assert_eq!(next(&mut pool).await, (2, Some(false)));
    }

    #[tokio::test]
    async fn full_pool_rejects_immediately_and_recovers() {
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
    async fn unread_result_keeps_its_slot() {
        let mut pool = Pool::new(1, 0);
        let (ran, has_run) = tokio::sync::oneshot::channel();
        pool.check([1; 32], move || ran.send(()).is_ok());
        has_run.await.unwrap();
        pool.check([2; 32], || true);
        assert_eq!(next(&mut pool).await, (2, None));
        assert_eq!(next(&mut pool).await, (1, Some(true)));
    }

    #[tokio::test]
    async fn panicking_check_reports_no_result() {
        let mut pool = Pool::new(1, 0);
        pool.check([1; 32], || panic!("on purpose"));
        assert_eq!(next(&mut pool).await, (1, None));
    }
}
