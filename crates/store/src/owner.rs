//! Ownership of a data directory. The database is locked, but on some shared file systems (sshfs,
//! NFS without locks) other hosts do not see the lock. So the owner also updates a file regularly.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the owner file in the data directory.
pub const OWNER_FILE: &str = "node.owner";
/// Interval of the updates. One small write every 5 s is cheap, also on a network file system.
pub(super) const BEAT: Duration = Duration::from_secs(5);
/// Age of the file after which an owner on another host counts as dead: three missed updates.
const STALE: Duration = Duration::from_secs(20);
/// Maximum size of the file, in bytes: token, host and name of at most 64 bytes each, and newlines.
const MAX_BYTES: u64 = 256;
/// Written instead of the token when the owner exits normally.
const NOBODY: &str = "nobody";

/// Error: an owner on another host. Contains the name of the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Elsewhere(pub(super) String);

/// This process as the owner of a directory.
#[derive(Debug)]
pub(super) struct Owner {
    path: PathBuf,
    token: String,
    host: String,
}

/// Contents of the file.
#[derive(Debug, PartialEq, Eq)]
struct Note {
    token: String,
    host: String,
    name: String,
}

impl Note {
    /// Parses the file. Returns `None` if no owner has written it.
    fn parse(text: &str) -> Option<Note> {
        let mut lines = text.lines().map(str::to_owned);
        Some(Note { token: lines.next()?, host: lines.next()?, name: lines.next()? })
    }
}

impl Owner {
    /// Checks for a live owner on another host. `token` identifies this process.
    ///
    /// # Errors
    /// Returns the error of the operating system.
    pub(super) fn of(data_dir: &Path, token: &[u8; 16]) -> io::Result<Result<Self, Elsewhere>> {
        Owner::on_host(data_dir, token, host())
    }

    fn on_host(data_dir: &Path, token: &[u8; 16], host: String) -> io::Result<Result<Self, Elsewhere>> {
        let owner = Owner { path: data_dir.join(OWNER_FILE), token: hex::encode(token), host };
        match owner.read()? {
            // On the same host the lock of the database decides.
            Some(note) if note.token != NOBODY && note.host != owner.host && owner.age()? < STALE => {
                Ok(Err(Elsewhere(note.name)))
            }
            _ => Ok(Ok(owner)),
        }
    }

    fn read(&self) -> io::Result<Option<Note>> {
        let mut text = String::new();
        match File::open(&self.path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text)) {
            Ok(_) => Ok(Note::parse(&text)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the age of the file by the clock of the file system, because the clocks of two hosts
    /// may differ.
    fn age(&self) -> io::Result<Duration> {
        let probe = self.path.with_extension(format!("owner-{}", self.token));
        let now = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&probe);
        let now = now.and_then(|file| file.metadata()?.modified());
        // A leftover probe file is harmless.
        let _ = fs::remove_file(&probe);
        let written = fs::metadata(&self.path)?.modified()?;
        Ok(now?.duration_since(written).unwrap_or_default())
    }

    /// Claims the directory after this process has locked its database.
    ///
    /// # Errors
    /// Returns the error of the operating system.
    pub(super) fn claim(&self) -> io::Result<()> {
        self.write(&self.token)
    }

    /// Updates the file. Fails if another process has claimed the directory meanwhile.
    pub(super) fn beat(&self) -> Result<(), Elsewhere> {
        match self.read() {
            Ok(Some(note)) if note.token != self.token => Err(Elsewhere(note.name)),
            _ => {
                if let Err(error) = self.write(&self.token) {
                    tracing::debug!("writing {} failed: {error}", self.path.display());
                }
                Ok(())
            }
        }
    }

    /// Releases the directory.
    pub(super) fn release(&self) {
        if matches!(self.read(), Ok(Some(note)) if note.token == self.token) {
            // If this fails, the file becomes stale after 20 s.
            let _ = self.write(NOBODY);
        }
    }

    /// Writes the file in place with a constant length, so that it also works on a full disk.
    fn write(&self, token: &str) -> io::Result<()> {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name: String = name.chars().filter(char::is_ascii_graphic).take(64).collect();
        let note = format!("{token}\n{}\n{name}\n", self.host);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        let padding = MAX_BYTES as usize - note.len().min(MAX_BYTES as usize);
        file.write_all(note.as_bytes())?;
        file.write_all(&vec![b'\n'; padding])
    }
}

/// Returns an identifier of this host since its boot, because a reboot releases all locks.
fn host() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let host = boot.unwrap_or_else(|_| rustix::system::uname().nodename().to_string_lossy().into_owned());
    host.chars().filter(char::is_ascii_graphic).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(directory: &Path, token: u8, host: &str) -> Result<Owner, Elsewhere> {
        Owner::on_host(directory, &[token; 16], host.to_owned()).unwrap()
    }

    fn age(directory: &Path, by: Duration) {
        let file = File::options().write(true).open(directory.join(OWNER_FILE)).unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        file.set_modified(written - by).unwrap();
    }

    #[test]
    fn owner_on_another_host_keeps_directory_until_stale() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path();
        let first = on(directory, 1, "a").unwrap();
        first.claim().unwrap();
        let name = on(directory, 2, "b").unwrap_err().0;
        assert_eq!(name, rustix::system::uname().nodename().to_str().unwrap());
        assert!(on(directory, 2, "a").is_ok(), "on its own host the lock decides");
        age(directory, STALE * 2);
        assert!(on(directory, 2, "b").is_ok(), "it is taken for dead");
        first.beat().unwrap();
        assert!(on(directory, 2, "b").is_err(), "it was not");
        first.release();
        assert!(on(directory, 2, "b").is_ok());
        assert_eq!(fs::read_dir(directory).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn replaced_owner_detects_successor_and_keeps_its_file() {
        let home = tempfile::tempdir().unwrap();
        let (first, second) = (on(home.path(), 1, "a").unwrap(), on(home.path(), 2, "b").unwrap());
        first.claim().unwrap();
        second.claim().unwrap();
        assert!(first.beat().is_err());
        first.release();
        second.beat().unwrap();
    }

    #[test]
    fn malformed_owner_file_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        for bytes in [&b""[..], b"x", &[0xFF; 1000], b"\n\n"] {
            fs::write(home.path().join(OWNER_FILE), bytes).unwrap();
            let owner = on(home.path(), 1, "a").unwrap();
            owner.beat().unwrap();
            assert!(on(home.path(), 2, "b").is_err(), "it has been put right");
            fs::remove_file(home.path().join(OWNER_FILE)).unwrap();
        }
    }
}
