//! Fetches a file from a peer.
//!
//! The node asks for one range after the other, a few ahead, and writes what it has checked. So the part of a file
//! on disk has everything up to its end, and its length says where to go on.

use std::fs::{File, OpenOptions, remove_file, rename};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite};
use p2p_node_core::file_io::{FetchFault, FileHash};
use p2p_node_store::disk::sync_name;
use rustix::fs::OFlags;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::content::{BLOCK_BYTES, Range, decode, hash_of, max_encoded};
use super::framing::{Status, read_exact, read_length, read_status, request, write_all};
use crate::io::byte_streams::BoxedStream;

/// Number of ranges that are on their way. Our choice: 4 MiB fill a connection of 300 Mbit/s and 100 ms.
const WINDOW: usize = 4;
/// Time in which the peer must begin to send. Our choice: it may have to read a file of 1 GiB from a slow disk
/// before.
const BEGIN: Duration = Duration::from_secs(300);

/// Where a file goes.
#[derive(Clone, Debug)]
pub struct Target {
    pub directory: PathBuf,
    /// Name of the file while it is incomplete.
    pub part: String,
    /// Name of the file when it is complete.
    pub name: String,
    pub hash: FileHash,
    pub size: u64,
    /// The file must outlive a loss of power, because the node acknowledges its message then.
    pub is_durable: bool,
}

/// A stream of which the node has the whole file, so that it can tell the peer.
pub type Writer = futures::io::WriteHalf<BoxedStream>;

fn disk(error: io::Error) -> FetchFault {
    FetchFault::Disk(error.to_string())
}

fn broken(_: io::Error) -> FetchFault {
    FetchFault::Broken
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchFault> + Send + 'static,
) -> Result<T, FetchFault> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(FetchFault::Disk(error.to_string())))
}

/// Fetches a file. `progress` gets the number of bytes that the node has, after each range. Returns the path, and
/// the half of the stream on which [`finish`] tells the peer.
///
/// # Errors
/// Fails if the connection, the peer or the disk fails. What was checked stays on disk.
pub async fn fetch(
    stream: BoxedStream,
    target: Target,
    progress: impl FnMut(u64),
) -> Result<(PathBuf, Writer), FetchFault> {
    let (mut reader, mut writer) = stream.split();
    let to_open = target.clone();
    let (file, begin) = blocking(move || open_part(&to_open).map_err(disk)).await?;
    write_all(&mut writer, &target.hash).await.map_err(broken)?;
    let status = timeout(BEGIN, read_status(&mut reader)).await.map_err(|_| FetchFault::Broken)?;
    check(status.map_err(broken)?)?;
    let file = Arc::new(file);
    copy(&mut reader, &mut writer, (&target, begin), &file, progress).await?;
    let path = blocking(move || complete(&file, &target, begin > 0)).await?;
    Ok((path, writer))
}

/// Tells the peer that this node has the file.
pub async fn finish(mut writer: Writer) {
    // If the peer does not learn it now, it offers the file again.
    let _ = write_all(&mut writer, &request(None)).await;
    let _ = futures::AsyncWriteExt::close(&mut writer).await;
}

fn check(status: Option<Status>) -> Result<(), FetchFault> {
    match status {
        Some(Status::Ok) => Ok(()),
        Some(Status::Refused) => Err(FetchFault::Refused),
        Some(Status::Changed) => Err(FetchFault::Changed),
        None => Err(FetchFault::Wrong),
    }
}

/// Copies the rest of the file.
async fn copy(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    (target, begin): (&Target, u64),
    file: &Arc<File>,
    mut progress: impl FnMut(u64),
) -> Result<(), FetchFault> {
    let (size, hash) = (target.size, target.hash);
    let (asked, mut expected) = mpsc::channel(WINDOW);
    let (bodies, mut arrived) = mpsc::channel(1);
    let reading = async move {
        while let Some(range) = expected.recv().await {
            let body = read_range(reader, range).await?;
            if bodies.send((range, body)).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let writing = async move {
        let mut next = begin;
        while next < size {
            while next < size && asked.capacity() > 0 {
                let range = Range::next(next, size);
                write_all(writer, &request(Some(range))).await.map_err(broken)?;
                // There is capacity, and the other end reads until this one ends.
                let _ = asked.try_send(range);
                next += range.length;
            }
            write_next(&mut arrived, file, hash, size, &mut progress).await?;
        }
        drop(asked);
        while write_next(&mut arrived, file, hash, size, &mut progress).await? {}
        Ok(())
    };
    tokio::try_join!(reading, writing).map(|_| ())
}

/// Checks and writes the next range. Returns `false` after the last one.
async fn write_next(
    arrived: &mut mpsc::Receiver<(Range, Vec<u8>)>,
    file: &Arc<File>,
    hash: FileHash,
    size: u64,
    progress: &mut impl FnMut(u64),
) -> Result<bool, FetchFault> {
    let Some((range, body)) = arrived.recv().await else { return Ok(false) };
    let file = Arc::clone(file);
    let is_proven = blocking(move || decode(&body, &hash, size, range, &file).map_err(disk)).await?;
    if !is_proven {
        return Err(FetchFault::Wrong);
    }
    progress(range.offset + range.length);
    Ok(true)
}

async fn read_range(reader: &mut (impl AsyncRead + Unpin), range: Range) -> Result<Vec<u8>, FetchFault> {
    check(read_status(reader).await.map_err(broken)?)?;
    let length = read_length(reader, max_encoded(range.length)).await.map_err(broken)?;
    let mut body = vec![0; length.ok_or(FetchFault::Wrong)?];
    read_exact(reader, &mut body).await.map_err(broken)?;
    Ok(body)
}

/// Opens the part of a file. Returns how much of it is there.
fn open_part(target: &Target) -> io::Result<(File, u64)> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(target.directory.join(&target.part))?;
    let length = file.metadata()?.len();
    let begin = match length {
        length if length > target.size => 0,
        length if length == target.size => length,
        length => length - length % BLOCK_BYTES,
    };
    file.set_len(begin)?;
    Ok((file, begin))
}

/// Gives a complete file its name. What an earlier process wrote is checked again, because the machine may have
/// lost a part of it.
fn complete(file: &File, target: &Target, is_resumed: bool) -> Result<PathBuf, FetchFault> {
    let part = target.directory.join(&target.part);
    if is_resumed || target.size == 0 {
        let is_same = hash_of(file).map_err(disk)? == target.hash;
        if !is_same {
            remove_file(&part).map_err(disk)?;
            return Err(if target.size == 0 { FetchFault::Wrong } else { FetchFault::Broken });
        }
    }
    if target.is_durable {
        file.sync_data().map_err(disk)?;
    }
    let path = target.directory.join(&target.name);
    rename(&part, &path).map_err(disk)?;
    if target.is_durable {
        sync_name(&path).map_err(disk)?;
    }
    Ok(path)
}
