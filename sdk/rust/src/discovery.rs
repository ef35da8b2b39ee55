//! The options of a search for agents.

use std::time::Duration;

use p2p_node_protocol::{Discover, MAX_DISCOVER_MS, PeerDiscovered};

use crate::Error;
use crate::shared::Answered;

/// The result of [`discover`](crate::Node::discover): a slice of the agents found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundAgents {
    /// The agents found.
    pub agents: Vec<PeerDiscovered>,
    /// `true` if these are all matching agents, as far as the network knows; `false` if some may be
    /// missing.
    pub complete: bool,
}

impl From<Answered> for FoundAgents {
    fn from(Answered { answer, found, .. }: Answered) -> Self {
        let complete = answer.complete == Some(true) && answer.count.is_none_or(|count| count == found.len());
        FoundAgents { agents: found, complete }
    }
}

impl std::ops::Deref for FoundAgents {
    type Target = [PeerDiscovered];

    fn deref(&self) -> &Self::Target {
        &self.agents
    }
}

impl IntoIterator for FoundAgents {
    type Item = PeerDiscovered;
    type IntoIter = std::vec::IntoIter<PeerDiscovered>;

    fn into_iter(self) -> Self::IntoIter {
        self.agents.into_iter()
    }
}

/// The options of [`discover`](crate::Node::discover). At most one of `topic`, `address` and
/// `capability` selects agents; without one the search finds every agent that the node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoverOptions {
    /// Finds the agents that subscribe to this topic. Default: none.
    pub topic: Option<String>,
    /// Finds the agent with this Ethereum address. Default: none.
    pub address: Option<String>,
    /// Finds the agents whose record names this capability. Default: none.
    pub capability: Option<String>,
    /// How long the node searches, at most 60 s. Default: until it has found an agent and expects
    /// no other, at most 2 s.
    pub look_for: Option<Duration>,
}

impl DiscoverOptions {
    pub(crate) fn command(self) -> Result<Discover, Error> {
        let DiscoverOptions { topic, address, capability, look_for } = self;
        let max = Duration::from_millis(MAX_DISCOVER_MS);
        if let Some(look_for) = look_for.filter(|look_for| *look_for > max) {
            return Err(Error::argument("look_for", format!("must be at most {max:?}, not {look_for:?}")));
        }
        let timeout_ms = look_for.and_then(|look_for| u64::try_from(look_for.as_millis()).ok());
        Ok(Discover { topic, address, capability, timeout_ms })
    }
}
