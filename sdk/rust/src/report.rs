//! The network, as the node knows it.

use p2p_node_protocol::{Command, NetworkReport, Report};

use crate::{Error, Node};

impl Node {
    /// Returns the network, as the node knows it: metrics, nodes, connections, and the health score with
    /// its causes.
    ///
    /// # Errors
    /// As [`request`](Node::request).
    pub async fn report(&self) -> Result<NetworkReport, Error> {
        let missing = || Error::Contract("the answer to `report` has no `report` field".to_owned());
        self.request(Command::Report(Report {})).await?.report.map(|report| *report).ok_or_else(missing)
    }
}
