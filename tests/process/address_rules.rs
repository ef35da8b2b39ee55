//! The settings `--allow-ip` and `--block-ip`.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};

use libp2p::identity::Keypair;
use serde_json::{Value, json};

use crate::child::{Child, test_key};
use crate::one_address::{connect_from, is_answered, limited_node};

#[test]
fn blocked_network_is_refused_before_the_handshake_and_counted() {
    let (mut node, port) = limited_node(0x5b, &["--block-ip", "127.3.0.0/16", "--allow-ip", "127.3.0.9"]);
    for host in [[127, 3, 0, 1], [127, 3, 200, 1]] {
        assert!(!is_answered(&connect_from(host, port)), "{host:?} is blocked");
    }
    for host in [[127, 4, 0, 1], [127, 3, 0, 9]] {
        assert!(is_answered(&connect_from(host, port)), "{host:?} is not");
    }
    let status = node.until("refused connections", |status| {
        status["counters"]["connections_refused_blocked"].as_u64() >= Some(2)
    });
    assert_eq!(status["counters"]["connections_refused_blocked"], 2, "{status}");
}

#[test]
fn blocked_address_is_never_dialled() {
    let (blocked, other) =
        (TcpListener::bind("127.0.0.2:0").unwrap(), TcpListener::bind("127.0.0.3:0").unwrap());
    blocked.set_nonblocking(true).unwrap();
    let bootstraps = [&blocked, &other].map(|listener| {
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        let addr = listener.local_addr().unwrap();
        format!("/ip4/{}/tcp/{}/p2p/{peer}", addr.ip(), addr.port())
    });
    let args =
        ["--block-ip", "127.0.0.2/31", "--allow-ip", "127.0.0.3", "--bootstrap", &bootstraps.join(",")];
    let mut node = Child::spawn(&args, &[("PRIVATE_KEY", &test_key(0x5c))]);
    node.command(json!({"type":"connect","protocol":1}));
    node.expect("ready", |event| event["type"] == "ready");
    // The other one hangs up, so the node dials it again. Each of these dials comes after one of the blocked.
    for _ in 0..2 {
        drop(other.accept().expect("a dial"));
    }
    let none = blocked.accept().expect_err("no dial");
    assert_eq!(none.kind(), ErrorKind::WouldBlock);
}

#[test]
fn allowed_network_has_no_limit_by_address() {
    // The limit for one address is a quarter of the 64 places, see `silent_host_keeps_no_newcomer_out`.
    const SOCKETS: usize = 40;
    let (mut node, port) = limited_node(0x5d, &["--allow-ip", "127.5.0.0/24"]);
    let sockets: Vec<TcpStream> = (0..SOCKETS).map(|_| connect_from([127, 5, 0, 2], port)).collect();
    assert!(sockets.iter().all(is_answered), "each gets an answer");
    let status = node.until("a status", Value::is_object);
    assert_eq!(status["counters"]["connections_refused"].as_u64().unwrap_or(0), 0, "{status}");
}

#[test]
fn network_that_is_none_ends_the_node_with_64_and_a_reason() {
    for (setting, value) in [("--block-ip", "192.0.2.0/33"), ("--allow-ip", "host.example")] {
        let node = Child::spawn(&[setting, value], &[("PRIVATE_KEY", &test_key(0x5e))]);
        let (code, _, stderr) = node.finish();
        assert_eq!(code, 64);
        assert!(
            stderr.contains(&format!("{setting}: {value} is neither an IP address nor a network")),
            "{stderr}"
        );
    }
}
