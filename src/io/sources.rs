//! Sources of peers outside of libp2p: executes the requests of the core and returns the reports.

use std::time::Duration;

use super::rendezvous::Rendezvous;
use p2p_node_core::input::Input;
use p2p_node_core::source::SourceCommand;

/// Maximum time of [`Sources::close`]: our choice. Reading a small directory takes milliseconds.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);

/// The sources of a node.
#[derive(Debug, Default)]
pub struct Sources {
    /// The rendezvous directory, unless it is off or not available.
    pub rendezvous: Option<Rendezvous>,
}

impl Sources {
    /// Starts to execute a request. [`Sources::next`] returns its results.
    pub fn execute(&mut self, command: SourceCommand) {
        if let Some(rendezvous) = &mut self.rendezvous {
            rendezvous.execute(command);
        }
    }

    /// Waits for the next report. Cancel-safe.
    pub async fn next(&mut self) -> Input {
        match &mut self.rendezvous {
            Some(rendezvous) => Input::Source(rendezvous.next().await),
            None => std::future::pending().await,
        }
    }

    /// Removes what the node has published.
    pub async fn close(self) {
        if let Some(rendezvous) = self.rendezvous {
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, rendezvous.close()).await;
        }
    }
}
