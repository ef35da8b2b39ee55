//! The pipe to the parent: reads command lines and writes event lines.
//!
//! The loop itself reads and writes pipes and sockets, because the hand-over to a thread costs more
//! than the read or write. Files, terminals and full pipes have a thread for each direction, because a
//! read or write that waits cannot be cancelled and must not block the loop.
//!
//! A slow parent never blocks the node: [`Output::send`] does not block, and [`Progress`] counts
//! the written lines. If the node does not take a [`InputChunk`], the reader stops, and then the
//! parent's writes block.

mod descriptor;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::sync::Notify;

use descriptor::{Direction, Polled, Waiting};
use reader::Tail;
pub use reader::{Input, InputChunk};
pub use writer::{CrashReporter, Line, Output, Progress, SendError};

/// Maximum number of lines that were passed to [`Output`] but are not in [`Progress::written`] yet.
/// The fastest pipe measured takes 300,000 lines of 300 bytes per second, so 4,096 lines last 14
/// ms. That is several turns of the loop, so the writer never waits for the node.
pub const PIPE_WINDOW: usize = 4096;

/// Both directions of the pipe to the parent.
#[derive(Debug)]
pub struct Pipe {
    /// Commands from the parent.
    pub input: Input,
    /// Events to the parent.
    pub output: Output,
    /// Progress of the writer.
    pub progress: Arc<Progress>,
}

impl Pipe {
    /// Starts one thread that reads `input` and one that writes `output`. Each thread exits when
    /// its pipe is closed, or when it finds that the [`Pipe`] was dropped.
    ///
    /// # Errors
    /// Fails if a thread cannot be started.
    pub fn start(input: impl Read + Send + 'static, output: impl Write + Send + 'static) -> io::Result<Pipe> {
        let (output, progress) = writer::start(output, None)?;
        Ok(Pipe { input: Input::start(input)?, output, progress })
    }

    /// Starts the pipe on two descriptors. Within a tokio runtime, the loop reads and writes pipes and
    /// sockets itself.
    ///
    /// # Errors
    /// Fails if a thread cannot be started.
    pub fn open(input: OwnedFd, output: OwnedFd) -> io::Result<Pipe> {
        let within_runtime = tokio::runtime::Handle::try_current().is_ok();
        let polled =
            |fd: &OwnedFd, direction| within_runtime.then(|| Polled::new(fd.as_fd(), direction)).flatten();
        let polled_output = polled(&output, Direction::Write);
        let (output, progress) = writer::start(Waiting::new(output), polled_output)?;
        let polled_input =
            polled(&input, Direction::Read).map(|fd| Input::polled(fd, Tail::Line)).and_then(Result::ok);
        let input = match polled_input {
            Some(input) => input,
            None => Input::start(Waiting::new(input))?,
        };
        Ok(Pipe { input, output, progress })
    }

    /// Starts the pipe on a socket, within a tokio runtime. An unfinished last line counts as none, because
    /// a process that was killed leaves one. `changed` is notified of the progress of the writer.
    ///
    /// # Errors
    /// Fails if the thread cannot be started, or the system cannot poll the socket.
    pub fn socket(socket: OwnedFd, changed: Arc<Notify>) -> io::Result<Pipe> {
        let polled = |direction| {
            Polled::new(socket.as_fd(), direction)
                .ok_or_else(|| io::Error::other("the socket cannot be polled"))
        };
        let (read, write) = (polled(Direction::Read)?, polled(Direction::Write)?);
        let (output, progress) = writer::start_notifying(Waiting::new(socket), Some(write), changed)?;
        Ok(Pipe { input: Input::polled(read, Tail::Ignored)?, output, progress })
    }

    /// Starts the pipe on stdin and stdout. Redirects file descriptor 1 to stderr, so that output
    /// of a library never mixes with the events. Call it once, before anything else reads or
    /// prints.
    ///
    /// # Errors
    /// Fails if a descriptor cannot be duplicated or a thread cannot be started.
    pub fn stdio() -> io::Result<Pipe> {
        let input = dup_cloexec(rustix::stdio::stdin())?;
        let output = dup_cloexec(rustix::stdio::stdout())?;
        rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
        Pipe::open(input, output)
    }

    /// Returns a handle that can write a last event after the node has failed.
    pub fn crash_reporter(&self) -> CrashReporter {
        self.output.crash_reporter()
    }

    /// Starts the pipe on two pipes within the process. Also returns the parent's end.
    ///
    /// # Errors
    /// Fails if a pipe or a thread cannot be created.
    pub fn memory() -> io::Result<(Pipe, ParentEnd)> {
        let (node_input, input) = io::pipe()?;
        let (output, node_output) = io::pipe()?;
        let parent = ParentEnd { input, output: BufReader::new(output) };
        Ok((Pipe::open(node_input.into(), node_output.into())?, parent))
    }
}

/// Returns stdout for the subcommands. Writes wait even if stdout is non-blocking.
///
/// # Errors
/// Fails if the descriptor cannot be duplicated.
pub fn stdout() -> io::Result<impl Write> {
    dup_cloexec(rustix::stdio::stdout()).map(Waiting::new)
}

/// Duplicates `fd` to a number above 2, with close-on-exec.
fn dup_cloexec(fd: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

/// The parent's end of [`Pipe::memory`]. Its methods block.
#[derive(Debug)]
pub struct ParentEnd {
    /// Input of the node. Dropping it closes the input.
    pub input: PipeWriter,
    /// Output of the node. Dropping it closes the output.
    pub output: BufReader<PipeReader>,
}

impl ParentEnd {
    /// Writes `line` and a newline.
    ///
    /// # Errors
    /// Fails if the node no longer reads.
    pub fn write_line(&mut self, line: &str) -> io::Result<()> {
        self.input.write_all(format!("{line}\n").as_bytes())
    }

    /// Reads one line without its newline. Returns `None` at the end of the output.
    ///
    /// # Errors
    /// Fails if the line is not UTF-8.
    pub fn read_line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let length = self.output.read_line(&mut line)?;
        Ok((length > 0).then(|| line.trim_end_matches('\n').to_owned()))
    }
}
