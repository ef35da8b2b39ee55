//! A fresh core for the tests of single components. The keys are for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use libp2p_identity::PeerId;
use p2p_node_protocol::{Event, Role};
use p2p_node_wire::identity::testing::{NOW_SECS, agent, binding, node};
use p2p_node_wire::seal::suite::Suite;
use p2p_node_wire::time::Instant;

use crate::client_id::ClientId;
use crate::effect::Effect;
use crate::gate::address_scope::AddressScope;
use crate::gate::admission_policy::AdmissionMode;
use crate::gate::flow_guards::FlowLimits;
use crate::input::Now;
use crate::local::addresses::Reachability;
use crate::local::dht_mode::DhtMode;
use crate::mail::inbound::files::FileLimits;
use crate::peers::limits::ConnectionLimits;
use crate::report::nodes::MAX_KNOWN;
use crate::signal::Signal;
use crate::{Core, CoreConfig, KeySource};

/// The time at which the core starts.
pub(crate) const START: Now = Now { mono: Instant::ZERO, unix_ms: NOW_SECS * 1000 };

/// Returns a core that has not started to listen. `configure` changes the configuration.
pub(crate) fn core_with(configure: impl FnOnce(&mut CoreConfig)) -> Core {
    let mut config = CoreConfig {
        node_key: node(),
        binding: agent().bind(binding()).expect("a binding"),
        agent: Some(agent()),
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
    };
    configure(&mut config);
    Core::new(config, START)
}

/// Returns a core with the default configuration.
pub(crate) fn core() -> Core {
    core_with(|_| {})
}

/// What tests read of a core.
pub(crate) trait TestCore {
    /// Takes the raised signals, without routing them.
    fn signals(&mut self) -> Vec<Signal>;

    /// Admits a connected peer without a handshake.
    fn admit(&mut self, peer: PeerId);

    /// Takes the effects.
    fn effects(&mut self) -> Vec<Effect>;

    /// Writes the queued lines and returns their events.
    fn lines(&mut self) -> Vec<Event>;

    /// Writes the queued lines and returns their events, each with its client.
    fn lines_by_client(&mut self) -> Vec<(ClientId, Event)>;
}

impl TestCore for Core {
    fn signals(&mut self) -> Vec<Signal> {
        self.cx.signals.drain(..).collect()
    }

    fn admit(&mut self, peer: PeerId) {
        let connection = self.peers.table.connection_mut(&peer).expect("a connection");
        connection.agent = Some(Address::ZERO);
        self.peers.end_admission(&peer, &mut self.cx);
    }

    fn effects(&mut self) -> Vec<Effect> {
        self.cx.effects.drain(..).collect()
    }

    fn lines(&mut self) -> Vec<Event> {
        self.lines_by_client().into_iter().map(|(_, event)| event).collect()
    }

    fn lines_by_client(&mut self) -> Vec<(ClientId, Event)> {
        self.cx.flush_output();
        let lines = |effect: Effect| match effect {
            Effect::Emit { client, event, .. } => Some((client, event)),
            _ => None,
        };
        self.effects().into_iter().filter_map(lines).collect()
    }
}
