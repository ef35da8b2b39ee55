//! Routing of signals between the components.

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::Ask;
use p2p_node_wire::record::{RecordHash, SignedRecord};

use crate::Core;
use crate::directory::record_table::Update;
use crate::effect::{ExitCode, NetworkCommand, Verdict};
use crate::gate::admission_policy::Refusal;
use crate::mail::demand::Wants;
use crate::replies::reply_to::ReplyTo;
use crate::signal::Signal;

/// Routes the raised signals, and the signals that these raise.
pub(super) fn route_signals(core: &mut Core) {
    while let Some(signal) = core.cx.signals.pop_front() {
        route(core, signal);
    }
}

fn route(core: &mut Core, signal: Signal) {
    let Core { parent, local, gate, directory, peers, mail, gossip, cx, .. } = core;
    match signal {
        Signal::RecordReceived(record) => {
            directory.on_record(record, local, gate, &Wants { peers, mail }, cx);
        }
        Signal::PeerRecordChecked { peer, record, outcome } => on_peer_checked(core, peer, record, outcome),
        Signal::PeerRejected { peer, reason } => mail.on_peer_rejected(&peer, &reason, directory, cx),
        Signal::ClocksDiffer { peer, ahead_ms } => mail.on_clocks_differ(&peer, ahead_ms, directory, cx),
        Signal::InputReleased(input) => core.dispatch(*input),
        Signal::GossipChecked(message) => gossip.on_admitted(message, local, gate, directory, peers, cx),
        Signal::MailChecked(request) => mail.on_admitted(request, local, gate, directory, peers, cx),
        Signal::RecordChanged { record, update } => on_record_changed(core, &record, update),
        Signal::LookupStarted(token, address) => peers.on_lookup_started(token, address, directory, cx),
        Signal::PeersAnswered(token) => directory.on_query_ended(token, local, cx),
        Signal::LookupEnded { address, found } => mail.on_lookup_ended(&address, found, cx),
        Signal::RecordFromFuture { record, genuine } => {
            mail.on_record_from_future(&record, genuine, local, peers, cx)
        }
        Signal::RegistrationChanged(agent, now) => peers.on_registration(&agent, now, gate, directory, cx),
        Signal::Conduct(report) => peers.on_conduct(report, gate, directory, cx),
        Signal::Heard(address) => directory.on_heard(address, cx),
        Signal::Mailed(address) => gate.tiers.on_mailed(address),
        Signal::AgentConnected(address) => mail.wake(&address),
        Signal::AgentSighted(address) => mail.on_agent_sighted(address, cx),
        Signal::PeerDisconnected { peer, address } => mail.on_peer_disconnected(&peer, address),
        Signal::Unreachable(address) => mail.on_unreachable(address, directory, cx),
        Signal::Subscribed { peer, topic, first_mail_subscription } => {
            gossip.broadcasts.on_subscriber(&topic);
            if first_mail_subscription {
                mail.retry_all_gossip();
            }
            parent.on_subscribed(&peer, gate, directory, peers, cx);
        }
        Signal::FindAnswered { number, peer, answer } => parent.on_found(number, peer, answer, peers, cx),
        Signal::DhtServersChanged => mail.wake_unresolved(directory, cx),
        Signal::GossipTooFast => gossip.pacer.slow_down(cx.now.mono),
        Signal::MailByGossip { token, from, frame } => {
            mail.on_gossip_frame(*frame, &from, local, gate, directory, cx);
            cx.network(NetworkCommand::ReportValidation { token, verdict: Verdict::Accept });
        }
        Signal::KeyRefused { recipient, key, by_session } => {
            mail.on_key_refused(recipient, key, by_session, directory, cx);
        }
        Signal::AcksFor { account, streams } => mail.queue_acks_by_record(account, streams, directory, cx),
        Signal::CountersReused => renew_streams(core),
        Signal::FileWanted(wanted) => core.files.on_wanted(*wanted, cx),
        signal @ (Signal::CallReceived(_)
        | Signal::RequestSent { .. }
        | Signal::RequestEnded(_)
        | Signal::ClientLeaves(_)
        | Signal::ClientGone(_)) => on_request_signal(core, signal),
        Signal::CommandReleased(client, request) => core.on_command(client, *request),
        Signal::NameResolved(to, command) => core.execute(to, *command),
        Signal::ShutdownReleased(to) => parent.close("shutdown", Some(to), cx),
        Signal::StdinClosed => parent.on_stdin_closed(gossip, mail, cx),
        Signal::Abort(code) => abort(core, code),
    }
}

/// Gives mail and broadcasts new streams.
fn renew_streams(core: &mut Core) {
    let Core { mail, gossip, cx, .. } = core;
    if let Some(origin) = mail.renew_streams(cx) {
        gossip.broadcasts.renew(origin);
    }
}

fn on_request_signal(core: &mut Core, signal: Signal) {
    let Core { parent, mail, requests, cx, .. } = core;
    match signal {
        Signal::CallReceived(call) => requests.on_call(*call, mail, cx),
        Signal::RequestSent { number, target, outcome } => {
            requests.on_request_sent(number, target, outcome, mail, cx);
        }
        Signal::ClientLeaves(client) => requests.on_client_leaves(client, mail, cx),
        Signal::ClientGone(client) => requests.on_client_gone(client, mail, cx),
        Signal::RequestEnded(number) => parent.send_lane.remove_request(number),
        other => debug_assert!(false, "{other:?} concerns no request"),
    }
}

fn abort(core: &mut Core, code: ExitCode) {
    let Core { parent, gate, mail, requests, gossip, cx, .. } = core;
    gate.registry.abandon_commands(cx);
    requests.abandon(mail, cx);
    parent.abort(code, gossip, mail, cx);
}

/// Begins a request of a client, and sends its messages.
pub(super) fn begin_request(core: &mut Core, to: ReplyTo, ask: Ask) {
    let Core { parent, gate, directory, peers, mail, requests, gossip, cx, .. } = core;
    for (target, send) in parent.begin_request(to, ask, requests, directory, cx) {
        gossip.pace_topic(target.topic(), gate, directory, peers, cx);
        parent.admit_or_queue(target, send, peers, gossip, mail, cx);
    }
}

fn on_peer_checked(core: &mut Core, peer: PeerId, record: RecordHash, outcome: Result<Address, Refusal>) {
    let Core { local, gate, directory, peers, cx, .. } = core;
    let decided = outcome.and_then(|agent| peers.decide_on_proven(&peer, agent, gate, cx));
    peers.on_peer_record_checked(peer, record, decided, local, directory, cx);
}

fn on_record_changed(core: &mut Core, record: &SignedRecord, update: Update) {
    let Core { parent, gate, directory, peers, mail, cx, .. } = core;
    let has_new_content = update != Update::Refreshed;
    gate.registry.on_record(record);
    parent.on_record(record, has_new_content, gate, peers, cx);
    peers.on_record(record, has_new_content, gate, directory, cx);
    let is_admitted = peers.is_admitted(&record.peer_id());
    mail.on_record(&record.address(), has_new_content || is_admitted);
}
