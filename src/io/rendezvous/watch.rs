//! Watches the rendezvous directory for new files: by inotify on Linux, and otherwise by a slow
//! scan. A new node dials older ones itself, so a slow scan delays only mail to a node that none of
//! our peers knows.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use alloy::primitives::Address;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::directory::{files, parse_name};

/// Interval of the scan: our choice. It reads the time of the directory, and the names only if that
/// has changed.
const SCAN_INTERVAL: Duration = Duration::from_secs(5);

/// A watched directory.
#[derive(Debug)]
pub(super) enum Watch {
    #[cfg(target_os = "linux")]
    Inotify(inotify::Inotify),
    Scan(Scan),
}

impl Watch {
    /// Watches a directory. Must be called within a tokio runtime.
    pub(super) fn new(path: &Path) -> Self {
        // The system limits the number of inotify instances of each user.
        #[cfg(target_os = "linux")]
        match inotify::Inotify::new(path) {
            Ok(watch) => return Watch::Inotify(watch),
            Err(error) => tracing::debug!(%error, "no inotify: the node scans {}", path.display()),
        }
        Watch::Scan(Scan::new(path))
    }

    /// Waits for new files, and returns their agents. Cancel-safe.
    pub(super) async fn added(&mut self) -> Vec<Address> {
        loop {
            let agents = match self {
                #[cfg(target_os = "linux")]
                Watch::Inotify(watch) => watch.added().await,
                Watch::Scan(scan) => Ok(scan.added().await),
            };
            match agents {
                Ok(agents) if agents.is_empty() => {}
                Ok(agents) => return agents,
                Err(path) => *self = Watch::Scan(Scan::new(&path)),
            }
        }
    }
}

/// A scan at regular intervals.
#[derive(Debug)]
pub(super) struct Scan {
    path: PathBuf,
    ticks: Interval,
    known: HashSet<String>,
    changed: Option<SystemTime>,
}

impl Scan {
    fn new(path: &Path) -> Self {
        let mut ticks = interval(SCAN_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Scan { path: path.to_owned(), ticks, known: files(path).into_iter().collect(), changed: None }
    }

    async fn added(&mut self) -> Vec<Address> {
        self.ticks.tick().await;
        self.look()
    }

    /// Returns the agents whose files are new since the last call.
    fn look(&mut self) -> Vec<Address> {
        let changed = std::fs::metadata(&self.path).and_then(|found| found.modified()).ok();
        if changed == self.changed {
            return Vec::new();
        }
        self.changed = changed;
        let found: HashSet<String> = files(&self.path).into_iter().collect();
        let added = found.difference(&self.known).filter_map(|file| parse_name(OsStr::new(file)));
        let added = added.map(|name| name.agent).collect();
        self.known = found;
        added
    }
}

#[cfg(target_os = "linux")]
mod inotify {
    use std::ffi::OsStr;
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStrExt;
    use std::path::{Path, PathBuf};

    use alloy::primitives::Address;
    use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
    use rustix::io::Errno;
    use tokio::io::unix::AsyncFd;

    use super::super::directory::{MAX_ENTRIES, parse_name};

    /// Size of the buffer for events, in bytes: about 30 new files.
    const BUFFER_BYTES: usize = 4096;

    /// An inotify instance with one watch.
    #[derive(Debug)]
    pub(crate) struct Inotify {
        path: PathBuf,
        events: AsyncFd<OwnedFd>,
    }

    impl Inotify {
        pub(crate) fn new(path: &Path) -> io::Result<Self> {
            let instance = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            // A node renames its file into place.
            add_watch(&instance, path, WatchFlags::MOVED_TO | WatchFlags::ONLYDIR)?;
            #[expect(
                deprecated,
                reason = "sound for a descriptor that is owned and never replaced; the successor is an unsafe function"
            )]
            let events = AsyncFd::new(instance)?;
            Ok(Inotify { path: path.to_owned(), events })
        }

        /// Returns the agents of new files. Fails with the path of the directory if inotify does.
        pub(crate) async fn added(&mut self) -> Result<Vec<Address>, PathBuf> {
            loop {
                let Ok(mut ready) = self.events.readable().await else { return Err(self.path.clone()) };
                match read_events(self.events.get_ref()) {
                    Ok(agents) => return Ok(agents),
                    Err(Errno::WOULDBLOCK) => ready.clear_ready(),
                    Err(_) => return Err(self.path.clone()),
                }
            }
        }
    }

    /// Reads the waiting events. Fails with `WOULDBLOCK` if there are none.
    fn read_events(instance: &OwnedFd) -> Result<Vec<Address>, Errno> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(instance, &mut buffer);
        let mut agents = Vec::new();
        let mut events = 0;
        while events < MAX_ENTRIES {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    agents.extend(name.and_then(parse_name).map(|name| name.agent));
                }
                Err(Errno::WOULDBLOCK) if events > 0 => break,
                Err(error) => return Err(error),
            }
            events += 1;
        }
        Ok(agents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn scan_reports_each_new_file_once() {
        let home = tempfile::tempdir().expect("a directory");
        let file = |digit: &str| {
            let peer = libp2p::PeerId::random();
            std::fs::write(home.path().join(format!("0x{}.{peer}", digit.repeat(40))), "").expect("written");
        };
        file("1");
        let mut scan = Scan::new(home.path());
        assert!(scan.look().is_empty(), "files from before are no news");
        file("2");
        std::fs::write(home.path().join("other"), "").expect("written");
        // The time of a directory may have the resolution of the kernel's clock.
        scan.changed = None;
        assert_eq!(scan.look(), [Address::repeat_byte(0x22)]);
        assert!(scan.look().is_empty());
    }
}
