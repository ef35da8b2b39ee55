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
use crate::locate::{BINARY_VARIABLE, locate};
use crate::process::OnStderr;
use crate::supervisor::Restart;

/// Selects who acknowledges messages. The sender of an acknowledged message gets `delivered`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckMode {
    /// The SDK acknowledges a message when the program polls for the next event; see [`Events`].
    #[default]
    Auto,
    /// The program acknowledges each message with [`Node::ack`](crate::Node::ack).
    Manual,
}

/// Starts a node: holds the options, their defaults and units.
///
/// [`open`](Builder::open) checks the options. The type does not implement `Debug`, because its
/// environment may contain keys.
#[derive(Clone, Default)]
pub struct Builder {
    program: Option<PathBuf>,
    search_path: bool,
    /// Options of the binary, by the name of the flag.
    flags: BTreeMap<&'static str, OsString>,
    args: Vec<OsString>,
    is_shared: bool,
    socket: Option<PathBuf>,
    envs: Vec<(OsString, OsString)>,
    pub(crate) settings: Settings,
}

/// The settings that the builder passes to the node.
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
            // Enough for about one second of a busy topic, or of messages.
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
    /// Sets the path of the binary. Default: the path in `P2P_NODE_BIN`, else `p2p-node` beside
    /// this program.
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Sets the last fallback: `true` searches PATH for `p2p-node`. Default: `false`, because PATH
    /// may contain another version of the binary.
    pub fn search_path(mut self, search: bool) -> Self {
        self.search_path = search;
        self
    }

    /// Adds command-line arguments. Default: none. Do not pass secrets: every user of the machine
    /// can read them.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to the environment that the node inherits. Default: none.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.envs.push((name.into(), value.into()));
        self
    }

    /// Sets the node's working directory. Default: the directory of this program.
    pub fn cwd(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.cwd = Some(path.into());
        self
    }

    /// Sets the agent's Ethereum key in hexadecimal. The SDK passes it in the environment, never in
    /// the arguments. Default, if no env file has a key: a random key. The node persists a random
    /// key in the data directory; without a data directory the key lives as long as a [`Node`]
    /// handle.
    pub fn private_key(self, key: impl Into<OsString>) -> Self {
        self.env("PRIVATE_KEY", key)
    }

    /// Sets the display name. Default: the default of the binary.
    pub fn name(self, name: impl Into<OsString>) -> Self {
        self.flag("--name", name)
    }

    /// Sets the network. Default: the default of the binary, `dev`, which never leaves this
    /// machine.
    pub fn network(self, name: impl Into<OsString>) -> Self {
        self.flag("--network", name)
    }

    /// Sets the directory in which the node persists messages and its random key. Default: none;
    /// the node persists nothing.
    pub fn data_dir(self, path: impl Into<OsString>) -> Self {
        self.flag("--data-dir", path)
    }

    /// Sets a file of environment variables, for example with the agent's key. Default: none. The
    /// binary also reads `.env` in the working directory.
    pub fn env_file(self, path: impl Into<OsString>) -> Self {
        self.flag("--env-file", path)
    }

    /// Sets a file with a binding signed elsewhere, which replaces the agent's key. Default: none.
    pub fn binding_file(self, path: impl Into<OsString>) -> Self {
        self.flag("--binding", path)
    }

    /// Sets the TCP and UDP port. With 0 the node selects a free port and uses it again after a
    /// restart. Default: the default of the binary.
    pub fn port(mut self, port: u16) -> Self {
        self.settings.connect.port = Some(port);
        self
    }

    /// Adds bootstrap peers: multiaddrs that end in `/p2p/<peer id>`. Default: none; the node waits
    /// for other nodes.
    pub fn bootstrap_peers(mut self, addrs: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.settings.connect.bootstrap_peers.extend(addrs.into_iter().map(Into::into));
        self
    }

    /// Selects who acknowledges messages. Default: [`AckMode::Auto`].
    pub fn ack(mut self, mode: AckMode) -> Self {
        self.settings.ack = mode;
        self
    }

    /// Sets how many messages the node delivers without an `ack`, 1 to 16,384. The senders hold the
    /// rest. Default: 1,024.
    pub fn mail_buffer(mut self, messages: usize) -> Self {
        self.settings.buffers.mail = messages;
        self
    }

    /// Sets how many unread broadcasts the SDK buffers, at least 1. A full buffer drops its oldest
    /// broadcast, and [`Events::dropped_broadcasts`] counts it. Default: 1,024.
    pub fn broadcast_buffer(mut self, messages: usize) -> Self {
        self.settings.buffers.broadcasts = messages;
        self
    }

    /// Sets how many unread events the SDK buffers, at least 1: one buffer for peer events and
    /// logs, and one for all other events. A full buffer drops its oldest event, and
    /// [`Events::dropped_events`] counts it. Default: 1,024.
    pub fn event_buffer(mut self, events: usize) -> Self {
        self.settings.buffers.events = events;
        self
    }

    /// Sets how long a process may take until it is ready. Default: 30 s.
    pub fn ready_timeout(mut self, timeout: Duration) -> Self {
        self.settings.ready_timeout = timeout;
        self
    }

    /// Sets how long a call waits, for the process and for its answer. Default: 30 s.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.settings.call_timeout = timeout;
        self
    }

    /// Sets how long [`Node::close`](crate::Node::close) waits for the node to drain before it
    /// sends SIGTERM, and how long after that before it sends SIGKILL. Default: 7 s and 2 s; the
    /// node itself drains for up to 5 s.
    pub fn close_timeouts(mut self, drain: Duration, terminate: Duration) -> Self {
        self.settings.grace = Grace { drain, terminate };
        self
    }

    /// Sets a function that the SDK calls with each piece of the node's stderr. The function runs
    /// on the runtime, so it must not block. Default: none.
    pub fn on_stderr(mut self, hook: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        self.settings.on_stderr = Some(Arc::new(hook));
        self
    }

    /// Shares one node among processes: attaches to the daemon of this agent, and starts it if none runs.
    /// The daemon stays when this process ends. It needs a key, a data directory or a
    /// [`socket`](Builder::socket), by which the processes find it. Default: `false`.
    pub fn shared(mut self, is_shared: bool) -> Self {
        self.is_shared = is_shared;
        self
    }

    /// Attaches to the node that listens at this path. Unless [`shared`](Builder::shared), it must run.
    /// Default: none.
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.socket = Some(path.into());
        self
    }

    /// Sets whether this process gets the messages of other agents. Default: `true`.
    pub fn inbox(mut self, wants: bool) -> Self {
        self.settings.connect.inbox = Some(wants);
        self
    }

    /// Sets the group of this process: of the processes of one node with the same group, one gets each
    /// message. Default: none.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.settings.connect.group = Some(group.into());
        self
    }

    /// Sets the restart policy after a crash. With `None` the SDK never restarts the node. Default:
    /// [`Restart::default`].
    pub fn restart(mut self, restart: Option<Restart>) -> Self {
        self.settings.restart = restart;
        self
    }

    /// Starts the node, waits until it is ready, and restarts it when it crashes. Requires a tokio
    /// runtime with I/O and time. Succeeds even if the node reaches no peer: see
    /// [`Node::joined`](crate::Node::joined).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] names an invalid option. [`Error::BinaryNotFound`],
    /// [`Error::BinaryUnusable`], [`Error::SpawnFailed`] and [`Error::VersionMismatch`] report a
    /// problem with the binary. [`Error::StartFailed`]: the process ended before it was ready, or
    /// rejected `connect`. [`Error::NotReady`]: the node was not ready in time.
    pub async fn open(mut self) -> Result<(Node, Events), Error> {
        self.find()?;
        self.settings.connect.max_unacked = Some(self.settings.buffers.mail);
        let settings = self.settings.clone();
        Node::open(settings, Box::new(move |key: &str| self.process(key))).await
    }

    /// Checks the options and finds the binary.
    pub(crate) fn find(&mut self) -> Result<(), Error> {
        self.check()?;
        let path = if self.search_path { std::env::var_os("PATH") } else { None };
        self.settings.program = locate(self.program.take(), std::env::var_os(BINARY_VARIABLE), path)?;
        Ok(())
    }

    /// Returns the command of a node of its own, or of the bridge to a shared one.
    fn process(&self, ephemeral_key: &str) -> Command {
        if !self.is_shared && self.socket.is_none() {
            return self.command(&[] as &[&OsStr], Some(ephemeral_key));
        }
        let mut bridge = vec![OsStr::new("attach")];
        bridge.extend(self.is_shared.then_some(OsStr::new("--start")));
        if let Some(path) = &self.socket {
            bridge.extend([OsStr::new("--socket"), path.as_os_str()]);
        }
        bridge.push(OsStr::new("--"));
        self.command(&bridge, Some(ephemeral_key))
    }

    /// Returns the command of a process of the found binary: of a subcommand, or of a node.
    pub(crate) fn command(&self, subcommand: &[impl AsRef<OsStr>], ephemeral_key: Option<&str>) -> Command {
        let mut command = Command::new(&self.settings.program);
        // The node cannot know which messages the program has read, so the SDK sends each `ack`. If
        // a flag is given twice, neither value counts, so options that the program may also set go
        // into the environment.
        command.args(subcommand).args(self.flags.iter().flat_map(|(flag, value)| [OsStr::new(flag), value]));
        command.args(&self.args).args(["--ack", "manual"]);
        if let Some(key) = ephemeral_key {
            command.env("P2P_NODE_EPHEMERAL_KEY", key);
        }
        command.env("P2P_NODE_PARENT_PID", std::process::id().to_string()).envs(self.envs.iter().cloned());
        if let Some(cwd) = &self.settings.cwd {
            command.current_dir(cwd);
        }
        command
    }

    fn flag(mut self, flag: &'static str, value: impl Into<OsString>) -> Self {
        self.flags.insert(flag, value.into());
        self
    }

    /// Rejects invalid options early. The node checks the rest.
    fn check(&self) -> Result<(), Error> {
        let Settings { cwd, connect, buffers, .. } = &self.settings;
        let max = Limits::STANDARD.max_unacked;
        if !(1..=max).contains(&buffers.mail) {
            return Err(Error::argument("mail_buffer", format!("must be 1 to {max}, not {}", buffers.mail)));
        }
        for (name, size) in [("broadcast_buffer", buffers.broadcasts), ("event_buffer", buffers.events)] {
            if size == 0 {
                return Err(Error::argument(name, "must be at least 1, not 0"));
            }
        }
        for (index, addr) in connect.bootstrap_peers.iter().enumerate() {
            if !addr.starts_with('/') {
                let advice = format!("must be a multiaddr such as /ip4/…/tcp/…/p2p/…, not {addr:?}");
                return Err(Error::argument(format!("bootstrap_peers[{index}]"), advice));
            }
        }
        if let Some(path) = cwd.as_ref().filter(|path| !path.is_dir()) {
            return Err(Error::argument("cwd", format!("{} is not a directory", path.display())));
        }
        self.check_texts()
    }

    /// Rejects texts that the system cannot pass to a process.
    fn check_texts(&self) -> Result<(), Error> {
        let no_zero = |argument: &str, text: &OsStr| {
            let has_zero = text.as_bytes().contains(&0);
            if has_zero { Err(Error::argument(argument, "must not contain a zero byte")) } else { Ok(()) }
        };
        no_zero("binary", self.program.as_deref().unwrap_or(Path::new("")).as_os_str())?;
        for (flag, value) in &self.flags {
            no_zero(&option_of(flag), value)?;
        }
        for (index, arg) in self.args.iter().enumerate() {
            no_zero(&format!("args[{index}]"), arg)?;
        }
        for (name, value) in &self.envs {
            // Quote only the name: the value may be a key.
            let argument = format!("env[{name:?}]");
            if name.is_empty() || name.as_bytes().contains(&b'=') {
                return Err(Error::argument(argument, "must not be empty or contain `=`"));
            }
            no_zero(&argument, name)?;
            no_zero(if name == "PRIVATE_KEY" { "private_key" } else { &argument }, value)?;
        }
        Ok(())
    }
}

/// Returns the name of the builder option that sets a flag of the binary.
fn option_of(flag: &str) -> String {
    match flag.trim_start_matches('-') {
        "binding" => "binding_file".to_owned(),
        name => name.replace('-', "_"),
    }
}
