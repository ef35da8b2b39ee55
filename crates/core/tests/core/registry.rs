//! The registry: whom a node accepts, and how seldom it reads.

use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_core::chain::{ChainEvent, Changes};
use p2p_node_core::gate::registry::{RegistryConfig, RegistryPolicy};
use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};

use crate::mesh::{CONNECT, Mesh, agent_key};

fn agent(number: u8) -> Address {
    agent_key(number).address()
}

fn count(mesh: &Mesh, node: usize, counter: Counter) -> u64 {
    mesh.nodes[node].core.stats().get(counter)
}

/// Returns a mesh of a bootstrap node, Ann (node 1) with this policy, and Bob (node 2), who are connected.
/// Both subscribe to a topic.
fn pair(policy: RegistryPolicy) -> Mesh {
    pair_while(policy, false)
}

/// As `pair`; `is_down` states that no server of the chain answers.
fn pair_while(policy: RegistryPolicy, is_down: bool) -> Mesh {
    let mut mesh = Mesh::new(1);
    mesh.registry().is_down = is_down;
    for (number, policy) in [(2, Some(policy)), (3, None)] {
        let node = mesh.add_with(number, Role::Full, CONNECT, |config| {
            config.registry = policy.map(|policy| RegistryConfig { policy, ..RegistryConfig::default() });
        });
        mesh.connect(node, 0);
        mesh.command(node, r#"{"type":"subscribe","topic":"t"}"#);
    }
    mesh.connect(1, 2);
    mesh.advance(Duration::from_secs(2));
    mesh
}

/// Reports a change of Bob's entry to Ann.
fn report_change(mesh: &mut Mesh) {
    mesh.input(
        1,
        Input::Chain(ChainEvent::AgentsChanged(Changes { agents: vec![agent(3)], ids: Vec::new() })),
    );
    mesh.advance(Duration::from_secs(1));
}

#[test]
fn mail_of_an_unread_agent_waits_at_its_sender_and_broadcasts_are_dropped() {
    let mut mesh = pair_while(RegistryPolicy::Enforce, true);
    mesh.registry().register(agent(3));
    mesh.send(2, 1, 7, r#","ttlMs":600000"#);
    mesh.command(2, r#"{"type":"send","topic":"t","data":8}"#);
    mesh.advance(Duration::from_secs(10));
    assert!(mesh.received(1).is_empty());
    assert!(count(&mesh, 1, Counter::RegistryMailDeferred) > 0);
    assert_eq!(count(&mesh, 1, Counter::RegistryBroadcastsDropped), 1);
    assert_eq!(mesh.lines(2, "delivery").len(), 0);
    mesh.registry().is_down = false;
    mesh.advance(Duration::from_secs(60));
    assert_eq!(mesh.received(1), [7]);
    assert_eq!(mesh.lines(2, "delivery")[0]["state"], "delivered");
}

#[test]
fn agent_that_is_not_registered_or_blocked_is_refused_and_disconnected() {
    let mut mesh = pair(RegistryPolicy::Enforce);
    mesh.obeys_disconnects = true;
    let refused = |mesh: &mut Mesh, code: &str, number: usize| {
        mesh.send(2, 1, 0, "");
        mesh.advance(Duration::from_secs(5));
        assert!(mesh.received(1).is_empty());
        let deliveries = mesh.lines(2, "delivery");
        assert_eq!((deliveries.len(), &deliveries[number]["code"]), (number + 1, &code.into()));
    };
    refused(&mut mesh, "NOT_REGISTERED", 0);
    assert!(count(&mesh, 1, Counter::RegistryDisconnects) > 0);
    let bob = mesh.nodes[2].peer;
    assert!(mesh.disconnect_requests.contains(&(1, bob)), "{:?}", mesh.disconnect_requests);
    mesh.registry().register(agent(3));
    mesh.registry().set_blocked(&agent(3), true);
    report_change(&mut mesh);
    refused(&mut mesh, "REGISTRY_BLOCKED", 1);
    mesh.registry().set_blocked(&agent(3), false);
    report_change(&mut mesh);
    mesh.send(2, 1, 9, "");
    mesh.advance(Duration::from_secs(5));
    assert_eq!(mesh.received(1), [9]);
    assert_eq!(mesh.lines(1, "message")[0]["trust"], "registered");
}

#[test]
fn allowed_agent_needs_no_entry() {
    let mut mesh = pair_while(RegistryPolicy::Enforce, true);
    let bob = mesh.nodes[2].address.clone();
    mesh.command(1, &format!(r#"{{"type":"allow","peerId":"{bob}"}}"#));
    mesh.send(2, 1, 5, "");
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.received(1), [5]);
    assert_eq!(mesh.lines(1, "message")[0]["trust"], "allowed");
}

#[test]
fn warning_node_accepts_everybody_and_says_what_it_knows() {
    let mut mesh = pair(RegistryPolicy::Warn);
    for (data, change) in [(1, None), (2, Some(false)), (3, Some(true))] {
        if let Some(is_blocked) = change {
            mesh.registry().register(agent(3));
            mesh.registry().set_blocked(&agent(3), is_blocked);
            report_change(&mut mesh);
        }
        mesh.send(2, 1, data, "");
        mesh.advance(Duration::from_secs(1));
    }
    mesh.send(2, 1, 4, "");
    mesh.registry().is_down = true;
    // Longer than an entry counts as new.
    (0..400).for_each(|_| mesh.advance(Duration::from_secs(2)));
    mesh.send(2, 1, 5, "");
    mesh.advance(Duration::from_secs(1));
    let trusts: Vec<_> = mesh.lines(1, "message").iter().map(|line| line["trust"].clone()).collect();
    assert_eq!(trusts, ["unregistered", "registered", "blocked", "blocked", "blocked"]);
    assert_eq!(mesh.received(1), [1, 2, 3, 4, 5]);
}

#[test]
fn frames_of_a_refused_agent_are_forwarded() {
    use p2p_node_core::effect::Verdict;
    let mut mesh = pair(RegistryPolicy::Enforce);
    mesh.send(2, 1, 0, "");
    mesh.advance(Duration::from_secs(5));
    mesh.connect(1, 2);
    let before = mesh.verdicts(1).len();
    mesh.command(2, r#"{"type":"send","topic":"t","data":8}"#);
    mesh.advance(Duration::from_secs(5));
    assert_eq!(count(&mesh, 1, Counter::RegistryBroadcastsDropped), 1);
    let verdicts = mesh.verdicts(1);
    assert!(
        verdicts.len() > before && verdicts.iter().all(|verdict| *verdict == Verdict::Accept),
        "{verdicts:?}"
    );
}

#[test]
fn ten_thousand_messages_of_a_hundred_agents_cause_few_reads() {
    const AGENTS: u8 = 100;
    let mut mesh = Mesh::new(1);
    let ann = mesh.add_with(2, Role::Full, CONNECT, |config| {
        config.registry =
            Some(RegistryConfig { policy: RegistryPolicy::Enforce, ..RegistryConfig::default() });
    });
    mesh.connect(ann, 0);
    let senders: Vec<usize> = (0..AGENTS)
        .map(|number| {
            let node = mesh.add(10 + number, Role::Light);
            mesh.registry().register(agent(10 + number));
            mesh.connect(node, 0);
            mesh.connect(node, ann);
            node
        })
        .collect();
    // An hour, in which each agent writes every 36 s.
    for data in 0..100 {
        for sender in &senders {
            mesh.send(*sender, ann, data, "");
        }
        mesh.advance(Duration::from_secs(36));
    }
    let (received, reads) = (mesh.lines(ann, "message").len(), mesh.registry().reads);
    eprintln!("{received} messages of {AGENTS} agents in an hour: {reads} reads of the registry");
    assert_eq!(received, 10_000);
    assert!((2..=300).contains(&reads), "{reads}");
}

#[test]
fn registry_command_without_an_answer_is_refused_when_the_node_closes() {
    let mut mesh = pair_while(RegistryPolicy::Warn, true);
    mesh.registry().is_silent = true;
    let address = mesh.nodes[2].address.clone();
    mesh.command(1, &format!(r#"{{"type":"registry","address":"{address}","id":"entry"}}"#));
    mesh.command(1, r#"{"type":"shutdown","id":"end"}"#);
    mesh.advance(Duration::from_secs(30));
    let errors = mesh.lines(1, "error");
    let refused = errors.iter().find(|line| line["id"] == "entry").expect("an answer");
    assert_eq!(refused["code"], "SHUTTING_DOWN", "{errors:?}");
}
