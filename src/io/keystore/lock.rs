use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use p2p_node_protocol::ErrorCode;

use crate::core::effect::ExitCode;

/// Held while the process speaks for an identity; the system lets go of it when the process ends, however it
/// ends. The file stays: deleting it would let two processes lock two files of one name.
#[derive(Debug)]
pub struct IdentityLock {
    _file: File,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("the identity {peer_id} is in use by {holder}")]
    InUse {
        /// Which identity.
        peer_id: String,
        /// Who has it, as far as is known.
        holder: String,
    },
    /// The directory of the locks belongs to somebody else, or others may write there.
    #[error("{0} is not a directory of ours alone")]
    NotOurs(PathBuf),
    /// The system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

impl LockError {
    /// What the parent is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            LockError::InUse { .. } => ErrorCode::IdentityInUse,
            LockError::NotOurs(_) | LockError::Io { .. } => ErrorCode::Internal,
        }
    }

    /// How the process ends for this reason.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            LockError::InUse { .. } => ExitCode::InUse,
            LockError::NotOurs(_) => ExitCode::NoPermission,
            LockError::Io { .. } => ExitCode::Io,
        }
    }
}

impl IdentityLock {
    /// Locks the identity among the processes of this user on this machine. `peer_id` must be a PeerId in its
    /// usual form, which is a safe file name.
    ///
    /// # Errors
    /// [`LockError::InUse`] when another process holds it.
    pub fn acquire(peer_id: &str) -> Result<Self, LockError> {
        Self::acquire_in(&runtime_directory(), peer_id)
    }

    fn acquire_in(directory: &Path, peer_id: &str) -> Result<Self, LockError> {
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(directory)(error)),
            _ => {}
        }
        // Anybody may have made a directory of that name in the shared temporary one, or a link.
        let found = fs::symlink_metadata(directory).map_err(at(directory))?;
        if !found.is_dir() || found.uid() != our_uid() || found.mode() & 0o077 != 0 {
            return Err(LockError::NotOurs(directory.to_owned()));
        }

        let path = directory.join(format!("{peer_id}.lock"));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(at(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::InUse { peer_id: peer_id.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
        }
        let note = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        note(&mut file).map_err(at(&path))?;
        Ok(IdentityLock { _file: file })
    }
}

/// Who wrote its process id into the lock file; a few bytes, and only for a person.
fn holder(file: &mut File) -> String {
    let mut note = String::new();
    match file.take(16).read_to_string(&mut note).ok().and_then(|_| note.trim().parse::<u32>().ok()) {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

/// `$XDG_RUNTIME_DIR/p2p-node` where that variable names a directory of ours (XDG base directory
/// specification), else `p2p-node-<uid>` among the temporary files.
fn runtime_directory() -> PathBuf {
    let ours = |path: &Path| {
        path.is_absolute() && fs::metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == our_uid())
    };
    match env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| ours(path)) {
        Some(path) => path.join("p2p-node"),
        None => env::temp_dir().join(format!("p2p-node-{}", our_uid())),
    }
}

fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> LockError {
    move |source| LockError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    #[test]
    fn the_second_is_refused_until_the_first_lets_go() {
        let temporary = tempfile::tempdir().expect("a directory");
        let directory = temporary.path().join("locks");
        let first = IdentityLock::acquire_in(&directory, PEER).expect("free");
        let error = IdentityLock::acquire_in(&directory, PEER).expect_err("taken");
        assert_eq!((error.code(), error.exit_code()), (ErrorCode::IdentityInUse, ExitCode::InUse));
        let told = format!("the identity {PEER} is in use by process {}", std::process::id());
        assert_eq!(error.to_string(), told);
        IdentityLock::acquire_in(&directory, "another").expect("another identity is free");
        drop(first);
        IdentityLock::acquire_in(&directory, PEER).expect("free again");
    }

    #[test]
    fn a_directory_that_others_may_enter_or_a_link_is_refused() {
        let temporary = tempfile::tempdir().expect("a directory");
        let (open, link) = (temporary.path().join("open"), temporary.path().join("link"));
        fs::create_dir(&open).expect("made");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).expect("set");
        std::os::unix::fs::symlink(temporary.path(), &link).expect("linked");
        for directory in [&open, &link] {
            let error = IdentityLock::acquire_in(directory, PEER).expect_err("refused");
            assert!(matches!(error, LockError::NotOurs(_)), "{error}");
        }
    }
}
