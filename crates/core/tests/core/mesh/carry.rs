//! Executes the effects of the cores: the simulated network.

use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_core::effect::{Effect, NetworkCommand, Verdict};
use p2p_node_core::highest_seen::HighestSeen;
use p2p_node_core::input::{Input, PublishOutcome};
use p2p_node_protocol::line;
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::seal::repeatable::DeterministicRng;

use super::Mesh;

impl Mesh {
    fn flood(&mut self, from: usize, topic: &str, data: &Bytes) -> usize {
        self.nodes[from].seen.insert((topic.to_owned(), data.clone()));
        let listeners: Vec<usize> = self
            .neighbours(from)
            .into_iter()
            .filter(|other| self.nodes[*other].topics.contains(topic))
            .collect();
        let peer = self.nodes[from].peer;
        for to in &listeners {
            if self.nodes[*to].seen.insert((topic.to_owned(), data.clone())) {
                let token = self.token();
                let gossip = Input::Gossip { token, from: peer, topic: topic.to_owned(), data: data.clone() };
                self.wire.push_back((*to, gossip));
            }
        }
        listeners.len()
    }

    /// The disk writes again, what waits first.
    pub fn write_on(&mut self) {
        self.disk_writes = true;
        for (node, effect) in std::mem::take(&mut self.unwritten) {
            self.carry_out(node, effect);
        }
        self.settle();
    }

    pub(super) fn carry_out(&mut self, node: usize, effect: Effect) {
        let peer = self.nodes[node].peer;
        match effect {
            Effect::Emit { event, numbered } => {
                self.nodes[node].unread += 1;
                let mut bytes = Vec::new();
                line::encode_event(&event, numbered.then_some(0), &mut bytes);
                self.nodes[node].longest = self.nodes[node].longest.max(bytes.len() - 1);
                let value = serde_json::from_slice(&bytes).unwrap();
                self.nodes[node].lines.push(value);
            }
            Effect::Crypto(task) => {
                let seed = self.token();
                let done =
                    if self.crypto { task.run(&mut DeterministicRng::new(seed)) } else { task.refused() };
                self.wire.push_back((node, done));
            }
            Effect::PersistHighestSeen(row) => {
                self.nodes[node].kept.insert(row.address, row);
            }
            Effect::PersistMessage { .. } | Effect::PersistCheckpoint { .. } if !self.disk_writes => {
                self.unwritten.push((node, effect));
            }
            Effect::PersistMessage { number, .. } | Effect::PersistCheckpoint { number, .. }
                if self.disk_full =>
            {
                let reason = "no space left on device".to_owned();
                self.wire.push_back((node, Input::PersistFailed { upto: number, reason }));
            }
            Effect::PersistMessage { number, mail } => {
                self.nodes[node].mails.insert((mail.stream, mail.seq), *mail);
                self.wire.push_back((node, Input::Persisted { upto: number }));
            }
            Effect::PersistCheckpoint { number, row } => {
                self.nodes[node].taken.insert((row.sender, row.stream), *row);
                self.wire.push_back((node, Input::Persisted { upto: number }));
            }
            Effect::DeleteCheckpoint { sender, stream } => {
                self.nodes[node].taken.remove(&(sender, stream));
            }
            Effect::DeleteMessage { stream, seq } => {
                self.nodes[node].mails.remove(&(stream, seq));
            }
            Effect::PersistAccessRule { subject, standing } => {
                let kept = &mut self.nodes[node].standings;
                kept.retain(|(other, _)| *other != subject);
                kept.extend(standing.map(|standing| (subject, standing)));
            }
            Effect::Exit(code) => self.nodes[node].exit = Some(code),
            Effect::Network(effect) => self.network(node, peer, effect),
        }
    }

    fn network(&mut self, node: usize, peer: PeerId, effect: NetworkCommand) {
        match effect {
            NetworkCommand::Listen { .. } => {
                let addr = format!("/ip4/127.0.0.1/tcp/{}", 1000 + node).parse().unwrap();
                self.wire.push_back((node, Input::Listening { addrs: vec![addr] }));
            }
            NetworkCommand::ReportListening => {
                self.wire.push_back((node, Input::Listening { addrs: Vec::new() }));
            }
            NetworkCommand::Dial { peer, .. } => match self.index_of(&peer) {
                Some(to) if !self.nodes[to].dead && !self.parted.contains(&(node.min(to), node.max(to))) => {
                    self.link(node, to);
                }
                _ => self.wire.push_back((node, Input::DialFailed { peer, reason: "down".to_owned() })),
            },
            NetworkCommand::SendHello { peer: to, body } => {
                let (Some(to), token) = (self.index_of(&to), self.token()) else { return };
                self.asked.insert(token, (node, 0));
                self.wire.push_back((to, Input::HelloRequestReceived { token, peer, body }));
            }
            NetworkCommand::AnswerHello { token, body } => {
                if let Some((to, _)) = self.asked.remove(&token) {
                    self.wire.push_back((to, Input::HelloResponseReceived { peer, body }));
                }
            }
            NetworkCommand::SendMail { token, peer: to, frame } => {
                let Some(to) = self.index_of(&to).filter(|to| self.is_connected(node, *to)) else {
                    let outcome = Err("not connected".to_owned());
                    return self.wire.push_back((node, Input::MailResponseReceived { token, outcome }));
                };
                let asked = self.token();
                self.asked.insert(asked, (node, token));
                self.frames.push((to, peer, frame.clone()));
                self.wire.push_back((to, Input::MailRequestReceived { token: asked, peer, frame }));
            }
            NetworkCommand::AnswerMail { token, body } => {
                let body = (self.lies)(node).unwrap_or(body);
                if let Some((to, token)) = self.asked.remove(&token) {
                    self.wire.push_back((to, Input::MailResponseReceived { token, outcome: Ok(body) }));
                }
            }
            NetworkCommand::Subscribe { topic } => {
                self.nodes[node].topics.insert(topic.clone());
                for other in self.neighbours(node) {
                    self.wire.push_back((other, Input::PeerSubscribed { peer, topic: topic.clone() }));
                }
            }
            NetworkCommand::Unsubscribe { topic } => {
                self.nodes[node].topics.remove(&topic);
                for other in self.neighbours(node) {
                    self.wire.push_back((other, Input::PeerUnsubscribed { peer, topic: topic.clone() }));
                }
            }
            NetworkCommand::Publish { token, topic, data } => {
                let heard = self.flood(node, &topic, &data);
                let outcome = if heard == 0 { PublishOutcome::NoPeers } else { PublishOutcome::Sent };
                self.wire.push_back((node, Input::Published { token, outcome }));
            }
            NetworkCommand::Judge { token, verdict } => {
                let twice = self.nodes[node].judged.insert(token, verdict);
                assert_eq!(twice, None, "gossip is judged exactly once");
                if let (Verdict::Accept, Some((_, topic, data))) =
                    (verdict, self.nodes[node].gossip.get(&token).cloned())
                {
                    self.flood(node, &topic, &data);
                }
            }
            NetworkCommand::PutRecord { key, value, .. } => {
                let row = HighestSeen::from(&SignedRecord::decode(value.clone()).unwrap());
                assert_eq!(
                    self.nodes[node].kept.get(&row.address),
                    Some(&row),
                    "remembered before it is told"
                );
                let servers: Vec<usize> = self
                    .neighbours(node)
                    .into_iter()
                    .filter(|other| self.nodes[*other].core_role_serves())
                    .collect();
                self.wire.push_back((node, Input::RecordPut { stored: !servers.is_empty() }));
                for server in servers {
                    let (key, value) = (key.clone(), value.clone());
                    self.wire.push_back((server, Input::RecordOffered { peer, key, value }));
                }
            }
            NetworkCommand::StoreDhtRecord { key, value, .. } => {
                self.dht.insert(key, value);
            }
            NetworkCommand::GetRecord { token, key } => {
                let reaches = self.neighbours(node).iter().any(|other| self.nodes[*other].core_role_serves());
                if let Some(value) = self.dht.get(&key).filter(|_| reaches).cloned() {
                    self.wire.push_back((node, Input::RecordFound { token, value }));
                }
                self.wire.push_back((node, Input::QueryEnded { token }));
            }
            NetworkCommand::Disconnect { peer } => self.hung_up.push((node, peer)),
            NetworkCommand::StopQuery { .. }
            | NetworkCommand::Block { .. }
            | NetworkCommand::Unblock { .. } => {}
        }
    }
}
