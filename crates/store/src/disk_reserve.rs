//! Reserved disk space for deletions: on a full disk the database needs free space to delete rows.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};

/// Name of the reserve file in the data directory.
pub const RESERVE_FILE: &str = "node.reserve";

/// Size of the reserve, in bytes: twice the maximum message, because a deletion may copy
/// neighbouring rows.
const RESERVE_BYTES: u64 = 2 << 20;

/// File that reserves disk space.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    pub(super) fn new(path: PathBuf) -> Self {
        Reserve { path }
    }

    /// Returns `true` if the space is reserved.
    pub(super) fn is_allocated(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| found.len() == RESERVE_BYTES)
    }

    /// Reserves the space, unless it is reserved already.
    ///
    /// # Errors
    /// Fails if the disk does not have the space.
    pub(super) fn allocate(&self) -> io::Result<()> {
        if self.is_allocated() {
            return Ok(());
        }
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        fill(file).inspect_err(|_| self.release())
    }

    /// Writes the number of commits into the file, without a sync, so that it is cheap. The number
    /// survives a killed process. After a loss of power it may be too low, never too high.
    pub(super) fn write_commit_count(&self, commits: u64) {
        if let Ok(file) = OpenOptions::new().write(true).open(&self.path) {
            // The number only improves a warning, so an error is not critical.
            let _ = file.write_all_at(&commits.to_be_bytes(), 0);
        }
    }

    /// Returns the number of commits that was written last.
    pub(super) fn read_commit_count(&self) -> u64 {
        let mut bytes = [0; 8];
        let read = File::open(&self.path).and_then(|file| file.read_exact_at(&mut bytes, 0));
        read.map_or(0, |()| u64::from_be_bytes(bytes))
    }

    /// Releases the space.
    pub(super) fn release(&self) {
        // If this fails, the next write fails as well and reports the reason.
        let _ = fs::remove_file(&self.path);
    }
}

fn fill(mut file: File) -> io::Result<()> {
    if fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES).is_ok() {
        return Ok(());
    }
    // Fallback, because some file systems do not support fallocate and return various errors.
    let zeros = [0; 64 << 10];
    (0..RESERVE_BYTES / zeros.len() as u64).try_for_each(|_| file.write_all(&zeros))
}
