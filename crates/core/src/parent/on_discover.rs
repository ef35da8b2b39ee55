//! The `discover` command: reports known agents, and agents that the node finds while it runs.

use std::collections::BTreeSet;
use std::time::Duration;

use libp2p_identity::PeerId;
use p2p_node_protocol::{Discover, ErrorCode, Id, MAX_DISCOVER_MS, Role};
use p2p_node_wire::envelope::limits::MAX_FOUND_RECORDS;
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::time::Instant;

use crate::MAX_INFLIGHT;
use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::parent::Parent;
use crate::parent::discovery::{DiscoverFilter, Discovery, MAX_QUESTIONS};
use crate::parent::peer_discovered::emit_peer_discovered;
use crate::peers::Peers;
use crate::peers::finder::{Answer, Purpose, REPLICATION};
use crate::replies::reply_to::ReplyTo;

/// Longest run of a `discover` without `timeoutMs`. Our choice: longer than a lookup in the DHT
/// takes.
const DEFAULT_DISCOVER: Duration = Duration::from_secs(2);
/// Pause between two lookups of an address in the DHT. Our choice: on a small network a lookup
/// takes some milliseconds.
const LOOKUP_PERIOD: Duration = Duration::from_millis(500);
/// A `discover` without `timeoutMs` ends when it has found nothing new for this time and no lookup
/// or dial is running. Our choice: long enough for the arrival of a subscription or record that a
/// peer announces at this moment.
const QUIET_PERIOD: Duration = Duration::from_millis(250);

impl Parent {
    pub(crate) fn discover(
        &mut self,
        command: ReplyTo,
        discover: Discover,
        gate: &Gate,
        directory: &mut Directory,
        peers: &mut Peers,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        let timeout = discover.timeout_ms.map_or(DEFAULT_DISCOVER, Duration::from_millis);
        if timeout > Duration::from_millis(MAX_DISCOVER_MS) {
            let message = format!("`timeoutMs` must be at most {MAX_DISCOVER_MS}");
            return cx.refuse(command, ErrorCode::InvalidArgument, message);
        }
        if self.discoveries_of(command.client) >= MAX_INFLIGHT {
            return cx.refuse(
                command,
                ErrorCode::Busy,
                "too many `discover` commands are running; wait for one or cancel it",
            );
        }
        let has_timeout = discover.timeout_ms.is_some();
        let filter = match DiscoverFilter::of(discover) {
            Ok(filter) => filter,
            Err(message) => return cx.refuse(command, ErrorCode::InvalidArgument, message),
        };
        cx.replies.clients.open_request(&command);
        let deadline = now.mono + timeout;
        let (ends_when_quiet, retry) = match filter {
            DiscoverFilter::Address(_) => (false, now.mono),
            _ => (!has_timeout, now.mono + QUIET_PERIOD),
        };
        let number = cx.token();
        let open_questions =
            filter.query().map_or(0, |query| peers.ask_for_discovery(number, &query, directory, cx));
        self.discoveries.push(Discovery {
            command,
            filter,
            deadline,
            ends_when_quiet,
            retry,
            seen: BTreeSet::new(),
            number,
            open_questions,
            questions: open_questions,
            // The only bootstrap node has the records of all agents itself.
            answered: open_questions == 0 && cx.identity.role == Role::Bootstrap,
            incomplete: false,
        });
        let known: Vec<SignedRecord> = directory.records.iter(now.unix_ms).cloned().collect();
        for record in known {
            self.report_agent(&record, true, gate, peers, cx);
        }
        self.finish_expired_discoveries(gate, directory, peers, cx);
    }

    /// Reports an agent whose record the directory stored. `has_new_content` is `true` if the
    /// agent is new or moved.
    pub(crate) fn on_record(
        &mut self,
        record: &SignedRecord,
        has_new_content: bool,
        gate: &Gate,
        peers: &Peers,
        cx: &mut Cx,
    ) {
        if has_new_content {
            emit_peer_discovered(record, None, None, gate, peers, cx);
        }
        self.report_agent(record, false, gate, peers, cx);
    }

    /// Reports the agent of a peer that subscribed to a topic.
    pub(crate) fn on_subscribed(
        &mut self,
        peer: &PeerId,
        gate: &Gate,
        directory: &Directory,
        peers: &Peers,
        cx: &mut Cx,
    ) {
        if let Some(record) = directory.records.by_peer(peer, cx.now.unix_ms) {
            self.report_agent(record, false, gate, peers, cx);
        }
    }

    /// Reports a found agent to all running `discover` commands, or with `by_latest` to the latest
    /// one.
    pub(crate) fn report_agent(
        &mut self,
        record: &SignedRecord,
        by_latest: bool,
        gate: &Gate,
        peers: &Peers,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        let skip = if by_latest { self.discoveries.len().saturating_sub(1) } else { 0 };
        let mut commands = Vec::new();
        for discovery in self.discoveries.iter_mut().skip(skip) {
            // `end_discovery` reports the agents that are skipped while the client does not read.
            if is_read(discovery, cx)
                && discovery.filter.matches(record, peers)
                && discovery.seen.insert(record.address())
            {
                if discovery.ends_when_quiet {
                    discovery.retry = now.mono + QUIET_PERIOD;
                }
                commands.push((discovery.command.clone(), discovery.filter.topic().map(str::to_owned)));
            }
        }
        for (command, topic) in commands {
            emit_peer_discovered(record, Some(command), topic.as_deref(), gate, peers, cx);
        }
    }

    /// Handles the answer of a peer to the question of a `discover`. The records in the answer are
    /// on their way to the directory.
    pub(crate) fn on_found(
        &mut self,
        number: u64,
        peer: PeerId,
        answer: Answer,
        peers: &mut Peers,
        cx: &mut Cx,
    ) {
        let Some(discovery) = self.discoveries.iter_mut().find(|discovery| discovery.number == number) else {
            return;
        };
        if discovery.ends_when_quiet {
            discovery.retry = cx.now.mono + QUIET_PERIOD;
        }
        if let (Answer::More(after), Some(query)) = (answer, discovery.filter.query())
            && discovery.questions < MAX_QUESTIONS
            && peers.ask(peer, Purpose::Discovery(number), &query, Some(after), MAX_FOUND_RECORDS as u32, cx)
        {
            discovery.questions += 1;
            return;
        }
        discovery.open_questions -= 1;
        match answer {
            Answer::Last { servers, partial } => {
                discovery.answered = true;
                discovery.incomplete |= partial || servers > REPLICATION;
            }
            Answer::Failed | Answer::More(_) => discovery.incomplete = true,
        }
    }

    /// Answers each `discover` that is done: it found its agent, no more results are likely, or its
    /// time is over. Repeats the lookups of the others.
    pub(crate) fn finish_expired_discoveries(
        &mut self,
        gate: &Gate,
        directory: &mut Directory,
        peers: &mut Peers,
        cx: &mut Cx,
    ) {
        let now = cx.now;
        if self.discoveries.is_empty() {
            return;
        }
        let knows_all = knows_all_peers(gate, directory, peers, cx);
        let is_done = |discovery: &Discovery, cx: &Cx| {
            let enough = match discovery.filter {
                DiscoverFilter::Address(_) => true,
                _ => {
                    let quiet = discovery.retry <= now.mono && discovery.open_questions == 0;
                    discovery.ends_when_quiet && knows_all && quiet
                }
            };
            let found = !discovery.seen.is_empty();
            is_read(discovery, cx) && (enough && found || discovery.deadline <= now.mono)
        };
        // One at a time, because each may write as many lines as there are agents.
        while let Some(index) = self.discoveries.iter().position(|discovery| is_done(discovery, cx)) {
            let discovery = self.discoveries.remove(index);
            end_discovery(discovery, gate, directory, peers, cx);
        }
        let mut lookups = Vec::new();
        for discovery in &mut self.discoveries {
            if discovery.retry > now.mono {
                continue;
            }
            match discovery.filter {
                DiscoverFilter::Address(address) => {
                    discovery.retry = now.mono + LOOKUP_PERIOD;
                    lookups.push(address);
                }
                _ => {
                    let is_settled = discovery.answered && !discovery.ends_when_quiet;
                    discovery.retry = if is_settled { discovery.deadline } else { now.mono + QUIET_PERIOD };
                }
            }
            // No peer was connected, or none could answer.
            if let Some(query) = discovery.filter.query()
                && !discovery.answered
                && discovery.open_questions == 0
            {
                discovery.open_questions = peers.ask_for_discovery(discovery.number, &query, directory, cx);
                discovery.incomplete = false;
            }
        }
        for address in lookups {
            directory.resolve(address, cx);
        }
    }

    /// Returns when the next `discover` ends or repeats its lookup. While a client does not read,
    /// its `discover` commands cannot end.
    pub(crate) fn discovery_deadline(&self, cx: &Cx) -> Option<Instant> {
        let read = self.discoveries.iter().filter(|discovery| is_read(discovery, cx));
        read.map(|discovery| discovery.retry.min(discovery.deadline)).min()
    }

    /// Returns the number of running `discover` commands of a client.
    pub(crate) fn discoveries_of(&self, client: ClientId) -> usize {
        self.discoveries.iter().filter(|discovery| discovery.command.client == client).count()
    }

    /// Ends the `discover` of a client with this id. Returns `false` if there is none.
    pub(crate) fn cancel_discovery(&mut self, client: ClientId, target: &Id, cx: &mut Cx) -> bool {
        let is_target = |discovery: &Discovery| discovery.command.is(client, target);
        let Some(index) = self.discoveries.iter().position(is_target) else { return false };
        let discovery = self.discoveries.remove(index);
        cx.refuse(discovery.command, ErrorCode::Cancelled, "a `cancel` command ended this `discover`");
        true
    }

    /// Ends every `discover`, because the node closes.
    pub(crate) fn abandon_discoveries(&mut self, cx: &mut Cx) {
        for discovery in std::mem::take(&mut self.discoveries) {
            if discovery.command.id.is_some() {
                let message = "the node closed during this `discover`";
                cx.refuse(discovery.command, ErrorCode::ShuttingDown, message);
            }
        }
    }
}

/// Returns `true` if the client of this `discover` reads its lines, or has gone. A `discover` of a
/// client that has gone can end.
fn is_read(discovery: &Discovery, cx: &Cx) -> bool {
    let client = cx.replies.clients.get(discovery.command.client);
    client.is_none_or(|client| client.output.can_accept_command())
}

/// Returns `true` if no lookup, dial or check of a binding is running and the node has the records
/// of all connected peers.
fn knows_all_peers(gate: &Gate, directory: &Directory, peers: &Peers, cx: &Cx) -> bool {
    let now = cx.now;
    gate.pending_verification.len() == 0
        && directory.lookups.running() + directory.lookups.queued() == 0
        && peers.table.pending_dials_len() == 0
        && peers.table.connections().all(|(peer, _)| directory.records.by_peer(peer, now.unix_ms).is_some())
}

/// Reports the agents that the client could not read earlier, and answers the command.
fn end_discovery(mut discovery: Discovery, gate: &Gate, directory: &Directory, peers: &Peers, cx: &mut Cx) {
    let now = cx.now;
    let unseen: Vec<SignedRecord> = directory
        .records
        .iter(now.unix_ms)
        .filter(|record| discovery.filter.matches(record, peers))
        .filter(|record| discovery.seen.insert(record.address()))
        .cloned()
        .collect();
    for record in unseen {
        let topic = discovery.filter.topic();
        emit_peer_discovered(&record, Some(discovery.command.clone()), topic, gate, peers, cx);
    }
    let complete = discovery.is_complete();
    cx.answer(discovery.command, "discover", |answer| {
        answer.count = Some(discovery.seen.len());
        answer.complete = Some(complete);
    });
}
