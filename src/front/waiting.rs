use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// A descriptor whose reads and writes wait, whether it is blocking or not.
///
/// Whether it is belongs to what is open, not to the descriptor, so that it is the same for every process that shares it: a parent or a
/// neighbour in a pipeline may make our stdin or stdout non-blocking at any moment, and we may not change it under their hands.
#[derive(Debug)]
pub(super) struct Waiting(OwnedFd);

impl Waiting {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Waiting(fd)
    }

    /// Does what may have to wait, as often as it takes.
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
