//! Reads stdin: on the loop if the descriptor can be polled, otherwise on a thread.

use std::io::{self, Read};
use std::task::{Context, Poll, Waker, ready};
use std::thread;

use p2p_node_protocol::line::{Framed, Framer, LineError, decode_request};
use p2p_node_protocol::{MAX_LINE_BYTES, Request};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::descriptor::Polled;

/// Size of the read buffer, in bytes: the capacity of a Linux pipe.
const READ_BYTES: usize = 64 * 1024;

/// Maximum number of batches that the thread queues. Two keep both threads busy; four also cover a
/// long turn of the loop. When the queue is full, the pipe fills up and the parent's writes block: this
/// is the backpressure.
pub(super) const QUEUED_CHUNKS: usize = 4;

/// Result of one read.
#[derive(Debug)]
pub enum InputChunk {
    /// The lines that the read completed; at least one.
    Lines(Vec<Result<Request, LineError>>),
    /// The parent closed the pipe. Nothing follows.
    Ended,
    /// Reading failed with this error message. Nothing follows.
    Failed(String),
}

/// Lines from the parent.
#[derive(Debug)]
pub struct Input(Source);

#[derive(Debug)]
enum Source {
    Thread(mpsc::Receiver<InputChunk>),
    Polled(AsyncFd<Polled>, Decoder),
}

impl Input {
    /// Starts a thread that reads `input`.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub(super) fn start(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (batches, receiver) = mpsc::channel(QUEUED_CHUNKS);
        thread::Builder::new().name("stdin".to_owned()).spawn(move || read(input, &batches))?;
        Ok(Input(Source::Thread(receiver)))
    }

    /// Reads a descriptor whenever it has bytes, without a thread. Needs a tokio runtime.
    ///
    /// # Errors
    /// Fails if the system cannot poll the descriptor.
    pub(super) fn polled(fd: Polled, tail: Tail) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "sound for a descriptor that is owned and never replaced; the successor is an unsafe function"
        )]
        let fd = AsyncFd::new(fd)?;
        Ok(Input(Source::Polled(fd, Decoder::new(tail))))
    }

    /// Waits for the next batch. Returns `None` after the last. Cancel-safe: dropping the future loses
    /// nothing.
    pub async fn recv(&mut self) -> Option<InputChunk> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Returns the next batch if one is available.
    pub fn try_recv(&mut self) -> Option<InputChunk> {
        match self.poll_recv(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(chunk) => chunk,
            Poll::Pending => None,
        }
    }

    /// Polls for the next batch, as `recv` does.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<InputChunk>> {
        match &mut self.0 {
            Source::Thread(receiver) => receiver.poll_recv(cx),
            Source::Polled(fd, decoder) => poll_read(fd, decoder, cx),
        }
    }
}

fn poll_read(fd: &AsyncFd<Polled>, decoder: &mut Decoder, cx: &mut Context<'_>) -> Poll<Option<InputChunk>> {
    loop {
        if let Some(chunk) = decoder.next_chunk() {
            return Poll::Ready(Some(chunk));
        }
        if decoder.has_ended {
            return Poll::Ready(None);
        }
        let mut ready = match ready!(fd.poll_read_ready(cx)) {
            Ok(ready) => ready,
            Err(error) => {
                decoder.push(Err(error));
                continue;
            }
        };
        match fd.get_ref().read(&mut decoder.buffer) {
            // A short read has emptied the pipe.
            Ok(length) if 0 < length && length < READ_BYTES => {
                ready.clear_ready();
                decoder.push(Ok(length));
            }
            Ok(length) => decoder.push(Ok(length)),
            Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
            Err(error) => decoder.push(Err(error.into())),
        }
    }
}

fn read(mut input: impl Read, batches: &mpsc::Sender<InputChunk>) {
    let mut decoder = Decoder::new(Tail::Line);
    while !decoder.has_ended {
        let read = input.read(&mut decoder.buffer);
        decoder.push(read);
        while let Some(chunk) = decoder.next_chunk() {
            // Fails only if the node has exited.
            if batches.blocking_send(chunk).is_err() {
                return;
            }
        }
    }
}

/// What the bytes after the last newline are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// A line.
    Line,
    /// The begin of a line whose writer was killed.
    Ignored,
}

/// Turns the results of reads into chunks.
#[derive(Debug)]
struct Decoder {
    framer: Framer,
    buffer: Box<[u8]>,
    lines: Vec<Result<Request, LineError>>,
    /// How the input ended; follows `lines`.
    end: Option<InputChunk>,
    has_ended: bool,
    tail: Tail,
}

impl Decoder {
    fn new(tail: Tail) -> Self {
        Decoder {
            framer: Framer::new(MAX_LINE_BYTES),
            buffer: vec![0; READ_BYTES].into(),
            lines: Vec::new(),
            end: None,
            has_ended: false,
            tail,
        }
    }

    /// Takes the result of a read into `buffer`.
    fn push(&mut self, read: io::Result<usize>) {
        let Decoder { framer, buffer, lines, end, has_ended, tail } = self;
        match read {
            Ok(0) => {
                if *tail == Tail::Line {
                    framer.finish(|framed| lines.push(decode(framed)));
                }
                *end = Some(InputChunk::Ended);
                *has_ended = true;
            }
            Ok(length) => framer.push(&buffer[..length], |framed| lines.push(decode(framed))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                *end = Some(InputChunk::Failed(error.to_string()));
                *has_ended = true;
            }
        }
    }

    fn next_chunk(&mut self) -> Option<InputChunk> {
        if self.lines.is_empty() {
            return self.end.take();
        }
        Some(InputChunk::Lines(std::mem::take(&mut self.lines)))
    }
}

fn decode(framed: Framed<'_>) -> Result<Request, LineError> {
    match framed {
        Framed::Line { number, bytes } => decode_request(bytes).map_err(|error| error.at(number)),
        Framed::TooLong { number, head } => Err(LineError::too_long(MAX_LINE_BYTES, head).at(number)),
    }
}
