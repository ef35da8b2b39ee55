//! Exports spans to a collector of OpenTelemetry, by OTLP over HTTP.
//!
//! The core makes the ids and ends the spans, so the node needs no SDK of OpenTelemetry: it encodes
//! finished spans and posts them in batches.

mod otlp;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use p2p_node_core::tracer::Span;
use prost::Message as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Url};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::side_runtime::SideRuntime;

/// Maximum number of queued spans; further ones are dropped. The default of OpenTelemetry
/// (`OTEL_BSP_MAX_QUEUE_SIZE`). All that the limit of spans lets through in [`DELAY`] has room.
const QUEUE: usize = 2048;
/// Maximum number of spans in a request. The default of OpenTelemetry
/// (`OTEL_BSP_MAX_EXPORT_BATCH_SIZE`).
const BATCH: usize = 512;
/// Time for which a batch waits for more spans: our choice. OpenTelemetry's 5 s
/// (`OTEL_BSP_SCHEDULE_DELAY`) are long for a person who looks for a message.
const DELAY: Duration = Duration::from_secs(1);
/// Time for a request and its response. The default of OpenTelemetry (`OTEL_EXPORTER_OTLP_TIMEOUT`).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time that the exit of the process waits for the last spans: our choice, one round trip to a
/// collector that works, and no burden for a supervisor.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the spans go.
#[derive(Clone)]
pub struct TracesConfig {
    /// The URL of a request.
    pub url: Url,
    /// Headers of a request. They may be secret.
    pub headers: HeaderMap,
    /// `service.name` of the node.
    pub service_name: String,
    /// Version of the binary.
    pub version: &'static str,
    /// `service.instance.id`: the PeerId of the node.
    pub instance: String,
}

/// The exporter. It never blocks: what does not fit is dropped and counted.
pub struct Traces {
    queue: mpsc::Sender<Span>,
    /// Ends the wait of the exporter for more spans when it is dropped.
    open: watch::Sender<()>,
    dropped: Arc<AtomicU64>,
    exporting: JoinHandle<()>,
    /// Where the exporter runs.
    _side: SideRuntime,
}

impl Traces {
    /// Starts the exporter on a thread of its own. Connects to nobody before the first span.
    ///
    /// # Errors
    /// Fails for an https URL if the system has no certificates.
    pub(crate) fn start(config: TracesConfig, side: SideRuntime) -> Result<Self, reqwest::Error> {
        let builder = Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .default_headers(config.headers.clone());
        // Many containers have no certificates, and a collector without TLS needs none.
        let https = config.url.scheme() == "https";
        let client = if https { builder } else { builder.tls_certs_only([]) }.build()?;
        let (queue, spans) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let export = Export { client, config, dropped: Arc::clone(&dropped), is_down: false };
        let (open, is_open) = watch::channel(());
        let exporting = side.handle().spawn(export.run(spans, is_open));
        Ok(Traces { queue, open, dropped, exporting, _side: side })
    }

    /// Queues a span, or drops it if the queue is full.
    pub fn export(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the number of spans that were dropped since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// Exports the queued spans, for at most [`FLUSH_TIMEOUT`].
    pub async fn close(self) {
        drop((self.queue, self.open));
        let abort = self.exporting.abort_handle();
        if timeout(FLUSH_TIMEOUT, self.exporting).await.is_err() {
            abort.abort();
            tracing::warn!("the collector did not take the last spans in time: they are lost");
        }
    }
}

struct Export {
    client: Client,
    config: TracesConfig,
    dropped: Arc<AtomicU64>,
    /// The last request failed.
    is_down: bool,
}

impl Export {
    async fn run(mut self, mut spans: mpsc::Receiver<Span>, mut is_open: watch::Receiver<()>) {
        while let Some(first) = spans.recv().await {
            let mut batch = vec![first];
            // Only the first span of a batch wakes this thread: to wake it for each costs the loop a call of the
            // system, and a processor that the mail could use. The wait ends early when the node exits.
            let _ = timeout(DELAY, is_open.changed()).await;
            loop {
                while batch.len() < BATCH
                    && let Ok(span) = spans.try_recv()
                {
                    batch.push(span);
                }
                let is_last = batch.len() < BATCH;
                if !batch.is_empty() {
                    self.post(std::mem::take(&mut batch)).await;
                }
                if is_last {
                    break;
                }
            }
        }
    }

    /// Posts a batch. A batch that fails is dropped: the next one must not wait for a collector that
    /// does not work.
    async fn post(&mut self, batch: Vec<Span>) {
        let number = batch.len() as u64;
        let body = otlp::request(&self.config, batch).encode_to_vec();
        let content_type = HeaderValue::from_static("application/x-protobuf");
        let request = self.client.post(self.config.url.clone()).header(CONTENT_TYPE, content_type).body(body);
        let failure = match request.send().await {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answers with the status {}", response.status().as_u16())),
            // The URL may contain a key.
            Err(error) => Some(error.without_url().to_string()),
        };
        if let Some(reason) = &failure {
            self.dropped.fetch_add(number, Ordering::Relaxed);
            if !self.is_down {
                tracing::warn!(
                    "the collector of OTEL_EXPORTER_OTLP_ENDPOINT takes no spans: {reason}; the node drops them"
                );
            }
        }
        self.is_down = failure.is_some();
    }
}

#[cfg(test)]
mod tests {
    use p2p_node_core::tracer::SPANS;

    use super::*;

    #[test]
    fn queue_has_room_for_all_spans_between_two_batches() {
        let earned = DELAY.div_duration_f64(SPANS.interval).ceil() as usize;
        assert!(SPANS.max_keys * (SPANS.burst as usize + earned) <= QUEUE);
    }
}
