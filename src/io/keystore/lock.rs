//! The lock that keeps one identity in one process. Where it is depends on nothing but the user, so that processes with different
//! environments meet there: on Linux a name in the kernel, which needs no disk and leaves nothing behind, elsewhere a file.

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

/// Held while the process speaks for an identity; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct IdentityLock {
    _held: OwnedFd,
}

/// Another process has the identity.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the identity {peer_id} is in use by {holder}, which has to end first")]
pub struct InUse {
    /// Which identity.
    pub peer_id: String,
    /// Who has it, as far as is known.
    pub holder: String,
}

impl InUse {
    /// What the parent is told.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::IdentityInUse
    }

    /// How the process ends for this reason.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::InUse
    }
}

/// What one attempt to take a lock came to.
#[derive(Debug)]
enum Attempt {
    Taken(OwnedFd),
    InUse {
        /// The process that holds it, if the system tells.
        pid: Option<i32>,
        /// Whether that is a process of this user, as far as is known; another user's has no business with the name.
        is_ours: bool,
    },
}

impl IdentityLock {
    /// Locks the identity among the processes of this user on this machine, and of the same `scope`. Tells by `notice` what a person
    /// may want to know. Without a lock, because the system gives none, the node runs all the same: that another has the identity
    /// shows on the network too.
    ///
    /// # Errors
    /// When another process holds it.
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
                "the system gives no lock ({error}): a second process with this key will not be noticed before both are on the network"
            ));
        }
        Ok(Attempt::InUse { pid, .. }) => {
            let holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            return Err(InUse { peer_id: peer_id.to_owned(), holder });
        }
    }
    Ok(None)
}

/// At most 90 bytes, all of which may stand in the name of a file: user, scope if there is one, PeerId.
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
