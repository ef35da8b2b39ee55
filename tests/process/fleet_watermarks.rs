//! A fleet in which every node knows more peers than it may keep.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::{Child, tcp_address, test_key};
use crate::fleet::one_at_a_time;

const AGENTS: u8 = 24;
/// Numbers of connections that a node seeks and keeps. Mail between all agents gives each of them more.
const WATERMARKS: std::ops::RangeInclusive<u64> = 8..=16;
/// Longest time until the numbers of connections stay between the watermarks, and how long they must do
/// so.
const SETTLED_WITHIN: Duration = Duration::from_secs(45);
const SETTLED_FOR: Duration = Duration::from_secs(3);
/// Time in which mail must be delivered.
const DELIVERY: Duration = Duration::from_secs(20);

fn spawn(key: u8, args: &[&str], entries: &[String]) -> Child {
    let mut child = Child::spawn(args, &[("PRIVATE_KEY", &test_key(key))]);
    child.command(json!({"type":"connect","port":0,"bootstrapPeers":entries,"protocol":1}));
    child
}

/// Sends mail from each agent to others and waits until all is delivered. `distances` says to which
/// ones: to the next agent, the one after it, and so on.
fn deliver(agents: &mut [(Child, String)], distances: std::ops::Range<usize>, name: &str) {
    let number = agents.len();
    for from in 0..number {
        for distance in distances.clone() {
            let to = agents[(from + distance) % number].1.clone();
            let id = format!("{name}-{distance}");
            agents[from].0.command(json!({"type":"send","peerId":to,"data":name,"ttlMs":20_000,"id":id}));
        }
    }
    for (child, address) in agents {
        for distance in distances.clone() {
            let id = format!("{name}-{distance}");
            let is_it = |event: &Value| event["type"] == "delivery" && event["requestId"] == id;
            let delivery = child.expect_within(DELIVERY, &format!("{id} of {address}"), is_it);
            assert_eq!(delivery["state"], "delivered", "{delivery}");
        }
    }
}

/// Returns the number of connections of each agent, and of connections that all have trimmed.
fn connections(agents: &mut [(Child, String)]) -> (Vec<u64>, u64) {
    let mut trimmed = 0;
    let mut status = |child: &mut Child| {
        let status = child.until("up", |_| true);
        trimmed += status["counters"]["connections_trimmed"].as_u64().unwrap_or_default();
        status["peers"].as_u64().unwrap()
    };
    (agents.iter_mut().map(|(child, _)| status(child)).collect(), trimmed)
}

#[test]
#[ignore = "starts 25 nodes and waits until they have trimmed their connections"]
fn nodes_with_too_many_connections_trim_them_and_mail_still_reaches_everybody() {
    let _alone = one_at_a_time();
    let boot = spawn(1, &["--role", "bootstrap"], &[]);
    let entry = tcp_address(&boot.expect("ready", |event| event["type"] == "ready"));
    let flags =
        ["--high-watermark", "16", "--low-watermark", "8", "--min-peers", "8", "--connection-grace", "1"];
    let spawned: Vec<_> =
        (2..2 + AGENTS).map(|key| spawn(key, &flags, std::slice::from_ref(&entry))).collect();
    let ready = |child: Child| {
        let ready = child.expect("ready", |event| event["type"] == "ready");
        (child, ready["address"].as_str().unwrap().to_owned())
    };
    let mut agents: Vec<_> = spawned.into_iter().map(ready).collect();
    deliver(&mut agents, 1..usize::from(AGENTS), "all");
    let began = Instant::now();
    let mut since = None;
    loop {
        let (counts, trimmed) = connections(&mut agents);
        let is_settled = trimmed > 0 && counts.iter().all(|count| WATERMARKS.contains(count));
        if !is_settled {
            assert!(began.elapsed() < SETTLED_WITHIN, "{trimmed} trimmed, the rest is {counts:?}");
            since = None;
        } else if since.get_or_insert_with(Instant::now).elapsed() >= SETTLED_FOR {
            println!("after {:?}: {trimmed} trimmed, the rest is {counts:?}", began.elapsed());
            break;
        }
    }
    deliver(&mut agents, 1..usize::from(AGENTS), "again");
}
