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
/// Time after which a node tries again whether the others get its broadcasts, before the test begins.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);

/// Returns how many of the other nodes get a broadcast of a node in this time.
fn arrived(nodes: &[Real], from: usize, data: &Value, within: Duration) -> usize {
    let began = Instant::now();
    let others = nodes.iter().enumerate().filter(|(to, _)| *to != from).map(|(_, node)| node);
    let is_it = |event: &Value| event["data"] == *data;
    others.filter(|node| node.child.received_within(within.saturating_sub(began.elapsed()), is_it)).count()
}

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
    // From here on each node knows that the others subscribe, and its queues to them are empty. A node that
    // sends before the last broadcast has left could fill them, and gossipsub drops what a queue has no room for.
    for from in 0..nodes.len() {
        let deadline = Instant::now() + TIMEOUT;
        let subscribers = if from == 0 { everybody } else { u64::from(HONEST) };
        for number in 0.. {
            let data = json!({"first":from,"number":number});
            let answer = nodes[from].request(json!({"type":"send","topic":TOPIC,"data":data}));
            let arrived = arrived(&nodes, from, &data, SETTLES_WITHIN);
            if answer["peers"].as_u64() >= Some(subscribers) && arrived == expected {
                break;
            }
            assert!(Instant::now() < deadline, "{answer}, {subscribers} subscribers, {arrived} have it");
        }
    }
    for number in 0..BROADCASTS {
        for from in 0..nodes.len() {
            let data = json!({"from":from,"number":number});
            let send = json!({"type":"send","topic":TOPIC,"data":data,"priority":"high"});
            let answer = nodes[from].request(send);
            assert_eq!(answer["type"], "result", "{answer}");
            let arrived = arrived(&nodes, from, &data, ARRIVES_WITHIN);
            assert_eq!(arrived, expected, "broadcast {number} of node {from}");
        }
    }
}
