//! Fingerprint of all events of a run: the same seed must give the same fingerprint.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;

use p2p_node_core::effect::{Effect, NetworkCommand};
use p2p_node_core::input::Input;
use p2p_node_wire::time::Instant;

#[derive(Default)]
pub struct Trace {
    hash: DefaultHasher,
    pub steps: u64,
}

impl Trace {
    pub fn input(&mut self, now: Instant, node: usize, input: &Input) {
        (now, node, discriminant(input)).hash(&mut self.hash);
        match input {
            Input::MailRequestReceived { frame: bytes, .. }
            | Input::Gossip { data: bytes, .. }
            | Input::AdmissionRequestReceived { body: bytes, .. }
            | Input::FindRequestReceived { body: bytes, .. }
            | Input::RecordOffered { value: bytes, .. }
            | Input::RecordFound { value: bytes, .. } => bytes.hash(&mut self.hash),
            Input::MailResponseReceived { outcome, .. }
            | Input::FindResponseReceived { outcome, .. }
            | Input::AdmissionResponseReceived { outcome, .. } => outcome.hash(&mut self.hash),
            _ => {}
        }
    }

    pub fn effect(&mut self, node: usize, effect: &Effect) {
        (node, discriminant(effect)).hash(&mut self.hash);
        match effect {
            Effect::Emit { event, .. } => discriminant(event).hash(&mut self.hash),
            Effect::Network(network) => {
                discriminant(network).hash(&mut self.hash);
                if let NetworkCommand::Publish { data: bytes, .. }
                | NetworkCommand::SendMail { frame: bytes, .. } = network
                {
                    bytes.hash(&mut self.hash);
                }
            }
            _ => {}
        }
    }

    pub fn fingerprint(&self) -> u64 {
        self.hash.finish()
    }
}
