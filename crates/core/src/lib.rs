//! The core: everything that is decided, as a pure state machine.
//!
//! Whoever drives it calls [`Core::handle`] for each thing that happens, [`Core::turn`] once it has handed over
//! what there was, carries out every [`Effect`] of [`Core::poll_effect`], and comes back at [`Core::poll_timeout`]
//! at the latest. There is no clock, randomness, lock, thread or I/O in here.

pub mod backoff;
mod config;
pub mod crypto_task;
pub mod directory;
pub mod effect;
pub mod gate;
pub mod gossip;
pub mod input;
mod lifecycle;
pub mod local;
pub mod mail;
pub mod parent;
pub mod peers;
pub mod stats;
mod timers;
pub mod usage;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::{Id, Level, MAX_LINE_BYTES};

use backoff::Jitter;
use config::Me;
pub use config::{KeySource, Setup};
use directory::bindings::BindingCache;
use directory::lookups::Queries;
use directory::record_table::Book;
use directory::rollback_guard::FloorRow;
use effect::Effect;
use gate::access_list::Standings;
use gate::high_priority_limiter::Urgent;
use gossip::broadcast_queue::Topics;
use gossip::gossip_budget::Recent;
use gossip::pacer::Pacer;
pub use gossip::well_known_topics::{ANNOUNCEMENTS, MESSAGES, RESERVED_TOPICS, STATUS};
use gossip::well_known_topics::{NODE_TOPICS, is_reserved};
use input::{Input, Now, Token};
use lifecycle::{Peer, Phase};
use local::local_record::Presence;
use mail::inbound::deferred_responses::HeldAnswers;
use mail::inbound::inbox::{Inbox, Settling};
use mail::outbound::outbox::Outbox;
use p2p_node_wire::envelope::ReplayWindows;
use p2p_node_wire::identity::binding::is_future_generation;
use p2p_node_wire::seal::kem::Keyring;
use p2p_node_wire::seal::session::Incoming;
use parent::command_limits::MAX_PEER_TOPICS;
pub use parent::command_limits::{
    MAX_DIRECT_BYTES, MAX_INFLIGHT, MAX_INFLIGHT_BYTES, MAX_PAUSE, MAX_SUBSCRIPTIONS, MAX_TOPIC_BYTES,
};
use parent::output_queue::Outlet;
use peers::bootstrap::Bootstraps;
use peers::dht_servers::Servers;
use stats::Stats;

/// The state machine.
#[derive(Debug)]
pub struct Core {
    me: Me,
    phase: Phase,
    opted_in: bool,
    max_line: usize,
    /// Ids of commands that have not been answered: of `send`s, and of the others.
    pending_sends: BTreeSet<Id>,
    pending_ids: BTreeSet<Id>,
    outlet: Outlet,
    output_closed: bool,
    /// Whether stdin or stdout broke.
    pipe_broken: bool,
    required: parent::require_delivery::Required,
    /// Whether mail was answered or something published since the last turn, and until when peers may not have read it.
    has_spoken: bool,
    stay_until: Duration,
    /// When a node whose stdin has ended stops to receive.
    linger_until: Option<Duration>,
    effects: VecDeque<Effect>,
    stats: Stats,
    jitter: Jitter,
    tokens: Token,
    frames: local::frame_numbers::FrameNumbers,
    wall_clock: local::clock_jump::WallClock,
    clocks: local::clock_skew::Clocks,

    addrs: Vec<Multiaddr>,
    presence: Presence,
    book: Book,
    bindings: BindingCache,
    bootstraps: Bootstraps,
    queries: Queries,
    servers: Servers,
    peers: BTreeMap<PeerId, Peer>,
    dialing: BTreeSet<PeerId>,
    connecting: peers::dialer::Connecting,
    discoveries: Vec<parent::on_discover::Discovery>,
    /// Agents of whom two records with one order were seen, and told.
    conflicts_told: BTreeSet<Address>,
    last_recipient: Option<(String, parent::on_command::Recipient)>,

    standings: Standings,
    recent: Recent,
    keyring: Keyring,
    /// Frames that are being sealed.
    sealing: BTreeMap<Token, mail::encryption::Unsealed>,
    /// Frames that are being opened.
    opening: mail::encryption::Openings,
    sessions: Incoming,
    replay: ReplayWindows,
    parked: directory::on_record::Parking,
    subscribed: BTreeSet<String>,
    outbox: Outbox,
    keeping: mail::pending_writes::Keeping,
    taking: mail::inbound::delivery::Taking,
    dirty: BTreeSet<Address>,
    inbox: Inbox,
    held_answers: HeldAnswers,
    acks_owed: mail::inbound::pending_acks::AcksOwed,
    urgent: Urgent,
    topics: Topics,
    /// Commands that wait for `ready`.
    held: parent::starting::Held,
    /// Sends that wait for room.
    lane: parent::send_lane::SendLane,
    /// Whether sends that waited were refused because the node ends.
    sends_abandoned: bool,
    pacer: Pacer,
    status_due: Duration,
    binding_watch: local::binding_renewal::BindingWatch,
    /// Whether the store does not write at present, which has been told.
    store_failed: bool,
}

impl Core {
    /// A node that has not started to listen.
    pub fn new(setup: Setup, now: Now) -> Self {
        let (origin, seed) = (setup.origin(), setup.seed);
        let (key_source, connect, durable) = (setup.key_source.clone(), setup.connect, setup.durable);
        let frames = local::frame_numbers::FrameNumbers::new(setup.boot);
        let mut outbox = Outbox::new(origin);
        let position = outbox.restore(setup.outbox.clone(), now);
        let required = parent::require_delivery::Required::new(setup.require_delivery, outbox.len());
        let mut inbox = Inbox::new(match (setup.acks_by_hand, durable) {
            (true, _) => Settling::Taken,
            (false, true) => Settling::Kept,
            (false, false) => Settling::AtOnce,
        });
        inbox.restore(setup.inbox.clone(), now.mono);
        let bootstraps = setup.bootstraps.clone();
        let mut floors = setup.floors.clone();
        let standings = setup.standings.clone();
        let keyring = Keyring::new(*setup.kem_seed, now);
        let me = Me::new(setup, now);
        // Our own floor orders our own records; those of others that speak for us are compared with it there. One from the future is left by a
        // process that was given a generation which nobody believed.
        let own_floors = floors.extract_if(.., |row| row.address == me.address);
        let own_floor = own_floors
            .filter(|row| !is_future_generation(row.generation, now.unix_ms))
            .max_by_key(FloorRow::order);
        let mut core = Core {
            presence: Presence::new(me.binding.clone(), me.name.clone(), me.role, own_floor.as_ref()),
            me,
            phase: Phase::Idle,
            opted_in: false,
            max_line: MAX_LINE_BYTES,
            pending_sends: BTreeSet::new(),
            pending_ids: BTreeSet::new(),
            outlet: Outlet::default(),
            output_closed: false,
            pipe_broken: false,
            required,
            has_spoken: false,
            stay_until: Duration::ZERO,
            linger_until: None,
            effects: VecDeque::new(),
            stats: Stats::default(),
            jitter: Jitter::new(seed),
            tokens: 0,
            frames,
            wall_clock: local::clock_jump::WallClock::new(now),
            clocks: local::clock_skew::Clocks::default(),
            addrs: Vec::new(),
            book: Book::new(floors),
            bindings: BindingCache::default(),
            bootstraps: Bootstraps::default(),
            queries: Queries::default(),
            servers: Servers::default(),
            peers: BTreeMap::new(),
            dialing: BTreeSet::new(),
            connecting: peers::dialer::Connecting::default(),
            discoveries: Vec::new(),
            conflicts_told: BTreeSet::new(),
            last_recipient: None,
            standings: Standings::new(standings),
            recent: Recent::default(),
            keyring,
            sealing: BTreeMap::new(),
            opening: mail::encryption::Openings::default(),
            sessions: Incoming::default(),
            replay: ReplayWindows::default(),
            parked: directory::on_record::Parking::default(),
            subscribed: BTreeSet::new(),
            outbox,
            keeping: mail::pending_writes::Keeping::new(durable, position),
            taking: mail::inbound::delivery::Taking::default(),
            dirty: BTreeSet::new(),
            inbox,
            held_answers: HeldAnswers::default(),
            acks_owed: mail::inbound::pending_acks::AcksOwed::default(),
            urgent: Urgent::default(),
            topics: Topics::new(origin),
            held: parent::starting::Held::default(),
            lane: parent::send_lane::SendLane::default(),
            sends_abandoned: false,
            pacer: Pacer::default(),
            status_due: Duration::MAX,
            binding_watch: local::binding_renewal::BindingWatch::default(),
            store_failed: false,
        };
        if let Some(row) = own_floor
            && row.generation > core.me.binding.binding.generation
        {
            core.superseded(row.generation, now);
            return core;
        }
        for (peer, addr) in bootstraps {
            core.add_bootstrap(peer, addr);
        }
        if let Some((level, message)) = key_source.notice() {
            core.log(level, "identity", message);
        }
        core.tell_binding_life(now);
        if connect {
            // No parent of the first sidecar starts a node so.
            core.opted_in = true;
            core.start(None, None, now);
        }
        core
    }

    /// Takes note of something that happened; nothing does after the exit.
    pub fn handle(&mut self, input: Input, now: Now) {
        if self.phase == Phase::Done {
            return;
        }
        self.keep_time(now);
        match input {
            Input::Command(request) => self.on_command(request, now),
            Input::BadLine(error) => self.on_bad_line(error),
            Input::InputEnded => self.on_input_ended(now),
            Input::InputFailed { reason } => self.on_input_failed(&reason, now),
            Input::OutputClosed { broken } => self.on_output_closed(broken, now),
            Input::ParentEnded => self.close("parent", None, now),
            Input::Signal => self.on_signal(now),
            Input::Written { lines } => self.on_written(lines, now),

            Input::Listening { addrs } => self.on_listening(addrs, now),
            Input::Degraded { reason } => self.log(Level::Warn, "network", reason),
            Input::ListenFailed { reason } => self.on_listen_failed(reason, now),
            Input::Connected { peer, dialer } => self.on_connected(peer, dialer, now),
            Input::Disconnected { peer, reason } => self.on_disconnected(peer, reason, now),
            Input::DialFailed { peer, reason } => self.on_dial_failed(peer, &reason, now),
            Input::OtherNetwork { peer, network } => self.on_other_network(peer, &network),
            Input::ServerKnown { peer } => self.on_server_known(peer, now),
            Input::HelloAsked { token, peer, body } => self.on_hello_asked(token, peer, body, now),
            Input::HelloAnswered { peer, body } => self.on_hello(peer, body, now),
            Input::PeerSubscribed { peer, topic } => self.on_peer_subscribed(peer, topic, now),
            Input::PeerUnsubscribed { peer, topic } => self.on_peer_unsubscribed(&peer, &topic),
            Input::SlowPeer { peer } => self.on_slow_peer(peer, now),

            Input::MailAsked { token, peer, frame } => self.on_mail_asked(token, peer, frame, now),
            Input::MailAnswered { token, outcome } => self.on_mail_answered(token, outcome, now),
            Input::Gossip { token, from, topic, data } => self.on_gossip(token, from, topic, data, now),
            Input::Published { token, outcome } => self.on_published(token, outcome, now),

            Input::RecordOffered { peer, key, value } => self.on_record_offered(peer, &key, value, now),
            Input::RecordFound { token, value } => self.on_record_found(token, value, now),
            Input::QueryEnded { token } => self.on_query_ended(token, now),
            Input::RecordPut { stored } => self.on_record_put(stored, now),
            Input::Lost { what, number } => self.stats.add(what.counter(), number),
            Input::BindingChecked { hash, valid } => self.on_binding_checked(hash, valid, now),
            Input::Sealed { token, outcome } => self.on_sealed(token, outcome, now),
            Input::Opened { token, outcome } => self.on_opened(token, outcome, now),

            Input::Kept { upto } => self.on_kept(upto, now),
            Input::NotKept { upto, reason } => self.on_not_kept(upto, &reason, now),
            Input::StoreFailed { reason } => self.on_store_failed(reason),
            Input::StoreRecovered => self.store_failed = false,
            Input::StoreLost { host } => self.on_store_lost(&host, now),
        }
    }

    /// Does what is due, and sends what has gathered since the last turn.
    pub fn turn(&mut self, now: Now) {
        if self.phase == Phase::Done {
            return;
        }
        self.keep_time(now);
        if self.linger_until.is_some_and(|until| until <= now.mono) {
            self.close("eof", None, now);
        }
        self.keep_starting(now);
        if matches!(self.phase, Phase::Ready | Phase::Closing { .. }) {
            self.use_servers(now);
            self.keep_joined(now);
            self.drop_silent_peers(now);
            self.keep_connected(now);
            self.keep_present(now);
            self.end_discoveries(now);
            self.keep_arrivals(now);
            self.answer_held(now);
            self.admit_waiting(now);
            self.send_mail_due(now);
            self.send_acks_owed(now);
            self.send_broadcasts_due(now);
        }
        self.finish_closing(now);
        self.pump_outlet();
        self.finish_flushing(now);
    }

    /// The next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Counters and drops, for tests and reports.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What is remembered for later processes is a second line of defence: the node goes on without it.
    fn on_store_failed(&mut self, reason: String) {
        self.stats.count("store_failures");
        if !std::mem::replace(&mut self.store_failed, true) {
            self.log(Level::Warn, "store", reason);
        }
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        self.tokens
    }
}
