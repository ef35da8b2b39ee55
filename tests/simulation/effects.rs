//! Executes the effects of the cores.

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use p2p_node_core::crypto_task::CryptoTask;
use p2p_node_core::effect::{Effect, NetworkCommand, Verdict};
use p2p_node_core::input::{Input, PublishOutcome};
use p2p_node_protocol::Role;
use p2p_node_wire::seal::repeatable::DeterministicRng;

use crate::links::pair;
use crate::node::Heard;
use crate::scenario::Honesty;
use crate::trace::name_of;
use crate::world::{ScheduledEvent, World};

/// Peers to whom a node passes on what it heard: gossipsub's `mesh_n`.
const MESH: usize = 8;
/// Time until IHAVE and IWANT repair a loss: one to three heartbeats.
const MADE_UP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3));
/// Time of a task in the crypto pool.
const WORK: Duration = Duration::from_millis(1);
/// A lookup ends after this long when some server is silent.
const LOOKUP: Duration = Duration::from_secs(10);
/// Frames kept to be heard again, and records of each agent.
const CAPTURED: usize = 256;
const OLD_RECORDS: usize = 4;

impl World {
    pub fn execute_effect(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Emit { event, .. } => self.nodes[node].parent.unread.push_back(event),
            Effect::Crypto(task) => self.work(node, task),
            Effect::PersistHighestSeen(row) => {
                self.nodes[node].floors.insert(row.address, row);
            }
            // The parents of the simulation block and allow nobody.
            Effect::PersistAccessRule { .. } => {}
            Effect::PersistMessage { number, mail } => self.keep_mail(node, number, mail),
            Effect::PersistCheckpoint { number, row } => self.keep_taken(node, number, row),
            Effect::DeleteCheckpoint { sender, stream } => self.forget_taken(node, sender, stream),
            Effect::DeleteMessage { stream, seq } => self.forget_mail(node, stream, seq),
            Effect::Exit(code) => self.exited(node, code),
            Effect::Network(effect) => self.network(node, effect),
        }
    }

    pub fn later(&mut self, node: usize, delay: Duration, input: Input) {
        let life = self.nodes[node].life;
        self.at(self.now + delay, ScheduledEvent::Input { node, life, over: None, input });
    }

    /// What the crypto pool does. Bindings are checked once for the whole world.
    fn work(&mut self, node: usize, task: CryptoTask) {
        let busy = self.pool_busy;
        let input = match task {
            task if self.rng.permille(busy) => task.refused(),
            CryptoTask::CheckBinding(binding) => {
                let hash = binding.hash();
                let valid = *self.checked.entry(hash).or_insert_with(|| binding.verify_signature());
                Input::BindingChecked { hash, valid: Some(valid) }
            }
            task => task.run(&mut DeterministicRng::new(self.rng.next())),
        };
        self.later(node, WORK, input);
    }

    fn network(&mut self, node: usize, effect: NetworkCommand) {
        match effect {
            NetworkCommand::Listen { .. } => {
                let addrs = vec![self.nodes[node].addr()];
                self.later(node, Duration::from_millis(1), Input::Listening { addrs });
            }
            NetworkCommand::Dial { peer, addrs } => self.dial(node, peer, &addrs),
            NetworkCommand::Disconnect { peer } => {
                if let Some(other) = self.by_peer.get(&peer).copied() {
                    self.close(pair(node, other), "closed by the other end");
                }
            }
            NetworkCommand::ReportListening
            | NetworkCommand::Block { .. }
            | NetworkCommand::Unblock { .. }
            | NetworkCommand::StopQuery { .. } => {}
            NetworkCommand::SendHello { peer, body } => self.ask(node, peer, None, body),
            NetworkCommand::SendMail { token, peer, frame } => self.ask(node, peer, Some(token), frame),
            NetworkCommand::AnswerHello { token, body } | NetworkCommand::AnswerMail { token, body } => {
                self.answer(node, token, body);
            }
            NetworkCommand::Subscribe { topic } => {
                self.nodes[node].topics.insert(topic.clone());
                self.tell_neighbours(node, |peer| Input::PeerSubscribed { peer, topic: topic.clone() });
            }
            NetworkCommand::Unsubscribe { topic } => {
                self.nodes[node].topics.remove(&topic);
                self.tell_neighbours(node, |peer| Input::PeerUnsubscribed { peer, topic: topic.clone() });
            }
            NetworkCommand::Publish { token, topic, data } => {
                let outcome = self.publish(node, &topic, data);
                self.later(node, Duration::ZERO, Input::Published { token, outcome });
            }
            NetworkCommand::Judge { token, verdict } => self.judge(node, token, verdict),
            NetworkCommand::PutRecord { key, value, .. } => self.put_record(node, key, value),
            NetworkCommand::StoreDhtRecord { key, value, .. } => {
                self.nodes[node].kept.insert(key, value);
            }
            NetworkCommand::GetRecord { token, key } => self.get_record(node, token, &key),
        }
    }

    fn tell_neighbours(&mut self, node: usize, input: impl Fn(PeerId) -> Input) {
        let peer = self.nodes[node].peer;
        for other in self.nodes[node].neighbours.clone() {
            self.tell(other, node, input(peer));
        }
    }

    fn publish(&mut self, node: usize, topic: &str, data: Bytes) -> PublishOutcome {
        let now = self.now;
        if !self.nodes[node].hears(name_of(topic, &data), now) {
            return PublishOutcome::Duplicate;
        }
        self.report.published += 1;
        self.capture(None, topic.to_owned(), data.clone());
        let heard = Heard { topic: topic.to_owned(), data, honest: true };
        if self.pass_on(node, &heard) == 0 { PublishOutcome::NoPeers } else { PublishOutcome::Sent }
    }

    /// Passes a message on to peers that subscribe; how many there are.
    fn pass_on(&mut self, node: usize, heard: &Heard) -> usize {
        let subscribes = |other: &usize| self.nodes[*other].topics.contains(&heard.topic);
        let mut listeners: Vec<usize> =
            self.nodes[node].neighbours.iter().copied().filter(subscribes).collect();
        let number = listeners.len();
        for _ in 0..MESH.min(number) {
            let to = listeners.swap_remove(self.rng.below(listeners.len()));
            self.report.hops += 1;
            let mut delay = self.latency();
            if self.is_lost() {
                if self.is_lost() {
                    continue;
                }
                delay += self.rng.between(MADE_UP.0, MADE_UP.1);
            }
            self.hand_gossip(node, to, heard.clone(), delay);
        }
        number
    }

    /// Has a node hear something on a topic, unless it has already.
    pub fn hand_gossip(&mut self, from: usize, to: usize, heard: Heard, delay: Duration) {
        let Some(epoch) = self.links.get(&pair(from, to)).map(|link| link.epoch) else { return };
        let (life, now) = (self.nodes[to].life, self.now);
        // It hears it when it arrives; marked now, so that the copies on their way cost the world
        // nothing.
        if !self.nodes[to].hears(name_of(&heard.topic, &heard.data), now) {
            return;
        }
        let token = self.token();
        let input = Input::Gossip {
            token,
            from: self.nodes[from].peer,
            topic: heard.topic.clone(),
            data: heard.data.clone(),
        };
        self.nodes[to].coming.insert(token, heard);
        let over = Some((pair(from, to), epoch));
        self.at(self.now + delay, ScheduledEvent::Input { node: to, life, over, input });
    }

    fn judge(&mut self, node: usize, token: u64, verdict: Verdict) {
        let Some(heard) = self.nodes[node].unjudged.remove(&token) else {
            return self.violate("gossip is judged once", node, format!("token {token} again"));
        };
        match verdict {
            Verdict::Accept => {
                self.pass_on(node, &heard);
            }
            Verdict::Reject if heard.honest => {
                let what = format!("{} bytes on {}", heard.data.len(), heard.topic);
                self.violate("no honest peer is blamed", node, what);
            }
            Verdict::Reject | Verdict::Ignore => {}
        }
    }

    /// The servers that a node reaches: those that it is connected to, and those that they are.
    fn servers_of(&self, node: usize) -> Vec<usize> {
        let servers = |node: usize| {
            let near = self.nodes[node].neighbours.iter().copied();
            near.filter(|other| self.nodes[*other].role == Role::Bootstrap)
        };
        let mut found: Vec<usize> = servers(node).collect();
        let far: Vec<usize> = found.iter().flat_map(|server| servers(*server)).collect();
        found.extend(far);
        found.sort_unstable();
        found.dedup();
        found.retain(|server| *server != node && !self.is_cut(pair(node, *server)));
        found
    }

    fn put_record(&mut self, node: usize, key: Bytes, value: Bytes) {
        let old = self.old_records.entry(key.clone()).or_default();
        if old.back() != Some(&value) {
            old.push_back(value.clone());
        }
        if old.len() > OLD_RECORDS {
            old.pop_front();
        }
        let peer = self.nodes[node].peer;
        // Kademlia keeps what it puts, and a server gives it out.
        self.nodes[node].kept.insert(key.clone(), value.clone());
        let mut stored = false;
        for server in self.servers_of(node) {
            if self.is_lost() {
                continue;
            }
            stored = true;
            let delay = self.latency();
            let (key, value) = (key.clone(), value.clone());
            self.later(server, delay, Input::RecordOffered { peer, key, value });
        }
        let delay = self.latency() + self.latency();
        self.later(node, delay, Input::RecordPut { stored });
    }

    fn get_record(&mut self, node: usize, token: u64, key: &Bytes) {
        let mut end = Duration::ZERO;
        for server in self.servers_of(node) {
            let delay = self.latency() + self.latency();
            let honesty = self.nodes[server].honesty;
            let asleep = self.nodes[server].asleep_until.is_some();
            if honesty == Honesty::Silent || asleep || self.is_lost() {
                end = LOOKUP;
                continue;
            }
            end = end.max(delay);
            let value = match honesty {
                Honesty::Lying => self.lie(key),
                _ => self.nodes[server].kept.get(key).cloned(),
            };
            if let Some(value) = value {
                self.later(node, delay, Input::RecordFound { token, value });
            }
        }
        self.later(node, end + Duration::from_micros(1), Input::QueryEnded { token });
    }

    /// What a liar answers: something old, something of another, something bent, or nothing.
    fn lie(&mut self, key: &Bytes) -> Option<Bytes> {
        let old = self.old_records.get(key).and_then(|old| old.front()).cloned();
        match self.rng.below(4) {
            0 => old,
            1 => {
                let other = self.rng.below(self.old_records.len());
                self.old_records.values().nth(other).and_then(|old| old.back()).cloned()
            }
            2 => old.map(|record| {
                let mut bent = record.to_vec();
                let at = self.rng.below(bent.len());
                bent[at] ^= 1 << self.rng.below(8);
                bent.into()
            }),
            _ => None,
        }
    }

    pub fn capture(&mut self, to: Option<usize>, topic: String, data: Bytes) {
        if self.captured.len() >= CAPTURED {
            self.captured.pop_front();
        }
        self.captured.push_back((to, topic, data));
    }
}
