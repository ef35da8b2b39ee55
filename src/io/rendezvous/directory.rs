//! The files of the rendezvous directory. Each node has one file, named by its agent and its
//! PeerId, with one address on each line. The node holds a lock on its file while it lives, so a
//! file without a lock is stale.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use alloy::primitives::Address;
use libp2p::{Multiaddr, PeerId};
use rustix::fs::OFlags;

use p2p_node_core::backoff::Jitter;
use p2p_node_core::source::{LocalNode, SourceCommand, SourceEvent};

/// Maximum number of directory entries that the node reads: our choice, more nodes than a machine
/// carries.
pub const MAX_ENTRIES: usize = 4096;
/// Maximum size of a file in bytes: a first line and 8 addresses, which have at most 1 KiB in a
/// record.
pub const MAX_FILE_BYTES: u64 = 2048;
/// Maximum number of addresses of a node: as many as a record has.
const MAX_ADDRS: usize = 8;
/// Number of attempts to write the file. Another node may remove the new file before it is locked.
const WRITE_ATTEMPTS: u32 = 3;
/// First line of each file. A later format has another.
const HEADER: &str = "p2p-node rendezvous 1";

/// The rendezvous directory, with the file of this node.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    own: Option<(LocalNode, File)>,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Directory { path, own: None }
    }

    /// Executes requests in their order.
    pub(super) fn execute(&mut self, commands: Vec<SourceCommand>) -> Vec<SourceEvent> {
        let mut events = Vec::new();
        // All lookups of a batch share one listing.
        let mut listing: Option<Vec<String>> = None;
        for command in commands {
            match command {
                SourceCommand::PublishLocalNode(node) => self.publish(node),
                SourceCommand::FindLocalAgent { agent, max } => {
                    let files = listing.get_or_insert_with(|| files(&self.path));
                    let prefix = format!("{agent:#x}.");
                    let mut nodes = Vec::new();
                    for file in files.iter().filter(|file| file.starts_with(&prefix)) {
                        nodes.extend(self.read(file));
                        if nodes.len() == max {
                            break;
                        }
                    }
                    if !nodes.is_empty() {
                        events.push(SourceEvent::LocalNodes(nodes));
                    }
                }
                SourceCommand::WritePeerBook(_) | SourceCommand::QueryDnsSeeds => {}
                SourceCommand::SampleLocalNodes { seed, max } => {
                    self.restore();
                    let nodes = self.sample(seed, max);
                    if !nodes.is_empty() {
                        events.push(SourceEvent::LocalNodes(nodes));
                    }
                }
            }
        }
        events
    }

    /// Publishes this node, replacing its earlier file.
    fn publish(&mut self, node: LocalNode) {
        if node.addrs.is_empty() {
            return self.withdraw();
        }
        let mut failure = None;
        for _ in 0..WRITE_ATTEMPTS {
            match self.write(&node) {
                Ok(file) => {
                    self.own = Some((node, file));
                    return;
                }
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            let path = self.path.display();
            tracing::warn!(
                "the node cannot publish itself in {path}, so local nodes do not find it: {error}"
            );
        }
    }

    /// Writes the file under a temporary name, locks it, and gives it its name.
    fn write(&self, node: &LocalNode) -> io::Result<File> {
        let name = file_name(&node.agent, &node.peer);
        let temporary = self.path.join(format!(".{name}"));
        // An earlier process with this identity may have left it.
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.try_lock()?;
        let lines: String = node.addrs.iter().map(|addr| format!("{addr}\n")).collect();
        file.write_all(format!("{HEADER}\n{lines}").as_bytes())?;
        fs::rename(&temporary, self.path.join(name))?;
        Ok(file)
    }

    /// Removes the file of this node.
    pub(super) fn withdraw(&mut self) {
        if let Some((node, file)) = self.own.take() {
            remove_same(&self.path.join(file_name(&node.agent, &node.peer)), &file);
        }
    }

    /// Publishes this node again if its file is gone, for example because somebody emptied the
    /// directory.
    fn restore(&mut self) {
        if let Some((node, _)) = &self.own
            && !self.path.join(file_name(&node.agent, &node.peer)).exists()
        {
            let node = node.clone();
            self.publish(node);
        }
    }

    /// Reads up to `max` other nodes, chosen at random.
    fn sample(&self, seed: u64, max: usize) -> Vec<LocalNode> {
        let mut jitter = Jitter::new(seed);
        let mut files = files(&self.path);
        let mut nodes = Vec::new();
        while nodes.len() < max && !files.is_empty() {
            let file = files.swap_remove(jitter.index(files.len()));
            nodes.extend(self.read(&file));
        }
        nodes
    }

    /// Reads the file of another node that lives. Removes the file of one that has ended.
    fn read(&self, file: &str) -> Option<LocalNode> {
        let name = parse_name(OsStr::new(file))?;
        let is_own = |(own, _): &(LocalNode, File)| own.peer == name.peer && own.agent == name.agent;
        if self.own.as_ref().is_some_and(is_own) {
            return None;
        }
        let mut text = String::new();
        open_live(&self.path.join(file))?.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;
        let mut lines = text.lines();
        let has_header = lines.next() == Some(HEADER);
        let addrs: Vec<Multiaddr> = lines.take(MAX_ADDRS).filter_map(|line| line.parse().ok()).collect();
        let is_valid = has_header && !addrs.is_empty();
        is_valid.then_some(LocalNode { agent: name.agent, peer: name.peer, addrs })
    }
}

/// Opens the file of a node that lives. Returns `None` for anything else, and removes a stale file.
fn open_live(path: &Path) -> Option<File> {
    // NONBLOCK: opening a named pipe must not wait for its writer.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path).ok()?;
    let found = file.metadata().ok()?;
    let is_ours = found.uid() == rustix::process::geteuid().as_raw();
    if !found.is_file() || !is_ours || found.len() > MAX_FILE_BYTES {
        return None;
    }
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(file),
        Err(TryLockError::Error(_)) => None,
        Ok(()) => {
            remove_same(path, &file);
            None
        }
    }
}

/// Removes a file if the path still names it. A node that started again has replaced the file.
fn remove_same(path: &Path, file: &File) {
    if let (Ok(named), Ok(opened)) = (fs::symlink_metadata(path), file.metadata())
        && (named.dev(), named.ino()) == (opened.dev(), opened.ino())
    {
        let _ = fs::remove_file(path);
    }
}

/// What the name of a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) agent: Address,
    peer: PeerId,
}

/// Returns the name of a node's file.
fn file_name(agent: &Address, peer: &PeerId) -> String {
    format!("{agent:#x}.{peer}")
}

/// Parses the name of a node's file. Returns `None` for other files.
pub(super) fn parse_name(name: &OsStr) -> Option<Name> {
    let file = name.to_str()?;
    let (agent, peer) = file.split_once('.')?;
    let name = Name { agent: agent.parse().ok()?, peer: peer.parse().ok()? };
    (file_name(&name.agent, &name.peer) == file).then_some(name)
}

/// Returns the names of the files, at most [`MAX_ENTRIES`], in their order. Removes stale temporary files.
/// To parse a name costs more than to read it, so only names of interest are parsed.
pub(super) fn files(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries.take(MAX_ENTRIES).flatten() {
        let file = entry.file_name();
        if file.as_encoded_bytes().first() == Some(&b'.') {
            let _ = open_live(&entry.path());
        } else {
            files.extend(file.into_string());
        }
    }
    // The order of a directory is no property of a node.
    files.sort_unstable();
    // A directory that changes meanwhile may name a file twice.
    files.dedup();
    files
}
