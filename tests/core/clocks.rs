//! Neighbours whose clocks agree that ours is off.

use p2p_node::core::envelope::Scope;
use p2p_node::core::input::Input;
use p2p_node_protocol::Role;

use crate::forged::frame;
use crate::mesh::{Mesh, START_MS, node_key};

/// Has neighbours say something that they dated by clocks which are `ahead_ms` ahead, and returns what the node says about its own.
fn told(neighbours: u8, ahead_ms: i64, by_gossip: bool) -> Vec<serde_json::Value> {
    let mut mesh = Mesh::new(1);
    for number in 2..2 + neighbours {
        let node = mesh.add(number, Role::Full);
        mesh.connect(node, 0);
    }
    for number in 2..2 + neighbours {
        let from = node_key(number).peer_id();
        let scope = match by_gossip {
            true => Scope::Topic("node-status".to_owned()),
            false => Scope::NodeKey(node_key(1).public().to_vec().into()),
        };
        let data =
            frame(number, scope, 7, |body| body.created_at_ms = START_MS.saturating_add_signed(ahead_ms));
        let token = 5000 + u64::from(number);
        mesh.input(
            0,
            match by_gossip {
                true => Input::Gossip { token, from, topic: "node-status".to_owned(), data },
                false => Input::MailAsked { token, peer: from, frame: data },
            },
        );
    }
    mesh.lines(0, "error").into_iter().cloned().collect()
}

#[test]
fn a_clock_that_is_off_is_told_of_however_far() {
    for by_gossip in [false, true] {
        for ahead_ms in [16_000, 600_000, -600_000] {
            let errors = told(5, ahead_ms, by_gossip);
            assert_eq!(errors.len(), 1, "{ahead_ms} {errors:?}");
            assert_eq!(
                (&errors[0]["code"], &errors[0]["details"]["aheadMs"]),
                (&"CLOCK_SKEW".into(), &(-ahead_ms).into())
            );
            let which = if ahead_ms > 0 { "behind" } else { "ahead" };
            assert!(errors[0]["message"].as_str().unwrap().contains(which), "{errors:?}");
        }
    }
}

#[test]
fn few_neighbours_or_small_differences_are_no_reason() {
    assert!(told(4, 600_000, false).is_empty());
    assert!(told(6, 10_000, false).is_empty());
}
