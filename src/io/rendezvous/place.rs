//! The place of the rendezvous directory.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use p2p_node_store::disk;
use sha2::{Digest, Sha256};

/// Name of the directory in the runtime directory.
const NAME: &str = "p2p-node";

/// Selects the rendezvous directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// `p2p-node` in the runtime directory of the user, or `p2p-node-<uid>` in the directory for
    /// temporary files.
    #[default]
    Default,
    /// This directory.
    At(PathBuf),
    /// No directory: the node neither publishes itself nor looks for other nodes on this machine.
    Off,
}

impl Place {
    /// Returns the directory of a network and a lock scope, and creates it if it is missing.
    /// Returns `None` if the rendezvous is off.
    ///
    /// # Errors
    /// Fails if the directory cannot be created, or other users can write to it.
    pub(super) fn directory(&self, network: &str, lock_scope: &str) -> io::Result<Option<PathBuf>> {
        let parent = match self {
            Place::Off => return Ok(None),
            Place::At(path) => {
                disk::make_directory(path)?;
                check_owner(path)?;
                path.clone()
            }
            Place::Default => runtime_directory()?,
        };
        // A network name has no dot.
        let path = parent.join(match lock_scope {
            "" => network.to_owned(),
            scope => format!("{network}.{}", hex::encode(&Sha256::digest(scope)[..8])),
        });
        make_private(&path)?;
        Ok(Some(path))
    }
}

/// Returns the directory of this program in the runtime directory of the user, and creates it if it is
/// missing.
///
/// # Errors
/// Fails if the directory cannot be created, or other users can use it.
pub fn runtime_directory() -> io::Result<PathBuf> {
    default_parent(std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from), &std::env::temp_dir())
}

/// Returns the directory in the runtime directory, if that belongs to this user, and otherwise the
/// one in the directory for temporary files.
fn default_parent(runtime: Option<PathBuf>, temporary: &Path) -> io::Result<PathBuf> {
    let runtime = runtime.filter(|path| path.is_absolute() && check_owner(path).is_ok());
    if let Some(runtime) = runtime {
        let path = runtime.join(NAME);
        if make_private(&path).is_ok() {
            return Ok(path);
        }
    }
    let path = temporary.join(format!("{NAME}-{}", rustix::process::geteuid().as_raw()));
    make_private(&path)?;
    Ok(path)
}

/// Creates a directory that only this user can use, or checks that an existing one is such.
fn make_private(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => check(path, 0o077),
    }
}

/// Checks that a directory belongs to this user, that nobody else can write to it, and that it is
/// no link.
///
/// # Errors
/// Fails if that is not so.
pub fn check_owner(path: &Path) -> io::Result<()> {
    check(path, 0o022)
}

/// Checks that a directory belongs to this user, has none of these permissions, and is no link.
fn check(path: &Path, forbidden: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & forbidden == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!("{} is not a private directory of this user", path.display())))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("a directory").permissions().mode() & 0o777
    }

    #[test]
    fn directory_is_private_and_below_runtime_directory_of_user() {
        let home = tempfile::tempdir().expect("a directory");
        let (runtime, temporary) = (home.path().join("run"), home.path().join("tmp"));
        fs::create_dir(&temporary).expect("created");
        let uid = rustix::process::geteuid().as_raw();
        let fallback = temporary.join(format!("p2p-node-{uid}"));
        // A runtime directory that does not exist, and one to which others can write.
        let parent = |path: &Path| default_parent(Some(path.to_owned()), &temporary).expect("a directory");
        assert_eq!(parent(&runtime), fallback);
        fs::create_dir(&runtime).expect("created");
        fs::set_permissions(&runtime, Permissions::from_mode(0o777)).expect("set");
        assert_eq!(parent(&runtime), fallback);
        fs::set_permissions(&runtime, Permissions::from_mode(0o755)).expect("set");
        assert_eq!(parent(&runtime), runtime.join("p2p-node"));
        assert_eq!(default_parent(Some("run".into()), &temporary).expect("one"), fallback, "a relative path");
        assert_eq!((mode(&fallback), mode(&runtime.join("p2p-node"))), (0o700, 0o700));
    }

    #[test]
    fn directory_that_others_can_use_is_refused() {
        let home = tempfile::tempdir().expect("a directory");
        let uid = rustix::process::geteuid().as_raw();
        let path = home.path().join(format!("p2p-node-{uid}"));
        fs::create_dir(&path).expect("created");
        fs::set_permissions(&path, Permissions::from_mode(0o750)).expect("set");
        let error = default_parent(None, home.path()).expect_err("refused");
        assert!(error.to_string().contains("not a private directory of this user"), "{error}");
        fs::remove_dir(&path).expect("removed");
        symlink("/tmp", &path).expect("linked");
        default_parent(None, home.path()).expect_err("a link is refused");
    }

    #[test]
    fn named_directory_has_one_directory_for_each_network_and_lock_scope() {
        let home = tempfile::tempdir().expect("a directory");
        let place = Place::At(home.path().join("meet/here"));
        let path = place.directory("dev", "").expect("a directory").expect("not off");
        assert_eq!(path, home.path().join("meet/here/dev"));
        assert_eq!(mode(&path), 0o700);
        let scoped = place.directory("dev", "another machine").expect("a directory").expect("not off");
        assert_ne!(scoped, path);
        assert_eq!(Place::Off.directory("dev", "").expect("off"), None);
    }
}
