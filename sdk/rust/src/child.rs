//! One process and the channel to it: what is asked of it, and how it ends.

use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2p_node_protocol::line::encode_request;
use p2p_node_protocol::{
    Answer, Command, Connect, Delivery, Id, PROTOCOL_VERSION, PeerDiscovered, Ready, Request, Shutdown,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Error;
use crate::channel::{Channel, MAX_PENDING};
use crate::client::Grace;
use crate::events::Sink;
use crate::pipes::{Reader, Writer};
use crate::process::{Exit, Killer, OnStderr, Pipes, Process, Tail, lock};
use crate::wanted::Wanted;

/// Lines that wait for the pipe; more make their senders wait. Each has at most 1 MiB.
const QUEUED_LINES: usize = 64;

/// How long the end of the output and of the process wait for each other: a grandchild may hold the pipe, and a
/// process that closes its output, or refuses to connect, should be gone at once.
pub(crate) const EXIT_GRACE: Duration = Duration::from_secs(1);

/// What every process of a node is tied to.
pub(crate) struct Ties {
    pub(crate) sink: Sink,
    pub(crate) wanted: Arc<Mutex<Wanted>>,
    pub(crate) write_timeout: Duration,
    pub(crate) on_stderr: Option<OnStderr>,
}

/// Who waits for an answer. The permit counts the request until it is answered, even if nobody waits any more.
pub(crate) struct Waiter {
    pub(crate) answer: oneshot::Sender<Result<Answered, Error>>,
    /// Whether the delivery of the mail is waited for as well.
    pub(crate) tracks: bool,
    /// The command, if it leaves something behind.
    pub(crate) leaves: Option<Command>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// How a mail ends, once that is known.
pub(crate) type Outcome = watch::Receiver<Option<Box<Delivery>>>;

/// An answer, and the means to wait for what it promises.
pub(crate) struct Answered {
    pub(crate) answer: Box<Answer>,
    pub(crate) found: Vec<PeerDiscovered>,
    /// Present when it is tracked and the mail was accepted.
    pub(crate) outcome: Option<Outcome>,
}

/// What the tasks and the handles share.
pub(crate) struct Shared {
    pub(crate) channel: Mutex<Channel<Waiter, watch::Sender<Option<Box<Delivery>>>>>,
    pub(crate) stderr: Tail,
}

impl Shared {
    /// Why nothing can be asked any more, if that is so.
    pub(crate) fn closed(&self) -> Option<Error> {
        lock(&self.channel).closed().cloned()
    }

    /// Tells all who wait, and whoever comes later. Only the first call counts.
    pub(crate) fn close(&self, error: Error) {
        let waiters = lock(&self.channel).fail_all(error.clone());
        for waiter in waiters {
            // Whoever asked may not wait any more.
            let _ = waiter.answer.send(Err(error.clone()));
        }
    }

    /// What the end of the process means.
    pub(crate) fn failure(&self, status: Option<ExitStatus>) -> Failure {
        let exited = || Error::Exited { status, stderr_tail: self.stderr.quote() };
        Failure { error: self.closed().unwrap_or_else(exited), status, stderr_tail: self.stderr.quote() }
    }
}

/// Why a process is gone, or did not even come.
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stderr_tail: String,
}

/// A node's process, from its start to its end. Dropped, it is killed.
pub(crate) struct Child {
    pub(crate) shared: Arc<Shared>,
    /// Gone once the node was told to shut down; the last sender closes the child's stdin.
    lines: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    /// Requests for whose answers nobody waits any more.
    given_up: mpsc::Sender<Id>,
    ready: watch::Receiver<Option<Box<Ready>>>,
    process: Process,
}

/// How a process ended, known when all it said has been read.
pub(crate) type End = JoinHandle<Option<ExitStatus>>;

impl Child {
    pub(crate) fn start(process: Process, pipes: Pipes, stderr: Tail, ties: &Ties) -> (Arc<Child>, End) {
        let drained = stderr.drain(pipes.stderr, ties.on_stderr.clone());
        let shared = Arc::new(Shared { channel: Mutex::new(Channel::new()), stderr });
        let (lines, queue) = mpsc::channel(QUEUED_LINES);
        let (given_up, targets) = mpsc::channel(MAX_PENDING);
        let (kill, write_timeout) = (process.killer(), ties.write_timeout);
        let writer = Writer { shared: Arc::clone(&shared), kill: kill.clone(), write_timeout };
        tokio::spawn(writer.run(pipes.stdin, queue, targets));
        let (told, ready) = watch::channel(None);
        let (sink, wanted) = (ties.sink.clone(), Arc::clone(&ties.wanted));
        let reader = Reader { shared: Arc::clone(&shared), sink, wanted, ready: told, finished: false };
        let end = tokio::spawn(reader.run(pipes.stdout, process.exit(), kill, drained));
        (Arc::new(Child { shared, lines: Mutex::new(Some(lines)), given_up, ready, process }), end)
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Has the node listen, and waits until it is ready and of a version that this crate speaks.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        connect: Connect,
        program: &Path,
        waited: Duration,
    ) -> Result<Ready, Error> {
        let ready = async {
            self.ask(&Command::Connect(connect)).await?;
            let mut ready = self.ready.clone();
            let ready =
                ready.wait_for(Option::is_some).await.ok().and_then(|ready| ready.as_deref().cloned());
            ready.ok_or_else(|| self.shared.failure(None).error)
        };
        let late = |_| Error::NotReady { waited, stderr_tail: self.shared.stderr.quote() };
        let ready = timeout(waited, ready).await.map_err(late)??;
        if ready.protocol != PROTOCOL_VERSION || series(&ready.version) != series(env!("CARGO_PKG_VERSION")) {
            let Ready { version, protocol, .. } = ready;
            return Err(Error::VersionMismatch { program: program.to_owned(), version, protocol });
        }
        Ok(ready)
    }

    /// Puts a command on its way. Nothing: the process is gone, and nothing was sent.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        command: &Command,
        tracks: bool,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<Option<Pending>, Error> {
        let lines = lock(&self.lines).clone().ok_or(Error::ShutDown)?;
        let Ok(slot) = lines.reserve().await else { return Ok(None) };
        let (told, answer) = oneshot::channel();
        let leaves = Wanted::concerns(command).then(|| command.clone());
        // Sent under the lock, so that ids go out in order.
        let mut channel = lock(&self.shared.channel);
        if channel.closed().is_some() {
            return Ok(None);
        }
        let waiter = Waiter { answer: told, tracks, leaves, _permit: permit.take() };
        let (id, line) = channel.request(command.clone(), waiter)?;
        slot.send(line);
        let search = matches!(command, Command::Discover(_)).then_some(id);
        Ok(Some(Pending { child: Arc::clone(self), answer, search }))
    }

    /// Asks for something that no caller waits for.
    pub(crate) async fn ask(self: &Arc<Self>, command: &Command) -> Result<(), Error> {
        match self.begin(command, false, &mut None).await? {
            Some(pending) => pending.answered().await.map(drop),
            None => Err(self.shared.failure(None).error),
        }
    }

    /// Waits for `work`, or for the end of the process, if that comes first. A process that fails at it is ended.
    pub(crate) async fn until_end<T>(
        &self,
        end: &mut End,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        let error = tokio::select! {
            // What it said before its end counts.
            biased;
            done = work => match done {
                Ok(done) => return Ok(done),
                Err(error) => error,
            },
            ended = &mut *end => return Err(self.shared.failure(ended.ok().flatten())),
        };
        let stderr_tail = self.shared.stderr.quote();
        // One that says why it refuses is about to end by itself, with a code that tells whether to try again.
        let patience = if matches!(error, Error::Command { .. }) { EXIT_GRACE } else { Duration::ZERO };
        let status = match timeout(patience, &mut *end).await {
            Ok(ended) => ended,
            Err(_) => {
                self.process.kill();
                end.await
            }
        };
        Err(Failure { error, status: status.ok().flatten(), stderr_tail })
    }

    /// What has the process end in good order.
    pub(crate) fn closer(&self) -> Closer {
        let lines = lock(&self.lines).take();
        Closer { lines, kill: self.process.killer(), exit: self.process.exit() }
    }
}

/// A request that is on its way. Dropped, it does not take the command back; but a search ends.
pub(crate) struct Pending {
    child: Arc<Child>,
    answer: oneshot::Receiver<Result<Answered, Error>>,
    search: Option<Id>,
}

impl Pending {
    pub(crate) async fn answered(mut self) -> Result<Answered, Error> {
        let answered =
            (&mut self.answer).await.unwrap_or_else(|_| Err(self.child.shared.failure(None).error));
        self.search = None;
        answered
    }

    /// Where to find out why an outcome does not come.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.child.shared)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(target) = self.search.take() {
            // There is room for as many as can be pending; a writer that is stuck nevertheless will not write it either.
            let _ = self.child.given_up.try_send(target);
        }
    }
}

/// Ends a process. It keeps neither that nor the node, whose last handle may be dropped meanwhile.
pub(crate) struct Closer {
    lines: Option<mpsc::Sender<Vec<u8>>>,
    kill: Killer,
    exit: Exit,
}

impl Closer {
    /// Asks the process to finish and end; makes it end if it does not.
    pub(crate) async fn run(mut self, grace: Grace) {
        let drained = timeout(grace.drain, async {
            if let Some(lines) = self.lines.take() {
                // The end of its input says the same to most nodes, but not to one that outlives its parent.
                let mut line = Vec::new();
                let request = Request { id: None, command: Command::Shutdown(Shutdown {}) };
                encode_request(&request, &mut line);
                // A node that does not take it has ended, or will be made to.
                let _ = lines.send(line).await;
            }
            self.exit.wait().await
        });
        if drained.await.is_err() {
            self.kill.terminate();
            if timeout(grace.terminate, self.exit.wait()).await.is_err() {
                self.kill.kill();
            }
        }
    }
}

/// The part of a version that has to agree: before 1.0 every minor version may be another contract.
fn series(version: &str) -> Vec<&str> {
    let parts = if version.starts_with("0.") { 2 } else { 1 };
    version.split('.').take(parts).collect()
}
