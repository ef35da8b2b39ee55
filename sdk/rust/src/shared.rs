//! What the tasks of one process and the handles of its node share.

use std::collections::VecDeque;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2p_node_protocol::{Answer, Command, Delivery, ErrorEvent, Limits, PeerDiscovered};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::Instant;

use crate::Error;
use crate::channel::Channel;
use crate::outgoing::Outgoing;
use crate::process::{Tail, lock};

/// A call that waits for an answer. The permit counts the request until it is answered, even if nobody waits any more.
pub(crate) struct Caller {
    pub(crate) answer: oneshot::Sender<Result<Answered, Error>>,
    /// The call waits for the delivery of the mail as well.
    pub(crate) tracks: bool,
    /// The command is a `send`, which does something twice if it is repeated.
    pub(crate) is_send: bool,
    /// The command, if it leaves something behind.
    pub(crate) state_change: Option<Command>,
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
}

impl Caller {
    pub(crate) fn answer(self, answer: Result<Answered, Error>) {
        // The program may not wait any more.
        let _ = self.answer.send(answer);
    }
}

/// Who waits for the answer to a command, and the id of that.
pub(crate) enum Waiter {
    Caller(i64, Caller),
    Acks(i64),
}

/// How a mail ends, once that is known.
pub(crate) type Outcome = watch::Receiver<Option<Box<Delivery>>>;

/// An answer, and the means to wait for what it promises.
pub(crate) struct Answered {
    pub(crate) answer: Box<Answer>,
    pub(crate) found: Vec<PeerDiscovered>,
    /// Present when it is tracked and the mail was accepted.
    pub(crate) outcome: Option<Outcome>,
    /// Where to find out why an outcome does not come.
    pub(crate) shared: Arc<Shared>,
}

/// An error that the node told longer before its end is not why it ended. Ours: a node takes up to 5 s to drain after a fatal one.
const REPORT_AGE: Duration = Duration::from_secs(7);

/// What the tasks and the handles share.
pub(crate) struct Shared {
    pub(crate) channel: Mutex<Channel<Waiter, watch::Sender<Option<Box<Delivery>>>>>,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) stderr: Tail,
    /// When the process told its last error that answers no command, and which.
    last_error: Mutex<Option<(Instant, Box<ErrorEvent>)>>,
    /// The process gets the `send`s and `ack`s of the node, beside the commands of its own.
    pub(crate) serves: AtomicBool,
    /// Chunks that were read. A process that writes is alive.
    pub(crate) chunks: AtomicU64,
    /// The longest time that the process leaves its stdin unread, in milliseconds.
    pub(crate) max_pause_ms: AtomicU64,
}

/// Commands that wait for the pipe, but no `send`s: at most as many as there are permits.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) commands: VecDeque<Queued>,
    /// Searches for whose answers nobody waits any more: at most as many as can be pending.
    pub(crate) cancels: VecDeque<i64>,
    pub(crate) stage: Stage,
}

/// A command that waits for the pipe.
pub(crate) struct Queued {
    pub(crate) id: i64,
    pub(crate) line: Vec<u8>,
    pub(crate) caller: Caller,
}

/// What a queue still takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    #[default]
    Open,
    /// Nothing more: `shutdown` follows, and the end of stdin.
    Closing,
    /// Nothing is written any more.
    Ended,
}

impl Shared {
    pub(crate) fn new(outgoing: Arc<Outgoing>, stderr: Tail) -> Self {
        Shared {
            channel: Mutex::new(Channel::new()),
            queue: Mutex::default(),
            outgoing,
            stderr,
            last_error: Mutex::default(),
            serves: AtomicBool::new(false),
            chunks: AtomicU64::new(0),
            max_pause_ms: AtomicU64::new(Limits::STANDARD.max_pause_ms),
        }
    }

    /// Why nothing can be asked any more, if that is so.
    pub(crate) fn closed(&self) -> Option<Error> {
        lock(&self.channel).closed().cloned()
    }

    /// Tells all who wait. Only the first call counts.
    pub(crate) fn close(&self, error: Error) {
        let waiters = lock(&self.channel).fail_all(error.clone());
        for waiter in waiters {
            // The inbox knows what becomes of its `ack`s.
            let Waiter::Caller(_, caller) = waiter else { continue };
            let error = if caller.is_send { error.clone().after_send() } else { error.clone() };
            caller.answer(Err(error));
        }
        self.end_writer();
    }

    /// Nothing is written any more. The calls whose commands wait for the pipe go to the next process.
    pub(crate) fn end_writer(&self) {
        let commands = {
            let mut queue = lock(&self.queue);
            queue.stage = Stage::Ended;
            std::mem::take(&mut queue.commands)
        };
        drop(commands);
        self.outgoing.wake();
    }

    /// Notes an error that the node told unasked, which may be why it ends.
    pub(crate) fn note(&self, error: &ErrorEvent) {
        *lock(&self.last_error) = Some((Instant::now(), Box::new(error.clone())));
    }

    /// The error that the process told last, if it can be why it ended: it ended by itself, and soon after.
    pub(crate) fn report(&self, exit: Option<ExitStatus>) -> Option<Box<ErrorEvent>> {
        let failed = exit.and_then(|exit| exit.code()).is_some_and(|code| code != 0);
        let (reported_at, error) = lock(&self.last_error).clone()?;
        (failed && reported_at.elapsed() < REPORT_AGE).then_some(error)
    }

    /// What the end of the process means.
    pub(crate) fn failure(&self, exit: Option<ExitStatus>) -> Failure {
        let (report, stderr_tail) = (self.report(exit), self.stderr.quote());
        let exited =
            || Error::SidecarExited { report: report.clone(), exit, stderr_tail: stderr_tail.clone() };
        Failure { error: self.closed().unwrap_or_else(exited), exit, report, stderr_tail }
    }
}

/// Why a process is gone, or did not even come.
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) exit: Option<ExitStatus>,
    /// The error that the process told shortly before its end.
    pub(crate) report: Option<Box<ErrorEvent>>,
    pub(crate) stderr_tail: String,
}
