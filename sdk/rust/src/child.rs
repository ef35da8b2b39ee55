//! One process and its channel: sends commands to the process and reports how it ended.

use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2p_node_protocol::{Command, Connect, ErrorCode, PROTOCOL_VERSION, Ready, Response};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Error;
use crate::client::Grace;
use crate::desired_state::DesiredState;
use crate::inbox::Sink;
use crate::outgoing::Outgoing;
use crate::pipes::{Reader, Writer};
use crate::process::{Exit, Killer, OnStderr, Pipes, Process, Tail, lock};
use crate::requests::Hub;
use crate::shared::{Answered, Caller, Failure, Queued, Shared, Stage};

/// How long the SDK waits for stdout to close after the process ends, and for the process to end
/// after stdout closes. A grandchild may keep the pipe open; a process that closes stdout, or
/// rejects `connect`, should end at once.
pub(crate) const EXIT_GRACE: Duration = Duration::from_secs(1);

/// The state that all processes of one node share.
pub(crate) struct ChildContext {
    pub(crate) sink: Sink,
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) desired: Arc<Mutex<DesiredState>>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) on_stderr: Option<OnStderr>,
}

/// A node's process, from its start to its end. Dropping it kills the process.
pub(crate) struct Child {
    pub(crate) shared: Arc<Shared>,
    ready: watch::Receiver<Option<Box<Ready>>>,
    process: Process,
}

/// Resolves to the exit status after the SDK has read all output of the process.
pub(crate) type End = JoinHandle<Option<ExitStatus>>;

impl Drop for Child {
    fn drop(&mut self) {
        self.shared.end_writer();
    }
}

impl Child {
    pub(crate) fn start(
        process: Process,
        pipes: Pipes,
        stderr: Tail,
        context: &ChildContext,
    ) -> (Arc<Child>, End) {
        let drained = stderr.drain(pipes.stderr, context.on_stderr.clone());
        let shared = Arc::new(Shared::new(Arc::clone(&context.outgoing), stderr));
        let (sink, kill) = (context.sink.clone(), process.killer());
        let writer = Writer { shared: Arc::clone(&shared), sink, kill: kill.clone() };
        tokio::spawn(writer.run(pipes.stdin));
        let (sender, ready) = watch::channel(None);
        let (sink, desired) = (context.sink.clone(), Arc::clone(&context.desired));
        let hub = Arc::clone(&context.hub);
        let shared_by_reader = Arc::clone(&shared);
        let reader = Reader { shared: shared_by_reader, sink, desired, hub, ready: sender, finished: false };
        let end = tokio::spawn(reader.run(pipes.stdout, process.exit(), kill, drained));
        (Arc::new(Child { shared, ready, process }), end)
    }

    /// Starts to write the node's `send`s and `ack`s to this process.
    pub(crate) fn serve(&self, ready: &Ready) {
        let outgoing = &self.shared.outgoing;
        lock(&outgoing.lane).reset(&ready.limits);
        self.shared.serves.store(true, Ordering::Release);
        outgoing.wake();
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends `connect` and waits until the node is ready. Fails if this crate does not support the
    /// node's version.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        connect: Connect,
        program: &Path,
        waited: Duration,
    ) -> Result<Ready, Error> {
        let ready = async {
            match self.ask(&Command::Connect(connect)).await {
                Err(Error::CommandRefused { code: ErrorCode::UnsupportedProtocol, message, .. }) => {
                    let found = format!("refuses protocol {PROTOCOL_VERSION} ({message})");
                    return Err(Error::VersionMismatch { program: program.to_owned(), found });
                }
                answered => answered?,
            }
            let mut ready = self.ready.clone();
            let ready =
                ready.wait_for(Option::is_some).await.ok().and_then(|ready| ready.as_deref().cloned());
            ready.ok_or_else(|| self.shared.failure(None).error)
        };
        let late = |_| Error::NotReady { waited, stderr_tail: self.shared.stderr.quote() };
        let ready = timeout(waited, ready).await.map_err(late)??;
        if ready.protocol != PROTOCOL_VERSION
            || version_series(&ready.version) != version_series(env!("CARGO_PKG_VERSION"))
        {
            let found = format!("is version {} and speaks protocol {}", ready.version, ready.protocol);
            return Err(Error::VersionMismatch { program: program.to_owned(), found });
        }
        Ok(ready)
    }

    /// Queues a command other than `send`. Returns `None` if the process has ended.
    pub(crate) fn begin(
        self: &Arc<Self>,
        command: &Command,
        permit: &mut Option<OwnedSemaphorePermit>,
        responses: Option<mpsc::Sender<Response>>,
    ) -> Result<Option<Pending>, Error> {
        let (id, line) = self.shared.outgoing.encode(command.clone())?;
        let (sender, answer) = oneshot::channel();
        let state_change = DesiredState::is_stateful(command).then(|| Box::new(command.clone()));
        let mut queue = lock(&self.shared.queue);
        match queue.stage {
            Stage::Open => {}
            Stage::Closing => return Err(Error::NodeClosed),
            Stage::Ended => return Ok(None),
        }
        let (is_send, _permit) = (matches!(command, Command::Ask(_)), permit.take());
        let caller = Caller { answer: sender, tracks: false, is_send, state_change, _permit };
        queue.commands.push_back(Queued { id, line, caller, responses });
        drop(queue);
        self.shared.outgoing.wake();
        let search = matches!(command, Command::Discover(_) | Command::Ask(_)).then_some(id);
        Ok(Some(Pending { child: Arc::clone(self), answer, search }))
    }

    /// Sends a command of the SDK itself and waits for its answer.
    pub(crate) async fn ask(self: &Arc<Self>, command: &Command) -> Result<(), Error> {
        let answered = match self.begin(command, &mut None, None)? {
            Some(pending) => pending.answered().await?,
            None => None,
        };
        answered.map(drop).ok_or_else(|| self.shared.failure(None).error)
    }

    /// Waits for `work`, or for the end of the process if that comes first. Kills the process if
    /// `work` fails.
    pub(crate) async fn until_end<T>(
        &self,
        end: &mut End,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        let error = tokio::select! {
            // Prefer an answer that the process wrote before it ended.
            biased;
            done = work => match done {
                Ok(done) => return Ok(done),
                Err(error) => error,
            },
            ended = &mut *end => return Err(self.shared.failure(ended.ok().flatten())),
        };
        let stderr_tail = self.shared.stderr.quote();
        // A process that rejects the command ends by itself, with an exit code that tells the SDK
        // if it may restart the node.
        let patience =
            if matches!(error, Error::CommandRefused { .. }) { EXIT_GRACE } else { Duration::ZERO };
        let exit = match timeout(patience, &mut *end).await {
            Ok(ended) => ended,
            Err(_) => {
                self.process.kill();
                end.await
            }
        };
        let exit = exit.ok().flatten();
        let report = error.refusal().or_else(|| self.shared.report(exit));
        Err(Failure { error, exit, report, stderr_tail })
    }

    /// Starts an orderly shutdown and returns the task that completes it. The process gets no
    /// further commands.
    pub(crate) fn closer(&self) -> Closer {
        let mut queue = lock(&self.shared.queue);
        if queue.stage == Stage::Open {
            queue.stage = Stage::Closing;
        }
        drop(queue);
        self.shared.outgoing.wake();
        Closer { kill: self.process.killer(), exit: self.process.exit() }
    }
}

/// A request without an answer yet. Dropping it does not withdraw the command, but ends a search, and
/// cancels a request to agents.
pub(crate) struct Pending {
    child: Arc<Child>,
    answer: oneshot::Receiver<Result<Answered, Error>>,
    search: Option<i64>,
}

impl Pending {
    /// Waits for the answer. Returns `None` if the process ended before the SDK wrote the command.
    pub(crate) async fn answered(mut self) -> Result<Option<Answered>, Error> {
        let answered = (&mut self.answer).await;
        self.search = None;
        answered.ok().transpose()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(target) = self.search.take() {
            lock(&self.child.shared.queue).cancels.push_back(target);
            self.child.shared.outgoing.wake();
        }
    }
}

/// Stops a process. Holds neither the process nor the node, so that the program may drop the last
/// handle meanwhile.
pub(crate) struct Closer {
    kill: Killer,
    exit: Exit,
}

impl Closer {
    /// Waits for the process to drain and end; sends SIGTERM, then SIGKILL, if it does not.
    pub(crate) async fn run(mut self, grace: Grace) {
        if timeout(grace.drain, self.exit.wait()).await.is_err() {
            self.kill.terminate();
            if timeout(grace.terminate, self.exit.wait()).await.is_err() {
                self.kill.kill();
            }
        }
    }
}

/// Returns the part of a version that must match: before 1.0 each minor version may change the
/// contract.
fn version_series(version: &str) -> Vec<&str> {
    let parts = if version.starts_with("0.") { 2 } else { 1 };
    version.split('.').take(parts).collect()
}
