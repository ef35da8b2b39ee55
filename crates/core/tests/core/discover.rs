//! `discover`: its end, and many results while the parent does not read.

use std::time::Duration;

use p2p_node_protocol::Role;

use crate::mesh::Mesh;

#[test]
fn discover_results_wait_in_bounded_memory_while_parent_does_not_read() {
    const AGENTS: u8 = 30;
    const COMMANDS: usize = 300;
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    for number in 3..3 + AGENTS {
        let agent = mesh.add(number, Role::Full);
        mesh.connect(agent, 0);
    }
    mesh.advance(Duration::from_secs(5));
    mesh.nodes[1].reads = false;
    for command in 0..COMMANDS {
        let line = format!(r#"{{"type":"discover","id":{command},"timeoutMs":1000}}"#);
        mesh.queue_command(1, &line);
    }
    mesh.advance(Duration::from_secs(60));
    let required = mesh.nodes[1].core.usage().into_iter().find(|usage| usage.name == "required lines");
    assert!(required.is_some_and(|usage| usage.size < 5000), "{required:?}");
    mesh.nodes[1].reads = true;
    mesh.advance(Duration::from_secs(1));
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
fn discover_without_timeout_ends_after_all_results() {
    let mut mesh = Mesh::new(3);
    mesh.connect(1, 0);
    mesh.connect(2, 0);
    mesh.command(2, r#"{"type":"subscribe","topic":"t"}"#);
    mesh.advance(Duration::from_secs(5));
    mesh.command(1, r#"{"type":"discover","topic":"t","id":"short"}"#);
    mesh.command(1, r#"{"type":"discover","topic":"unused","id":"none"}"#);
    mesh.command(1, r#"{"type":"discover","topic":"t","timeoutMs":1500,"id":"timed"}"#);
    let is_answered = |mesh: &Mesh, id: &str| mesh.lines(1, "result").iter().any(|line| line["id"] == id);
    mesh.advance(Duration::from_millis(200));
    assert!(!is_answered(&mesh, "short"), "a subscription may be on its way");
    mesh.advance(Duration::from_millis(100));
    assert!(is_answered(&mesh, "short"));
    mesh.advance(Duration::from_millis(1000));
    assert!(!is_answered(&mesh, "none") && !is_answered(&mesh, "timed"), "more agents may be found");
    mesh.advance(Duration::from_millis(1000));
    assert!(is_answered(&mesh, "none") && is_answered(&mesh, "timed"));
}

#[test]
fn discover_continues_while_results_arrive_or_a_neighbour_is_unknown() {
    let mut mesh = Mesh::new(3);
    mesh.connect(1, 0);
    mesh.connect(2, 0);
    mesh.command(2, r#"{"type":"subscribe","topic":"t"}"#);
    mesh.advance(Duration::from_secs(5));
    mesh.command(1, r#"{"type":"discover","topic":"t","id":"d"}"#);
    mesh.advance(Duration::from_millis(200));
    mesh.command(0, r#"{"type":"subscribe","topic":"t"}"#);
    mesh.advance(Duration::from_millis(200));
    assert!(mesh.lines(1, "result").iter().all(|line| line["id"] != "d"));
    mesh.advance(Duration::from_millis(200));
    let answer = mesh.lines(1, "result").into_iter().find(|line| line["id"] == "d").unwrap();
    assert_eq!(answer["count"], 2);
}

#[test]
fn discover_finds_agent_by_its_latest_capabilities() {
    let mut mesh = Mesh::new(3);
    mesh.connect(1, 0);
    mesh.connect(2, 0);
    mesh.advance(Duration::from_secs(5));
    let mut found = |set: &str, queried: &str| {
        mesh.command(2, &format!(r#"{{"type":"capabilities","id":"{set}","capabilities":["{set}"]}}"#));
        mesh.advance(Duration::from_secs(30));
        mesh.command(
            1,
            &format!(
                r#"{{"type":"discover","capability":"{queried}","timeoutMs":1,"id":"{set} {queried}"}}"#
            ),
        );
        mesh.advance(Duration::from_secs(1));
        let id = format!("{set} {queried}");
        mesh.lines(1, "result").iter().find(|line| line["id"] == *id).expect("an answer")["count"].as_u64()
    };
    assert_eq!(found("review", "review"), Some(1));
    assert_eq!(found("review", "translate"), Some(0));
    assert_eq!(found("translate", "review"), Some(0), "the new capability replaced it");
    assert_eq!(found("translate", "translate"), Some(1));
}

#[test]
fn capabilities_beyond_the_limits_are_refused() {
    let mut mesh = Mesh::new(1);
    let many = vec!["x"; 17];
    let refused = [
        serde_json::json!(many),
        serde_json::json!(["x".repeat(257)]),
        serde_json::json!([""]),
        serde_json::json!(["a\nb"]),
    ];
    for capabilities in refused {
        mesh.command(
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
