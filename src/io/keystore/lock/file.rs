//! Elsewhere: a locked file. It stays, because deleting it would let two processes lock two files of one name.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Attempt;

/// Bytes of a lock file that are read: a process id and a newline.
const NOTE_BYTES: u64 = 16;

/// In the directory for temporary files that every process has, whatever its environment says.
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
    // Anybody may have made a directory of that name there, or a link.
    let found = fs::symlink_metadata(directory)?;
    let uid = rustix::process::geteuid().as_raw();
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o077 != 0 {
        return Err(io::Error::other(format!("{} is not a directory of ours alone", directory.display())));
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

/// Whoever locked the file wrote its process id into it; only for a person.
fn holder(file: &mut File) -> Option<i32> {
    let mut note = String::new();
    file.take(NOTE_BYTES).read_to_string(&mut note).ok()?;
    note.trim().parse().ok()
}
