//! The explorer page of a running node: relays the node's report and events to a server of its own.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};

use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::ExplorerError;
use super::client::{Client, Events, Piece};
use crate::config::Config;
use crate::http::{Ask, Http, HttpConfig, Report};

/// Where the page is without `--http`.
pub(super) const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Serves the page until a signal arrives. Prints its URL.
pub(super) async fn serve(
    config: &Config,
    client: &Client,
    out: &mut dyn Write,
) -> Result<(), ExplorerError> {
    // Fails at once if the node is not there or refuses.
    client.report().await?;
    let config = Config { http: config.http.or(Some(LOCAL)), ..config.clone() };
    let Some(mut own) = HttpConfig::of(&config)? else { return Ok(()) };
    if own.addr.ip().is_loopback() {
        // The token is that of the node. The explorer sends it for everybody who opens its page here.
        own.token = None;
    }
    let listens = Http::bind(&own, Registry::default(), None).await;
    let http = listens.map_err(|why| ExplorerError::Listen { addr: own.addr, why })?;
    writeln!(out, "{}/", http.url())?;
    out.flush()?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (mut http, mut events) = (Some(http), None);
    loop {
        tokio::select! {
            ask = Http::next(&mut http) => answer(ask, client, &http, &mut events).await,
            piece = next(&mut events) => match (piece, &http) {
                (Some(piece), Some(http)) if piece.name == "event" => publish(http, &piece.data),
                (Some(_), _) => {}
                (None, _) => events = None,
            },
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
    }
}

/// Returns the next event of the node, `None` when the stream ends. Never completes without a stream.
async fn next(events: &mut Option<Events>) -> Option<Piece> {
    match events {
        Some(events) => events.next().await.ok(),
        None => std::future::pending().await,
    }
}

/// Answers a question of the server with what the node says. Without an answer the page shows that the node
/// does not respond. The explorer reads the node's events while somebody follows, which begins with a report.
async fn answer(ask: Ask, client: &Client, http: &Option<Http>, events: &mut Option<Events>) {
    match ask {
        Ask::Ready(to) => drop(to.send(true)),
        Ask::Metrics(to) => drop(to),
        Ask::Report(to) => {
            match client.report().await {
                Ok(report) => drop(to.send(Report::Relayed(report))),
                Err(error) => tracing::debug!(%error, "report"),
            }
            let has_followers = http.as_ref().is_some_and(Http::has_followers);
            if !has_followers {
                *events = None;
            } else if events.is_none() {
                *events = client.events().await.ok();
            }
        }
    }
}

/// Passes an event of the node on, if it is one.
fn publish(http: &Http, data: &str) {
    let entry: Option<Value> = serde_json::from_str(data).ok();
    if let Some(entry) = entry.filter(Value::is_object) {
        http.publish_entry(&entry);
    }
}
