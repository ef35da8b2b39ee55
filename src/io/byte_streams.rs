//! Streams of bytes to peers, as the swarm gives them to the driver of files.

use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};

/// A stream of bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A stream to a peer.
pub type BoxedStream = Box<dyn ByteStream>;

/// A request for a stream to a peer. The swarm drops `reply` if there is none.
pub struct OpenStream {
    /// The peer.
    pub peer: PeerId,
    /// Gets the stream.
    pub reply: oneshot::Sender<BoxedStream>,
}

/// The streams of one protocol.
pub struct Streams {
    /// Opens streams to connected peers.
    pub open: mpsc::Sender<OpenStream>,
    /// The streams that peers open.
    pub incoming: mpsc::Receiver<(PeerId, BoxedStream)>,
}
