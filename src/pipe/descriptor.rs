//! Descriptors of the parent's pipe: [`Waiting`] waits in `poll`, [`Polled`] never waits.
//!
//! `O_NONBLOCK` belongs to the open file description, which several processes share. The parent or a
//! neighbour in a pipeline may set it on our stdin or stdout at any time, and clearing or setting it
//! would break that process. So neither kind relies on the flag or changes it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// Descriptor whose reads and writes wait even if the descriptor is non-blocking.
#[derive(Debug)]
pub(super) struct Waiting(OwnedFd);

impl Waiting {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Waiting(fd)
    }

    /// Repeats `attempt` until it does not return `EINTR` or `EAGAIN`; waits with `poll` between.
    fn until_done<T>(
        &self,
        ready: PollFlags,
        mut attempt: impl FnMut(&OwnedFd) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match attempt(&self.0) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => match poll(&mut [PollFd::new(&self.0, ready)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                },
                done => return done.map_err(io::Error::from),
            }
        }
    }
}

impl Read for Waiting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.until_done(PollFlags::IN, |fd| rustix::io::read(fd, &mut *buffer))
    }
}

impl Write for Waiting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until_done(PollFlags::OUT, |fd| rustix::io::write(fd, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Type of the file system of pipes without a name, `PIPEFS_MAGIC` of Linux.
const PIPEFS: u64 = 0x5049_5045;

/// Direction of a descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    Read,
    Write,
}

/// Pipe or socket whose reads and writes fail with `EAGAIN` instead of waiting.
#[derive(Debug)]
pub(super) enum Polled {
    /// The pipe, opened once more, so that `O_NONBLOCK` concerns no other process.
    Pipe(OwnedFd),
    /// The socket itself; each call carries a flag that forbids to wait.
    Socket(OwnedFd),
}

impl Polled {
    /// Returns a polled descriptor for a pipe or a socket. Returns `None` for files and terminals, for
    /// a pipe whose other end is closed, and for a pipe that the system does not open a second time.
    ///
    /// Returns `None` for a named pipe too: if its writers have closed it before this call, Linux
    /// never reports the end to the new description.
    pub(super) fn new(fd: BorrowedFd<'_>, direction: Direction) -> Option<Polled> {
        match FileType::from_raw_mode(rustix::fs::fstat(fd).ok()?.st_mode) {
            FileType::Fifo if rustix::fs::fstatfs(fd).ok()?.f_type as u64 == PIPEFS => {
                let access = match direction {
                    Direction::Read => OFlags::RDONLY,
                    Direction::Write => OFlags::WRONLY,
                };
                let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC;
                rustix::fs::open(path, flags, Mode::empty()).ok().map(Polled::Pipe)
            }
            FileType::Socket => fd.try_clone_to_owned().ok().map(Polled::Socket),
            _ => None,
        }
    }

    /// Reads the available bytes; 0 is the end.
    pub(super) fn read(&self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Polled::Pipe(fd) => rustix::io::read(fd, buffer),
            Polled::Socket(fd) => {
                rustix::net::recv(fd, buffer, RecvFlags::DONTWAIT).map(|(length, _)| length)
            }
        }
    }

    /// Writes as many bytes as there is room for.
    pub(super) fn write(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        match self {
            Polled::Pipe(fd) => rustix::io::write(fd, bytes),
            Polled::Socket(fd) => rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        }
    }
}

impl AsFd for Polled {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let (Polled::Pipe(fd) | Polled::Socket(fd)) = self;
        fd.as_fd()
    }
}

impl AsRawFd for Polled {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
