//! Reads env files into a map. Does not change the environment of the process.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::ConfigError;

/// Maximum size of an env file, in bytes. 256 KiB hold some thousand lines, and bound the memory
/// that a wrong path costs.
pub(super) const MAX_ENV_FILE_BYTES: u64 = 256 * 1024;

/// Errors of an env file. They give the line number, never the content, which may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    /// The file is unreadable.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The file is larger than [`MAX_ENV_FILE_BYTES`].
    #[error("is larger than {} KiB", MAX_ENV_FILE_BYTES / 1024)]
    TooLarge,
    /// A line is not of the form `NAME=value`.
    #[error("line {0} is not of the form NAME=value")]
    Malformed(usize),
}

/// Variables of an env file. If a name occurs twice, the last value counts, as in a shell.
#[derive(Default)]
pub(super) struct EnvFile {
    values: BTreeMap<String, Zeroizing<String>>,
    /// Permissions of a regular file. `None` for a pipe, because `<(…)` of a shell is private by
    /// itself.
    mode: Option<u32>,
}

impl EnvFile {
    /// Reads `path`, which may be a pipe. Returns `None` if the file does not exist.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, EnvFileError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(EnvFileError::Unreadable(error)),
        };
        let metadata = file.metadata().map_err(EnvFileError::Unreadable)?;
        let mut text = Zeroizing::new(Vec::new());
        file.take(MAX_ENV_FILE_BYTES + 1).read_to_end(&mut text).map_err(EnvFileError::Unreadable)?;
        if text.len() as u64 > MAX_ENV_FILE_BYTES {
            return Err(EnvFileError::TooLarge);
        }
        let mode = metadata.is_file().then(|| metadata.permissions().mode() & 0o7777);
        Ok(Some(EnvFile { mode, ..Self::parse(&text)? }))
    }

    /// Reads the `.env` of a project, which other programs use as well. Returns `None` unless it is
    /// a regular file, because opening a pipe may block for ever. Ignores malformed lines that do
    /// not set a variable of this program.
    pub(super) fn read_shared(path: &Path) -> Result<Option<Self>, EnvFileError> {
        if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
            return Ok(None);
        }
        match Self::read(path) {
            Err(EnvFileError::Malformed(_)) => {}
            read => return read,
        }
        let text = Zeroizing::new(fs::read(path).map_err(EnvFileError::Unreadable)?);
        let mode = fs::metadata(path).map_err(EnvFileError::Unreadable)?.permissions().mode() & 0o7777;
        let mut values = BTreeMap::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            match Self::parse(line) {
                Ok(file) => values.extend(file.values),
                Err(_) if sets_ours(line) => return Err(EnvFileError::Malformed(index + 1)),
                Err(_) => {}
            }
        }
        Ok(Some(EnvFile { values, mode: Some(mode) }))
    }

    /// Checks that only the owner may read the file, which contains a secret.
    pub(super) fn check_secret(&self, path: &Path, variable: &'static str) -> Result<(), ConfigError> {
        match self.mode {
            Some(mode) if mode & 0o077 != 0 => {
                Err(ConfigError::OpenToOthers { path: path.to_owned(), variable, mode })
            }
            _ => Ok(()),
        }
    }

    fn parse(text: &[u8]) -> Result<Self, EnvFileError> {
        let mut values = BTreeMap::new();
        let mut handed_out = 0;
        let lines = LineByLine {
            rest: text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text),
            handed_out: &mut handed_out,
        };
        let parsed: Result<Vec<_>, _> = dotenvy::Iter::new(lines).collect();
        let Ok(parsed) = parsed else {
            return Err(EnvFileError::Malformed(handed_out));
        };
        for (name, value) in parsed {
            values.insert(name, Zeroizing::new(value));
        }
        Ok(EnvFile { values, mode: None })
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.as_str())
    }
}

/// Returns `true` if a line sets a variable of this program.
fn sets_ours(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    let name = line.strip_prefix(b"export ").unwrap_or(line).trim_ascii_start();
    [&b"P2P_NODE_"[..], b"PRIVATE_KEY", b"REGISTRY_ADDRESS", b"RPC_URL"]
        .iter()
        .any(|ours| name.starts_with(ours))
}

/// Returns one line per read and counts lines, because the errors of the parser quote the line but
/// do not give its number.
struct LineByLine<'a> {
    rest: &'a [u8],
    handed_out: &'a mut usize,
}

impl Read for LineByLine<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.rest.iter().position(|&byte| byte == b'\n').map_or(self.rest.len(), |at| at + 1);
        let length = end.min(buffer.len());
        let (head, rest) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(head);
        self.rest = rest;
        if head.ends_with(b"\n") || (rest.is_empty() && length > 0) {
            *self.handed_out += 1;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<EnvFile, EnvFileError> {
        EnvFile::parse(text.as_bytes())
    }

    #[test]
    fn comments_quotes_exports_and_a_byte_order_mark_are_read() {
        let file =
            parse("\u{FEFF}A=1\r\n# a comment\n\nexport B='two words'\nC=\"3\" # three\nA=4").expect("valid");
        assert_eq!(file.get("A"), Some("4"), "the last counts");
        assert_eq!(file.get("B"), Some("two words"));
        assert_eq!(file.get("C"), Some("3"));
        assert_eq!(file.get("D"), None);
    }

    #[test]
    fn bad_line_is_reported_by_number_without_content() {
        let long = "x".repeat(20_000);
        for (text, line) in
            [("A=1\n\nhunter2 hunter2\nB=2\n".to_owned(), 3), (format!("A={long}\nhunter2 is bad"), 2)]
        {
            let error = parse(&text).err().expect("refused");
            assert!(matches!(error, EnvFileError::Malformed(at) if at == line), "{error}");
            assert!(!format!("{error}{error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn file_at_size_limit_is_read_and_longer_file_rejected() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("big");
        let mut text = b"A=1\n#".to_vec();
        text.resize(usize::try_from(MAX_ENV_FILE_BYTES).expect("small"), b'.');
        std::fs::write(&path, &text).expect("written");
        assert!(EnvFile::read(&path).expect("read").is_some());
        text.push(b'.');
        std::fs::write(&path, &text).expect("written");
        assert!(matches!(EnvFile::read(&path), Err(EnvFileError::TooLarge)));
    }

    #[test]
    fn missing_file_is_none_and_directory_is_error() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(EnvFile::read(&directory.path().join("none")).expect("no error").is_none());
        assert!(matches!(EnvFile::read(directory.path()), Err(EnvFileError::Unreadable(_))));
    }
}
