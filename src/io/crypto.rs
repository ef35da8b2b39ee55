//! Bounded pool for expensive cryptography that strangers can trigger. It runs beside the main
//! loop, and its bound limits the CPU time that strangers can use.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// The queued tasks.
    queue: Arc<Mutex<Queue>>,
    /// Largest number of workers.
    workers: usize,
    /// Results. The capacity equals the number of slots, so a finished task never waits.
    done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
    /// Rejections of tasks that found the pool full; `next` returns them first. Grows by at most
    /// one for each effect of a turn.
    refused: VecDeque<Input>,
}

/// A result, and the slot that becomes free when `next` returns the result.
type Done = (Input, OwnedSemaphorePermit);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// Number of workers that run. A worker ends when nothing waits.
    running: usize,
}

struct Job {
    work: Box<dyn FnOnce() -> Input + Send>,
    refused: Input,
    slot: OwnedSemaphorePermit,
}

impl Pool {
    /// Creates a pool that runs `workers` tasks at once (at least one) and queues `queue` more.
    pub fn new(workers: usize, queue: usize) -> Self {
        let workers = workers.max(1);
        let slots = workers + queue;
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            queue: Arc::default(),
            workers,
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
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.push_back(Job { work: Box::new(work), refused, slot });
        if queue.running < self.workers {
            queue.running += 1;
            let (queue, done) = (Arc::clone(&self.queue), self.done.0.clone());
            task::spawn_blocking(move || work_off(&queue, &done));
        }
    }
}

/// Runs the queued tasks until there are none. One thread runs many of them in a row: on a machine
/// with more runnable processes than processors, a thread waits long for its turn.
fn work_off(queue: &Mutex<Queue>, done: &mpsc::Sender<Done>) {
    loop {
        let job = {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(job) = queue.waiting.pop_front() else {
                queue.running -= 1;
                return;
            };
            job
        };
        // A task that panicked counts as rejected.
        let input = catch_unwind(AssertUnwindSafe(job.work)).unwrap_or(job.refused);
        // Fails only when the pool is gone.
        let _ = done.try_send((input, job.slot));
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
    async fn one_worker_runs_all_tasks_that_wait() {
        let mut pool = Pool::new(1, 100);
        for number in 0..100 {
            pool.check([number; 32], move || number % 2 == 0);
        }
        for number in 0..100 {
            assert_eq!(next(&mut pool).await, (number, Some(number % 2 == 0)));
        }
        assert_eq!(pool.queue.lock().unwrap().waiting.len(), 0);
    }

    #[tokio::test]
    async fn panicking_check_reports_no_result() {
        let mut pool = Pool::new(1, 0);
        pool.check([1; 32], || panic!("on purpose"));
        assert_eq!(next(&mut pool).await, (1, None));
    }
}
