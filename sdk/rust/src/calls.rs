//! Calls other than `send`: each waits for a process, and then for the answer.

use std::sync::Arc;
use std::time::Duration;

use p2p_node_protocol::{Command, Response};
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use crate::client::deadline;
use crate::shared::Answered;
use crate::{Error, Node};

impl Node {
    /// Sends a command other than `send`. `responses` gets the answers to a request to agents.
    pub(crate) async fn run(
        &self,
        command: Command,
        waited: Duration,
        responses: Option<mpsc::Sender<Response>>,
    ) -> Result<Answered, Error> {
        let (deadline, maybe_sent) = (deadline(waited), responses.is_some());
        let late = |_| Error::CallTimeout { what: command.name().to_owned(), waited, maybe_sent };
        let (mut permit, mut gone) = (None, None);
        if responses.is_none() {
            let free = Arc::clone(&self.0.permits).acquire_owned();
            permit = timeout_at(deadline, free).await.map_err(late)?.ok();
        }
        loop {
            let up = timeout_at(deadline, self.0.up(gone.as_ref())).await;
            let child = up.map_err(|_| Error::SidecarUnavailable { waited })??;
            if let Some(pending) = child.begin(&command, &mut permit, responses.clone())?
                && let Some(answered) = timeout_at(deadline, pending.answered()).await.map_err(late)??
            {
                return Ok(answered);
            }
            // The process ended before the SDK wrote the command: try the next process.
            gone = Some(child);
        }
    }
}
