//! `--ack manual`: one `ack` for several messages, and the limit of unacked messages.

use std::time::Duration;

use p2p_node_protocol::Role;

use crate::acks::{ack, answer_code, fixture, message_id, states};
use crate::mesh::Mesh;

#[test]
fn ack_of_several_messages_with_unknown_id_acks_the_known_and_lists_the_unknown() {
    for durable in [false, true] {
        let (mut mesh, recipient) = fixture(durable);
        for data in 1..=3 {
            mesh.send(1, recipient, data, "");
        }
        mesh.settle();
        let ids: Vec<String> = (1..=3).map(|data| message_id(&mesh, recipient, data)).collect();
        let unknown = format!("{}-7", "0".repeat(32));
        let write_ack = |mesh: &mut Mesh, fields: String, id: &str| {
            mesh.command(recipient, &format!(r#"{{"type":"ack",{fields},"id":"{id}"}}"#));
            mesh.advance(Duration::from_millis(50));
        };
        write_ack(&mut mesh, format!(r#""messageIds":["{}","{unknown}","{}"]"#, ids[2], ids[0]), "some");
        let answer = mesh.nodes[recipient].lines.iter().rfind(|line| line["id"] == "some").unwrap();
        assert_eq!(answer["code"], "MESSAGE_NOT_FOUND", "{durable}");
        assert_eq!(answer["details"]["messageIds"], serde_json::json!([unknown]), "{durable}");
        assert_eq!(states(&mesh, 1), ["delivered"; 2], "{durable}: the known messages are acked");
        write_ack(&mut mesh, format!(r#""messageIds":["{}"]"#, ids[1]), "last");
        assert_eq!(answer_code(&mesh, recipient, "last"), "ok", "{durable}");
        assert_eq!(states(&mesh, 1), ["delivered"; 3], "{durable}");

        let many = vec![format!(r#""{}""#, ids[0]); 1025].join(",");
        for (name, fields) in [
            ("neither", r#""messageIds":[]"#.to_owned()),
            ("both", format!(r#""messageId":"{0}","messageIds":["{0}"]"#, ids[0])),
            ("too many", format!(r#""messageIds":[{many}]"#)),
        ] {
            write_ack(&mut mesh, fields, name);
            assert_eq!(answer_code(&mesh, recipient, name), "INVALID_ARGUMENT", "{durable} {name}");
        }
    }
}

#[test]
fn max_unacked_reached_delivers_one_more_message_per_ack() {
    let mut mesh = Mesh::new(2);
    let connect = r#"{"type":"connect","protocol":1,"maxUnacked":6}"#;
    let recipient = mesh.add_with(3, Role::Full, connect, |config| config.manual_ack = true);
    mesh.connect(1, 0);
    mesh.connect(recipient, 0);
    mesh.connect(1, recipient);
    assert_eq!(mesh.lines(recipient, "ready")[0]["limits"]["maxUnacked"], 6);
    for data in 1..=8 {
        mesh.send(1, recipient, data, "");
        mesh.settle();
    }
    mesh.advance(Duration::from_secs(10));
    assert_eq!(
        mesh.received(recipient),
        [1, 2, 3],
        "one sender may use half of maxUnacked; the other half is for other senders"
    );
    for data in 1..=8 {
        let id = message_id(&mesh, recipient, data);
        ack(&mut mesh, recipient, &id);
        mesh.advance(Duration::from_secs(10));
        let last = (data + 3).min(8);
        assert_eq!(mesh.received(recipient), (1..=last).collect::<Vec<_>>());
    }
    assert_eq!(states(&mesh, 1), ["delivered"; 8]);
}
