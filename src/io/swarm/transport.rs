//! Transports: TCP with Noise and Yamux, QUIC, and DNS if the scope allows it. They never dial an
//! address outside the address scope, and none that the operator blocked.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_resolver::system_conf::read_system_conf;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::metrics::BandwidthTransport;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Transport, dns, noise, quic, relay, tcp, yamux};
use prometheus_client::registry::Registry;

use super::SetupError;
use super::handshakes::{EvictedHandshakes, LimitedHandshakes};
use super::refused_hosts::RefusedHosts;
use crate::io::dns::server_config;
use p2p_node_core::gate::address_rules::AddressRules;
use p2p_node_core::gate::address_scope::AddressScope;

/// Default of the time to set up a connection that this node dials, including handshakes. The CHORUS
/// node package has 30 s. Our choice is a third: a host that has not answered within 10 s rarely does
/// later, each attempt holds one of the 10 places of the dial queue, and this node tries again.
pub const DEFAULT_CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest connection timeout: our choice, several round trips around the world.
pub const MIN_CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest connection timeout: our choice, ten times that of the CHORUS node package.
pub const MAX_CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);

/// Maximum number of open streams on one connection, all protocols together. Long-lived streams are 8 of
/// mail and 4 of gossipsub; the others are short. Kademlia opens the most, up to 32 in each direction.
const MAX_STREAMS: usize = 96;

/// QUIC flow-control windows of a stream and a connection, in bytes: about one mail frame of
/// maximum size per stream, and four per connection. With the defaults of 10 MB and 15 MB every
/// peer could pin that much memory.
const QUIC_STREAM_WINDOW: u32 = 1 << 20;
const QUIC_CONNECTION_WINDOW: u32 = 4 << 20;

/// Time without packets, in ms, after which a QUIC connection is closed. Keep-alives are sent every
/// 5 s.
const QUIC_IDLE_TIMEOUT_MS: u32 = 30_000;

type Connection = (PeerId, StreamMuxerBox);

/// What [`build`] creates.
pub(super) struct Built {
    pub transport: Boxed<Connection>,
    pub relay_client: relay::client::Behaviour,
    /// A warning if DNS is not available. The node runs without DNS, because most addresses contain no
    /// host name.
    pub degraded: Option<String>,
}

/// Variable of the environment that makes TLS libraries write the secrets of each connection to a file,
/// for programs that decrypt recorded traffic. libp2p obeys it for QUIC, and nothing can forbid it.
pub const KEY_LOG: &str = "SSLKEYLOGFILE";

/// Returns a warning if the environment makes libp2p write secrets to a file.
pub fn key_log_warning() -> Option<String> {
    let file = std::env::var_os(KEY_LOG)?;
    Some(format!(
        "{KEY_LOG} is set: the secrets of QUIC connections are written to {}; unset it unless you want to \
         decrypt the traffic of this node",
        file.display()
    ))
}

/// The addresses that the node may dial.
#[derive(Clone, Debug)]
pub(super) struct Dialable {
    pub scope: AddressScope,
    pub rules: Arc<AddressRules>,
}

/// Creates the transport. `handshakes` are the most incoming ones at the same time, the hosts that have
/// none, and the counter of those that ended early. Addresses at relays come first: the transports of sockets would
/// dial the relay instead.
pub(super) fn build(
    keypair: &Keypair,
    dialable: &Dialable,
    dns_server: Option<SocketAddr>,
    timeout: Duration,
    (max, refused, evicted): (u32, RefusedHosts, EvictedHandshakes),
    metrics: Option<&mut Registry>,
) -> Result<Built, SetupError> {
    let sockets = sockets(keypair, dialable, timeout, metrics)?;
    let (direct, degraded) = direct(sockets, dialable.scope, dns_server);
    let (relayed, relay_client) = relay::client::new(keypair.public().to_peer_id());
    let relayed = relayed
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair)?)
        .multiplex(yamux_config())
        .boxed();
    let relayed = timed(relayed, timeout).boxed();
    let transport = relayed.or_transport(direct).map(|either, _| either.into_inner()).boxed();
    let transport = LimitedHandshakes::new(transport, max, refused, evicted).boxed();
    Ok(Built { transport, relay_client, degraded })
}

/// Creates the transport without relays, and a warning if DNS is not available. `dns_server` replaces
/// the DNS servers of the system.
fn direct(
    sockets: Scoped,
    scope: AddressScope,
    dns_server: Option<SocketAddr>,
) -> (Boxed<Connection>, Option<String>) {
    if scope == AddressScope::Loopback {
        return (sockets.boxed(), None);
    }
    match dns_server.map_or_else(read_system_conf, |server| Ok(server_config(server))) {
        Ok((config, options)) => (dns::tokio::Transport::custom(sockets, config, options).boxed(), None),
        Err(error) => {
            let degraded =
                format!("DNS is not available ({error}): the node cannot dial addresses with host names");
            (sockets.boxed(), Some(degraded))
        }
    }
}

fn yamux_config() -> yamux::Config {
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(MAX_STREAMS);
    yamux
}

/// Limits the time of dials. Handshakes of connections that come in have a limit of their own.
fn timed<T: Transport>(transport: T, timeout: Duration) -> TransportTimeout<T> {
    TransportTimeout::with_outgoing_timeout(transport, timeout)
}

/// Creates the TCP and QUIC transports. They count their bytes if there is a registry of metrics.
fn sockets(
    keypair: &Keypair,
    dialable: &Dialable,
    timeout: Duration,
    metrics: Option<&mut Registry>,
) -> Result<Scoped, SetupError> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair)?)
        .multiplex(yamux_config())
        .boxed();
    let tcp = timed(tcp, timeout);

    let mut quic = quic::Config::new(keypair);
    quic.max_concurrent_stream_limit = MAX_STREAMS as u32;
    quic.max_stream_data = QUIC_STREAM_WINDOW;
    quic.max_connection_data = QUIC_CONNECTION_WINDOW;
    quic.max_idle_timeout = QUIC_IDLE_TIMEOUT_MS;
    quic.handshake_timeout = timeout;
    let quic = quic::tokio::Transport::new(quic)
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));

    let both = tcp.or_transport(quic).map(|either, _| either.into_inner()).boxed();
    let inner = match metrics {
        Some(registry) => BandwidthTransport::new(both, registry)
            .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
            .boxed(),
        None => both,
    };
    Ok(Scoped { dialable: dialable.clone(), inner })
}

/// Returns `true` for an IP address with a port of TCP or QUIC, and at most the peer after it. The transports of
/// libp2p also take addresses with other parts, and dial the last of several IP addresses.
fn is_socket(addr: &Multiaddr) -> bool {
    let mut parts = addr.iter();
    let is_ip = matches!(parts.next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)));
    let is_port = match parts.next() {
        Some(Protocol::Tcp(_)) => true,
        Some(Protocol::Udp(_)) => matches!(parts.next(), Some(Protocol::QuicV1)),
        _ => false,
    };
    is_ip && is_port && matches!(parts.next(), None | Some(Protocol::P2p(_))) && parts.next().is_none()
}

/// Transport that refuses to dial addresses outside the scope, and blocked ones. It covers all sources of addresses:
/// the core, Kademlia (which learns addresses from strangers), and DNS answers.
struct Scoped {
    dialable: Dialable,
    inner: Boxed<Connection>,
}

impl Transport for Scoped {
    type Output = Connection;
    type Error = io::Error;
    type ListenerUpgrade = <Boxed<Connection> as Transport>::ListenerUpgrade;
    type Dial = <Boxed<Connection> as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        if !is_socket(&addr) || !self.dialable.scope.permits(&addr) {
            return Err(TransportError::MultiaddrNotSupported(addr));
        }
        if self.dialable.rules.blocks(&addr) {
            let reason = io::Error::new(io::ErrorKind::PermissionDenied, "--block-ip blocks the address");
            return Err(TransportError::Other(reason));
        }
        self.inner.dial(addr, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::Endpoint;
    use libp2p::core::transport::PortUse;

    use super::*;

    fn built(keypair: &Keypair, timeout: Duration) -> Built {
        let blocked = "127.0.0.2/32".parse().unwrap();
        let rules: Arc<AddressRules> = AddressRules::new(&[], &[blocked]).into();
        let refused = RefusedHosts::new(Arc::clone(&rules));
        let dialable = Dialable { scope: AddressScope::Loopback, rules };
        build(keypair, &dialable, None, timeout, (1, refused, EvictedHandshakes::default()), None).unwrap()
    }

    #[tokio::test]
    async fn dial_of_a_silent_host_ends_after_the_timeout() {
        let keypair = Keypair::generate_ed25519();
        let timeout = Duration::from_millis(50);
        let mut transport = built(&keypair, timeout).transport;
        // The system accepts connections, and nobody answers the handshake.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port());
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let began = tokio::time::Instant::now();
        let failed = transport.dial(addr.parse().unwrap(), opts).unwrap().await;
        assert!(failed.is_err() && began.elapsed() >= timeout);
    }

    #[tokio::test]
    async fn address_that_is_outside_of_the_scope_or_blocked_is_not_dialed() {
        let keypair = Keypair::generate_ed25519();
        let mut transport = built(&keypair, DEFAULT_CONNECTION_TIMEOUT).transport;
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        for outside in ["/ip4/192.0.2.1/tcp/9", "/ip4/192.0.2.1/udp/9/quic-v1", "/dns4/localhost/tcp/9"] {
            let refused = transport.dial(outside.parse().unwrap(), opts);
            assert!(matches!(refused, Err(TransportError::MultiaddrNotSupported(_))), "{outside}");
        }
        for blocked in ["/ip4/127.0.0.2/tcp/9", "/ip4/127.0.0.2/udp/9/quic-v1"] {
            let refused = transport.dial(blocked.parse().unwrap(), opts);
            assert!(
                refused.err().is_some_and(|error| format!("{error:?}").contains("--block-ip")),
                "{blocked}"
            );
        }
        assert!(transport.dial("/ip4/127.0.0.1/tcp/9".parse().unwrap(), opts).is_ok());
    }

    #[tokio::test]
    async fn address_with_more_than_one_place_or_peer_is_not_dialed() {
        let keypair = Keypair::generate_ed25519();
        let mut transport = built(&keypair, DEFAULT_CONNECTION_TIMEOUT).transport;
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let peer = keypair.public().to_peer_id();
        for addr in [
            // The second address is outside of the scope, and the third one is blocked.
            "/ip4/127.0.0.1/ip4/192.0.2.1/tcp/9".to_owned(),
            "/ip4/127.0.0.1/ip4/127.0.0.2/tcp/9".to_owned(),
            "/ip4/127.0.0.1/tcp/9/tcp/9".to_owned(),
            "/ip4/127.0.0.1/udp/9".to_owned(),
            format!("/ip4/127.0.0.1/tcp/9/p2p/{peer}/p2p/{peer}"),
            format!("/ip4/127.0.0.1/udp/9/quic-v1/p2p/{peer}/p2p/{peer}"),
        ] {
            let refused = transport.dial(addr.parse().unwrap(), opts);
            assert!(matches!(refused, Err(TransportError::MultiaddrNotSupported(_))), "{addr}");
        }
        for addr in ["/ip4/127.0.0.1/tcp/9", "/ip4/127.0.0.1/udp/9/quic-v1"] {
            let addr: Multiaddr = format!("{addr}/p2p/{peer}").parse().unwrap();
            assert!(transport.dial(addr.clone(), opts).is_ok(), "{addr}");
        }
    }
}
