//! File system functions for key files and the store: creating directories, syncing directory
//! entries so that they survive a loss of power, and classifying errors.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use p2p_node_core::effect::ExitCode;

/// Class of a file system error; decides if another start may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Temporary: a full disk, a limit of the process, or an I/O error of a device.
    Passing,
    /// The process lacks the permission.
    Permission,
    /// The path does not exist or has the wrong type.
    Misplaced,
}

impl Cause {
    /// Classifies an error.
    pub fn of(kind: io::ErrorKind) -> Self {
        use io::ErrorKind::*;
        match kind {
            PermissionDenied | ReadOnlyFilesystem => Cause::Permission,
            NotFound | AlreadyExists | NotADirectory | IsADirectory | InvalidFilename | InvalidInput => {
                Cause::Misplaced
            }
            _ => Cause::Passing,
        }
    }

    /// Returns the exit code for this cause.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Cause::Passing => ExitCode::Io,
            Cause::Permission => ExitCode::NoPermission,
            Cause::Misplaced => ExitCode::Config,
        }
    }
}

/// Creates a directory that only its owner can access, and missing parents. Syncs the new directory
/// entries to the disk.
///
/// # Errors
/// Returns the error of the operating system.
pub fn make_directory(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        // Another process created the directory first.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_name(path),
    }
}

/// Syncs the directory entry of a file or directory to the disk. Without this, a loss of power may
/// remove a new entry or undo a rename.
///
/// # Errors
/// Returns the error of the operating system.
pub fn sync_name(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()?;
    #[cfg(any(test, feature = "testing"))]
    testing::SYNCED.with_borrow_mut(|synced| synced.push(path.to_owned()));
    Ok(())
}

#[cfg(any(test, feature = "testing"))]
pub mod testing {
    //! Records the synced directory entries for tests, because a sync has no other visible effect.

    use std::cell::RefCell;
    use std::path::PathBuf;

    thread_local! {
        pub(super) static SYNCED: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
    }

    /// Returns the directory entries that this thread has synced since the last call.
    pub fn synced() -> Vec<PathBuf> {
        SYNCED.take()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn new_directories_are_private_and_synced_to_disk() {
        let home = tempfile::tempdir().expect("a directory");
        let (outer, inner) = (home.path().join("outer"), home.path().join("outer/inner"));
        make_directory(&inner).expect("made");
        assert_eq!(testing::synced(), [outer.clone(), inner.clone()]);
        for path in [&outer, &inner] {
            assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o777, 0o700);
        }
        make_directory(&inner).expect("it is there");
        assert!(testing::synced().is_empty());
    }

    #[test]
    fn directory_below_file_is_misplaced() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("file");
        fs::write(&file, "").expect("written");
        for path in [file.clone(), file.join("below")] {
            let error = make_directory(&path).expect_err("a file is in the way");
            assert_eq!(Cause::of(error.kind()), Cause::Misplaced, "{error}");
        }
    }

    #[test]
    fn passing_and_permanent_causes_have_different_exit_codes() {
        let code = |number| Cause::of(io::Error::from_raw_os_error(number).kind()).exit_code();
        // EIO, ENFILE, EMFILE, EFBIG, ENOSPC, EDQUOT of Linux and most others.
        assert_eq!([5, 23, 24, 27, 28].map(code), [ExitCode::Io; 5]);
        // EPERM, EACCES, EROFS.
        assert_eq!([1, 13, 30].map(code), [ExitCode::NoPermission; 3]);
        // ENOENT, EEXIST, ENOTDIR, EISDIR.
        assert_eq!([2, 17, 20, 21].map(code), [ExitCode::Config; 4]);
    }
}
