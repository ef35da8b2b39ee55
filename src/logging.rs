//! Writes logs to stderr without blocking the node: if nobody reads stderr, log lines are dropped.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Maximum number of queued log lines; further lines are dropped. 1,024 lines of the usual 100
/// bytes are about twice the buffer of a pipe.
const LOG_QUEUE: usize = 1024;

/// Maximum time that the exit of the process waits for the queued lines.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Handle of the log writer. `Drop` waits up to [`FLUSH_TIMEOUT`] for the queued lines.
pub struct Logging(SyncSender<Item>);

/// Writes logs of `level` and above to stderr until the process exits.
///
/// # Errors
/// Fails if a logger is already installed, or if the thread cannot be started.
pub fn start(level: LevelFilter) -> anyhow::Result<Logging> {
    let queue = writer(io::stderr())?;
    let lines = queue.clone();
    tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_ansi(io::stderr().is_terminal())
        .with_writer(move || Lossy(lines.clone()))
        .try_init()
        .map_err(|error| anyhow::anyhow!(error))?;
    Ok(Logging(queue))
}

/// Returns the filter for `level`. At the default level it drops two warnings: one that Kademlia
/// repeats every minute while a node has no peers, which is normal for the first node of a network,
/// and one of gossipsub for each message that has no room in the queue to a slow peer. A bootstrap
/// node wrote 17,000 of these while 1,000 nodes joined. The counter `slow_peers` tells of them.
fn filter(level: LevelFilter) -> EnvFilter {
    let quiet = if level == LevelFilter::WARN { ",libp2p_kad=error,libp2p_gossipsub=error" } else { "" };
    EnvFilter::new(format!("{level}{quiet}"))
}

impl Drop for Logging {
    fn drop(&mut self) {
        let (done, flushed) = sync_channel(1);
        if self.0.try_send(Item::Flush(done)).is_ok() {
            // On timeout the remaining lines are lost.
            let _ = flushed.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

fn writer(mut out: impl Write + Send + 'static) -> io::Result<SyncSender<Item>> {
    let (sender, items): (_, Receiver<Item>) = sync_channel(LOG_QUEUE);
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        for item in items {
            // Errors are ignored: a closed stderr cannot be reported anywhere.
            match item {
                Item::Line(line) => drop(out.write_all(&line)),
                Item::Flush(done) => drop(out.flush().map(|()| done.try_send(()))),
            }
        }
    })?;
    Ok(sender)
}

/// Queues whole log lines, one per write, and drops lines that do not fit.
struct Lossy(SyncSender<Item>);

impl Write for Lossy {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(Item::Line(line.to_vec()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_stderr_drops_log_lines_and_never_blocks() {
        let (mut reader, pipe) = io::pipe().expect("a pipe");
        let queue = writer(pipe).expect("a thread");
        let line = [b'x'; 1024];
        // The pipe holds 64 lines, the thread one, and the queue 1,024. Writing the others must not
        // block.
        for _ in 0..3 * LOG_QUEUE {
            Lossy(queue.clone()).write_all(&line).expect("never an error");
        }
        drop(queue);
        let mut read = Vec::new();
        io::Read::read_to_end(&mut reader, &mut read).expect("read");
        let lines = read.len() / line.len();
        assert!((LOG_QUEUE..2 * LOG_QUEUE).contains(&lines), "{lines} lines");
    }

    #[test]
    fn dropped_guard_flushes_last_line() {
        let (mut reader, pipe) = io::pipe().expect("a pipe");
        let logging = Logging(writer(pipe).expect("a thread"));
        Lossy(logging.0.clone()).write_all(b"last words\n").expect("never an error");
        drop(logging);
        let mut read = String::new();
        io::Read::read_to_string(&mut reader, &mut read).expect("read");
        assert_eq!(read, "last words\n");
    }

    #[test]
    fn warnings_of_a_full_queue_to_a_slow_peer_are_shown_only_to_who_asks_for_more() {
        for (level, shown) in [(LevelFilter::WARN, false), (LevelFilter::INFO, true)] {
            let (mut reader, pipe) = io::pipe().expect("a pipe");
            let lines = writer(pipe).expect("a thread");
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(filter(level))
                .with_writer(move || Lossy(lines.clone()))
                .finish();
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(target: "libp2p_gossipsub::behaviour", "Send Queue full");
                tracing::warn!(target: "libp2p_swarm", "another warning");
            });
            let mut read = String::new();
            io::Read::read_to_string(&mut reader, &mut read).expect("read");
            assert_eq!(read.contains("Send Queue full"), shown, "{level}");
            assert!(read.contains("another warning"), "{level}");
        }
    }
}
