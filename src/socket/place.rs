//! The place of the socket: a file that only this user can open, in a directory of this user, and a lock
//! beside it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use p2p_node_core::effect::ExitCode;
use p2p_node_protocol::ErrorCode;
use p2p_node_store::disk;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::io::rendezvous;

/// Errors of the place of a socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process listens there.
    #[error("{0}: another process listens there; stop it, or use another path")]
    InUse(PathBuf),
    /// The path names something else than a socket.
    #[error("{0}: the file is not a socket; remove it, or use another path")]
    NotASocket(PathBuf),
    /// The path has no name to find it by.
    #[error(
        "needs a path, because the agent has a key for this run only and nobody can find its socket; or set PRIVATE_KEY"
    )]
    NoName,
    /// The operating system refused the socket.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl SocketError {
    /// Returns the stable error code.
    pub fn code(&self) -> ErrorCode {
        match self {
            SocketError::InUse(_) => ErrorCode::IdentityInUse,
            SocketError::NoName => ErrorCode::InvalidArgument,
            SocketError::NotASocket(_) | SocketError::Io { .. } => ErrorCode::ListenFailed,
        }
    }

    /// Returns the exit code for this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            SocketError::InUse(_) => ExitCode::InUse,
            SocketError::NoName | SocketError::NotASocket(_) => ExitCode::Config,
            SocketError::Io { .. } => ExitCode::Unavailable,
        }
    }
}

/// Returns the path of the socket of a node without `--socket`: in the runtime directory of the user, by
/// network, identity and lock scope.
///
/// # Errors
/// Fails if the directory cannot be created, or other users can write to it.
pub fn default_path(network: &str, peer_id: &str, lock_scope: &str) -> Result<PathBuf, SocketError> {
    let directory = rendezvous::runtime_directory()
        .map_err(|source| SocketError::Io { path: PathBuf::from("p2p-node"), source })?;
    // The path of a socket has at most 107 bytes, which a PeerId would fill.
    let name = Sha256::digest(format!("{network}\n{peer_id}\n{lock_scope}"));
    Ok(directory.join(format!("{}.sock", hex::encode(&name[..12]))))
}

/// A socket that listens. `Drop` removes it.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// Held as long as the process listens.
    _lock: File,
}

impl Place {
    /// Listens at a path. Replaces the socket of a process that has ended.
    pub(crate) fn listen(path: &Path) -> Result<(Place, UnixListener), SocketError> {
        let failed = |source| SocketError::Io { path: path.to_owned(), source };
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            disk::make_directory(directory).map_err(failed)?;
            rendezvous::check_owner(directory).map_err(failed)?;
        }
        let lock = lock(path)?;
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        let place = Place { path: path.to_owned(), _lock: lock };
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok((place, listener))
    }

    /// Returns the path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A socket that stays is replaced by the next process.
        let _ = fs::remove_file(&self.path);
    }
}

/// Locks the path against other nodes, which would otherwise replace the socket at the same time.
fn lock(path: &Path) -> Result<File, SocketError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&name);
    let file = file.map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(SocketError::InUse(path.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}

/// Removes the socket of a process that has ended.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(error) => Err(failed(error)),
    }
}
