//! Dial rate to a peer that accepts connections and closes them at once.

use std::time::Duration;

use p2p_node_protocol::{Counter, Role};

use crate::mesh::{CONNECT, Mesh, node_key};

/// How long a peer ends every connection at once.
const TIME: Duration = Duration::from_secs(11);
/// Most dials in that time: the backoff doubles from half a second on.
const MAX_DIALS: u64 = 7;

/// Ends every connection between the two nodes at once, and returns how often the first node
/// dials.
fn count_dials(mesh: &mut Mesh) -> u64 {
    let until = mesh.now + TIME;
    let before = mesh.nodes[0].core.stats().get(Counter::Dials);
    while mesh.now < until {
        mesh.disconnect(0, 1);
        mesh.advance(Duration::from_millis(1));
    }
    mesh.nodes[0].core.stats().get(Counter::Dials) - before
}

/// Two agents that know each other.
fn pair() -> Mesh {
    let mut mesh = Mesh::new(0);
    mesh.add(2, Role::Full);
    mesh.add(3, Role::Full);
    mesh.connect(0, 1);
    mesh.advance(Duration::from_secs(20));
    mesh
}

#[test]
fn message_to_peer_that_disconnects_dials_with_backoff() {
    for more in ["", r#","route":"direct""#, r#","route":"gossip""#] {
        let mut mesh = pair();
        for data in 0..3 {
            mesh.send(0, 1, data, &format!(r#"{more},"ttlMs":600000"#));
        }
        mesh.disconnect(0, 1);
        let dials = count_dials(&mut mesh);
        assert!((1..=MAX_DIALS).contains(&dials), "{dials} dials with {more}");
        mesh.advance(Duration::from_secs(120));
        assert!(mesh.received(1).len() >= 3, "the messages arrive when the connection lasts");
    }
}

#[test]
fn new_message_to_peer_that_disconnects_keeps_the_backoff() {
    let mut mesh = pair();
    let until = mesh.now + TIME;
    let before = mesh.nodes[0].core.stats().get(Counter::Dials);
    while mesh.now < until {
        mesh.disconnect(0, 1);
        mesh.send(0, 1, 1, r#","route":"direct","ttlMs":300"#);
        mesh.advance(Duration::from_millis(10));
    }
    let dials = mesh.nodes[0].core.stats().get(Counter::Dials) - before;
    assert!((1..=MAX_DIALS).contains(&dials), "{dials} dials");
}

#[test]
fn bootstrap_peer_that_disconnects_is_dialled_with_backoff() {
    let mut mesh = Mesh::new(0);
    let addr = "/ip4/127.0.0.1/tcp/1001".parse().unwrap();
    mesh.add_with(2, Role::Full, CONNECT, |config| config.bootstraps = vec![(node_key(3).peer_id(), addr)]);
    mesh.add(3, Role::Full);
    mesh.send(0, 1, 1, r#","ttlMs":600000"#);
    let dials = count_dials(&mut mesh);
    assert!((1..=MAX_DIALS).contains(&dials), "{dials} dials");
}
