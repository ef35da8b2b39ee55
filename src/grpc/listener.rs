//! The listener: TCP, or a Unix socket of this user.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use super::config::GrpcAddr;
use crate::socket::{Place, SocketError, is_of_this_user};

/// Errors of opening the listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be used.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The path cannot be used.
    #[error(transparent)]
    Socket(#[from] SocketError),
}

/// Where the server accepts connections.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, Place),
}

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    /// Must be called within a tokio runtime.
    pub(super) fn open(addr: &GrpcAddr) -> Result<Listener, ListenError> {
        match addr {
            GrpcAddr::Tcp(addr) => {
                let listener = std::net::TcpListener::bind(addr)?;
                listener.set_nonblocking(true)?;
                Ok(Listener::Tcp(TcpListener::from_std(listener)?))
            }
            GrpcAddr::Unix(path) => {
                let (place, listener) = Place::listen(path)?;
                Ok(Listener::Unix(UnixListener::from_std(listener)?, place))
            }
        }
    }

    /// Returns the target that gRPC clients want.
    pub(super) fn target(&self) -> io::Result<String> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(|addr| GrpcAddr::Tcp(addr).to_string()),
            Listener::Unix(_, place) => Ok(GrpcAddr::Unix(place.path().to_owned()).to_string()),
        }
    }

    /// Waits for the next connection. Cancel-safe.
    pub(super) async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Calls are small, and each waits for its answer.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Listener::Unix(listener, _) => loop {
                let (stream, _) = listener.accept().await?;
                if is_of_this_user(&stream) {
                    return Ok(Box::new(stream));
                }
            },
        }
    }
}
