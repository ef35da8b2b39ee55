//! One process, the channel to it, and the two tasks between them. The reader never waits for the writer or for whoever takes
//! events, so that neither side of the pipe can stop the other.

use std::path::Path;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2p_node_protocol::line::{Framed, Framer, decode_event, encode_request};
use p2p_node_protocol::{
    Answer, Cancel, Command, Connect, Delivery, Event as Told, Id, MAX_LINE_BYTES, PROTOCOL_VERSION,
    PeerDiscovered, Ready, Request, Shutdown,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Error;
use crate::channel::{Channel, Incoming, Reply};
use crate::client::Grace;
use crate::events::{Event, Sink};
use crate::process::{Exit, Pipes, Process, Tail, lock};

/// Bytes read, and lines gathered, at once: what a Linux pipe holds.
const CHUNK_BYTES: usize = 64 * 1024;

/// Lines that wait for the pipe; more make their senders wait. Each has at most 1 MiB.
const QUEUED_LINES: usize = 64;

/// How long the end of the output and of the process wait for each other: a grandchild may hold the pipe, and a
/// process that closes its output should be gone at once.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// Who waits for an answer. The permit counts the request until it is answered, even if nobody waits any more.
pub(crate) struct Waiter {
    answer: oneshot::Sender<Result<Answered, Error>>,
    /// Whether the delivery of the mail is waited for as well.
    tracks: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

/// An answer, and the means to wait for what it promises.
pub(crate) struct Answered {
    pub(crate) answer: Box<Answer>,
    pub(crate) found: Vec<PeerDiscovered>,
    /// Present when it is tracked and the mail was accepted.
    pub(crate) delivery: Option<oneshot::Receiver<Box<Delivery>>>,
}

/// What the tasks and the handles share.
pub(crate) struct Shared {
    pub(crate) channel: Mutex<Channel<Waiter, oneshot::Sender<Box<Delivery>>>>,
    pub(crate) stderr: Tail,
}

impl Shared {
    /// Why the node is gone, as far as is known.
    pub(crate) fn exited(&self) -> Error {
        let closed = lock(&self.channel).closed().cloned();
        closed.unwrap_or_else(|| Error::Exited { status: None, stderr_tail: self.stderr.quote() })
    }

    /// Tells all who wait, and whoever comes later. Only the first call counts.
    pub(crate) fn close(&self, error: Error) {
        let waiters = lock(&self.channel).fail_all(error);
        let error = self.exited();
        for waiter in waiters {
            // Whoever asked may not wait any more.
            let _ = waiter.answer.send(Err(error.clone()));
        }
    }
}

/// A node's process, from its start to its end. Dropped, it is killed.
pub(crate) struct Child {
    pub(crate) shared: Arc<Shared>,
    /// Gone once the node was told to shut down; the last sender closes the child's stdin.
    lines: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    ready: watch::Receiver<Option<Box<Ready>>>,
    process: Process,
}

/// How a process ended, known when all it said has been read.
pub(crate) type End = JoinHandle<Option<ExitStatus>>;

impl Child {
    pub(crate) fn start(
        process: Process,
        pipes: Pipes,
        sink: Sink,
        write_timeout: Duration,
    ) -> (Arc<Child>, End) {
        let stderr = Tail::default();
        let drained = stderr.drain(pipes.stderr);
        let shared = Arc::new(Shared { channel: Mutex::new(Channel::new()), stderr });
        let (lines, queue) = mpsc::channel(QUEUED_LINES);
        let writer = Writer { shared: Arc::clone(&shared), kill: process.killer(), write_timeout };
        tokio::spawn(writer.run(pipes.stdin, queue));
        let (told, ready) = watch::channel(None);
        let reader = Reader { shared: Arc::clone(&shared), sink, ready: told, finished: false };
        let end = tokio::spawn(reader.run(pipes.stdout, process.exit(), process.killer(), drained));
        let child = Child { shared, lines: Mutex::new(Some(lines)), ready, process };
        (Arc::new(child), end)
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Has the node listen, and waits until it is ready and of a version that this crate speaks.
    pub(crate) async fn connect(
        &self,
        connect: Connect,
        end: &mut End,
        program: &Path,
        waited: Duration,
    ) -> Result<Ready, Error> {
        let ready = async {
            self.ask(Command::Connect(connect), false, None).await?;
            let mut ready = self.ready.clone();
            let ready = ready.wait_for(Option::is_some).await;
            ready.ok().and_then(|ready| ready.as_deref().cloned()).ok_or_else(|| self.shared.exited())
        };
        let exited = |status| Error::Exited { status, stderr_tail: self.shared.stderr.quote() };
        let ready = tokio::select! {
            ready = timeout(waited, ready) => {
                let late = || Error::NotReady { waited, stderr_tail: self.shared.stderr.quote() };
                ready.map_err(|_| late())??
            }
            ended = end => return Err(exited(ended.ok().flatten())),
        };
        if ready.protocol != PROTOCOL_VERSION || series(&ready.version) != series(env!("CARGO_PKG_VERSION")) {
            let Ready { version, protocol, .. } = ready;
            return Err(Error::VersionMismatch { program: program.to_owned(), version, protocol });
        }
        Ok(ready)
    }

    /// Asks, and waits for the answer. The future may be dropped at any time, which does not take the command back; but a
    /// `discover` ends with it.
    pub(crate) async fn ask(
        &self,
        command: Command,
        tracks: bool,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Answered, Error> {
        let lines = lock(&self.lines).clone().ok_or(Error::ShutDown)?;
        let slot = lines.reserve().await.map_err(|_| self.shared.exited())?;
        let ends_with_its_caller = matches!(command, Command::Discover(_));
        let (told, answer) = oneshot::channel();
        let id = {
            // Sent under the lock, so that ids go out in order.
            let mut channel = lock(&self.shared.channel);
            let waiter = Waiter { answer: told, tracks, _permit: permit };
            let (id, line) = channel.request(command, waiter)?;
            slot.send(line);
            id
        };
        drop(lines);
        let mut search = Search { child: self, id: ends_with_its_caller.then_some(id) };
        let answered = answer.await.unwrap_or_else(|_| Err(self.shared.exited()));
        search.id = None;
        answered
    }

    /// Asks for something without waiting, if there is room for it.
    fn mention(&self, command: Command) {
        let Some(lines) = lock(&self.lines).clone() else { return };
        let Ok(slot) = lines.try_reserve() else { return };
        let (answer, _) = oneshot::channel();
        let waiter = Waiter { answer, tracks: false, _permit: None };
        if let Ok((_, line)) = lock(&self.shared.channel).request(command, waiter) {
            slot.send(line);
        }
    }

    /// Asks the process to finish and end; makes it end if it does not.
    pub(crate) async fn shut_down(&self, grace: Grace) -> Option<ExitStatus> {
        let lines = lock(&self.lines).take();
        let drained = timeout(grace.drain, async {
            if let Some(lines) = lines {
                // The end of its input says the same to most nodes, but not to one that outlives its parent.
                let mut line = Vec::new();
                let request = Request { id: None, command: Command::Shutdown(Shutdown {}) };
                encode_request(&request, &mut line);
                // A node that does not take it has ended, or will be made to.
                let _ = lines.send(line).await;
            }
            self.process.exit().wait().await
        });
        if drained.await.is_err() {
            self.process.terminate();
            if timeout(grace.terminate, self.process.exit().wait()).await.is_err() {
                self.process.kill();
            }
        }
        self.process.exit().wait().await
    }

    /// Ends the process at once, and waits until it is gone.
    pub(crate) async fn kill(&self) {
        self.process.kill();
        self.process.exit().wait().await;
    }
}

/// The part of a version that has to agree: before 1.0 every minor version may be another contract.
fn series(version: &str) -> Vec<&str> {
    let parts = if version.starts_with("0.") { 2 } else { 1 };
    version.split('.').take(parts).collect()
}

/// A `discover` that is cancelled when nobody waits for it any more.
struct Search<'a> {
    child: &'a Child,
    id: Option<Id>,
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        if let Some(target) = self.id.take() {
            self.child.mention(Command::Cancel(Cancel { target }));
        }
    }
}

struct Writer {
    shared: Arc<Shared>,
    kill: crate::process::Killer,
    write_timeout: Duration,
}

impl Writer {
    /// Writes lines until every sender of them is gone, then closes the child's stdin. A child that does not read is killed.
    async fn run(self, mut stdin: ChildStdin, mut lines: mpsc::Receiver<Vec<u8>>) {
        while let Some(mut chunk) = lines.recv().await {
            while chunk.len() < CHUNK_BYTES {
                let Ok(line) = lines.try_recv() else { break };
                chunk.extend_from_slice(&line);
            }
            match timeout(self.write_timeout, stdin.write_all(&chunk)).await {
                Ok(Ok(())) => {}
                // The reader finds out how the process ended.
                Ok(Err(_)) => return,
                Err(_) => {
                    self.shared.close(Error::WriteTimeout { waited: self.write_timeout });
                    self.kill.kill();
                    return;
                }
            }
        }
    }
}

/// Reads events until the output or the process ends; all who wait are failed when it is dropped half-way, with its runtime.
struct Reader {
    shared: Arc<Shared>,
    sink: Sink,
    ready: watch::Sender<Option<Box<Ready>>>,
    finished: bool,
}

impl Reader {
    async fn run(
        mut self,
        stdout: ChildStdout,
        mut exit: Exit,
        kill: crate::process::Killer,
        stderr: JoinHandle<()>,
    ) -> Option<ExitStatus> {
        self.read(stdout, exit.clone()).await;
        if timeout(EXIT_GRACE, exit.wait()).await.is_err() {
            // Nothing can come of a process that has closed its output.
            kill.kill();
        }
        let status = exit.wait().await;
        // Its last words may still be on their way.
        let _ = timeout(EXIT_GRACE, stderr).await;
        self.finished = true;
        status
    }

    async fn read(&mut self, mut stdout: ChildStdout, mut exit: Exit) {
        let mut framer = Framer::new(MAX_LINE_BYTES);
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut exited = pin!(async {
            exit.wait().await;
            tokio::time::sleep(EXIT_GRACE).await;
        });
        loop {
            tokio::select! {
                biased;
                read = stdout.read(&mut buffer) => match read {
                    // A last line without newline was cut off by the end: nobody can tell what it was.
                    Ok(0) | Err(_) => return,
                    Ok(length) => framer.push(&buffer[..length], |framed| self.line(framed)),
                },
                () = &mut exited => return,
            }
        }
    }

    fn line(&mut self, framed: Framed<'_>) {
        let event = match framed {
            Framed::Line(line) => decode_event(line),
            Framed::TooLong => return self.sink.drop_one(),
        };
        match event {
            Ok(Some(event)) => self.event(event),
            // A type of event that is newer than this crate.
            Ok(None) => {}
            Err(_) => self.sink.drop_one(),
        }
    }

    fn event(&mut self, event: Told) {
        if let Told::Ready(ready) = &event {
            self.ready.send_replace(Some(ready.clone()));
        }
        let mut channel = lock(&self.shared.channel);
        match channel.receive(event) {
            Incoming::Answer(waiter, reply) => {
                let answered = reply.map(|Reply { answer, found }| {
                    let accepted = answer.delivery.as_deref() == Some("accepted");
                    let mail = answer.message_id.clone().filter(|_| waiter.tracks && accepted);
                    let delivery = mail.map(|message_id| {
                        let (told, delivery) = oneshot::channel();
                        channel.track(message_id, told);
                        delivery
                    });
                    Answered { answer, found, delivery }
                });
                // Whoever asked may not wait any more.
                let _ = waiter.answer.send(answered);
            }
            Incoming::Delivery(waiter, delivery) => {
                // Whoever sent the mail may not care any more.
                let _ = waiter.send(delivery);
            }
            Incoming::Kept => {}
            Incoming::Event(event) => {
                drop(channel);
                if let Some(event) = Event::from_node(event) {
                    self.sink.tell(event);
                }
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.finished {
            self.shared.close(Error::Exited { status: None, stderr_tail: self.shared.stderr.quote() });
        }
    }
}
