//! The frames of `files/1`; see `docs/wire-protocol.md`.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use p2p_node_core::file_io::FileHash;
use tokio::time::timeout;

use super::content::Range;

/// Time in which a peer must read or write some bytes. Our choice: a peer on a bad connection makes some progress
/// in it, and one that makes none is gone.
const STALL: Duration = Duration::from_secs(30);

/// Bytes that are read or written at once, so that each is progress.
const STEP_BYTES: usize = 64 << 10;

/// Length of a request for a range, in bytes.
const REQUEST_BYTES: usize = 8 + 4;

/// The answer of the sender to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It sends what was asked for.
    Ok = 0,
    /// It does not offer the file to the peer, or has too many transfers.
    Refused = 1,
    /// The file is not what it was.
    Changed = 2,
}

/// Reads the hash of the file that a peer wants.
///
/// # Errors
/// Fails if the stream ends or stalls.
pub async fn read_hash(io: &mut (impl AsyncRead + Unpin)) -> io::Result<FileHash> {
    let mut hash = [0; 32];
    read_exact(io, &mut hash).await?;
    Ok(hash)
}

/// Writes bytes, as long as the peer takes some.
///
/// # Errors
/// Fails if the stream ends or stalls.
pub async fn write_all(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    for step in bytes.chunks(STEP_BYTES) {
        in_time(io.write_all(step)).await?;
    }
    in_time(io.flush()).await
}

/// Fills a buffer, as long as bytes come.
///
/// # Errors
/// Fails if the stream ends or stalls.
pub async fn read_exact(io: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> io::Result<()> {
    for step in buffer.chunks_mut(STEP_BYTES) {
        in_time(io.read_exact(step)).await?;
    }
    Ok(())
}

async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(STALL, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Reads the status of an answer. `None` stands for a status that this version does not know.
///
/// # Errors
/// Fails if the stream ends or stalls.
pub async fn read_status(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Status>> {
    let mut status = [0];
    read_exact(io, &mut status).await?;
    Ok(match status[0] {
        0 => Some(Status::Ok),
        1 => Some(Status::Refused),
        2 => Some(Status::Changed),
        _ => None,
    })
}

/// Returns a request for a range, or, without one, the notice that the peer has the whole file.
pub fn request(range: Option<Range>) -> [u8; REQUEST_BYTES] {
    let Range { offset, length } = range.unwrap_or(Range { offset: 0, length: 0 });
    let mut request = [0; REQUEST_BYTES];
    request[..8].copy_from_slice(&offset.to_be_bytes());
    request[8..].copy_from_slice(&(length as u32).to_be_bytes());
    request
}

/// Reads a request for a range. `None`: the peer has the whole file.
///
/// # Errors
/// Fails if the stream ends or stalls.
pub async fn read_request(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Range>> {
    let mut request = [0; REQUEST_BYTES];
    read_exact(io, &mut request).await?;
    let (offset, length) = request.split_at(8);
    let offset = u64::from_be_bytes(offset.try_into().unwrap_or_default());
    let length = u64::from(u32::from_be_bytes(length.try_into().unwrap_or_default()));
    Ok((length > 0).then_some(Range { offset, length }))
}

/// Returns the head of an answer with an encoded range.
pub fn answer_head(encoded: usize) -> [u8; 5] {
    let mut head = [Status::Ok as u8; 5];
    head[1..].copy_from_slice(&(encoded as u32).to_be_bytes());
    head
}

/// Reads the length of an encoded range. Returns `None` if it is more than `max`.
///
/// # Errors
/// Fails if the stream ends or stalls.
pub async fn read_length(io: &mut (impl AsyncRead + Unpin), max: u64) -> io::Result<Option<usize>> {
    let mut length = [0; 4];
    read_exact(io, &mut length).await?;
    let length = u32::from_be_bytes(length);
    Ok((u64::from(length) <= max).then_some(length as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_survive_a_round_trip() {
        let range = Range { offset: 1 << 40, length: 1 << 20 };
        assert_eq!(read_request(&mut &request(Some(range))[..]).await.unwrap(), Some(range));
        assert_eq!(read_request(&mut &request(None)[..]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn lengths_above_the_limit_are_refused_before_anything_is_read() {
        let head = answer_head(1000);
        assert_eq!(read_length(&mut &head[1..], 1000).await.unwrap(), Some(1000));
        assert_eq!(read_length(&mut &head[1..], 999).await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_unknown_status_is_recognised() {
        let known = [Some(Status::Ok), Some(Status::Refused), Some(Status::Changed), None];
        for (byte, status) in known.into_iter().enumerate() {
            assert_eq!(read_status(&mut &[byte as u8][..]).await.unwrap(), status);
        }
    }
}
