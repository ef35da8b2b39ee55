//! Dial rate to a peer that accepts connections and closes them at once.

use std::time::Duration;

use p2p_node_protocol::{Counter, Role};

use crate::mesh::{CONNECT, Mesh, node_key};

/// How long a peer hangs up on every connection.
const TIME: Duration = Duration::from_secs(11);
/// Dials in that time, at most: pauses that double from half a second on.
const MOST: u64 = 6;

/// Has the second node hang up on the first as soon as it is connected; how often the first dials
/// it.
fn dials(mesh: &mut Mesh) -> u64 {
    let until = mesh.now + TIME;
    let before = mesh.nodes[0].core.stats().get(Counter::Dials);
    while mesh.now < until {
        mesh.hang_up(0, 1);
        mesh.pass(Duration::from_millis(1));
    }
    mesh.nodes[0].core.stats().get(Counter::Dials) - before
}

/// Two agents that know each other.
fn acquainted() -> Mesh {
    let mut mesh = Mesh::new(0);
    mesh.add(2, Role::Full);
    mesh.add(3, Role::Full);
    mesh.connect(0, 1);
    mesh.pass(Duration::from_secs(20));
    mesh
}

#[test]
fn mail_to_a_peer_that_hangs_up_dials_it_with_growing_pauses() {
    for more in ["", r#","route":"direct""#, r#","route":"gossip""#] {
        let mut mesh = acquainted();
        for data in 0..3 {
            mesh.send(0, 1, data, &format!(r#"{more},"ttlMs":600000"#));
        }
        mesh.hang_up(0, 1);
        let dials = dials(&mut mesh);
        assert!((1..=MOST).contains(&dials), "{dials} dials with {more}");
        mesh.pass(Duration::from_secs(120));
        assert!(mesh.received(1).len() >= 3, "it is reached once it stays");
    }
}

#[test]
fn new_mail_to_a_peer_that_hangs_up_does_not_dial_it_each_time() {
    let mut mesh = acquainted();
    let until = mesh.now + TIME;
    let before = mesh.nodes[0].core.stats().get(Counter::Dials);
    while mesh.now < until {
        mesh.hang_up(0, 1);
        mesh.send(0, 1, 1, r#","route":"direct","ttlMs":300"#);
        mesh.pass(Duration::from_millis(10));
    }
    let dials = mesh.nodes[0].core.stats().get(Counter::Dials) - before;
    assert!((1..=MOST).contains(&dials), "{dials} dials");
}

#[test]
fn a_bootstrap_peer_that_hangs_up_is_dialled_with_growing_pauses() {
    let mut mesh = Mesh::new(0);
    let addr = "/ip4/127.0.0.1/tcp/1001".parse().unwrap();
    mesh.add_with(2, Role::Full, CONNECT, |setup| setup.bootstraps = vec![(node_key(3).peer_id(), addr)]);
    mesh.add(3, Role::Full);
    mesh.send(0, 1, 1, r#","ttlMs":600000"#);
    let dials = dials(&mut mesh);
    assert!((1..=MOST).contains(&dials), "{dials} dials");
}
