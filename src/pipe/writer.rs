//! Writes stdout: on the loop while a pipe or socket has room, otherwise on a thread.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use p2p_node_protocol::Event;
use p2p_node_protocol::line::encode_event;
use tokio::sync::Notify;

use super::PIPE_WINDOW;
use super::descriptor::Polled;

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
    /// The output, if the loop may write to it while it has room.
    polled: Option<Polled>,
    encoder: Arc<Mutex<Encoder>>,
    /// Nobody sends on this channel; it disconnects when the writer thread exits.
    ended: Receiver<()>,
    progress: Arc<Progress>,
}

impl Output {
    /// Writes lines in this order: at once if the output has room, otherwise on the thread. Does not
    /// block.
    ///
    /// # Errors
    /// Fails if the lines were neither written nor queued.
    pub fn send(&self, lines: Vec<Line>) -> Result<(), SendError> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut lines = lines.into_iter();
        if let Some(polled) = self.polled.as_ref().filter(|_| self.progress.is_thread_idle()) {
            let mut encoder = lock(&self.encoder);
            loop {
                encoder.fill(&mut lines);
                if !encoder.write_now(polled, &self.progress) {
                    break;
                }
                if lines.len() == 0 {
                    return Ok(());
                }
            }
        }
        // The thread writes the rest of the encoder first.
        self.progress.queue(|| self.queue.try_send(Item::Lines(lines))).map_err(|error| match error {
            TrySendError::Full(_) => SendError::Full,
            TrySendError::Disconnected(_) => SendError::Closed,
        })
    }

    /// Returns a handle that can write one more event; see [`CrashReporter`].
    pub fn crash_reporter(&self) -> CrashReporter {
        CrashReporter(Arc::downgrade(&self.queue), Arc::clone(&self.progress))
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
pub struct CrashReporter(Weak<SyncSender<Item>>, Arc<Progress>);

impl CrashReporter {
    /// Writes an event after the queued lines; numbers it if those are numbered. Blocks the thread
    /// until the event is written, at most for `deadline`. Does nothing after [`Output::finish`].
    pub fn write_blocking(&self, event: Event, deadline: Duration) {
        let (written, was_written) = sync_channel(1);
        let sent = self
            .0
            .upgrade()
            .is_some_and(|queue| self.1.queue(|| queue.try_send(Item::Last(event, written))).is_ok());
        if sent {
            // A timeout or a closed output cannot be handled any more.
            let _ = was_written.recv_timeout(deadline);
        }
    }
}

/// Element of the writer's queue.
#[derive(Debug)]
enum Item {
    Lines(std::vec::IntoIter<Line>),
    /// One event, and a channel that signals that it was written.
    Last(Event, SyncSender<()>),
}

/// Progress of the writer.
#[derive(Debug, Default)]
pub struct Progress {
    written: AtomicU64,
    /// Items that the thread has not finished.
    queued: AtomicUsize,
    closed: AtomicBool,
    failure: OnceLock<String>,
    changed: Arc<Notify>,
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

    /// Returns `true` if everything that was passed to the thread is written.
    fn is_thread_idle(&self) -> bool {
        self.queued.load(Ordering::Acquire) == 0
    }

    /// Passes an item to the thread.
    fn queue<E>(&self, send: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        // Counted first, because the thread may finish before `send` returns.
        self.queued.fetch_add(1, Ordering::AcqRel);
        let sent = send();
        if sent.is_err() {
            self.queued.fetch_sub(1, Ordering::AcqRel);
        }
        sent
    }

    fn add(&self, lines: u64) {
        self.written.fetch_add(lines, Ordering::Release);
    }

    fn close(&self, error: &io::Error) {
        if error.kind() != io::ErrorKind::BrokenPipe {
            self.failure.get_or_init(|| error.to_string());
        }
        self.closed.store(true, Ordering::Release);
        self.changed.notify_one();
    }
}

/// Starts the thread that writes `output`. If `polled` is given, it is the same output, and the loop
/// writes to it while the thread has nothing to write.
pub(super) fn start(
    output: impl Write + Send + 'static,
    polled: Option<Polled>,
) -> io::Result<(Output, Arc<Progress>)> {
    start_notifying(output, polled, Arc::default())
}

/// As [`start`]. `changed` is notified of progress.
pub(super) fn start_notifying(
    output: impl Write + Send + 'static,
    polled: Option<Polled>,
    changed: Arc<Notify>,
) -> io::Result<(Output, Arc<Progress>)> {
    let (queue, items) = sync_channel(PIPE_WINDOW);
    let (ending, ended) = sync_channel(0);
    let progress = Arc::new(Progress { changed, ..Progress::default() });
    let encoder = Arc::new(Mutex::new(Encoder::default()));
    let mut writer = Writer { output, encoder: Arc::clone(&encoder), progress: Arc::clone(&progress) };
    thread::Builder::new().name("stdout".to_owned()).spawn(move || {
        let _ending: SyncSender<()> = ending;
        if let Err(error) = writer.run(&items) {
            writer.progress.close(&error);
        }
    })?;
    let output = Output { queue: Arc::new(queue), polled, encoder, ended, progress: Arc::clone(&progress) };
    Ok((output, progress))
}

/// Encoded lines that were not written yet.
#[derive(Debug, Default)]
struct Encoder {
    buffer: Vec<u8>,
    /// Number of lines in the buffer.
    lines: u64,
    /// `seq` of the latest numbered line.
    seq: u64,
}

impl Encoder {
    /// Encodes lines until the buffer is full or no line is left.
    fn fill(&mut self, lines: &mut impl Iterator<Item = Line>) {
        while self.buffer.len() < WRITE_BYTES
            && let Some((event, numbered)) = lines.next()
        {
            let seq = numbered.then(|| {
                self.seq += 1;
                self.seq
            });
            encode_event(&event, seq, &mut self.buffer);
            self.lines += 1;
        }
    }

    /// Writes the buffer. Returns `false` if a part is left, for the thread: the output has no room, or
    /// writing fails, which the thread reports.
    fn write_now(&mut self, polled: &Polled, progress: &Progress) -> bool {
        while !self.buffer.is_empty() {
            match polled.write(&self.buffer) {
                Ok(0) => return false,
                Ok(length) => drop(self.buffer.drain(..length)),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        progress.add(std::mem::take(&mut self.lines));
        true
    }
}

struct Writer<W> {
    output: W,
    encoder: Arc<Mutex<Encoder>>,
    progress: Arc<Progress>,
}

impl<W: Write> Writer<W> {
    /// Writes until the queue is closed and empty. Combines all queued lines into one write, and
    /// does not wait for further lines.
    fn run(&mut self, queue: &Receiver<Item>) -> io::Result<()> {
        let encoder = Arc::clone(&self.encoder);
        while let Ok(item) = queue.recv() {
            // The loop locks the encoder only while nothing is queued.
            let mut encoder = lock(&encoder);
            let mut items = 1;
            self.take(item, &mut encoder)?;
            while let Ok(item) = queue.try_recv() {
                items += 1;
                self.take(item, &mut encoder)?;
            }
            self.write(&mut encoder)?;
            drop(encoder);
            self.progress.queued.fetch_sub(items, Ordering::AcqRel);
        }
        Ok(())
    }

    fn take(&mut self, item: Item, encoder: &mut Encoder) -> io::Result<()> {
        match item {
            Item::Lines(lines) => self.encode(lines, encoder),
            Item::Last(event, written) => {
                self.encode(vec![(event, encoder.seq > 0)].into_iter(), encoder)?;
                self.write(encoder)?;
                // Fails only if the caller has stopped waiting.
                let _ = written.try_send(());
                Ok(())
            }
        }
    }

    fn encode(&mut self, mut lines: std::vec::IntoIter<Line>, encoder: &mut Encoder) -> io::Result<()> {
        loop {
            encoder.fill(&mut lines);
            if encoder.buffer.len() < WRITE_BYTES {
                return Ok(());
            }
            self.write(encoder)?;
        }
    }

    fn write(&mut self, encoder: &mut Encoder) -> io::Result<()> {
        if encoder.buffer.is_empty() {
            return Ok(());
        }
        self.output.write_all(&encoder.buffer)?;
        self.output.flush()?;
        encoder.buffer.clear();
        self.progress.add(std::mem::take(&mut encoder.lines));
        self.progress.changed.notify_one();
        Ok(())
    }
}

/// Locks the encoder. A panic while it was locked ends the process.
fn lock(encoder: &Mutex<Encoder>) -> MutexGuard<'_, Encoder> {
    encoder.lock().unwrap_or_else(PoisonError::into_inner)
}
