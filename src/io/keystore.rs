//! Key files, and the lock that allows only one process per identity.

mod lock;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use p2p_node_protocol::ErrorCode;
use zeroize::Zeroizing;

pub use lock::{IdentityLock, InUse};
use p2p_node_core::effect::ExitCode;
use p2p_node_store::disk::{Cause, make_directory, sync_name};
use p2p_node_wire::identity::SecretBytes;

/// Name of the node key file in the data directory.
pub const NODE_KEY_FILE: &str = "node.key";

/// Name of the file in the data directory with the generated key of an agent without a configured
/// key.
pub const AGENT_KEY_FILE: &str = "agent.key";

/// Maximum size of a key file, in bytes: 64 hex digits and comments.
const MAX_KEY_FILE_BYTES: u64 = 4096;

/// Errors of key files.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Reading or writing the file failed.
    #[error("{path}: {source}")]
    Io {
        /// Path of the file or its directory.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// Users other than the owner may read or write the file.
    #[error(
        "{path} is accessible to other users (mode {mode:04o}): run `chmod 600 {path}`, and replace the key if somebody may have read it"
    )]
    OpenToOthers {
        /// Path of the file.
        path: PathBuf,
        /// Permission bits of the file.
        mode: u32,
    },
    /// The file does not contain a key.
    #[error(
        "{0} does not contain 64 hexadecimal digits: restore it from a backup, or delete it to get a new identity"
    )]
    Malformed(PathBuf),
    /// The file does not exist.
    #[error("key file {0} does not exist")]
    Missing(PathBuf),
    /// The file exists and will not be overwritten.
    #[error("{0} already exists and was not changed: choose another path or remove the file")]
    Exists(PathBuf),
    /// The operating system did not return random bytes.
    #[error("reading random bytes from the operating system failed: {0}")]
    Entropy(getrandom::Error),
}

impl KeyFileError {
    /// Returns the stable error code.
    pub fn code(&self) -> ErrorCode {
        match self {
            KeyFileError::Io { source, .. } if Cause::of(source.kind()) == Cause::Passing => {
                ErrorCode::StoreUnavailable
            }
            _ => ErrorCode::IdentityInvalid,
        }
    }

    /// Returns the exit code for this error.
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

/// Returns 32 random bytes from the operating system.
///
/// # Errors
/// Fails if the operating system returns an error.
pub fn random_secret() -> Result<SecretBytes, KeyFileError> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(secret.as_mut()).map_err(KeyFileError::Entropy)?;
    Ok(secret.into())
}

/// Reads the Ed25519 seed from a key file. Creates the file and its directory if they are missing.
///
/// # Errors
/// Fails if the file is accessible to other users, malformed, unreadable or not writable.
pub fn node_key(path: &Path) -> Result<SecretBytes, KeyFileError> {
    persisted_key(path, random_secret)
}

/// Reads the secret from a key file. If the file is missing, writes the secret that `make` returns.
///
/// # Errors
/// Returns the errors of [`node_key`] and of `make`.
pub fn persisted_key<E: From<KeyFileError>>(
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
    // 64 hex digits and a newline.
    digits[64] = b'\n';
    if hex::encode_to_slice(*seed, &mut digits[..64]).is_err() {
        return Err(KeyFileError::Malformed(path.to_owned()));
    }
    match write_private(path, digits.as_ref()) {
        Ok(()) => Ok(seed),
        // Another process created the file first: use its key.
        Err(KeyFileError::Exists(_)) => existing_node_key(path),
        Err(error) => Err(error),
    }
}

/// Reads the Ed25519 seed from an existing key file.
///
/// # Errors
/// Fails if the file does not exist, or with the errors of [`node_key`].
pub fn existing_node_key(path: &Path) -> Result<SecretBytes, KeyFileError> {
    read_key(path)?.ok_or_else(|| KeyFileError::Missing(path.to_owned()))
}

/// Writes a new file that only its owner can read, and syncs the file and its directory entry.
///
/// # Errors
/// Returns [`KeyFileError::Exists`] if the file exists, else the error of the operating system.
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
        // A partial key file would block the next start. The first error is the one to report.
        let _ = fs::remove_file(path);
        at(path)(error)
    })
}

/// Reads a file without secrets. Returns at most `limit + 1` bytes, so that the caller can detect a
/// file that is too long.
///
/// # Errors
/// Returns the error of the operating system.
pub fn read_public(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(limit as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// Writes a file without secrets atomically: a reader sees the old content or the new content.
///
/// # Errors
/// Returns the error of the operating system.
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

/// Reads a key from a file of hex digits with `#` comment lines. Returns `None` if the file does
/// not exist.
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
    use p2p_node_store::disk::testing::synced;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    fn put(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    }

    #[test]
    fn node_key_is_created_once_in_private_file() {
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
    fn key_readable_by_others_is_rejected() {
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
    fn malformed_key_is_rejected_unchanged_and_not_quoted() {
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
    fn existing_file_is_not_overwritten() {
        let directory = directory();
        let path = directory.path().join("key");
        write_private(&path, b"one").expect("written");
        assert!(matches!(write_private(&path, b"two"), Err(KeyFileError::Exists(_))));
        assert_eq!(fs::read(&path).expect("there"), b"one");
    }

    #[test]
    fn replaced_file_is_complete_and_leaves_no_other_file() {
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
