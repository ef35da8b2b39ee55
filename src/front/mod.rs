//! What speaks the pipe: lines in, lines out, each on a thread of its own, because a read or write of a pipe
//! cannot be cancelled and must hold up nothing else.
//!
//! The parent's pace never reaches the node: [`Output::send`] does not block, and how far the writer has come is
//! told by [`Progress`]. A node that takes no [`Batch`] stops the reader, and so the parent.

mod reader;
mod waiting;
mod writer;

#[cfg(test)]
mod tests;

use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::sync::mpsc;

pub use reader::Batch;
use waiting::Waiting;
pub use writer::{LastWords, Line, Output, Progress, SendError};

/// Most lines that a node may have handed to [`Output`] and not yet found in [`Progress::written`]. 4,096 lines of
/// 300 bytes are 14 ms of the fastest pipe measured (300,000 lines a second), several times what a turn of the
/// loop takes, so that the writer never idles while there is something to write.
pub const FRONT_WINDOW: usize = 4096;

/// Both directions of the pipe.
#[derive(Debug)]
pub struct Front {
    /// What the parent writes.
    pub input: mpsc::Receiver<Batch>,
    /// What the parent reads.
    pub output: Output,
    /// How far the writer has come.
    pub progress: Arc<Progress>,
}

impl Front {
    /// Reads `input` and writes `output` on two threads. They end with their end of the pipe, or after the first
    /// batch or line that finds the [`Front`] gone.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(
        input: impl Read + Send + 'static,
        output: impl Write + Send + 'static,
    ) -> io::Result<Front> {
        let (output, progress) = writer::start(output)?;
        Ok(Front { input: reader::start(input)?, output, progress })
    }

    /// The front on stdin and stdout. File descriptor 1 points at stderr from here on, so that whatever a library
    /// prints never lands in the contract. To be called once, before anything else reads or prints.
    ///
    /// # Errors
    /// When a descriptor cannot be duplicated, or the system refuses a thread.
    pub fn stdio() -> io::Result<Front> {
        let input = private(rustix::stdio::stdin())?;
        let output = private(rustix::stdio::stdout())?;
        rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
        Front::start(Waiting::new(input), Waiting::new(output))
    }

    /// A way to say one more thing when the node cannot any more.
    pub fn last_words(&self) -> LastWords {
        self.output.last_words()
    }

    /// The front on two pipes within the process, and the parent's end of them.
    ///
    /// # Errors
    /// When the system refuses a pipe or a thread.
    pub fn memory() -> io::Result<(Front, ParentEnd)> {
        let (node_input, input) = io::pipe()?;
        let (output, node_output) = io::pipe()?;
        let parent = ParentEnd { input, output: BufReader::new(output) };
        Ok((Front::start(node_input, node_output)?, parent))
    }
}

/// The process's stdout, for what is not a node: it waits where stdout is non-blocking.
///
/// # Errors
/// When the descriptor cannot be duplicated.
pub fn stdout() -> io::Result<impl Write> {
    private(rustix::stdio::stdout()).map(Waiting::new)
}

/// A duplicate of `fd` above the standard three, closed on exec.
fn private(fd: impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

/// The parent's end of [`Front::memory`]. Its calls block, as pipes do.
#[derive(Debug)]
pub struct ParentEnd {
    /// Becomes the node's input; dropped, it ends.
    pub input: PipeWriter,
    /// The node's output; dropped, it is closed.
    pub output: BufReader<PipeReader>,
}

impl ParentEnd {
    /// Writes `line` and a newline.
    ///
    /// # Errors
    /// When the node does not read any more.
    pub fn write_line(&mut self, line: &str) -> io::Result<()> {
        self.input.write_all(format!("{line}\n").as_bytes())
    }

    /// Reads one line, without its newline; `None` at the end.
    ///
    /// # Errors
    /// When the line is not UTF-8.
    pub fn read_line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let length = self.output.read_line(&mut line)?;
        Ok((length > 0).then(|| line.trim_end_matches('\n').to_owned()))
    }
}
