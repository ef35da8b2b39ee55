//! The thread that writes stdout.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use p2p_node_protocol::Event;
use p2p_node_protocol::line::encode_event;
use tokio::sync::Notify;

use super::PIPE_WINDOW;

/// Number of buffered bytes that triggers a write: the capacity of a Linux pipe. A longer line is
/// written as a whole.
pub(super) const WRITE_BYTES: usize = 64 * 1024;

/// An event, and `true` if its line gets a `seq`. The parent selects numbered lines with `protocol`
/// in `connect`.
pub type Line = (Event, bool);

/// Errors of [`Output::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The parent closed the pipe, or writing failed; see [`Progress::failure`].
    #[error("stdout is closed")]
    Closed,
    /// The queue is full. This is a bug in the node, which must not exceed [`PIPE_WINDOW`].
    #[error("the queue of lines for stdout is full")]
    Full,
}

/// Queue of events for the parent. After a drop the writer still writes the queued events.
#[derive(Debug)]
pub struct Output {
    queue: Arc<SyncSender<Item>>,
    /// Nobody sends on this channel; it disconnects when the writer thread exits.
    ended: Receiver<()>,
    progress: Arc<Progress>,
}

impl Output {
    /// Queues lines, which the writer writes in this order. Does not block.
    ///
    /// # Errors
    /// Fails if the lines were not queued; they will not be written.
    pub fn send(&self, lines: Vec<Line>) -> Result<(), SendError> {
        if lines.is_empty() {
            return Ok(());
        }
        self.queue.try_send(Item::Lines(lines)).map_err(|error| match error {
            TrySendError::Full(_) => SendError::Full,
            TrySendError::Disconnected(_) => SendError::Closed,
        })
    }

    /// Returns a handle that can write one more event; see [`CrashReporter`].
    pub fn crash_reporter(&self) -> CrashReporter {
        CrashReporter(Arc::downgrade(&self.queue))
    }

    /// Blocks the thread until everything is written, at most for `deadline`, because a parent that
    /// does not read must not block the exit. Returns `true` if everything was written.
    pub fn finish(self, deadline: Duration) -> bool {
        drop(self.queue);
        match self.ended.recv_timeout(deadline) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => !self.progress.closed(),
        }
    }
}

/// Handle that writes one more event to the output from any thread.
#[derive(Clone, Debug)]
pub struct CrashReporter(Weak<SyncSender<Item>>);

impl CrashReporter {
    /// Writes an event after the queued lines; numbers it if those are numbered. Blocks the thread
    /// until the event is written, at most for `deadline`. Does nothing after [`Output::finish`].
    pub fn write_blocking(&self, event: Event, deadline: Duration) {
        let (written, was_written) = sync_channel(1);
        let sent = self.0.upgrade().is_some_and(|queue| queue.try_send(Item::Last(event, written)).is_ok());
        if sent {
            // A timeout or a closed output cannot be handled any more.
            let _ = was_written.recv_timeout(deadline);
        }
    }
}

/// Element of the writer's queue.
#[derive(Debug)]
enum Item {
    Lines(Vec<Line>),
    /// One event, and a channel that signals that it was written.
    Last(Event, SyncSender<()>),
}

/// Progress of the writer.
#[derive(Debug, Default)]
pub struct Progress {
    written: AtomicU64,
    closed: AtomicBool,
    failure: OnceLock<String>,
    changed: Notify,
}

impl Progress {
    /// Returns the number of lines written since the start.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Returns `true` if nothing can be written any more.
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Returns the error message of a failed write; `None` if the parent closed its end.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Waits until the progress has changed since the last call. Only one task may wait.
    /// Cancel-safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn add(&self, lines: u64) {
        self.written.fetch_add(lines, Ordering::Release);
        self.changed.notify_one();
    }

    fn close(&self, error: &io::Error) {
        if error.kind() != io::ErrorKind::BrokenPipe {
            self.failure.get_or_init(|| error.to_string());
        }
        self.closed.store(true, Ordering::Release);
        self.changed.notify_one();
    }
}

pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<(Output, Arc<Progress>)> {
    let (queue, lines) = sync_channel(PIPE_WINDOW);
    let (ending, ended) = sync_channel(0);
    let progress = Arc::new(Progress::default());
    let mut writer = Writer {
        output,
        buffer: Vec::with_capacity(WRITE_BYTES),
        lines: 0,
        seq: 0,
        progress: Arc::clone(&progress),
    };
    thread::Builder::new().name("stdout".to_owned()).spawn(move || {
        let _ending: SyncSender<()> = ending;
        if let Err(error) = writer.run(&lines) {
            writer.progress.close(&error);
        }
    })?;
    Ok((Output { queue: Arc::new(queue), ended, progress: Arc::clone(&progress) }, progress))
}

struct Writer<W> {
    output: W,
    buffer: Vec<u8>,
    /// Number of lines in the buffer.
    lines: u64,
    /// `seq` of the latest numbered line.
    seq: u64,
    progress: Arc<Progress>,
}

impl<W: Write> Writer<W> {
    /// Writes until the queue is closed and empty. Combines all queued lines into one write, and
    /// does not wait for further lines.
    fn run(&mut self, queue: &Receiver<Item>) -> io::Result<()> {
        while let Ok(item) = queue.recv() {
            self.take(item)?;
            while let Ok(item) = queue.try_recv() {
                self.take(item)?;
            }
            self.write()?;
        }
        Ok(())
    }

    fn take(&mut self, item: Item) -> io::Result<()> {
        match item {
            Item::Lines(lines) => self.encode(lines),
            Item::Last(event, written) => {
                self.encode(vec![(event, self.seq > 0)])?;
                self.write()?;
                // Fails only if the caller has stopped waiting.
                let _ = written.try_send(());
                Ok(())
            }
        }
    }

    fn encode(&mut self, lines: Vec<Line>) -> io::Result<()> {
        for (event, numbered) in lines {
            let seq = numbered.then(|| {
                self.seq += 1;
                self.seq
            });
            encode_event(&event, seq, &mut self.buffer);
            self.lines += 1;
            if self.buffer.len() >= WRITE_BYTES {
                self.write()?;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        if self.lines == 0 {
            return Ok(());
        }
        self.output.write_all(&self.buffer)?;
        self.output.flush()?;
        self.buffer.clear();
        self.progress.add(std::mem::take(&mut self.lines));
        Ok(())
    }
}
