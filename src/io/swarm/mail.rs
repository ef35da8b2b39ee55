//! Codec of `hello/1` and `mail/1`: each stream carries one request and one response, each with a
//! length prefix.

mod memory_budget;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response;

use memory_budget::MemoryBudget;

/// Maximum size of a `Hello` in either direction, in bytes: a record of at most 2.5 KiB, and
/// reserve for future fields.
pub const MAX_HELLO: usize = 4 << 10;

/// Maximum size of a mail frame, in bytes: one message of at most 1 MiB − 8 KiB, and 16 KiB for
/// encryption, signature and fields.
pub const MAX_MAIL: usize = (1 << 20) + (8 << 10);

/// Maximum size of a response to a mail frame, in bytes. An ack has less than 1 KiB, a record with
/// `KEM_UNKNOWN` less than 4 KiB; the rest is reserve for later versions.
pub const MAX_MAIL_RESPONSE: usize = 64 << 10;

/// Step in which the reader allocates memory while a message arrives, in bytes. Announcing a large
/// message therefore allocates nothing. Usual mail frames have about this size and need one step.
const READ_STEP: usize = 64 << 10;

/// Number of message bytes that are written together with the length. A Yamux frame holds at most
/// 16 KiB, and a separate frame for the four length bytes would cost as much as this copy.
const FIRST_WRITE: usize = (16 << 10) - LENGTH;

/// Limit of the bytes that arrive on one connection at once, in requests of maximum size: as many
/// as the QUIC window allows. Our sender has at most two in flight (1 MiB, and the frame that
/// exceeds it). Without the limit each of 128 streams could stop before its end and pin 1 MiB until
/// the timeout.
const MAX_ARRIVING: usize = 4;

/// Limit of the bytes that arrive on all connections at once, in requests of maximum size: 64 MiB,
/// as much as 16 connections may have. Without the limit 1,000 connections could pin 4 GiB.
const MAX_ARRIVING_IN_ALL: usize = 64;

/// Size of the length prefix, in bytes: a big-endian `u32`.
const LENGTH: usize = 4;

/// Counts requests that were too long, incomplete or too slow, because libp2p drops them without an
/// event.
#[derive(Clone, Debug, Default)]
pub(super) struct FailedReads(Arc<AtomicU64>);

impl FailedReads {
    /// Returns the number of failed requests since the last call.
    pub(super) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// Request that is arriving. Dropping it before its end counts as a failed request.
struct InboundRead<'a> {
    codec: &'a Codec,
    taken: usize,
    arrived: bool,
}

impl InboundRead<'_> {
    /// Reserves memory for more bytes. Fails if the limits do not allow it.
    fn reserve_memory(&mut self, bytes: usize) -> io::Result<()> {
        let Some(budget) = self.codec.budget.as_deref() else { return Ok(()) };
        if !budget.try_reserve(bytes) {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many bytes are arriving at once"));
        }
        self.taken += bytes;
        Ok(())
    }
}

impl Drop for InboundRead<'_> {
    fn drop(&mut self) {
        if let Some(budget) = self.codec.budget.as_deref() {
            budget.release(self.taken);
        }
        if !self.arrived {
            self.codec.failed_reads.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Codec for one length-prefixed message in each direction.
#[derive(Debug)]
pub(super) struct Codec {
    /// Maximum size of a request, in bytes.
    max_request: usize,
    /// Maximum size of a response, in bytes.
    max_response: usize,
    /// Counter of requests that could not be read.
    failed_reads: FailedReads,
    /// Memory budget of the connection, shared by its streams. `None` in the template of the
    /// protocol.
    budget: Option<Arc<MemoryBudget>>,
    /// Remaining bytes of the budget that all connections share.
    shared: Arc<AtomicUsize>,
}

impl Codec {
    /// Creates the codec template of a protocol, which libp2p clones.
    pub(super) fn new(max_request: usize, max_response: usize, failed_reads: FailedReads) -> Self {
        let shared = Arc::new(AtomicUsize::new(MAX_ARRIVING_IN_ALL * max_request));
        Self { max_request, max_response, failed_reads, budget: None, shared }
    }
}

/// libp2p clones the codec of a protocol for each connection, and that one for each of its streams.
impl Clone for Codec {
    fn clone(&self) -> Self {
        let fresh = || Arc::new(MemoryBudget::new(MAX_ARRIVING * self.max_request, Arc::clone(&self.shared)));
        let budget = self.budget.clone().unwrap_or_else(fresh);
        let shared = Arc::clone(&self.shared);
        Self { failed_reads: self.failed_reads.clone(), budget: Some(budget), shared, ..*self }
    }
}

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Bytes;
    type Response = Bytes;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Bytes>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut arriving = InboundRead { codec: self, taken: 0, arrived: false };
        let request = read(io, self.max_request, |bytes| arriving.reserve_memory(bytes)).await;
        arriving.arrived = request.is_ok();
        request
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Bytes>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.max_response, |_| Ok(())).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Bytes) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, self.max_request, &request).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: Bytes) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, self.max_response, &response).await
    }
}

/// Reads a message. Reserves budget for each part before it allocates memory.
async fn read(
    io: &mut (impl AsyncRead + Unpin),
    max: usize,
    mut reserve_memory: impl FnMut(usize) -> io::Result<()>,
) -> io::Result<Bytes> {
    let mut length = [0; LENGTH];
    io.read_exact(&mut length).await?;
    let length = check_length(u32::from_be_bytes(length) as usize, max)?;

    let mut message = Vec::new();
    while message.len() < length {
        let filled = message.len();
        let step = READ_STEP.min(length - filled);
        reserve_memory(step)?;
        message.reserve_exact(step.max(filled.min(length - filled)));
        message.resize(filled + step, 0);
        io.read_exact(&mut message[filled..]).await?;
    }
    Ok(message.into())
}

async fn write(io: &mut (impl AsyncWrite + Unpin), max: usize, message: &[u8]) -> io::Result<()> {
    let length = check_length(message.len(), max)? as u32;
    let (first, rest) = message.split_at(message.len().min(FIRST_WRITE));

    let mut head = Vec::with_capacity(LENGTH + first.len());
    head.extend_from_slice(&length.to_be_bytes());
    head.extend_from_slice(first);
    io.write_all(&head).await?;
    io.write_all(rest).await
}

fn check_length(length: usize, max: usize) -> io::Result<usize> {
    if length > max {
        let reason = format!("the message has {length} bytes, but at most {max} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures::FutureExt;
    use futures::executor::block_on;
    use futures::io::Cursor;
    use proptest::prelude::*;

    use libp2p::request_response::Codec as _;

    use super::*;

    /// Reader that returns its bytes and then blocks for ever.
    struct Stalled(Cursor<Vec<u8>>);

    impl AsyncRead for Stalled {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            match Pin::new(&mut self.0).poll_read(cx, buf) {
                Poll::Ready(Ok(0)) => Poll::Pending,
                other => other,
            }
        }
    }

    fn written(message: &[u8]) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        block_on(write(&mut out, usize::MAX >> 1, message)).unwrap();
        out.into_inner()
    }

    #[test]
    fn message_at_size_limit_is_read_and_larger_one_rejected() {
        for size in [0, 1, FIRST_WRITE, FIRST_WRITE + 1, READ_STEP, READ_STEP + 1, MAX_MAIL] {
            let message = vec![7; size];
            let wire = written(&message);
            assert_eq!(block_on(read(&mut wire.as_slice(), size, |_| Ok(()))).unwrap(), message);
            if let Some(less) = size.checked_sub(1) {
                let kind = block_on(read(&mut wire.as_slice(), less, |_| Ok(()))).unwrap_err().kind();
                assert_eq!(kind, io::ErrorKind::InvalidData);
                let kind = block_on(write(&mut Cursor::new(Vec::new()), less, &message)).unwrap_err().kind();
                assert_eq!(kind, io::ErrorKind::InvalidData);
            }
        }
    }

    #[test]
    fn length_above_limit_is_rejected_before_content_arrives() {
        let mut io = Stalled(Cursor::new(u32::MAX.to_be_bytes().to_vec()));
        assert!(block_on(read(&mut io, MAX_MAIL, |_| Ok(()))).is_err());
    }

    #[test]
    fn truncated_message_is_an_error() {
        let wire = written(&[1, 2, 3]);
        for end in 0..wire.len() {
            let kind = block_on(read(&mut &wire[..end], MAX_MAIL, |_| Ok(()))).unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::UnexpectedEof);
        }
    }

    /// Reader that records the largest buffer it was given.
    struct Announced {
        head: Cursor<Vec<u8>>,
        largest_offer: usize,
    }

    impl AsyncRead for Announced {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            self.largest_offer = self.largest_offer.max(buf.len());
            Pin::new(&mut self.head).poll_read(cx, buf)
        }
    }

    #[test]
    fn incomplete_request_counts_as_failed_read() {
        let mut codec = Codec::new(2, 0, FailedReads::default());
        let protocol = StreamProtocol::new("/mail");
        let mut request = |mut wire: &[u8]| {
            block_on(codec.read_request(&protocol, &mut wire)).ok();
            codec.failed_reads.take()
        };
        assert_eq!(request(&written(&[1, 2])), 0);
        assert_eq!(request(&written(&[1, 2])[..5]), 1);
        assert_eq!(request(&written(&[1, 2, 3])), 1);
        let mut stalled = Stalled(Cursor::new(vec![0]));
        drop(std::pin::pin!(codec.read_request(&protocol, &mut stalled)).now_or_never());
        assert_eq!(codec.failed_reads.take(), 1);
    }

    #[test]
    fn streams_of_connection_share_and_release_memory_budget() {
        let protocol = StreamProtocol::new("/mail");
        let root = Codec::new(100, 0, FailedReads::default());
        let connection = root.clone();
        let budget = |codec: &Codec| 400 - codec.budget.as_ref().unwrap().used();
        let mut short = written(&[7; 100]);
        short.truncate(50);
        let (mut streams, mut ios) = (vec![connection.clone(); 5], vec![]);
        ios.resize_with(5, || Stalled(Cursor::new(short.clone())));
        let mut reads: Vec<_> = streams
            .iter_mut()
            .zip(&mut ios)
            .map(|(codec, io)| Box::pin(codec.read_request(&protocol, io)))
            .collect();
        let ended: Vec<bool> = reads.iter_mut().map(|read| read.now_or_never().is_some()).collect();
        assert_eq!(ended, [false, false, false, false, true], "there is no budget for a fifth");
        assert_eq!((budget(&connection), budget(&root.clone())), (0, 400));
        drop(reads);
        assert_eq!(budget(&connection), 400);
        assert_eq!(root.failed_reads.take(), 5);
    }

    #[test]
    fn announced_length_reserves_only_one_read_step() {
        let head = Cursor::new((1u32 << 20).to_be_bytes().to_vec());
        let mut io = Announced { head, largest_offer: 0 };
        assert!(block_on(read(&mut io, MAX_MAIL, |_| Ok(()))).is_err());
        assert_eq!(io.largest_offer, READ_STEP);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_nor_exceed_limit(
            wire in proptest::collection::vec(any::<u8>(), 0..256),
            max in 0usize..128,
        ) {
            if let Ok(message) = block_on(read(&mut wire.as_slice(), max, |_| Ok(()))) {
                prop_assert!(message.len() <= max);
                prop_assert_eq!(&message[..], &wire[LENGTH..LENGTH + message.len()]);
            }
        }

        #[test]
        fn written_message_is_read_unchanged(message in proptest::collection::vec(any::<u8>(), 0..40_000)) {
            prop_assert_eq!(block_on(read(&mut written(&message).as_slice(), MAX_MAIL, |_| Ok(()))).unwrap(), message);
        }
    }
}
