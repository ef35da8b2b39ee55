//! Logs go to stderr and never wait for whoever reads it: a parent that does not must not stop the node.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Log lines that wait for a slow reader of stderr; what comes on top is dropped. 1,024 lines of the usual
/// 100 bytes are twice what a pipe holds.
const LOG_QUEUE: usize = 1024;

/// How long the end of the process waits for the last lines to be read.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Gives the last lines their chance when dropped.
pub struct Logging(SyncSender<Item>);

/// Sends what is logged at `level` and above to stderr, from now to the end of the process.
///
/// # Errors
/// When that was done before, or no thread can be started.
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

/// What `level` lets through. Kademlia warns once a minute that it knows no server, which is how a lone node lives.
fn filter(level: LevelFilter) -> EnvFilter {
    let quiet = if level == LevelFilter::WARN { ",libp2p_kad=error" } else { "" };
    EnvFilter::new(format!("{level}{quiet}"))
}

impl Drop for Logging {
    fn drop(&mut self) {
        let (done, flushed) = sync_channel(1);
        if self.0.try_send(Item::Flush(done)).is_ok() {
            // A reader that does not read has had its time.
            let _ = flushed.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

fn writer(mut out: impl Write + Send + 'static) -> io::Result<SyncSender<Item>> {
    let (sender, items): (_, Receiver<Item>) = sync_channel(LOG_QUEUE);
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        for item in items {
            // There is nowhere to tell that stderr is closed, or that nobody waits any more.
            match item {
                Item::Line(line) => drop(out.write_all(&line)),
                Item::Flush(done) => drop(out.flush().map(|()| done.try_send(()))),
            }
        }
    })?;
    Ok(sender)
}

/// Takes whole log lines, each in one write, and drops those for which there is no room.
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
    fn a_reader_that_does_not_read_costs_lines_and_no_time() {
        let (mut reader, pipe) = io::pipe().expect("a pipe");
        let queue = writer(pipe).expect("a thread");
        let line = [b'x'; 1024];
        // The pipe holds 64 lines, the thread one, the queue 1,024; nothing here may wait for the rest.
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
    fn the_last_line_is_out_when_the_guard_is_gone() {
        let (mut reader, pipe) = io::pipe().expect("a pipe");
        let logging = Logging(writer(pipe).expect("a thread"));
        Lossy(logging.0.clone()).write_all(b"last words\n").expect("never an error");
        drop(logging);
        let mut read = String::new();
        io::Read::read_to_string(&mut reader, &mut read).expect("read");
        assert_eq!(read, "last words\n");
    }
}
