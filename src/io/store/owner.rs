//! Who has a data directory. The database is locked, but the locks of some shared directories (sshfs, NFS without locks) end at the host,
//! so its owner also says in a file, again and again, that it is there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the file in the data directory.
pub const OWNER_FILE: &str = "node.owner";
/// How often an owner that writes nothing else says that it is there. Ours: cheap, also on a network file system.
pub(super) const BEAT: Duration = Duration::from_secs(5);
/// How old the file of an owner on another host is before its owner is taken for dead. Ours: three beats that were lost.
const STALE: Duration = Duration::from_secs(20);
/// Longest file that is read, in bytes: token, host and name, each at most 64 bytes, and their newlines.
const MAX_BYTES: u64 = 256;
/// In place of the token when the owner has ended in good order.
const NOBODY: &str = "nobody";

/// An owner on another host, for a person: its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Elsewhere(pub(super) String);

/// This process as the owner of a directory.
#[derive(Debug)]
pub(super) struct Owner {
    path: PathBuf,
    token: String,
    host: String,
}

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
struct Note {
    token: String,
    host: String,
    name: String,
}

impl Note {
    /// What is not such a note was not written by an owner.
    fn parse(text: &str) -> Option<Note> {
        let mut lines = text.lines().map(str::to_owned);
        Some(Note { token: lines.next()?, host: lines.next()?, name: lines.next()? })
    }
}

impl Owner {
    /// Asks whether an owner on another host has been there lately. `token` names this process.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn of(data_dir: &Path, token: &[u8; 16]) -> io::Result<Result<Self, Elsewhere>> {
        Owner::on_host(data_dir, token, host())
    }

    fn on_host(data_dir: &Path, token: &[u8; 16], host: String) -> io::Result<Result<Self, Elsewhere>> {
        let owner = Owner { path: data_dir.join(OWNER_FILE), token: hex::encode(token), host };
        match owner.read()? {
            // On this host the lock of the database says more.
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

    /// How long ago the file was written, by the clock that dates files there: those of two hosts may differ.
    fn age(&self) -> io::Result<Duration> {
        let probe = self.path.with_extension(format!("owner-{}", self.token));
        let now = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&probe);
        let now = now.and_then(|file| file.metadata()?.modified());
        // What is left of it harms nobody.
        let _ = fs::remove_file(&probe);
        let written = fs::metadata(&self.path)?.modified()?;
        Ok(now?.duration_since(written).unwrap_or_default())
    }

    /// Takes the directory, whose database this process has locked.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn claim(&self) -> io::Result<()> {
        self.write(&self.token)
    }

    /// Says that the owner is there; or, if another has taken the directory meanwhile, that it is not the owner any more.
    pub(super) fn beat(&self) -> Result<(), Elsewhere> {
        match self.read() {
            Ok(Some(note)) if note.token != self.token => Err(Elsewhere(note.name)),
            _ => {
                if let Err(error) = self.write(&self.token) {
                    tracing::debug!("{} cannot be written: {error}", self.path.display());
                }
                Ok(())
            }
        }
    }

    /// Lets go of the directory.
    pub(super) fn release(&self) {
        if matches!(self.read(), Ok(Some(note)) if note.token == self.token) {
            // Otherwise its age tells.
            let _ = self.write(NOBODY);
        }
    }

    /// Always as long, and in place, so that a full disk has room for it.
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

/// This host, from its start on: locks of an earlier one are gone.
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
    fn an_owner_on_another_host_keeps_the_directory_while_it_is_there() {
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
    fn an_owner_that_was_taken_for_dead_finds_out_and_leaves_its_successor_alone() {
        let home = tempfile::tempdir().unwrap();
        let (first, second) = (on(home.path(), 1, "a").unwrap(), on(home.path(), 2, "b").unwrap());
        first.claim().unwrap();
        second.claim().unwrap();
        assert!(first.beat().is_err());
        first.release();
        second.beat().unwrap();
    }

    #[test]
    fn a_file_that_no_owner_wrote_is_no_obstacle() {
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
