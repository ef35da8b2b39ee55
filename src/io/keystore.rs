//! Key files, and the lock that keeps one identity in one process.

mod lock;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use p2p_node_protocol::ErrorCode;
use zeroize::Zeroizing;

use super::disk::{Cause, make_directory, sync_name};
pub use lock::{IdentityLock, InUse};
use p2p_node_core::effect::ExitCode;
use p2p_node_wire::identity::SecretBytes;

/// Name of the node key's file in the data directory.
pub const NODE_KEY_FILE: &str = "node.key";

/// Name of the file in the data directory with the key of an agent that was given none.
pub const AGENT_KEY_FILE: &str = "agent.key";

/// Largest key file that is read, in bytes: 64 digits and room for comments.
const MAX_KEY_FILE_BYTES: u64 = 4096;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Reading or writing it failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or its directory.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error(
        "{path} is open to others (mode {mode:04o}): make it 0600, and think whether the key is still secret"
    )]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It does not hold a key.
    #[error("{0} does not hold 64 hexadecimal digits; delete it to get a new identity")]
    Malformed(PathBuf),
    /// It is not there.
    #[error("{0}: there is no such key file")]
    Missing(PathBuf),
    /// It is there already, and is never overwritten.
    #[error("{0} exists already and is left as it is")]
    Exists(PathBuf),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Entropy(getrandom::Error),
}

impl KeyFileError {
    /// What the parent is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            KeyFileError::Io { source, .. } if Cause::of(source.kind()) == Cause::Passing => {
                ErrorCode::StoreUnavailable
            }
            _ => ErrorCode::IdentityInvalid,
        }
    }

    /// How the process ends for this reason.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            KeyFileError::OpenToOthers { .. } => ExitCode::NoPermission,
            KeyFileError::Io { source, .. } => Cause::of(source.kind()).exit_code(),
            KeyFileError::Malformed(_) | KeyFileError::Missing(_) => ExitCode::Config,
            KeyFileError::Exists(_) => ExitCode::Usage,
            KeyFileError::Entropy(_) => ExitCode::Software,
        }
    }
}

/// 32 bytes from the system's source of randomness.
///
/// # Errors
/// When the system has none to give.
pub fn random_secret() -> Result<SecretBytes, KeyFileError> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(secret.as_mut()).map_err(KeyFileError::Entropy)?;
    Ok(secret.into())
}

/// The Ed25519 seed in a key file, made and written there if there is none yet. Its directory is made if it is missing.
///
/// # Errors
/// When the file is open to others, damaged, or cannot be read or written.
pub fn node_key(path: &Path) -> Result<SecretBytes, KeyFileError> {
    kept_key(path, random_secret)
}

/// The secret in a key file; if there is none yet, what `make` returns is written there.
///
/// # Errors
/// As [`node_key`], and those of `make`.
pub fn kept_key<E: From<KeyFileError>>(
    path: &Path,
    make: impl FnOnce() -> Result<SecretBytes, E>,
) -> Result<SecretBytes, E> {
    if let Some(seed) = read_key(path)? {
        return Ok(seed);
    }
    let secret = make()?;
    Ok(write_key(path, secret)?)
}

fn write_key(path: &Path, seed: SecretBytes) -> Result<SecretBytes, KeyFileError> {
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_directory(directory).map_err(at(directory))?;
    }
    let mut digits = Zeroizing::new([0; 65]);
    // 32 bytes are 64 digits, and the newline stays.
    digits[64] = b'\n';
    if hex::encode_to_slice(*seed, &mut digits[..64]).is_err() {
        return Err(KeyFileError::Malformed(path.to_owned()));
    }
    match write_private(path, digits.as_ref()) {
        Ok(()) => Ok(seed),
        // Another process was quicker: its key is the one.
        Err(KeyFileError::Exists(_)) => existing_node_key(path),
        Err(error) => Err(error),
    }
}

/// The Ed25519 seed in a key file.
///
/// # Errors
/// When there is none, or as [`node_key`].
pub fn existing_node_key(path: &Path) -> Result<SecretBytes, KeyFileError> {
    read_key(path)?.ok_or_else(|| KeyFileError::Missing(path.to_owned()))
}

/// Writes a new file that its owner alone may read, and brings it and its name to the disk.
///
/// # Errors
/// [`KeyFileError::Exists`] when there is such a file; otherwise what the system says.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), KeyFileError> {
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(KeyFileError::Exists(path.to_owned()));
        }
        Err(error) => return Err(at(path)(error)),
    };
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| sync_name(path));
    written.map_err(|error| {
        // Half a key is worse than none; the first error is the one to tell.
        let _ = fs::remove_file(path);
        at(path)(error)
    })
}

/// The content of a file that holds no secret. Of one that is longer than `limit` bytes there is one byte more than that.
///
/// # Errors
/// What the system says.
pub fn read_public(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(limit as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// Writes a file that holds no secret in place of one that may be there: whoever looks finds the old content or the new.
///
/// # Errors
/// What the system says.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), KeyFileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = path.with_file_name(name);
    let written = File::create(&fresh)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&fresh, path))
        .and_then(|()| sync_name(path));
    written.map_err(|error| {
        let _ = fs::remove_file(&fresh);
        at(path)(error)
    })
}

/// The key in a file of hexadecimal digits, where lines that begin with `#` are comments; `None` if there is no
/// such file.
fn read_key(path: &Path) -> Result<Option<SecretBytes>, KeyFileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    let mode = file.metadata().map_err(at(path))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::OpenToOthers { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_KEY_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => KeyFileError::Malformed(path.to_owned()),
        _ => at(path)(error),
    })?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut key = Zeroizing::new([0; 32]);
    match (text.len() as u64 <= MAX_KEY_FILE_BYTES, lines.next(), lines.next()) {
        (true, Some(digits), None) if hex::decode_to_slice(digits, key.as_mut()).is_ok() => {
            Ok(Some(key.into()))
        }
        _ => Err(KeyFileError::Malformed(path.to_owned())),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> KeyFileError {
    move |source| KeyFileError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::testing::synced;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    fn put(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    }

    #[test]
    fn the_key_is_made_once_private_and_kept() {
        let directory = directory();
        let data_dir = directory.path().join("deep/er");
        let path = data_dir.join(NODE_KEY_FILE);
        assert!(matches!(existing_node_key(&path), Err(KeyFileError::Missing(_))));
        let first = node_key(&path).expect("made");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&data_dir)), (0o600, 0o700));
        assert_eq!(synced(), [directory.path().join("deep"), data_dir, path.clone()]);
        assert_eq!(fs::read_to_string(&path).expect("text"), format!("{}\n", hex::encode(&first[..])));
        assert_eq!(*node_key(&path).expect("read"), *first);
        assert_ne!(*node_key(&directory.path().join("other/key")).expect("made"), *first);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let directory = directory();
        let path = directory.path().join(NODE_KEY_FILE);
        for mode in [0o640, 0o604, 0o620] {
            put(&path, &"00".repeat(32), mode);
            let error = node_key(&path).expect_err("refused");
            assert_eq!(error.exit_code(), ExitCode::NoPermission, "{error}");
            assert!(error.to_string().contains(&format!("mode {mode:04o}")), "{error}");
        }
        put(&path, &"00".repeat(32), 0o400);
        node_key(&path).expect("accepted");
    }

    #[test]
    fn a_damaged_key_is_refused_left_alone_and_not_quoted() {
        let directory = directory();
        let path = directory.path().join(NODE_KEY_FILE);
        let long = format!("{}\n{}", "ab".repeat(32), "#".repeat(4096));
        for text in ["", "# only a comment\n", "abcd\n", &"zz".repeat(32), &"ab\n".repeat(2), &long] {
            put(&path, text, 0o600);
            let error = node_key(&path).expect_err("refused");
            assert!(matches!(error, KeyFileError::Malformed(_)), "{error}");
            assert_eq!(error.exit_code(), ExitCode::Config);
            assert_eq!(fs::read_to_string(&path).expect("there"), text);
        }
        put(&path, &format!("# for tests only\n{}\n", "ab".repeat(32)), 0o600);
        assert_eq!(*node_key(&path).expect("accepted"), [0xab; 32]);
    }

    #[test]
    fn a_file_that_exists_is_never_overwritten() {
        let directory = directory();
        let path = directory.path().join("key");
        write_private(&path, b"one").expect("written");
        assert!(matches!(write_private(&path, b"two"), Err(KeyFileError::Exists(_))));
        assert_eq!(fs::read(&path).expect("there"), b"one");
    }

    #[test]
    fn a_file_that_is_replaced_is_whole_and_leaves_nothing_behind() {
        let directory = directory();
        let path = directory.path().join("binding.json");
        for content in ["one", "another"] {
            replace(&path, content.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("there"), content);
        }
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1);
        replace(&directory.path().join("none/binding.json"), b"x").expect_err("there is no directory");
    }
}
