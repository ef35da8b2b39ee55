use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use p2p_node_protocol::{Connect, Limits, PROTOCOL_VERSION};

use crate::Error;
use crate::client::Node;
use crate::events::Events;
use crate::inbox::Rooms;
use crate::process::OnStderr;
use crate::supervisor::Restart;

/// Names the binary when the builder does not.
const BINARY_VARIABLE: &str = "P2P_NODE_BIN";

/// What the binary is called, where directories are searched for it.
const BINARY_NAME: &str = "p2p-node";

/// Says how a node is to be started.
///
/// It has no `Debug`: the environment that it holds may contain keys.
#[derive(Clone, Default)]
pub struct Builder {
    program: Option<PathBuf>,
    search_path: bool,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    settings: Settings,
}

/// What a builder settles.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) program: PathBuf,
    pub(crate) connect: Connect,
    pub(crate) rooms: Rooms,
    pub(crate) manual_ack: bool,
    pub(crate) ready_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) restart: Option<Restart>,
    pub(crate) on_stderr: Option<OnStderr>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            program: PathBuf::new(),
            connect: Connect { protocol: Some(PROTOCOL_VERSION), ..Connect::default() },
            // A second or so of a busy topic, or of mail.
            rooms: Rooms { mail: 1024, broadcasts: 1024, events: 1024 },
            manual_ack: false,
            ready_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(30),
            restart: Some(Restart::default()),
            on_stderr: None,
        }
    }
}

impl Builder {
    /// The binary. Absent: what `P2P_NODE_BIN` names, else the one beside this program.
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

    /// The agent's Ethereum key, which goes into the node's environment. Absent, and with no other source of one: a key that is made up
    /// for this node, and kept over restarts of its process.
    pub fn private_key(self, key: impl Into<OsString>) -> Self {
        self.env("PRIVATE_KEY", key)
    }

    /// The display name.
    pub fn name(self, name: impl Into<OsString>) -> Self {
        self.arg("--name").arg(name)
    }

    /// The network; `dev`, which never leaves this machine, by default.
    pub fn network(self, name: impl Into<OsString>) -> Self {
        self.arg("--network").arg(name)
    }

    /// Where the node keeps what outlives its process.
    pub fn data_dir(self, path: impl Into<OsString>) -> Self {
        self.arg("--data-dir").arg(path)
    }

    /// Has the program acknowledge mail by [`Node::ack`](crate::Node::ack). Otherwise the SDK does so when the program comes for the
    /// event after it; see [`Events`].
    pub fn manual_ack(mut self) -> Self {
        self.settings.manual_ack = true;
        self
    }

    /// A file of variables, the agent's key among them.
    pub fn env_file(self, path: impl Into<OsString>) -> Self {
        self.arg("--env-file").arg(path)
    }

    /// A binding that was signed elsewhere, in place of the agent's key.
    pub fn binding_file(self, path: impl Into<OsString>) -> Self {
        self.arg("--binding").arg(path)
    }

    /// The node's working directory.
    pub fn current_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// TCP and UDP port; 0 takes any, and the same one after a restart.
    pub fn port(mut self, port: u16) -> Self {
        self.settings.connect.port = Some(port);
        self
    }

    /// Adds a node to join through: a multiaddr that ends in `/p2p/<peer id>`.
    pub fn bootstrap_peer(mut self, addr: impl Into<String>) -> Self {
        self.settings.connect.bootstrap_peers.push(addr.into());
        self
    }

    /// The most mail that the node hands over without an `ack`, 1 to 16,384 messages; the rest stays with its senders. 1,024 by default.
    pub fn mail_buffer(mut self, messages: usize) -> Self {
        self.settings.rooms.mail = messages.clamp(1, Limits::STANDARD.max_unacked);
        self
    }

    /// Broadcasts that the SDK keeps for a program that does not take them. When there are more, the oldest goes, and
    /// [`Events::dropped_broadcasts`] counts it. At least 1; 1,024 by default.
    pub fn broadcast_buffer(mut self, messages: usize) -> Self {
        self.settings.rooms.broadcasts = messages;
        self
    }

    /// The news of peers with logs that the SDK keeps for a program that does not take them, and as many of all other events. When there
    /// are more, the oldest goes, and [`Events::dropped_events`] counts it. At least 1; 1,024 by default.
    pub fn event_buffer(mut self, events: usize) -> Self {
        self.settings.rooms.events = events;
        self
    }

    /// How long a process may take to be ready; 30 s by default.
    pub fn ready_timeout(mut self, timeout: Duration) -> Self {
        self.settings.ready_timeout = timeout;
        self
    }

    /// How long a call waits, for the node to be there and for its answer; 30 s by default.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.settings.call_timeout = timeout;
        self
    }

    /// Is called with what the node writes to stderr, in pieces. It runs on the runtime, so it must not wait for anything.
    pub fn on_stderr(mut self, hook: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        self.settings.on_stderr = Some(Arc::new(hook));
        self
    }

    /// How the node is started again after a crash; `None`: not at all.
    pub fn restart(mut self, restart: Option<Restart>) -> Self {
        self.settings.restart = restart;
        self
    }

    /// Starts the node, on a tokio runtime with I/O and time, waits until it is ready, and starts it again when it crashes.
    ///
    /// # Errors
    /// [`Error::NoBinary`], [`Error::Spawn`], [`Error::NotReady`], [`Error::VersionMismatch`], [`Error::Exited`] when the process ends
    /// before it is ready, and [`Error::Command`] when it refuses to connect.
    pub async fn open(mut self) -> Result<(Node, Events), Error> {
        let path = if self.search_path { std::env::var_os("PATH") } else { None };
        let program = locate(self.program.take(), std::env::var_os(BINARY_VARIABLE), path)?;
        self.settings.program = program.clone();
        self.settings.connect.max_unacked = Some(self.settings.rooms.mail);
        let Builder { args, envs, directory, settings, .. } = self;
        let command = move |ephemeral_key: &str| {
            let mut command = Command::new(&program);
            // The SDK acknowledges mail itself: the node does not know what the program has taken. Of a flag that is given twice none
            // would count, so what the program may set too stands in the environment.
            command.args(&args).args(["--ack", "manual"]).env("P2P_NODE_EPHEMERAL_KEY", ephemeral_key);
            command.env("P2P_NODE_PARENT_PID", std::process::id().to_string()).envs(envs.iter().cloned());
            if let Some(directory) = &directory {
                command.current_dir(directory);
            }
            command
        };
        Node::open(settings, Box::new(command)).await
    }
}

/// Where the binary is: as named, as the variable says, beside this program, or, only if asked, on PATH.
fn locate(
    named: Option<PathBuf>,
    variable: Option<OsString>,
    path: Option<OsString>,
) -> Result<PathBuf, Error> {
    if let Some(path) = named.or_else(|| variable.filter(|path| !path.is_empty()).map(PathBuf::from)) {
        return Ok(path);
    }
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.to_owned()));
    let path = path.unwrap_or_default();
    let places = beside.into_iter().chain(std::env::split_paths(&path)).map(|place| place.join(BINARY_NAME));
    let mut looked = format!("{BINARY_VARIABLE} (not set)");
    for place in places {
        if place.is_file() {
            return Ok(place);
        }
        looked.push_str(&format!(", {}", place.display()));
    }
    Err(Error::NoBinary { looked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_found_by_name_then_variable_then_beside_then_on_path() {
        let find = |named: Option<&str>, variable: Option<&str>, path: Option<&str>| {
            locate(named.map(PathBuf::from), variable.map(OsString::from), path.map(OsString::from))
        };
        assert_eq!(find(Some("/a"), Some("/b"), Some("/c")).ok(), Some(PathBuf::from("/a")));
        assert_eq!(find(None, Some("/b"), Some("/c")).ok(), Some(PathBuf::from("/b")));
        let beside = std::env::current_exe().unwrap().with_file_name(BINARY_NAME).display().to_string();
        for (path, is_looked_at) in [(None, false), (Some("/nowhere:/never"), true)] {
            let missing = find(None, Some(""), path).unwrap_err();
            assert_eq!(missing.code(), "BINARY_NOT_FOUND");
            let told = missing.to_string();
            assert!(told.contains("P2P_NODE_BIN") && told.contains(&beside), "{told}");
            assert_eq!(told.contains("/nowhere/p2p-node, /never/p2p-node"), is_looked_at, "{told}");
        }
        let directory = std::env::temp_dir().join(format!("p2p-node-sdk-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(BINARY_NAME), "").unwrap();
        let found = find(None, None, Some(&format!("/nowhere:{}", directory.display())));
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(found.ok(), Some(directory.join(BINARY_NAME)));
    }
}
