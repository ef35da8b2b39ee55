//! One turn of a node on the network.

use crate::Core;
use crate::mail::demand::Uses;
use crate::report::Sources;
use crate::routing;

/// Runs the timers of a node on the network. A node that aborts on the way sends nothing more.
pub(super) fn serve(core: &mut Core) {
    if !core.cx.is_serving() {
        return;
    }
    core.parent.end_name_waits(&mut core.cx);
    core.peers.on_new_dht_servers(&mut core.local, &mut core.directory, &mut core.cx);
    routing::route_signals(core);
    let Core { local, gate, directory, peers, gossip, mail, cx, .. } = core;
    peers.trim_connections(&Uses { gossip, mail }, gate, directory, cx);
    peers.handle_timeout(local, gate, directory, cx);
    let now_ms = cx.now.unix_ms;
    gate.registry.read_waiting(|agent| directory.records.get(agent, now_ms), cx);
    gate.registry.send_report(cx);
    peers.select_peers_to_dial(|| gossip.topics(), directory, cx);
    peers.find_peers_to_dial(|| gossip.topics(), directory, cx);
    gossip.follow_announcements(directory, peers, cx);
    local.publish_local_record(peers.met_agents(directory), cx);
    routing::route_signals(core);
    if !core.cx.is_serving() {
        return;
    }
    let Core { parent, local, gate, directory, peers, mail, requests, files, gossip, cx } = core;
    let turn = gossip.take_status_turn(directory, peers, cx);
    if turn.is_any() {
        let summary = Sources { local, gate, directory, peers, gossip, mail, cx }.summary();
        turn.tell(&summary, cx);
    }
    parent.finish_expired_discoveries(gate, directory, peers, cx);
    mail.persist_checkpoints(cx);
    mail.flush_deferred_responses(cx);
    gossip.update_pace(gate, directory, peers, cx);
    parent.admit_waiting(peers, gossip, mail, directory, cx);
    requests.serve(mail, cx);
    files.serve(mail, cx);
    mail.send_mail_due(local, directory, peers, gossip, cx);
    routing::route_signals(core);
    let Core { directory, peers, mail, gossip, cx, .. } = core;
    mail.send_pending_acks(peers, gossip, cx);
    gossip.send_broadcasts_due(directory, peers, cx);
    // What did not arrive explains more than the deadline does, so it comes first.
    routing::route_signals(core);
    core.requests.end_overdue(&mut core.mail, &mut core.cx);
}
