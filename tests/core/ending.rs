//! How a node ends, and what must not end it.

use std::time::Duration;

use p2p_node::core::input::Now;

use crate::mesh::Mesh;

#[test]
fn no_wall_clock_is_too_absurd() {
    let mut mesh = Mesh::new(1);
    for (secs, unix_ms) in [(3600, u64::MAX), (7200, 0), (10_800, u64::MAX - 1), (14_400, u64::MAX / 2)] {
        let now = Now { mono: Duration::from_secs(secs), unix_ms };
        mesh.nodes[0].core.turn(now);
        while mesh.nodes[0].core.poll_effect().is_some() {}
    }
    assert!(mesh.nodes[0].exit.is_none());
}
