//! A fleet: 4 bootstrap nodes and 46 agents as processes, with mail and searches between all of them.
//!
//! Each test prints its figures. They take minutes, so `cargo test` leaves them out:
//! `cargo test --release --test process fleet -- --ignored --nocapture`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::{Child, TIMEOUT, tcp_address, test_key};

const BOOTSTRAPS: usize = 4;
const NODES: usize = 50;
/// Key of the agent that comes last.
const NEWCOMER: u8 = 0x7f;

/// Time in which all nodes that start at once must have found each other by address.
const RESOLVED_WITHIN: Duration = Duration::from_secs(30);
/// Number of connections that each node keeps at least (the minimum of the dialer), and at most (the
/// high watermark).
const CONNECTIONS: std::ops::RangeInclusive<u64> = 8..=128;
/// Longest time until the numbers of connections stay the same, and how long they must do so.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
const SETTLED_FOR: Duration = Duration::from_secs(10);
/// Time in which a new agent must have joined through a plain agent and sent mail to others.
const JOINED_WITHIN: Duration = Duration::from_secs(20);
/// Number of agents that each agent sends mail to when the bootstrap nodes are gone.
const MAILS_EACH: usize = 5;
/// Time in which mail must be delivered while nodes restart.
const TTL: Duration = Duration::from_secs(30);
/// Number of times that a fifth of the nodes restarts: once for each node.
const ROUNDS: usize = 5;
/// Interval between mails, and between searches, while nodes restart.
const INTERVAL: Duration = Duration::from_millis(100);
/// Number of failures that a failed test shows.
const SHOWN: usize = 5;
/// Longest pause between two looks at what the nodes wrote.
const POLL: Duration = Duration::from_millis(2);

/// Lets one test at a time start a fleet.
static ONE: Mutex<()> = Mutex::new(());

struct Member {
    child: Child,
    key: u8,
    address: String,
    /// Where others can dial the process.
    entry: String,
}

/// A mail or a search without an answer yet.
struct Request {
    from: usize,
    to: usize,
    began: Instant,
    /// `true` if the answer names where the process of the agent listens now.
    is_current: bool,
}

/// A mail or a search that failed: between which nodes, when it began, and what was said.
type Failure = (usize, usize, Instant, Value);

/// What became of mails or searches.
#[derive(Default)]
struct Results {
    good: usize,
    /// Those among `good` whose answer names where the process of the agent listens now.
    current: usize,
    bad: Vec<Failure>,
    slowest: Duration,
}

impl Results {
    fn add(&mut self, request: &Request, is_good: bool, event: Value) {
        if is_good {
            self.good += 1;
            self.current += usize::from(request.is_current);
            self.slowest = self.slowest.max(request.began.elapsed());
        } else {
            self.bad.push((request.from, request.to, request.began, event));
        }
    }

    /// Returns the number of failures and some of them, for a person.
    fn failures(&self, began: Instant) -> String {
        let shown = self.bad.iter().take(SHOWN);
        let lines = shown.map(|(from, to, at, event)| {
            format!("\n  {from} to {to}, {:.1?} after the start: {event}", at.duration_since(began))
        });
        format!("{} of {}{}", self.bad.len(), self.bad.len() + self.good, lines.collect::<String>())
    }
}

struct Fleet {
    members: Vec<Member>,
    entries: Vec<String>,
    open: BTreeMap<String, Request>,
    mails: Results,
    searches: Results,
    requests: usize,
    /// State of the numbers that look random. They are the same in each run.
    random: u64,
    began: Instant,
}

fn report(text: &str) {
    let _ = writeln!(std::io::stderr(), "fleet: {text}");
}

fn spawn(key: u8, args: &[&str], port: &str, entries: &[String]) -> Child {
    let mut child = Child::spawn(args, &[("PRIVATE_KEY", &test_key(key))]);
    let port = port.parse::<u16>().unwrap();
    child.command(json!({"type":"connect","port":port,"bootstrapPeers":entries,"protocol":1}));
    child
}

fn member(child: Child, key: u8) -> Member {
    let ready = child.expect("ready", |event| event["type"] == "ready");
    let address = ready["address"].as_str().unwrap().to_owned();
    Member { child, key, address, entry: tcp_address(&ready) }
}

impl Fleet {
    /// Starts the bootstrap nodes, and then all agents at once.
    fn start() -> Fleet {
        let began = Instant::now();
        let (mut members, mut entries) = (Vec::new(), Vec::new());
        for key in 1..=BOOTSTRAPS as u8 {
            members.push(member(spawn(key, &["--role", "bootstrap"], "0", &entries), key));
            entries.push(members.last().unwrap().entry.clone());
        }
        let agents = BOOTSTRAPS as u8 + 1..=NODES as u8;
        let spawned: Vec<_> = agents.map(|key| (spawn(key, &[], "0", &entries), key)).collect();
        members.extend(spawned.into_iter().map(|(child, key)| member(child, key)));
        let open = BTreeMap::new();
        let (mails, searches) = (Results::default(), Results::default());
        report(&format!("{NODES} nodes are ready after {:.1?}", began.elapsed()));
        Fleet { members, entries, open, mails, searches, requests: 0, random: 1, began }
    }

    /// Returns a number below `limit`, by xorshift64.
    fn random(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % limit as u64) as usize
    }

    /// Returns two different nodes.
    fn pair(&mut self) -> (usize, usize) {
        let number = self.members.len();
        let (first, distance) = (self.random(number), 1 + self.random(number - 1));
        (first, (first + distance) % number)
    }

    fn request(&mut self, from: usize, to: usize, kind: &str, mut command: Value) {
        self.requests += 1;
        let id = format!("{kind}-{}", self.requests);
        command["id"] = json!(id);
        self.members[from].child.command(command);
        self.open.insert(id, Request { from, to, began: Instant::now(), is_current: false });
    }

    fn send(&mut self, from: usize, to: usize, ttl: Duration) {
        let command = json!({
            "type":"send", "peerId":self.members[to].address, "data":"hello", "ttlMs":ttl.as_millis() as u64
        });
        self.request(from, to, "mail", command);
    }

    fn search(&mut self, from: usize, to: usize) {
        let address = &self.members[to].address;
        let command = json!({"type":"discover","address":address,"timeoutMs":5000});
        self.request(from, to, "search", command);
    }

    /// Takes what the nodes wrote, and waits for a moment if they wrote nothing.
    fn step(&mut self) {
        let read: Vec<Value> = self.members.iter().flat_map(|member| member.child.read_now()).collect();
        if read.is_empty() {
            std::thread::sleep(POLL);
        }
        for event in read {
            self.on_event(event);
        }
    }

    fn on_event(&mut self, event: Value) {
        let id = event["requestId"].as_str().or(event["id"].as_str()).unwrap_or_default();
        match event["type"].as_str().unwrap() {
            "peer_discovered" => {
                let Some(request) = self.open.get_mut(id) else { return };
                let entry = &self.members[request.to].entry;
                let addrs = event["addrs"].as_array().unwrap();
                request.is_current = addrs.iter().any(|addr| entry.starts_with(addr.as_str().unwrap()));
            }
            "delivery" => {
                let Some(request) = self.open.remove(id) else { return };
                let is_good = event["state"] == "delivered";
                self.mails.add(&request, is_good, event);
            }
            "result" if event["command"] == "discover" => {
                let Some(request) = self.open.remove(id) else { return };
                let is_good = event["count"] == 1;
                self.searches.add(&request, is_good, event);
            }
            "error" => assert!(!self.open.contains_key(id), "{event}"),
            _ => {}
        }
    }

    fn finish(&mut self, deadline: Instant) {
        while !self.open.is_empty() && Instant::now() < deadline {
            self.step();
        }
        let open: Vec<_> = self.open.values().map(|request| (request.from, request.to)).collect();
        assert!(open.is_empty(), "without an answer: {open:?}");
    }

    /// Lets every node search for every other, again if it is not found.
    fn resolve_all(&mut self) {
        let deadline = self.began + RESOLVED_WITHIN;
        let pairs = |from| (0..NODES).filter(move |to| *to != from).map(move |to| (from, to));
        let mut missing: BTreeSet<_> = (0..NODES).flat_map(pairs).collect();
        while !missing.is_empty() {
            assert!(Instant::now() < deadline, "not resolved in time: {missing:?}");
            for (from, to) in std::mem::take(&mut missing) {
                self.search(from, to);
            }
            self.finish(deadline);
            missing.extend(self.searches.bad.drain(..).map(|(from, to, ..)| (from, to)));
        }
        report(&format!("all found each other {:.1?} after the start", self.began.elapsed()));
    }

    fn connections(&mut self) -> Vec<u64> {
        let connections = |member: &mut Member| member.child.until("up", |_| true)["peers"].as_u64().unwrap();
        self.members.iter_mut().map(connections).collect()
    }

    /// Waits until all nodes keep the connections that they have.
    fn settle(&mut self) {
        let deadline = Instant::now() + SETTLED_WITHIN;
        let (mut counts, mut since) = (self.connections(), Instant::now());
        while since.elapsed() < SETTLED_FOR {
            let now = self.connections();
            let is_settled = now == counts && now.iter().all(|count| CONNECTIONS.contains(count));
            if !is_settled {
                assert!(Instant::now() < deadline, "the connections do not settle: {counts:?} {now:?}");
                (counts, since) = (now, Instant::now());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        report(&format!("connections: {counts:?}"));
    }

    /// Kills a node and starts it again with its key. An agent has another port then.
    fn restart(&mut self, nodes: &[usize]) {
        let mut returned = Vec::new();
        for node in nodes {
            let Member { child, key, entry, .. } = &mut self.members[*node];
            child.kill();
            self.open.retain(|_, request| request.from != *node);
            let port = entry.split('/').nth(4).unwrap();
            let (args, port) =
                if *node < BOOTSTRAPS { (&["--role", "bootstrap"][..], port) } else { (&[][..], "0") };
            returned.push((*node, *key, spawn(*key, args, port, &self.entries)));
        }
        for (node, key, child) in returned {
            self.members[node] = member(child, key);
        }
    }

    /// Restarts a fifth of the nodes while mail and searches go on.
    fn round(&mut self, round: usize, length: Duration) {
        let nodes: Vec<usize> = (0..NODES).filter(|node| node % ROUNDS == round).collect();
        self.restart(&nodes);
        let (began, mut next) = (Instant::now(), Instant::now());
        while began.elapsed() < length {
            self.step();
            if Instant::now() >= next {
                next += INTERVAL;
                let (from, to) = self.pair();
                self.send(from, to, TTL);
                let (from, to) = self.pair();
                self.search(from, to);
            }
        }
    }
}

pub fn one_at_a_time() -> impl Drop {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
#[ignore = "starts 50 nodes"]
fn fifty_nodes_that_start_at_once_find_each_other_and_keep_their_connections() {
    let _one = one_at_a_time();
    let mut fleet = Fleet::start();
    fleet.resolve_all();
    fleet.settle();
}

#[test]
#[ignore = "starts 50 nodes"]
fn without_bootstrap_nodes_mail_flows_and_an_agent_joins_through_a_plain_agent() {
    let _one = one_at_a_time();
    let mut fleet = Fleet::start();
    fleet.settle();
    fleet.members.drain(..BOOTSTRAPS);
    let agents = fleet.members.len();
    for from in 0..agents {
        for number in 0..MAILS_EACH {
            let to = (from + 1 + number * (agents / MAILS_EACH)) % agents;
            fleet.send(from, to, TTL);
        }
    }
    fleet.finish(Instant::now() + TTL + TIMEOUT);
    let mails = std::mem::take(&mut fleet.mails);
    report(&format!("without bootstrap nodes: {} mails, the slowest in {:.1?}", mails.good, mails.slowest));
    assert!(mails.bad.is_empty(), "not delivered: {}", mails.failures(fleet.began));

    let began = Instant::now();
    let entry = fleet.members[0].entry.clone();
    fleet.members.push(member(spawn(NEWCOMER, &[], "0", &[entry]), NEWCOMER));
    for to in [1, agents / 2, agents - 1] {
        fleet.send(agents, to, JOINED_WITHIN);
    }
    fleet.finish(began + JOINED_WITHIN);
    report(&format!("a new agent has sent its mail {:.1?} after its start", began.elapsed()));
    assert_eq!(fleet.mails.good, 3, "not delivered: {}", fleet.mails.failures(fleet.began));
}

#[test]
#[ignore = "starts 50 nodes and restarts them for minutes"]
fn no_mail_is_lost_and_agents_are_found_while_a_fifth_of_the_nodes_restarts_again_and_again() {
    let _one = one_at_a_time();
    let seconds = std::env::var("FLEET_ROUND_SECONDS").map_or(20, |text| text.parse().unwrap());
    let mut fleet = Fleet::start();
    fleet.settle();
    for round in 0..ROUNDS {
        fleet.round(round, Duration::from_secs(seconds));
        let Fleet { mails, searches, .. } = &fleet;
        report(&format!(
            "round {round}: mails {} good, {} bad; searches {} good, {} current, {} bad",
            mails.good,
            mails.bad.len(),
            searches.good,
            searches.current,
            searches.bad.len()
        ));
    }
    fleet.finish(Instant::now() + TTL + TIMEOUT);
    let Fleet { mails, searches, .. } = &fleet;
    report(&format!(
        "{} mails, the slowest in {:.1?}; {} searches, the slowest in {:.1?}; {} found where the agent was before",
        mails.good,
        mails.slowest,
        searches.good,
        searches.slowest,
        searches.good - searches.current
    ));
    assert!(mails.bad.is_empty(), "not delivered: {}", mails.failures(fleet.began));
    let missed = searches.bad.len();
    assert!(missed * 100 <= searches.good + missed, "not found: {}", searches.failures(fleet.began));
}
