//! Listening on a port, and the reported addresses.

use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use p2p_node::io::swarm::{AddressScope, SwarmConfig};
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::Input;
use p2p_node_protocol::Role;

use super::node::{Node, config};

#[tokio::test]
async fn quic_listens_on_the_port_of_tcp() {
    let node = Node::listening(config(1, Role::Full)).await;
    let port = node.addrs[0].iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    let port = port.unwrap();
    let tcp: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let quic: Multiaddr = format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap();
    assert_eq!(node.addrs, [tcp, quic]);
}

fn port(part: Protocol<'_>) -> u16 {
    match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => port,
        other => panic!("{other} has no port"),
    }
}

async fn listen_failure(node: &mut Node) -> String {
    node.expect("failure", |input| match input {
        Input::ListenFailed { reason } => Some(reason.clone()),
        Input::Listening { .. } => panic!("listens on a port in use"),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn listen_on_port_in_use_fails() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let mut node = Node::start(config(1, Role::Full));
    node.apply(NetworkCommand::Listen { port }).await;
    assert!(listen_failure(&mut node).await.contains(&port.to_string()));
}

#[tokio::test]
async fn listen_on_port_of_another_node_fails() {
    let first = Node::listening(config(1, Role::Full)).await;
    let port = first.addrs[0].iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    let mut second = Node::start(config(2, Role::Full));
    second.apply(NetworkCommand::Listen { port: port.unwrap() }).await;
    listen_failure(&mut second).await;
}

#[tokio::test]
async fn listen_without_udp_uses_tcp_only() {
    // A port that is free for TCP and in use for UDP.
    let (udp, port) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = udp.local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            break (udp, port);
        }
    };
    let mut node = Node::start(config(1, Role::Full));
    node.apply(NetworkCommand::Listen { port }).await;
    let reason = node
        .expect("degradation", |input| match input {
            Input::Degraded { reason } => Some(reason.clone()),
            _ => None,
        })
        .await;
    assert!(reason.contains("quic"), "{reason}");
    let addrs = node
        .expect("listening", |input| match input {
            Input::Listening { addrs } => Some(addrs.clone()),
            _ => None,
        })
        .await;
    assert_eq!(addrs, [format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()]);
    drop(udp);
}

#[tokio::test]
async fn listen_address_option_is_used() {
    let quic: Multiaddr = "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap();
    let mut a = Node::listening(config(1, Role::Full)).await;
    let b = Node::listening(SwarmConfig { listen: Some(vec![quic]), ..config(2, Role::Full) }).await;
    assert_eq!(b.addrs.len(), 1);
    a.dial(&b).await;
    assert_eq!(a.connected().await, (b.peer, true));
}

/// Opens sockets on every interface and sends nothing.
#[tokio::test]
async fn all_interfaces_are_reported_for_both_transports() {
    let node = Node::listening(SwarmConfig { scope: AddressScope::Private, ..config(1, Role::Full) }).await;
    let (quic, tcp): (Vec<_>, Vec<_>) =
        node.addrs.iter().partition(|addr| addr.iter().any(|part| part == Protocol::QuicV1));
    let ips = |addrs: &[&Multiaddr]| {
        let mut ips: Vec<_> =
            addrs.iter().filter_map(|addr| addr.iter().next()).map(|ip| ip.to_string()).collect();
        ips.sort();
        ips
    };
    assert!(ips(&tcp).contains(&"/ip4/127.0.0.1".to_owned()));
    assert_eq!(ips(&tcp), ips(&quic));
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    assert_eq!(ips(&tcp).contains(&"/ip6/::1".to_owned()), has_ipv6);
    let ports: BTreeSet<_> = node.addrs.iter().filter_map(|addr| addr.iter().nth(1)).map(port).collect();
    assert_eq!(ports.len(), 1, "{:?}", node.addrs);
}
