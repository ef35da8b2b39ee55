//! The gRPC server of a node (`--grpc`): calls and streams of the service in `crates/grpc`.
//!
//! The server runs as tasks beside the loop of the node and makes no decisions. Each stream, and the calls
//! of each connection, are a client of the node at its door: they speak the pipe protocol with it over a
//! socket pair. So ids, limits and delivery are those of every client. See docs/adr/0069-grpc.md.

mod access;
mod codes;
mod config;
mod convert;
mod listener;
mod node_service;
mod requests;
mod server;
mod streams;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use p2p_node_core::input::DropKind;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

pub use codes::table_of_codes;
pub use config::{GrpcAddr, GrpcConfig};
pub use listener::ListenError;
use listener::Listener;
use server::Server;

use crate::inner::Link;

/// The loop's end of a running server. Dropping it ends the server and all its connections.
pub struct Grpc {
    target: String,
    server: Arc<Server>,
    is_ready: watch::Sender<bool>,
    closing: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Grpc {
    /// Opens the listener and starts the server, whose clients go through `link`.
    ///
    /// # Errors
    /// Fails if the address or the path is in use, or not of this machine.
    pub(crate) fn bind(config: &GrpcConfig, link: Link) -> Result<Grpc, ListenError> {
        let listener = Listener::open(&config.addr)?;
        let (is_ready, ready) = watch::channel(false);
        let (closing, closed) = watch::channel(false);
        let target = listener.target().map_err(ListenError::Io)?;
        let server = Arc::new(Server::new(config.token.clone(), link, Arc::new(Notify::new())));
        let task = tokio::spawn(Arc::clone(&server).run(listener, ready, closed));
        Ok(Grpc { target, server, is_ready, closing, task })
    }

    /// Returns the target of the server, as gRPC clients want it: `127.0.0.1:50051` or `unix:/path`.
    pub fn target(&self) -> String {
        self.target.clone()
    }

    /// Tells the health service whether the node is ready.
    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.send_if_modified(|was| std::mem::replace(was, is_ready) != is_ready);
    }

    /// Waits until a client wants the node to end. Never completes without a server. Cancel-safe.
    pub async fn stopped(grpc: &Option<Grpc>) {
        match grpc {
            Some(grpc) => grpc.server.stop.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Returns the numbers of what the server refused since the last call.
    pub fn take_drops(&self) -> [(DropKind, u64); 2] {
        [
            (DropKind::GrpcConnection, self.server.connections.take_refused()),
            (DropKind::GrpcCall, self.server.take_refused()),
        ]
    }

    /// Ends the server. Waits until the clients have their last lines, at most for `patience`.
    pub async fn close(mut self, patience: Duration) {
        self.closing.send_replace(true);
        let _ = tokio::time::timeout(patience, &mut self.task).await;
    }
}

impl Drop for Grpc {
    fn drop(&mut self) {
        self.server.connections.close();
        self.task.abort();
    }
}
