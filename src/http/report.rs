//! A report on its way from the loop to a client.

use std::sync::Arc;

use bytes::Bytes;
use p2p_node_protocol::NetworkReport;

/// A report of the network. The loop passes its own as it is: the server's thread writes the JSON.
#[derive(Clone, Debug)]
pub enum Report {
    /// That of this node.
    Own(Arc<NetworkReport>),
    /// That of another node, as JSON.
    Relayed(Bytes),
}

impl Report {
    /// Returns the report as JSON.
    ///
    /// # Errors
    /// Fails only if the report has no form as JSON.
    pub fn into_json(self) -> serde_json::Result<Bytes> {
        match self {
            Report::Own(report) => serde_json::to_vec(&report).map(Bytes::from),
            Report::Relayed(json) => Ok(json),
        }
    }
}
