//! Codec of `admission/1` and `find/1`: each stream carries one request and one response, each with a
//! length prefix.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response;
use p2p_node_wire::envelope::limits::{MAX_ADMISSION_BYTES, MAX_FIND_BYTES, MAX_FOUND_BYTES};

/// Maximum size of a step of admission in either direction, in bytes: a record and the other fields.
pub const MAX_ADMISSION: usize = MAX_ADMISSION_BYTES;

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
    failed_reads: &'a FailedReads,
    arrived: bool,
}

impl Drop for InboundRead<'_> {
    fn drop(&mut self) {
        if !self.arrived {
            self.failed_reads.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Codec for one request and one response. libp2p clones the codec for each stream.
#[derive(Clone, Debug)]
pub(super) struct Codec {
    failed_reads: FailedReads,
    max_request: usize,
    max_response: usize,
}

impl Codec {
    /// Creates the codec of admission.
    pub(super) fn admission(failed_reads: FailedReads) -> Self {
        Self { failed_reads, max_request: MAX_ADMISSION, max_response: MAX_ADMISSION }
    }

    /// Creates the codec of questions for agents.
    pub(super) fn find() -> Self {
        let failed_reads = FailedReads::default();
        Self { failed_reads, max_request: MAX_FIND_BYTES, max_response: MAX_FOUND_BYTES }
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
        let mut arriving = InboundRead { failed_reads: &self.failed_reads, arrived: false };
        let request = read(io, self.max_request).await;
        arriving.arrived = request.is_ok();
        request
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Bytes>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.max_response).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Bytes) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &request, self.max_request).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: Bytes) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &response, self.max_response).await
    }
}

async fn read(io: &mut (impl AsyncRead + Unpin), max: usize) -> io::Result<Bytes> {
    let mut length = [0; LENGTH];
    io.read_exact(&mut length).await?;
    let mut message = vec![0; check_length(u32::from_be_bytes(length) as usize, max)?];
    io.read_exact(&mut message).await?;
    Ok(message.into())
}

async fn write(io: &mut (impl AsyncWrite + Unpin), message: &[u8], max: usize) -> io::Result<()> {
    let length = check_length(message.len(), max)? as u32;
    io.write_all(&[&length.to_be_bytes(), message].concat()).await
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
    use futures::executor::block_on;
    use futures::io::Cursor;
    use futures::{FutureExt, TryStreamExt};
    use libp2p::request_response::Codec as _;
    use proptest::prelude::*;

    use super::*;

    fn written(message: &[u8]) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        block_on(write(&mut out, message, MAX_ADMISSION)).unwrap();
        out.into_inner()
    }

    #[test]
    fn a_message_of_the_largest_size_passes_and_one_byte_more_fails() {
        let message = vec![7; MAX_ADMISSION];
        assert_eq!(block_on(read(&mut written(&message).as_slice(), MAX_ADMISSION)).unwrap(), message);
        let too_long = vec![7; MAX_ADMISSION + 1];
        let kind =
            block_on(write(&mut Cursor::new(Vec::new()), &too_long, MAX_ADMISSION)).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::InvalidData);
        let announced = (MAX_ADMISSION as u32 + 1).to_be_bytes();
        let kind = block_on(read(&mut announced.as_slice(), MAX_ADMISSION)).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_message_that_does_not_arrive_whole_counts() {
        let mut codec = Codec::admission(FailedReads::default());
        let protocol = StreamProtocol::new("/admission");
        let whole = written(&[1, 2, 3]);
        for end in 0..whole.len() {
            let read = block_on(codec.read_request(&protocol, &mut &whole[..end]));
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(codec.failed_reads.take(), 1);
        }
        assert!(block_on(codec.read_request(&protocol, &mut whole.as_slice())).is_ok());
        assert_eq!(codec.failed_reads.take(), 0);
        let mut stalled = futures::stream::pending::<io::Result<Vec<u8>>>().into_async_read();
        drop(std::pin::pin!(codec.read_request(&protocol, &mut stalled)).now_or_never());
        assert_eq!(codec.failed_reads.take(), 1);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_nor_yield_more_than_allowed(
            wire in proptest::collection::vec(any::<u8>(), 0..256),
        ) {
            if let Ok(message) = block_on(read(&mut wire.as_slice(), MAX_ADMISSION)) {
                prop_assert_eq!(&message[..], &wire[LENGTH..LENGTH + message.len()]);
            }
        }

        #[test]
        fn a_message_is_read_if_it_is_not_too_long_and_arrives_whole(
            announced in 0..3 * MAX_ADMISSION, arrives in 0..3 * MAX_ADMISSION,
        ) {
            let wire = [&(announced as u32).to_be_bytes()[..], &vec![7; arrives]].concat();
            let kind = match block_on(read(&mut wire.as_slice(), MAX_ADMISSION)) {
                Ok(message) => {
                    prop_assert_eq!(message.len(), announced);
                    None
                }
                Err(error) => Some(error.kind()),
            };
            let expected = if announced > MAX_ADMISSION {
                Some(io::ErrorKind::InvalidData)
            } else {
                (arrives < announced).then_some(io::ErrorKind::UnexpectedEof)
            };
            prop_assert_eq!(kind, expected);
        }

        #[test]
        fn a_written_message_is_read(message in proptest::collection::vec(any::<u8>(), 0..=MAX_ADMISSION)) {
            prop_assert_eq!(block_on(read(&mut written(&message).as_slice(), MAX_ADMISSION)).unwrap(), message);
        }
    }
}
