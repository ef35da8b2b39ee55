//! The flow guards: messages a minute, and replies that answer each other for ever.

use std::time::Duration;

use p2p_node_core::gate::flow_guards::FlowLimits;
use p2p_node_protocol::{Counter, Role};
use serde_json::{Value, json};

use crate::mesh::{CONNECT, Mesh};

/// Returns a mesh of a bootstrap node and two agents with these guards, subscribed to a topic.
fn pair(flow: FlowLimits) -> Mesh {
    let mut mesh = Mesh::new(1);
    for number in [2, 3] {
        let node = mesh.add_with(number, Role::Full, CONNECT, |config| config.flow = flow);
        mesh.connect(node, 0);
        mesh.command(node, r#"{"type":"subscribe","topic":"t"}"#);
    }
    mesh.connect(1, 2);
    mesh.advance(Duration::from_secs(1));
    mesh
}

/// Most messages of an exchange that the guards must stop: without them the agents would go on for ever.
const TOO_MANY: usize = 50;

/// Lets both agents answer each message at once until nobody gets any more. Returns the `hops` of
/// all messages in the order of their arrival.
fn answer_all(mesh: &mut Mesh, topic: Option<&str>) -> Vec<Value> {
    let (mut answered, mut hops) = ([0; 3], Vec::new());
    mesh.advance(Duration::from_secs(1));
    loop {
        let before = answered;
        for node in [1, 2] {
            for message in
                mesh.lines(node, "message").into_iter().skip(answered[node]).cloned().collect::<Vec<_>>()
            {
                answered[node] += 1;
                hops.push(message["hops"].clone());
                let mut reply =
                    json!({"type": "send", "data": 1, "replyTo": message["messageId"], "id": answered[node]});
                match topic {
                    Some(topic) => reply["topic"] = json!(topic),
                    None => reply["peerId"] = message["from"].clone(),
                }
                mesh.command(node, &reply.to_string());
            }
        }
        assert!(hops.len() < TOO_MANY, "the exchange does not end");
        mesh.advance(Duration::from_millis(100));
        if answered == before {
            return hops;
        }
    }
}

fn errors(mesh: &Mesh, node: usize) -> Vec<Value> {
    mesh.lines(node, "error").into_iter().map(|error| error["code"].clone()).collect()
}

#[test]
fn agents_that_answer_each_other_for_ever_are_stopped_and_told() {
    let mut mesh = pair(FlowLimits { hops: 5, ..FlowLimits::default() });
    mesh.send(1, 2, 1, "");
    let hops = answer_all(&mut mesh, None);
    assert_eq!(json!(hops), json!([null, 1, 2, 3, 4, 5]));
    // Agent 1 began, so the reply with six hops is one to agent 2.
    let last = mesh.lines(1, "delivery").last().cloned().unwrap();
    assert_eq!(json!([last["state"], last["code"]]), json!(["rejected", "TOO_MANY_HOPS"]));
    assert_eq!((errors(&mesh, 1), errors(&mesh, 2)), (vec![], vec![json!("TOO_MANY_HOPS")]));
    assert_eq!(mesh.nodes[2].core.stats().get(Counter::FlowGuarded), 1);
}

#[test]
fn exchange_of_broadcasts_ends_at_the_limit_of_hops() {
    let mut mesh = pair(FlowLimits { hops: 5, ..FlowLimits::default() });
    mesh.command(1, r#"{"type":"send","topic":"t","data":1}"#);
    let hops = answer_all(&mut mesh, Some("t"));
    assert_eq!(json!(hops), json!([null, 1, 2, 3, 4, 5]));
    let refusal = mesh.lines(1, "error").last().cloned().cloned().unwrap();
    assert_eq!((&refusal["code"], refusal["id"].is_number()), (&json!("TOO_MANY_HOPS"), true));
}

#[test]
fn sender_above_messages_a_minute_is_rejected_and_the_recipient_told_once() {
    let mut mesh = pair(FlowLimits { per_sender: 20, per_conversation: 5, hops: 0 });
    for number in 0..30 {
        mesh.send(1, 2, number, r#","conversationId":"c""#);
        mesh.send(1, 2, 100 + number, "");
    }
    mesh.advance(Duration::from_secs(1));
    let received = mesh.received(2);
    assert_eq!(received.iter().filter(|number| **number < 100).count(), 5);
    assert_eq!(received.len(), 20);
    let rejected = mesh.lines(1, "delivery").into_iter().filter(|line| line["code"] == "FLOW_LIMIT").count();
    assert_eq!((rejected, errors(&mesh, 2)), (40, vec![json!("FLOW_LIMIT")]));
    mesh.advance(Duration::from_secs(60));
    mesh.send(1, 2, 200, "");
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.received(2).last(), Some(&200));
}
