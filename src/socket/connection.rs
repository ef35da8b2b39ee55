//! One connection to the socket: its lines in both directions.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Context, Poll};

use p2p_node_core::Core;
use p2p_node_core::client_id::ClientId;
use p2p_node_core::input::{ClientEvent, Input, Now};
use p2p_node_protocol::Request;
use p2p_node_protocol::line::LineError;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use tokio::sync::Notify;

use crate::pipe::{InputChunk, Line, Pipe};

/// A client at the socket.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    pipe: Pipe,
    /// Lines that the node has read and the core has not accepted.
    waiting: std::vec::IntoIter<Result<Request, LineError>>,
    input_open: bool,
    /// The client has closed both directions.
    is_gone: bool,
    written: u64,
}

impl Connection {
    /// `changed` wakes the loop when the writer of a connection has made progress.
    pub(super) fn new(stream: UnixStream, changed: &Arc<Notify>) -> io::Result<Self> {
        let pipe = Pipe::socket(stream.try_clone()?.into(), Arc::clone(changed))?;
        Ok(Connection {
            stream,
            pipe,
            waiting: Vec::new().into_iter(),
            input_open: true,
            is_gone: false,
            written: 0,
        })
    }

    /// Returns `true` if lines wait that the core has not accepted.
    pub(super) fn has_lines(&self) -> bool {
        self.waiting.len() > 0
    }

    /// Passes at most `budget` lines to the core.
    pub(super) fn accept_lines(&mut self, client: ClientId, budget: usize, core: &mut Core, now: Now) {
        for _ in 0..budget {
            if !core.can_accept_command(client) {
                return;
            }
            let Some(line) = self.waiting.next() else {
                match self.input_open.then(|| self.pipe.input.try_recv()).flatten() {
                    Some(chunk) => self.on_chunk(client, chunk, core, now),
                    None => return,
                }
                continue;
            };
            let input = match line {
                Ok(request) => Input::Command { client, request },
                Err(error) => Input::BadLine { client, error },
            };
            core.handle(input, now);
        }
    }

    /// Handles what was read.
    pub(super) fn on_chunk(&mut self, client: ClientId, chunk: InputChunk, core: &mut Core, now: Now) {
        match chunk {
            InputChunk::Lines(lines) => self.waiting = lines.into_iter(),
            InputChunk::Ended | InputChunk::Failed(_) => {
                self.input_open = false;
                self.is_gone = self.has_hung_up();
                let event = if self.is_gone { ClientEvent::Detached } else { ClientEvent::InputEnded };
                core.handle(Input::Client { client, event }, now);
            }
        }
    }

    /// Returns `true` if the client has closed both directions, as the end of a process does.
    fn has_hung_up(&self) -> bool {
        let mut polled = [PollFd::new(&self.stream, PollFlags::OUT)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&at_once)).is_err()
            || polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Polls for lines, unless some wait already.
    pub(super) fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<InputChunk> {
        if !self.input_open || self.has_lines() {
            return Poll::Pending;
        }
        self.pipe.input.poll_recv(cx).map(|chunk| chunk.unwrap_or(InputChunk::Ended))
    }

    /// Reports the progress of the writer to the core. Returns `true` if it wrote lines.
    pub(super) fn poll_writer(&mut self, client: ClientId, core: &mut Core, now: Now) -> bool {
        let written = self.pipe.progress.written();
        let lines = (written - self.written) as usize;
        if lines > 0 {
            self.written = written;
            core.handle(Input::Written { client, lines }, now);
        }
        lines > 0
    }

    /// Returns `true` if nothing can be written any more.
    pub(super) fn is_closed(&self) -> bool {
        self.is_gone || self.pipe.progress.closed()
    }

    /// Writes lines, without waiting.
    pub(super) fn send(&self, lines: Vec<Line>) {
        if let Err(error) = self.pipe.output.send(lines) {
            tracing::debug!("events were not written to a client: {error}");
        }
    }
}

impl Drop for Connection {
    /// Ends the writer too, which may wait for a client that does not read.
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
