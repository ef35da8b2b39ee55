//! What takes no room is taken though there is none.

use std::time::Duration;

use p2p_node_protocol::Role;

use crate::mesh::{CONNECT, Mesh};

#[test]
fn an_acknowledgement_finds_its_way_to_a_node_that_has_no_room_for_mail() {
    let mut mesh = Mesh::new(4);
    let full = 3;
    let taker = mesh.add_with(5, Role::Full, CONNECT, |setup| setup.acks_by_hand = true);
    for node in [1, 2, taker] {
        mesh.connect(node, full);
    }
    mesh.send(full, taker, 1, r#","ttlMs":600000"#);
    mesh.settle();
    // Its parent does not read, and others write so urgently that what is kept for urgent mail is used up too.
    mesh.nodes[full].reads = false;
    for node in [1, 2] {
        let urgent = mesh.nodes[node].address.clone();
        mesh.say(full, &format!(r#"{{"type":"allow","peerId":"{urgent}"}}"#));
        for data in 0..15_000 {
            mesh.send(node, full, data, r#","ttlMs":600000,"priority":"high""#);
        }
    }
    mesh.pass(Duration::from_secs(30));
    let stats = mesh.nodes[full].core.stats();
    assert!(stats.get("mail_busy") > 0, "there is no room");
    assert_eq!(stats.get("mail_delivered"), 0);
    let id = mesh.lines(taker, "message")[0]["messageId"].as_str().unwrap().to_owned();
    mesh.say(taker, &format!(r#"{{"type":"ack","messageId":"{id}"}}"#));
    mesh.pass(Duration::from_millis(100));
    assert_eq!(mesh.nodes[full].core.stats().get("mail_delivered"), 1);
}
