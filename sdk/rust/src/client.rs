use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2p_node_protocol::line::encode_request;
use p2p_node_protocol::{
    Answer, Command, Connect, Delivery, DeliveryState, Discover, Event, PROTOCOL_VERSION, PeerDiscovered,
    Ping, Ready, Request, Send, Shutdown, Status, StatusReport, Subscribe, Unsubscribe,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::channel::{MAX_PENDING, MAX_TRACKED};
use crate::process::{Pipes, Process, Tail, lock};
use crate::pump::{Answered, Reader, Shared, Waiter, write};
use crate::{Builder, Error};

/// Lines that wait for the pipe; more make their senders wait. Each has at most 1 MiB.
const QUEUED_LINES: usize = 64;

/// A handle on a running node. Cheap to clone; when the last one is dropped, the process is killed.
///
/// No call has a timeout of its own but [`connect`](Node::connect); each may be dropped at any time, which
/// does not take the command back.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    /// Gone once the node was told to shut down; the last sender closes the child's stdin.
    lines: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    /// One permit for each request that may be outstanding.
    permits: Arc<Semaphore>,
    ready: watch::Receiver<Option<Box<Ready>>>,
    ready_timeout: Duration,
    process: Process,
}

/// How much time a node has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// To finish what it accepted; then it gets SIGTERM. 7 s by default: the node itself takes up to 5.
    pub drain: Duration,
    /// To obey SIGTERM; then it gets SIGKILL. 2 s by default.
    pub terminate: Duration,
}

impl Default for Grace {
    fn default() -> Self {
        Grace { drain: Duration::from_secs(7), terminate: Duration::from_secs(2) }
    }
}

impl Node {
    /// Says how a node is to be started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn start(
        process: Process,
        pipes: Pipes,
        event_buffer: usize,
        ready_timeout: Duration,
    ) -> (Node, Events) {
        let stderr = Tail::default();
        let drained = stderr.drain(pipes.stderr);
        let shared = Arc::new(Shared::new(stderr));
        let (lines, queue) = mpsc::channel(QUEUED_LINES);
        tokio::spawn(write(pipes.stdin, queue));
        let (events, receiver) = mpsc::channel(event_buffer);
        let (told, ready) = watch::channel(None);
        let reader = Reader { shared: Arc::clone(&shared), events, ready: told };
        tokio::spawn(reader.run(pipes.stdout, process.exit(), drained));
        let events = Events { receiver, shared: Arc::clone(&shared) };
        let node = Node(Arc::new(Inner {
            shared,
            lines: Mutex::new(Some(lines)),
            permits: Arc::new(Semaphore::new(MAX_PENDING)),
            ready,
            ready_timeout,
            process,
        }));
        (node, events)
    }

    /// Has the node listen and join the network, and waits until it is ready. To be called first, and once.
    /// `connect.protocol` is set here.
    ///
    /// # Errors
    /// [`Error::NotReady`] after the builder's `ready_timeout`, [`Error::Contract`] when the node speaks another
    /// version, and as [`request`](Node::request).
    pub async fn connect(&self, connect: Connect) -> Result<Ready, Error> {
        let connect = Connect { protocol: Some(PROTOCOL_VERSION), ..connect };
        let ready = async {
            self.request(Command::Connect(connect)).await?;
            let mut ready = self.0.ready.clone();
            let ready = ready.wait_for(Option::is_some).await;
            ready.ok().and_then(|ready| ready.as_deref().cloned()).ok_or_else(|| self.0.shared.exited())
        };
        let waited = self.0.ready_timeout;
        let Ok(ready) = timeout(waited, ready).await else {
            return Err(Error::NotReady { waited, stderr_tail: self.0.shared.stderr.quote() });
        };
        let ready = ready?;
        if ready.protocol != PROTOCOL_VERSION {
            let told = format!("it speaks protocol {}, this is {PROTOCOL_VERSION}", ready.protocol);
            return Err(Error::Contract(told));
        }
        Ok(ready)
    }

    /// Sends mail to the agent with this PeerId or `0x…` address. Resolves when the node has accepted it.
    ///
    /// # Errors
    /// [`Error::Data`], and as [`request`](Node::request).
    pub async fn send<T: Serialize + ?Sized>(
        &self,
        to: impl Into<String>,
        data: &T,
    ) -> Result<SentMail, Error> {
        self.post(Send::to_peer(to, json(data)?)).await
    }

    /// Sends mail of which more is to be said than recipient and data: priority, lifetime, route and so on.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn post(&self, mail: Send) -> Result<SentMail, Error> {
        let answered = self.ask(Command::Send(mail), true).await?;
        let message_id = message_id(&answered.answer)?;
        let outcome = answered.delivery.ok_or_else(|| {
            Error::Contract("the answer to a mail does not say that it was accepted".to_owned())
        })?;
        Ok(SentMail { message_id, outcome, shared: Arc::clone(&self.0.shared) })
    }

    /// Broadcasts to a topic. Resolves when the node has accepted it.
    ///
    /// # Errors
    /// [`Error::Data`], and as [`request`](Node::request).
    pub async fn publish<T: Serialize + ?Sized>(
        &self,
        topic: impl Into<String>,
        data: &T,
    ) -> Result<Published, Error> {
        let answer = self.request(Command::Send(Send::to_topic(topic, json(data)?))).await?;
        Ok(Published { message_id: message_id(&answer)?, peers: answer.peers.unwrap_or(0) })
    }

    /// Finds agents. Resolves when the node has looked everywhere, or as long as it was told to.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn discover(&self, what: Discover) -> Result<Vec<PeerDiscovered>, Error> {
        Ok(self.ask(Command::Discover(what), false).await?.found)
    }

    /// Has broadcasts on a topic come as events.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn subscribe(&self, topic: impl Into<String>) -> Result<(), Error> {
        self.request(Command::Subscribe(Subscribe { topic: topic.into() })).await.map(drop)
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn unsubscribe(&self, topic: impl Into<String>) -> Result<(), Error> {
        self.request(Command::Unsubscribe(Unsubscribe { topic: topic.into() })).await.map(drop)
    }

    /// What the node knows and has counted.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn status(&self) -> Result<StatusReport, Error> {
        let status = self.request(Command::Status(Status {})).await?.status;
        status.map(|report| *report).ok_or_else(|| Error::Contract("`status` has no status".to_owned()))
    }

    /// Resolves when the node answers.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn ping(&self) -> Result<(), Error> {
        self.request(Command::Ping(Ping {})).await.map(drop)
    }

    /// Has the node carry out any command, and waits for its answer. With 1,024 requests outstanding, or a node that
    /// does not read, the request itself waits. The delivery of mail sent this way is told by [`Event::Delivery`].
    ///
    /// # Errors
    /// [`Error::Command`] when the node refuses, [`Error::TooLong`], [`Error::ShutDown`], and [`Error::Exited`] when
    /// the node ends before it has answered.
    pub async fn request(&self, command: Command) -> Result<Answer, Error> {
        Ok(*self.ask(command, false).await?.answer)
    }

    async fn ask(&self, command: Command, tracks: bool) -> Result<Answered, Error> {
        let lines = lock(&self.0.lines).clone().ok_or(Error::ShutDown)?;
        let permits = Arc::clone(&self.0.permits);
        let permit = permits.acquire_owned().await.map_err(|_| Error::ShutDown)?;
        let slot = lines.reserve().await.map_err(|_| self.0.shared.exited())?;
        let (told, answer) = oneshot::channel();
        {
            // Sent under the lock, so that ids go out in order.
            let mut channel = lock(&self.0.shared.channel);
            let (_, line) = channel.request(command, Waiter { answer: told, tracks, _permit: permit })?;
            slot.send(line);
        }
        drop(lines);
        answer.await.unwrap_or_else(|_| Err(self.0.shared.exited()))
    }

    /// Has the node finish what it accepted and end; later requests fail. A node that takes longer than `grace`
    /// allows is killed. Returns how it ended: 75 means that accepted mail was lost.
    ///
    /// # Errors
    /// [`Error::Exited`] when the system does not tell how it ended.
    pub async fn shutdown(&self, grace: Grace) -> Result<ExitStatus, Error> {
        let lines = lock(&self.0.lines).take();
        let drained = timeout(grace.drain, async {
            if let Some(lines) = lines {
                // The end of its input says the same to most nodes, but not to one that outlives its parent.
                let mut line = Vec::new();
                let request = Request { id: None, command: Command::Shutdown(Shutdown {}) };
                encode_request(&request, &mut line);
                // A node that does not take it has ended, or will be made to.
                let _ = lines.send(line).await;
            }
            self.0.process.exit().wait().await
        });
        if drained.await.is_err() {
            self.0.process.terminate();
            if timeout(grace.terminate, self.0.process.exit().wait()).await.is_err() {
                self.0.process.kill();
            }
        }
        let status = self.0.process.exit().wait().await;
        status.ok_or_else(|| self.0.shared.exited())
    }

    /// The last 64 KiB that the node wrote to stderr.
    pub fn stderr_tail(&self) -> String {
        self.0.shared.stderr.text()
    }
}

/// Mail that the node has accepted. Its delivery is told here alone; dropped, it is told nowhere.
pub struct SentMail {
    /// Names the message across the network.
    pub message_id: String,
    outcome: oneshot::Receiver<Box<Delivery>>,
    shared: Arc<Shared>,
}

impl SentMail {
    /// Waits until the recipient's node has signed for it.
    ///
    /// # Errors
    /// [`Error::Undelivered`] when it did not arrive, [`Error::Exited`] when the node ended before it could tell,
    /// [`Error::TooMany`] when 65,536 other mails were under way when it was accepted; [`Event::Delivery`] tells then.
    pub async fn delivered(self) -> Result<Delivery, Error> {
        match self.outcome.await {
            Ok(delivery) if delivery.state == DeliveryState::Delivered => Ok(*delivery),
            Ok(delivery) => Err(Error::Undelivered(delivery)),
            Err(_) => {
                let closed = lock(&self.shared.channel).closed().cloned();
                Err(closed.unwrap_or(Error::TooMany { what: "mails", limit: MAX_TRACKED }))
            }
        }
    }
}

/// A broadcast that the node has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Names the message across the network.
    pub message_id: String,
    /// Subscribers that it went to at once; with none, the node holds it for a while.
    pub peers: usize,
}

/// What the node tells unasked. Dropped, it lets go of all that is still to come.
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    shared: Arc<Shared>,
}

impl Events {
    /// The next event; `None` when the node has ended and every event was taken. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// How many events were lost so far: they found the buffer full, or could not be read.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

fn json<T: Serialize + ?Sized>(data: &T) -> Result<Box<RawValue>, Error> {
    to_raw_value(data).map_err(|error| Error::Data(Arc::new(error)))
}

fn message_id(answer: &Answer) -> Result<String, Error> {
    let id = answer.message_id.clone();
    id.ok_or_else(|| Error::Contract("the answer to `send` has no messageId".to_owned()))
}
