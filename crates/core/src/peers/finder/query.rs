//! What a question for agents selects.

use std::collections::BTreeSet;

use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_wire::envelope::{FindAgents, WIRE_VERSION};
use p2p_node_wire::record::{SignedRecord, TopicHash, decode_topic_hashes, encode_topic_hashes, topic_hash};
use p2p_node_wire::strict::{Wire, strict_decode};

use crate::cx::Cx;
use crate::gate::reputation::Conduct;

/// The agents that the node searches for: those with one of the topics, or with the capability, or
/// all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    topics: Vec<TopicHash>,
    capability: String,
}

impl Query {
    /// Searches for the subscribers of any of these topics.
    pub(crate) fn topics<'a>(topics: impl IntoIterator<Item = &'a String>) -> Self {
        let hashes: BTreeSet<TopicHash> = topics.into_iter().map(|topic| topic_hash(topic)).collect();
        Query { topics: hashes.into_iter().collect(), capability: String::new() }
    }

    /// Searches for the agents with this capability.
    pub(crate) fn capability(capability: &str) -> Self {
        Query { topics: Vec::new(), capability: capability.to_owned() }
    }

    /// Returns `true` if the query selects this record. `hashes` are those of its topics.
    pub(in crate::peers) fn selects(&self, record: &SignedRecord, hashes: &[TopicHash]) -> bool {
        let topics =
            self.topics.is_empty() || self.topics.iter().any(|topic| hashes.binary_search(topic).is_ok());
        topics && (self.capability.is_empty() || record.record.capabilities.contains(&self.capability))
    }

    /// Returns the question for these agents in a network.
    pub(super) fn question(&self, network: &str) -> FindAgents {
        FindAgents {
            version: WIRE_VERSION,
            network: network.to_owned(),
            topic_hashes: encode_topic_hashes(&self.topics),
            capability: self.capability.clone(),
            ..FindAgents::default()
        }
    }
}

impl From<&FindAgents> for Query {
    fn from(question: &FindAgents) -> Self {
        Query {
            topics: decode_topic_hashes(&question.topic_hashes).unwrap_or_default(),
            capability: question.capability.clone(),
        }
    }
}

/// Decodes what a peer sent. An empty answer refuses the question.
pub(super) fn decode<M: Wire>(peer: PeerId, body: &Bytes, cx: &mut Cx) -> Option<M> {
    let decoded = strict_decode(body);
    if let Err(error) = &decoded
        && error.is_provable()
        && !body.is_empty()
    {
        cx.observe(peer, Conduct::InvalidQuestion);
    }
    decoded.ok()
}
