//! Contents of files: their BLAKE3 trees, and ranges that prove that they belong to a tree.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use bao_tree::io::DecodeError;
use bao_tree::io::EncodeError;
use bao_tree::io::outboard::{EmptyOutboard, PreOrderOutboard};
use bao_tree::io::sync::{CreateOutboard, WriteAt, decode_ranges, encode_ranges_validated};
use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges};
use rustix::fs::OFlags;

use p2p_node_core::file_io::FileHash;

/// Bytes of a block, of which the tree of a file has a hash: 64 KiB. Our choice: the tree of 1 GiB then has 1 MiB,
/// and BLAKE3 hashes a block as fast as it can.
pub const BLOCK_BYTES: u64 = 64 << 10;
const BLOCK: BlockSize = BlockSize::from_chunk_log(6);

/// Largest range of a request, in bytes. Our choice: 16 blocks, so that the work for each range costs little, and
/// a window of a few ranges fills a fast connection.
pub const RANGE_BYTES: u64 = 1 << 20;

/// Bytes of a pair of hashes in a tree.
const PAIR_BYTES: u64 = 64;
/// Levels of the largest tree above the blocks of one range: 2^40 bytes in ranges of 2^20.
const MAX_LEVELS: u64 = 20;

/// Buffer for reading a file from its start to its end. Our choice.
const READ_BUFFER: usize = 1 << 20;

/// The hashes of a file.
pub type Tree = PreOrderOutboard<Vec<u8>>;

/// Returns the largest encoding of a range of this length, in bytes: the content, the pairs of hashes between its
/// blocks, and those on the way from the root.
pub fn max_encoded(length: u64) -> u64 {
    length + PAIR_BYTES * (length.div_ceil(BLOCK_BYTES) + 2 * MAX_LEVELS)
}

/// A part of a file: whole blocks, but for the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first byte, a multiple of [`BLOCK_BYTES`].
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

impl Range {
    /// Returns the next range of a file from `offset` on.
    pub fn next(offset: u64, size: u64) -> Self {
        Range { offset, length: RANGE_BYTES.min(size - offset) }
    }

    /// Returns `true` if a node may ask for this range of a file.
    pub fn is_valid(&self, size: u64) -> bool {
        let Some(end) = self.offset.checked_add(self.length) else { return false };
        self.offset.is_multiple_of(BLOCK_BYTES)
            && (1..=RANGE_BYTES).contains(&self.length)
            && (end == size || end < size && end.is_multiple_of(BLOCK_BYTES))
    }

    fn chunks(&self) -> ChunkRanges {
        let end = self.offset + self.length;
        ChunkRanges::from(ChunkNum::full_chunks(self.offset)..ChunkNum::chunks(end))
    }
}

/// Opens a regular file for reading. Does not wait for the other end of a pipe.
///
/// # Errors
/// Returns the error of the system, or `InvalidInput` for something that is no regular file.
pub fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    Ok((file, metadata.len()))
}

/// Returns the tree of the first `size` bytes of a file.
///
/// # Errors
/// Returns the error of the system, also if the file is shorter.
pub fn read_tree(file: &File, size: u64) -> io::Result<Tree> {
    let mut file = file;
    file.rewind()?;
    Tree::create_sized(BufReader::with_capacity(READ_BUFFER, file), size, BLOCK)
}

/// Returns the hash of a file.
///
/// # Errors
/// Returns the error of the system.
pub fn hash_of(file: &File) -> io::Result<FileHash> {
    let mut file = BufReader::with_capacity(READ_BUFFER, file);
    file.rewind()?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(*hasher.finalize().as_bytes()),
            read => hasher.update(&buffer[..read]),
        };
    }
}

/// Encodes a range with the hashes that prove it. Returns `None` if the file is not that of the tree.
///
/// # Errors
/// Returns the error of the system.
pub fn encode(file: &File, tree: &Tree, range: Range) -> io::Result<Option<Vec<u8>>> {
    let mut encoded = Vec::with_capacity(max_encoded(range.length) as usize);
    match encode_ranges_validated(file, tree, &range.chunks(), &mut encoded) {
        Ok(()) => Ok(Some(encoded)),
        Err(EncodeError::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        // A block with other bytes, or a file that has become shorter.
        Err(_) => Ok(None),
    }
}

/// Writes blocks at their places in a file.
struct Target<'a>(&'a File);

impl WriteAt for Target<'_> {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        FileExt::write_at(self.0, bytes, at)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks an encoded range, and writes what it proves. Returns `false` if the bytes do not prove it.
///
/// # Errors
/// Returns the error of the disk.
pub fn decode(encoded: &[u8], hash: &FileHash, size: u64, range: Range, target: &File) -> io::Result<bool> {
    let tree = EmptyOutboard { tree: BaoTree::new(size, BLOCK), root: blake3::Hash::from_bytes(*hash) };
    let mut rest = encoded;
    match decode_ranges(&mut rest, &range.chunks(), Target(target), tree) {
        Ok(()) => Ok(rest.is_empty()),
        Err(DecodeError::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    fn bytes(size: usize) -> Vec<u8> {
        (0..size).map(|at| ((at / 7) ^ (at >> 9)) as u8).collect()
    }

    #[test]
    fn ranges_of_a_file_rebuild_it_and_its_tree_has_the_standard_hash() {
        let block = BLOCK_BYTES as usize;
        let range = RANGE_BYTES as usize;
        for size in [1, 1023, 1025, block - 1, block, block + 1, range, range + 1, 3 * range + 5 * block + 7]
        {
            let (content, target) = (bytes(size), tempfile::tempfile().unwrap());
            let source = file(&content);
            let tree = read_tree(&source, size as u64).unwrap();
            let hash = *blake3::hash(&content).as_bytes();
            assert_eq!((*tree.root.as_bytes(), hash_of(&source).unwrap()), (hash, hash), "{size}");
            let mut offset = 0;
            while offset < size as u64 {
                let range = Range::next(offset, size as u64);
                assert!(range.is_valid(size as u64), "{range:?} of {size}");
                let encoded = encode(&source, &tree, range).unwrap().unwrap();
                assert!(encoded.len() as u64 <= max_encoded(range.length), "{}", encoded.len());
                assert!(decode(&encoded, &hash, size as u64, range, &target).unwrap());
                offset += range.length;
            }
            assert_eq!(hash_of(&target).unwrap(), hash, "{size}");
        }
    }

    #[test]
    fn a_file_that_changed_is_not_encoded() {
        let source = file(&bytes(3 * BLOCK_BYTES as usize));
        let tree = read_tree(&source, 3 * BLOCK_BYTES).unwrap();
        let range = Range { offset: BLOCK_BYTES, length: BLOCK_BYTES };
        assert!(encode(&source, &tree, range).unwrap().is_some());
        source.write_all_at(b"x", BLOCK_BYTES + 5).unwrap();
        assert!(encode(&source, &tree, range).unwrap().is_none());
        source.set_len(BLOCK_BYTES).unwrap();
        assert!(encode(&source, &tree, range).unwrap().is_none(), "the file is too short");
    }

    #[test]
    fn wrong_missing_and_surplus_bytes_prove_nothing_and_are_not_written() {
        let (content, size) = (bytes(2 * BLOCK_BYTES as usize), 2 * BLOCK_BYTES);
        let source = file(&content);
        let tree = read_tree(&source, size).unwrap();
        let (hash, range) = (*tree.root.as_bytes(), Range { offset: 0, length: size });
        let good = encode(&source, &tree, range).unwrap().unwrap();
        let target = || tempfile::tempfile().unwrap();
        let check = |encoded: &[u8]| decode(encoded, &hash, size, range, &target()).unwrap();
        assert!(check(&good));
        assert!(!check(&good[..good.len() - 1]));
        assert!(!check(&[&good[..], b"x"].concat()));
        for at in [0, PAIR_BYTES as usize, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let target = target();
            assert!(!decode(&bad, &hash, size, range, &target).unwrap(), "byte {at}");
            let written = target.metadata().unwrap().len();
            assert!(written <= BLOCK_BYTES, "a block with wrong bytes was written");
        }
    }

    #[test]
    fn invalid_ranges_are_recognised() {
        let size = 5 * BLOCK_BYTES + 1;
        let is_valid = |offset, length| Range { offset, length }.is_valid(size);
        assert!(is_valid(0, size) && is_valid(BLOCK_BYTES, BLOCK_BYTES) && is_valid(5 * BLOCK_BYTES, 1));
        assert!(!is_valid(1, BLOCK_BYTES), "it begins within a block");
        assert!(!is_valid(0, BLOCK_BYTES - 1), "it ends within a block");
        assert!(
            !is_valid(0, 0) && !is_valid(0, size + 1) && !is_valid(u64::MAX - BLOCK_BYTES + 1, BLOCK_BYTES)
        );
        assert!(!Range { offset: 0, length: RANGE_BYTES + BLOCK_BYTES }.is_valid(1 << 40), "it is too long");
    }

    #[test]
    fn directories_and_pipes_are_no_regular_files() {
        let home = tempfile::tempdir().unwrap();
        assert!(open_regular(home.path()).is_err());
        let pipe = home.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        assert_eq!(open_regular(&pipe).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
