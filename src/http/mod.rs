//! The HTTP server of a node (`--http`): health, metrics, the report, and the explorer page.
//!
//! The server runs on a thread of its own and holds no state of the node. It asks the loop by a bounded
//! channel, and the loop answers at most once a second with new figures. Nothing can be changed through it.
//! See docs/adr/0062-http.md.

mod access;
mod assets;
mod body;
mod config;
mod connections;
mod entry;
mod feed;
pub mod metrics;
mod report;
mod routes;
mod server;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use p2p_node_core::input::DropKind;
use p2p_node_protocol::{Event, NetworkReport};
use p2p_node_wire::time::{Instant, Now};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

pub(crate) use access::{has_token, is_address};
pub(crate) use body::Body;
pub(crate) use config::check_token;
pub use config::{HttpConfig, MIN_TOKEN_BYTES};
pub(crate) use connections::{Connection, Connections};
pub use connections::{MAX_CONNECTIONS, MAX_STREAMS};
use metrics::Sample;
pub use report::{OwnReport, Report};
use server::Server;

use crate::inner::Link;
use crate::side_runtime::SideRuntime;

/// Maximum number of questions of the server that wait for the loop: as many as it has connections.
const MAX_ASKS: usize = MAX_CONNECTIONS;

/// Shortest time between two samples of the node, and between two reports. Our choice: a person sees no more, and
/// both take time of the loop.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// A question of the server to the loop. The loop answers all of them in one turn.
pub enum Ask {
    /// Whether the node is ready.
    Ready(oneshot::Sender<bool>),
    /// The report.
    Report(oneshot::Sender<Report>),
    /// The values of all metrics.
    Metrics(oneshot::Sender<Arc<Sample>>),
}

/// What the loop tells the server of the node.
pub trait Source {
    /// Returns `true` if the node is ready and does not close.
    fn is_ready(&self) -> bool;
    /// Returns the report.
    fn report(&self) -> NetworkReport;
    /// Returns the values of all metrics.
    fn sample(&self) -> Sample;
}

/// Returns what was made a short time ago, or makes it.
fn recent<T>(made: &mut Option<(Instant, Arc<T>)>, now: Now, make: impl FnOnce() -> T) -> Arc<T> {
    if let Some((at, made)) = made
        && now.mono.saturating_since(*at) < SAMPLE_INTERVAL
    {
        return Arc::clone(made);
    }
    let new = Arc::new(make());
    *made = Some((now.mono, Arc::clone(&new)));
    new
}

/// The loop's end of a running server. Dropping it ends the server and all its connections.
pub struct Http {
    addr: SocketAddr,
    asks: mpsc::Receiver<Ask>,
    server: Arc<Server>,
    report: Option<(Instant, Arc<OwnReport>)>,
    sample: Option<(Instant, Arc<Sample>)>,
    /// Where the server runs. Dropping it ends the server.
    _side: SideRuntime,
}

impl Http {
    /// Opens the listener and starts the server. `network` holds the metrics of libp2p. With a `link` the
    /// server attaches a client while somebody follows the events: for a node without a parent.
    ///
    /// # Errors
    /// Fails if the address is in use or not of this machine.
    pub(crate) async fn bind(config: &HttpConfig, network: Registry, link: Option<Link>) -> io::Result<Http> {
        let listener = TcpListener::bind(config.addr).await?.into_std()?;
        let addr = listener.local_addr()?;
        let side = SideRuntime::start("http")?;
        let (sender, asks) = mpsc::channel(MAX_ASKS);
        let server = Arc::new(Server::new(config.token.clone(), network, sender, link));
        let listener = {
            // The runtime of the thread polls the listener.
            let _entered = side.handle().enter();
            TcpListener::from_std(listener)?
        };
        side.handle().spawn(Arc::clone(&server).run(listener));
        Ok(Http { addr, asks, server, report: None, sample: None, _side: side })
    }

    /// Returns the URL of the server.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Waits for the next question. Never completes without a server. Cancel-safe.
    pub async fn next(http: &mut Option<Http>) -> Ask {
        if let Some(http) = http
            && let Some(ask) = http.asks.recv().await
        {
            return ask;
        }
        std::future::pending().await
    }

    /// Returns the next question if there is one.
    pub fn try_next(&mut self) -> Option<Ask> {
        self.asks.try_recv().ok()
    }

    /// Answers a question. The client that asked may be gone already.
    pub fn answer(&mut self, ask: Ask, source: &impl Source, now: Now) {
        match ask {
            Ask::Ready(to) => drop(to.send(source.is_ready())),
            Ask::Report(to) => {
                let report = recent(&mut self.report, now, || source.report().into());
                drop(to.send(Report::Own(report)));
            }
            Ask::Metrics(to) => drop(to.send(recent(&mut self.sample, now, || source.sample()))),
        }
    }

    /// Returns `true` if somebody follows the events.
    pub fn has_followers(&self) -> bool {
        self.server.feed.has_followers()
    }

    /// Passes events of the node to everybody who follows.
    pub fn publish<'a>(&self, events: impl Iterator<Item = &'a Event>, unix_ms: u64) {
        self.server.feed.publish(events, unix_ms);
    }

    /// Passes an event on that another server sent.
    pub fn publish_entry(&self, entry: &serde_json::Value) {
        self.server.feed.push(entry);
    }

    /// Returns the numbers of what the server refused and dropped since the last call.
    pub fn take_drops(&self) -> [(DropKind, u64); 3] {
        [
            (DropKind::HttpConnection, self.server.connections.take_refused()),
            (DropKind::HttpRequest, self.server.take_refused()),
            (DropKind::HttpEvent, self.server.feed.take_dropped()),
        ]
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.server.connections.close();
    }
}
