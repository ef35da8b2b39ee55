//! The file of the peer book in the data directory: JSON, with the peers of one network.
//!
//! The book is no part of the store: a lost book costs nothing but a bootstrap peer, so it is
//! written rarely, and a damaged file counts as empty.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use p2p_node_core::source::KnownPeer;

/// Maximum size of the file in bytes: 128 peers with 4 addresses of 250 bytes.
const MAX_FILE_BYTES: u64 = 256 << 10;
/// Version of the file.
const VERSION: u32 = 1;

/// The content of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    peers: Vec<Row>,
}

/// A peer in the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    peer_id: String,
    addrs: Vec<String>,
    last_seen_ms: u64,
    serves_dht: bool,
    is_anchor: bool,
}

impl From<&KnownPeer> for Row {
    fn from(known: &KnownPeer) -> Self {
        Row {
            peer_id: known.peer.to_string(),
            addrs: known.addrs.iter().map(ToString::to_string).collect(),
            last_seen_ms: known.last_seen_ms,
            serves_dht: known.serves_dht,
            is_anchor: known.is_anchor,
        }
    }
}

impl Row {
    /// Returns the peer. Returns `None` if its PeerId or all addresses are invalid.
    fn known(&self) -> Option<KnownPeer> {
        let peer: PeerId = self.peer_id.parse().ok()?;
        let addrs: Vec<Multiaddr> = self.addrs.iter().filter_map(|addr| addr.parse().ok()).collect();
        let known = KnownPeer {
            peer,
            addrs,
            last_seen_ms: self.last_seen_ms,
            serves_dht: self.serves_dht,
            is_anchor: self.is_anchor,
        };
        (!known.addrs.is_empty()).then_some(known)
    }
}

/// The peer book of a data directory and a network.
#[derive(Debug)]
pub struct PeerBook {
    path: PathBuf,
    /// The write that runs.
    write: Option<JoinHandle<()>>,
}

impl PeerBook {
    /// Names the file of a network. Opens nothing.
    pub fn new(data_dir: &Path, network: &str) -> Self {
        PeerBook { path: data_dir.join(file_name(network)), write: None }
    }

    /// Reads the peers. A missing or damaged file has none.
    pub fn read(&self) -> Vec<KnownPeer> {
        match read(&self.path) {
            Ok(peers) => peers,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(
                    "the peer book {} cannot be read and starts empty: {error}",
                    self.path.display()
                );
                Vec::new()
            }
        }
    }

    /// Writes the peers in the background, replacing the earlier ones. Writes nothing while an
    /// earlier write runs: the core writes once a minute, so the disk hangs.
    pub fn write(&mut self, peers: Vec<KnownPeer>) {
        if !self.write.as_ref().is_none_or(JoinHandle::is_finished) {
            return;
        }
        let path = self.path.clone();
        self.write = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = write(&path, &peers) {
                tracing::warn!("the peer book {} cannot be written: {error}", path.display());
            }
        }));
    }

    /// Waits for the write that runs.
    pub async fn close(self) {
        if let Some(write) = self.write {
            // Fails only if the write panicked, which ends the process.
            let _ = write.await;
        }
    }
}

/// Returns the name of the file of a network.
pub fn file_name(network: &str) -> String {
    format!("node.peers-{network}")
}

fn read(path: &Path) -> io::Result<Vec<KnownPeer>> {
    let mut text = String::new();
    OpenOptions::new().read(true).open(path)?.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    let content: Content = serde_json::from_str(&text)?;
    if content.version != VERSION {
        return Err(io::Error::other(format!("unknown version {}", content.version)));
    }
    Ok(content.peers.iter().filter_map(Row::known).collect())
}

/// Writes the file under a temporary name and renames it, so that a crash leaves one of the two.
fn write(path: &Path, peers: &[KnownPeer]) -> io::Result<()> {
    let content = Content { version: VERSION, peers: peers.iter().map(Row::from).collect() };
    let text = serde_json::to_vec_pretty(&content)?;
    let temporary = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&text)?;
    file.sync_data()?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(port: u16) -> KnownPeer {
        let addr = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address");
        KnownPeer {
            peer: PeerId::random(),
            addrs: vec![addr],
            last_seen_ms: 7,
            serves_dht: true,
            is_anchor: true,
        }
    }

    #[tokio::test]
    async fn book_reads_what_it_wrote_and_networks_are_apart() {
        let home = tempfile::tempdir().expect("a directory");
        let peers = vec![known(1), known(2)];
        let mut book = PeerBook::new(home.path(), "dev");
        assert!(book.read().is_empty());
        book.write(peers.clone());
        book.close().await;
        assert_eq!(PeerBook::new(home.path(), "dev").read(), peers);
        assert!(PeerBook::new(home.path(), "main").read().is_empty());
    }

    #[test]
    fn damaged_file_is_an_empty_book_and_damaged_rows_are_left_out() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join(file_name("dev"));
        let read = |text: &str| {
            fs::write(&path, text).expect("written");
            PeerBook::new(home.path(), "dev").read()
        };
        let peer = known(1);
        let row = |id: &str| {
            format!(
                r#"{{"peerId":"{id}","addrs":["/ip4/127.0.0.1/tcp/1"],"lastSeenMs":7,"servesDht":true,"isAnchor":true}}"#
            )
        };
        let rows = format!("{},{}", row("nonsense"), row(&peer.peer.to_string()));
        assert_eq!(read(&format!(r#"{{"version":1,"peers":[{rows}]}}"#)), [peer]);
        assert!(read(&format!(r#"{{"version":2,"peers":[{rows}]}}"#)).is_empty());
        assert!(read("{").is_empty());
    }
}
