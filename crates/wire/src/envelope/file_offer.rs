//! File offers: the part of a message that names a file, which the recipient's node fetches from the
//! sender's node.

use bytes::Bytes;
use prost::Message as ProtoMessage;

use crate::strict::{DecodeError, Shape, ensure};

/// Length of a BLAKE3 hash, in bytes.
pub const FILE_HASH_BYTES: usize = 32;

/// Largest file, in bytes: 1 TiB, our choice. It keeps sums of sizes far from the end of a `u64`, and every
/// JSON reader represents it exactly. Nodes accept less.
pub const MAX_FILE_BYTES: u64 = 1 << 40;

/// Longest name of a file, in bytes: what common file systems allow.
pub const MAX_FILE_NAME_BYTES: usize = 255;

/// A file that belongs to a message.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct FileOffer {
    /// The root of the BLAKE3 tree of the content.
    #[prost(bytes = "bytes", tag = 1)]
    pub hash: Bytes,
    /// Size of the content, in bytes.
    #[prost(uint64, tag = 2)]
    pub size: u64,
    /// The name that the sender gave the file. May be empty.
    #[prost(string, tag = 3)]
    pub name: String,
}

impl FileOffer {
    /// The shape of an offer.
    pub(super) const SHAPE: Shape = Shape::flat(3);

    pub(super) fn check(&self) -> Result<(), DecodeError> {
        ensure(self.hash.len() == FILE_HASH_BYTES, "hash")?;
        ensure(self.size <= MAX_FILE_BYTES, "size")?;
        ensure(self.name.is_empty() || is_file_name(&self.name), "name")
    }
}

/// Returns `true` for a name that a message may give a file: one part of a path, without control
/// characters, so that a program that joins it to a directory stays in that directory.
pub fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_FILE_NAME_BYTES
        && !matches!(name, "." | "..")
        && !name.contains(|character: char| character.is_control() || matches!(character, '/' | '\\'))
}
