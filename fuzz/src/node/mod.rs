//! A whole core under any sequence of inputs, with the world around it reduced to what it owes and is owed.

mod commands;
mod effects;
mod ledger;
mod network;
mod ops;

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use p2p_node_core::crypto_task::CryptoTask;
use p2p_node_core::input::{Input, Now, PublishOutcome, Token};
use p2p_node_core::{Core, CoreConfig, KeySource};
use p2p_node_protocol::Role;
use p2p_node_protocol::line::decode_request;
use p2p_node_testing::config::config;
use p2p_node_testing::interpreter::Interpreter as _;
use p2p_node_wire::seal::session::{OutboundSession, SessionKey};
use p2p_node_wire::time::Instant;

use super::material::{KEM_SEED, START_MS, party};
use super::source::Source;
use ledger::Ledger;

/// Operations of one run; enough to come anywhere, few enough that a run takes milliseconds.
const MAX_OPS: usize = 200;
/// Effects that one input may have: a full window of lines for the writer, and less for the network.
const MAX_EFFECTS: usize = 4096;
/// Quiet turns in a row after which a core that still wants to be called at once is taken to spin.
const MAX_QUIET_TURNS: usize = 4;
/// Times that the core is called at its own wish while time passes. A second may have several, a day a hundred thousand.
const MAX_STOPS: usize = 200;
/// Things of each kind that the world remembers, to bring them up again.
const MAX_REMEMBERED: usize = 16;

/// The first byte says what node it is, all others what happens to it.
pub fn core(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let mut world = World::new(&mut source);
    for _ in 0..MAX_OPS {
        if source.is_empty() {
            break;
        }
        world.operation(&mut source);
        world.settle();
    }
    world.end();
}

/// What the world around a core knows of it.
struct World {
    core: Core,
    now: Now,
    ledger: Ledger,
    /// Does at once what a well-behaved world would: checks bindings, reads lines, answers what was published.
    kind: bool,
    stays_on_eof: bool,
    tokens: Token,
    tasks: Vec<CryptoTask>,
    /// Sessions that others have with the node.
    sessions: Vec<(usize, OutboundSession)>,
    /// Sessions that the node has with others, as those know them.
    known: Vec<SessionKey>,
    mails: Vec<(Token, PeerId)>,
    published: Vec<Token>,
    queries: Vec<Token>,
    /// Frames and records that were heard, to be heard again.
    heard: Vec<(String, Bytes)>,
    /// Streams that we have sent mail on, each with its last number.
    streams: Vec<(Bytes, u64)>,
    unread: usize,
    may_listen: bool,
    listens: bool,
    /// Whether the node was made to end at once, so that it owes nobody an answer.
    forced: bool,
}

impl World {
    fn new(source: &mut Source<'_>) -> Self {
        let choices = source.byte();
        let now = Now { mono: Instant::from_millis(1), unix_ms: START_MS };
        let me = party(0);
        let stays_on_eof = choices & 2 != 0;
        let setup = CoreConfig {
            agent: (choices & 4 == 0).then(|| me.agent.clone()),
            name: "fuzzed".to_owned(),
            role: if choices & 8 == 0 { Role::Full } else { Role::Bootstrap },
            manual_ack: choices & 64 != 0,
            stay_on_eof: stays_on_eof,
            receive_after_eof: Duration::from_secs(if choices & 96 == 96 { 3 } else { 0 }),
            key_source: if choices & 32 != 0 { KeySource::Ephemeral } else { KeySource::Given },
            database: [9; 16],
            kem_seed: KEM_SEED.into(),
            seed: choices.into(),
            ..config(me.node.clone(), me.binding.clone())
        };
        let mut world = World {
            core: Core::new(setup, now),
            now,
            ledger: Ledger::new(),
            kind: choices & 1 == 0,
            stays_on_eof,
            tokens: 1_000_000,
            tasks: Vec::new(),
            sessions: Vec::new(),
            known: Vec::new(),
            mails: Vec::new(),
            published: Vec::new(),
            queries: Vec::new(),
            heard: Vec::new(),
            streams: Vec::new(),
            unread: 0,
            may_listen: false,
            listens: false,
            forced: false,
        };
        world.settle();
        if choices & 64 == 0 {
            // Most of what can happen happens to a node that is ready.
            let short = if choices & 4 == 0 { "" } else { r#","maxLineBytes":4096"# };
            world.say(format!(r#"{{"type":"connect","protocol":1,"id":"connect"{short}}}"#).as_bytes());
            world.settle();
            world.listen();
            world.settle();
            if choices & 128 == 0 {
                world.meet(1);
            }
        }
        world
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        self.tokens
    }

    fn handle(&mut self, input: Input) {
        self.core.handle(input, self.now);
    }

    /// There is no network before the core asks for it.
    fn listen(&mut self) {
        if !self.may_listen {
            return;
        }
        self.listens = true;
        let addrs = vec!["/ip4/127.0.0.1/tcp/1000".parse().expect("an address")];
        self.handle(Input::Listening { addrs });
    }

    /// Lets the core finish its turn, and everything happen that follows at once.
    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..10_000 {
            let done = self.handle_timeout();
            let follows = self.kind && self.be_kind();
            let spins = self.core.poll_timeout().is_some_and(|due| due <= self.now.mono);
            if self.ledger.exited() || !follows && !spins {
                return;
            }
            quiet = if done == 0 && !follows { quiet + 1 } else { 0 };
            assert!(quiet < MAX_QUIET_TURNS, "the core asks to be called in the past, for ever");
        }
        panic!("the core never comes to rest");
    }

    /// One turn; how many effects it had.
    fn handle_timeout(&mut self) -> usize {
        self.core.handle_timeout(self.now);
        let mut effects = 0;
        while let Some(effect) = self.core.poll_effect() {
            effects += 1;
            assert!(effects <= MAX_EFFECTS, "an input has effects without end");
            self.ledger.alive();
            self.execute(0, effect);
        }
        effects
    }

    /// What a well-behaved world does at once; whether there was anything.
    fn be_kind(&mut self) -> bool {
        let mut busy = false;
        for task in std::mem::take(&mut self.tasks) {
            busy = true;
            let done = self.work(task);
            self.handle(done);
        }
        for token in std::mem::take(&mut self.published) {
            busy = true;
            self.handle(Input::Published { token, outcome: PublishOutcome::Sent });
        }
        if self.unread > 0 {
            busy = true;
            let lines = std::mem::take(&mut self.unread);
            self.handle(Input::Written { lines });
        }
        busy
    }

    /// Lets time pass, stopping wherever the core wants to be called; after many stops it is as if the machine slept.
    fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        for _ in 0..MAX_STOPS {
            match self.core.poll_timeout() {
                Some(due) if due < end && !self.ledger.exited() => self.move_clock(due),
                _ => break,
            }
            self.settle();
        }
        self.move_clock(end);
        self.settle();
    }

    fn move_clock(&mut self, to: Instant) {
        let passed = to.saturating_since(self.now.mono);
        self.now.mono += passed;
        self.now.unix_ms = self.now.unix_ms.saturating_add(passed.as_millis() as u64);
    }

    /// The world behaves from now on, and the parent goes: nothing may be left open.
    fn end(&mut self) {
        self.forced |= self.ledger.exited() && !self.kind;
        self.kind = true;
        self.settle();
        // An answer may wait for earlier mail or for a parent that reads, but no longer than this; and what is closing
        // has closed.
        self.pass(Duration::from_secs(8));
        if !self.ledger.exited() {
            if self.listens {
                self.ledger.owes_nobody();
            } else {
                self.listen();
                self.settle();
            }
            self.leave();
            self.settle();
            self.pass(Duration::from_secs(8));
        }
        assert!(self.ledger.exited(), "a node whose parent is gone ends");
        if !self.forced {
            self.ledger.every_id_has_ended();
        }
        self.handle(Input::Signal);
        self.handle(Input::ListenFailed { reason: "late".to_owned() });
        let late = decode_request(br#"{"type":"ping","id":"late"}"#).expect("a command");
        self.handle(Input::Command(late));
        self.core.handle_timeout(self.now);
        assert!(self.core.poll_effect().is_none(), "nothing comes after the exit");
        assert_eq!(self.core.poll_timeout(), None);
    }

    fn leave(&mut self) {
        if self.stays_on_eof {
            self.handle(Input::Signal);
        } else {
            self.handle(Input::StdinClosed);
        }
    }
}
