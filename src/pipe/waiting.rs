//! Waits by `poll` for descriptors that others may have made non-blocking.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Descriptor whose reads and writes wait even if the descriptor is non-blocking.
///
/// `O_NONBLOCK` belongs to the open file description, which several processes share. The parent or
/// a neighbour in a pipeline may set it on our stdin or stdout at any time, and clearing it would
/// break that process.
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
