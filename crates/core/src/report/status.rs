//! The answer to `status`: the state of this node.

use p2p_node_protocol::{DhtState, StatusReport};

use crate::local::addresses::is_relayed;
use crate::report::line_room::LineRoom;
use crate::report::{Sources, counts, most_frequent, nodes, role_name};

impl Sources<'_> {
    /// Returns the answer to `status`. Its line has at most `max_line` bytes: addresses, topics and names that
    /// do not fit are left out.
    pub(crate) fn status(self, max_line: usize) -> StatusReport {
        let known = nodes::known(&self);
        let mut status = self.numbers(self.metrics(&known));
        let Sources { local, directory, peers, gossip, cx, .. } = self;
        let now = cx.now;
        let mut room = LineRoom::after(&status, max_line);
        let texts = |addrs: Vec<multiaddr::Multiaddr>| addrs.into_iter().map(|addr| addr.to_string());
        let published = local.addresses.published(now.mono);
        let (relayed, _): (Vec<_>, Vec<_>) = published.iter().cloned().partition(is_relayed);
        let roles =
            peers.table.connections().filter_map(|(peer, _)| directory.records.by_peer(peer, now.unix_ms));
        let roles = roles.map(|record| role_name(record.record.role).to_owned());
        status.counters = room.map(cx.stats.snapshot());
        status.addrs = room.list(texts(local.listening(cx)));
        status.published_addrs = room.list(texts(published));
        status.topics = room.list(gossip.subscribed.topics());
        status.peers_by_role = room.map(most_frequent(roles));
        status.external_addrs = room.list(texts(local.addresses.external(false)));
        status.relayed_addrs = room.list(texts(relayed));
        status.limits_hit = room.map(counts::limits_hit(cx));
        status.topic_details = room.list(self.topics());
        status.distribution = self.distribution(&known, &mut room);
        status
    }

    /// Returns the status without its lists.
    fn numbers(&self, metrics: p2p_node_protocol::ReportMetrics) -> StatusReport {
        let Sources { gate, directory, peers, gossip, mail, cx, .. } = self;
        StatusReport {
            peer_id: cx.identity.peer_text.clone(),
            address: cx.identity.address_text.clone(),
            uptime_ms: cx.now.mono.since_start().as_millis() as u64,
            peers: peers.table.connections_len(),
            relayed_peers: peers.table.connections().filter(|(_, connection)| connection.is_relayed).count(),
            servers: peers.table.servers_len(),
            agents: directory.records.len(),
            outbox: mail.outbox.len(),
            outbox_bytes: mail.outbox.bytes(),
            queued_broadcasts: gossip.broadcasts.queued(),
            role: cx.identity.role,
            health_score: metrics.health_score,
            causes: metrics.causes,
            dht: DhtState {
                mode: if cx.serves_dht { "server" } else { "client" }.to_owned(),
                table: peers.dht_servers.len(),
            },
            inbox: cx.replies.clients.waiting_messages(),
            messages: counts::messages(cx),
            latency: cx.stats.traffic.latencies(),
            bandwidth: cx.stats.traffic.bandwidth(),
            load: self.load(),
            bans: gate.reputations.lens()[3],
            registry: self.registry(),
            ..StatusReport::default()
        }
    }
}
