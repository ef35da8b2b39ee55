//! Searches for agents by address while a third of the DHT servers lies.

use std::time::Duration;

use p2p_node_protocol::{Command, Discover, Id, PeerDiscovered};
use p2p_node_wire::time::Instant;

use crate::env_number;
use crate::rng::Rng;
use crate::scenario::{Honesty, Links, Operation, Scenario};
use crate::world::World;

const NODES: usize = 60;
const SERVERS: usize = 30;
const LIARS: usize = 10;
/// Number of searches in a run of the tests. `SEARCHES` sets another number.
const SEARCHES: u64 = 2_000;
/// Nodes that start again with another address, so that the liars have old records of them.
const MOVED: std::ops::Range<usize> = 40..50;
/// Start of the searches: all nodes have joined.
const START: Duration = Duration::from_secs(60);
/// Time in which 99 of 100 searches must end.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// A search of a parent, and what came of it.
#[derive(Debug)]
pub struct Search {
    to: usize,
    began: Instant,
    found: bool,
    /// `true` if the record names where the agent's node listens.
    is_current: bool,
    took: Option<Duration>,
}

impl World {
    /// Checks an agent that a `discover` found.
    pub fn discovered(&mut self, node: usize, found: &PeerDiscovered) {
        let Some(Id::Number(serial)) = found.request_id else { return };
        let Some(search) = self.searches.get_mut(&(node, serial)) else { return };
        let agent = &self.nodes[search.to];
        search.found = true;
        search.is_current |= found.addrs.contains(&agent.addr().to_string());
        if (&found.address, &found.peer_id) != (&agent.address, &agent.peer.to_string()) {
            let what = format!("{found:?} instead of {} at {}", agent.address, agent.peer);
            self.violate("a search finds the agent that it asked for", node, what);
        }
    }

    /// Notes the end of a search.
    pub fn search_ended(&mut self, node: usize, serial: i64) {
        if let Some(search) = self.searches.get_mut(&(node, serial)) {
            search.took = Some(self.now - search.began);
        }
    }

    fn search(&mut self, node: usize, to: usize) {
        let address = Some(self.nodes[to].address.clone());
        let discover = Discover { address, timeout_ms: Some(5000), ..Discover::default() };
        let serial = self.nodes[node].parent.ask(Command::Discover(discover), self.now);
        let search = Search { to, began: self.now, found: false, is_current: false, took: None };
        self.searches.insert((node, serial as i64), search);
        self.step(node);
    }
}

fn scenario() -> Scenario {
    let ms = Duration::from_millis;
    let liar = |server| (ms(500), Operation::Serve(server, Honesty::Lying));
    let crash = |node| (ms(30_000), Operation::Crash(node));
    let start = |node| (ms(31_000), Operation::Start { node, same_store: false, new_addr: true });
    Scenario {
        seed: env_number("SEED", 1),
        nodes: NODES,
        servers: SERVERS,
        links: Links { least: ms(5), most: ms(60), loss: 10, twice: 0, late: 10 },
        run: START,
        operations: (0..LIARS).map(liar).chain(MOVED.map(crash)).chain(MOVED.map(start)).collect(),
    }
}

#[test]
fn a_third_of_lying_servers_leads_no_search_astray() {
    let mut world = World::new(scenario());
    world.is_large = true;
    world.run_until(Instant::after_start(START));
    let mut rng = Rng::new(world.scenario.seed);
    for _ in 0..env_number("SEARCHES", SEARCHES) {
        let (node, distance) = (rng.below(NODES), 1 + rng.below(NODES - 1));
        world.search(node, (node + distance) % NODES);
        world.run_until(world.now + Duration::from_millis(50));
    }
    world.run_until(world.now + 2 * ENDS_WITHIN);
    assert_eq!(world.violation.as_ref().map(ToString::to_string), None);
    let searches: Vec<_> = world.searches.values().collect();
    let number = |is_one: fn(&Search) -> bool| searches.iter().filter(|search| is_one(search)).count();
    let mut times: Vec<_> = searches.iter().map(|search| search.took.expect("an answer")).collect();
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    let (found, current) = (number(|search| search.found), number(|search| search.is_current));
    println!(
        "{} searches: {found} found, {current} where the agent is, p99 {p99:?}, {} lies",
        searches.len(),
        world.report.lies
    );
    assert!(found * 100 >= searches.len() * 99, "{found} of {} found", searches.len());
    assert!(p99 <= ENDS_WITHIN, "{p99:?}");
    assert!(world.report.lies > 0, "no search asked a liar");
}
