//! A report on its way from the loop to a client.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use p2p_node_protocol::NetworkReport;

/// A report of the network, as a client gets it.
#[derive(Clone, Debug)]
pub enum Report {
    /// That of this node.
    Own(Arc<OwnReport>),
    /// That of another node, as JSON.
    Relayed(Bytes),
}

/// A report as the loop makes it. The first client that gets it lets the server's thread write the JSON, which all
/// others share.
#[derive(Debug)]
pub struct OwnReport {
    report: NetworkReport,
    json: OnceLock<Result<Bytes, String>>,
}

impl From<NetworkReport> for OwnReport {
    fn from(report: NetworkReport) -> Self {
        OwnReport { report, json: OnceLock::new() }
    }
}

impl OwnReport {
    fn write(&self) -> Result<Bytes, String> {
        serde_json::to_vec(&self.report).map(Bytes::from).map_err(|error| error.to_string())
    }
}

impl Report {
    /// Returns the report as JSON.
    ///
    /// # Errors
    /// Fails only if the report has no form as JSON.
    pub fn into_json(self) -> Result<Bytes, String> {
        match self {
            Report::Own(own) => own.json.get_or_init(|| own.write()).clone(),
            Report::Relayed(json) => Ok(json),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_report_is_written_once_however_many_get_it() {
        let report = Report::Own(Arc::new(NetworkReport::default().into()));
        let (one, other) = (report.clone().into_json().unwrap(), report.into_json().unwrap());
        assert_eq!(one, serde_json::to_vec(&NetworkReport::default()).unwrap());
        assert_eq!(one.as_ptr(), other.as_ptr());
    }

    #[test]
    fn relayed_report_stays_as_it_is() {
        let json = Bytes::from_static(b"{}");
        assert_eq!(Report::Relayed(json.clone()).into_json().unwrap(), json);
    }
}
