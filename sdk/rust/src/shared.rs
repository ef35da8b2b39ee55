//! The state that the tasks of one process and the handles of its node share.

use std::collections::VecDeque;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2p_node_protocol::{Answer, Command, Delivery, ErrorEvent, Limits, PeerDiscovered, Response};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::Error;
use crate::channel::Channel;
use crate::outgoing::Outgoing;
use crate::process::{Tail, lock};

/// A call that waits for an answer. The permit counts the request until the node has answered it,
/// even if the program has dropped the call.
pub(crate) struct Caller {
    pub(crate) answer: oneshot::Sender<Result<Answered, Error>>,
    /// `true` if the call also tracks the delivery of the message.
    pub(crate) tracks: bool,
    /// `true` if the command is a `send` or `request`, which must not be repeated: the message could arrive
    /// twice.
    pub(crate) is_send: bool,
    /// The command, if a new process must get it again.
    pub(crate) state_change: Option<Box<Command>>,
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
}

impl Caller {
    pub(crate) fn answer(self, answer: Result<Answered, Error>) {
        // The program may have dropped the call.
        let _ = self.answer.send(answer);
    }
}

/// The waiter for the answer to a command, with the id of the command.
pub(crate) enum Waiter {
    Caller(i64, Caller),
    Acks(i64),
}

/// The final state of a message, when the node has reported it.
pub(crate) type Outcome = watch::Receiver<Option<Box<Delivery>>>;

/// An answer, and the receiver for the delivery that it announces.
pub(crate) struct Answered {
    pub(crate) answer: Box<Answer>,
    pub(crate) found: Vec<PeerDiscovered>,
    /// Present if the call tracks the delivery and the node has accepted the message.
    pub(crate) outcome: Option<Outcome>,
    /// Gives the reason if the delivery is never reported.
    pub(crate) shared: Arc<Shared>,
}

/// The SDK does not report an older error as the reason for an exit. Our choice: a node drains for
/// up to 5 s after a fatal error.
const REPORT_AGE: Duration = Duration::from_secs(7);

/// The state that the tasks and the handles share.
pub(crate) struct Shared {
    pub(crate) channel: Mutex<Channel<Waiter, watch::Sender<Option<Box<Delivery>>>>>,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) stderr: Tail,
    /// The last error that answers no command, and when the process reported it.
    last_error: Mutex<Option<(Instant, Box<ErrorEvent>)>>,
    /// `true` if the writer also writes the node's `send`s and `ack`s to this process.
    pub(crate) serves: AtomicBool,
    /// The number of chunks that the reader has read. A process that writes is alive.
    pub(crate) chunks: AtomicU64,
    /// The longest time that the process leaves its stdin unread, in milliseconds.
    pub(crate) max_pause_ms: AtomicU64,
}

/// The commands, without `send`s, that wait for the writer: at most one for each permit, and the requests
/// to agents.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) commands: VecDeque<Queued>,
    /// The searches to cancel, because the program dropped their calls: at most as many as can be
    /// pending.
    pub(crate) cancels: VecDeque<i64>,
    pub(crate) stage: Stage,
}

/// A command that waits for the writer.
pub(crate) struct Queued {
    pub(crate) id: i64,
    pub(crate) line: Vec<u8>,
    pub(crate) caller: Caller,
    /// Gets the answers to a request to agents.
    pub(crate) responses: Option<mpsc::Sender<Response>>,
}

/// The stage of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    #[default]
    Open,
    /// The queue accepts no commands. The writer writes `shutdown` and closes stdin.
    Closing,
    /// The writer writes nothing more.
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

    /// Returns the error that closed the channel, if it is closed.
    pub(crate) fn closed(&self) -> Option<Error> {
        lock(&self.channel).closed().cloned()
    }

    /// Fails all waiting calls with `error`. Only the first error counts.
    pub(crate) fn close(&self, error: Error) {
        let waiters = lock(&self.channel).fail_all(error.clone());
        for waiter in waiters {
            // The inbox handles the `ack`s of an ended process.
            let Waiter::Caller(_, caller) = waiter else { continue };
            let error = if caller.is_send { error.clone().after_send() } else { error.clone() };
            caller.answer(Err(error));
        }
        self.end_writer();
    }

    /// Stops the writer. Calls whose commands still wait for it go to the next process.
    pub(crate) fn end_writer(&self) {
        let commands = {
            let mut queue = lock(&self.queue);
            queue.stage = Stage::Ended;
            std::mem::take(&mut queue.commands)
        };
        drop(commands);
        self.outgoing.wake();
    }

    /// Records an error that answers no command. It may be the reason why the process ends.
    pub(crate) fn note(&self, error: &ErrorEvent) {
        *lock(&self.last_error) = Some((Instant::now(), Box::new(error.clone())));
    }

    /// Returns the last error that the process reported, if it can be the reason for the exit: the
    /// process exited with a code other than 0, soon after the error.
    pub(crate) fn report(&self, exit: Option<ExitStatus>) -> Option<Box<ErrorEvent>> {
        let failed = exit.and_then(|exit| exit.code()).is_some_and(|code| code != 0);
        let (reported_at, error) = lock(&self.last_error).clone()?;
        (failed && reported_at.elapsed() < REPORT_AGE).then_some(error)
    }

    /// Returns the failure that the end of the process causes.
    pub(crate) fn failure(&self, exit: Option<ExitStatus>) -> Failure {
        let (report, stderr_tail) = (self.report(exit), self.stderr.quote());
        let exited =
            || Error::SidecarExited { report: report.clone(), exit, stderr_tail: stderr_tail.clone() };
        Failure { error: self.closed().unwrap_or_else(exited), exit, report, stderr_tail }
    }
}

/// The reason why a process ended or did not start.
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) exit: Option<ExitStatus>,
    /// The error that the process reported shortly before its end.
    pub(crate) report: Option<Box<ErrorEvent>>,
    pub(crate) stderr_tail: String,
}
