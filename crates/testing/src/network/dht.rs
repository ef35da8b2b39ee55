//! The DHT: records at the servers that a node reaches.

use std::time::Duration;

use bytes::Bytes;
use p2p_node_core::input::{Input, Token};

use super::links::later;
use super::{World, pair};

/// Time after which a lookup ends if a server does not respond.
const LOOKUP: Duration = Duration::from_secs(10);

/// Returns the servers that a node reaches: its neighbours, and the neighbours of those.
fn servers_of<W: World>(world: &W, node: usize) -> Vec<usize> {
    let endpoints = &world.network().endpoints;
    let servers =
        |node: usize| endpoints[node].neighbours.iter().copied().filter(|other| endpoints[*other].serves);
    let mut found: Vec<usize> = servers(node).collect();
    let far: Vec<usize> = found.iter().flat_map(|server| servers(*server)).collect();
    found.extend(far);
    found.sort_unstable();
    found.dedup();
    found.retain(|server| *server != node && !world.is_cut(pair(node, *server)));
    found
}

pub(super) fn put_record<W: World>(world: &mut W, node: usize, key: Bytes, value: Bytes) {
    world.on_put(node, &key, &value);
    let endpoint = &mut world.network_mut().endpoints[node];
    let peer = endpoint.peer;
    // Kademlia stores the record that it puts, and serves it.
    endpoint.records.insert(key.clone(), value.clone());
    let mut stored = false;
    for server in servers_of(world, node) {
        if world.is_lost() {
            continue;
        }
        stored = true;
        let delay = world.latency();
        let (key, value) = (key.clone(), value.clone());
        later(world, server, delay, Input::RecordOffered { peer, key, value });
    }
    let delay = world.latency() + world.latency();
    later(world, node, delay, Input::RecordPut { stored });
}

/// A server's response to a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupResponse {
    /// The server does not respond.
    Silence,
    /// The server has no record.
    NotFound,
    /// The server has this record.
    Found(Bytes),
}

impl From<Option<Bytes>> for LookupResponse {
    fn from(record: Option<Bytes>) -> Self {
        record.map_or(LookupResponse::NotFound, LookupResponse::Found)
    }
}

pub(super) fn get_record<W: World>(world: &mut W, node: usize, token: Token, key: &Bytes) {
    let mut end = Duration::ZERO;
    for server in servers_of(world, node) {
        let delay = world.latency() + world.latency();
        match world.look_up(server, key) {
            LookupResponse::Silence => end = LOOKUP,
            LookupResponse::NotFound => end = end.max(delay),
            LookupResponse::Found(value) => {
                end = end.max(delay);
                let server = world.network().endpoints[server].peer;
                later(world, node, delay, Input::RecordFound { token, server, value });
            }
        }
    }
    later(world, node, end + Duration::from_micros(1), Input::QueryEnded { token });
}
