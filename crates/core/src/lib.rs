//! The core: a pure state machine that makes all decisions of the node.
//!
//! The driver calls [`Core::handle`] for each event and [`Core::handle_timeout`] after each batch
//! of events, executes every [`Effect`] of [`Core::poll_effect`], and calls again at
//! [`Core::poll_timeout`] at the latest. The core has no clock, no randomness, no locks, no threads
//! and no I/O.

pub mod backoff;
pub mod budget;
pub mod capacity;
pub mod chain;
pub mod client_id;
pub(crate) mod command_limits;
mod config;
pub mod crypto_task;
mod cx;
pub mod directory;
mod drop_kind;
pub mod effect;
pub mod file_io;
mod files;
pub mod gate;
pub mod gossip;
pub mod highest_seen;
pub mod input;
mod lifecycle;
pub mod local;
pub mod mail;
pub mod outgoing;
pub mod parent;
pub mod peers;
mod priority_scheduler;
mod recent_use;
pub mod replies;
pub mod report;
mod requests;
mod routing;
mod shared_budget;
mod signal;
pub mod snapshot;
pub mod source;
pub mod stats;
#[cfg(test)]
mod testing;
mod timers;
pub mod topics;
pub mod tracer;
mod turn;
pub mod usage;

use p2p_node_protocol::{Command, Level, MAX_LINE_BYTES, NetworkReport, Request};
use p2p_node_wire::seal::kem::Keyring;
use p2p_node_wire::time::Instant;

use crate::gate::pending_verification::{GossipMessage, MailRequest};
use crate::local::own_record::{own_highest_seen, superseded};
use crate::parent::on_access::{list_peers, set_access_rule};
use crate::parent::on_command::{on_bad_line, on_ping, refuse_unknown};
use crate::replies::reply_to::ReplyTo;
use client_id::ClientId;
pub use command_limits::*;
use config::LocalIdentity;
pub use config::{CoreConfig, KeySource};
use cx::Cx;
use directory::Directory;
use effect::Effect;
use files::Files;
use gate::Gate;
use gossip::Gossip;
use input::{Input, Now, Token};
use lifecycle::Phase;
use local::{Local, local_record::LocalRecord};
use mail::{Mail, demand::Uses};
use parent::Parent;
use peers::{Peers, admission::Admissions};
use replies::{Replies, required::Required};
use report::Sources;
use requests::Requests;
use snapshot::Snapshot;
use stats::Stats;
use timers::TimerTable;
pub use topics::{ANNOUNCEMENTS, MESSAGES, RESERVED_TOPICS, STATUS};
use usage::Usage;

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
    /// Requests and answers.
    requests: Requests,
    /// Files of messages.
    files: Files,
    /// Broadcasts on topics.
    gossip: Gossip,
    /// Effects, counters and jitter.
    cx: Cx,
}

impl Core {
    /// Creates a core that has not started to listen.
    pub fn new(setup: CoreConfig, now: Now) -> Self {
        let (origin, boot, seed, limits) = (setup.origin(), setup.boot, setup.seed, setup.connections);
        let (parent, trace_seed) = (Parent::new(setup.has_chain), setup.trace_seed);
        let claim = setup.registry.and_then(|registry| registry.own_claim);
        let (key_source, known_peers) = (setup.key_source.clone(), setup.known_peers());
        let admissions = Admissions::new(&setup.node_key, boot);
        let (mut highest_seen, limits_apply, scope) =
            (setup.highest_seen.clone(), setup.limits_apply, setup.scope);
        let (gate, mail) = (Gate::new(&setup, now), Mail::restore(&setup, now));
        let files = Files::new(setup.files);
        let replies =
            Replies::new(Required::new(setup.require_delivery, mail.outbox.len()), setup.has_parent);
        let keyring = Keyring::new(*setup.kem_seed, setup.suite, now);
        let me = LocalIdentity::new(setup, now);
        let own_highest = own_highest_seen(&mut highest_seen, &me.address, now);
        let record = LocalRecord::new(me.binding.clone(), me.name.clone(), me.role, own_highest.as_ref())
            .with_claim(claim);
        let mut core = Core {
            parent,
            local: Local::new(record, keyring, &me, now),
            gate,
            directory: Directory::new(highest_seen),
            peers: Peers::new(limits, admissions),
            mail,
            requests: Requests::new(boot),
            files,
            gossip: Gossip::new(origin, limits_apply, scope),
            cx: Cx::new(me, replies, boot, seed, now).with_tracer(trace_seed),
        };
        if let Some(row) = own_highest
            && row.generation > core.cx.identity.binding.binding.generation
        {
            superseded(row.generation, &mut core.cx);
            routing::route_signals(&mut core);
            return core;
        }
        core.peers.restore_bans(&core.gate, &mut core.cx);
        core.peers.add_known(known_peers, &mut core.cx);
        if let Some((level, message)) = key_source.notice() {
            core.cx.log(level, "identity", message);
        }
        core.local.report_binding_life(&mut core.cx);
        core.gate.check_own_binding(&mut core.cx);
        core
    }

    /// Handles an event. Does nothing after `Effect::Exit`.
    pub fn handle(&mut self, input: Input, now: Now) {
        if !self.begin(now) {
            return;
        }
        self.cx.stats.traffic.count_input(&input);
        if let Some(input) = self.peers.hold_until_admitted(input, &mut self.cx) {
            self.dispatch(input);
        }
        routing::route_signals(self);
    }

    fn dispatch(&mut self, input: Input) {
        let Core { parent, local, gate, directory, peers, mail, requests, gossip, cx, .. } = self;
        match input {
            Input::Command { client, request } => self.on_command(client, request),
            Input::BadLine { client, error } => on_bad_line(client, error, cx),
            Input::Client { client, event } => parent.on_client(client, event, gossip, local, mail, cx),
            Input::StdinClosed => parent.on_stdin_closed(gossip, mail, cx),
            Input::InputFailed { reason } => parent.on_stdin_failed(&reason, cx),
            Input::StdoutClosed { broken } => parent.on_stdout_closed(broken, mail, requests, cx),
            Input::ParentEnded => parent.close("parent", None, cx),
            Input::Signal => parent.on_signal(gossip, mail, cx),
            Input::Written { client, lines } => mail.on_written(client, lines, cx),
            Input::Listening { addrs } => parent.on_listening(addrs, local, gossip, mail, cx),
            Input::Degraded { reason } => cx.log(Level::Warn, "network", reason),
            Input::ListenFailed { reason } => parent.on_listen_failed(reason, gossip, mail, cx),
            Input::Connected { peer, dialer } => peers.on_connected(peer, dialer, local, directory, cx),
            Input::Disconnected { peer, reason } => peers.on_disconnected(peer, reason, directory, cx),
            Input::DialFailed { peer, reason } => peers.on_dial_failed(peer, &reason, directory, cx),
            Input::NetworkMismatch { peer, network } => peers.on_network_mismatch(peer, &network, cx),
            Input::DhtMode { peer, serves, addrs } => peers.on_dht_mode(peer, serves, addrs, cx),
            Input::Source(event) => peers.on_source(event, cx),
            Input::Chain(event) => parent.on_chain_event(event, gate, cx),
            Input::File(event) => self.on_file(event),
            Input::Addresses(event) => peers.on_address_event(event, local, cx),
            Input::AdmissionRequestReceived { token, peer, body } => {
                peers.on_admission_request(token, peer, &body, local, gate, cx);
            }
            Input::AdmissionResponseReceived { token, peer, outcome } => {
                peers.on_admission_response(token, peer, outcome, local, gate, cx);
            }
            Input::FindRequestReceived { token, peer, body } => peers.find(token, peer, body, directory, cx),
            Input::FindResponseReceived { token, outcome } => peers.on_found(token, outcome, directory, cx),
            Input::PeerSubscribed { peer, topic } => peers.on_subscribed(peer, topic, local, directory, cx),
            Input::PeerUnsubscribed { peer, topic } => peers.on_unsubscribed(&peer, &topic),
            Input::Meshes(meshes) => gossip.traffic.set_meshes(meshes),
            Input::PeerReport { peer, report } => peers.on_peer_report(peer, report, cx),
            Input::MailRequestReceived { token, peer, frame } => self.on_mail(token, peer, frame),
            Input::MailResponseReceived { token, outcome } => {
                mail.on_mail_response(token, outcome, local, directory, peers, cx);
            }
            Input::Gossip { token, from, topic, data } => {
                self.on_gossip(GossipMessage { token, from, topic, data });
            }
            Input::Published { token, outcome } => mail.on_published(token, outcome, gossip, cx),
            Input::RecordOffered { peer, key, value } => directory.on_put(&peer, &key, value, gate, cx),
            Input::RecordFound { token, server, value } => directory.on_dht_answer(token, server, value, cx),
            Input::QueryEnded { token } => peers.on_query_ended(token, local, directory, cx),
            Input::RecordPut { stored } => directory.on_record_put(stored, local, cx),
            Input::Dropped { what, number } => cx.stats.add(what.counter(), number),
            Input::BindingChecked { hash, valid } => gate.on_binding_checked(hash, valid, cx),
            Input::Sealed { token, outcome } => mail.on_sealed(token, outcome, gossip, cx),
            Input::Opened { token, outcome } => mail.on_opened(token, outcome, gate, directory, peers, cx),
            Input::Persisted { through } => mail.on_persisted(through, gate, cx),
            Input::PersistFailed { through, reason } => mail.on_persist_failed(through, &reason, cx),
            Input::StoreFailed { reason } => mail.on_store_failed(reason, cx),
            Input::StoreRecovered => mail.store_failed = false,
            Input::StoreLost { host } => mail.on_store_lost(&host, cx),
        }
    }

    /// Runs the timers that are due, and sends the data collected since the last turn.
    pub fn handle_timeout(&mut self, now: Now) {
        if !self.begin(now) {
            return;
        }
        self.parent.check_receive_deadline(&mut self.cx);
        self.parent.check_startup(&mut self.cx);
        turn::serve(self);
        routing::route_signals(self);
        let Core { parent, local, gate, gossip, mail, requests, cx, .. } = self;
        parent.check_attached(gossip, local, mail, cx);
        parent.finish_closing(gate, gossip, mail, requests, cx);
        routing::route_signals(self);
        self.cx.flush_output();
        self.parent.finish_flushing(&mut self.mail, &mut self.cx);
    }

    /// Sets the time of the event. Returns `false` if the node has exited.
    fn begin(&mut self, now: Now) -> bool {
        if self.cx.phase == Phase::Exited {
            return false;
        }
        self.cx.now = now;
        if let Some(jump) = self.local.check_clock_jump(&mut self.cx) {
            self.gate.replay.clock_jumped(jump);
        }
        true
    }

    fn on_mail(&mut self, token: Token, peer: libp2p_identity::PeerId, frame: bytes::Bytes) {
        let Core { local, gate, directory, peers, mail, cx, .. } = self;
        mail.on_mail_request(MailRequest { token, peer, frame }, local, gate, directory, peers, cx);
    }

    fn on_file(&mut self, event: file_io::FileEvent) {
        let Core { parent, peers, mail, files, gossip, cx, .. } = self;
        match event {
            file_io::FileEvent::Hashed { number, outcome } => {
                parent.on_hashed(number, outcome, peers, gossip, mail, cx)
            }
            event => files.on_event(event, peers, mail, cx),
        }
    }

    fn on_gossip(&mut self, message: GossipMessage) {
        let Core { local, gate, directory, peers, gossip, cx, .. } = self;
        gossip.on_gossip(message, local, gate, directory, peers, cx);
    }

    fn on_command(&mut self, client: ClientId, request: Request) {
        let Core { parent, cx, .. } = self;
        let Some((to, command)) = parent.admit_command(client, request, cx) else { return };
        if let Some((to, command)) = parent.resolve_name(to, command, cx) {
            self.execute(to, command);
        }
    }

    /// Executes a command without a name.
    fn execute(&mut self, to: ReplyTo, command: Command) {
        let Core { parent, local, gate, directory, peers, mail, requests, gossip, cx, .. } = self;
        match command {
            Command::Connect(connect) => parent.connect(to, connect, local, peers, mail, cx),
            Command::Send(mut send) => {
                let file = send.file.take();
                if let Some((target, send)) =
                    parent.check_send(to, (send, file.as_deref()), mail.default_ttl(), gate, directory, cx)
                {
                    target.node().into_iter().for_each(|node| gate.admission.meet(node));
                    gossip.pace_topic(target.topic(), gate, directory, peers, cx);
                    match file {
                        Some(path) => parent.send_file(target, send, path, mail.file_limits.max_bytes, cx),
                        None => parent.admit_or_queue(target, send, peers, gossip, mail, cx),
                    }
                }
            }
            Command::Ask(ask) => routing::begin_request(self, to, ask),
            Command::Respond(respond) => parent.respond(to, respond, requests, mail, cx),
            Command::Handle(handle) => parent.handle(to, handle, requests, cx),
            Command::Credit(credit) => parent.credit(to, &credit, requests, mail, cx),
            Command::Discover(discover) => parent.discover(to, discover, gate, directory, peers, cx),
            Command::Subscribe(subscribe) => gossip.subscribe(to, subscribe.topic, local, peers, cx),
            Command::Unsubscribe(unsubscribe) => gossip.unsubscribe(to, &unsubscribe.topic, local, cx),
            Command::Capabilities(set) => local.set_capabilities(to, set.capabilities, cx),
            Command::Status(_) => {
                let status = Sources::of(self).status(self.cx.max_line(to.client));
                self.cx.answer(to, "status", |answer| answer.status = Some(Box::new(status)));
            }
            Command::Report(_) => {
                let report = Sources::of(self).report(self.cx.max_line(to.client));
                self.cx.answer(to, "report", |answer| answer.report = Some(Box::new(report)));
            }
            Command::Peers(_) => list_peers(to, gate, directory, peers, &Uses { gossip, mail }, cx),
            Command::Block(_) | Command::Allow(_) | Command::Unblock(_) => {
                set_access_rule(to, &command, gate, directory, peers, mail, cx);
            }
            Command::Ack(ack) => mail.on_ack_command(to, ack, cx),
            Command::Cancel(cancel) => parent.cancel(to, &cancel.target, gossip, mail, requests, cx),
            Command::Registry(registry) => {
                let now_ms = cx.now.unix_ms;
                let record_of = |agent: &_| directory.records.get(agent, now_ms);
                gate.registry.on_command(to, &registry.address, record_of, cx);
            }
            Command::Ping(_) => on_ping(to, cx),
            Command::Shutdown(_) => parent.on_shutdown_command(to, cx),
            other => refuse_unknown(to, &other, cx),
        }
    }

    /// Returns the next effect to execute.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.cx.effects.pop_front()
    }

    /// Returns the time at which `handle_timeout` has work to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_timer().map(|(at, _)| at)
    }

    /// Returns the timer that is due first: its time and its name.
    pub fn next_timer(&self) -> Option<(Instant, &'static str)> {
        let Core { parent, local, gate, directory, peers, mail, requests, files, gossip, cx } = self;
        let mut timers = TimerTable::default();
        parent.timers(&mut timers, cx);
        if cx.is_serving() {
            local.timers(&mut timers, cx);
            gate.registry.timers(&mut timers);
            peers.timers(&mut timers, local, gate, directory, cx);
            mail.timers(&mut timers);
            requests.timers(&mut timers);
            files.timers(&mut timers);
            gossip.timers(&mut timers, peers);
        }
        timers.first()
    }

    /// Returns `true` if the driver may read the next command of a client, instead of a queue that rejects it.
    pub fn can_accept_command(&self, client: ClientId) -> bool {
        self.parent.can_accept_command(client, &self.cx)
    }

    /// Returns the current sizes of all collections, with their limits.
    pub fn usage(&self) -> Vec<Usage> {
        let Core { parent, local, gate, directory, peers, mail, requests, files, gossip, cx } = self;
        let of_parent = [cx.usage(), parent.usage(cx), local.usage(), gate.usage()].concat();
        let of_network = [directory.usage(), peers.usage(), mail.usage(), gossip.usage()].concat();
        [of_parent, of_network, requests.usage(), files.usage()].concat()
    }

    /// Returns the state of the node at this time.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&Sources::of(self))
    }

    /// Returns the network report, as the command `report` does.
    pub fn report(&self) -> NetworkReport {
        Sources::of(self).report(MAX_LINE_BYTES)
    }

    /// Returns `true` if the node is ready and does not close.
    pub fn is_ready(&self) -> bool {
        self.cx.phase == Phase::Ready
    }

    /// Returns the counters, for tests and reports.
    pub fn stats(&self) -> &Stats {
        &self.cx.stats
    }
}
