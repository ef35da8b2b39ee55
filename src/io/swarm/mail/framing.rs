//! Frames of a mail stream: each has a length, an id and a body, in both directions.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite};

/// Size of the header, in bytes: the length of the body and the id of the request, each a big-endian
/// `u32`.
pub(super) const HEADER: usize = 8;

/// Number of bytes in one write: as many as one Yamux frame holds. Small frames share a write; a
/// large body starts in the write of its header.
const WRITE_BYTES: usize = 16 << 10;

/// Step in which the reader allocates memory while a body arrives, in bytes. Announcing a large body
/// therefore allocates nothing. Usual frames have about this size and need one step.
pub(super) const READ_STEP: usize = 64 << 10;

/// Largest write buffer that an idle stream keeps, in bytes.
const KEPT_BUFFER: usize = 2 << 10;

/// Writes queued frames in order, several in one write.
#[derive(Debug, Default)]
pub(super) struct FrameWriter {
    queue: VecDeque<(u32, Bytes)>,
    /// Bytes of the current write, of which `written` have left.
    buffer: Vec<u8>,
    written: usize,
    /// Rest of the body that starts in `buffer`.
    rest: Bytes,
    needs_flush: bool,
}

impl FrameWriter {
    /// Queues a frame. The caller limits the number of frames and their size.
    pub(super) fn push(&mut self, id: u32, body: Bytes) {
        self.queue.push_back((id, body));
    }

    fn has_bytes(&self) -> bool {
        self.written < self.buffer.len() || !self.rest.is_empty()
    }

    /// Writes until everything is written and flushed, or the stream has no room.
    ///
    /// # Errors
    /// Fails if the stream was closed.
    pub(super) fn poll(
        &mut self,
        mut io: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.has_bytes() {
                self.fill();
            }
            let bytes = match &self.buffer[self.written..] {
                [] => &self.rest[..],
                bytes => bytes,
            };
            if bytes.is_empty() {
                break;
            }
            let length = ready!(io.as_mut().poll_write(cx, bytes))?;
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
            if self.written < self.buffer.len() {
                self.written += length;
            } else {
                self.rest = self.rest.split_off(length);
            }
        }
        if self.needs_flush {
            ready!(io.as_mut().poll_flush(cx))?;
            self.needs_flush = false;
        }
        if self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = Vec::new();
            self.written = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Puts the next frames into the buffer.
    fn fill(&mut self) {
        self.buffer.clear();
        self.written = 0;
        while self.rest.is_empty() && self.buffer.len() + HEADER < WRITE_BYTES {
            let Some((id, body)) = self.queue.pop_front() else { return };
            self.buffer.extend_from_slice(&(body.len() as u32).to_be_bytes());
            self.buffer.extend_from_slice(&id.to_be_bytes());
            let first = body.len().min(WRITE_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(&body[..first]);
            self.rest = body.slice(first..);
        }
    }
}

/// Reads frames. Reserves memory for each part of a body before it allocates the memory.
#[derive(Debug)]
pub(super) struct FrameReader {
    /// Largest body, in bytes.
    max: usize,
    header: [u8; HEADER],
    /// Bytes of the header that have arrived.
    header_filled: usize,
    /// The part of the body for which memory was reserved.
    body: Vec<u8>,
    /// Bytes of the body that have arrived.
    filled: usize,
}

impl FrameReader {
    /// Creates a reader of bodies with at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        FrameReader { max, header: [0; HEADER], header_filled: 0, body: Vec::new(), filled: 0 }
    }

    /// Returns `true` if a part of a frame has arrived.
    pub(super) fn is_within_frame(&self) -> bool {
        self.header_filled > 0
    }

    /// Reads the next frame: its id and its body. Returns `None` if the stream ends between two
    /// frames.
    ///
    /// # Errors
    /// Fails if the stream fails or ends within a frame, if the body is too long, or if `reserve`
    /// fails.
    pub(super) fn poll(
        &mut self,
        mut io: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
        mut reserve: impl FnMut(usize) -> io::Result<()>,
    ) -> Poll<io::Result<Option<(u32, Bytes)>>> {
        while self.header_filled < HEADER {
            match ready!(io.as_mut().poll_read(cx, &mut self.header[self.header_filled..]))? {
                0 if self.header_filled == 0 => return Poll::Ready(Ok(None)),
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                length => self.header_filled += length,
            }
        }
        let [l0, l1, l2, l3, i0, i1, i2, i3] = self.header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        check_length(length, self.max)?;
        while self.filled < length {
            if self.filled == self.body.len() {
                let step = READ_STEP.min(length - self.filled);
                reserve(step)?;
                self.body.reserve_exact(step.max(self.filled.min(length - self.filled)));
                self.body.resize(self.filled + step, 0);
            }
            match ready!(io.as_mut().poll_read(cx, &mut self.body[self.filled..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                read => self.filled += read,
            }
        }
        self.header_filled = 0;
        self.filled = 0;
        let id = u32::from_be_bytes([i0, i1, i2, i3]);
        Poll::Ready(Ok(Some((id, std::mem::take(&mut self.body).into()))))
    }
}

/// Checks the length of a body.
///
/// # Errors
/// Fails if it is longer than `max`.
pub(super) fn check_length(length: usize, max: usize) -> io::Result<()> {
    if length > max {
        let reason = format!("the message has {length} bytes, but at most {max} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures::io::Cursor;
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1 << 20;

    /// Reader that returns its bytes and then blocks for ever, and records the largest buffer that
    /// it was given.
    struct Stalled {
        bytes: Cursor<Vec<u8>>,
        largest_offer: usize,
    }

    impl AsyncRead for Stalled {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            self.largest_offer = self.largest_offer.max(buf.len());
            match Pin::new(&mut self.bytes).poll_read(cx, buf) {
                Poll::Ready(Ok(0)) => Poll::Pending,
                other => other,
            }
        }
    }

    fn noop() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn written(frames: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut writer = FrameWriter::default();
        frames.iter().for_each(|(id, body)| writer.push(*id, Bytes::copy_from_slice(body)));
        let mut out = Cursor::new(Vec::new());
        assert!(matches!(writer.poll(Pin::new(&mut out), &mut noop()), Poll::Ready(Ok(()))));
        out.into_inner()
    }

    type Frames = Vec<(u32, Vec<u8>)>;

    fn read_all(mut wire: &[u8], max: usize) -> (Frames, io::Result<()>) {
        let mut reader = FrameReader::new(max);
        let mut frames = Vec::new();
        loop {
            match reader.poll(Pin::new(&mut wire), &mut noop(), |_| Ok(())) {
                Poll::Ready(Ok(Some((id, body)))) => frames.push((id, body.to_vec())),
                Poll::Ready(Ok(None)) => return (frames, Ok(())),
                Poll::Ready(Err(error)) => return (frames, Err(error)),
                Poll::Pending => unreachable!("a slice is always ready"),
            }
        }
    }

    #[test]
    fn a_body_of_the_largest_size_passes_and_one_byte_more_fails() {
        for size in [0, 1, WRITE_BYTES - HEADER, WRITE_BYTES, READ_STEP, READ_STEP + 1, MAX] {
            let frames = vec![(9, vec![7; size]), (10, vec![8])];
            let wire = written(&frames);
            let (read, end) = read_all(&wire, size.max(1));
            assert!(read == frames && end.is_ok(), "{size}");
            if size > 1 {
                let error = read_all(&wire, size - 1).1.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            }
        }
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_is_an_error() {
        let wire = written(&[(1, vec![1, 2, 3])]);
        for end in 1..wire.len() {
            assert_eq!(read_all(&wire[..end], MAX).1.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn an_announced_megabyte_reserves_one_step_only() {
        let mut header = (1u32 << 20).to_be_bytes().to_vec();
        header.extend([0; 4]);
        let mut io = Stalled { bytes: Cursor::new(header), largest_offer: 0 };
        let mut reader = FrameReader::new(MAX);
        let mut reserved = 0;
        let read = reader.poll(Pin::new(&mut io), &mut noop(), |bytes| {
            reserved += bytes;
            Ok(())
        });
        assert!(read.is_pending() && reader.is_within_frame());
        assert_eq!((reserved, io.largest_offer), (READ_STEP, READ_STEP));
    }

    #[test]
    fn small_frames_share_a_write_and_an_idle_writer_keeps_a_small_buffer() {
        let mut writer = FrameWriter::default();
        (0..100).for_each(|id| writer.push(id, Bytes::from_static(&[0; 100])));
        writer.fill();
        assert_eq!((writer.buffer.len(), writer.queue.len()), (100 * (HEADER + 100), 0));
        let mut out = Cursor::new(Vec::new());
        assert!(writer.poll(Pin::new(&mut out), &mut noop()).is_ready());
        assert!(writer.buffer.capacity() <= KEPT_BUFFER);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_nor_yield_more_than_allowed(
            wire in proptest::collection::vec(any::<u8>(), 0..256),
            max in 0usize..128,
        ) {
            let (frames, _) = read_all(&wire, max);
            prop_assert!(frames.iter().all(|(_, body)| body.len() <= max));
            prop_assert!(wire.starts_with(&written(&frames)));
        }

        #[test]
        fn written_frames_are_read(
            frames in proptest::collection::vec(
                (any::<u32>(), proptest::collection::vec(any::<u8>(), 0..40_000)), 0..8,
            ),
        ) {
            let (read, end) = read_all(&written(&frames), MAX);
            prop_assert!(end.is_ok());
            prop_assert_eq!(read, frames);
        }
    }
}
