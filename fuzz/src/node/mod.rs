//! A core with a random sequence of inputs, in a world that tracks the open requests of both sides.

mod commands;
mod effects;
mod ledger;
mod network;
mod ops;

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use p2p_node_core::client_id::ClientId;
use p2p_node_core::crypto_task::CryptoTask;
use p2p_node_core::input::{Input, Now, PublishOutcome, Token};
use p2p_node_core::local::dht_mode::DhtMode;
use p2p_node_core::{Core, CoreConfig, KeySource};
use p2p_node_protocol::Role;
use p2p_node_protocol::line::decode_request;
use p2p_node_testing::config::config;
use p2p_node_testing::interpreter::Interpreter as _;
use p2p_node_wire::envelope::{Connect, Step};
use p2p_node_wire::seal::session::{OutboundSession, SessionKey};
use p2p_node_wire::time::Instant;

use super::material::{KEM_SEED, START_MS, party};
use super::source::Source;
use ledger::Ledger;

/// Most operations of one run: enough to reach every state, and few enough for milliseconds.
const MAX_OPS: usize = 200;
/// Most effects of one input: a full window of lines for the writer, and less for the network.
const MAX_EFFECTS: usize = 4096;
/// Timeouts in a row without effects after which a core that is due again at once counts as in a
/// busy loop.
const MAX_IDLE_TIMEOUTS: usize = 4;
/// Most timeouts of the core that are executed while time passes: a second may have several, a day
/// a hundred thousand.
const MAX_STOPS: usize = 200;
/// Messages and sessions of each kind that the world tracks for replays.
const MAX_TRACKED: usize = 16;

/// The first byte chooses the configuration, the others the operations.
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

/// The world around a core.
struct World {
    core: Core,
    now: Now,
    ledger: Ledger,
    /// `true` if the world is cooperative: it runs crypto tasks, reads lines and publishes at once.
    is_cooperative: bool,
    stays_on_eof: bool,
    tokens: Token,
    tasks: Vec<CryptoTask>,
    /// Sessions of peers to the node.
    sessions: Vec<(usize, OutboundSession)>,
    /// Sessions of the node to peers, as the peers have them.
    peer_sessions: Vec<SessionKey>,
    mail_requests: Vec<(Token, PeerId)>,
    finds: Vec<Token>,
    /// Steps of admission that the node sent.
    admissions: Vec<(Token, PeerId, Step)>,
    /// What the node said of itself in its last challenge.
    challenge: Option<Connect>,
    published: Vec<Token>,
    queries: Vec<Token>,
    /// Received frames and records, for replays.
    received: Vec<(String, Bytes)>,
    /// Streams on which the node sent mail, each with its last number.
    streams: Vec<(Bytes, u64)>,
    unread: usize,
    may_listen: bool,
    listens: bool,
    /// `true` if the node was forced to end at once, so that open requests need no answer.
    forced: bool,
}

impl World {
    fn new(source: &mut Source<'_>) -> Self {
        let choices = source.byte();
        let now = Now { mono: Instant::from_millis(1), unix_ms: START_MS };
        let me = party(0);
        let stays_on_eof = choices & 2 != 0;
        let core_config = CoreConfig {
            agent: (choices & 4 == 0).then(|| me.agent.clone()),
            name: "fuzzed".to_owned(),
            role: if choices & 8 == 0 { Role::Full } else { Role::Bootstrap },
            dht_mode: if choices & 8 == 0 { DhtMode::Client } else { DhtMode::Server },
            limits_apply: choices & 16 != 0,
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
            core: Core::new(core_config, now),
            now,
            ledger: Ledger::new(),
            is_cooperative: choices & 1 == 0,
            stays_on_eof,
            tokens: 1_000_000,
            tasks: Vec::new(),
            sessions: Vec::new(),
            peer_sessions: Vec::new(),
            mail_requests: Vec::new(),
            finds: Vec::new(),
            admissions: Vec::new(),
            challenge: None,
            published: Vec::new(),
            queries: Vec::new(),
            received: Vec::new(),
            streams: Vec::new(),
            unread: 0,
            may_listen: false,
            listens: false,
            forced: false,
        };
        world.settle();
        if choices & 64 == 0 {
            // A node that is ready covers most of the code.
            let short = if choices & 4 == 0 { "" } else { r#","maxLineBytes":4096"# };
            world
                .write_line(format!(r#"{{"type":"connect","protocol":1,"id":"connect"{short}}}"#).as_bytes());
            world.settle();
            world.listen();
            world.settle();
            if choices & 128 == 0 {
                world.connect_honest_agent(1);
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

    /// Reports the listen address, once the core has asked for it.
    fn listen(&mut self) {
        if !self.may_listen {
            return;
        }
        self.listens = true;
        let addrs = vec!["/ip4/127.0.0.1/tcp/1000".parse().expect("an address")];
        self.handle(Input::Listening { addrs });
    }

    /// Calls the core until it has no effects and its timeout is in the future.
    fn settle(&mut self) {
        let mut idle_turns = 0;
        for _ in 0..10_000 {
            let done = self.handle_timeout();
            let cooperated = self.is_cooperative && self.cooperate();
            let is_due = self.core.poll_timeout().is_some_and(|due| due <= self.now.mono);
            if self.ledger.exited() || !cooperated && !is_due {
                return;
            }
            idle_turns = if done == 0 && !cooperated { idle_turns + 1 } else { 0 };
            assert!(idle_turns < MAX_IDLE_TIMEOUTS, "the core asks for timeouts in the past");
        }
        panic!("the core never becomes idle");
    }

    /// Calls the core, executes its effects and returns their number.
    fn handle_timeout(&mut self) -> usize {
        self.core.handle_timeout(self.now);
        let mut effects = 0;
        while let Some(effect) = self.core.poll_effect() {
            effects += 1;
            assert!(effects <= MAX_EFFECTS, "too many effects of one input");
            self.ledger.check_running();
            self.execute(0, effect);
        }
        effects
    }

    /// Runs tasks, completes publishes and reads lines. Returns `true` if there was work.
    fn cooperate(&mut self) -> bool {
        let mut busy = false;
        for task in std::mem::take(&mut self.tasks) {
            busy = true;
            let done = self.run_task(task);
            self.handle(done);
        }
        for token in std::mem::take(&mut self.published) {
            busy = true;
            self.handle(Input::Published { token, outcome: PublishOutcome::Sent });
        }
        if self.unread > 0 {
            busy = true;
            let lines = std::mem::take(&mut self.unread);
            self.handle(Input::Written { client: ClientId::PARENT, lines });
        }
        busy
    }

    /// Advances the time, and calls the core when its timeout is due. After `MAX_STOPS` calls it
    /// skips the rest, as if the machine was suspended.
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

    /// Cooperates from now on and ends the parent; no request may stay open.
    fn end(&mut self) {
        self.forced |= self.ledger.exited() && !self.is_cooperative;
        self.is_cooperative = true;
        self.settle();
        // A response may wait for earlier mail, for the parent to read, or for a handshake that is deferred
        // because of the clocks (at most 7.5 s) and then has 10 s, and a shutdown for its drain timeout.
        self.pass(Duration::from_secs(18));
        if !self.ledger.exited() {
            if self.listens {
                self.ledger.check_all_answered();
            } else {
                self.listen();
                self.settle();
            }
            self.end_parent();
            self.settle();
            self.pass(Duration::from_secs(8));
        }
        assert!(self.ledger.exited(), "the node does not end after its parent");
        if !self.forced {
            self.ledger.check_every_id_ended();
        }
        self.handle(Input::Signal);
        self.handle(Input::ListenFailed { reason: "late".to_owned() });
        let late = decode_request(br#"{"type":"ping","id":"late"}"#).expect("a command");
        self.handle(Input::Command { client: ClientId::PARENT, request: late });
        self.core.handle_timeout(self.now);
        assert!(self.core.poll_effect().is_none(), "an effect after the exit");
        assert_eq!(self.core.poll_timeout(), None);
    }

    fn end_parent(&mut self) {
        if self.stays_on_eof {
            self.handle(Input::Signal);
        } else {
            self.handle(Input::StdinClosed);
        }
    }
}
