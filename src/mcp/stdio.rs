//! Stdin and stdout as one stream that the runtime can poll.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use crate::pipe;

/// Size of the buffers: the capacity of a Linux pipe.
const BUFFER: usize = 64 * 1024;
/// Longest wait for a host that does not read the last lines. Our choice: a host that reads takes
/// milliseconds.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// The threads of stdin and stdout.
pub(super) struct Stdio {
    written: Receiver<()>,
}

/// Connects stdin and stdout to a stream. Points file descriptor 1 at stderr, so that nothing else writes
/// to the host.
pub(super) fn open() -> io::Result<(tokio::net::UnixStream, Stdio)> {
    let (ours, theirs) = UnixStream::pair()?;
    let out = pipe::stdout()?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    let (from_host, to_host) = (theirs.try_clone()?, theirs);
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        copy(io::stdin(), &from_host);
        let _ = from_host.shutdown(Shutdown::Write);
    })?;
    let (done, written) = sync_channel(1);
    thread::Builder::new().name("stdout".to_owned()).spawn(move || {
        copy(&to_host, out);
        // A host that does not read any more has gone.
        let _ = to_host.shutdown(Shutdown::Both);
        let _ = done.send(());
    })?;
    ours.set_nonblocking(true)?;
    Ok((tokio::net::UnixStream::from_std(ours)?, Stdio { written }))
}

impl Stdio {
    /// Waits until the host has the last lines. The stream must have been dropped.
    pub(super) fn finish(self) {
        let _ = self.written.recv_timeout(FINISH_TIMEOUT);
    }
}

/// Copies until one side ends.
fn copy(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) if to.write_all(&buffer[..length]).is_err() => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
