//! What the declarations of settings use: their types, parsers and defaults.

pub(super) use std::net::SocketAddr;
pub(super) use std::path::PathBuf;
pub(super) use std::time::Duration;

pub(super) use alloy::primitives::{Address, U256};
pub(super) use hickory_resolver::proto::rr::Name;
pub(super) use ipnet::IpNet;
pub(super) use libp2p::Multiaddr;
pub(super) use p2p_node_core::gate::address_scope::AddressScope;
pub(super) use p2p_node_core::gate::admission_policy::AdmissionMode;
pub(super) use p2p_node_core::gate::flow_guards::{DEFAULT_MAX_HOPS, MAX_PER_MINUTE};
pub(super) use p2p_node_core::gate::registry::RegistryPolicy;
pub(super) use p2p_node_core::local::addresses::Reachability;
pub(super) use p2p_node_core::local::dht_mode::DhtMode;
pub(super) use p2p_node_core::peers::limits::{
    CONNECTIONS_PER_ADDRESS, ConnectionLimits, DEFAULT_GRACE, MAX_CONCURRENT_DIALS, MAX_CONNECTIONS,
    MAX_DIALS_PER_SECOND, MIN_CONNECTIONS,
};
pub(super) use p2p_node_core::report::nodes::MAX_KNOWN;
pub(super) use p2p_node_protocol::{Limits, Role};
pub(super) use reqwest::Url;
pub(super) use tracing::level_filters::LevelFilter;

pub(super) use super::traces::otlp_endpoint;
pub(super) use super::values::{
    ack, address, bootstrap_peers, capabilities, connection_timeout, dns_seeds, external_addrs,
    forget_nodes_after, join_stagger, log_format, log_level, max_file, multiaddrs, network_name, networks,
    on_eof, on_off, parse, parse_bool, place, process_id, regions, registry_refresh, relay_bytes, reviewers,
    role, seconds, short_text, some, within,
};
pub(super) use super::{
    Ack, ConfigError, DEFAULT_DRAIN_TIMEOUT, DEFAULT_FILES_QUOTA, DEFAULT_NETWORK, OnEof, Secret,
};
pub(super) use crate::chain::contracts::ENS_REGISTRY;
pub(super) use crate::chain::registry::RegistryKind;
pub(super) use crate::chain::{BlockDepth, DEFAULT_REFRESH, MAX_RPC_SERVERS};
pub(super) use crate::io::rendezvous::Place;
pub(super) use crate::io::swarm::{DEFAULT_CONNECTION_TIMEOUT, DEFAULT_RELAY_BYTES};
pub(super) use crate::logging::LogFormat;
