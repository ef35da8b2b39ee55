//! Makes clients of the node.

use p2p_node_protocol::ErrorCode;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::CallError;

/// Maximum number of clients that wait to be attached. Our choice: the loop attaches them in its next turn.
pub(crate) const MAX_ATTACHING: usize = 16;

/// The way to the door of the node.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    streams: mpsc::Sender<UnixStream>,
}

impl Link {
    pub(crate) fn new(streams: mpsc::Sender<UnixStream>) -> Self {
        Link { streams }
    }

    /// Attaches a client. Returns its end of the lines. Dropping it detaches the client.
    pub(crate) fn attach(&self) -> Result<UnixStream, CallError> {
        let (ours, theirs) = UnixStream::pair()
            .map_err(|error| CallError::new(ErrorCode::Internal, &format!("a socket pair: {error}")))?;
        match self.streams.try_send(theirs) {
            Ok(()) => Ok(ours),
            Err(mpsc::error::TrySendError::Full(_)) => Err(CallError::new(
                ErrorCode::Busy,
                "too many clients attach at the same time; try again in a moment",
            )),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(CallError::gone()),
        }
    }
}
