//! The metrics of libp2p, with a bounded number of series.
//!
//! libp2p labels connections by the protocols of their addresses, which peers can make up, and keeps what
//! peers say of themselves by identify. The node records connections of a limited number of address forms,
//! and of identify only what it does itself. [`NETWORK_METRICS`] lists what it offers.

use std::collections::BTreeSet;

use libp2p::metrics::{Metrics, Recorder};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, identify};
use prometheus_client::registry::Registry;

use super::behaviour::BehaviourEvent;
use super::gossip_watch;

/// Maximum number of address forms, such as `/ip4/tcp`, whose connections count. Our choice: TCP and QUIC on
/// IPv4 and IPv6, with and without the peer, directly and through a relay, make about 20.
pub const MAX_FORMS: usize = 32;

/// The metrics of libp2p that the node offers, in plain text format: name, type and meaning. Their labels
/// are enumerations of libp2p, buckets of the DHT, and address forms.
pub const NETWORK_METRICS: &[(&str, &str, &str)] = &[
    ("libp2p_bandwidth_bytes_total", "counter", "Bytes on all connections, by direction and transport"),
    ("libp2p_dcutr_events_total", "counter", "Attempts of hole punching, by outcome"),
    ("libp2p_gossipsub_messages_total", "counter", "Gossip messages that arrived"),
    ("libp2p_identify_errors_total", "counter", "Failures to identify a peer"),
    ("libp2p_identify_pushed_total", "counter", "Times that the node told a peer of a change of its own"),
    ("libp2p_identify_sent_total", "counter", "Times that the node told a peer about itself"),
    ("libp2p_kad_inbound_requests_total", "counter", "Requests of peers to the DHT, by kind"),
    ("libp2p_kad_query_result_duration_seconds", "histogram", "Time of a DHT query, by kind"),
    ("libp2p_kad_query_result_get_closest_peers_error_total", "counter", "Failed searches for DHT servers"),
    ("libp2p_kad_query_result_get_closest_peers_ok", "histogram", "DHT servers that a search found"),
    ("libp2p_kad_query_result_get_record_error_total", "counter", "Failed searches for records"),
    ("libp2p_kad_query_result_get_record_ok_total", "counter", "Records that searches found"),
    ("libp2p_kad_query_result_num_failure", "histogram", "Failed requests of a DHT query, by kind"),
    ("libp2p_kad_query_result_num_requests", "histogram", "Requests of a DHT query, by kind"),
    ("libp2p_kad_query_result_num_success", "histogram", "Successful requests of a DHT query, by kind"),
    ("libp2p_kad_routing_updated_total", "counter", "Changes of the DHT's routing table, by bucket"),
    ("libp2p_ping_failure_total", "counter", "Failed pings, by reason"),
    ("libp2p_ping_rtt_seconds", "histogram", "Round-trip time of pings"),
    ("libp2p_relay_events_total", "counter", "Events of the relay that the node offers, by kind"),
    ("libp2p_swarm_connections_duration_seconds", "histogram", "Life of a connection, by role and form"),
    ("libp2p_swarm_connections_established_total", "counter", "Connections, by role and form"),
    (
        "libp2p_swarm_connections_establishment_duration",
        "histogram",
        "Seconds to set up a connection, by role and form",
    ),
    ("libp2p_swarm_connections_incoming_error_total", "counter", "Failed incoming connections, by reason"),
    ("libp2p_swarm_connections_incoming_total", "counter", "Incoming connections, by form"),
    ("libp2p_swarm_dial_attempt_total", "counter", "Dials"),
    ("libp2p_swarm_expired_listen_addr_total", "counter", "Listen addresses that are gone"),
    ("libp2p_swarm_listener_closed_total", "counter", "Listeners that closed"),
    ("libp2p_swarm_listener_error_total", "counter", "Failures of listeners"),
    ("libp2p_swarm_new_listen_addr_total", "counter", "Listen addresses"),
    ("libp2p_swarm_outgoing_connection_error_total", "counter", "Failed dials, by reason"),
];

/// Records what happens in the swarm.
pub(super) struct NetworkMetrics {
    metrics: Metrics,
    /// Address forms whose connections count, at most [`MAX_FORMS`].
    forms: BTreeSet<String>,
}

impl NetworkMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        NetworkMetrics { metrics: Metrics::new(registry), forms: BTreeSet::new() }
    }

    /// Records an event.
    pub(super) fn record(&mut self, event: &SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.record_protocol(event),
            event if self.is_bounded(event) => self.metrics.record(event),
            _ => {}
        }
    }

    fn record_protocol(&self, event: &BehaviourEvent) {
        match event {
            // Libp2p would keep all that the peer says, and make labels of it.
            BehaviourEvent::Identify(identify::Event::Received { .. }) => {}
            BehaviourEvent::Identify(event) => self.metrics.record(event),
            BehaviourEvent::Ping(event) => self.metrics.record(event),
            BehaviourEvent::Kad(event) => self.metrics.record(event),
            BehaviourEvent::Relay(event) => self.metrics.record(event),
            BehaviourEvent::HolePunching(event) => self.metrics.record(event),
            BehaviourEvent::Gossip(gossip_watch::Event::Gossipsub(event)) => self.metrics.record(event),
            _ => {}
        }
    }

    /// Returns `true` if the labels of an event are among a limited number.
    fn is_bounded(&mut self, event: &SwarmEvent<BehaviourEvent>) -> bool {
        match event {
            SwarmEvent::ConnectionEstablished { endpoint, .. }
            | SwarmEvent::ConnectionClosed { endpoint, .. } => self.counts(endpoint.get_remote_address()),
            SwarmEvent::IncomingConnection { send_back_addr: addr, .. }
            | SwarmEvent::IncomingConnectionError { send_back_addr: addr, .. }
            | SwarmEvent::NewListenAddr { address: addr, .. }
            | SwarmEvent::ExpiredListenAddr { address: addr, .. } => self.counts(addr),
            SwarmEvent::ListenerClosed { addresses, .. } => addresses.iter().all(|addr| self.counts(addr)),
            // Peers tell the node these addresses.
            SwarmEvent::NewExternalAddrCandidate { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. } => false,
            _ => true,
        }
    }

    /// Returns `true` if addresses of this form count.
    fn counts(&mut self, addr: &Multiaddr) -> bool {
        let form: String = addr.protocol_stack().flat_map(|protocol| ["/", protocol]).collect();
        if self.forms.contains(&form) {
            return true;
        }
        let has_room = self.forms.len() < MAX_FORMS;
        if has_room {
            self.forms.insert(form);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p::core::ConnectedPoint;
    use libp2p::core::transport::PortUse;
    use libp2p::identity::Keypair;
    use libp2p::multiaddr::Protocol;
    use libp2p::swarm::ConnectionId;
    use libp2p::{PeerId, StreamProtocol, core::Endpoint};
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn identified(peer: PeerId, number: usize) -> SwarmEvent<BehaviourEvent> {
        let addr: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", 1 + number % 60_000).parse().unwrap();
        let forms = (0..number / 100).fold(addr, |addr, _| addr.with(Protocol::P2pCircuit));
        let info = identify::Info {
            public_key: Keypair::generate_ed25519().public(),
            protocol_version: format!("version {number}"),
            agent_version: format!("agent {number}"),
            listen_addrs: vec![forms.clone()],
            protocols: vec![StreamProtocol::try_from_owned(format!("/made/up/{number}")).unwrap()],
            observed_addr: forms,
            signed_peer_record: None,
        };
        let connection_id = ConnectionId::new_unchecked(number);
        SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
            connection_id,
            peer_id: peer,
            info,
        }))
    }

    fn series(registry: &Registry) -> usize {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).count()
    }

    /// Records a connection of a peer that invents its address, its names and its protocols.
    fn meet(metrics: &mut NetworkMetrics, number: usize) {
        let peer = PeerId::random();
        let mut address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        (0..number % 100).for_each(|_| address.push(Protocol::P2p(peer)));
        let endpoint = ConnectedPoint::Dialer {
            address: address.clone(),
            role_override: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let connection_id = ConnectionId::new_unchecked(number);
        metrics.record(&SwarmEvent::NewExternalAddrCandidate { address });
        metrics.record(&SwarmEvent::ConnectionEstablished {
            peer_id: peer,
            connection_id,
            endpoint: endpoint.clone(),
            num_established: std::num::NonZeroU32::MIN,
            concurrent_dial_errors: None,
            established_in: Duration::from_millis(1),
        });
        metrics.record(&identified(peer, number));
        // Every second peer stays: libp2p forgets those that go.
        if number.is_multiple_of(2) {
            return;
        }
        let cause = None;
        metrics.record(&SwarmEvent::ConnectionClosed {
            peer_id: peer,
            connection_id,
            endpoint,
            num_established: 0,
            cause,
        });
    }

    #[test]
    fn number_of_series_does_not_grow_with_10_000_peers_that_make_up_addresses_and_names() {
        let mut registry = Registry::default();
        let mut metrics = NetworkMetrics::new(&mut registry);
        (0..100).for_each(|number| meet(&mut metrics, number));
        let after_100 = series(&registry);
        (100..10_000).for_each(|number| meet(&mut metrics, number));
        assert_eq!(series(&registry), after_100);
        assert_eq!(metrics.forms.len(), MAX_FORMS);
        // A histogram of 20 buckets twice, and a counter, for each form; and what has no label.
        assert!(after_100 < MAX_FORMS * 50 + 100, "{after_100}");
    }
}
