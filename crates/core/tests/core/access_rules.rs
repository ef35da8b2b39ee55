//! `block`, `allow`, `unblock`, and the access rules in `peers`.

use std::time::Duration;

use p2p_node_core::gate::access_list::{AccessRule, Subject};
use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};
use serde_json::{Value, json};

use crate::mesh::{CONNECT, FaultDecision, Mesh, agent_key};

/// Returns a mesh of a bootstrap node and two agents that know each other.
fn pair() -> Mesh {
    pair_with(false)
}

fn pair_with(durable: bool) -> Mesh {
    let mut mesh = Mesh::new(2);
    mesh.add_with(3, Role::Full, CONNECT, |config| config.durable = durable);
    mesh.connect(1, 0);
    mesh.connect(2, 0);
    mesh.command(2, r#"{"type":"subscribe","topic":"t","id":"t"}"#);
    mesh.advance(Duration::from_secs(1));
    mesh
}

/// Writes an access command of node 2 about node 1, by address or by PeerId, and returns the
/// answer.
fn set_rule(mesh: &mut Mesh, command: &str, by_peer: bool) -> Value {
    let name = if by_peer { mesh.nodes[1].peer.to_string() } else { mesh.nodes[1].address.clone() };
    mesh.command(2, &json!({"type": command, "peerId": name, "id": "rule"}).to_string());
    let answer = mesh.nodes[2].lines.iter().rfind(|line| line["id"] == "rule");
    answer.unwrap().clone()
}

fn peers(mesh: &mut Mesh) -> Value {
    mesh.command(2, r#"{"type":"peers","id":"peers"}"#);
    mesh.nodes[2].lines.iter().rfind(|line| line["id"] == "peers").unwrap().clone()
}

/// Sends mail and a broadcast from 1 and returns how the mail ended, and how many messages 2 got of
/// both.
fn talk(mesh: &mut Mesh) -> (Value, usize) {
    let before = mesh.lines(2, "message").len();
    mesh.send(1, 2, 1, "");
    mesh.command(1, r#"{"type":"send","topic":"t","data":2}"#);
    mesh.advance(Duration::from_secs(1));
    let delivery = mesh.lines(1, "delivery").last().map(|line| json!([line["state"], line["code"]]));
    (delivery.unwrap(), mesh.lines(2, "message").len() - before)
}

#[test]
fn blocked_peer_is_rejected_until_unblocked() {
    for by_peer in [false, true] {
        let mut mesh = pair();
        assert_eq!(talk(&mut mesh), (json!(["delivered", null]), 2));
        assert_eq!(set_rule(&mut mesh, "block", by_peer)["type"], "result");
        assert_eq!(talk(&mut mesh), (json!(["rejected", "PEER_REJECTED"]), 0));
        assert_eq!(mesh.nodes[2].core.stats().get(Counter::BroadcastsBlocked), 1);
        let blocked = if by_peer { mesh.nodes[1].peer.to_string() } else { mesh.nodes[1].address.clone() };
        assert_eq!(peers(&mut mesh)["blocked"], json!([blocked]));
        // The blocked peer still receives messages.
        mesh.send(2, 1, 3, "");
        mesh.advance(Duration::from_secs(1));
        assert_eq!(mesh.received(1), [3]);
        assert_eq!(set_rule(&mut mesh, "unblock", by_peer)["type"], "result");
        assert_eq!(talk(&mut mesh), (json!(["delivered", null]), 2), "no earlier message arrives late");
    }
}

fn streams_received(mesh: &Mesh) -> usize {
    let usage = mesh.nodes[2].core.usage();
    usage.iter().find(|usage| usage.name == "streams received").expect("a collection").size
}

#[test]
fn mail_of_agent_blocked_before_it_wrote_opens_no_stream() {
    let mut mesh = pair();
    set_rule(&mut mesh, "block", false);
    assert_eq!(talk(&mut mesh), (json!(["rejected", "PEER_REJECTED"]), 0));
    assert_eq!(streams_received(&mesh), 0);
    set_rule(&mut mesh, "unblock", false);
    assert_eq!(talk(&mut mesh), (json!(["delivered", null]), 2));
    assert_eq!(streams_received(&mesh), 1);
}

#[test]
fn mail_that_arrived_before_a_block_is_delivered_although_its_ack_got_lost() {
    let mut mesh = pair();
    mesh.faults = Box::new(|node, input| match input {
        Input::MailResponseReceived { .. } if node == 1 => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    mesh.send(1, 2, 1, "");
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.received(2), [1]);
    set_rule(&mut mesh, "block", false);
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    mesh.disconnect(1, 2);
    mesh.obeys_disconnects = true;
    mesh.connect(1, 2);
    mesh.advance(Duration::from_secs(30));
    assert_eq!(mesh.lines(1, "delivery").last().expect("an end")["state"], "delivered");
}

#[test]
fn gossip_mail_of_blocked_agent_is_rejected() {
    let mut mesh = pair();
    set_rule(&mut mesh, "block", false);
    mesh.send(1, 2, 1, r#","route":"gossip""#);
    mesh.advance(Duration::from_secs(2));
    assert!(mesh.received(2).is_empty());
    assert_eq!(mesh.lines(1, "delivery").last().unwrap()["code"], "PEER_REJECTED");
}

#[test]
fn messages_of_allowed_peer_have_trust_allowed() {
    let mut mesh = pair();
    set_rule(&mut mesh, "allow", false);
    talk(&mut mesh);
    assert!(mesh.lines(2, "message").iter().all(|line| line["trust"] == "allowed"));
    assert_eq!(peers(&mut mesh)["allowed"], json!([mesh.nodes[1].address]));
    set_rule(&mut mesh, "block", false);
    let answer = peers(&mut mesh);
    assert_eq!((&answer["allowed"], &answer["blocked"]), (&json!([]), &json!([mesh.nodes[1].address])));
}

#[test]
fn blocked_agent_is_not_announced_but_found_by_discover() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    let stranger = agent_key(9).address().to_string();
    mesh.command(1, &json!({"type": "block", "peerId": stranger}).to_string());
    let node = mesh.add(9, Role::Full);
    mesh.connect(node, 0);
    mesh.advance(Duration::from_secs(2));
    let announced = mesh.lines(1, "peer_discovered");
    assert!(announced.iter().all(|line| line["address"] != stranger.as_str()), "{announced:?}");
    mesh.command(1, &json!({"type": "discover", "address": stranger, "id": "d"}).to_string());
    mesh.advance(Duration::from_secs(3));
    assert_eq!(mesh.lines(1, "peer_discovered").last().unwrap()["address"], stranger.as_str());
}

#[test]
fn access_rules_survive_a_restart() {
    let mut mesh = pair_with(true);
    set_rule(&mut mesh, "block", false);
    let rules = mesh.store(2).access_rules.clone();
    assert_eq!(rules, [(Subject::Agent(agent_key(2).address()), AccessRule::Blocked)]);
    mesh.kill(2);
    let again = mesh.add_with(3, Role::Full, CONNECT, |config| {
        (config.durable, config.access_rules) = (true, rules);
    });
    mesh.connect(again, 0);
    mesh.send(1, again, 1, "");
    mesh.advance(Duration::from_secs(5));
    assert!(mesh.received(again).is_empty());
    assert_eq!(mesh.lines(1, "delivery").last().unwrap()["code"], "PEER_REJECTED");
    mesh.command(again, &json!({"type": "unblock", "peerId": mesh.nodes[1].address}).to_string());
    mesh.command(again, &json!({"type": "unblock", "peerId": mesh.nodes[1].address}).to_string());
    assert!(mesh.store(again).access_rules.is_empty());
}

/// Returns the lines of node 2 that answer a command.
fn answers(mesh: &Mesh, id: &str) -> Vec<Value> {
    mesh.nodes[2].lines.iter().filter(|line| line["id"] == id).cloned().collect()
}

#[test]
fn answer_to_block_waits_for_the_disk_and_the_rule_does_not() {
    let mut mesh = pair_with(true);
    mesh.disk_writes = false;
    let peer = mesh.nodes[1].address.clone();
    for id in ["first", "again"] {
        mesh.command(2, &json!({"type": "block", "peerId": peer, "id": id}).to_string());
    }
    assert_eq!(peers(&mut mesh)["blocked"], json!([peer]));
    mesh.advance(Duration::from_secs(5));
    assert_eq!((answers(&mesh, "first").len(), answers(&mesh, "again").len()), (0, 0));
    assert!(mesh.store(2).access_rules.is_empty());
    mesh.command(2, r#"{"type":"shutdown"}"#);
    mesh.resume_writes();
    mesh.advance(Duration::from_secs(1));
    for id in ["first", "again"] {
        assert_eq!(answers(&mesh, id)[0]["type"], "result", "{id}");
    }
    assert_eq!(mesh.store(2).access_rules.len(), 1);
}

#[test]
fn block_with_a_full_disk_holds_and_is_refused_until_it_is_on_the_disk() {
    let mut mesh = pair_with(true);
    mesh.disk_full = true;
    let refused = set_rule(&mut mesh, "block", false);
    assert_eq!((&refused["code"], &refused["retryable"]), (&json!("DISK_FULL"), &json!(true)), "{refused}");
    assert_eq!(talk(&mut mesh), (json!(["rejected", "PEER_REJECTED"]), 0));
    assert_eq!(mesh.nodes[2].core.stats().get(Counter::AccessRuleWritesDropped), 1);
    mesh.disk_full = false;
    assert_eq!(set_rule(&mut mesh, "block", false)["type"], "result");
    assert_eq!(mesh.store(2).access_rules.len(), 1);
}

#[test]
fn block_of_own_or_invalid_identity_is_refused() {
    let mut mesh = pair();
    let names = [mesh.nodes[2].address.clone(), mesh.nodes[2].peer.to_string(), "bob".to_owned()];
    for name in names {
        mesh.command(2, &json!({"type": "block", "peerId": name, "id": "b"}).to_string());
        assert_eq!(mesh.lines(2, "error").last().unwrap()["code"], "INVALID_ARGUMENT", "{name}");
    }
}

#[test]
fn peers_answer_is_cut_at_max_line_bytes() {
    let mut mesh = Mesh::new(1);
    let short = r#"{"type":"connect","protocol":1,"maxLineBytes":4096,"id":"connect"}"#;
    let lister = mesh.add_with(2, Role::Full, short, |_| {});
    mesh.connect(lister, 0);
    for number in 3..30 {
        let node = mesh.add(number, Role::Full);
        mesh.connect(node, lister);
    }
    mesh.advance(Duration::from_secs(1));
    mesh.command(lister, r#"{"type":"peers","id":"p"}"#);
    let answer = mesh.nodes[lister].lines.iter().rfind(|line| line["id"] == "p").unwrap();
    let connected = answer["connected"].as_array().unwrap();
    assert!(
        !connected.is_empty() && (connected.len() as u64) < answer["count"].as_u64().unwrap(),
        "{answer}"
    );
    assert!(connected.iter().all(|peer| peer["peerId"].is_string() && peer["connectedForMs"].is_u64()));
    assert!(connected.iter().any(|peer| peer["address"].is_string() && peer["name"].is_string()));
    assert!(mesh.nodes[lister].longest_line <= 4096, "{}", mesh.nodes[lister].longest_line);
}
