//! The two tasks between the pipes and the channel. The reader never waits for the writer or for whoever takes
//! events, so that neither side of the pipe can stop the other.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2p_node_protocol::line::{Framed, Framer, decode_event};
use p2p_node_protocol::{Answer, Delivery, Event, MAX_LINE_BYTES, PeerDiscovered, Ready};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Error;
use crate::channel::{Channel, Incoming, Reply};
use crate::process::{Exit, Tail, lock};

/// Bytes read, and lines gathered, at once: what a Linux pipe holds.
const CHUNK_BYTES: usize = 64 * 1024;

/// How long the end of the output and of the process wait for each other: a grandchild may hold the pipe, and a
/// process that closes its output should be gone at once.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// Who waits for an answer. The permit counts the request until it is answered, even if nobody waits any more.
pub(crate) struct Waiter {
    pub(crate) answer: oneshot::Sender<Result<Answered, Error>>,
    /// Whether the delivery of the mail is waited for as well.
    pub(crate) tracks: bool,
    pub(crate) _permit: OwnedSemaphorePermit,
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
    /// Events that found no room and lines that could not be read.
    pub(crate) dropped: AtomicU64,
}

impl Shared {
    pub(crate) fn new(stderr: Tail) -> Self {
        Shared { channel: Mutex::new(Channel::new()), stderr, dropped: AtomicU64::new(0) }
    }

    /// Why the node is gone, as far as is known.
    pub(crate) fn exited(&self) -> Error {
        let closed = lock(&self.channel).closed().cloned();
        closed.unwrap_or_else(|| Error::Exited { status: None, stderr_tail: self.stderr.quote() })
    }

    fn close(&self, error: Error) {
        let waiters = lock(&self.channel).fail_all(error.clone());
        for waiter in waiters {
            // Whoever asked may not wait any more.
            let _ = waiter.answer.send(Err(error.clone()));
        }
    }
}

/// Writes lines until every sender of them is gone, then closes the child's stdin.
pub(crate) async fn write(mut stdin: ChildStdin, mut lines: mpsc::Receiver<Vec<u8>>) {
    while let Some(mut chunk) = lines.recv().await {
        while chunk.len() < CHUNK_BYTES {
            let Ok(line) = lines.try_recv() else { break };
            chunk.extend_from_slice(&line);
        }
        if stdin.write_all(&chunk).await.is_err() {
            // The reader finds out how the process ended.
            return;
        }
    }
}

/// Reads events until the output or the process ends, and then fails all who wait; also when it is dropped
/// half-way, with its runtime.
pub(crate) struct Reader {
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: mpsc::Sender<Event>,
    /// Dropped after the channel is closed, so that whoever waits for it then finds the reason.
    pub(crate) ready: watch::Sender<Option<Box<Ready>>>,
}

impl Reader {
    pub(crate) async fn run(mut self, stdout: ChildStdout, mut exit: Exit, stderr: JoinHandle<()>) {
        self.read(stdout, exit.clone()).await;
        let status = timeout(EXIT_GRACE, exit.wait()).await.ok().flatten();
        // Its last words may still be on their way.
        let _ = timeout(EXIT_GRACE, stderr).await;
        self.shared.close(Error::Exited { status, stderr_tail: self.shared.stderr.quote() });
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
            Framed::TooLong => return self.drop_one(),
        };
        match event {
            Ok(Some(event)) => self.event(event),
            // A type of event that is newer than this crate.
            Ok(None) => {}
            Err(_) => self.drop_one(),
        }
    }

    fn event(&mut self, event: Event) {
        if let Event::Ready(ready) = &event {
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
                self.emit(event);
            }
        }
    }

    fn emit(&self, event: Event) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            self.drop_one();
        }
    }

    fn drop_one(&self) {
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.close(Error::Exited { status: None, stderr_tail: self.shared.stderr.quote() });
    }
}
