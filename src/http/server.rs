//! The server: accepts connections and limits their number and time.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::Ask;
use super::connections::{Connection, Connections};
use super::feed::Feed;
use crate::config::Secret;
use crate::inner::{Link, observe};
use crate::node::unix_ms;

/// Maximum time from the connection to the end of the request's head. Our choice: a request is one packet.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time of a connection that does not follow the events: one request and its response. Our choice:
/// a report of 1 MB takes 10 s on a line of 1 Mbit/s.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time for the answer of the loop. Our choice: a loop that does not turn for 2 s is not well.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum length of a request's head, in bytes. The least that hyper allows; a scraper sends 500.
const MAX_HEAD_BYTES: usize = 8 * 1024;
/// Maximum number of header fields of a request. Our choice: a browser sends about 20.
const MAX_HEADERS: usize = 64;
/// Maximum number of connections that are being refused. Others are closed without a word.
const MAX_REFUSALS: usize = 16;
/// Time for a client to read that it was refused.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after a failed `accept`, usually because there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Pause after the node closed the client that looks on.
const OBSERVE_PAUSE: Duration = Duration::from_secs(1);

const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\nretry-after: 5\r\n\r\n";

/// What all connections share.
pub(super) struct Server {
    pub(super) token: Option<Secret>,
    pub(super) network: Registry,
    pub(super) connections: Connections,
    pub(super) feed: Feed,
    asks: mpsc::Sender<Ask>,
    /// The way to the door of a node without a parent.
    link: Option<Link>,
    refused: AtomicU64,
}

impl Server {
    pub(super) fn new(
        token: Option<Secret>,
        network: Registry,
        asks: mpsc::Sender<Ask>,
        link: Option<Link>,
    ) -> Self {
        Server {
            token,
            network,
            connections: Connections::new(),
            feed: Feed::default(),
            asks,
            link,
            refused: AtomicU64::new(0),
        }
    }

    /// Serves until the task is aborted.
    pub(super) async fn run(self: Arc<Self>, listener: TcpListener) {
        let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
        let accepting = async {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                if let Some(place) = self.connections.place().await {
                    let server = Arc::clone(&self);
                    tokio::spawn(async move {
                        server.serve(stream).await;
                        drop(place);
                    });
                } else if let Ok(refusal) = Arc::clone(&refusals).try_acquire_owned() {
                    tokio::spawn(async move {
                        let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refuse(stream)).await;
                        drop(refusal);
                    });
                }
            }
        };
        tokio::join!(accepting, self.feed.run(|| self.report()), self.observe());
    }

    /// Looks on as a client while somebody follows the events, because a node without a parent tells them
    /// to its clients alone.
    async fn observe(&self) {
        let Some(link) = &self.link else { return };
        loop {
            self.feed.until(true).await;
            tokio::select! {
                () = observe(link, |event| self.feed.publish(std::iter::once(event), unix_ms())) => {
                    // The node has no room for a client, or is about to exit.
                    tokio::time::sleep(OBSERVE_PAUSE).await;
                }
                () = self.feed.until(false) => {}
            }
        }
    }

    /// Serves one request.
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let connection = self.connections.enter();
        let (server, of_request) = (&self, &connection);
        let service = service_fn(|request| async move {
            of_request.asked();
            Ok::<_, Infallible>(server.respond(&request, of_request).await)
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            // One request for each connection: a connection without a request has one time limit.
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            served = served => {
                if let Err(error) = served {
                    tracing::debug!(%error, "HTTP connection");
                }
            }
            () = connection.ended() => {}
            () = timed_out(&connection) => {}
        }
        self.connections.leave(&connection);
    }

    /// Asks the loop. Returns `None` if it does not answer in time.
    pub(super) async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        self.asks.try_send(ask(sender)).ok()?;
        tokio::time::timeout(ANSWER_TIMEOUT, answer).await.ok()?.ok()
    }

    /// Asks the loop for the report, and returns it as JSON. Returns `None` if the loop does not answer in time.
    pub(super) async fn report(&self) -> Option<Bytes> {
        let json = self.ask(Ask::Report).await?.into_json();
        json.inspect_err(|error| tracing::error!(%error, "the report has no form as JSON")).ok()
    }

    /// Counts a refused request.
    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of refused requests since the last call.
    pub(super) fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }
}

/// Waits until the time of a connection is over. That of one that follows the events never is.
async fn timed_out(connection: &Connection) {
    tokio::time::sleep(CONNECTION_TIMEOUT).await;
    if connection.is_following() {
        std::future::pending::<()>().await;
    }
}

/// Tells a client that there are too many connections, and reads what it sent, so that the system does not
/// discard the response.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(BUSY).await?;
    stream.shutdown().await?;
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}
