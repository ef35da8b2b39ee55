//! Configuration of DNS resolvers, for host names in addresses and for DNS seeds.

use std::net::SocketAddr;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};

/// Returns the configuration of a resolver that asks one server.
pub fn server_config(server: SocketAddr) -> (ResolverConfig, ResolverOpts) {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.into());
    (ResolverConfig::from_name_servers(vec![server]), ResolverOpts::default())
}
