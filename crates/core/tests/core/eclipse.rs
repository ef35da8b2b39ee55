//! Servers that try to push the records of agents out of a network.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::{FindAgents, strict_decode};
use p2p_node_wire::record::kad_key;
use serde_json::{Value, json};

use crate::mesh::{FaultDecision, Mesh, agent_key};

/// Number of honest agents, and of peers that each of them dials.
const HONEST: usize = 24;
const DIALS: usize = 4;
/// Number of the key of the first liar.
const FIRST_LIAR: u8 = 100;

/// Where a searcher can learn of an agent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Announcements and lookups at peers.
    All,
    /// Lookups at peers alone: as in a network of more agents than a node follows.
    Peers,
}

/// Returns a number below `limit`, by xorshift64.
fn random(state: &mut u64, limit: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state % limit as u64) as usize
}

/// Honest agents, each connected to some others, and liars around the first one: DHT servers that store
/// nothing, tell no announcement, and answer lookups with the record of another agent or not at all. Every
/// DHT server of the network is a liar, as if they were the nearest to each key.
fn surrounded(liars: u8, source: Source, seed: u64) -> Mesh {
    let mut mesh = Mesh::new(0);
    let honest = move |node: usize| node < HONEST;
    mesh.faults = Box::new(move |node, input| match input {
        Input::RecordOffered { .. } => FaultDecision::Drop,
        Input::Gossip { .. } if source == Source::Peers || !honest(node) => FaultDecision::Drop,
        Input::FindRequestReceived { body, .. }
            if strict_decode::<FindAgents>(body).unwrap().address.is_empty() =>
        {
            FaultDecision::Drop
        }
        _ => FaultDecision::Deliver,
    });
    for number in 0..HONEST {
        mesh.add(number as u8 + 1, Role::Full);
    }
    let mut state = seed;
    for node in 0..HONEST {
        mesh.connect(node, (node + 1) % HONEST);
        for _ in 1..DIALS {
            let other = random(&mut state, HONEST);
            if other != node {
                mesh.connect(node, other);
            }
        }
    }
    for number in 0..liars {
        let liar = mesh.add(FIRST_LIAR + number, Role::Bootstrap);
        mesh.connect(liar, 0);
    }
    mesh.advance(Duration::from_secs(5));
    let lie = mesh.records_mut(HONEST).values().next().cloned().unwrap_or_else(|| Bytes::from_static(b"lie"));
    for target in 1..HONEST {
        let key = Bytes::copy_from_slice(&kad_key("dev", &agent_key(target as u8 + 1).address()));
        for liar in (HONEST..HONEST + usize::from(liars)).step_by(2) {
            mesh.records_mut(liar).insert(key.clone(), lie.clone());
        }
    }
    mesh
}

/// Searches for an agent that the first one does not know. Returns the nodes that the answer names.
fn search(mesh: &mut Mesh, target: usize) -> BTreeSet<String> {
    let address = mesh.nodes[target].address.clone();
    let id = format!("search {target}");
    mesh.command(0, &json!({"type":"discover","address":address,"timeoutMs":2000,"id":id}).to_string());
    mesh.advance(Duration::from_millis(2100));
    let is_answer = |line: &&&Value| line["requestId"] == id && line["address"] == address;
    let answers = mesh.lines(0, "peer_discovered");
    answers.iter().filter(is_answer).map(|line| line["peerId"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn agents_are_found_although_every_dht_server_denies_their_records() {
    for liars in [20, 45] {
        for source in [Source::All, Source::Peers] {
            let (mut searches, mut found, mut wrong) = (0, 0, 0);
            for seed in 1..=6 {
                let mut mesh = surrounded(liars, source, seed);
                for target in 1..HONEST {
                    let right = mesh.nodes[target].peer.to_string();
                    let answers = search(&mut mesh, target);
                    searches += 1;
                    found += usize::from(answers.contains(&right));
                    wrong += answers.iter().filter(|peer| **peer != right).count();
                }
                let lookups = mesh.nodes[0].core.stats().get(Counter::PeerLookups);
                assert!(source == Source::All || lookups > 0, "nobody asked peers");
            }
            assert!(found * 100 >= searches * 99, "{liars} liars: {found} of {searches}");
            assert_eq!(wrong, 0);
        }
    }
}
