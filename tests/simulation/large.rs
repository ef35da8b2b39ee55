//! A large network under churn that a partition divides in two halves.

use std::time::{Duration, Instant as WallClock};

use p2p_node_protocol::{Priority, Route};
use p2p_node_testing::network::World as _;
use p2p_node_wire::time::Instant;

use crate::env_number;
use crate::scenario::{Links, Operation, Scenario};
use crate::world::World;

/// Number of cores in a run of the tests. `LARGE_NODES` sets another number.
const NODES: u64 = 150;
/// Number of nodes that serve the DHT: two in each half.
const SERVERS: usize = 4;
/// Start of the churn: all nodes have joined.
const JOINED: Duration = Duration::from_secs(20);
/// Start and end of the partition.
const PARTITION: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(120));
/// Crashes in a hundred minutes: one each second, each followed by a start within a minute. A tenth
/// of 300 nodes is down at any time.
const CHURN: u32 = 6000;
/// Commands of all parents in a hundred seconds.
const TRAFFIC: u32 = 1000;
/// Time after the partition in which every message must be delivered.
const REACHABLE_WITHIN: Duration = Duration::from_secs(30);

fn scenario(nodes: usize) -> Scenario {
    let ms = Duration::from_millis;
    let first = SERVERS / 2;
    Scenario {
        seed: env_number("SEED", 1),
        nodes,
        servers: SERVERS,
        links: Links { least: ms(10), most: ms(80), loss: 10, twice: 5, late: 20 },
        run: PARTITION.1,
        operations: vec![
            (JOINED, Operation::Churn(CHURN)),
            (JOINED, Operation::Traffic(TRAFFIC)),
            (PARTITION.0, Operation::Partition { first, last: first + nodes / 2 - 1 }),
        ],
    }
}

/// Sends a message from every node to three others, mostly of the other half.
fn probe(world: &mut World) {
    let number = world.nodes.len();
    for node in 0..number {
        for distance in [1, number / 2, number / 2 + 7] {
            let serial = world.nodes[node].parent.next_serial();
            world.probes.insert((node, serial));
            let to = (node + distance) % number;
            world.mail(node, to, 10, Priority::Medium, Route::Auto, REACHABLE_WITHIN);
        }
        world.step(node);
    }
}

/// Runs a network and returns its world after the check. Panics if an agent is not reachable.
fn run(nodes: usize) -> World {
    let began = WallClock::now();
    let mut world = World::new(scenario(nodes));
    world.is_large = true;
    world.run_until(Instant::after_start(PARTITION.1));
    let before_heal = began.elapsed();
    let between_halves = world.network.links.keys().filter(|pair| world.is_cut(**pair)).count();
    assert_eq!(between_halves, 0, "the connections between the halves have ended");
    world.heal_all();
    world.start_all();
    // Nodes that were down start within some milliseconds of each other.
    world.run_until(Instant::after_start(PARTITION.1) + Duration::from_millis(nodes as u64 + 1));
    probe(&mut world);
    world.run_until(world.now + REACHABLE_WITHIN + Duration::from_secs(1));
    let (elapsed, steps) = (began.elapsed(), world.trace.steps);
    println!(
        "{nodes} nodes: {steps} steps in {elapsed:?}, {before_heal:?} before the heal\n{}",
        world.report
    );
    assert_eq!(world.violation.as_ref().map(ToString::to_string), None);
    let is_lost = |(node, serial): &&(usize, u64)| {
        let name = (*node, world.nodes[*node].life, *serial);
        !world.nodes.iter().any(|recipient| recipient.parent.received.contains(&name))
    };
    assert_eq!(world.probes.iter().filter(is_lost).collect::<Vec<_>>(), Vec::<&(usize, u64)>::new());
    world
}

#[test]
fn everyone_is_reachable_30_seconds_after_a_partition_under_churn() {
    let world = run(env_number("LARGE_NODES", NODES) as usize);
    assert_eq!(world.probes.len(), 3 * world.nodes.len());
    assert!(world.report.crashes > 50, "{} crashes", world.report.crashes);
}

#[test]
#[ignore = "takes minutes"]
fn five_hundred_agents_are_reachable_30_seconds_after_a_partition_under_churn() {
    run(500);
}
