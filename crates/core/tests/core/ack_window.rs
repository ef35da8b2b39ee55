//! `--ack manual`: one `ack` for several messages, and the limit of unacked messages.

use std::time::Duration;

use p2p_node_protocol::Role;

use crate::acks::{ack, code_of_answer, ends, fixture, id_of};
use crate::mesh::Mesh;

#[test]
fn ack_with_several_ids_counts_the_known_ones_and_names_the_others() {
    for durable in [false, true] {
        let (mut mesh, taker) = fixture(durable);
        for data in 1..=3 {
            mesh.send(1, taker, data, "");
        }
        mesh.settle();
        let ids: Vec<String> = (1..=3).map(|data| id_of(&mesh, taker, data)).collect();
        let unknown = format!("{}-7", "0".repeat(32));
        let say = |mesh: &mut Mesh, fields: String, id: &str| {
            mesh.say(taker, &format!(r#"{{"type":"ack",{fields},"id":"{id}"}}"#));
            mesh.pass(Duration::from_millis(50));
        };
        say(&mut mesh, format!(r#""messageIds":["{}","{unknown}","{}"]"#, ids[2], ids[0]), "some");
        let answer = mesh.nodes[taker].lines.iter().rfind(|line| line["id"] == "some").unwrap();
        assert_eq!(answer["code"], "MESSAGE_NOT_FOUND", "{durable}");
        assert_eq!(answer["details"]["messageIds"], serde_json::json!([unknown]), "{durable}");
        assert_eq!(ends(&mesh, 1), ["delivered"; 2], "{durable}: the known ones count");
        say(&mut mesh, format!(r#""messageIds":["{}"]"#, ids[1]), "last");
        assert_eq!(code_of_answer(&mesh, taker, "last"), "ok", "{durable}");
        assert_eq!(ends(&mesh, 1), ["delivered"; 3], "{durable}");

        let many = vec![format!(r#""{}""#, ids[0]); 1025].join(",");
        for (name, fields) in [
            ("neither", r#""messageIds":[]"#.to_owned()),
            ("both", format!(r#""messageId":"{0}","messageIds":["{0}"]"#, ids[0])),
            ("too many", format!(r#""messageIds":[{many}]"#)),
        ] {
            say(&mut mesh, fields, name);
            assert_eq!(code_of_answer(&mesh, taker, name), "INVALID_ARGUMENT", "{durable} {name}");
        }
    }
}

#[test]
fn max_unacked_limits_the_mail_that_the_parent_holds_and_each_ack_makes_room() {
    let mut mesh = Mesh::new(2);
    let connect = r#"{"type":"connect","protocol":1,"maxUnacked":6}"#;
    let taker = mesh.add_with(3, Role::Full, connect, |setup| setup.manual_ack = true);
    mesh.connect(1, 0);
    mesh.connect(taker, 0);
    mesh.connect(1, taker);
    assert_eq!(mesh.lines(taker, "ready")[0]["limits"]["maxUnacked"], 6);
    for data in 1..=8 {
        mesh.send(1, taker, data, "");
        mesh.settle();
    }
    mesh.pass(Duration::from_secs(10));
    assert_eq!(mesh.received(taker), [1, 2, 3], "half of the room: the other half is for other senders");
    for data in 1..=8 {
        let id = id_of(&mesh, taker, data);
        ack(&mut mesh, taker, &id);
        mesh.pass(Duration::from_secs(10));
        let last = (data + 3).min(8);
        assert_eq!(mesh.received(taker), (1..=last).collect::<Vec<_>>());
    }
    assert_eq!(ends(&mesh, 1), ["delivered"; 8]);
}
