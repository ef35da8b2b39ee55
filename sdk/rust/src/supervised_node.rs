//! A node across restarts: the current process, and the task that replaces it when it ends.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use p2p_node_protocol::{Message, Ready};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::builder::{AckMode, Settings};
use crate::channel::MAX_PENDING;
use crate::child::{Child, ChildContext, End};
use crate::events::{Event, Events};
use crate::inbox::Sink;
use crate::launcher::{Launcher, MakeCommand, Started};
use crate::outgoing::Outgoing;
use crate::process::lock;
use crate::shared::Failure;
use crate::supervisor::Supervisor;

/// The state that all handles of a node share. Dropping the last handle kills the process at once,
/// with or without a runtime.
pub(crate) struct Inner {
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) state: watch::Sender<State>,
    /// The latest `ready` event of the process.
    pub(crate) ready: Mutex<Ready>,
    /// One permit for each outstanding request, except `send`s.
    pub(crate) permits: Arc<Semaphore>,
    /// `true` after the program has closed the node.
    pub(crate) closing: watch::Sender<bool>,
}

/// The state of the node's process.
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
        let sink = Sink::new(settings.buffers, settings.ack == AckMode::Manual, wake.clone());
        let events = Events::new(sink.clone());
        let (outgoing, desired) = (Arc::new(Outgoing::new(wake)), Arc::default());
        let (hub, on_stderr) = (Arc::default(), settings.on_stderr.clone());
        let context = ChildContext { sink, outgoing, desired, hub, on_stderr };
        let mut supervisor = Supervisor::new(settings.restart);
        let (current, ephemeral_key) = (Mutex::default(), random_key());
        let launcher = Arc::new(Launcher { settings, make_command, ephemeral_key, context, current });
        let port = launcher.settings.connect.port;
        let started = launcher.start(port).await;
        let Started { child, end, ready } = started.map_err(|failure| launcher.start_failed(failure))?;
        child.serve(&ready);
        let epoch = Instant::now();
        supervisor.ready(Duration::ZERO);
        let inner = Arc::new(Inner {
            launcher: Arc::clone(&launcher),
            state: watch::Sender::new(State::Up(Arc::clone(&child))),
            ready: Mutex::new(ready),
            permits: Arc::new(Semaphore::new(MAX_PENDING)),
            closing: watch::Sender::new(false),
        });
        let (node, closing) = (Arc::downgrade(&inner), inner.closing.subscribe());
        let task = SupervisorTask { node, launcher, supervisor, closing, epoch };
        tokio::spawn(task.run(child, end));
        Ok((inner, events))
    }

    /// Waits for a ready process other than `gone` and returns it.
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
        // `self` owns the sender, so the wait cannot fail.
        match &*settled.await.map_err(|_| Error::NodeClosed)? {
            State::Up(child) => Ok(Arc::clone(child)),
            State::Down => Err(Error::NodeClosed),
            State::Gone(error) => Err(error.clone()),
        }
    }

    /// Returns the queue of `send`s of this node.
    pub(crate) fn outgoing(&self) -> &Arc<Outgoing> {
        &self.launcher.context.outgoing
    }

    /// Returns the sink for the events of all processes of this node.
    pub(crate) fn sink(&self) -> &Sink {
        &self.launcher.context.sink
    }

    /// Drains and stops the node. Returns the messages that the program has not read.
    pub(crate) async fn close(&self) -> Vec<Message> {
        self.closing.send_replace(true);
        self.sink().withhold_mail();
        self.outgoing().fail_all(&Error::NodeClosed);
        let closer = match &*self.state.borrow() {
            State::Up(child) => Some(child.closer()),
            State::Down | State::Gone(_) => None,
        };
        if let Some(closer) = closer {
            tokio::spawn(closer.run(self.launcher.settings.grace));
        }
        // `self` owns the sender, so the wait cannot fail.
        let _ = self.state.subscribe().wait_for(|state| matches!(state, State::Gone(_))).await;
        self.sink().drain_mail()
    }

    /// Handles the end of the process before a restart.
    fn on_exit(&self, failure: &Failure) {
        let (report, exit, stderr_tail) = (failure.report.clone(), failure.exit, failure.stderr_tail.clone());
        let error = Error::SidecarRestarted { report, exit, stderr_tail, maybe_sent: false };
        let before = self.state.send_replace(State::Down);
        if let State::Up(child) = before {
            child.shared.close(error.clone());
        }
        self.launcher.context.hub.process_ended();
        self.launcher.context.sink.process_ended(&error);
    }

    fn on_ready(&self, child: Arc<Child>, ready: Ready) {
        child.serve(&ready);
        *lock(&self.ready) = ready;
        self.state.send_replace(State::Up(child));
        // `close` found no process to stop while this one was starting.
        if *self.closing.borrow() {
            self.launcher.kill();
        }
    }

    /// Ends the node for good: no process runs, and none will start. Only the first call has an
    /// effect on the state.
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
        self.launcher.end();
        if let Some(State::Up(child)) = &before {
            child.shared.close(gone.clone());
        }
        self.outgoing().fail_all(&gone);
        self.launcher.context.hub.process_ended();
        self.launcher.context.sink.last_process_ended(&gone);
        self.launcher.context.sink.close(Event::Closed { error: error.map(Box::new) });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.finish(None);
    }
}

/// Restarts the process each time it ends, until a restart is useless or the program closes or
/// drops the node. Holds only a weak reference, so that it does not keep the node alive.
struct SupervisorTask {
    node: Weak<Inner>,
    launcher: Arc<Launcher>,
    supervisor: Supervisor,
    closing: watch::Receiver<bool>,
    epoch: Instant,
}

impl SupervisorTask {
    async fn run(mut self, child: Arc<Child>, mut end: End) {
        let mut shared = Arc::clone(&child.shared);
        drop(child);
        loop {
            // The task of `end` stops early only with the runtime, which stops this task too.
            let failure = shared.failure((&mut end).await.ok().flatten());
            let Some(next) = self.next(failure).await else { return };
            let Some(inner) = self.node.upgrade() else { return };
            (shared, end) = (Arc::clone(&next.started.child.shared), next.started.end);
            self.supervisor.ready(self.epoch.elapsed());
            let ready = next.started.ready;
            inner.on_ready(next.started.child, ready.clone());
            let (attempt, downtime, ready) = (next.attempt, next.downtime, Box::new(ready));
            self.launcher.context.sink.push(Event::Restarted { attempt, downtime, ready });
        }
    }

    /// Starts the process that follows a failed one. Returns `None` if the node has ended.
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
            let Some(decision) = self.supervisor.ended(code, self.epoch.elapsed(), chance()) else {
                let Failure { report, stderr_tail, .. } = failure;
                inner.finish(Some(Error::SidecarExited { report, exit, stderr_tail }));
                return None;
            };
            inner.on_exit(&failure);
            let (attempt, delay, reason) = (decision.attempt, decision.delay, failure.error.to_string());
            let sink = &self.launcher.context.sink;
            sink.push(Event::Restarting { reason, exit, delay, attempt });
            if decision.unhealthy {
                let crashes = self.launcher.settings.restart.map_or(0, |restart| restart.crashes);
                sink.push(Event::Unhealthy { crashes });
            }
            let before = lock(&inner.ready).clone();
            drop(inner);
            let replaced = async {
                sleep(delay).await;
                self.launcher.replace(&before).await
            };
            let replaced = tokio::select! {
                // The program closed the node or dropped every handle.
                _ = self.closing.wait_for(|closing| *closing) => None,
                replaced = replaced => Some(replaced),
            };
            match replaced {
                Some(Ok(started)) => return Some(Next { started, attempt, downtime: since.elapsed() }),
                Some(Err(another)) => failure = another,
                None => self.launcher.kill_and_wait().await,
            }
        }
    }
}

impl Drop for SupervisorTask {
    /// Ends the node if the runtime drops this task, because no other code would report the end.
    fn drop(&mut self) {
        if let Some(inner) = self.node.upgrade() {
            let (exit, stderr_tail) = (self.launcher.status(), self.launcher.stderr().quote());
            inner.finish(Some(Error::SidecarExited { report: None, exit, stderr_tail }));
        }
    }
}

struct Next {
    started: Started,
    attempt: u32,
    downtime: Duration,
}

/// Returns a random key for an agent without one. The node's restarts use the same key.
fn random_key() -> String {
    let mut key = String::from("0x");
    for _ in 0..4 {
        // Without a random source the key would not be secret.
        let word = getrandom::u64().expect("the system has randomness");
        key.push_str(&format!("{word:016x}"));
    }
    key
}

/// Returns a random number from 0 to 1.
fn chance() -> f64 {
    // Without a random source the pauses are only not spread.
    getrandom::u32().map_or(0.5, |word| f64::from(word) / f64::from(u32::MAX))
}
