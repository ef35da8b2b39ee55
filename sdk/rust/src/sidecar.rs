//! A node over all of its processes: the one of the moment, and the task that has another take its place when it ends.

use std::process::{Command as Program, ExitStatus};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use p2p_node_protocol::{Connect, ErrorEvent, Message, Ready};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::binary;
use crate::builder::{AckMode, Settings};
use crate::channel::MAX_PENDING;
use crate::child::{Child, End, Ties};
use crate::events::{Event, Events};
use crate::inbox::Sink;
use crate::outgoing::Outgoing;
use crate::process::{Exit, Killer, Process, Tail, lock};
use crate::shared::Failure;
use crate::supervisor::Supervisor;

/// Makes the command of a process, given the key of an agent that has none.
pub(crate) type MakeCommand = Box<dyn Fn(&str) -> Program + Send + Sync>;

/// What the handles of a node share. Dropped with the last of them, it ends the process at once, with or without a runtime.
pub(crate) struct Inner {
    pub(crate) launch: Arc<Launch>,
    pub(crate) state: watch::Sender<State>,
    /// What the process said when it was ready last.
    pub(crate) ready: Mutex<Ready>,
    /// One permit for each request that may be outstanding, `send`s apart.
    pub(crate) permits: Arc<Semaphore>,
    /// `true` once the program has closed the node.
    pub(crate) closing: watch::Sender<bool>,
}

/// Whether there is a process to talk to.
pub(crate) enum State {
    Up(Arc<Child>),
    Down,
    Gone(Error),
}

impl Inner {
    pub(crate) async fn open(
        settings: Settings,
        make_command: MakeCommand,
    ) -> Result<(Arc<Inner>, Events), Error> {
        let wake = watch::Sender::new(());
        let sink = Sink::new(settings.rooms, settings.ack == AckMode::Manual, wake.clone());
        let events = Events::new(sink.clone());
        let (outgoing, wanted) = (Arc::new(Outgoing::new(wake)), Arc::default());
        let ties = Ties { sink, outgoing, wanted, on_stderr: settings.on_stderr.clone() };
        let mut supervisor = Supervisor::new(settings.restart);
        let (current, ephemeral_key) = (Mutex::default(), random_key());
        let launch = Arc::new(Launch { settings, make_command, ephemeral_key, ties, current });
        let port = launch.settings.connect.port;
        let started = launch.start(port).await;
        let Started { child, end, ready } = started.map_err(|failure| launch.start_failed(failure))?;
        child.serve(&ready);
        let epoch = Instant::now();
        supervisor.ready(Duration::ZERO);
        let inner = Arc::new(Inner {
            launch: Arc::clone(&launch),
            state: watch::Sender::new(State::Up(Arc::clone(&child))),
            ready: Mutex::new(ready),
            permits: Arc::new(Semaphore::new(MAX_PENDING)),
            closing: watch::Sender::new(false),
        });
        let (node, closing) = (Arc::downgrade(&inner), inner.closing.subscribe());
        let supervision = Supervision { node, launch, supervisor, closing, epoch };
        tokio::spawn(supervision.run(child, end));
        Ok((inner, events))
    }

    /// The process to talk to, when there is one that is not `gone`.
    pub(crate) async fn up(&self, gone: Option<&Arc<Child>>) -> Result<Arc<Child>, Error> {
        if *self.closing.borrow() {
            return Err(Error::NodeClosed);
        }
        let mut states = self.state.subscribe();
        let settled = states.wait_for(|state| match state {
            State::Up(child) => gone.is_none_or(|gone| !Arc::ptr_eq(gone, child)),
            State::Down => false,
            State::Gone(_) => true,
        });
        // The sender lives as long as `self`.
        match &*settled.await.map_err(|_| Error::NodeClosed)? {
            State::Up(child) => Ok(Arc::clone(child)),
            State::Down => Err(Error::NodeClosed),
            State::Gone(error) => Err(error.clone()),
        }
    }

    /// The `send`s of this node.
    pub(crate) fn outgoing(&self) -> &Arc<Outgoing> {
        &self.launch.ties.outgoing
    }

    /// What the processes say.
    pub(crate) fn sink(&self) -> &Sink {
        &self.launch.ties.sink
    }

    /// Ends the node in good order. Returns the mail that the program has not taken.
    pub(crate) async fn close(&self) -> Vec<Message> {
        self.closing.send_replace(true);
        self.sink().withhold_mail();
        self.outgoing().fail_all(&Error::NodeClosed);
        let closer = match &*self.state.borrow() {
            State::Up(child) => Some(child.closer()),
            State::Down | State::Gone(_) => None,
        };
        if let Some(closer) = closer {
            tokio::spawn(closer.run(self.launch.settings.grace));
        }
        // The sender lives as long as `self`.
        let _ = self.state.subscribe().wait_for(|state| matches!(state, State::Gone(_))).await;
        self.sink().untaken()
    }

    /// The process has ended, and another one will come.
    fn went_down(&self, failure: &Failure) {
        let (report, exit, stderr_tail) = (failure.report.clone(), failure.exit, failure.stderr_tail.clone());
        let error = Error::SidecarRestarted { report, exit, stderr_tail, maybe_sent: false };
        let before = self.state.send_replace(State::Down);
        if let State::Up(child) = before {
            child.shared.close(error.clone());
        }
        self.launch.ties.sink.process_ended(&error);
    }

    fn came_up(&self, child: Arc<Child>, ready: Ready) {
        child.serve(&ready);
        *lock(&self.ready) = ready;
        self.state.send_replace(State::Up(child));
        // Whoever told the node to shut down a moment ago saw no process to ask.
        if *self.closing.borrow() {
            self.launch.kill();
        }
    }

    /// There is no process any more, and will be none. Only the first call counts.
    fn finish(&self, error: Option<Error>) {
        let gone = error.clone().unwrap_or(Error::NodeClosed);
        let mut before = None;
        self.state.send_if_modified(|state| {
            let first = !matches!(state, State::Gone(_));
            if first {
                before = Some(std::mem::replace(state, State::Gone(gone.clone())));
            }
            first
        });
        self.launch.end();
        if let Some(State::Up(child)) = &before {
            child.shared.close(gone.clone());
        }
        self.outgoing().fail_all(&gone);
        self.launch.ties.sink.last_process_ended(&gone);
        self.launch.ties.sink.close(Event::Closed { error: error.map(Box::new) });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.finish(None);
    }
}

/// What it takes to start a process.
pub(crate) struct Launch {
    pub(crate) settings: Settings,
    make_command: MakeCommand,
    ephemeral_key: String,
    ties: Ties,
    current: Mutex<Current>,
}

/// The process of the moment, or the last one.
#[derive(Default)]
struct Current {
    process: Option<(Killer, Exit)>,
    stderr: Tail,
    /// Nothing is to be started any more.
    over: bool,
}

/// A process that is ready.
struct Started {
    child: Arc<Child>,
    end: End,
    ready: Ready,
}

impl Launch {
    /// A process that is ready; one that does not get there is gone.
    async fn start(&self, port: Option<u16>) -> Result<Started, Failure> {
        let program = &self.settings.program;
        let (process, pipes) =
            Process::spawn((self.make_command)(&self.ephemeral_key)).map_err(|source| {
                let cwd = self.settings.cwd.as_deref();
                let error = binary::unusable(program, cwd, &source).unwrap_or_else(|| Error::SpawnFailed {
                    program: program.clone(),
                    source: Arc::new(source),
                });
                Failure { error, exit: None, report: None, stderr_tail: String::new() }
            })?;
        let stderr = Tail::default();
        {
            let mut current = lock(&self.current);
            current.process = Some((process.killer(), process.exit()));
            current.stderr = stderr.clone();
            if current.over {
                process.kill();
            }
        }
        let (child, mut end) = Child::start(process, pipes, stderr, &self.ties);
        let connect = Connect { port, ..self.settings.connect.clone() };
        let ready = child.connect(connect, program, self.settings.ready_timeout);
        let ready = child.until_end(&mut end, ready).await?;
        Ok(Started { child, end, ready })
    }

    /// What a caller of `open` learns of a first start that failed.
    fn start_failed(&self, failure: Failure) -> Error {
        let Failure { error, exit, report, stderr_tail } = failure;
        match error {
            Error::CommandRefused { code, message, retryable, details } => {
                let refusal = ErrorEvent { retryable, details, ..ErrorEvent::new(code, message) };
                Error::StartFailed { report: Some(Box::new(refusal)), exit, stderr_tail }
            }
            Error::SidecarExited { .. } => {
                let (program, cwd) = (&self.settings.program, self.settings.cwd.as_deref());
                let silent = exit.filter(|_| report.is_none());
                let fault = silent.and_then(|exit| binary::unusable_after(program, cwd, exit, &stderr_tail));
                fault.unwrap_or(Error::StartFailed { report, exit, stderr_tail })
            }
            other => other,
        }
    }

    /// A process in the place of one that ended, with all that the program had asked of that.
    async fn replace(&self, before: &Ready) -> Result<Started, Failure> {
        let port = port_of(before).or(self.settings.connect.port);
        let Started { child, mut end, ready } = self.start(port).await?;
        let commands = lock(&self.ties.wanted).commands();
        let waited = self.settings.call_timeout;
        let ask = async {
            if ready.address != before.address {
                let (before, now) = (before.address.clone(), ready.address.clone());
                return Err(Error::IdentityChanged { before, now });
            }
            for command in &commands {
                let late =
                    || Error::CallTimeout { what: command.name().to_owned(), waited, maybe_sent: false };
                match tokio::time::timeout(waited, child.ask(command)).await.unwrap_or_else(|_| Err(late())) {
                    Ok(()) => {}
                    // It was possible once. Nobody waits for this answer, so it is told as an event.
                    Err(Error::CommandRefused { code, message, retryable, details }) => {
                        let message = format!("after a restart, `{}`: {message}", command.name());
                        let error = ErrorEvent { retryable, details, ..ErrorEvent::new(code, message) };
                        self.ties.sink.tell(Event::Error(Box::new(error)));
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        child.until_end(&mut end, ask).await?;
        Ok(Started { child, end, ready })
    }

    /// How the last process ended, if it has.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        lock(&self.current).process.as_ref().and_then(|(_, exit)| exit.status())
    }

    /// What the last process wrote to stderr.
    pub(crate) fn stderr(&self) -> Tail {
        lock(&self.current).stderr.clone()
    }

    fn kill(&self) {
        if let Some((killer, _)) = &lock(&self.current).process {
            killer.kill();
        }
    }

    /// Kills what runs, and whatever is being started.
    fn end(&self) {
        lock(&self.current).over = true;
        self.kill();
    }

    /// Kills what runs, and waits until it is gone.
    async fn kill_and_wait(&self) {
        self.kill();
        let exit = lock(&self.current).process.as_ref().map(|(_, exit)| exit.clone());
        if let Some(mut exit) = exit {
            exit.wait().await;
        }
    }
}

/// The task that has a process take the place of one that ended, again and again, until that is no use, or the node is told to shut
/// down or is dropped. It does not keep the node.
struct Supervision {
    node: Weak<Inner>,
    launch: Arc<Launch>,
    supervisor: Supervisor,
    closing: watch::Receiver<bool>,
    epoch: Instant,
}

impl Supervision {
    async fn run(mut self, child: Arc<Child>, mut end: End) {
        let mut shared = Arc::clone(&child.shared);
        drop(child);
        loop {
            // Its task ends early with the runtime alone, and then this one does too.
            let failure = shared.failure((&mut end).await.ok().flatten());
            let Some(next) = self.next(failure).await else { return };
            let Some(inner) = self.node.upgrade() else { return };
            (shared, end) = (Arc::clone(&next.started.child.shared), next.started.end);
            self.supervisor.ready(self.epoch.elapsed());
            let ready = next.started.ready;
            inner.came_up(next.started.child, ready.clone());
            let (attempt, downtime, ready) = (next.attempt, next.downtime, Box::new(ready));
            self.launch.ties.sink.tell(Event::Restarted { attempt, downtime, ready });
        }
    }

    /// The process after one that failed. Nothing: there is none, and the node is gone.
    async fn next(&mut self, mut failure: Failure) -> Option<Next> {
        let since = Instant::now();
        loop {
            let inner = self.node.upgrade()?;
            if *self.closing.borrow() {
                inner.finish(None);
                return None;
            }
            if matches!(failure.error, Error::VersionMismatch { .. } | Error::IdentityChanged { .. }) {
                inner.finish(Some(failure.error));
                return None;
            }
            let (exit, code) = (failure.exit, failure.exit.and_then(|exit| exit.code()));
            let Some(again) = self.supervisor.ended(code, self.epoch.elapsed(), chance()) else {
                let Failure { report, stderr_tail, .. } = failure;
                inner.finish(Some(Error::SidecarExited { report, exit, stderr_tail }));
                return None;
            };
            inner.went_down(&failure);
            let (attempt, delay, reason) = (again.attempt, again.delay, failure.error.to_string());
            let sink = &self.launch.ties.sink;
            sink.tell(Event::Restarting { reason, exit, delay, attempt });
            if again.unhealthy {
                let crashes = self.launch.settings.restart.map_or(0, |restart| restart.crashes);
                sink.tell(Event::Unhealthy { crashes });
            }
            let before = lock(&inner.ready).clone();
            drop(inner);
            let replaced = async {
                sleep(delay).await;
                self.launch.replace(&before).await
            };
            let replaced = tokio::select! {
                // It is set, or every handle is dropped.
                _ = self.closing.wait_for(|closing| *closing) => None,
                replaced = replaced => Some(replaced),
            };
            match replaced {
                Some(Ok(started)) => return Some(Next { started, attempt, downtime: since.elapsed() }),
                Some(Err(another)) => failure = another,
                None => self.launch.kill_and_wait().await,
            }
        }
    }
}

impl Drop for Supervision {
    /// Without the runtime nobody would say that the node is gone.
    fn drop(&mut self) {
        if let Some(inner) = self.node.upgrade() {
            let (exit, stderr_tail) = (self.launch.status(), self.launch.stderr().quote());
            inner.finish(Some(Error::SidecarExited { report: None, exit, stderr_tail }));
        }
    }
}

struct Next {
    started: Started,
    attempt: u32,
    downtime: Duration,
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
