//! The core: everything that is decided, as a pure state machine.
//!
//! Whoever drives it calls [`Core::handle`] for each thing that happens, [`Core::handle_timeout`] once it has handed over
//! what there was, carries out every [`Effect`] of [`Core::poll_effect`], and comes back at [`Core::poll_timeout`]
//! at the latest. There is no clock, randomness, lock, thread or I/O in here.

pub mod backoff;
mod config;
pub mod crypto_task;
mod cx;
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

use p2p_node_protocol::Counter;
use p2p_node_protocol::Level;

use config::LocalIdentity;
pub use config::{CoreConfig, KeySource};
use cx::Cx;
use directory::Directory;
use directory::rollback_guard::HighestSeen;
use effect::Effect;
use gate::Gate;
use gate::access_list::AccessList;
use gossip::Gossip;
pub use gossip::well_known_topics::{ANNOUNCEMENTS, MESSAGES, RESERVED_TOPICS, STATUS};
use gossip::well_known_topics::{NODE_TOPICS, is_reserved};
use input::{Input, Now, Token};
use lifecycle::{Peer, Phase};
use local::Local;
use local::local_record::LocalRecord;
use mail::Mail;
use mail::inbound::inbox::{AckPolicy, Inbox};
use mail::outbound::outbox::Outbox;
use p2p_node_wire::identity::binding::is_future_generation;
use p2p_node_wire::seal::kem::Keyring;
use parent::Parent;
use parent::command_limits::MAX_PEER_TOPICS;
pub use parent::command_limits::{
    MAX_DIRECT_BYTES, MAX_INFLIGHT, MAX_INFLIGHT_BYTES, MAX_PAUSE, MAX_SUBSCRIPTIONS, MAX_TOPIC_BYTES,
};
use peers::Peers;
use stats::Stats;

/// The state machine.
#[derive(Debug)]
pub struct Core {
    /// The parent: its commands, the answers, and how the node ends.
    parent: Parent,
    /// This node: identity, record, keys, clocks.
    local: Local,
    /// What decides about everything that comes in.
    gate: Gate,
    /// What is known about agents.
    directory: Directory,
    /// Other nodes.
    peers: Peers,
    /// Mail in both directions.
    mail: Mail,
    /// Broadcasts.
    gossip: Gossip,
    /// Effects, counters and chance.
    cx: Cx,
}

impl Core {
    /// A node that has not started to listen.
    pub fn new(setup: CoreConfig, now: Now) -> Self {
        let (origin, seed) = (setup.origin(), setup.seed);
        let (key_source, connect, durable) = (setup.key_source.clone(), setup.connect, setup.durable);
        let boot = setup.boot;
        let mut outbox = Outbox::new(origin);
        let position = outbox.restore(setup.outbox.clone(), now);
        let required = parent::require_delivery::Required::new(setup.require_delivery, outbox.len());
        let mut inbox = Inbox::new(match (setup.manual_ack, durable) {
            (true, _) => AckPolicy::Manual,
            (false, true) => AckPolicy::OnPersisted,
            (false, false) => AckPolicy::OnReceipt,
        });
        inbox.restore(setup.inbox.clone(), now.mono);
        let bootstraps = setup.bootstraps.clone();
        let mut floors = setup.floors.clone();
        let standings = setup.standings.clone();
        let keyring = Keyring::new(*setup.kem_seed, now);
        let me = LocalIdentity::new(setup, now);
        // Our own floor orders our own records; those of others that speak for us are compared with it there. One from the future is left by a
        // process that was given a generation which nobody believed.
        let own_floors = floors.extract_if(.., |row| row.address == me.address);
        let own_floor = own_floors
            .filter(|row| !is_future_generation(row.generation, now.unix_ms))
            .max_by_key(HighestSeen::order);
        let record = LocalRecord::new(me.binding.clone(), me.name.clone(), me.role, own_floor.as_ref());
        let mut core = Core {
            parent: Parent::new(required),
            local: Local::new(me, record, keyring, boot, now),
            gate: Gate::new(AccessList::new(standings)),
            directory: Directory::new(floors),
            peers: Peers::default(),
            mail: Mail::new(outbox, inbox, mail::pending_writes::PendingWrites::new(durable, position)),
            gossip: Gossip::new(origin),
            cx: Cx::new(seed),
        };
        if let Some(row) = own_floor
            && row.generation > core.local.identity.binding.binding.generation
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
            core.parent.protocol_v1 = true;
            core.start(None, None, now);
        }
        core
    }

    /// Takes note of something that happened; nothing does after the exit.
    pub fn handle(&mut self, input: Input, now: Now) {
        if self.parent.phase == Phase::Exited {
            return;
        }
        self.check_clock_jump(now);
        match input {
            Input::Command(request) => self.on_command(request, now),
            Input::BadLine(error) => self.on_bad_line(error),
            Input::StdinClosed => self.on_input_ended(now),
            Input::InputFailed { reason } => self.on_input_failed(&reason, now),
            Input::StdoutClosed { broken } => self.on_output_closed(broken, now),
            Input::ParentEnded => self.close("parent", None, now),
            Input::Signal => self.on_signal(now),
            Input::Written { lines } => self.on_written(lines, now),

            Input::Listening { addrs } => self.on_listening(addrs, now),
            Input::Degraded { reason } => self.log(Level::Warn, "network", reason),
            Input::ListenFailed { reason } => self.on_listen_failed(reason, now),
            Input::Connected { peer, dialer } => self.on_connected(peer, dialer, now),
            Input::Disconnected { peer, reason } => self.on_disconnected(peer, reason, now),
            Input::DialFailed { peer, reason } => self.on_dial_failed(peer, &reason, now),
            Input::NetworkMismatch { peer, network } => self.on_other_network(peer, &network),
            Input::DhtServerSeen { peer } => self.on_server_known(peer, now),
            Input::HelloRequestReceived { token, peer, body } => self.on_hello_asked(token, peer, body, now),
            Input::HelloResponseReceived { peer, body } => self.on_hello(peer, body, now),
            Input::PeerSubscribed { peer, topic } => self.on_peer_subscribed(peer, topic, now),
            Input::PeerUnsubscribed { peer, topic } => self.on_peer_unsubscribed(&peer, &topic),
            Input::SlowPeer { peer } => self.on_slow_peer(peer, now),

            Input::MailRequestReceived { token, peer, frame } => self.on_mail_asked(token, peer, frame, now),
            Input::MailResponseReceived { token, outcome } => self.on_mail_answered(token, outcome, now),
            Input::Gossip { token, from, topic, data } => self.on_gossip(token, from, topic, data, now),
            Input::Published { token, outcome } => self.on_published(token, outcome, now),

            Input::RecordOffered { peer, key, value } => self.on_record_offered(peer, &key, value, now),
            Input::RecordFound { token, value } => self.on_record_found(token, value, now),
            Input::QueryEnded { token } => self.on_query_ended(token, now),
            Input::RecordPut { stored } => self.on_record_put(stored, now),
            Input::Dropped { what, number } => self.cx.stats.add(what.counter(), number),
            Input::BindingChecked { hash, valid } => self.on_binding_checked(hash, valid, now),
            Input::Sealed { token, outcome } => self.on_sealed(token, outcome, now),
            Input::Opened { token, outcome } => self.on_opened(token, outcome, now),

            Input::Persisted { upto } => self.on_kept(upto, now),
            Input::PersistFailed { upto, reason } => self.on_not_kept(upto, &reason, now),
            Input::StoreFailed { reason } => self.on_store_failed(reason),
            Input::StoreRecovered => self.mail.store_failed = false,
            Input::StoreLost { host } => self.on_store_lost(&host, now),
        }
    }

    /// Does what is due, and sends what has gathered since the last turn.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.parent.phase == Phase::Exited {
            return;
        }
        self.check_clock_jump(now);
        if self.parent.receive_until.is_some_and(|until| until <= now.mono) {
            self.close("eof", None, now);
        }
        self.keep_starting(now);
        if matches!(self.parent.phase, Phase::Ready | Phase::Closing { .. }) {
            self.on_new_dht_servers(now);
            self.dial_bootstrap_peers(now);
            self.disconnect_unsubscribed_peers(now);
            self.select_peers_to_dial(now);
            self.publish_local_record(now);
            self.finish_expired_discoveries(now);
            self.persist_checkpoints(now);
            self.flush_deferred_responses(now);
            self.admit_waiting(now);
            self.send_mail_due(now);
            self.send_acks_owed(now);
            self.send_broadcasts_due(now);
        }
        self.finish_closing(now);
        self.flush_output();
        self.finish_flushing(now);
    }

    /// The next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.cx.effects.pop_front()
    }

    /// Counters and drops, for tests and reports.
    pub fn stats(&self) -> &Stats {
        &self.cx.stats
    }

    /// What is remembered for later processes is a second line of defence: the node goes on without it.
    fn on_store_failed(&mut self, reason: String) {
        self.cx.stats.count(Counter::StoreFailures);
        if !std::mem::replace(&mut self.mail.store_failed, true) {
            self.log(Level::Warn, "store", reason);
        }
    }

    fn token(&mut self) -> Token {
        self.cx.last_token += 1;
        self.cx.last_token
    }
}
