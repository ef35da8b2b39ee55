//! Writes logs to stderr without blocking the node: if nobody reads stderr, log lines are dropped
//! and counted. No log contains a payload or a secret.

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

/// Maximum number of queued log lines; further lines are dropped. 1,024 lines of the usual 100
/// bytes are about twice the buffer of a pipe.
const LOG_QUEUE: usize = 1024;

/// Maximum time that the exit of the process waits for the queued lines. Our choice: a person does not
/// notice it, and a pipe that somebody reads takes the queue in a few milliseconds.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

/// Libraries whose logs below `info` contain what they carry: gossipsub prints messages with their
/// payloads, those of HTTP and TLS print URLs and headers, which hold the keys of RPC servers and of
/// collectors, and the RPC client prints requests. Their lines of `debug` and `trace` are never written.
const CAPPED: [&str; 8] = [
    "alloy_rpc_client",
    "alloy_transport",
    "h2",
    "hyper",
    "hyper_util",
    "libp2p_gossipsub",
    "reqwest",
    "rustls",
];

/// Lines that the process dropped since the last [`take_dropped`].
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Format of the logs on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Handle of the log writer. `Drop` waits up to [`FLUSH_TIMEOUT`] for the queued lines.
pub struct Logging(Queue);

/// Writes logs of `level` and above to stderr until the process exits.
///
/// # Errors
/// Fails if a logger is already installed, or if the thread cannot be started.
pub fn start(level: LevelFilter, format: LogFormat) -> anyhow::Result<Logging> {
    let queue = writer(io::stderr(), format)?;
    subscriber(level, format, queue.clone()).try_init().map_err(|error| anyhow::anyhow!(error))?;
    Ok(Logging(queue))
}

/// Returns the number of log lines that were dropped since the last call.
pub fn take_dropped() -> u64 {
    DROPPED.swap(0, Ordering::Relaxed)
}

fn subscriber(
    level: LevelFilter,
    format: LogFormat,
    queue: Queue,
) -> impl Subscriber + Send + Sync + 'static {
    // Log lines carry texts of strangers, and no colours, so that they are the same in a file.
    let lines = fmt::layer().with_ansi(false).with_writer(move || Lossy(queue.clone()));
    // One filter, with a hint of the level from both parts: otherwise the libraries make each of their
    // spans, although nobody reads them.
    let written = filter(level).and(filter_fn(is_bare).with_max_level_hint(level));
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => lines.with_filter(written).boxed(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            lines.with_filter(written).boxed()
        }
    };
    tracing_subscriber::registry().with(lines)
}

/// Returns the filter for `level`. At the default level it drops two warnings: one that Kademlia
/// repeats every minute while a node has no peers, which is normal for the first node of a network,
/// and one of gossipsub for each message that has no room in the queue to a slow peer. A bootstrap
/// node wrote 17,000 of these while 1,000 nodes joined. The counter `slow_peers` tells of them.
fn filter(level: LevelFilter) -> EnvFilter {
    let quiet = if level == LevelFilter::WARN { ",libp2p_kad=error,libp2p_gossipsub=error" } else { "" };
    let capped = CAPPED.map(|target| format!(",{target}=info"));
    let capped = if level > LevelFilter::INFO { capped.concat() } else { String::new() };
    EnvFilter::new(format!("{level}{quiet}{capped}"))
}

/// Returns `false` for lines of gossipsub with a whole message: its warning of a full queue has one.
fn is_bare(line: &Metadata<'_>) -> bool {
    !(line.target().starts_with("libp2p_gossipsub") && line.fields().field("rpc").is_some())
}

impl Drop for Logging {
    fn drop(&mut self) {
        let (done, flushed) = sync_channel(1);
        if self.0.sender.try_send(Item::Flush(done)).is_ok() {
            // On timeout the remaining lines are lost.
            let _ = flushed.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// The queue of lines for the thread that writes.
#[derive(Clone)]
struct Queue {
    /// Has room for one item more than [`LOG_QUEUE`] lines: the flush at the exit.
    sender: SyncSender<Item>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    queued: AtomicUsize,
    /// Dropped lines of which no line on stderr told yet.
    untold: AtomicU64,
}

fn writer(out: impl Write + Send + 'static, format: LogFormat) -> io::Result<Queue> {
    let (sender, items) = sync_channel(LOG_QUEUE + 1);
    let counts = Arc::new(Counts::default());
    let queue = Queue { sender, counts: Arc::clone(&counts) };
    thread::Builder::new().name("log".to_owned()).spawn(move || write_items(out, format, &items, &counts))?;
    Ok(queue)
}

/// Writes lines until the queue is closed. Tells the number of dropped lines as soon as it has written
/// those before them. Ignores errors: a closed stderr cannot be reported anywhere.
fn write_items(mut out: impl Write, format: LogFormat, items: &Receiver<Item>, counts: &Counts) {
    loop {
        let item = match items.try_recv() {
            Err(TryRecvError::Empty) => {
                tell_dropped(&mut out, format, counts);
                items.recv().ok()
            }
            item => item.ok(),
        };
        match item {
            Some(Item::Line(line)) => {
                counts.queued.fetch_sub(1, Ordering::Relaxed);
                drop(out.write_all(&line));
            }
            Some(Item::Flush(done)) => {
                tell_dropped(&mut out, format, counts);
                drop(out.flush().map(|()| done.try_send(())));
            }
            None => return tell_dropped(&mut out, format, counts),
        }
    }
}

fn tell_dropped(out: &mut impl Write, format: LogFormat, counts: &Counts) {
    let dropped = counts.untold.swap(0, Ordering::Relaxed);
    if dropped == 0 {
        return;
    }
    let mut time = String::new();
    // A String takes every write.
    let _ = SystemTime.format_time(&mut fmt::format::Writer::new(&mut time));
    let text = format!("{dropped} log lines were dropped: nobody read stderr fast enough");
    let target = module_path!();
    drop(match format {
        LogFormat::Text => writeln!(out, "{time}  WARN {target}: {text}"),
        LogFormat::Json => {
            let line = serde_json::json!({
                "timestamp": time, "level": "WARN", "message": text, "dropped": dropped, "target": target,
            });
            writeln!(out, "{line}")
        }
    });
}

/// Queues whole log lines, one per write, and drops lines that do not fit.
struct Lossy(Queue);

impl Write for Lossy {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Queue { sender, counts } = &self.0;
        let has_room = counts.queued.fetch_add(1, Ordering::Relaxed) < LOG_QUEUE;
        if !has_room || sender.try_send(Item::Line(line.to_vec())).is_err() {
            counts.queued.fetch_sub(1, Ordering::Relaxed);
            counts.untold.fetch_add(1, Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
