use std::io::{self, Read};
use std::thread;

use p2p_node_protocol::line::{Framed, Framer, LineError, decode_request};
use p2p_node_protocol::{MAX_LINE_BYTES, Request};
use tokio::sync::mpsc;

/// Bytes asked for in one read: what a Linux pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// Batches that wait for the node. Two would keep both sides busy; four ride out a long turn of its loop. Once
/// they are full the parent's writes block, which is what holds a parent to the node's pace.
pub(super) const QUEUED_BATCHES: usize = 4;

/// What one read brought.
#[derive(Debug)]
pub enum Batch {
    /// The lines that ended in it, at least one.
    Lines(Vec<Result<Request, LineError>>),
    /// The parent closed the pipe. Nothing follows.
    Ended,
    /// The pipe broke, and how, for a person. Nothing follows.
    Failed(String),
}

pub(super) fn start(input: impl Read + Send + 'static) -> io::Result<mpsc::Receiver<Batch>> {
    let (batches, receiver) = mpsc::channel(QUEUED_BATCHES);
    thread::Builder::new().name("stdin".to_owned()).spawn(move || read(input, &batches))?;
    Ok(receiver)
}

fn read(mut input: impl Read, batches: &mpsc::Sender<Batch>) {
    let mut framer = Framer::new(MAX_LINE_BYTES);
    let mut buffer = vec![0; READ_BYTES];
    let last = loop {
        match input.read(&mut buffer) {
            Ok(0) => break Batch::Ended,
            Ok(length) => {
                let mut lines = Vec::new();
                framer.push(&buffer[..length], |framed| lines.push(decode(framed)));
                if !lines.is_empty() && batches.blocking_send(Batch::Lines(lines)).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Batch::Failed(error.to_string()),
        }
    };
    if matches!(last, Batch::Ended) {
        let mut lines = Vec::new();
        framer.finish(|framed| lines.push(decode(framed)));
        if !lines.is_empty() && batches.blocking_send(Batch::Lines(lines)).is_err() {
            return;
        }
    }
    // A node that is gone does not want to know.
    let _ = batches.blocking_send(last);
}

fn decode(framed: Framed<'_>) -> Result<Request, LineError> {
    match framed {
        Framed::Line { number, bytes } => decode_request(bytes).map_err(|error| error.at(number)),
        Framed::TooLong { number, head } => Err(LineError::too_long(MAX_LINE_BYTES, head).at(number)),
    }
}
