//! Silent Sybils around a victim: peers that subscribe to its topics and forward nothing.

use std::time::{Duration, Instant};

use p2p_node_core::effect::NetworkCommand;
use p2p_node_protocol::Role;
use serde_json::{Value, json};

use crate::child::TIMEOUT;
use crate::fixture::{Real, TOPIC, VICTIM};
use crate::forge::Forger;
use crate::peer::Hostile;

const SYBILS: u64 = 60;
const HONEST: u8 = 3;
/// Broadcasts of each honest node.
const BROADCASTS: usize = 10;
/// Time in which each must arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sybils_around_a_node_stop_no_broadcast_of_high_priority() {
    let subscribe = |node: &mut Real| {
        let answer = node.request(json!({"type":"subscribe","topic":TOPIC}));
        assert_eq!(answer["type"], "result", "{answer}");
    };
    let mut victim = Real::join(VICTIM, &[], &[]);
    subscribe(&mut victim);
    // The Sybils come first, so that they have the places in the mesh.
    let mut sybils = Vec::new();
    for number in 0..SYBILS {
        let sybil = Hostile::start(Forger::fake(number), Role::Full).await;
        sybil.node.apply(NetworkCommand::Subscribe { topic: TOPIC.to_owned() }).await;
        sybils.push(sybil);
        sybils.last_mut().unwrap().connect(&victim).await;
    }
    let everybody = SYBILS + u64::from(HONEST);
    let mut honest: Vec<Real> =
        (0..HONEST).map(|number| Real::join(0x20 + number, &[], &[victim.entry()])).collect();
    honest.iter_mut().for_each(subscribe);
    victim.until("surrounded", |status| status["peers"].as_u64() >= Some(everybody));

    let mut nodes = vec![victim];
    nodes.append(&mut honest);
    let expected = nodes.len() - 1;
    // From here on each node knows that the others subscribe.
    for node in &mut nodes {
        let deadline = Instant::now() + TIMEOUT;
        let subscribers =
            if node.address() == Forger::new(VICTIM).address() { everybody } else { u64::from(HONEST) };
        while node.request(json!({"type":"send","topic":TOPIC,"data":"first"}))["peers"].as_u64()
            < Some(subscribers)
        {
            assert!(Instant::now() < deadline, "{subscribers} subscribers");
        }
    }
    for number in 0..BROADCASTS {
        for from in 0..nodes.len() {
            let data = json!({"from":from,"number":number});
            let send = json!({"type":"send","topic":TOPIC,"data":data,"priority":"high"});
            let answer = nodes[from].request(send);
            assert_eq!(answer["type"], "result", "{answer}");
            let began = Instant::now();
            let others = nodes.iter().enumerate().filter(|(to, _)| *to != from).map(|(_, node)| node);
            let is_it = |event: &Value| event["data"] == data;
            let arrived = others
                .filter(|node| {
                    let left = ARRIVES_WITHIN.saturating_sub(began.elapsed());
                    node.child.received_within(left, is_it)
                })
                .count();
            assert_eq!(arrived, expected, "broadcast {number} of node {from}");
        }
    }
}
