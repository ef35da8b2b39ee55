//! The only loop: it owns the core and everything impure, reads the clock, and decides nothing.
//!
//! Each turn takes what there is (commands while the core takes them, network events up to a budget), lets the
//! core finish its turn, carries out every effect, and hands the writer one batch of lines.

mod identity;
mod opening;
mod start;

use std::time::{Duration, SystemTime};

use p2p_node_protocol::line::LineError;
use p2p_node_protocol::{ErrorEvent, Event, Request};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::defect;
use crate::front::{Batch, Front, Line};
use crate::io::crypto::Pool;
use crate::io::keystore::IdentityLock;
use crate::io::parent::Parent;
use crate::io::store::Store;
use crate::io::swarm::SwarmDriver;
use opening::Early;
pub use opening::serve;
use p2p_node_core::effect::{Effect, ExitCode};
use p2p_node_core::input::{DropKind, Input, Now};
use p2p_node_core::{Core, CoreConfig};
pub use start::StartError;

/// Commands handed to the core in one turn: about one batch of direct mail, so that frames leave early.
const COMMANDS_PER_TURN: usize = 512;
/// Network events handed to the core in one turn, so that stdin and timers get their share.
const NETWORK_EVENTS_PER_TURN: usize = 128;
/// How long the last lines may take to be written when the process ends. The core has waited for the parent already.
const FINISH_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest sleep of the loop. The runtime's timers stand still while the machine is suspended, and a jump of the wall clock wakes nobody: this
/// is how long after either the core learns of it. Ours: short beside every deadline that such a step can pass, and cheap.
const MAX_SLEEP: Duration = Duration::from_secs(10);

/// Runs a node on stdin and stdout until it ends.
pub fn run(config: Config) -> ExitCode {
    // The connections run on the thread of the loop: what a message gains from a second one it loses on the way there and back.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let front = match Front::stdio() {
        Ok(front) => front,
        Err(error) => {
            tracing::error!("the node cannot start: {error}");
            return ExitCode::Io;
        }
    };
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return refuse_on(front, &StartError::system("there is no runtime", &error)),
    };
    defect::end_process_on_panic(front.last_words());
    let code = runtime.block_on(serve(config, front));
    // Reading stdin cannot be interrupted, and nothing that is left has anything to lose.
    runtime.shutdown_background();
    code
}

/// All that a node needs beside its front and clock.
struct Prepared {
    setup: CoreConfig,
    store: Option<Store>,
    lock: Option<IdentityLock>,
    net: SwarmDriver,
    signals: Signals,
    parent: Option<Parent>,
    /// What the parent wrote meanwhile.
    early: Early,
}

/// Tells on stdout why there is no node, before anything else was written there; returns the exit code.
pub fn refuse(error: &StartError) -> ExitCode {
    match Front::stdio() {
        Ok(front) => refuse_on(front, error),
        Err(_) => error.exit_code(),
    }
}

fn refuse_on(front: Front, error: &StartError) -> ExitCode {
    tracing::error!("{error}");
    let event = Event::Error(Box::new(ErrorEvent::new(error.code(), error.to_string())));
    // Next to nothing has been written, so there is room; a parent that does not read learns by the exit code.
    let _ = front.output.send(vec![(event, false)]);
    front.output.finish(FINISH_TIMEOUT);
    error.exit_code()
}

/// The time, for subcommands that write it into what they make: ms since 1970.
pub fn unix_ms() -> u64 {
    Clock::start().now().unix_ms
}

/// The process's clocks.
#[derive(Clone, Copy, Debug)]
struct Clock {
    started: Duration,
}

impl Clock {
    fn start() -> Self {
        Clock { started: since_boot() }
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place where the clocks are read")]
    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { mono: since_boot().saturating_sub(self.started), unix_ms: unix.as_millis() as u64 }
    }
}

/// Time that never goes back and also passes while the machine is suspended, from some moment before the process.
fn since_boot() -> Duration {
    // Elsewhere the clock of this name counts suspended time by itself (macOS), or there is none that does.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// The next report of a store.
async fn told(store: &mut Option<Store>) -> Input {
    match store {
        Some(store) => store.next().await,
        None => std::future::pending().await,
    }
}

struct Node {
    core: Core,
    net: SwarmDriver,
    crypto: Pool,
    store: Option<Store>,
    front: Front,
    signals: Signals,
    parent: Option<Parent>,
    clock: Clock,
    /// Holds the identity for as long as the process runs.
    _lock: Option<IdentityLock>,
    /// Lines read and not yet taken by the core.
    waiting: std::vec::IntoIter<Result<Request, LineError>>,
    /// The end of stdin, when it was read before them.
    input_end: Option<Batch>,
    input_open: bool,
    written: u64,
    closed_told: bool,
}

impl Node {
    fn new(prepared: Prepared, front: Front, clock: Clock, written: u64) -> Self {
        let Prepared { setup, store, lock, net, signals, parent, early } = prepared;
        Node {
            core: Core::new(setup, clock.now()),
            net,
            crypto: Pool::new(1, 256),
            store,
            front,
            signals,
            parent,
            clock,
            _lock: lock,
            waiting: early.lines.into_iter(),
            input_end: early.end,
            input_open: true,
            written,
            closed_told: false,
        }
    }

    async fn run(mut self) -> ExitCode {
        loop {
            let now = self.clock.now();
            self.take_written(now);
            self.take_commands(now);
            for _ in 0..NETWORK_EVENTS_PER_TURN {
                let Some(input) = self.net.try_next() else { break };
                self.core.handle(input, now);
            }
            self.core.handle_timeout(now);
            if let Some(code) = self.carry_out(now) {
                self.front.output.finish(FINISH_TIMEOUT);
                self.net.close().await;
                if let Some(store) = self.store {
                    store.close().await;
                }
                return code;
            }
            if !self.has_more() {
                self.wait(now).await;
            }
        }
    }

    fn take_written(&mut self, now: Now) {
        let written = self.front.progress.written();
        if written > self.written {
            let lines = (written - self.written) as usize;
            self.written = written;
            self.core.handle(Input::Written { lines }, now);
        }
        if self.front.progress.closed() && !self.closed_told {
            self.closed_told = true;
            if let Some(failure) = self.front.progress.failure() {
                tracing::warn!("stdout cannot be written: {failure}");
            }
            let broken = self.front.progress.failure().is_some();
            self.core.handle(Input::StdoutClosed { broken }, now);
        }
    }

    fn take_commands(&mut self, now: Now) {
        for _ in 0..COMMANDS_PER_TURN {
            if !self.core.can_accept_command() {
                return;
            }
            let Some(line) = self.waiting.next() else {
                match self.input_end.take().or_else(|| self.front.input.try_recv().ok()) {
                    Some(batch) => self.take_batch(batch, now),
                    None => return,
                }
                continue;
            };
            let input = match line {
                Ok(request) => Input::Command(request),
                Err(error) => Input::BadLine(error),
            };
            self.core.handle(input, now);
        }
    }

    fn take_batch(&mut self, batch: Batch, now: Now) {
        match batch {
            Batch::Lines(lines) => self.waiting = lines.into_iter(),
            Batch::Ended => {
                self.input_open = false;
                self.core.handle(Input::StdinClosed, now);
            }
            Batch::Failed(reason) => {
                self.input_open = false;
                self.core.handle(Input::InputFailed { reason }, now);
            }
        }
    }

    /// Carries out what the core wants; the exit code when it wants to end.
    fn carry_out(&mut self, now: Now) -> Option<ExitCode> {
        let mut lines: Vec<Line> = Vec::new();
        let mut end = None;
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Emit { event, numbered } => lines.push((event, numbered)),
                Effect::PersistHighestSeen(row) => {
                    if self.store.as_ref().is_some_and(|store| !store.remember(row)) {
                        self.core.handle(Input::Dropped { what: DropKind::Floor, number: 1 }, now);
                    }
                }
                Effect::PersistMessage { number, mail } => match &self.store {
                    Some(store) => store.keep_mail(number, *mail),
                    None => {
                        let reason = "there is no data directory".to_owned();
                        self.core.handle(Input::PersistFailed { upto: number, reason }, now);
                    }
                },
                Effect::PersistCheckpoint { number, row } => {
                    if let Some(store) = &self.store {
                        store.keep_taken(number, *row);
                    }
                }
                Effect::DeleteCheckpoint { sender, stream } => {
                    if let Some(store) = &self.store {
                        store.forget_taken(sender, stream);
                    }
                }
                Effect::DeleteMessage { stream, seq } => {
                    if let Some(store) = &self.store {
                        store.forget_mail(stream, seq);
                    }
                }
                Effect::PersistAccessRule { subject, standing } => {
                    if self.store.as_ref().is_some_and(|store| !store.keep(subject, standing)) {
                        self.core.handle(Input::Dropped { what: DropKind::AccessRule, number: 1 }, now);
                    }
                }
                Effect::Network(effect) => self.net.apply(effect),
                Effect::Crypto(task) => self.crypto.submit(task),
                Effect::Exit(code) => end = Some(code),
            }
        }
        if let Err(error) = self.front.output.send(lines) {
            tracing::debug!("lines were not written: {error}");
        }
        end
    }

    /// Whether there are lines that the core would take at once.
    fn has_more(&self) -> bool {
        (self.waiting.len() > 0 || self.input_end.is_some()) && self.core.can_accept_command()
    }

    /// Waits until something happens, and hands it over.
    async fn wait(&mut self, now: Now) {
        let due = self.core.poll_timeout().map(|at| at.saturating_sub(now.mono));
        let timeout = due.map_or(MAX_SLEEP, |due| due.min(MAX_SLEEP));
        let reads = self.input_open && self.waiting.len() == 0 && self.core.can_accept_command();
        let input = tokio::select! {
            biased;
            () = self.signals.next() => Some(Input::Signal),
            input = Parent::ended(&mut self.parent) => Some(input),
            () = self.front.progress.changed() => None,
            input = self.crypto.next() => Some(input),
            input = told(&mut self.store) => Some(input),
            input = self.net.next() => Some(input),
            batch = self.front.input.recv(), if reads => {
                let now = self.clock.now();
                self.take_batch(batch.unwrap_or(Batch::Ended), now);
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
