//! A peer that is killed and returns at once under the same PeerId.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::Child;

/// Longest time from the return to the first broadcast: well below the 8 to 30 s after which QUIC gives
/// up the old connection.
const NOTICED: Duration = Duration::from_secs(7);

/// Returns the QUIC address in a `ready` event.
fn quic_address(ready: &Value) -> String {
    let addrs = ready["addrs"].as_array().unwrap();
    let quic = addrs.iter().find(|addr| addr.as_str().unwrap().contains("/quic-v1")).unwrap();
    quic.as_str().unwrap().to_owned()
}

/// Subscribes a node to the topic.
fn subscribe(node: &mut Child) {
    node.command(json!({"type":"subscribe","topic":"jobs","id":"subscribe"}));
    node.answer("subscribe");
}

/// Publishes until the other node receives something, and returns when that was.
fn first_broadcast(from: &mut Child, to: &Child, what: &str) -> Instant {
    let deadline = Instant::now() + NOTICED;
    for number in 0.. {
        from.command(json!({"type":"send","topic":"jobs","data":[what, number]}));
        if to.received_within(Duration::from_millis(100), |event| event["data"][0] == what) {
            return Instant::now();
        }
        assert!(Instant::now() < deadline, "no broadcast {what} within {NOTICED:?}");
    }
    unreachable!("attempts do not end")
}

#[test]
fn peer_that_returns_at_once_gets_and_sends_broadcasts_again() {
    let quic = ["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"];
    let (mut steady, ready) = Child::join(0xe1, 0, &quic, &[]);
    let entries = [quic_address(&ready)];
    subscribe(&mut steady);
    let (mut peer, first) = Child::join(0xe2, 0, &quic, &entries);
    subscribe(&mut peer);
    first_broadcast(&mut peer, &steady, "first");
    first_broadcast(&mut steady, &peer, "first");
    let port = quic_address(&first).split('/').nth(4).unwrap().to_owned();
    for (round, listen) in [port, "0".to_owned()].into_iter().enumerate() {
        peer.kill();
        let listen = format!("/ip4/127.0.0.1/udp/{listen}/quic-v1");
        let (returned, _) = Child::join(0xe2, 0, &["--listen", &listen], &entries);
        peer = returned;
        subscribe(&mut peer);
        first_broadcast(&mut peer, &steady, &format!("from the peer {round}"));
        first_broadcast(&mut steady, &peer, &format!("to the peer {round}"));
        let gone = |event: &Value| event["type"] == "peer_disconnected";
        steady.expect("the end of the old connection", gone);
    }
    // The parent was told of each connection and of each end, and `peers` says the same.
    let of_peer = |kind: &'static str| {
        let id = first["peerId"].clone();
        move |event: &Value| event["type"] == kind && event["peerId"] == id
    };
    let connections = std::iter::from_fn(|| steady.take(of_peer("peer_connected"))).count();
    assert_eq!(connections, 3);
    assert_eq!(steady.take(of_peer("peer_disconnected")), None);
    steady.command(json!({"type":"peers","id":"peers"}));
    let peers = steady.expect("the peers", |event| event["id"] == "peers");
    assert_eq!(peers["count"], 1);
    assert_eq!(peers["connected"][0]["peerId"], first["peerId"]);
}
