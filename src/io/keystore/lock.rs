//! Identity lock: allows only one process per identity. Its place depends only on the user, so that
//! processes with different environments find it. On Linux it is an abstract socket name, which
//! needs no disk and disappears with the process; elsewhere it is a file.

use std::io;
use std::os::fd::OwnedFd;

use p2p_node_protocol::ErrorCode;
use sha2::{Digest, Sha256};

use p2p_node_core::effect::ExitCode;

#[cfg(any(not(target_os = "linux"), test))]
mod file;
#[cfg(target_os = "linux")]
mod socket;

#[cfg(not(target_os = "linux"))]
use file::take;
#[cfg(target_os = "linux")]
use socket::take;

/// Lock of an identity. The operating system releases it when the process exits, even after a
/// crash.
#[derive(Debug)]
pub struct IdentityLock {
    _held: OwnedFd,
}

/// Error: another process uses the identity.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the identity {peer_id} is in use by {holder}: stop that process first")]
pub struct InUse {
    /// PeerId of the identity.
    pub peer_id: String,
    /// Description of the process that holds the lock.
    pub holder: String,
}

impl InUse {
    /// Returns the stable error code.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::IdentityInUse
    }

    /// Returns the exit code for this error.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::InUse
    }
}

/// Result of one attempt to take a lock.
#[derive(Debug)]
enum Attempt {
    Taken(OwnedFd),
    InUse {
        /// Process that holds the lock, if the system reports it.
        pid: Option<i32>,
        /// `true` unless the process is known to belong to another user, who must not block the
        /// name.
        is_ours: bool,
    },
}

impl IdentityLock {
    /// Locks the identity among the processes of this user and `scope` on this machine. If the
    /// system offers no lock, calls `notice` and continues without one, because a duplicate
    /// identity also shows on the network.
    ///
    /// # Errors
    /// Fails if another process holds the lock.
    pub fn acquire(
        peer_id: &str,
        scope: &str,
        notice: &mut dyn FnMut(String),
    ) -> Result<Option<Self>, InUse> {
        acquire_by(take, peer_id, scope, notice)
    }
}

fn acquire_by(
    take: impl Fn(&str) -> io::Result<Attempt>,
    peer_id: &str,
    scope: &str,
    notice: &mut dyn FnMut(String),
) -> Result<Option<IdentityLock>, InUse> {
    match take(&name(peer_id, scope)) {
        Ok(Attempt::Taken(held)) => return Ok(Some(IdentityLock { _held: held })),
        Ok(Attempt::InUse { is_ours: false, .. }) => {
            notice(format!(
                "another user of this machine holds the lock of the identity {peer_id}: a second process with this key will not be \
                 noticed before both are on the network"
            ));
        }
        Err(error) => {
            notice(format!(
                "no identity lock is available ({error}): a second process with this key will not be noticed before both are on the network"
            ));
        }
        Ok(Attempt::InUse { pid, .. }) => {
            let holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            return Err(InUse { peer_id: peer_id.to_owned(), holder });
        }
    }
    Ok(None)
}

/// Returns the name of the lock: user, scope if any, and PeerId. It has at most 90 bytes, all of
/// them valid in a file name.
fn name(peer_id: &str, scope: &str) -> String {
    let uid = rustix::process::geteuid().as_raw();
    let scope = match scope {
        "" => String::new(),
        scope => format!("-{}", hex::encode(&Sha256::digest(scope)[..8])),
    };
    format!("p2p-node-{uid}{scope}-{peer_id}")
}

#[cfg(test)]
mod tests;
