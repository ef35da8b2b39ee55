//! Checks that `Debug` and `Display` output, which may reach a log or a panic message, shows no
//! secret.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests fail by panicking")]

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use p2p_node::config::{Config, RunArgs};
use p2p_node::io::swarm::{DEFAULT_CONNECTION_TIMEOUT, SwarmConfig};
use p2p_node_core::gate::address_scope::AddressScope;
use p2p_node_core::local::addresses::Reachability;
use p2p_node_testing::secrets::{check, hex, secret};

#[test]
fn debug_of_swarm_config_shows_no_key() {
    check(
        "a swarm's configuration",
        &SwarmConfig {
            seed: secret().into(),
            network: "dev".to_owned(),
            scope: AddressScope::Loopback,
            address_rules: Default::default(),
            serves_dht: false,
            dns_server: None,
            listen: None,
            reachability: Reachability::Reachable,
            relay_bytes: None,
            upnp: false,
            mdns: false,
            max_connections: 1,
            max_handshakes: 64,
            connections_per_address: 3,
            connection_timeout: DEFAULT_CONNECTION_TIMEOUT,
            agent_version: String::new(),
        },
    );
}

#[test]
fn debug_of_config_shows_no_key() {
    for variable in ["PRIVATE_KEY", "EPHEMERAL_KEY"] {
        let environment: HashMap<&str, OsString> = [(variable, hex(&secret()).into())].into();
        let read = |name: &str| environment.get(name).cloned();
        let config = Config::resolve(&RunArgs::default(), &read, Path::new("/nonexistent")).unwrap();
        check(variable, &config);
    }
}
