//! Executes the effects of cores by the network in memory.

use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_core::chain::ChainCommand;
use p2p_node_core::client_id::ClientId;
use p2p_node_core::crypto_task::CryptoTask;
use p2p_node_core::effect::{ExitCode, Verdict};
use p2p_node_core::file_io::FileCommand;
use p2p_node_core::input::{Input, Token};
use p2p_node_protocol::Event;

use super::links::{self, RequestKind, later, notify_neighbours};
use super::{World, dht, gossip, pair};
use crate::interpreter::Interpreter;
use crate::store::Change;

/// Time until a server of the chain answers.
const CHAIN: Duration = Duration::from_millis(100);

/// Time until the system has opened a socket.
const LISTENING: Duration = Duration::from_millis(1);

/// Reports the outcome of a write to its core, unless the test delays the write. Returns `true` if
/// the write has an outcome.
pub fn finish_write<W: World>(world: &mut W, node: usize, number: u64) -> bool {
    let Some(outcome) = world.write(node, number) else { return false };
    let input = match outcome.error {
        None => Input::Persisted { through: number },
        Some(reason) => Input::PersistFailed { through: number, reason },
    };
    later(world, node, outcome.delay, input);
    true
}

impl<W: World> Interpreter for W {
    fn emit(&mut self, node: usize, client: ClientId, event: Event, numbered: bool) {
        match client {
            ClientId::PARENT => self.on_emit(node, event, numbered),
            attached => self.on_attached_line(node, attached, event, numbered),
        }
    }

    fn close_client(&mut self, node: usize, client: ClientId) {
        self.on_client_closed(node, client);
    }

    fn crypto(&mut self, node: usize, task: CryptoTask) {
        let (delay, input) = self.run_task(node, task);
        later(self, node, delay, input);
    }

    fn chain(&mut self, node: usize, command: ChainCommand) {
        if self.network_mut().registry.is_silent {
            return;
        }
        let event = self.network_mut().registry.answer(command);
        later(self, node, CHAIN, Input::Chain(event));
    }

    fn file(&mut self, node: usize, command: FileCommand) {
        self.network_mut().file_commands.push((node, command));
    }

    fn exit(&mut self, node: usize, code: ExitCode) {
        self.on_exit(node, code);
    }

    fn store(&mut self, node: usize, change: Change) {
        let number = change.number();
        self.network_mut().endpoints[node].store.request(change);
        if let Some(number) = number {
            finish_write(self, node, number);
        }
    }

    fn listen(&mut self, node: usize) {
        let addrs = vec![self.listen_addr(node)];
        later(self, node, LISTENING, Input::Listening { addrs });
    }

    fn report_listening(&mut self, node: usize) {
        later(self, node, LISTENING, Input::Listening { addrs: Vec::new() });
    }

    fn dial(&mut self, node: usize, peer: PeerId, addrs: &[Multiaddr]) {
        links::dial(self, node, peer, addrs);
    }

    fn disconnect(&mut self, node: usize, peer: PeerId) {
        if self.disconnects(node, peer)
            && let Some(other) = self.network().by_peer(&peer)
        {
            links::close(self, pair(node, other), "closed by the other end");
        }
    }

    fn block(&mut self, node: usize, peer: PeerId) {
        self.network_mut().endpoints[node].blocked.insert(peer);
        if let Some(other) = self.network().by_peer(&peer) {
            links::close(self, pair(node, other), "blocked");
        }
    }

    fn unblock(&mut self, node: usize, peer: &PeerId) {
        self.network_mut().endpoints[node].blocked.remove(peer);
    }

    fn send_admission(&mut self, node: usize, token: Token, peer: PeerId, body: Bytes) {
        let is_stray = self.network().by_peer(&peer).is_none();
        if !is_stray || !self.on_stray_step(node, token, peer, &body) {
            links::ask(self, node, peer, RequestKind::Admission(token), body);
        }
    }

    fn answer_admission(&mut self, node: usize, token: Token, body: Bytes) {
        links::answer(self, node, token, body);
    }

    fn send_find(&mut self, node: usize, token: Token, peer: PeerId, body: Bytes) {
        links::ask(self, node, peer, RequestKind::Find(token), body);
    }

    fn answer_find(&mut self, node: usize, token: Token, body: Bytes) {
        links::answer(self, node, token, body);
    }

    fn send_mail(&mut self, node: usize, token: Token, peer: PeerId, frame: Bytes) {
        links::ask(self, node, peer, RequestKind::Mail(token), frame);
    }

    fn answer_mail(&mut self, node: usize, token: Token, body: Bytes) {
        let body = self.alter_answer(node, body);
        links::answer(self, node, token, body);
    }

    fn subscribe(&mut self, node: usize, topic: String) {
        self.network_mut().endpoints[node].topics.insert(topic.clone());
        notify_neighbours(self, node, |peer| Input::PeerSubscribed { peer, topic: topic.clone() });
    }

    fn unsubscribe(&mut self, node: usize, topic: &str) {
        self.network_mut().endpoints[node].topics.remove(topic);
        notify_neighbours(self, node, |peer| Input::PeerUnsubscribed { peer, topic: topic.to_owned() });
    }

    fn publish(&mut self, node: usize, token: Token, topic: String, data: Bytes) {
        gossip::publish(self, node, token, topic, data);
    }

    fn report_validation(&mut self, node: usize, token: Token, verdict: Verdict) {
        gossip::give_verdict(self, node, token, verdict);
    }

    fn put_record(&mut self, node: usize, key: Bytes, value: Bytes, _lifetime: Duration) {
        dht::put_record(self, node, key, value);
    }

    fn get_record(&mut self, node: usize, token: Token, key: &Bytes) {
        dht::get_record(self, node, token, key);
    }

    fn store_dht_record(&mut self, node: usize, key: Bytes, value: Bytes) {
        self.network_mut().endpoints[node].records.insert(key, value);
    }

    fn remove_dht_record(&mut self, node: usize, key: &Bytes) {
        self.network_mut().endpoints[node].records.remove(key);
    }
}
