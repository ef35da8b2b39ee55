//! Start of the node. It retries failures that may be temporary, waits for a previous process with
//! the same identity to exit, buffers the lines that the parent writes meanwhile, and reacts to
//! everything that ends the process.

use std::path::PathBuf;
use std::time::Duration;

use p2p_node_protocol::line::LineError;
use p2p_node_protocol::{
    Answer, Closing, Command, Connect, ErrorCode, ErrorEvent, Event, Level, Log, PROTOCOL_VERSION, Request,
};
use prometheus_client::registry::Registry;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::files::open_files;
use super::identity::Identity;
use super::start::{self, Components, StartError};
use super::{Clock, Node, Prepared, Signals, refuse_on};
use crate::a2a::{A2a, A2aConfig};
use crate::chain::Chain;
use crate::config::{Config, OnEof};
use crate::grpc::{Grpc, GrpcConfig};
use crate::http::{Http, HttpConfig};
use crate::inner::Link;
use crate::io::files::Files;
use crate::io::keystore::IdentityLock;
use crate::io::parent_watcher::ParentWatcher;
use crate::io::sources::Sources;
use crate::io::swarm::SwarmDriver;
use crate::io::traces::Traces;
use crate::pipe::{InputChunk, Line, Pipe};
use crate::socket::{Door, SocketError, default_path};
use p2p_node_core::effect::ExitCode;
use p2p_node_core::{CoreConfig, MAX_INFLIGHT, MAX_INFLIGHT_BYTES};
use p2p_node_store::Store;

/// Number of attempts to start if the failure may be temporary.
///
/// With [`START_PAUSE`] they take 3 s: long enough for another process to close its files, and
/// shorter than the start timeout of a supervisor.
const START_ATTEMPTS: u32 = 7;
/// Pause between two attempts to start.
const START_PAUSE: Duration = Duration::from_millis(500);
/// Interval of the attempts to lock an identity that another process holds. 50 ms are not
/// noticeable in the start time of a node.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// Reasons why the node does not run.
enum Stop {
    /// The start failed.
    Failed(StartError),
    /// Something ended the process during the start; contains the `reason` for the event `closing`.
    Ended(&'static str),
}

impl From<StartError> for Stop {
    fn from(error: StartError) -> Self {
        Stop::Failed(error)
    }
}

/// Input that the parent wrote before the node started.
#[derive(Debug, Default)]
pub(super) struct Early {
    pub(super) lines: Vec<Result<Request, LineError>>,
    /// Bytes of `data` in the `send` commands of `lines`.
    bytes: usize,
    /// End of stdin, once it was read.
    pub(super) end: Option<InputChunk>,
}

impl Early {
    /// Returns `true` if the node may read more. The limits are those of unanswered commands;
    /// further input stays in the pipe.
    fn has_room(&self) -> bool {
        self.end.is_none() && self.lines.len() < MAX_INFLIGHT && self.bytes < MAX_INFLIGHT_BYTES
    }

    fn take(&mut self, batch: InputChunk) {
        match batch {
            InputChunk::Lines(lines) => {
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

    /// Returns the reason to exit if there is no work: `shutdown` or the end of stdin, preceded by
    /// nothing but `connect`.
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

    /// Returns `true` if `connect` selects this protocol version, which numbers the lines and adds
    /// events that the first sidecar did not have.
    fn opts_in(&self) -> bool {
        let version = |line: &Result<Request, LineError>| match line {
            Ok(Request { command: Command::Connect(Connect { protocol, .. }), .. }) => *protocol,
            _ => None,
        };
        self.lines.iter().find_map(version) == Some(PROTOCOL_VERSION)
    }

    /// Rejects all buffered commands because the node exits. Returns the answers and the exit code.
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
                    let error = ErrorEvent::new(
                        ErrorCode::ShuttingDown,
                        "the node is shutting down and was never started; send the command to a new process",
                    );
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

/// State of a node during the start.
struct Opening<'a> {
    config: &'a Config,
    pipe: Pipe,
    clock: Clock,
    signals: Signals,
    parent: Option<ParentWatcher>,
    early: Early,
    /// Notices that were written during the start. Repeated attempts do not repeat a notice.
    reported: Vec<String>,
}

/// What a start opened.
pub(super) struct Started {
    pub(super) core_config: CoreConfig,
    pub(super) store: Option<Store>,
    pub(super) lock: Option<IdentityLock>,
    pub(super) net: SwarmDriver,
    pub(super) sources: Sources,
    pub(super) chain: Chain,
    pub(super) files: Files,
    pub(super) http: Option<Http>,
    pub(super) door: Option<Door>,
    pub(super) grpc: Option<Grpc>,
    pub(super) a2a: Option<A2a>,
    pub(super) traces: Option<Traces>,
}

/// Runs a node on the given pipe until it exits.
pub async fn serve(config: Config, pipe: Pipe) -> ExitCode {
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            return refuse_on(pipe, &StartError::system("installing the signal handlers failed", &error));
        }
    };
    let (clock, early, reported) = (Clock::start(), Early::default(), Vec::new());
    let mut opening = Opening { config: &config, pipe, clock, signals, parent: None, early, reported };
    match opening.prepare().await {
        Ok(started) => {
            let Opening { pipe, clock, signals, parent, early, reported, .. } = opening;
            let prepared = Prepared { started, signals, parent, commands: config.commands(), early };
            Node::new(prepared, pipe, clock, reported.len() as u64).run().await
        }
        Err(Stop::Failed(error)) => refuse_on(opening.pipe, &error),
        Err(Stop::Ended(reason)) => opening.end(reason),
    }
}

impl Opening<'_> {
    async fn prepare(&mut self) -> Result<Started, Stop> {
        // Must come first: if the parent exits during the remaining steps, a later watch could not
        // distinguish it from a process that never existed.
        if let Some(pid) = self.config.parent_pid {
            let watched =
                ParentWatcher::watch(pid, &mut |message| notice(&self.pipe, &mut self.reported, message));
            self.parent =
                watched.map_err(|error| StartError::system("watching the parent process failed", &error))?;
        }
        let (config, clock) = (self.config, self.clock);
        let identity = self.with_retries(|_| Identity::from_config(config, clock.now())).await?;
        let lock = self.lock(&identity).await?;
        let start =
            |notice: &mut dyn FnMut(String)| start::start(config, identity.clone(), clock.now(), notice);
        let Components { mut core_config, swarm, store, sources, chain, traces } =
            self.with_retries(start).await?;
        let http = HttpConfig::of(config).map_err(StartError::from)?;
        let mut metrics = http.is_some().then(Registry::default);
        let mut net = SwarmDriver::measured(swarm, metrics.as_mut())
            .map_err(|error| StartError::system("setting up libp2p failed", &error))?;
        let files = open_files(config, &mut net)?;
        let (link, clients) = Link::pair();
        let http = match (http, metrics) {
            (Some(config), Some(metrics)) => {
                let observer = (!self.config.has_parent).then(|| link.clone());
                let listens = Http::bind(&config, metrics, observer).await;
                Some(listens.map_err(|why| StartError::Http { addr: config.addr, why })?)
            }
            _ => None,
        };
        core_config.http = http.as_ref().map(Http::url);
        let Doors { door, grpc, a2a } = open_doors(config, &identity, link, clients)?;
        core_config.grpc = grpc.as_ref().map(Grpc::target);
        core_config.a2a = a2a.as_ref().map(A2a::url);
        Ok(Started { core_config, store, lock, net, sources, chain, files, traces, http, door, grpc, a2a })
    }

    /// Calls `attempt` until it succeeds, or fails for a permanent reason, at most
    /// [`START_ATTEMPTS`] times.
    async fn with_retries<T>(
        &mut self,
        mut attempt: impl FnMut(&mut dyn FnMut(String)) -> Result<T, StartError>,
    ) -> Result<T, Stop> {
        for _ in 1..START_ATTEMPTS {
            let error = match attempt(&mut |message| notice(&self.pipe, &mut self.reported, message)) {
                Err(error) if error.is_transient() => error,
                done => return Ok(done?),
            };
            tracing::warn!("the start failed and will be tried again: {error}");
            match self.pause(START_PAUSE).await {
                // The failed start takes precedence over the end of stdin.
                Err(Stop::Ended("eof")) => return Err(error.into()),
                other => other?,
            }
        }
        Ok(attempt(&mut |message| notice(&self.pipe, &mut self.reported, message))?)
    }

    /// Locks the identity. Waits a limited time for another process that holds the lock.
    async fn lock(&mut self, identity: &Identity) -> Result<Option<IdentityLock>, Stop> {
        if identity.is_made_up(self.config) {
            return Ok(None);
        }
        let peer_id = identity.node_key.peer_id().to_string();
        let patience = start::patience(self.config);
        let deadline = self.clock.now().mono + patience;
        let mut is_reported = false;
        loop {
            let error = {
                let mut report = |message| notice(&self.pipe, &mut self.reported, message);
                let error = match IdentityLock::acquire(&peer_id, &self.config.lock_scope, &mut report) {
                    Ok(lock) => return Ok(lock),
                    Err(error) => error,
                };
                if self.clock.now().mono >= deadline {
                    return Err(StartError::from(error).into());
                }
                if !std::mem::replace(&mut is_reported, true) {
                    let secs = patience.as_secs_f32().ceil();
                    report(format!(
                        "the identity {peer_id} is in use by {}: waiting up to {secs} s for that process to exit",
                        error.holder
                    ));
                }
                error
            };
            match self.pause(LOCK_RETRY).await {
                // The failed start takes precedence over the end of stdin.
                Err(Stop::Ended("eof")) => return Err(StartError::from(error).into()),
                other => other?,
            }
        }
    }

    /// Sleeps for `time` while buffering input. Fails if something ends the node.
    async fn pause(&mut self, time: Duration) -> Result<(), Stop> {
        let time = tokio::time::sleep(time);
        tokio::pin!(time);
        loop {
            tokio::select! {
                biased;
                () = self.signals.next() => return Err(Stop::Ended("signal")),
                _ = ParentWatcher::ended(&mut self.parent) => return Err(Stop::Ended("parent")),
                () = self.pipe.progress.changed(), if !self.pipe.progress.closed() => {}
                batch = self.pipe.input.recv(), if self.early.has_room() => {
                    self.early.take(batch.unwrap_or(InputChunk::Ended));
                }
                () = &mut time => return Ok(()),
            }
            if self.pipe.progress.closed() {
                return Err(Stop::Ended("output"));
            }
            if let Some(reason) =
                self.early.ends_idle().filter(|reason| *reason != "eof" || self.ends_on_eof())
            {
                return Err(Stop::Ended(reason));
            }
        }
    }

    /// Returns `true` if a node without work exits at the end of stdin.
    fn ends_on_eof(&self) -> bool {
        let Config { on_eof, receive_after_eof, require_delivery, .. } = self.config;
        *on_eof == OnEof::Exit && receive_after_eof.is_zero() && !require_delivery
    }

    /// Rejects the buffered commands, emits `closing` and returns the exit code.
    fn end(self, reason: &'static str) -> ExitCode {
        let is_numbered = self.config.connect || self.early.opts_in();
        let (mut events, code) = self.early.refuse();
        if is_numbered {
            events.push(Event::Closing(Closing { reason: reason.to_owned() }));
        }
        let lines: Vec<Line> = events.into_iter().map(|event| (event, is_numbered)).collect();
        // A parent that does not read still gets the exit code.
        let _ = self.pipe.output.send(lines);
        self.pipe.output.finish(super::FINISH_TIMEOUT);
        code
    }
}

/// The ways of programs into the node, beside the pipe.
struct Doors {
    door: Option<Door>,
    grpc: Option<Grpc>,
    a2a: Option<A2a>,
}

/// Opens the socket for clients, the gRPC server and the A2A gateway. Clients that the node itself attaches
/// by `link` come to the same door.
fn open_doors(
    config: &Config,
    identity: &Identity,
    link: Link,
    clients: mpsc::Receiver<UnixStream>,
) -> Result<Doors, StartError> {
    let door = socket_path(config, identity)?.map(|path| Door::open(&path)).transpose()?;
    let grpc = GrpcConfig::of(config)?.map(|grpc| {
        Grpc::bind(&grpc, link.clone()).map_err(|why| StartError::Grpc { addr: grpc.addr.clone(), why })
    });
    let grpc = grpc.transpose()?;
    let a2a = A2aConfig::of(config)?.map(|a2a| {
        let addr = a2a.addr;
        A2a::bind(a2a, &identity.node_key, identity.binding.binding.account, link)
            .map_err(|why| StartError::A2a { addr, why })
    });
    let a2a = a2a.transpose()?;
    let attaches = grpc.is_some() || a2a.is_some();
    let door = door.or_else(|| attaches.then(Door::without_listener));
    Ok(Doors { door: door.map(|door| door.attaching(clients)), grpc, a2a })
}

/// Returns the path of the socket: the configured one, or for a daemon that of its identity.
///
/// # Errors
/// Fails if a daemon has no path, or there is no runtime directory for it.
pub(crate) fn socket_path(config: &Config, identity: &Identity) -> Result<Option<PathBuf>, SocketError> {
    if config.socket.is_some() || config.has_parent {
        return Ok(config.socket.clone());
    }
    if identity.is_made_up(config) {
        return Err(SocketError::NoName);
    }
    let peer_id = identity.node_key.peer_id().to_string();
    default_path(&config.network, &peer_id, &config.lock_scope).map(Some)
}

/// Writes a warning as a `log` event, because the core does not run yet. Repeated messages are
/// ignored.
fn notice(pipe: &Pipe, reported: &mut Vec<String>, message: String) {
    if reported.contains(&message) {
        return;
    }
    tracing::warn!("{message}");
    let log = Log { level: Level::Warn, namespace: "start".to_owned(), message: message.clone(), meta: None };
    if pipe.output.send(vec![(Event::Log(Box::new(log)), false)]).is_ok() {
        reported.push(message);
    }
}
