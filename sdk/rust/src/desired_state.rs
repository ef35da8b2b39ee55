//! Capabilities, handlers, subscriptions and access rules that a new process of the node must get again.

use std::collections::{BTreeMap, BTreeSet};

use p2p_node_protocol::{Command, Subscribe};

/// Holds commands that the node has executed. The node's limits bound their number.
#[derive(Default)]
pub(crate) struct DesiredState {
    capabilities: Option<Command>,
    handlers: Option<Command>,
    topics: BTreeSet<String>,
    access_rules: BTreeMap<String, Command>,
}

impl DesiredState {
    /// Returns `true` if the command changes state that a new process must get again.
    pub(crate) fn is_stateful(command: &Command) -> bool {
        matches!(
            command,
            Command::Capabilities(_)
                | Command::Handle(_)
                | Command::Subscribe(_)
                | Command::Unsubscribe(_)
                | Command::Block(_)
                | Command::Allow(_)
                | Command::Unblock(_)
        )
    }

    /// Records a command that the node has executed. Call it in the order of the answers.
    pub(crate) fn record(&mut self, command: Command) {
        match &command {
            Command::Capabilities(_) => self.capabilities = Some(command),
            Command::Handle(_) => self.handlers = Some(command),
            Command::Subscribe(subscribe) => {
                self.topics.insert(subscribe.topic.clone());
            }
            Command::Unsubscribe(unsubscribe) => {
                self.topics.remove(&unsubscribe.topic);
            }
            Command::Block(block) => {
                self.access_rules.insert(subject(&block.peer_id), command);
            }
            Command::Allow(allow) => {
                self.access_rules.insert(subject(&allow.peer_id), command);
            }
            Command::Unblock(unblock) => {
                self.access_rules.remove(&subject(&unblock.peer_id));
            }
            _ => {}
        }
    }

    /// Returns the commands for a new process. Blocks come first, so that no broadcast of a blocked
    /// agent arrives on a topic.
    pub(crate) fn replay(&self) -> Vec<Command> {
        let subscribe = |topic: &String| Command::Subscribe(Subscribe { topic: topic.clone() });
        let first = self.access_rules.values().chain(&self.capabilities).chain(&self.handlers).cloned();
        first.chain(self.topics.iter().map(subscribe)).collect()
    }
}

/// Returns the key of an agent or a node. The case of an address does not matter; a PeerId has one
/// form.
fn subject(peer_id: &str) -> String {
    if peer_id.starts_with("0x") { peer_id.to_ascii_lowercase() } else { peer_id.to_owned() }
}

#[cfg(test)]
mod tests {
    use p2p_node_protocol::{Allow, Block, Capabilities, Unblock, Unsubscribe};

    use super::*;

    fn replayed(commands: &[(&str, &str)]) -> Vec<String> {
        let mut desired = DesiredState::default();
        for &(name, of) in commands {
            let (topic, peer_id) = (of.to_owned(), of.to_owned());
            let command = match name {
                "capabilities" => Command::Capabilities(Capabilities { capabilities: vec![topic] }),
                "subscribe" => Command::Subscribe(Subscribe { topic }),
                "unsubscribe" => Command::Unsubscribe(Unsubscribe { topic }),
                "block" => Command::Block(Block { peer_id }),
                "allow" => Command::Allow(Allow { peer_id }),
                "unblock" => Command::Unblock(Unblock { peer_id }),
                other => panic!("{other}"),
            };
            assert!(DesiredState::is_stateful(&command));
            desired.record(command);
        }
        desired.replay().iter().map(|command| command.name().to_owned()).collect()
    }

    #[test]
    fn new_process_gets_blocks_then_last_capabilities_then_topics() {
        let commands = [("subscribe", "t"), ("capabilities", "a"), ("block", "0xA"), ("capabilities", "b")];
        assert_eq!(replayed(&commands), ["block", "capabilities", "subscribe"]);
        let mut desired = DesiredState::default();
        for name in ["a", "b"] {
            desired.record(Command::Capabilities(Capabilities { capabilities: vec![name.to_owned()] }));
        }
        let [Command::Capabilities(last)] = &desired.replay()[..] else { panic!("one command") };
        assert_eq!(last.capabilities, ["b"]);
    }

    #[test]
    fn replay_omits_reverted_commands() {
        assert_eq!(
            replayed(&[("subscribe", "t"), ("block", "0xA"), ("subscribe", "t")]),
            ["block", "subscribe"]
        );
        assert_eq!(replayed(&[("subscribe", "t"), ("unsubscribe", "t")]), [""; 0]);
        assert_eq!(replayed(&[("subscribe", "t"), ("unsubscribe", "T")]), ["subscribe"]);
        assert_eq!(replayed(&[("block", "0xAB"), ("allow", "0xab")]), ["allow"], "the last word counts");
        assert_eq!(replayed(&[("block", "0xAB"), ("unblock", "0xab")]), [""; 0], "one agent, written twice");
        assert_eq!(replayed(&[("block", "12D3K"), ("unblock", "12d3k")]), ["block"], "another PeerId");
    }
}
