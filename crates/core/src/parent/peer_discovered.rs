//! The `peer_discovered` event.

use std::collections::BTreeSet;

use p2p_node_protocol::{Event, PeerDiscovered};
use p2p_node_wire::record::SignedRecord;

use crate::cx::Cx;
use crate::gate::Gate;
use crate::gate::access_list::AccessRule;
use crate::peers::Peers;
use crate::replies::client::Client;
use crate::replies::reply_to::ReplyTo;

/// Reports an agent that the node found: to the client whose `discover` requested the agent, or to
/// every client without such a command. `topic` is the one that the `discover` requested: the record
/// may have only its hash.
pub(crate) fn emit_peer_discovered(
    record: &SignedRecord,
    requested_by: Option<ReplyTo>,
    topic: Option<&str>,
    gate: &Gate,
    peers: &Peers,
    cx: &mut Cx,
) {
    let peer_id = record.peer_id();
    let (client, request_id) = match requested_by {
        Some(ReplyTo { client, id, .. }) => (Some(client), id),
        None => (None, None),
    };
    if request_id.is_none() && gate.access_list.of(&record.address(), &peer_id) == Some(AccessRule::Blocked) {
        return;
    }
    let mut room = cx.room_for_lists(client);
    let mut fitting = |texts: &mut dyn Iterator<Item = String>| -> Vec<String> {
        texts.filter(|text| room.fits(text)).collect()
    };
    // Host names in a multiaddr may contain any bytes.
    let addrs = record.record.addrs.iter().map(ToString::to_string);
    let addrs = fitting(&mut addrs.filter(|addr| !addr.contains(char::is_control)));
    let capabilities = fitting(&mut record.record.capabilities.iter().cloned());
    let mut topics: BTreeSet<String> = record.record.topics.iter().cloned().collect();
    if let Some(peer) = peers.table.connection(&peer_id) {
        topics.extend(peer.topics.iter().filter(|topic| !crate::topics::is_node_topic(topic)).cloned());
    }
    let requested = topic.filter(|topic| record.record.has_topic(topic)).map(str::to_owned);
    topics.extend(requested.clone());
    // The requested topic comes first, so that it always fits.
    let rest = topics.into_iter().filter(|topic| Some(topic) != requested.as_ref());
    let topics = fitting(&mut requested.clone().into_iter().chain(rest));
    let found = PeerDiscovered {
        peer_id: peer_id.to_string(),
        topics,
        address: record.address().to_string(),
        name: Some(record.record.name.clone()).filter(|name| !name.is_empty()),
        trust: gate.trust(&record.address(), &peer_id, cx.now.mono),
        role: record.record.role,
        addrs,
        capabilities,
        expires_at_ms: record.record.expires_at_ms,
        request_id,
    };
    let (is_answer, peer_id) = (found.request_id.is_some(), found.peer_id.clone());
    let queue = |client: &mut Client, event| match is_answer {
        true => client.output.push_required(event),
        false => client.output.push_peer_event(
            event,
            |event| matches!(event, Event::PeerDiscovered(older) if older.peer_id == peer_id),
        ),
    };
    let (clients, event) = (&mut cx.replies.clients, Event::PeerDiscovered(Box::new(found)));
    let Some(id) = client else { return clients.each(event, queue) };
    if let Some(client) = clients.get_mut(id) {
        queue(client, event);
    }
}
