//! The thread that reads stdin.

use std::io::{self, Read};
use std::thread;

use p2p_node_protocol::line::{Framed, Framer, LineError, decode_request};
use p2p_node_protocol::{MAX_LINE_BYTES, Request};
use tokio::sync::mpsc;

/// Size of the read buffer, in bytes: the capacity of a Linux pipe.
const READ_BYTES: usize = 64 * 1024;

/// Maximum number of queued batches. Two keep both threads busy; four also cover a long turn of the
/// loop. When the queue is full, the pipe fills up and the parent's writes block: this is the
/// backpressure.
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

pub(super) fn start(input: impl Read + Send + 'static) -> io::Result<mpsc::Receiver<InputChunk>> {
    let (batches, receiver) = mpsc::channel(QUEUED_CHUNKS);
    thread::Builder::new().name("stdin".to_owned()).spawn(move || read(input, &batches))?;
    Ok(receiver)
}

fn read(mut input: impl Read, batches: &mpsc::Sender<InputChunk>) {
    let mut framer = Framer::new(MAX_LINE_BYTES);
    let mut buffer = vec![0; READ_BYTES];
    let last = loop {
        match input.read(&mut buffer) {
            Ok(0) => break InputChunk::Ended,
            Ok(length) => {
                let mut lines = Vec::new();
                framer.push(&buffer[..length], |framed| lines.push(decode(framed)));
                if !lines.is_empty() && batches.blocking_send(InputChunk::Lines(lines)).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break InputChunk::Failed(error.to_string()),
        }
    };
    if matches!(last, InputChunk::Ended) {
        let mut lines = Vec::new();
        framer.finish(|framed| lines.push(decode(framed)));
        if !lines.is_empty() && batches.blocking_send(InputChunk::Lines(lines)).is_err() {
            return;
        }
    }
    // Fails only if the node has exited.
    let _ = batches.blocking_send(last);
}

fn decode(framed: Framed<'_>) -> Result<Request, LineError> {
    match framed {
        Framed::Line { number, bytes } => decode_request(bytes).map_err(|error| error.at(number)),
        Framed::TooLong { number, head } => Err(LineError::too_long(MAX_LINE_BYTES, head).at(number)),
    }
}
