use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use p2p_node_protocol::{Connect, Limits, PROTOCOL_VERSION};

use crate::Error;
use crate::client::{Grace, Node};
use crate::events::Events;
use crate::inbox::BufferSizes;
use crate::process::OnStderr;
use crate::supervisor::Restart;

/// Names the binary when the builder does not.
const BINARY_VARIABLE: &str = "P2P_NODE_BIN";

/// What the binary is called, where directories are searched for it.
const BINARY_NAME: &str = "p2p-node";

/// Who acknowledges mail, so that its sender is told `delivered`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckMode {
    /// The SDK does, when the program comes for the event after the mail; see [`Events`].
    #[default]
    Auto,
    /// The program does, by [`Node::ack`](crate::Node::ack).
    Manual,
}

/// How a node is to be started: the options, their defaults and units.
///
/// Durations carry their unit. The SDK checks the options when [`open`](Builder::open) is called. It has no `Debug`: the environment that
/// it holds may contain keys.
#[derive(Clone, Default)]
pub struct Builder {
    program: Option<PathBuf>,
    search_path: bool,
    /// Options of the binary, by the name of the flag.
    flags: BTreeMap<&'static str, OsString>,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    settings: Settings,
}

/// What a builder settles.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) program: PathBuf,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) connect: Connect,
    pub(crate) buffers: BufferSizes,
    pub(crate) ack: AckMode,
    pub(crate) ready_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) grace: Grace,
    pub(crate) restart: Option<Restart>,
    pub(crate) on_stderr: Option<OnStderr>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            program: PathBuf::new(),
            cwd: None,
            connect: Connect { protocol: Some(PROTOCOL_VERSION), ..Connect::default() },
            // A second or so of a busy topic, or of mail.
            buffers: BufferSizes { mail: 1024, broadcasts: 1024, events: 1024 },
            ack: AckMode::Auto,
            ready_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(30),
            grace: Grace::default(),
            restart: Some(Restart::default()),
            on_stderr: None,
        }
    }
}

impl Builder {
    /// The binary. Default: what `P2P_NODE_BIN` names, else `p2p-node` beside this program.
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// `true`: falls back to `p2p-node` on PATH. Default: `false`, because PATH may bring a binary of another version.
    pub fn search_path(mut self, search: bool) -> Self {
        self.search_path = search;
        self
    }

    /// Adds arguments. Default: none. Secrets do not belong there: every user of the machine can read them.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable in the node's environment, beside those that it inherits. Default: none.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.envs.push((name.into(), value.into()));
        self
    }

    /// The node's working directory. Default: that of this program.
    pub fn cwd(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.cwd = Some(path.into());
        self
    }

    /// The agent's Ethereum key in hexadecimal. It goes into the node's environment, never into its arguments. Default, where no env file
    /// has one either: a key that is made up. It stays in the data directory, or without one for as long as a [`Node`] handle lives.
    pub fn private_key(self, key: impl Into<OsString>) -> Self {
        self.env("PRIVATE_KEY", key)
    }

    /// The display name. Default: that of the binary.
    pub fn name(self, name: impl Into<OsString>) -> Self {
        self.flag("--name", name)
    }

    /// The network. Default: that of the binary, `dev`, which never leaves this machine.
    pub fn network(self, name: impl Into<OsString>) -> Self {
        self.flag("--network", name)
    }

    /// Where the node keeps what outlives its process: mail, and the key that it made up. Default: nowhere.
    pub fn data_dir(self, path: impl Into<OsString>) -> Self {
        self.flag("--data-dir", path)
    }

    /// A file of variables, the agent's key among them. Default: none; the binary reads `.env` in the working directory in any case.
    pub fn env_file(self, path: impl Into<OsString>) -> Self {
        self.flag("--env-file", path)
    }

    /// A binding that was signed elsewhere, in place of the agent's key. Default: none.
    pub fn binding_file(self, path: impl Into<OsString>) -> Self {
        self.flag("--binding", path)
    }

    /// TCP and UDP port; 0 takes any, and the same one after a restart. Default: that of the binary.
    pub fn port(mut self, port: u16) -> Self {
        self.settings.connect.port = Some(port);
        self
    }

    /// Adds nodes to join through: multiaddrs that end in `/p2p/<peer id>`. Default: none, so that the node waits for others.
    pub fn bootstrap_peers(mut self, addrs: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.settings.connect.bootstrap_peers.extend(addrs.into_iter().map(Into::into));
        self
    }

    /// Who acknowledges mail. Default: [`AckMode::Auto`].
    pub fn ack(mut self, mode: AckMode) -> Self {
        self.settings.ack = mode;
        self
    }

    /// The most mail that the node hands over without an `ack`, 1 to 16,384 messages; the rest stays with its senders. Default: 1,024.
    pub fn mail_buffer(mut self, messages: usize) -> Self {
        self.settings.buffers.mail = messages;
        self
    }

    /// Broadcasts that the SDK keeps for a program that does not take them, at least 1. When there are more, the oldest goes, and
    /// [`Events::dropped_broadcasts`] counts it. Default: 1,024.
    pub fn broadcast_buffer(mut self, messages: usize) -> Self {
        self.settings.buffers.broadcasts = messages;
        self
    }

    /// The news of peers with logs that the SDK keeps for a program that does not take them, and as many of all other events; at least 1.
    /// When there are more, the oldest goes, and [`Events::dropped_events`] counts it. Default: 1,024.
    pub fn event_buffer(mut self, events: usize) -> Self {
        self.settings.buffers.events = events;
        self
    }

    /// How long a process may take to be ready. Default: 30 s.
    pub fn ready_timeout(mut self, timeout: Duration) -> Self {
        self.settings.ready_timeout = timeout;
        self
    }

    /// How long a call waits, for the node to be there and for its answer. Default: 30 s.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.settings.call_timeout = timeout;
        self
    }

    /// How long [`Node::close`](crate::Node::close) lets the node finish what it accepted before SIGTERM, and how long after that until
    /// SIGKILL. Default: 7 s and 2 s; the node itself takes up to 5 s.
    pub fn close_timeouts(mut self, drain: Duration, terminate: Duration) -> Self {
        self.settings.grace = Grace { drain, terminate };
        self
    }

    /// A function that the SDK calls with what the node writes to stderr, in pieces. It runs on the runtime, so it must not wait for
    /// anything. Default: none.
    pub fn on_stderr(mut self, hook: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        self.settings.on_stderr = Some(Arc::new(hook));
        self
    }

    /// How the node is started again after a crash; `None`: not at all. Default: [`Restart::default`].
    pub fn restart(mut self, restart: Option<Restart>) -> Self {
        self.settings.restart = restart;
        self
    }

    /// Starts the node, on a tokio runtime with I/O and time, waits until it is ready, and starts it again when it crashes. It succeeds
    /// where no peer can be reached: see [`Node::joined`](crate::Node::joined).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] names an option that cannot be meant. [`Error::BinaryNotFound`], [`Error::BinaryUnusable`],
    /// [`Error::SpawnFailed`] and [`Error::VersionMismatch`] tell of the binary. [`Error::StartFailed`]: the process ended before it was
    /// ready, or refused to connect. [`Error::NotReady`]: it was not ready in time.
    pub async fn open(mut self) -> Result<(Node, Events), Error> {
        self.check()?;
        let path = if self.search_path { std::env::var_os("PATH") } else { None };
        let program = locate(self.program.take(), std::env::var_os(BINARY_VARIABLE), path)?;
        self.settings.program = program.clone();
        self.settings.connect.max_unacked = Some(self.settings.buffers.mail);
        let Builder { flags, args, envs, settings, .. } = self;
        let cwd = settings.cwd.clone();
        let command = move |ephemeral_key: &str| {
            let mut command = Command::new(&program);
            // The SDK acknowledges mail itself: the node does not know what the program has taken. Of a flag that is given twice none
            // would count, so what the program may set too stands in the environment.
            command.args(flags.iter().flat_map(|(flag, value)| [OsStr::new(flag), value]));
            command.args(&args).args(["--ack", "manual"]).env("P2P_NODE_EPHEMERAL_KEY", ephemeral_key);
            command.env("P2P_NODE_PARENT_PID", std::process::id().to_string()).envs(envs.iter().cloned());
            if let Some(cwd) = &cwd {
                command.current_dir(cwd);
            }
            command
        };
        Node::open(settings, Box::new(command)).await
    }

    fn flag(mut self, flag: &'static str, value: impl Into<OsString>) -> Self {
        self.flags.insert(flag, value.into());
        self
    }

    /// Refuses what cannot be meant. The node judges the rest.
    fn check(&self) -> Result<(), Error> {
        let Settings { cwd, connect, buffers, .. } = &self.settings;
        let most = Limits::STANDARD.max_unacked;
        if !(1..=most).contains(&buffers.mail) {
            return Err(Error::argument(
                "mail_buffer",
                format!("it takes 1 to {most}, not {}", buffers.mail),
            ));
        }
        for (name, size) in [("broadcast_buffer", buffers.broadcasts), ("event_buffer", buffers.events)] {
            if size == 0 {
                return Err(Error::argument(name, "it takes 1 or more, not 0"));
            }
        }
        for (index, addr) in connect.bootstrap_peers.iter().enumerate() {
            if !addr.starts_with('/') {
                let advice = format!("it takes a multiaddr such as /ip4/…/tcp/…/p2p/…, not {addr:?}");
                return Err(Error::argument(format!("bootstrap_peers[{index}]"), advice));
            }
        }
        if let Some(path) = cwd.as_ref().filter(|path| !path.is_dir()) {
            return Err(Error::argument("cwd", format!("{} is no directory", path.display())));
        }
        self.check_texts()
    }

    /// Refuses what no process can be given.
    fn check_texts(&self) -> Result<(), Error> {
        let no_zero = |argument: &str, text: &OsStr| {
            let has_zero = text.as_bytes().contains(&0);
            if has_zero { Err(Error::argument(argument, "it has a zero byte")) } else { Ok(()) }
        };
        no_zero("binary", self.program.as_deref().unwrap_or(Path::new("")).as_os_str())?;
        for (flag, value) in &self.flags {
            no_zero(&option_of(flag), value)?;
        }
        for (index, arg) in self.args.iter().enumerate() {
            no_zero(&format!("args[{index}]"), arg)?;
        }
        for (name, value) in &self.envs {
            // Only the name: the value may be a key.
            let argument = format!("env[{name:?}]");
            if name.is_empty() || name.as_bytes().contains(&b'=') {
                return Err(Error::argument(argument, "no variable has such a name"));
            }
            no_zero(&argument, name)?;
            no_zero(if name == "PRIVATE_KEY" { "private_key" } else { &argument }, value)?;
        }
        Ok(())
    }
}

/// The name of the option that sets a flag of the binary.
fn option_of(flag: &str) -> String {
    match flag.trim_start_matches('-') {
        "binding" => "binding_file".to_owned(),
        name => name.replace('-', "_"),
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
    Err(Error::BinaryNotFound { looked })
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
