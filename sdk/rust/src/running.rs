//! A node over all of its processes: which one there is, what has to be asked of each, and the task that replaces them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command as Program;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use p2p_node_protocol::{Command, Connect, PROTOCOL_VERSION, Ready, Subscribe};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use crate::Error;
use crate::channel::MAX_PENDING;
use crate::child::{Child, End, Shared};
use crate::events::{Event, Events, Sink};
use crate::process::{Process, lock};
use crate::supervisor::{Restart, Supervisor};

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

/// What the handles of a node share.
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    make_command: MakeCommand,
    ephemeral_key: String,
    sink: Sink,
    pub(crate) state: watch::Sender<State>,
    /// What the process said when it was ready last.
    pub(crate) ready: Mutex<Ready>,
    /// One permit for each request that may be outstanding.
    pub(crate) permits: Arc<Semaphore>,
    /// Whether the node was told to shut down.
    pub(crate) closing: watch::Sender<bool>,
    pub(crate) wanted: Mutex<Wanted>,
}

/// Whether there is a process to talk to.
#[derive(Clone)]
pub(crate) enum State {
    Up(Arc<Child>),
    Down,
    Gone(Error),
}

/// What has to be asked of every new process.
#[derive(Default)]
pub(crate) struct Wanted {
    pub(crate) topics: BTreeSet<String>,
    pub(crate) standings: BTreeMap<String, Command>,
}

impl Inner {
    /// Starts the first process, and the task that keeps one running.
    pub(crate) async fn open(
        settings: Settings,
        make_command: MakeCommand,
    ) -> Result<(Arc<Inner>, Events), Error> {
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
        Ok((inner, events))
    }

    /// The process to talk to, when there is one.
    pub(crate) async fn up(&self) -> Result<Arc<Child>, Error> {
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
    pub(crate) fn finish(&self, error: Option<Error>) {
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

/// The TCP port that a node listens on.
fn port_of(ready: &Ready) -> Option<u16> {
    let after_tcp = |addr: &String| addr.split_once("/tcp/")?.1.split('/').next()?.parse().ok();
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
