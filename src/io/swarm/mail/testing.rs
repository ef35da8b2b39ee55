//! A stream in memory for the tests of this module.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};

#[derive(Debug)]
struct Half {
    bytes: VecDeque<u8>,
    capacity: usize,
    is_closed: bool,
}

impl Half {
    fn new() -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Half { bytes: VecDeque::new(), capacity: usize::MAX, is_closed: false }))
    }
}

/// One end of a stream in memory. A test polls it by hand, so it wakes nobody.
#[derive(Debug)]
pub(super) struct End {
    input: Arc<Mutex<Half>>,
    output: Arc<Mutex<Half>>,
}

/// Returns both ends of a stream.
pub(super) fn stream() -> (End, End) {
    let (a, b) = (Half::new(), Half::new());
    (End { input: Arc::clone(&a), output: Arc::clone(&b) }, End { input: b, output: a })
}

impl End {
    /// Limits the bytes that the other end can write before this end reads them.
    pub(super) fn set_capacity(&self, bytes: usize) {
        self.input.lock().unwrap().capacity = bytes;
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut half = self.input.lock().unwrap();
        if half.bytes.is_empty() && !half.is_closed {
            return Poll::Pending;
        }
        let length = buffer.len().min(half.bytes.len());
        half.bytes.drain(..length).zip(buffer).for_each(|(byte, place)| *place = byte);
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let mut half = self.output.lock().unwrap();
        if half.is_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let length = buffer.len().min(half.capacity.saturating_sub(half.bytes.len()));
        if length == 0 && !buffer.is_empty() {
            return Poll::Pending;
        }
        half.bytes.extend(&buffer[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.output.lock().unwrap().is_closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.input.lock().unwrap().is_closed = true;
        self.output.lock().unwrap().is_closed = true;
    }
}
