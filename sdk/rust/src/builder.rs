use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::client::{Events, Node};
use crate::process::Process;

/// Names the binary when the builder does not.
const BINARY_VARIABLE: &str = "P2P_NODE_BIN";

/// What the binary is called, where PATH is searched for it.
const BINARY_NAME: &str = "p2p-node";

/// Events kept for a program that does not take them: a second or so of a busy topic.
const EVENT_BUFFER: usize = 1024;

/// Says how a node is to be started.
///
/// It has no `Debug`: the environment that it holds may contain keys.
#[derive(Clone)]
pub struct Builder {
    program: Option<PathBuf>,
    search_path: bool,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    event_buffer: usize,
    ready_timeout: Duration,
}

impl Default for Builder {
    fn default() -> Self {
        Builder {
            program: None,
            search_path: false,
            args: Vec::new(),
            envs: Vec::new(),
            event_buffer: EVENT_BUFFER,
            ready_timeout: Duration::from_secs(30),
        }
    }
}

impl Builder {
    /// The binary. Absent: what `P2P_NODE_BIN` names.
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Falls back to `p2p-node` on PATH. Not the default, because PATH may bring a binary of another version.
    pub fn search_path(mut self) -> Self {
        self.search_path = true;
        self
    }

    /// Adds an argument. Secrets do not belong there: every user of the machine can read them.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Sets a variable in the node's environment, beside those that it inherits.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.envs.push((name.into(), value.into()));
        self
    }

    /// How many events are kept for a program that does not take them; what comes then is dropped and counted.
    /// At least 1; the default is 1,024.
    pub fn event_buffer(mut self, events: usize) -> Self {
        self.event_buffer = events.max(1);
        self
    }

    /// How long [`Node::connect`] waits for `ready`; 30 s by default.
    pub fn ready_timeout(mut self, timeout: Duration) -> Self {
        self.ready_timeout = timeout;
        self
    }

    /// Starts the process, on a tokio runtime with I/O and time. The node joins no network before
    /// [`Node::connect`].
    ///
    /// # Errors
    /// [`Error::NoBinary`] and [`Error::Spawn`].
    pub async fn spawn(self) -> Result<(Node, Events), Error> {
        let program = locate(self.program, std::env::var_os(BINARY_VARIABLE), self.search_path)?;
        let mut command = Command::new(&program);
        command.args(self.args).envs(self.envs);
        let (process, pipes) =
            Process::spawn(command).map_err(|source| Error::Spawn { program, source: Arc::new(source) })?;
        Ok(Node::start(process, pipes, self.event_buffer, self.ready_timeout))
    }
}

fn locate(named: Option<PathBuf>, variable: Option<OsString>, search_path: bool) -> Result<PathBuf, Error> {
    named
        .or_else(|| variable.filter(|path| !path.is_empty()).map(PathBuf::from))
        .or_else(|| search_path.then(|| PathBuf::from(OsStr::new(BINARY_NAME))))
        .ok_or(Error::NoBinary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_found_by_name_then_variable_then_path() {
        let find = |named: Option<&str>, variable: Option<&str>, search| {
            locate(named.map(PathBuf::from), variable.map(OsString::from), search).ok()
        };
        assert_eq!(find(Some("/a"), Some("/b"), true), Some(PathBuf::from("/a")));
        assert_eq!(find(None, Some("/b"), true), Some(PathBuf::from("/b")));
        assert_eq!(find(None, Some(""), true), Some(PathBuf::from("p2p-node")));
        assert_eq!(find(None, None, false), None);
    }
}
