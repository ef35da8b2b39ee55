//! The configuration of a core for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use p2p_node_core::gate::address_scope::AddressScope;
use p2p_node_core::gate::admission_policy::AdmissionMode;
use p2p_node_core::gate::flow_guards::FlowLimits;
use p2p_node_core::local::addresses::Reachability;
use p2p_node_core::local::dht_mode::DhtMode;
use p2p_node_core::mail::inbound::files::FileLimits;
use p2p_node_core::peers::limits::ConnectionLimits;
use p2p_node_core::report::nodes::MAX_KNOWN;
use p2p_node_core::{CoreConfig, KeySource};
use p2p_node_protocol::Role;
use p2p_node_wire::identity::{NodeKey, SignedBinding};
use p2p_node_wire::seal::suite::Suite;

/// Returns the configuration of an agent's node with default options: in memory, with automatic
/// acks, on the loopback interface. Its seeds are constants, so it is for tests only.
pub fn config(node_key: NodeKey, binding: SignedBinding) -> CoreConfig {
    CoreConfig {
        node_key,
        binding,
        agent: None,
        name: String::new(),
        role: Role::Full,
        version: "test".to_owned(),
        port: 0,
        http: None,
        grpc: None,
        a2a: None,
        bootstraps: Vec::new(),
        rendezvous: false,
        peer_book: None,
        regions: BTreeMap::new(),
        preferred_regions: Vec::new(),
        dns_seeds: false,
        has_parent: true,
        stay_on_eof: false,
        require_delivery: false,
        receive_after_eof: Duration::ZERO,
        drain_timeout: Duration::from_secs(5),
        key_source: KeySource::Given,
        scope: AddressScope::Loopback,
        address_rules: Arc::default(),
        reachability: Reachability::Reachable,
        external_addrs: Vec::new(),
        dht_mode: DhtMode::Client,
        serves_relay: false,
        observes: false,
        forget_nodes_after: MAX_KNOWN,
        limits_apply: false,
        has_chain: false,
        registry: None,
        flow: FlowLimits::default(),
        connections: ConnectionLimits::default(),
        admission: AdmissionMode::Open,
        boot: 1,
        database: [1; 16],
        kem_seed: [1; 32].into(),
        suite: Suite::default(),
        seed: 1,
        trace_seed: None,
        durable: false,
        manual_ack: false,
        one_of_several: false,
        files: FileLimits { has_directory: true, max_bytes: 1 << 30, quota_bytes: 4 << 30 },
        outbox: Vec::new(),
        inbox: Vec::new(),
        highest_seen: Vec::new(),
        access_rules: Vec::new(),
        bans: Vec::new(),
    }
}
