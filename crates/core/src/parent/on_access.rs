//! The commands `block`, `allow` and `unblock`, which change the access list, and `peers`, which
//! lists connected peers and the access list.

use p2p_node_protocol::{Command, ConnectedPeer, ErrorCode};

use crate::cx::Cx;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::gate::access_list::{AccessRule, Subject};
use crate::mail::Mail;
use crate::parent::on_command::{Recipient, parse_recipient};
use crate::peers::Peers;
use crate::peers::history::History;
use crate::peers::score::Scoring;
use crate::peers::trimmer::{Kept, Needs};
use crate::replies::line_bytes;
use crate::replies::reply_to::ReplyTo;
use p2p_node_wire::record::SignedRecord;

/// Upper bound of the bytes of a peer in the answer to `peers`, without the name and the links.
const PEER_BYTES: usize = 512;
/// Upper bound of the bytes of a link, without its address.
const LINK_BYTES: usize = 128;

/// Carries out `block`, `allow` or `unblock`: sets or removes the access rule of an agent or node. `allow`
/// and `unblock` also end its ban. The rule holds at once; with a store, the answer waits for the disk.
pub(crate) fn set_access_rule(
    to: ReplyTo,
    command: &Command,
    gate: &mut Gate,
    directory: &Directory,
    peers: &mut Peers,
    mail: &mut Mail,
    cx: &mut Cx,
) {
    let (name, of, rule) = match command {
        Command::Block(block) => ("block", &block.peer_id, Some(AccessRule::Blocked)),
        Command::Allow(allow) => ("allow", &allow.peer_id, Some(AccessRule::Allowed)),
        Command::Unblock(unblock) => ("unblock", &unblock.peer_id, None),
        _ => return,
    };
    let subject = match parse_recipient(of) {
        Ok(Recipient::Address(address)) => Subject::Agent(address),
        Ok(Recipient::Peer(peer)) => Subject::Node(peer),
        Err(message) => return cx.refuse(to, ErrorCode::InvalidArgument, message),
    };
    if [Subject::Agent(cx.identity.address), Subject::Node(cx.identity.peer)].contains(&subject) {
        return cx.refuse(
            to,
            ErrorCode::InvalidArgument,
            "`peerId` is this agent or its node; name another one",
        );
    }
    if let Err(full) = gate.access_list.set(subject, rule) {
        return cx.refuse(to, ErrorCode::Busy, full.to_string());
    }
    if rule != Some(AccessRule::Blocked) {
        peers.pardon(subject, gate, directory, cx);
    }
    // Also a rule that is set already: its first write may have failed.
    mail.persist_access_rule(subject, rule, to, name, cx);
}

/// Answers `peers`. `needs` is what the components above need connections for.
pub(crate) fn list_peers(
    to: ReplyTo,
    gate: &Gate,
    directory: &Directory,
    peers: &Peers,
    needs: &dyn Needs,
    cx: &mut Cx,
) {
    let now = cx.now;
    let topics = needs.topics();
    let (scoring, kept) = (Scoring::new(peers, &topics, now), Kept::new(peers, &topics, gate, directory));
    let mut room = cx.room_for_lists(Some(to.client));
    let mut names = |rule| -> Vec<String> {
        let names = gate.access_list.with_rule(rule).map(|subject| subject.to_string());
        names.filter(|name| room.fits(name)).collect()
    };
    let (blocked, allowed) = (names(AccessRule::Blocked), names(AccessRule::Allowed));
    let mut connected = Vec::new();
    for (peer, known) in peers.table.connections() {
        let record = directory.records.by_peer(peer, now.unix_ms);
        let name = record.map(|record| record.record.name.clone()).filter(|name| !name.is_empty());
        let links = known.links.report(now.mono);
        let of_links: usize = links.iter().map(|link| LINK_BYTES + line_bytes(&link.remote_address)).sum();
        if !room.takes(PEER_BYTES + of_links + name.as_deref().map_or(0, line_bytes)) {
            break;
        }
        let agent = record.map(SignedRecord::address);
        let latency = peers.histories.get(peer).and_then(History::latency);
        connected.push(ConnectedPeer {
            peer_id: peer.to_string(),
            address: agent.map(|agent| agent.to_string()),
            name,
            role: record.map(|record| record.record.role),
            connected_for_ms: now.mono.saturating_since(known.connected_at).as_millis() as u64,
            score: scoring.of_connected(peer, known, directory).round() as u32,
            round_trip_ms: latency.map(|latency| latency.as_micros().div_ceil(1000) as u64),
            tier: gate.tier(agent.as_ref(), peer).into(),
            reputation: gate.reputations.of_peer(agent, peer, gate.registry.prior(agent.as_ref()), now.mono),
            links,
            messages_in: known.messages_in,
            messages_out: known.messages_out,
            kept_for: kept.reasons(peer, known, |agent| needs.has_mail(agent), now),
        });
    }
    let count = peers.table.connections_len();
    cx.answer(to, "peers", |answer| {
        answer.count = Some(count);
        answer.connected = Some(connected);
        answer.blocked = Some(blocked);
        answer.allowed = Some(allowed);
    });
}
