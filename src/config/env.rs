//! Env files, read into a map: the process's own environment is never changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// Largest env file that is read, in bytes: room for some thousand lines, and a bound for a wrong path.
pub(super) const MAX_ENV_FILE_BYTES: u64 = 256 * 1024;

/// Why an env file cannot be used. A line's content is never quoted: it may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is larger than 256 KiB, which no env file is.
    #[error("is larger than {} KiB", MAX_ENV_FILE_BYTES / 1024)]
    TooLarge,
    /// A line is not of the form `NAME=value`.
    #[error("line {0} is not of the form NAME=value")]
    Malformed(usize),
}

/// The variables of an env file; of several with one name the last counts, as in a shell.
#[derive(Default)]
pub(super) struct EnvFile(BTreeMap<String, Zeroizing<String>>);

impl EnvFile {
    /// Reads `path`; `None` if there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, EnvFileError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(EnvFileError::Unreadable(error)),
        };
        let mut text = Zeroizing::new(Vec::new());
        file.take(MAX_ENV_FILE_BYTES + 1).read_to_end(&mut text).map_err(EnvFileError::Unreadable)?;
        if text.len() as u64 > MAX_ENV_FILE_BYTES {
            return Err(EnvFileError::TooLarge);
        }
        Self::parse(&text).map(Some)
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
        Ok(EnvFile(values))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str())
    }
}

/// Hands out one line per read and counts them, because the parser's errors quote the line but do not
/// number it.
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
    fn a_bad_line_is_numbered_and_never_quoted() {
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
    fn a_file_at_the_limit_is_read_and_one_byte_more_is_not() {
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
    fn a_missing_file_is_none_and_a_directory_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(EnvFile::read(&directory.path().join("none")).expect("no error").is_none());
        assert!(matches!(EnvFile::read(directory.path()), Err(EnvFileError::Unreadable(_))));
    }
}
