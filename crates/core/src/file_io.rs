//! What the core asks of the driver of files, and what the driver reports.

use libp2p_identity::PeerId;

use crate::input::Token;

/// The root of the BLAKE3 tree of a file.
pub type FileHash = [u8; 32];

/// A command to the driver of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileCommand {
    /// Hashes a file that a client sends. Answered by `Hashed`, in the order of the commands.
    Hash {
        /// Number of the command.
        number: u64,
        /// Absolute path.
        path: String,
        /// Largest accepted size, in bytes.
        max_bytes: u64,
    },
    /// Fetches a file from a connected peer into the directory for received files. Answered by any number of
    /// `Received` and one `Fetched` or `FetchFailed`.
    Fetch {
        /// Token of the answers.
        token: Token,
        /// The peer.
        peer: PeerId,
        /// Hash of the file.
        hash: FileHash,
        /// Size of the file, in bytes.
        size: u64,
        /// Name of the file in the directory while it is incomplete. An earlier transfer may have left a part.
        partial: String,
        /// Name of the file in the directory when it is complete.
        name: String,
    },
    /// Tells the peer of a `Fetched` that this node has the file.
    FinishFetch {
        /// Token of the `Fetch`.
        token: Token,
    },
    /// Ends a `Fetch`, which is then not answered. What arrived stays.
    CancelFetch {
        /// Token of the `Fetch`.
        token: Token,
    },
    /// Sends a file to the peer of a `Requested`. Answered by any number of `Served` and one `ServeEnded`.
    Serve {
        /// Token of the `Requested`.
        token: Token,
        /// Absolute path.
        path: String,
        /// Hash of the file as it was offered.
        hash: FileHash,
        /// Size of the file as it was offered, in bytes.
        size: u64,
    },
    /// Refuses a `Requested`.
    Refuse {
        /// Token of the `Requested`.
        token: Token,
    },
    /// Ends a `Serve`. `ServeEnded` follows.
    StopServing {
        /// Token of the `Requested`.
        token: Token,
    },
    /// Deletes a received file, or the part of one.
    Remove {
        /// Name of the file in the directory.
        name: String,
    },
    /// Lists the received files. Answered by `Stored`.
    List,
}

/// An event of the driver of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileEvent {
    /// The file of a `Hash` was read.
    Hashed {
        /// Number of the command.
        number: u64,
        /// The file, or why it cannot be sent.
        outcome: Result<HashedFile, HashFault>,
    },
    /// A peer asks for a file.
    Requested {
        /// Token for `Serve` or `Refuse`.
        token: Token,
        /// The peer.
        peer: PeerId,
        /// Hash of the file.
        hash: FileHash,
    },
    /// The peer of a `Serve` has the file up to this byte.
    Served {
        /// Token of the `Requested`.
        token: Token,
        /// Bytes from the start of the file.
        bytes: u64,
    },
    /// A `Serve` ended.
    ServeEnded {
        /// Token of the `Requested`.
        token: Token,
        /// Bytes that left for this `Serve`.
        sent: u64,
        /// How it ended.
        end: ServeEnd,
    },
    /// A `Fetch` has the file up to this byte, verified and written.
    Received {
        /// Token of the `Fetch`.
        token: Token,
        /// Bytes from the start of the file.
        bytes: u64,
    },
    /// A `Fetch` has the whole file, under its name.
    Fetched {
        /// Token of the `Fetch`.
        token: Token,
        /// Absolute path.
        path: String,
    },
    /// A `Fetch` failed. What was verified stays.
    FetchFailed {
        /// Token of the `Fetch`.
        token: Token,
        /// Why it failed.
        fault: FetchFault,
    },
    /// The received files, answer to `List`.
    Stored(Vec<StoredFile>),
}

/// A file that a client may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashedFile {
    /// Its hash.
    pub hash: FileHash,
    /// Its size, in bytes.
    pub size: u64,
    /// The last part of its path.
    pub name: String,
}

/// Why a file cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashFault {
    /// The file is larger than the limit. The value is its size, in bytes.
    TooLarge(u64),
    /// The file cannot be read, or is no regular file. The text is for people.
    Unreadable(String),
}

/// How a `Serve` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServeEnd {
    /// The peer has the file.
    Complete,
    /// The connection or the peer ended it, or the core stopped it.
    Broken,
    /// The file cannot be read any more, or is not what was offered.
    Changed,
}

/// Why a `Fetch` failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchFault {
    /// The connection ended, or the peer did not answer.
    Broken,
    /// The peer does not offer the file, or has too many transfers.
    Refused,
    /// The peer says that its file changed.
    Changed,
    /// The peer sent bytes that do not belong to the file, or broke the protocol.
    Wrong,
    /// Reading or writing on this machine failed, as when the disk is full. The text is for people.
    Disk(String),
}

/// A file in the directory for received files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Its name in the directory.
    pub name: String,
    /// Its size, in bytes.
    pub bytes: u64,
}
