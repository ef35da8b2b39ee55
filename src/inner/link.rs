//! Makes clients of the node.

use std::time::Duration;

use p2p_node_protocol::ErrorCode;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::CallError;

/// Maximum number of clients that wait to be attached. Our choice: the loop attaches them in its next turn.
pub(crate) const MAX_ATTACHING: usize = 16;

/// Maximum time until the door takes a client. Our choice: it does so in its next turn, while it has room.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(5);

/// The way to the door of the node.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    streams: mpsc::Sender<UnixStream>,
}

impl Link {
    /// Returns the way to a door, and the clients that come out there.
    pub(crate) fn pair() -> (Self, mpsc::Receiver<UnixStream>) {
        let (streams, clients) = mpsc::channel(MAX_ATTACHING);
        (Link { streams }, clients)
    }

    /// Attaches a client. Returns its end of the lines. Dropping it detaches the client.
    pub(crate) async fn attach(&self) -> Result<UnixStream, CallError> {
        let place = match tokio::time::timeout(ATTACH_TIMEOUT, self.streams.reserve()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) => return Err(CallError::gone()),
            Err(_) => {
                return Err(CallError::new(
                    ErrorCode::Busy,
                    "too many clients attach; try again in a moment",
                ));
            }
        };
        let (ours, theirs) = UnixStream::pair()
            .map_err(|error| CallError::new(ErrorCode::Internal, &format!("a socket pair: {error}")))?;
        place.send(theirs);
        Ok(ours)
    }
}
