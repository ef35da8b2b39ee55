//! The lock that keeps one identity in one process. Where it is depends on nothing but the user, so that processes with different
//! environments meet there: on Linux a name in the kernel, which needs no disk and leaves nothing behind, elsewhere a file.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

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

/// How often a lock that another process holds is tried again. Ours: nobody notices it beside the start of a node.
const RETRY: Duration = Duration::from_millis(50);

/// Held while the process speaks for an identity; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct IdentityLock {
    _held: OwnedFd,
}

/// Another process has the identity, and has kept it for as long as was waited for.
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
    /// Locks the identity among the processes of this user on this machine, and of the same `scope`; waits up to `patience` for
    /// another process to let go of it. Tells by `notice` what a person may want to know. Without a lock, because the system
    /// gives none, the node runs all the same: that another has the identity shows on the network too.
    ///
    /// # Errors
    /// When another process holds it.
    pub fn acquire(
        peer_id: &str,
        scope: &str,
        patience: Duration,
        notice: &mut dyn FnMut(String),
    ) -> Result<Option<Self>, InUse> {
        acquire_by(take, peer_id, scope, patience, notice)
    }
}

fn acquire_by(
    take: impl Fn(&str) -> io::Result<Attempt>,
    peer_id: &str,
    scope: &str,
    patience: Duration,
    notice: &mut dyn FnMut(String),
) -> Result<Option<IdentityLock>, InUse> {
    let name = name(peer_id, scope);
    let mut attempts = patience.as_millis().div_ceil(RETRY.as_millis());
    let mut told = false;
    loop {
        let holder = match take(&name) {
            Ok(Attempt::Taken(held)) => return Ok(Some(IdentityLock { _held: held })),
            Ok(Attempt::InUse { is_ours: false, .. }) => {
                notice(format!(
                    "another user of this machine holds the lock of the identity {peer_id}: a second process with this key will not be \
                     noticed before both are on the network"
                ));
                return Ok(None);
            }
            Err(error) => {
                notice(format!(
                    "the system gives no lock ({error}): a second process with this key will not be noticed before both are on the network"
                ));
                return Ok(None);
            }
            Ok(Attempt::InUse { pid, .. }) => match pid {
                Some(pid) => format!("process {pid}"),
                None => "another process".to_owned(),
            },
        };
        if attempts == 0 {
            return Err(InUse { peer_id: peer_id.to_owned(), holder });
        }
        if !std::mem::replace(&mut told, true) {
            let secs = patience.as_secs_f32().ceil();
            notice(format!(
                "the identity {peer_id} is in use by {holder}: waiting up to {secs} s for it to end"
            ));
        }
        attempts -= 1;
        thread::sleep(RETRY);
    }
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
