use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use p2p_node_protocol::Event;
use p2p_node_protocol::line::encode_event;
use tokio::sync::Notify;

use super::FRONT_WINDOW;

/// Bytes gathered for one write: what a Linux pipe holds. A longer line goes out whole.
pub(super) const WRITE_BYTES: usize = 64 * 1024;

/// An event, and whether its line is numbered, which the parent must have opted in to.
pub type Line = (Event, bool);

/// Why lines were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The parent does not read any more, or writing failed; see [`Progress`].
    #[error("the output is closed")]
    Closed,
    /// More lists of lines are outstanding than [`FRONT_WINDOW`] has lines: the node did not keep count.
    #[error("the output is full")]
    Full,
}

/// Takes events for the parent. Dropped, it lets the writer finish in its own time.
#[derive(Debug)]
pub struct Output {
    queue: Arc<SyncSender<Item>>,
    /// Never sent to; disconnected when the writer has ended.
    ended: Receiver<()>,
    progress: Arc<Progress>,
}

impl Output {
    /// Hands lines to the writer, which writes them in this order. Never blocks.
    ///
    /// # Errors
    /// When the lines were not taken and never will be written.
    pub fn send(&self, lines: Vec<Line>) -> Result<(), SendError> {
        if lines.is_empty() {
            return Ok(());
        }
        self.queue.try_send(Item::Lines(lines)).map_err(|error| match error {
            TrySendError::Full(_) => SendError::Full,
            TrySendError::Disconnected(_) => SendError::Closed,
        })
    }

    /// See [`LastWords`].
    pub fn last_words(&self) -> LastWords {
        LastWords(Arc::downgrade(&self.queue))
    }

    /// Waits, blocking the thread, until everything is written, but no longer than `deadline`: a parent that does not
    /// read must not keep the process. Returns whether everything is written.
    pub fn finish(self, deadline: Duration) -> bool {
        drop(self.queue);
        match self.ended.recv_timeout(deadline) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => !self.progress.closed(),
        }
    }
}

/// Says one more thing on the output, from any thread.
#[derive(Clone, Debug)]
pub struct LastWords(Weak<SyncSender<Item>>);

impl LastWords {
    /// Has a line written behind those that the writer has, numbered if they are, and waits for it, blocking the thread, but no
    /// longer than `deadline`. An output that was told to finish has had its last line.
    pub fn say(&self, event: Event, deadline: Duration) {
        let (written, was_written) = sync_channel(1);
        let sent = self.0.upgrade().is_some_and(|queue| queue.try_send(Item::Last(event, written)).is_ok());
        if sent {
            // A parent that does not read, or a writer that is gone, has had its time.
            let _ = was_written.recv_timeout(deadline);
        }
    }
}

/// What the writer is handed.
#[derive(Debug)]
enum Item {
    Lines(Vec<Line>),
    /// One line, and whom to tell when it is written.
    Last(Event, SyncSender<()>),
}

/// How far the writer has come.
#[derive(Debug, Default)]
pub struct Progress {
    written: AtomicU64,
    closed: AtomicBool,
    failure: OnceLock<String>,
    changed: Notify,
}

impl Progress {
    /// Lines written since the start.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Whether nothing can be written any more.
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// How writing failed, for a person; nothing when the parent just closed its end.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Waits until something has changed since the last call. For one task alone; cancel-safe.
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
    let (queue, lines) = sync_channel(FRONT_WINDOW);
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
    /// Lines in the buffer.
    lines: u64,
    /// The last number given to a line.
    seq: u64,
    progress: Arc<Progress>,
}

impl<W: Write> Writer<W> {
    /// Writes until the queue is closed and empty. What is queued goes out together, and nothing waits for more.
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
                // Whoever said it may not wait any more.
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
