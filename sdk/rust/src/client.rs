use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command as Program, ExitStatus};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use p2p_node_protocol::{
    Allow, Answer, Block, Command, Connect, ConnectedPeer, Delivery, DeliveryState, Discover, Message,
    PROTOCOL_VERSION, PeerDiscovered, Peers, Ping, Ready, Send, Status, StatusReport, Subscribe, Unblock,
    Unsubscribe,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::channel::{MAX_PENDING, MAX_TRACKED};
use crate::child::{Answered, Child, End, Shared};
use crate::events::{Event, Events, Sink};
use crate::process::{Process, lock};
use crate::supervisor::{Restart, Supervisor};
use crate::{Builder, Error};

/// What a builder settles.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) program: PathBuf,
    pub(crate) connect: Connect,
    pub(crate) event_buffer: usize,
    pub(crate) ready_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) restart: Option<Restart>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            program: PathBuf::new(),
            connect: Connect { protocol: Some(PROTOCOL_VERSION), ..Connect::default() },
            // A second or so of a busy topic.
            event_buffer: 1024,
            ready_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(10),
            restart: Some(Restart::default()),
        }
    }
}

/// Makes the command of a process, given the key of an agent that has none.
pub(crate) type MakeCommand = Box<dyn Fn(&str) -> Program + std::marker::Send + Sync>;

/// A handle on a supervised node. Cheap to clone; when the last one is dropped, its process is killed.
///
/// Every call may be dropped at any time, which does not take the command back (but ends a search).
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    settings: Settings,
    make_command: MakeCommand,
    ephemeral_key: String,
    sink: Sink,
    state: watch::Sender<State>,
    /// What the process said when it was ready last.
    ready: Mutex<Ready>,
    /// One permit for each request that may be outstanding.
    permits: Arc<Semaphore>,
    /// Whether the node was told to shut down.
    closing: watch::Sender<bool>,
    wanted: Mutex<Wanted>,
}

/// Whether there is a process to talk to.
#[derive(Clone)]
enum State {
    Up(Arc<Child>),
    Down,
    Gone(Error),
}

/// What has to be asked of every new process.
#[derive(Default)]
struct Wanted {
    topics: BTreeSet<String>,
    standings: BTreeMap<String, Command>,
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

    pub(crate) async fn open(settings: Settings, make_command: MakeCommand) -> Result<(Node, Events), Error> {
        let (sink, events) = Sink::new(settings.event_buffer);
        let ephemeral_key = random_key();
        let port = settings.connect.port;
        let (child, end, ready) =
            start_process(&settings, &make_command, &ephemeral_key, port, &sink).await?;
        let mut supervisor = Supervisor::new(settings.restart);
        let since = Instant::now();
        supervisor.ready(Duration::ZERO);
        let shared = Arc::clone(&child.shared);
        let inner = Arc::new(Inner {
            settings,
            make_command,
            ephemeral_key,
            sink,
            state: watch::Sender::new(State::Up(child)),
            ready: Mutex::new(ready),
            permits: Arc::new(Semaphore::new(MAX_PENDING)),
            closing: watch::Sender::new(false),
            wanted: Mutex::default(),
        });
        tokio::spawn(supervise(Arc::downgrade(&inner), supervisor, since, shared, end));
        Ok((Node(inner), events))
    }

    /// What the process said when it was ready last.
    pub fn ready(&self) -> Ready {
        lock(&self.0.ready).clone()
    }

    /// The agent's checksummed Ethereum address.
    pub fn address(&self) -> String {
        lock(&self.0.ready).address.clone()
    }

    /// The process's id, while there is one.
    pub fn process_id(&self) -> Option<u32> {
        match &*self.0.state.borrow() {
            State::Up(child) => Some(child.pid()),
            State::Down | State::Gone(_) => None,
        }
    }

    /// The last 64 KiB that the process wrote to stderr; empty while there is none.
    pub fn stderr_tail(&self) -> String {
        match &*self.0.state.borrow() {
            State::Up(child) => child.shared.stderr.text(),
            State::Down | State::Gone(_) => String::new(),
        }
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
        let patience = self.0.settings.call_timeout;
        let (answered, shared) = self.ask(Command::Send(mail), true, patience).await?;
        let message_id = message_id(&answered.answer)?;
        let outcome = answered.delivery.ok_or_else(|| {
            Error::Contract("the answer to a mail does not say that it was accepted".to_owned())
        })?;
        Ok(SentMail { message_id, outcome, shared })
    }

    /// Answers a message: mail to its sender, in its conversation.
    ///
    /// # Errors
    /// As [`send`](Node::send).
    pub async fn reply<T: Serialize + ?Sized>(&self, message: &Message, data: &T) -> Result<SentMail, Error> {
        let mail = Send {
            reply_to: Some(message.message_id.clone()),
            conversation_id: message.conversation_id.clone(),
            ..Send::to_peer(&message.from, json(data)?)
        };
        self.post(mail).await
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

    /// Finds agents. Resolves when the node has looked everywhere, or as long as it was told to; dropped, it ends the search.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn discover(&self, what: Discover) -> Result<Vec<PeerDiscovered>, Error> {
        let patience = self.0.settings.call_timeout + Duration::from_millis(what.timeout_ms.unwrap_or(0));
        Ok(self.ask(Command::Discover(what), false, patience).await?.0.found)
    }

    /// Has broadcasts on a topic come as events; also after a restart.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn subscribe(&self, topic: impl Into<String>) -> Result<(), Error> {
        let topic = topic.into();
        self.request(Command::Subscribe(Subscribe { topic: topic.clone() })).await?;
        lock(&self.0.wanted).topics.insert(topic);
        Ok(())
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn unsubscribe(&self, topic: impl Into<String>) -> Result<(), Error> {
        let topic = topic.into();
        lock(&self.0.wanted).topics.remove(&topic);
        self.request(Command::Unsubscribe(Unsubscribe { topic })).await.map(drop)
    }

    /// Takes nothing more from an agent (`0x…`) or a node (PeerId).
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn block(&self, peer_id: impl Into<String>) -> Result<(), Error> {
        let peer_id = peer_id.into();
        self.stand(&peer_id, Command::Block(Block { peer_id: peer_id.clone() })).await
    }

    /// Marks what an agent or a node sends as trusted.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn allow(&self, peer_id: impl Into<String>) -> Result<(), Error> {
        let peer_id = peer_id.into();
        self.stand(&peer_id, Command::Allow(Allow { peer_id: peer_id.clone() })).await
    }

    /// Takes back [`block`](Node::block) and [`allow`](Node::allow).
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn unblock(&self, peer_id: impl Into<String>) -> Result<(), Error> {
        let peer_id = peer_id.into();
        self.request(Command::Unblock(Unblock { peer_id: peer_id.clone() })).await?;
        lock(&self.0.wanted).standings.remove(&peer_id);
        Ok(())
    }

    async fn stand(&self, of: &str, command: Command) -> Result<(), Error> {
        self.request(command.clone()).await?;
        lock(&self.0.wanted).standings.insert(of.to_owned(), command);
        Ok(())
    }

    /// The peers that are connected.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn peers(&self) -> Result<Vec<ConnectedPeer>, Error> {
        Ok(self.request(Command::Peers(Peers {})).await?.connected.unwrap_or_default())
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

    /// Has the node carry out any command, and waits for its answer. While its process is down the request waits for the next one, and
    /// with 1,024 requests outstanding for one of them, up to the builder's `call_timeout` in all. The delivery of mail sent this way is
    /// told by [`Event::Delivery`].
    ///
    /// # Errors
    /// [`Error::Command`] when the node refuses; [`Error::Unavailable`] when it was not there in time, and [`Error::Timeout`] when it did
    /// not answer in time; [`Error::Restarted`] when its process ended before it had answered, and [`Error::Exited`] when it is not
    /// started again; [`Error::WriteTimeout`], [`Error::TooLong`] and [`Error::ShutDown`].
    pub async fn request(&self, command: Command) -> Result<Answer, Error> {
        Ok(*self.ask(command, false, self.0.settings.call_timeout).await?.0.answer)
    }

    async fn ask(
        &self,
        command: Command,
        tracks: bool,
        waited: Duration,
    ) -> Result<(Answered, Arc<Shared>), Error> {
        let deadline = Instant::now() + waited;
        let what = command.name();
        let late = |_| Error::Timeout { what: what.to_owned(), waited };
        let child = timeout_at(deadline, self.0.up()).await.map_err(|_| Error::Unavailable { waited })??;
        let permit = timeout_at(deadline, Arc::clone(&self.0.permits).acquire_owned()).await.map_err(late)?;
        let permit = permit.map_err(|_| Error::ShutDown)?;
        let asked = child.ask(command, tracks, Some(permit));
        let answered = timeout_at(deadline, asked).await.map_err(late)??;
        Ok((answered, Arc::clone(&child.shared)))
    }

    /// Has the node finish what it accepted and end; later requests fail. A node that takes longer than `grace`
    /// allows is killed. Returns how its process ended, if there was one: 75 means that accepted mail was lost.
    pub async fn shutdown(&self, grace: Grace) -> Option<ExitStatus> {
        self.0.closing.send_replace(true);
        let child = match &*self.0.state.borrow() {
            State::Up(child) => Some(Arc::clone(child)),
            State::Down | State::Gone(_) => None,
        };
        let status = match child {
            Some(child) => child.shut_down(grace).await,
            None => None,
        };
        self.0.finish(None);
        status
    }
}

impl Inner {
    /// The process to talk to, when there is one.
    async fn up(&self) -> Result<Arc<Child>, Error> {
        if *self.closing.borrow() {
            return Err(Error::ShutDown);
        }
        let mut state = self.state.subscribe();
        // The sender lives as long as `self`.
        let up = state.wait_for(|state| !matches!(state, State::Down)).await.map_err(|_| Error::ShutDown)?;
        match &*up {
            State::Up(child) => Ok(Arc::clone(child)),
            State::Down => Err(Error::ShutDown),
            State::Gone(error) => Err(error.clone()),
        }
    }

    /// There is no process any more, and will be none.
    fn finish(&self, error: Option<Error>) {
        let gone = error.clone().unwrap_or(Error::ShutDown);
        let before = self.state.send_replace(State::Gone(gone.clone()));
        if let State::Up(child) = &before {
            child.shared.close(gone);
        }
        if !matches!(before, State::Gone(_)) {
            self.sink.tell(Event::Closed { error: error.map(Box::new) });
            self.sink.close();
        }
    }

    /// A new process in the place of one that ended, with all that the program had asked of that.
    async fn replace(&self) -> Result<(Arc<Child>, End, Ready), Error> {
        let before = lock(&self.ready).clone();
        let port = port_of(&before).or(self.settings.connect.port);
        let (child, end, ready) =
            start_process(&self.settings, &self.make_command, &self.ephemeral_key, port, &self.sink).await?;
        if ready.address != before.address {
            child.kill().await;
            return Err(Error::IdentityChanged { before: before.address, now: ready.address });
        }
        let commands: Vec<Command> = {
            let wanted = lock(&self.wanted);
            let topics = wanted.topics.iter().cloned();
            let subscribe = topics.map(|topic| Command::Subscribe(Subscribe { topic }));
            subscribe.chain(wanted.standings.values().cloned()).collect()
        };
        for command in commands {
            let waited = self.settings.call_timeout;
            let late = Error::Timeout { what: command.name().to_owned(), waited };
            match timeout(waited, child.ask(command, false, None)).await.unwrap_or(Err(late)) {
                // It was possible once; what is refused now has been told by the node.
                Ok(_) | Err(Error::Command { .. }) => {}
                Err(error) => {
                    child.kill().await;
                    return Err(error);
                }
            }
        }
        *lock(&self.ready) = ready.clone();
        Ok((child, end, ready))
    }
}

/// A process that is ready; one that does not get there is gone.
async fn start_process(
    settings: &Settings,
    make_command: &MakeCommand,
    ephemeral_key: &str,
    port: Option<u16>,
    sink: &Sink,
) -> Result<(Arc<Child>, End, Ready), Error> {
    let program = &settings.program;
    let (process, pipes) = Process::spawn(make_command(ephemeral_key))
        .map_err(|source| Error::Spawn { program: program.clone(), source: Arc::new(source) })?;
    let (child, mut end) = Child::start(process, pipes, sink.clone(), settings.write_timeout);
    let connect = Connect { port, ..settings.connect.clone() };
    match child.connect(connect, &mut end, program, settings.ready_timeout).await {
        Ok(ready) => Ok((child, end, ready)),
        Err(error) => {
            child.kill().await;
            Err(error)
        }
    }
}

/// Has a process take the place of one that ended, again and again, until that is no use, or the node is told to shut down or is
/// dropped. It must not keep the node.
async fn supervise(
    node: Weak<Inner>,
    mut supervisor: Supervisor,
    since: Instant,
    mut shared: Arc<Shared>,
    mut end: End,
) {
    // Both are outlived by no process: when the task of one is gone, so is the runtime.
    let mut status = end.await.ok().flatten();
    loop {
        let ended = Instant::now();
        let stderr_tail = shared.stderr.quote();
        let Some(inner) = node.upgrade() else {
            return shared.close(Error::Exited { status, stderr_tail });
        };
        if *inner.closing.borrow() {
            return shared.close(Error::ShutDown);
        }
        let code = status.and_then(|status| status.code());
        let Some(again) = supervisor.ended(code, ended - since, chance()) else {
            let error = Error::Exited { status, stderr_tail };
            shared.close(error.clone());
            return inner.finish(Some(error));
        };
        inner.state.send_replace(State::Down);
        shared.close(Error::Restarted { status, stderr_tail });
        let attempt = again.attempt;
        inner.sink.tell(Event::Restarting { status, delay: again.delay, attempt });
        if again.unhealthy {
            let crashes = inner.settings.restart.map_or(0, |restart| restart.crashes);
            inner.sink.tell(Event::Unhealthy { crashes });
        }
        let mut closing = inner.closing.subscribe();
        drop(inner);
        // The wait ends too when every handle is dropped.
        if timeout(again.delay, closing.wait_for(|closing| *closing)).await.is_ok() {
            return;
        }
        let Some(inner) = node.upgrade() else { return };
        match inner.replace().await {
            Ok((child, next, ready)) => {
                supervisor.ready(since.elapsed());
                (shared, end) = (Arc::clone(&child.shared), next);
                let ready = Box::new(ready);
                inner.sink.tell(Event::Restarted { attempt, downtime: ended.elapsed(), ready });
                let is_gone = inner.state.send_if_modified(|state| {
                    let down = matches!(state, State::Down);
                    if down {
                        *state = State::Up(child);
                    }
                    down
                });
                drop(inner);
                if !is_gone {
                    return;
                }
                status = end.await.ok().flatten();
            }
            Err(error @ (Error::VersionMismatch { .. } | Error::IdentityChanged { .. })) => {
                return inner.finish(Some(error));
            }
            Err(Error::Exited { status: ended, .. }) => status = ended,
            Err(_) => status = None,
        }
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
    /// Waits until the recipient's node has signed for it, for as long as the mail lives.
    ///
    /// # Errors
    /// [`Error::Undelivered`] when it did not arrive; [`Error::Restarted`] or [`Error::Exited`] when the node's process ended before it
    /// could tell; [`Error::TooMany`] when 65,536 other mails were under way when it was accepted: [`Event::Delivery`] tells then.
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

fn json<T: Serialize + ?Sized>(data: &T) -> Result<Box<RawValue>, Error> {
    to_raw_value(data).map_err(|error| Error::Data(Arc::new(error)))
}

fn message_id(answer: &Answer) -> Result<String, Error> {
    let id = answer.message_id.clone();
    id.ok_or_else(|| Error::Contract("the answer to `send` has no messageId".to_owned()))
}

/// The TCP port that a node listens on.
fn port_of(ready: &Ready) -> Option<u16> {
    let after_tcp = |addr: &String| Some(addr.split_once("/tcp/")?.1.split('/').next()?.parse().ok()?);
    ready.addrs.iter().find_map(after_tcp)
}

/// A key for an agent that was given none, kept for as long as its node.
fn random_key() -> String {
    let mut key = String::from("0x");
    for _ in 0..4 {
        // Without randomness nothing on this machine can be trusted to be secret.
        let word = getrandom::u64().expect("the system has randomness");
        key.push_str(&format!("{word:016x}"));
    }
    key
}

/// From 0 to 1, by chance.
fn chance() -> f64 {
    // Without it the pauses are merely not spread.
    getrandom::u32().map_or(0.5, |word| f64::from(word) / f64::from(u32::MAX))
}
