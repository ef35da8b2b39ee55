//! The interpreter of effects, which every test that runs a core uses.

use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_core::chain::ChainCommand;
use p2p_node_core::client_id::ClientId;
use p2p_node_core::crypto_task::CryptoTask;
use p2p_node_core::effect::{Effect, ExitCode, NetworkCommand, Verdict};
use p2p_node_core::file_io::FileCommand;
use p2p_node_core::input::Token;
use p2p_node_protocol::Event;

use crate::store::Change;

/// Executes the effects of cores. A method that is not implemented ignores its effects.
/// [`World`](crate::network::World) implements all of them by a network in memory.
pub trait Interpreter {
    /// Executes an effect.
    fn execute(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Emit { client, event, numbered } => self.emit(node, client, event, numbered),
            Effect::CloseClient { client } => self.close_client(node, client),
            Effect::Crypto(task) => self.crypto(node, task),
            Effect::PersistHighestSeen(row) => self.store(node, Change::HighestSeen(row)),
            Effect::PersistMessage { number, mail } => self.store(node, Change::Message(number, mail)),
            Effect::PersistCheckpoint { number, row } => self.store(node, Change::Checkpoint(number, row)),
            Effect::DeleteCheckpoint { sender, stream } => {
                self.store(node, Change::DeleteCheckpoint(sender, stream));
            }
            Effect::DeleteMessage { stream, seq } => self.store(node, Change::DeleteMessage(stream, seq)),
            Effect::PersistAccessRule { number, subject, rule } => {
                self.store(node, Change::AccessRule(number, subject, rule));
            }
            Effect::PersistBan { party, ban } => self.store(node, Change::Ban(party, ban)),
            Effect::Exit(code) => self.exit(node, code),
            Effect::Network(command) => self.execute_command(node, command),
            Effect::Chain(command) => self.chain(node, command),
            Effect::File(command) => self.file(node, command),
            // A test's network has no sources outside of libp2p.
            Effect::Source(_) => {}
            // Nobody collects the spans of a core in memory.
            Effect::Span(_) => {}
        }
    }

    /// Executes a network operation.
    fn execute_command(&mut self, node: usize, command: NetworkCommand) {
        match command {
            NetworkCommand::Listen { .. } => self.listen(node),
            NetworkCommand::ReportListening => self.report_listening(node),
            NetworkCommand::Dial { peer, addrs } => self.dial(node, peer, &addrs),
            // No core of a test knows an address without its peer.
            NetworkCommand::DialAddr { .. } => {}
            NetworkCommand::Disconnect { peer } => self.disconnect(node, peer),
            NetworkCommand::Block { peer } => self.block(node, peer),
            NetworkCommand::Unblock { peer } => self.unblock(node, &peer),
            // The nodes of a test's network have no hosts.
            NetworkCommand::BlockHost { .. } | NetworkCommand::UnblockHost { .. } => {}
            // A node in memory is reachable.
            NetworkCommand::ReserveRelay { .. }
            | NetworkCommand::SetExternalAddresses { .. }
            | NetworkCommand::AddServer { .. }
            | NetworkCommand::RemoveServer { .. } => {}
            NetworkCommand::SendAdmission { token, peer, body } => {
                self.send_admission(node, token, peer, body);
            }
            NetworkCommand::AnswerAdmission { token, body } => self.answer_admission(node, token, body),
            NetworkCommand::SendFind { token, peer, body } => self.send_find(node, token, peer, body),
            NetworkCommand::AnswerFind { token, body } => self.answer_find(node, token, body),
            NetworkCommand::SendMail { token, peer, frame } => self.send_mail(node, token, peer, frame),
            NetworkCommand::AnswerMail { token, body } => self.answer_mail(node, token, body),
            NetworkCommand::Subscribe { topic } => self.subscribe(node, topic),
            NetworkCommand::Unsubscribe { topic } => self.unsubscribe(node, &topic),
            NetworkCommand::Publish { token, topic, data } => self.publish(node, token, topic, data),
            NetworkCommand::ReportValidation { token, verdict } => {
                self.report_validation(node, token, verdict)
            }
            NetworkCommand::ServeDht(serves) => self.serve_dht(node, serves),
            NetworkCommand::PutRecord { key, value, lifetime } => self.put_record(node, key, value, lifetime),
            NetworkCommand::GetRecord { token, key } => self.get_record(node, token, &key),
            NetworkCommand::StopQuery { token } => self.stop_query(node, token),
            NetworkCommand::StoreDhtRecord { key, value, .. } => self.store_dht_record(node, key, value),
            NetworkCommand::RemoveDhtRecord { key } => self.remove_dht_record(node, &key),
        }
    }

    /// `Effect::Emit`.
    fn emit(&mut self, node: usize, client: ClientId, event: Event, numbered: bool);
    /// `Effect::CloseClient`.
    fn close_client(&mut self, _node: usize, _client: ClientId) {}
    /// `Effect::Crypto`.
    fn crypto(&mut self, node: usize, task: CryptoTask);
    /// `Effect::Chain`.
    fn chain(&mut self, _node: usize, _command: ChainCommand) {}
    /// `Effect::File`.
    fn file(&mut self, _node: usize, _command: FileCommand) {}
    /// `Effect::Exit`.
    fn exit(&mut self, node: usize, code: ExitCode);
    /// Every effect on the store.
    fn store(&mut self, _node: usize, _change: Change) {}
    /// `NetworkCommand::Listen`.
    fn listen(&mut self, _node: usize) {}
    /// `NetworkCommand::ReportListening`.
    fn report_listening(&mut self, _node: usize) {}
    /// `NetworkCommand::Dial`.
    fn dial(&mut self, _node: usize, _peer: PeerId, _addrs: &[Multiaddr]) {}
    /// `NetworkCommand::Disconnect`.
    fn disconnect(&mut self, _node: usize, _peer: PeerId) {}
    /// `NetworkCommand::Block`.
    fn block(&mut self, _node: usize, _peer: PeerId) {}
    /// `NetworkCommand::Unblock`.
    fn unblock(&mut self, _node: usize, _peer: &PeerId) {}
    /// `NetworkCommand::SendAdmission`.
    fn send_admission(&mut self, _node: usize, _token: Token, _peer: PeerId, _body: Bytes) {}
    /// `NetworkCommand::AnswerAdmission`.
    fn answer_admission(&mut self, _node: usize, _token: Token, _body: Bytes) {}
    /// `NetworkCommand::SendFind`.
    fn send_find(&mut self, _node: usize, _token: Token, _peer: PeerId, _body: Bytes) {}
    /// `NetworkCommand::AnswerFind`.
    fn answer_find(&mut self, _node: usize, _token: Token, _body: Bytes) {}
    /// `NetworkCommand::SendMail`.
    fn send_mail(&mut self, _node: usize, _token: Token, _peer: PeerId, _frame: Bytes) {}
    /// `NetworkCommand::AnswerMail`.
    fn answer_mail(&mut self, _node: usize, _token: Token, _body: Bytes) {}
    /// `NetworkCommand::Subscribe`.
    fn subscribe(&mut self, _node: usize, _topic: String) {}
    /// `NetworkCommand::Unsubscribe`.
    fn unsubscribe(&mut self, _node: usize, _topic: &str) {}
    /// `NetworkCommand::Publish`.
    fn publish(&mut self, _node: usize, _token: Token, _topic: String, _data: Bytes) {}
    /// `NetworkCommand::ReportValidation`.
    fn report_validation(&mut self, _node: usize, _token: Token, _verdict: Verdict) {}
    /// `NetworkCommand::ServeDht`.
    fn serve_dht(&mut self, _node: usize, _serves: bool) {}
    /// `NetworkCommand::PutRecord`.
    fn put_record(&mut self, _node: usize, _key: Bytes, _value: Bytes, _lifetime: Duration) {}
    /// `NetworkCommand::GetRecord`.
    fn get_record(&mut self, _node: usize, _token: Token, _key: &Bytes) {}
    /// `NetworkCommand::StopQuery`.
    fn stop_query(&mut self, _node: usize, _token: Token) {}
    /// `NetworkCommand::RemoveDhtRecord`.
    fn remove_dht_record(&mut self, _node: usize, _key: &Bytes) {}
    /// `NetworkCommand::StoreDhtRecord`.
    fn store_dht_record(&mut self, _node: usize, _key: Bytes, _value: Bytes) {}
}
