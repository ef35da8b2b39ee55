//! The core: a pure state machine that makes all decisions of the node.
//!
//! The driver calls [`Core::handle`] for each event and [`Core::handle_timeout`] after each batch
//! of events, executes every [`Effect`] of [`Core::poll_effect`], and calls again at
//! [`Core::poll_timeout`] at the latest. The core has no clock, no randomness, no locks, no threads
//! and no I/O.

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
mod signal;
pub mod stats;
mod timers;
pub mod usage;

use crate::directory::record_table::Change;
use crate::gate::pending_verification::GossipMessage;
use crate::gate::pending_verification::MailRequest;
use crate::signal::Signal;
use p2p_node_protocol::Counter;
use p2p_node_protocol::Level;
use p2p_node_protocol::Priority;
use p2p_node_wire::record::SignedRecord;

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
use input::{Input, Now};
use libp2p_identity::PeerId;
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
use parent::replies::Replies;
use peers::Peers;
use stats::Stats;

/// The state machine. It owns the components and routes inputs to them.
#[derive(Debug)]
pub struct Core {
    /// The parent side: commands, replies, and shutdown.
    parent: Parent,
    /// This node: identity, record, keys and clocks.
    local: Local,
    /// The checks of everything that arrives from the network.
    gate: Gate,
    /// The verified records of agents.
    directory: Directory,
    /// Other nodes: connections, dials, bootstrap peers.
    peers: Peers,
    /// Outbound and inbound mail.
    mail: Mail,
    /// Broadcasts on topics.
    gossip: Gossip,
    /// Effects, counters and jitter.
    cx: Cx,
}

impl Core {
    /// Creates a core that has not started to listen.
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
        // The highest (generation, seq) of our own records only orders our own records, so it does
        // not enter the directory. An entry from the future comes from a process that was given a
        // wrong generation; peers rejected it, so it does not count.
        let own_floors = floors.extract_if(.., |row| row.address == me.address);
        let own_floor = own_floors
            .filter(|row| !is_future_generation(row.generation, now.unix_ms))
            .max_by_key(HighestSeen::order);
        let record = LocalRecord::new(me.binding.clone(), me.name.clone(), me.role, own_floor.as_ref());
        let mut core = Core {
            parent: Parent::new(),
            local: Local::new(record, keyring, now),
            gate: Gate::new(AccessList::new(standings)),
            directory: Directory::new(floors),
            peers: Peers::default(),
            mail: Mail::new(outbox, inbox, mail::pending_writes::PendingWrites::new(durable, position)),
            gossip: Gossip::new(origin),
            cx: Cx::new(me, Replies::new(required), boot, seed, now),
        };
        if let Some(row) = own_floor
            && row.generation > core.cx.identity.binding.binding.generation
        {
            core.superseded(row.generation);
            return core;
        }
        for (peer, addr) in bootstraps {
            core.add_bootstrap(peer, addr);
        }
        if let Some((level, message)) = key_source.notice() {
            core.cx.log(level, "identity", message);
        }
        core.tell_binding_life();
        if connect {
            // Only a parent that knows protocol 1 starts a node with `--connect`.
            core.cx.replies.protocol_v1 = true;
            core.start(None, None);
        }
        core
    }

    /// Handles an event. Does nothing after `Effect::Exit`.
    pub fn handle(&mut self, input: Input, now: Now) {
        if self.cx.phase == Phase::Exited {
            return;
        }
        self.cx.now = now;
        self.on_clock_jump();
        match input {
            Input::Command(request) => self.on_command(request),
            Input::BadLine(error) => self.on_bad_line(error),
            Input::StdinClosed => self.on_input_ended(),
            Input::InputFailed { reason } => self.on_input_failed(&reason),
            Input::StdoutClosed { broken } => self.on_output_closed(broken),
            Input::ParentEnded => self.close("parent", None),
            Input::Signal => self.on_signal(),
            Input::Written { lines } => self.on_written(lines),

            Input::Listening { addrs } => self.on_listening(addrs),
            Input::Degraded { reason } => self.cx.log(Level::Warn, "network", reason),
            Input::ListenFailed { reason } => self.on_listen_failed(reason),
            Input::Connected { peer, dialer } => self.on_connected(peer, dialer),
            Input::Disconnected { peer, reason } => self.on_disconnected(peer, reason),
            Input::DialFailed { peer, reason } => self.on_dial_failed(peer, &reason),
            Input::NetworkMismatch { peer, network } => self.on_other_network(peer, &network),
            Input::DhtServerSeen { peer } => self.on_server_known(peer),
            Input::HelloRequestReceived { token, peer, body } => self.on_hello_asked(token, peer, body),
            Input::HelloResponseReceived { peer, body } => self.on_hello(peer, body),
            Input::PeerSubscribed { peer, topic } => self.on_peer_subscribed(peer, topic),
            Input::PeerUnsubscribed { peer, topic } => self.on_peer_unsubscribed(&peer, &topic),
            Input::SlowPeer { peer } => self.on_slow_peer(peer),

            Input::MailRequestReceived { token, peer, frame } => {
                self.on_mail_asked(MailRequest { token, peer, frame });
            }
            Input::MailResponseReceived { token, outcome } => self.on_mail_answered(token, outcome),
            Input::Gossip { token, from, topic, data } => {
                self.on_gossip(GossipMessage { token, from, topic, data });
            }
            Input::Published { token, outcome } => {
                self.on_published(token, outcome);
                self.on_mail_published(token, outcome);
            }

            Input::RecordOffered { peer, key, value } => self.on_record_offered(peer, &key, value),
            Input::RecordFound { token, value } => self.on_record_found(token, value),
            Input::QueryEnded { token } => self.on_query_ended(token),
            Input::RecordPut { stored } => self.on_record_put(stored),
            Input::Dropped { what, number } => self.cx.stats.add(what.counter(), number),
            Input::BindingChecked { hash, valid } => self.on_binding_checked(hash, valid),
            Input::Sealed { token, outcome } => self.on_sealed(token, outcome),
            Input::Opened { token, outcome } => self.on_opened(token, outcome),

            Input::Persisted { upto } => self.on_kept(upto),
            Input::PersistFailed { upto, reason } => self.on_not_kept(upto, &reason),
            Input::StoreFailed { reason } => self.on_store_failed(reason),
            Input::StoreRecovered => self.mail.store_failed = false,
            Input::StoreLost { host } => self.on_store_lost(&host),
        }
        self.route_signals();
    }

    /// Runs the timers that are due, and sends the data collected since the last turn.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.cx.phase == Phase::Exited {
            return;
        }
        self.cx.now = now;
        self.on_clock_jump();
        if self.parent.receive_until.is_some_and(|until| until <= now.mono) {
            self.close("eof", None);
        }
        self.keep_starting();
        if matches!(self.cx.phase, Phase::Ready | Phase::Closing { .. }) {
            self.on_new_dht_servers();
            self.route_signals();
            self.dial_bootstrap_peers();
            self.disconnect_unsubscribed_peers();
            self.select_peers_to_dial(self.gossip.topics());
            self.publish_local_record(self.directory.records.len());
            self.publish_status();
            self.route_signals();
            self.finish_expired_discoveries();
            self.persist_checkpoints();
            self.flush_deferred_responses();
            self.admit_waiting();
            self.send_mail_due();
            self.route_signals();
            self.send_acks_owed();
            self.send_broadcasts_due();
        }
        self.finish_closing();
        self.cx.flush_output();
        self.finish_flushing();
    }

    /// Routes the raised signals, and those that they raise in turn.
    fn route_signals(&mut self) {
        while let Some(signal) = self.cx.signals.pop_front() {
            match signal {
                Signal::RecordReceived(record) => self.on_record(record),
                Signal::RecordChanged { record, change } => self.on_record_changed(&record, change),
                Signal::LookupEnded { address, found: true } => self.on_record_available(&address),
                Signal::LookupEnded { address, found: false } => self.on_lookup_failed(&address),
                Signal::RecordFromFuture { record, genuine } => {
                    self.compare_future(&record);
                    if genuine {
                        self.note_clocks(&record.address(), self.least_ahead(&record));
                    }
                }
                Signal::AgentConnected(address) => self.wake(&address),
                Signal::PeerDisconnected { peer, address } => self.on_peer_disconnected(&peer, address),
                Signal::Unreachable(address) => self.on_unreachable(address),
                Signal::Subscribed { peer, topic, hears_mail } => {
                    self.on_subscribed(&peer, &topic, hears_mail)
                }
                Signal::DhtServersChanged => self.wake_unresolved(),
                Signal::GossipTooFast => self.gossip.pacer.slow_down(self.cx.now.mono),
                Signal::MailByGossip(frame) => self.on_gossip_frame(*frame),
                Signal::KeyRefused { recipient, key, by_session } => {
                    self.on_key_refused(recipient, key, by_session);
                }
                Signal::AcksFor { account, streams } => self.queue_acks_by_record(account, streams),
                Signal::CountersReused => self.on_counters_reused(),
                Signal::GiveUp(code) => self.give_up(code),
            }
        }
    }

    fn on_clock_jump(&mut self) {
        if let Some(jump) = self.check_clock_jump() {
            self.gate.replay.clock_jumped(jump);
        }
    }

    fn on_record_changed(&mut self, record: &SignedRecord, change: Change) {
        let (address, peer) = (record.address(), record.peer_id());
        self.unhinder(&address);
        if change != Change::Refreshed {
            self.emit_peer_discovered(record, None);
            self.note_reachable(&peer);
        }
        self.connect_soon();
        self.found(record, false);
        if change != Change::Refreshed || self.peers.connected.contains_key(&peer) {
            self.wake(&address);
        }
    }

    fn on_subscribed(&mut self, peer: &PeerId, topic: &str, hears_mail: bool) {
        self.gossip.broadcasts.heard(topic);
        if hears_mail {
            self.retry_all_gossip();
        }
        if let Some(record) = self.directory.records.by_peer(peer, self.cx.now.unix_ms).cloned() {
            self.found(&record, false);
        }
    }

    /// Takes new frame numbers and new streams, because a copy of this process has used our
    /// counters: a peer has seen a counter that this process used once, or the network carries a
    /// frame of ours that this process has not sent. Accepted messages keep their numbers, because
    /// the recipient may have them already. If the recipient knows another message under a number,
    /// it answers `SEQUENCE_REUSED`.
    fn on_counters_reused(&mut self) {
        if !self.cx.frame_numbers.may_renew(self.cx.now.mono) {
            return;
        }
        self.cx.stats.count(Counter::FrameCountersReused);
        let origin = self.mail.outbox.renew(self.cx.now.unix_ms);
        self.gossip.broadcasts.renew(origin);
        self.cx.identity.status_stream = origin.stream(b"status", 0, &[], Priority::Medium);
        self.cx.frame_numbers.renew(&origin.database);
        let message = "a peer has seen frame numbers that this process has not used: a copy of the process has run, or the machine was set back to a snapshot; the process continues with new numbers";
        self.cx.log(Level::Warn, "identity", message);
    }

    /// Returns the next effect to execute.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.cx.effects.pop_front()
    }

    /// Returns the counters, for tests and reports.
    pub fn stats(&self) -> &Stats {
        &self.cx.stats
    }

    /// Reports the failure once. The node continues, because data persisted for later processes is
    /// only a second line of defence.
    fn on_store_failed(&mut self, reason: String) {
        self.cx.stats.count(Counter::StoreFailures);
        if !std::mem::replace(&mut self.mail.store_failed, true) {
            self.cx.log(Level::Warn, "store", reason);
        }
    }
}
