//! What the registry on the chain says of agents.

use p2p_node_protocol::{Command, Registry, RegistryEntry};

use crate::{Error, Node};

impl Node {
    /// Returns what the registry on the chain says of an agent (`0x…` or a name).
    ///
    /// # Errors
    /// As [`request`](Node::request); with the code `NO_REGISTRY` without a registry, and
    /// `REGISTRY_UNAVAILABLE` if its servers do not answer or do not agree.
    pub async fn registry(&self, address: &str) -> Result<RegistryEntry, Error> {
        let command = Command::Registry(Registry { address: address.to_owned() });
        let answer = self.request(command).await?;
        let missing = || Error::Contract("the answer to `registry` has no `registry` field".to_owned());
        answer.registry.map(|entry| *entry).ok_or_else(missing)
    }
}
