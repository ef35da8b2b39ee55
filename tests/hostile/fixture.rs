//! A real victim and a real honest peer, and the checks after every attack.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use serde_json::{Value, json};

use crate::child::{Child, SMALL, TIMEOUT};

pub const VICTIM: u8 = 1;
pub const HONEST: u8 = 2;

/// The topic to which both subscribe.
pub const TOPIC: &str = "jobs";

/// A real node.
pub struct Real {
    pub child: Child,
    pub ready: Value,
    requests: u64,
}

impl Real {
    pub fn join(key: u8, args: &[&str], bootstraps: &[String]) -> Self {
        let (child, ready) = Child::join(key, 0, args, bootstraps);
        Real { child, ready, requests: 0 }
    }

    /// As `join`, with the memory and the descriptors of a small container.
    pub fn join_small(key: u8, args: &[&str]) -> Self {
        let (child, ready) = Child::join_limited(SMALL, key, args, &[]);
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
        let hard = |name: &str| {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        assert_eq!((hard("Max data size"), hard("Max open files")), (256 << 20, 64));
        Real { child, ready, requests: 0 }
    }

    pub fn address(&self) -> String {
        self.ready["address"].as_str().unwrap().to_owned()
    }

    pub fn peer(&self) -> PeerId {
        self.ready["peerId"].as_str().unwrap().parse().unwrap()
    }

    /// Returns its TCP address with its PeerId.
    pub fn entry(&self) -> String {
        let addrs = self.ready["addrs"].as_array().unwrap();
        let tcp = addrs.iter().map(|addr| addr.as_str().unwrap()).find(|addr| addr.contains("/tcp/"));
        tcp.unwrap().to_owned()
    }

    pub fn addrs(&self) -> Vec<Multiaddr> {
        let mut addr: Multiaddr = self.entry().parse().unwrap();
        addr.pop();
        vec![addr]
    }

    /// Writes a command and waits for its terminal line.
    pub fn request(&mut self, mut command: Value) -> Value {
        self.requests += 1;
        let id = format!("requests-{}", self.requests);
        command["id"] = json!(id);
        self.child.command(command);
        self.child.answer(&id)
    }

    pub fn status(&mut self) -> Value {
        self.request(json!({"type":"status"}))["status"].clone()
    }

    pub fn counters(&mut self) -> BTreeMap<String, u64> {
        serde_json::from_value(self.status()["counters"].clone()).unwrap()
    }

    pub fn counter(&mut self, name: &str) -> u64 {
        self.counters().get(name).copied().unwrap_or_default()
    }

    /// Waits until a condition on the status holds, and returns the status.
    pub fn until(&mut self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let status = self.status();
            if condition(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "never {what}: {status}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a counter is at least `count`.
    pub fn until_counted(&mut self, name: &str, count: u64) {
        self.until(&format!("{name} = {count}"), |status| {
            status["counters"][name].as_u64().unwrap_or_default() >= count
        });
    }

    /// Takes the events of these types so far.
    pub fn take_events(&mut self, kinds: &[&str]) -> Vec<Value> {
        // The answer follows all earlier lines.
        self.request(json!({"type":"ping"}));
        let mut events = Vec::new();
        for kind in kinds {
            while let Some(event) = self.child.take(|event| event["type"] == *kind) {
                events.push(event);
            }
        }
        events
    }

    /// Returns the number of open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Returns the resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

/// A victim and an honest peer that are connected, know each other and subscribe to the topic. The
/// victim has the memory and the descriptors of a small container.
pub struct Fixture {
    pub victim: Real,
    pub honest: Real,
    rounds: u64,
}

impl Fixture {
    pub fn new(role: &str) -> Self {
        Fixture::with(role, &[])
    }

    /// As `new`, with further arguments for the victim.
    pub fn with(role: &str, args: &[&str]) -> Self {
        let mut victim = Real::join_small(VICTIM, &[&["--role", role], args].concat());
        let mut honest = Real::join(HONEST, &[], &[victim.entry()]);
        for node in [&mut victim, &mut honest] {
            let answer = node.request(json!({"type":"subscribe","topic":TOPIC}));
            assert_eq!(answer["type"], "result", "{answer}");
        }
        for node in [&mut victim, &mut honest] {
            node.until("connected", |status| status["peers"] == 1 && status["agents"] == 1);
        }
        let mut fixture = Fixture { victim, honest, rounds: 0 };
        fixture.check_honest_traffic();
        for node in [&mut fixture.victim, &mut fixture.honest] {
            node.take_events(&["peer_discovered"]);
        }
        fixture
    }

    /// Asserts that victim and honest peer are connected, and that mail and broadcasts arrive in
    /// both directions.
    pub fn check_honest_traffic(&mut self) {
        self.rounds += 1;
        let names = [self.victim.address(), self.honest.address()];
        let nodes = [&mut self.victim, &mut self.honest];
        for (from, to) in [(0, 1), (1, 0)] {
            let mail = json!({"honest":self.rounds,"way":"mail"});
            let id = format!("honest-{}", self.rounds);
            nodes[from]
                .child
                .command(json!({"type":"send","peerId":names[to],"data":mail,"route":"direct","id":id}));
            nodes[from].child.answer(&id);
            let delivery = nodes[from].child.expect("delivery", |event| event["requestId"] == id.as_str());
            assert_eq!(delivery["state"], "delivered", "{delivery}");
            let message = nodes[to].child.expect("honest mail", |event| event["data"] == mail);
            assert_eq!(message["from"], names[from]);
            let broadcast = json!({"honest":self.rounds,"way":"broadcast"});
            let answer = nodes[from].request(json!({"type":"send","topic":TOPIC,"data":broadcast}));
            assert_eq!(answer["type"], "result", "{answer}");
            let message = nodes[to].child.expect("honest broadcast", |event| event["data"] == broadcast);
            assert_eq!(message["from"], names[from]);
        }
        for node in nodes {
            let lost = node.child.take(|event| {
                event["type"] == "peer_disconnected"
                    && names.iter().any(|name| event["address"] == name.as_str())
            });
            assert_eq!(lost, None, "victim and honest peer are disconnected");
        }
    }

    /// Asserts that neither node wrote an event of these types.
    pub fn assert_no_events(&mut self, kinds: &[&str]) {
        for node in [&mut self.victim, &mut self.honest] {
            let events = node.take_events(kinds);
            assert!(events.is_empty(), "{events:#?}");
        }
    }

    /// Returns the honest peer's counters of refused messages, all of which the victim forwarded.
    pub fn refused_by_honest(&mut self) -> BTreeMap<String, u64> {
        let refusals =
            ["frames_", "records_", "bindings_", "broadcasts_refused", "acks_refused", "admissions_"];
        let mut counters = self.honest.counters();
        counters.retain(|name, _| {
            refusals.iter().any(|refusal| name.starts_with(refusal))
                && !["records_accepted", "records_published"].contains(&name.as_str())
        });
        counters
    }
}
