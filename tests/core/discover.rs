//! `discover` when there is much to tell and nobody who reads it.

use std::time::Duration;

use p2p_node_protocol::Role;

use crate::mesh::Mesh;

#[test]
fn a_parent_that_does_not_read_is_told_everything_later_and_costs_no_memory_until_then() {
    const AGENTS: u8 = 30;
    const COMMANDS: usize = 300;
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    for number in 3..3 + AGENTS {
        let agent = mesh.add(number, Role::Full);
        mesh.connect(agent, 0);
    }
    mesh.pass(Duration::from_secs(5));
    mesh.nodes[1].reads = false;
    for command in 0..COMMANDS {
        let line = format!(r#"{{"type":"discover","id":{command},"timeoutMs":1000}}"#);
        mesh.say_quietly(1, &line);
    }
    mesh.pass(Duration::from_secs(60));
    let must = mesh.nodes[1].core.census().into_iter().find(|held| held.name == "lines that must be told");
    assert!(must.is_some_and(|held| held.size < 5000), "{must:?}");
    mesh.nodes[1].reads = true;
    mesh.pass(Duration::from_secs(1));
    let agents = usize::from(AGENTS) + 1;
    for command in 0..COMMANDS {
        let of_command = |line: &&&serde_json::Value| line["requestId"] == command;
        let (discovered, results) = (mesh.lines(1, "peer_discovered"), mesh.lines(1, "result"));
        assert_eq!(discovered.iter().filter(of_command).count(), agents, "of command {command}");
        let answers: Vec<_> = results.iter().filter(|line| line["id"] == command).collect();
        assert_eq!((answers.len(), &answers[0]["count"]), (1, &serde_json::json!(agents)));
    }
}
