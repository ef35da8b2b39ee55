//! The main loop of the node. It owns the core and all I/O, reads the clocks, and makes no
//! decisions.
//!
//! Each turn passes the available commands and a limited number of network events to the core, lets
//! the core handle its timeouts, executes every effect, and gives the writer one batch of lines.

mod clients;
mod clock;
mod files;
mod http;
mod identity;
mod opening;
mod signals;
mod sources;
mod start;

use std::time::Duration;

use p2p_node_protocol::line::LineError;
use p2p_node_protocol::{Command, ErrorEvent, Event, Request};

use crate::a2a::A2a;
use crate::chain::Chain;
use crate::config::Config;
use crate::grpc::Grpc;
use crate::http::Http;
use crate::io::crypto::Pool;
use crate::io::files::Files;
use crate::io::keystore::IdentityLock;
use crate::io::parent_watcher::ParentWatcher;
use crate::io::sources::Sources;
use crate::io::swarm::SwarmDriver;
use crate::io::traces::Traces;
use crate::logging;
use crate::panic_hook;
use crate::pipe::{InputChunk, Pipe};
use crate::socket::{Door, DoorEvent};
use clients::Lines;
use clock::Clock;
pub use clock::{now, unix_ms};
pub use identity::Identity;
pub use opening::serve;
pub(crate) use opening::socket_path;
use opening::{Early, Started};
use p2p_node_core::Core;
use p2p_node_core::client_id::ClientId;
use p2p_node_core::crypto_task::POOL_QUEUE;
use p2p_node_core::effect::{Effect, ExitCode};
use p2p_node_core::input::{DropKind, Input, Now};
use p2p_node_store::Store;
pub(crate) use signals::Signals;
pub use start::{StartError, VERSION};

/// Maximum number of commands per turn. 512 commands fill about one batch of direct messages, so
/// that the first frames leave before the node has read all its input.
const COMMANDS_PER_TURN: usize = 512;
/// Maximum number of network events per turn. The limit lets commands and timers run under load.
const NETWORK_EVENTS_PER_TURN: usize = 128;
/// Time for the last lines when the process exits. The core has already waited for the parent
/// during the drain.
const FINISH_TIMEOUT: Duration = Duration::from_millis(500);
/// Maximum sleep of the loop. The timers of tokio do not advance during a suspend, and a jump of
/// the wall clock does not wake the loop; the core detects both after at most this time. 10 s is
/// short compared with every deadline that a suspend or jump can pass. See
/// docs/adr/0004-two-clocks.md.
const MAX_SLEEP: Duration = Duration::from_secs(10);

/// Runs a node on stdin and stdout until it exits.
pub fn run(config: Config) -> ExitCode {
    // One thread runs both the loop and the connections: the hand-over between two threads costs
    // each message as much as the second thread gains.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&StartError::system("the tokio runtime failed to start", &error)),
    };
    let pipe = {
        // The runtime polls the pipe.
        let _entered = runtime.enter();
        Pipe::stdio()
    };
    let pipe = match pipe {
        Ok(pipe) => pipe,
        Err(error) => {
            tracing::error!("the node cannot start: {error}");
            return ExitCode::Io;
        }
    };
    panic_hook::end_process_on_panic(pipe.crash_reporter());
    let code = runtime.block_on(serve(config, pipe));
    // A blocking read of stdin cannot be cancelled. All state is already persisted.
    runtime.shutdown_background();
    code
}

/// Parts of a node, except its pipe and clock.
struct Prepared {
    started: Started,
    signals: Signals,
    parent: Option<ParentWatcher>,
    /// Commands that the configuration stands for.
    commands: Vec<Command>,
    /// Lines that the parent wrote during the start.
    early: Early,
}

/// Writes the error of a failed start to stdout and returns the exit code. Must be called before
/// anything else is written to stdout.
pub fn refuse(error: &StartError) -> ExitCode {
    match Pipe::stdio() {
        Ok(pipe) => refuse_on(pipe, error),
        Err(_) => error.exit_code(),
    }
}

fn refuse_on(pipe: Pipe, error: &StartError) -> ExitCode {
    tracing::error!("{error}");
    let event = Event::Error(Box::new(ErrorEvent::new(error.code(), error.to_string())));
    // The queue of the writer has room, because nothing but notices was written. A parent that does
    // not read still gets the exit code.
    let _ = pipe.output.send(vec![(event, false)]);
    pipe.output.finish(FINISH_TIMEOUT);
    error.exit_code()
}

/// Returns the next event of the store; never completes without a store.
async fn next_store_event(store: &mut Option<Store>) -> Input {
    match store {
        Some(store) => store.next().await,
        None => std::future::pending().await,
    }
}

/// Returns the next event of the socket for clients; never completes without one.
async fn next_door_event(door: &mut Option<Door>, core: &Core) -> DoorEvent {
    match door {
        Some(door) => door.next(core).await,
        None => std::future::pending().await,
    }
}

struct Node {
    core: Core,
    net: SwarmDriver,
    sources: Sources,
    chain: Chain,
    files: Files,
    http: Option<Http>,
    door: Option<Door>,
    grpc: Option<Grpc>,
    a2a: Option<A2a>,
    traces: Option<Traces>,
    crypto: Pool,
    store: Option<Store>,
    pipe: Pipe,
    signals: Signals,
    parent: Option<ParentWatcher>,
    clock: Clock,
    /// Identity lock, held until the process exits.
    _lock: Option<IdentityLock>,
    /// Lines that the node has read and the core has not yet accepted.
    waiting: std::vec::IntoIter<Result<Request, LineError>>,
    /// End of stdin, if it arrived during the start. It follows `waiting`.
    input_end: Option<InputChunk>,
    input_open: bool,
    /// A daemon has none, and what becomes of its stdout does not matter.
    has_parent: bool,
    written: u64,
    closed_reported: bool,
}

impl Node {
    fn new(prepared: Prepared, pipe: Pipe, clock: Clock, written: u64) -> Self {
        let Prepared { started, signals, parent, commands, early } = prepared;
        let Started { core_config, store, lock, net, sources, chain, files, http, door, grpc, a2a, traces } =
            started;
        let has_parent = core_config.has_parent;
        let configured = commands.into_iter().map(|command| Ok(Request { id: None, command }));
        Node {
            core: Core::new(core_config, clock.now()),
            net,
            sources,
            chain,
            files,
            http,
            door,
            grpc,
            a2a,
            traces,
            crypto: Pool::new(1, POOL_QUEUE),
            store,
            pipe,
            signals,
            parent,
            clock,
            _lock: lock,
            waiting: configured.chain(early.lines).collect::<Vec<_>>().into_iter(),
            input_end: early.end,
            input_open: has_parent,
            has_parent,
            written,
            closed_reported: false,
        }
    }

    async fn run(mut self) -> ExitCode {
        loop {
            let now = self.clock.now();
            self.poll_writer(now);
            self.report_drops(now);
            self.accept_commands(now);
            self.poll_http(now);
            if let Some(meshes) = self.net.meshes_due(now.mono) {
                self.core.handle(meshes, now);
            }
            for _ in 0..NETWORK_EVENTS_PER_TURN {
                let Some(input) = self.net.try_next() else { break };
                self.core.handle(input, now);
            }
            let end = loop {
                self.core.handle_timeout(now);
                let end = self.execute_effects(now);
                // What the loop itself wrote makes room for the next lines.
                if end.is_some() || !self.poll_writer(now) {
                    break end;
                }
            };
            if let Some(code) = end {
                self.pipe.output.finish(FINISH_TIMEOUT);
                // Its clients at the door have got their last lines.
                drop(self.door);
                if let Some(grpc) = self.grpc {
                    grpc.close(FINISH_TIMEOUT).await;
                }
                self.sources.close().await;
                self.net.close().await;
                if let Some(traces) = self.traces {
                    traces.close().await;
                }
                if let Some(store) = self.store {
                    store.close().await;
                }
                return code;
            }
            let is_ready = self.core.is_ready();
            self.grpc.iter().for_each(|grpc| grpc.set_ready(is_ready));
            self.a2a.iter().for_each(|a2a| a2a.set_ready(is_ready));
            if !self.has_more() {
                self.wait(now).await;
            } else if self.door.is_some() {
                // The connections run as tasks of the same thread. A client that floods must not keep
                // them, or the sockets, from their turn.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Reports the progress of the writer. Returns `true` if it wrote lines.
    fn poll_writer(&mut self, now: Now) -> bool {
        let written = self.pipe.progress.written();
        let has_written = written > self.written;
        if has_written {
            let lines = (written - self.written) as usize;
            self.written = written;
            self.core.handle(Input::Written { client: ClientId::PARENT, lines }, now);
        }
        let has_written = has_written | self.poll_clients(now);
        if self.has_parent && self.pipe.progress.closed() && !self.closed_reported {
            self.closed_reported = true;
            if let Some(failure) = self.pipe.progress.failure() {
                tracing::warn!("writing to stdout failed, no more events will be written: {failure}");
            }
            let broken = self.pipe.progress.failure().is_some();
            self.core.handle(Input::StdoutClosed { broken }, now);
        }
        has_written
    }

    /// Reports what was dropped outside the loop since the last turn.
    fn report_drops(&mut self, now: Now) {
        let spans = self.traces.as_ref().map_or(0, Traces::take_dropped);
        let of_grpc = self.grpc.as_ref().map(Grpc::take_drops).into_iter().flatten();
        let of_a2a = self.a2a.as_ref().map(A2a::take_drops).into_iter().flatten();
        let of_logs = [(DropKind::LogLine, logging::take_dropped()), (DropKind::Span, spans)];
        for (what, number) in of_grpc.chain(of_a2a).chain(of_logs) {
            if number > 0 {
                self.core.handle(Input::Dropped { what, number }, now);
            }
        }
    }

    /// Executes the effects of the core. Returns the exit code if the core has exited.
    fn execute_effects(&mut self, now: Now) -> Option<ExitCode> {
        let mut lines = Lines::default();
        let mut end = None;
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Emit { client, event, numbered } => lines.push(client, (event, numbered)),
                Effect::CloseClient { client } => self.close_client(client, &mut lines),
                Effect::Span(span) => drop(self.traces.as_ref().map(|traces| traces.export(*span))),
                Effect::PersistHighestSeen(row) => {
                    if self.store.as_ref().is_some_and(|store| !store.put_highest_seen(row)) {
                        self.core.handle(Input::Dropped { what: DropKind::HighestSeen, number: 1 }, now);
                    }
                }
                Effect::PersistMessage { number, mail } => match &self.store {
                    Some(store) => store.put_message(number, *mail),
                    None => {
                        let reason = "the node has no data directory".to_owned();
                        self.core.handle(Input::PersistFailed { through: number, reason }, now);
                    }
                },
                Effect::PersistCheckpoint { number, row } => {
                    if let Some(store) = &self.store {
                        store.put_checkpoint(number, *row);
                    }
                }
                Effect::DeleteCheckpoint { sender, stream } => {
                    if let Some(store) = &self.store {
                        store.delete_checkpoint(sender, stream);
                    }
                }
                Effect::DeleteMessage { stream, seq } => {
                    if let Some(store) = &self.store {
                        store.delete_message(stream, seq);
                    }
                }
                Effect::PersistAccessRule { number, subject, rule } => {
                    if let Some(store) = &self.store {
                        store.put_access_rule(number, subject, rule);
                    }
                }
                Effect::PersistBan { party, ban } => {
                    if self.store.as_ref().is_some_and(|store| !store.put_ban(party, ban)) {
                        self.core.handle(Input::Dropped { what: DropKind::Ban, number: 1 }, now);
                    }
                }
                Effect::Network(effect) => self.net.apply(effect),
                Effect::Source(command) => self.sources.execute(command),
                Effect::Chain(command) => self.chain.execute(command),
                Effect::File(command) => self.files.execute(command),
                Effect::Crypto(task) => self.crypto.submit(task),
                Effect::Exit(code) => end = Some(code),
            }
        }
        self.write(lines, now);
        end
    }

    /// Returns `true` if there are lines that the core accepts now.
    fn has_more(&self) -> bool {
        (self.waiting.len() > 0 || self.input_end.is_some()) && self.core.can_accept_command(ClientId::PARENT)
            || self.door.as_ref().is_some_and(|door| door.has_more(&self.core))
    }

    /// Waits for the next event or timeout and passes the event to the core.
    async fn wait(&mut self, now: Now) {
        let due = self.core.poll_timeout().map(|at| at.saturating_since(now.mono));
        let timeout = due.map_or(MAX_SLEEP, |due| due.min(MAX_SLEEP));
        let reads =
            self.input_open && self.waiting.len() == 0 && self.core.can_accept_command(ClientId::PARENT);
        let input = tokio::select! {
            biased;
            () = self.signals.next() => Some(Input::Signal),
            input = ParentWatcher::ended(&mut self.parent) => Some(input),
            () = self.pipe.progress.changed() => None,
            input = self.crypto.next() => Some(input),
            input = next_store_event(&mut self.store) => Some(input),
            input = self.net.next() => Some(input),
            input = self.sources.next() => Some(input),
            input = self.chain.next() => Some(input),
            input = self.files.next() => Some(input),
            batch = self.pipe.input.recv(), if reads => {
                let now = self.clock.now();
                self.accept_chunk(batch.unwrap_or(InputChunk::Ended), now);
                None
            }
            () = Grpc::stopped(&self.grpc) => Some(Input::Signal),
            event = next_door_event(&mut self.door, &self.core) => {
                let now = self.clock.now();
                if let Some(door) = &mut self.door {
                    door.on_event(event, &mut self.core, now);
                }
                None
            }
            ask = Http::next(&mut self.http) => {
                let now = self.clock.now();
                self.answer(ask, now);
                None
            }
            () = tokio::time::sleep(timeout) => None,
        };
        if let Some(input) = input {
            let now = self.clock.now();
            self.core.handle(input, now);
        }
    }
}
