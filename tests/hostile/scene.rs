//! The victim and an honest peer, both real, and what must hold after every attack.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use serde_json::{Value, json};

use crate::child::{Child, SOON};

pub const VICTIM: u8 = 1;
pub const HONEST: u8 = 2;

/// What both subscribe to.
pub const TOPIC: &str = "jobs";

/// A real node.
pub struct Real {
    pub child: Child,
    pub ready: Value,
    asked: u64,
}

impl Real {
    pub fn join(key: u8, args: &[&str], bootstraps: &[String]) -> Self {
        let (child, ready) = Child::join(key, 0, args, bootstraps);
        Real { child, ready, asked: 0 }
    }

    pub fn address(&self) -> String {
        self.ready["address"].as_str().unwrap().to_owned()
    }

    pub fn peer(&self) -> PeerId {
        self.ready["peerId"].as_str().unwrap().parse().unwrap()
    }

    /// Where it listens on TCP, with its PeerId.
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

    /// Gives a command and waits for its terminal line.
    pub fn ask(&mut self, mut command: Value) -> Value {
        self.asked += 1;
        let id = format!("asked-{}", self.asked);
        command["id"] = json!(id);
        self.child.say(command);
        self.child.answer(&id)
    }

    pub fn status(&mut self) -> Value {
        self.ask(json!({"type":"status"}))["status"].clone()
    }

    pub fn counters(&mut self) -> BTreeMap<String, u64> {
        serde_json::from_value(self.status()["counters"].clone()).unwrap()
    }

    pub fn counter(&mut self, name: &str) -> u64 {
        self.counters().get(name).copied().unwrap_or_default()
    }

    /// Waits until the status is as wanted, and returns it.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "never {what}: {status}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a counter has reached so much.
    pub fn until_counted(&mut self, name: &str, count: u64) {
        self.until(&format!("{name} = {count}"), |status| {
            status["counters"][name].as_u64().unwrap_or_default() >= count
        });
    }

    /// What came since that a parent would act on, and takes it.
    pub fn said(&mut self, kinds: &[&str]) -> Vec<Value> {
        // The answer comes after all that came before it.
        self.ask(json!({"type":"ping"}));
        let mut said = Vec::new();
        for kind in kinds {
            while let Some(event) = self.child.take(|event| event["type"] == *kind) {
                said.push(event);
            }
        }
        said
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

/// A victim and an honest peer that are connected, know each other and subscribe to the topic.
pub struct Scene {
    pub victim: Real,
    pub honest: Real,
    mails: u64,
}

impl Scene {
    pub fn new(role: &str) -> Self {
        let mut victim = Real::join(VICTIM, &["--role", role], &[]);
        let mut honest = Real::join(HONEST, &[], &[victim.entry()]);
        for node in [&mut victim, &mut honest] {
            let answer = node.ask(json!({"type":"subscribe","topic":TOPIC}));
            assert_eq!(answer["type"], "result", "{answer}");
        }
        for node in [&mut victim, &mut honest] {
            node.until("acquainted", |status| status["peers"] == 1 && status["agents"] == 1);
        }
        let mut scene = Scene { victim, honest, mails: 0 };
        scene.still_honest();
        for node in [&mut scene.victim, &mut scene.honest] {
            node.said(&["peer_discovered"]);
        }
        scene
    }

    /// The honest peer was not blamed: it is connected, and its mail and broadcasts arrive, both
    /// ways.
    pub fn still_honest(&mut self) {
        self.mails += 1;
        let names = [self.victim.address(), self.honest.address()];
        let nodes = [&mut self.victim, &mut self.honest];
        for (from, to) in [(0, 1), (1, 0)] {
            let mail = json!({"honest":self.mails,"way":"mail"});
            let id = format!("honest-{}", self.mails);
            nodes[from]
                .child
                .say(json!({"type":"send","peerId":names[to],"data":mail,"route":"direct","id":id}));
            nodes[from].child.answer(&id);
            let delivery = nodes[from].child.expect("delivery", |event| event["requestId"] == id.as_str());
            assert_eq!(delivery["state"], "delivered", "{delivery}");
            let came = nodes[to].child.expect("honest mail", |event| event["data"] == mail);
            assert_eq!(came["from"], names[from]);
            let broadcast = json!({"honest":self.mails,"way":"broadcast"});
            let answer = nodes[from].ask(json!({"type":"send","topic":TOPIC,"data":broadcast}));
            assert_eq!(answer["type"], "result", "{answer}");
            let came = nodes[to].child.expect("honest broadcast", |event| event["data"] == broadcast);
            assert_eq!(came["from"], names[from]);
        }
        for node in nodes {
            let lost = node.child.take(|event| {
                event["type"] == "peer_disconnected"
                    && names.iter().any(|name| event["address"] == name.as_str())
            });
            assert_eq!(lost, None, "the honest lost each other");
        }
    }

    /// Neither has told its parent any such line.
    pub fn nothing_said(&mut self, kinds: &[&str]) {
        for node in [&mut self.victim, &mut self.honest] {
            let said = node.said(kinds);
            assert!(said.is_empty(), "{said:#?}");
        }
    }

    /// What the honest peer has refused so far: anything here was passed on to it by the victim.
    pub fn passed_on(&mut self) -> BTreeMap<String, u64> {
        let refusals = ["frames_", "records_", "bindings_", "broadcasts_refused", "acks_refused", "hellos_"];
        let mut counters = self.honest.counters();
        counters.retain(|name, _| {
            refusals.iter().any(|refusal| name.starts_with(refusal))
                && !["records_accepted", "records_published"].contains(&name.as_str())
        });
        counters
    }
}
