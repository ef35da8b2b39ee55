//! What a node does until it can start: it tries again where the cause of a failure may pass, waits for a predecessor that is about to
//! end, keeps what the parent writes meanwhile, and notices what ends it.

use std::time::Duration;

use p2p_node_protocol::line::LineError;
use p2p_node_protocol::{
    Answer, Closing, Command, Connect, ErrorCode, ErrorEvent, Event, Level, Log, PROTOCOL_VERSION, Request,
};

use super::identity::Identity;
use super::start::{self, StartError, Started};
use super::{Clock, Node, Prepared, Signals, refuse_on};
use crate::config::{Config, OnEof};
use crate::front::{Batch, Front, Line};
use crate::io::keystore::IdentityLock;
use crate::io::parent::Parent;
use crate::io::store::Store;
use crate::io::swarm::SwarmDriver;
use p2p_node_core::effect::ExitCode;
use p2p_node_core::{CoreConfig, MAX_INFLIGHT, MAX_INFLIGHT_BYTES};

/// How often the node tries to start while the cause of its failure may pass, and how long it waits after each attempt. Ours: 3 s in
/// all, long enough for a neighbour's burst of files, and shorter than what a supervisor waits for.
const START_ATTEMPTS: u32 = 7;
const START_PAUSE: Duration = Duration::from_millis(500);
/// How often an identity that another process holds is asked for again. Ours: nobody notices it beside the start of a node.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// Why there is no node.
enum Stop {
    /// It cannot start.
    Failed(StartError),
    /// It was to end before it could; the reason of the `closing`.
    Ended(&'static str),
}

impl From<StartError> for Stop {
    fn from(error: StartError) -> Self {
        Stop::Failed(error)
    }
}

/// What the parent wrote before the node could start.
#[derive(Debug, Default)]
pub(super) struct Early {
    pub(super) lines: Vec<Result<Request, LineError>>,
    /// Bytes of `data` of the `send`s among them.
    bytes: usize,
    /// How stdin ended, if it did.
    pub(super) end: Option<Batch>,
}

impl Early {
    /// Whether more is read. A parent may have so much unanswered; the rest stays in the pipe.
    fn has_room(&self) -> bool {
        self.end.is_none() && self.lines.len() < MAX_INFLIGHT && self.bytes < MAX_INFLIGHT_BYTES
    }

    fn take(&mut self, batch: Batch) {
        match batch {
            Batch::Lines(lines) => {
                let sends = lines.iter().flatten().filter_map(|request| match &request.command {
                    Command::Send(send) => Some(send.data.get().len()),
                    _ => None,
                });
                self.bytes += sends.sum::<usize>();
                self.lines.extend(lines);
            }
            end => self.end = Some(end),
        }
    }

    /// What ends a node that has nothing to do: the end of stdin or a `shutdown`, with nothing but a `connect` before it.
    fn ends_idle(&self) -> Option<&'static str> {
        let is_idle = |line: &&Result<Request, LineError>| {
            matches!(line, Ok(Request { command: Command::Connect(_), .. }))
        };
        match self.lines.iter().find(|line| !is_idle(line)) {
            Some(Ok(Request { command: Command::Shutdown(_), .. })) => Some("shutdown"),
            Some(_) => None,
            None => self.end.as_ref().map(|_| "eof"),
        }
    }

    /// Whether the parent has asked for the lines that the first sidecar did not have.
    fn opts_in(&self) -> bool {
        let version = |line: &Result<Request, LineError>| match line {
            Ok(Request { command: Command::Connect(Connect { protocol, .. }), .. }) => *protocol,
            _ => None,
        };
        self.lines.iter().find_map(version) == Some(PROTOCOL_VERSION)
    }

    /// Answers everything, because the node ends; and the exit code.
    fn refuse(self) -> (Vec<Event>, ExitCode) {
        let mut code = ExitCode::Ok;
        let answers = self.lines.into_iter().filter_map(|line| match line {
            Ok(Request { id, command: Command::Shutdown(_) }) => {
                id.map(|id| Event::Result(Box::new(Answer::new(id, "shutdown"))))
            }
            Ok(Request { id, command }) => {
                if let Command::Send(_) = command {
                    code = ExitCode::Undelivered;
                }
                id.map(|id| {
                    let error = ErrorEvent::new(ErrorCode::ShuttingDown, "the node closed before it started");
                    Event::Error(Box::new(ErrorEvent { id: Some(id), ..error }))
                })
            }
            Err(bad) => Some(Event::Error(Box::new(ErrorEvent {
                id: bad.id,
                ..ErrorEvent::new(bad.code, bad.message)
            }))),
        });
        (answers.collect(), code)
    }
}

/// A node that does not run yet.
struct Opening<'a> {
    config: &'a Config,
    front: Front,
    clock: Clock,
    signals: Signals,
    parent: Option<Parent>,
    early: Early,
    /// The logs that the writer was given before the core said anything, each once over all attempts.
    told: Vec<String>,
}

/// Runs a node on any front until it ends.
pub async fn serve(config: Config, front: Front) -> ExitCode {
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return refuse_on(front, &StartError::system("signals cannot be caught", &error)),
    };
    let (clock, early, told) = (Clock::start(), Early::default(), Vec::new());
    let mut opening = Opening { config: &config, front, clock, signals, parent: None, early, told };
    match opening.prepare().await {
        Ok((setup, store, lock, net)) => {
            let Opening { front, clock, signals, parent, early, told, .. } = opening;
            let prepared = Prepared { setup, store, lock, net, signals, parent, early };
            Node::new(prepared, front, clock, told.len() as u64).run().await
        }
        Err(Stop::Failed(error)) => refuse_on(opening.front, &error),
        Err(Stop::Ended(reason)) => opening.end(reason),
    }
}

impl Opening<'_> {
    async fn prepare(
        &mut self,
    ) -> Result<(CoreConfig, Option<Store>, Option<IdentityLock>, SwarmDriver), Stop> {
        // First, because the rest may take its time, and a process that has ended by then cannot be told from one that was never there.
        if let Some(pid) = self.config.parent_pid {
            let watched = Parent::watch(pid, &mut |message| notice(&self.front, &mut self.told, message));
            self.parent =
                watched.map_err(|error| StartError::system("the parent cannot be watched", &error))?;
        }
        let (config, clock) = (self.config, self.clock);
        let identity = self.patiently(|_| Identity::of(config, clock.now())).await?;
        let lock = self.lock(&identity).await?;
        let start =
            |notice: &mut dyn FnMut(String)| start::start(config, identity.clone(), clock.now(), notice);
        let Started { setup, swarm, store } = self.patiently(start).await?;
        let net =
            SwarmDriver::new(swarm).map_err(|error| StartError::system("libp2p cannot be set up", &error))?;
        Ok((setup, store, lock, net))
    }

    /// Does something that may fail for a cause that passes.
    async fn patiently<T>(
        &mut self,
        mut attempt: impl FnMut(&mut dyn FnMut(String)) -> Result<T, StartError>,
    ) -> Result<T, Stop> {
        for _ in 1..START_ATTEMPTS {
            let error = match attempt(&mut |message| notice(&self.front, &mut self.told, message)) {
                Err(error) if error.may_pass() => error,
                done => return Ok(done?),
            };
            tracing::warn!("the node cannot start at present: {error}");
            match self.pause(START_PAUSE).await {
                // It would not have started, which is more than that it had nothing to do.
                Err(Stop::Ended("eof")) => return Err(error.into()),
                other => other?,
            }
        }
        Ok(attempt(&mut |message| notice(&self.front, &mut self.told, message))?)
    }

    /// Takes the lock of the identity, or waits for another process that is about to let go of it.
    async fn lock(&mut self, identity: &Identity) -> Result<Option<IdentityLock>, Stop> {
        if identity.is_made_up(self.config) {
            return Ok(None);
        }
        let peer_id = identity.node_key.peer_id().to_string();
        let patience = start::patience(self.config);
        let deadline = self.clock.now().mono + patience;
        let mut is_told = false;
        loop {
            let error = {
                let mut tell = |message| notice(&self.front, &mut self.told, message);
                let error = match IdentityLock::acquire(&peer_id, &self.config.lock_scope, &mut tell) {
                    Ok(lock) => return Ok(lock),
                    Err(error) => error,
                };
                if self.clock.now().mono >= deadline {
                    return Err(StartError::from(error).into());
                }
                if !std::mem::replace(&mut is_told, true) {
                    let secs = patience.as_secs_f32().ceil();
                    tell(format!(
                        "the identity {peer_id} is in use by {}: waiting up to {secs} s for it to end",
                        error.holder
                    ));
                }
                error
            };
            match self.pause(LOCK_RETRY).await {
                // It would not have started, which is more than that it had nothing to do.
                Err(Stop::Ended("eof")) => return Err(StartError::from(error).into()),
                other => other?,
            }
        }
    }

    /// Lets a time pass, unless something ends the node.
    async fn pause(&mut self, time: Duration) -> Result<(), Stop> {
        let time = tokio::time::sleep(time);
        tokio::pin!(time);
        loop {
            tokio::select! {
                biased;
                () = self.signals.next() => return Err(Stop::Ended("signal")),
                _ = Parent::ended(&mut self.parent) => return Err(Stop::Ended("parent")),
                () = self.front.progress.changed(), if !self.front.progress.closed() => {}
                batch = self.front.input.recv(), if self.early.has_room() => {
                    self.early.take(batch.unwrap_or(Batch::Ended));
                }
                () = &mut time => return Ok(()),
            }
            if self.front.progress.closed() {
                return Err(Stop::Ended("output"));
            }
            if let Some(reason) =
                self.early.ends_idle().filter(|reason| *reason != "eof" || self.ends_on_eof())
            {
                return Err(Stop::Ended(reason));
            }
        }
    }

    /// Whether a node that has nothing to do ends with its stdin.
    fn ends_on_eof(&self) -> bool {
        let Config { on_eof, receive_after_eof, require_delivery, .. } = self.config;
        *on_eof == OnEof::Exit && receive_after_eof.is_zero() && !require_delivery
    }

    /// Answers what the parent wrote, and says that the node ends.
    fn end(self, reason: &'static str) -> ExitCode {
        let is_numbered = self.config.connect || self.early.opts_in();
        let (mut events, code) = self.early.refuse();
        if is_numbered {
            events.push(Event::Closing(Closing { reason: reason.to_owned() }));
        }
        let lines: Vec<Line> = events.into_iter().map(|event| (event, is_numbered)).collect();
        // A parent that does not read learns by the exit code.
        let _ = self.front.output.send(lines);
        self.front.output.finish(super::FINISH_TIMEOUT);
        code
    }
}

/// Tells a person something before the core can, once.
fn notice(front: &Front, told: &mut Vec<String>, message: String) {
    if told.contains(&message) {
        return;
    }
    tracing::warn!("{message}");
    let log = Log { level: Level::Warn, namespace: "start".to_owned(), message: message.clone(), meta: None };
    if front.output.send(vec![(Event::Log(Box::new(log)), false)]).is_ok() {
        told.push(message);
    }
}
