//! Room on the disk that is kept for forgetting: a database that has filled the disk needs some to free any.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};

/// Name of the file in the data directory that holds the room.
pub const RESERVE_FILE: &str = "node.reserve";

/// Room that is kept, in bytes. Ours: twice the largest mail, whose neighbours may have to be copied when it is taken out.
const RESERVE_BYTES: u64 = 2 << 20;

/// A file that is there for its size alone.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    pub(super) fn new(path: PathBuf) -> Self {
        Reserve { path }
    }

    /// Whether the room is kept.
    pub(super) fn is_held(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| found.len() == RESERVE_BYTES)
    }

    /// Keeps the room, unless it is kept already.
    ///
    /// # Errors
    /// When the disk does not have it.
    pub(super) fn hold(&self) -> io::Result<()> {
        if self.is_held() {
            return Ok(());
        }
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        fill(file).inspect_err(|_| self.release())
    }

    /// Notes in it how often the database was written. That is not brought to the disk, so that it costs nothing: it outlives a
    /// process that is killed, and after a loss of power it says too little, never too much.
    pub(super) fn note(&self, commits: u64) {
        if let Ok(file) = OpenOptions::new().write(true).open(&self.path) {
            // Without the note less is known, and nothing is lost.
            let _ = file.write_all_at(&commits.to_be_bytes(), 0);
        }
    }

    /// What was noted last.
    pub(super) fn noted(&self) -> u64 {
        let mut bytes = [0; 8];
        let read = File::open(&self.path).and_then(|file| file.read_exact_at(&mut bytes, 0));
        read.map_or(0, |()| u64::from_be_bytes(bytes))
    }

    /// Gives up the room.
    pub(super) fn release(&self) {
        // If it cannot be removed, the next attempt to write says why nothing can be.
        let _ = fs::remove_file(&self.path);
    }
}

fn fill(mut file: File) -> io::Result<()> {
    if fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES).is_ok() {
        return Ok(());
    }
    // Not every file system can do that, and those that cannot say so in different ways.
    let zeros = [0; 64 << 10];
    (0..RESERVE_BYTES / zeros.len() as u64).try_for_each(|_| file.write_all(&zeros))
}
