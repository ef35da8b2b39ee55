//! The command line, as text: what the words mean is decided where flag and environment meet.

use std::path::PathBuf;

use alloy::primitives::Address;
use clap::{ArgGroup, Args, Parser, Subcommand};

use p2p_node_wire::identity::parse_address;

const EXAMPLES: &str = "\
The agent's Ethereum key is PRIVATE_KEY, in the environment or in an env file; it is never a flag. With
--binding it is not needed at all: see `p2p-node bind --help`. Without either, P2P_NODE_EPHEMERAL_KEY counts, or else
a key that is made for this run.
Order: flag, file named by -e, environment, .env in the working directory, default.

Examples:
  p2p-node demo
  p2p-node keygen --out .env.alice && p2p-node -e .env.alice -p 8000 -n alice";

const BIND_EXAMPLES: &str = "\
First step: prints on stdout what the wallet of the account signs (eth_signTypedData_v4).
Second step: checks the signature and writes the binding file. Neither file is secret; the node key is.

Examples:
  p2p-node bind --account 0x… --data-dir alice > typed.json
  p2p-node bind --typed-data typed.json --signature 0x… --out binding.json
  p2p-node --binding binding.json --data-dir alice";

/// A peer-to-peer sidecar for agents: one JSON command per line on stdin, one JSON event per line on
/// stdout.
#[derive(Debug, Parser)]
#[command(
    name = "p2p-node",
    version,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do instead of running the node.
    #[command(subcommand)]
    pub task: Option<Task>,
    /// How to run the node.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What the binary can do besides running the node.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Show three nodes on this machine finding each other and talking
    Demo,
    /// Make an Ethereum key file and show its address and PeerId
    Keygen(KeygenArgs),
    /// Let a wallet say that a node speaks for its account, so that its key need not come here
    Bind(Box<BindArgs>),
    /// Print the contract of the pipe, as a JSON Schema or as TypeScript
    Schema(SchemaArgs),
}

/// `keygen`.
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// File to make, readable by you alone; one that exists is left as it is
    #[arg(long, value_name = "PATH", default_value = ".env.agent")]
    pub out: PathBuf,
    /// Network for which to show the PeerId
    #[arg(long, value_name = "NAME", default_value = super::DEFAULT_NETWORK, value_parser = super::network_name)]
    pub network: String,
    /// Instance for which to show the PeerId
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = super::short_text)]
    pub instance: String,
}

/// `bind`.
#[derive(Debug, Args)]
#[command(after_help = BIND_EXAMPLES)]
#[command(group = ArgGroup::new("key").args(["data_dir", "node_key"]))]
#[command(group = ArgGroup::new("signed").args(["signature", "signature_file", "sign_with_env_file"]))]
pub struct BindArgs {
    /// Account that the node is to speak for
    #[arg(long, value_name = "0x…", value_parser = parse_address,
          required_unless_present_any = ["typed_data", "sign_with_env_file"])]
    pub account: Option<Address>,
    /// Directory with the node key, node.key, which is made if it is missing
    #[arg(long, value_name = "PATH", required_unless_present_any = ["node_key", "typed_data"])]
    pub data_dir: Option<PathBuf>,
    /// The node key itself, made if it is missing
    #[arg(long, value_name = "PATH")]
    pub node_key: Option<PathBuf>,
    /// Network that the binding is for (default dev; with --typed-data: the one named there)
    #[arg(long, value_name = "NAME", value_parser = super::network_name)]
    pub network: Option<String>,
    /// When the node key was made, in seconds since 1970; a higher one revokes a lower (default now)
    #[arg(long, value_name = "SECS")]
    pub generation: Option<u64>,
    /// Days that the binding lives, at most 90
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=90))]
    pub days: u64,
    /// Chain of the account; 0 for a plain key, which is the same on every chain
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub chain_id: u64,

    /// What was printed and signed; with its signature makes the binding file
    #[arg(long, value_name = "PATH", requires = "signed",
          conflicts_with_all = ["account", "generation", "days", "chain_id"], help_heading = "Second step")]
    pub typed_data: Option<PathBuf>,
    /// The wallet's signature
    #[arg(long, value_name = "0x…", requires = "typed_data", help_heading = "Second step")]
    pub signature: Option<String>,
    /// File with the wallet's signature
    #[arg(long, value_name = "PATH", requires = "typed_data", help_heading = "Second step")]
    pub signature_file: Option<PathBuf>,
    /// Env file whose PRIVATE_KEY signs here and now: for a machine that is offline
    #[arg(long, value_name = "PATH", help_heading = "Second step")]
    pub sign_with_env_file: Option<PathBuf>,
    /// Binding file to write; one that exists is replaced
    #[arg(long, value_name = "PATH", default_value = "binding.json", help_heading = "Second step")]
    pub out: PathBuf,
}

/// `schema`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("form").args(["json", "ts"]).required(true))]
pub struct SchemaArgs {
    /// As a JSON Schema, in one document
    #[arg(long)]
    pub json: bool,
    /// As a TypeScript module
    #[arg(long)]
    pub ts: bool,
}

/// The flags of a running node. Each has an environment variable, which its help names in brackets.
#[derive(Debug, Default, Args)]
pub struct RunArgs {
    /// TCP and UDP port, 0 for any; `connect` may say otherwise (default 0) [P2P_NODE_PORT]
    #[arg(short, long, value_name = "PORT", help_heading = "Network")]
    pub port: Option<String>,
    /// Name of the network (default dev) [P2P_NODE_NETWORK]
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    pub network: Option<String>,
    /// Node to join through, ending in /p2p/<peer id>; repeat or separate by commas [P2P_NODE_BOOTSTRAP]
    #[arg(long, value_name = "MULTIADDR", value_delimiter = ',', help_heading = "Network")]
    pub bootstrap: Vec<String>,
    /// Address to listen on instead of those of the scope; repeat or separate by commas [P2P_NODE_LISTEN]
    #[arg(long, value_name = "MULTIADDR", value_delimiter = ',', help_heading = "Network")]
    pub listen: Vec<String>,
    /// How far to listen, advertise and dial: loopback, private or public (default: loopback on dev,
    /// public on main, else private) [P2P_NODE_ADDRESS_SCOPE]
    #[arg(long, value_name = "SCOPE", help_heading = "Network")]
    pub address_scope: Option<String>,
    /// full, or bootstrap for an entry point that others join through (default full) [P2P_NODE_ROLE]
    #[arg(short, long, value_name = "ROLE", help_heading = "Network")]
    pub role: Option<String>,

    /// Display name; proves nothing (default none) [P2P_NODE_NAME]
    #[arg(short, long, value_name = "NAME", help_heading = "Identity")]
    pub name: Option<String>,
    /// Env file, where PRIVATE_KEY and every variable named here may stand
    #[arg(short, long, value_name = "PATH", help_heading = "Identity")]
    pub env_file: Option<PathBuf>,
    /// Binding file that `bind` made, in place of PRIVATE_KEY; needs the node key that it names [P2P_NODE_BINDING]
    #[arg(long, value_name = "PATH", help_heading = "Identity")]
    pub binding: Option<String>,
    /// Node key (default: node.key in the data directory, else derived from PRIVATE_KEY) [P2P_NODE_NODE_KEY]
    #[arg(long, value_name = "PATH", help_heading = "Identity")]
    pub node_key: Option<String>,
    /// Directory of what outlives the process: mail, node key, revocations, blocks (default: nothing does) [P2P_NODE_DATA_DIR]
    #[arg(long, value_name = "PATH", help_heading = "Identity")]
    pub data_dir: Option<String>,
    /// Tells apart several nodes of one key, of which the one that announced last gets the mail (default none) [P2P_NODE_INSTANCE]
    #[arg(long, value_name = "TEXT", help_heading = "Identity")]
    pub instance: Option<String>,
    /// Generation of the node key, in seconds since 1970 and not in the future; a higher one revokes a lower (default 0) [P2P_NODE_GENERATION]
    #[arg(long, value_name = "SECS", help_heading = "Identity")]
    pub generation: Option<String>,

    /// Start at once, without waiting for the command `connect` [P2P_NODE_CONNECT]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Process"
    )]
    pub connect: Option<String>,
    /// Who acknowledges mail: auto, the node itself, or manual, you by the command `ack` (default auto) [P2P_NODE_ACK]
    #[arg(long, value_name = "WHO", help_heading = "Process")]
    pub ack: Option<String>,
    /// At the end of stdin: exit, or stay until a signal (default exit) [P2P_NODE_ON_EOF]
    #[arg(long, value_name = "WHAT", help_heading = "Process")]
    pub on_eof: Option<String>,
    /// At the end of stdin wait for every delivery, and exit with 0 only if every command was carried out and
    /// everything sent was delivered [P2P_NODE_REQUIRE_DELIVERY]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Process"
    )]
    pub require_delivery: Option<String>,
    /// How long to go on receiving after the end of stdin, in seconds (default 0) [P2P_NODE_RECEIVE_AFTER_EOF]
    #[arg(long, value_name = "SECS", help_heading = "Process")]
    pub receive_after_eof: Option<String>,
    /// Lets processes of different scopes run with one key, for tests that play several machines on one
    /// (default none) [P2P_NODE_LOCK_SCOPE]
    #[arg(long, value_name = "TEXT", help_heading = "Process")]
    pub lock_scope: Option<String>,
    /// End when this process does, also while another holds stdin open [P2P_NODE_PARENT_PID]
    #[arg(long, value_name = "PID", help_heading = "Process")]
    pub parent_pid: Option<String>,
    /// Longest time to finish accepted work before exiting, in seconds (default 5) [P2P_NODE_DRAIN_TIMEOUT]
    #[arg(long, value_name = "SECS", help_heading = "Process")]
    pub drain_timeout: Option<String>,
    /// What stderr gets: off, error, warn, info, debug or trace (default warn) [P2P_NODE_LOG_LEVEL]
    #[arg(long, value_name = "LEVEL", help_heading = "Process")]
    pub log_level: Option<String>,
}
