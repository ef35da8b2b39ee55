//! Sends a file to a peer.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::AsyncReadExt;
use p2p_node_core::file_io::{FileHash, ServeEnd};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::content::{Range, Tree, encode, open_regular, read_tree};
use super::framing::{Status, answer_head, read_request, write_all};
use super::trees::Trees;
use crate::io::byte_streams::BoxedStream;

/// Time in which the peer must ask for something. Our choice: it writes what it has to a slow disk meanwhile, or
/// reads what left over a slow connection.
const IDLE: Duration = Duration::from_secs(600);

/// A file as it was offered.
pub struct Offered {
    pub path: PathBuf,
    pub hash: FileHash,
    pub size: u64,
}

/// Refuses a request for a file.
pub async fn refuse(mut stream: BoxedStream) {
    // The peer learns the same from the end of the stream.
    let _ = write_all(&mut stream, &[Status::Refused as u8]).await;
}

/// Sends a file to the peer, as it asks for ranges. `progress` gets the position after each range.
pub async fn serve(
    stream: BoxedStream,
    offered: Offered,
    trees: Arc<Trees>,
    progress: impl FnMut(Range),
) -> ServeEnd {
    let (mut reader, mut writer) = stream.split();
    let size = offered.size;
    let opened = spawn_blocking(move || open(&offered, &trees)).await;
    let Ok(Some((file, tree))) = opened else {
        let _ = write_all(&mut writer, &[Status::Changed as u8]).await;
        return ServeEnd::Changed;
    };
    if write_all(&mut writer, &[Status::Ok as u8]).await.is_err() {
        return ServeEnd::Broken;
    }
    // The next range is read while the last one leaves.
    let (ranges, encoded) = mpsc::channel(1);
    let reading = async move {
        loop {
            let range = match timeout(IDLE, read_request(&mut reader)).await {
                Ok(Ok(None)) => return ServeEnd::Complete,
                Ok(Ok(Some(range))) if range.is_valid(size) => range,
                _ => return ServeEnd::Broken,
            };
            let (file, tree) = (Arc::clone(&file), Arc::clone(&tree));
            let encoded = spawn_blocking(move || encode(&file, &tree, range)).await;
            let Ok(Ok(Some(encoded))) = encoded else {
                let _ = ranges.send(None).await;
                return ServeEnd::Changed;
            };
            if ranges.send(Some((range, encoded))).await.is_err() {
                return ServeEnd::Broken;
            }
        }
    };
    let writing = write_ranges(&mut writer, encoded, progress);
    let (end, written) = tokio::join!(reading, writing);
    match written {
        Ok(()) => end,
        Err(_) if end == ServeEnd::Changed => end,
        Err(_) => ServeEnd::Broken,
    }
}

async fn write_ranges(
    writer: &mut (impl futures::AsyncWrite + Unpin),
    mut encoded: mpsc::Receiver<Option<(Range, Vec<u8>)>>,
    mut progress: impl FnMut(Range),
) -> io::Result<()> {
    while let Some(next) = encoded.recv().await {
        let Some((range, encoded)) = next else { return write_all(writer, &[Status::Changed as u8]).await };
        write_all(writer, &answer_head(encoded.len())).await?;
        write_all(writer, &encoded).await?;
        progress(range);
    }
    Ok(())
}

/// Opens a file with its tree. Returns `None` if it is not what was offered.
fn open(offered: &Offered, trees: &Trees) -> Option<(Arc<File>, Arc<Tree>)> {
    let (file, size) = open_regular(&offered.path).ok()?;
    if size != offered.size {
        return None;
    }
    let tree = match trees.get(&offered.hash) {
        Some(tree) => tree,
        None => trees.insert(read_tree(&file, size).ok()?),
    };
    (tree.root.as_bytes() == &offered.hash).then(|| (Arc::new(file), tree))
}
