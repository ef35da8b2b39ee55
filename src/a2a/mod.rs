//! The A2A gateway of a node (`--a2a`): A2A clients of this agent reach other agents by their addresses, and
//! other agents reach the A2A server of this one (`--a2a-server`).
//!
//! The gateway runs as tasks beside the loop of the node and makes no decisions. It is a client of the node
//! at its door: a call of A2A is a request to an agent, and its answer, or its stream, the answer to that
//! request. See docs/adr/0070-a2a.md.

mod agent;
mod call;
mod canonical;
mod card;
mod config;
mod front;
mod gateway;
mod push;
mod sse;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use alloy::primitives::Address;
use p2p_node_core::input::DropKind;
use p2p_node_wire::identity::NodeKey;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use config::A2aConfig;
pub(crate) use config::server_url;
use front::Front;
use gateway::Gateway;

use crate::inner::Link;

/// The capability that the record of an agent with an A2A server names. Those that find it ask for the card.
pub(crate) const CAPABILITY: &str = "a2a";

/// The loop's end of a running gateway. Dropping it ends the gateway and all its connections.
pub struct A2a {
    url: String,
    front: Arc<Front>,
    is_ready: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl A2a {
    /// Opens the listener and starts the gateway of a node that speaks for `account`. Its clients go through
    /// `link`.
    ///
    /// # Errors
    /// Fails if the address is in use, or not of this machine, or if the system has no certificates for a
    /// server with a URL of https.
    pub(crate) fn bind(
        config: A2aConfig,
        node_key: &NodeKey,
        account: Address,
        link: Link,
    ) -> io::Result<A2a> {
        let listener = std::net::TcpListener::bind(config.addr)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let url = format!("http://{}", reachable(listener.local_addr()?));
        let gateway = Gateway::new(link, config.server, account, node_key.clone(), url.clone());
        let gateway = Arc::new(gateway.map_err(io::Error::other)?);
        let (is_ready, ready) = watch::channel(false);
        let front = Front::new(Arc::clone(&gateway), config.token);
        let tasks =
            [tokio::spawn(Arc::clone(&front).run(listener)), tokio::spawn(agent::serve(gateway, ready))];
        Ok(A2a { url, front, is_ready, tasks })
    }

    /// Returns the URL of the gateway.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Tells the gateway whether the node is ready.
    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.send_if_modified(|was| std::mem::replace(was, is_ready) != is_ready);
    }

    /// Returns the numbers of what the gateway refused since the last call.
    pub fn take_drops(&self) -> [(DropKind, u64); 2] {
        [
            (DropKind::A2aConnection, self.front.connections.take_refused()),
            (DropKind::A2aRequest, self.front.gateway.refused.swap(0, Ordering::Relaxed)),
        ]
    }
}

impl Drop for A2a {
    fn drop(&mut self) {
        self.front.connections.close();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Returns where programs of this machine reach a listener.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}
