//! Lock for systems other than Linux: a locked file. The file is never deleted, because then two
//! processes could lock two different files with the same name.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Attempt;

/// Maximum number of bytes read from a lock file: a process ID and a newline.
const NOTE_BYTES: u64 = 16;

/// Takes the lock in `/tmp`, because `TMPDIR` may differ between processes.
#[cfg_attr(target_os = "linux", allow(dead_code, reason = "Linux has names of sockets"))]
pub(super) fn take(name: &str) -> io::Result<Attempt> {
    let uid = rustix::process::geteuid().as_raw();
    take_in(&PathBuf::from(format!("/tmp/p2p-node-{uid}")), name)
}

pub(super) fn take_in(directory: &Path, name: &str) -> io::Result<Attempt> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Another user may have created a directory or link with this name.
    let found = fs::symlink_metadata(directory)?;
    let uid = rustix::process::geteuid().as_raw();
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o077 != 0 {
        return Err(io::Error::other(format!(
            "{} is not a private directory of this user",
            directory.display()
        )));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(directory.join(name))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Attempt::InUse { pid: holder(&mut file), is_ours: true }),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Attempt::Taken(file.into()))
}

/// Reads the process ID of the lock's holder, for messages only.
fn holder(file: &mut File) -> Option<i32> {
    let mut note = String::new();
    file.take(NOTE_BYTES).read_to_string(&mut note).ok()?;
    note.trim().parse().ok()
}
