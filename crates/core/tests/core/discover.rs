//! `discover`: its end, and many results while the parent does not read.

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
    let must = mesh.nodes[1].core.usage().into_iter().find(|held| held.name == "lines that must be told");
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

#[test]
fn a_discover_without_a_time_of_its_own_ends_when_all_is_told() {
    let mut mesh = Mesh::new(3);
    mesh.connect(1, 0);
    mesh.connect(2, 0);
    mesh.say(2, r#"{"type":"subscribe","topic":"t"}"#);
    mesh.pass(Duration::from_secs(5));
    mesh.say(1, r#"{"type":"discover","topic":"t","id":"short"}"#);
    mesh.say(1, r#"{"type":"discover","topic":"nobody","id":"none"}"#);
    mesh.say(1, r#"{"type":"discover","topic":"t","timeoutMs":1500,"id":"told"}"#);
    let ended = |mesh: &Mesh, id: &str| mesh.lines(1, "result").iter().any(|line| line["id"] == id);
    mesh.pass(Duration::from_millis(200));
    assert!(!ended(&mesh, "short"), "a subscription may be on its way");
    mesh.pass(Duration::from_millis(100));
    assert!(ended(&mesh, "short"));
    mesh.pass(Duration::from_millis(1000));
    assert!(!ended(&mesh, "none") && !ended(&mesh, "told"), "somebody may come yet");
    mesh.pass(Duration::from_millis(1000));
    assert!(ended(&mesh, "none") && ended(&mesh, "told"));
}

#[test]
fn a_discover_goes_on_while_more_is_found_and_while_a_neighbour_is_unknown() {
    let mut mesh = Mesh::new(3);
    mesh.connect(1, 0);
    mesh.connect(2, 0);
    mesh.say(2, r#"{"type":"subscribe","topic":"t"}"#);
    mesh.pass(Duration::from_secs(5));
    mesh.say(1, r#"{"type":"discover","topic":"t","id":"d"}"#);
    mesh.pass(Duration::from_millis(200));
    mesh.say(0, r#"{"type":"subscribe","topic":"t"}"#);
    mesh.pass(Duration::from_millis(200));
    assert!(mesh.lines(1, "result").iter().all(|line| line["id"] != "d"));
    mesh.pass(Duration::from_millis(200));
    let answer = mesh.lines(1, "result").into_iter().find(|line| line["id"] == "d").unwrap();
    assert_eq!(answer["count"], 2);
}

#[test]
fn an_agent_is_found_by_the_capabilities_that_it_set_last() {
    let mut mesh = Mesh::new(3);
    mesh.connect(1, 0);
    mesh.connect(2, 0);
    mesh.pass(Duration::from_secs(5));
    let mut found = |set: &str, wanted: &str| {
        mesh.say(2, &format!(r#"{{"type":"capabilities","id":"{set}","capabilities":["{set}"]}}"#));
        mesh.pass(Duration::from_secs(30));
        mesh.say(
            1,
            &format!(r#"{{"type":"discover","capability":"{wanted}","timeoutMs":1,"id":"{set} {wanted}"}}"#),
        );
        mesh.pass(Duration::from_secs(1));
        let id = format!("{set} {wanted}");
        mesh.lines(1, "result").iter().find(|line| line["id"] == *id).expect("an answer")["count"].as_u64()
    };
    assert_eq!(found("review", "review"), Some(1));
    assert_eq!(found("review", "translate"), Some(0));
    assert_eq!(found("translate", "review"), Some(0), "it was replaced");
    assert_eq!(found("translate", "translate"), Some(1));
}

#[test]
fn capabilities_beyond_the_limits_are_refused_and_leave_those_before() {
    let mut mesh = Mesh::new(1);
    let many = vec!["x"; 17];
    let refused = [
        serde_json::json!(many),
        serde_json::json!(["x".repeat(257)]),
        serde_json::json!([""]),
        serde_json::json!(["a\nb"]),
    ];
    for capabilities in refused {
        mesh.say(
            0,
            &serde_json::json!({ "type": "capabilities", "id": "c", "capabilities": capabilities })
                .to_string(),
        );
    }
    let errors = mesh.lines(0, "error");
    assert_eq!(errors.len(), 4);
    assert!(
        errors.iter().all(|error| error["code"] == "INVALID_ARGUMENT" && error["id"] == "c"),
        "{errors:?}"
    );
}
