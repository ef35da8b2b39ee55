//! Command line arguments as unparsed text. [`super::Config`] parses the values, because a value
//! may also come from the environment.

use std::path::PathBuf;

use alloy::primitives::Address;
use clap::{ArgGroup, Args, Parser, Subcommand};

use p2p_node_wire::identity::parse_address;

const EXAMPLES: &str = "\
The agent's Ethereum key is PRIVATE_KEY, in the environment or in an env file; there is no flag for it.
With --binding the node needs no key: see `p2p-node bind --help`. Without both, the node uses
P2P_NODE_EPHEMERAL_KEY, or else generates a key for this run.
Order: flag, file named by -e, environment, .env in the working directory, default.

Examples:
  p2p-node demo
  p2p-node keygen --out .env.alice && p2p-node -e .env.alice -p 8000 -n alice";

const BIND_EXAMPLES: &str = "\
First step: prints on stdout the typed data that the account's wallet signs (eth_signTypedData_v4).
Second step: checks the signature and writes the binding file.
The typed data and the binding file are not secret. The node key is secret.

Examples:
  p2p-node bind --account 0x… --data-dir alice > typed.json
  p2p-node bind --typed-data typed.json --signature 0x… --out binding.json
  p2p-node --binding binding.json --data-dir alice";

/// A peer-to-peer sidecar for agents: one JSON command per line on stdin, one JSON event per line
/// on stdout.
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
    /// Subcommand; without one, the binary runs the node.
    #[command(subcommand)]
    pub task: Option<Task>,
    /// Flags of the running node.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Subcommands of the binary.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Run three nodes on this machine that find each other and exchange messages
    Demo,
    /// Create an Ethereum key file and print its address and PeerId
    Keygen(KeygenArgs),
    /// Bind a node to an account with a wallet's signature, so that the node does not need the
    /// account's key
    Bind(Box<BindArgs>),
    /// Print the contract of the pipe, as a JSON Schema or as TypeScript
    Schema(SchemaArgs),
}

/// Arguments of `keygen`.
#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// File to create, readable only by you; an existing file is not changed
    #[arg(long, value_name = "PATH", default_value = ".env.agent")]
    pub out: PathBuf,
    /// Network for which to show the PeerId
    #[arg(long, value_name = "NAME", default_value = super::DEFAULT_NETWORK, value_parser = super::network_name)]
    pub network: String,
    /// Instance for which to show the PeerId
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = super::short_text)]
    pub instance: String,
}

/// Arguments of `bind`.
#[derive(Debug, Args)]
#[command(after_help = BIND_EXAMPLES)]
#[command(group = ArgGroup::new("key").args(["data_dir", "node_key"]))]
#[command(group = ArgGroup::new("signed").args(["signature", "signature_file", "sign_with_env_file"]))]
pub struct BindArgs {
    /// Ethereum account that the node will represent
    #[arg(long, value_name = "0x…", value_parser = parse_address,
          required_unless_present_any = ["typed_data", "sign_with_env_file"])]
    pub account: Option<Address>,
    /// Directory of the node key file node.key, which is created if missing
    #[arg(long, value_name = "PATH", required_unless_present_any = ["node_key", "typed_data"])]
    pub data_dir: Option<PathBuf>,
    /// Node key file, which is created if missing
    #[arg(long, value_name = "PATH")]
    pub node_key: Option<PathBuf>,
    /// Network of the binding (default dev; with --typed-data: the network in that file)
    #[arg(long, value_name = "NAME", value_parser = super::network_name)]
    pub network: Option<String>,
    /// Generation of the node key, in seconds since 1970; a higher generation revokes lower ones
    /// (default now)
    #[arg(long, value_name = "SECS")]
    pub generation: Option<u64>,
    /// Validity of the binding in days, at most 90
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=90))]
    pub days: u64,
    /// Chain ID of a contract account; 0 for a plain key, which is the same on every chain
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub chain_id: u64,

    /// File with the typed data that the first step printed and the wallet signed
    #[arg(long, value_name = "PATH", requires = "signed",
          conflicts_with_all = ["account", "generation", "days", "chain_id"], help_heading = "Second step")]
    pub typed_data: Option<PathBuf>,
    /// Signature of the wallet
    #[arg(long, value_name = "0x…", requires = "typed_data", help_heading = "Second step")]
    pub signature: Option<String>,
    /// File that contains the signature of the wallet
    #[arg(long, value_name = "PATH", requires = "typed_data", help_heading = "Second step")]
    pub signature_file: Option<PathBuf>,
    /// Env file whose PRIVATE_KEY signs the binding at once; use it on an offline machine
    #[arg(long, value_name = "PATH", help_heading = "Second step")]
    pub sign_with_env_file: Option<PathBuf>,
    /// Binding file to write; an existing file is replaced
    #[arg(long, value_name = "PATH", default_value = "binding.json", help_heading = "Second step")]
    pub out: PathBuf,
}

/// Arguments of `schema`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("form").args(["json", "ts"]).required(true))]
pub struct SchemaArgs {
    /// Print one JSON Schema document
    #[arg(long)]
    pub json: bool,
    /// Print a TypeScript module
    #[arg(long)]
    pub ts: bool,
}

/// Flags of the running node. The help of each flag names its environment variable in brackets.
#[derive(Debug, Default, Args)]
pub struct RunArgs {
    /// TCP and UDP port, 0 for any; a port in the command `connect` takes precedence (default 0)
    /// [P2P_NODE_PORT]
    #[arg(short, long, value_name = "PORT", help_heading = "Network")]
    pub port: Option<String>,
    /// Name of the network (default dev) [P2P_NODE_NETWORK]
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    pub network: Option<String>,
    /// Address of a bootstrap node, ending in /p2p/<peer id>; repeat or separate by commas
    /// [P2P_NODE_BOOTSTRAP]
    #[arg(long, value_name = "MULTIADDR", value_delimiter = ',', help_heading = "Network")]
    pub bootstrap: Vec<String>,
    /// Address to listen on, instead of the default of the scope; repeat or separate by commas
    /// [P2P_NODE_LISTEN]
    #[arg(long, value_name = "MULTIADDR", value_delimiter = ',', help_heading = "Network")]
    pub listen: Vec<String>,
    /// Range of addresses to listen on, advertise and dial: loopback, private or public (default:
    /// loopback on dev, public on main, else private) [P2P_NODE_ADDRESS_SCOPE]
    #[arg(long, value_name = "SCOPE", help_heading = "Network")]
    pub address_scope: Option<String>,
    /// Role: full, or bootstrap for an entry point of the network (default full) [P2P_NODE_ROLE]
    #[arg(short, long, value_name = "ROLE", help_heading = "Network")]
    pub role: Option<String>,

    /// Display name; peers cannot verify it (default none) [P2P_NODE_NAME]
    #[arg(short, long, value_name = "NAME", help_heading = "Identity")]
    pub name: Option<String>,
    /// Env file with PRIVATE_KEY and any of the variables named here
    #[arg(short, long, value_name = "PATH", help_heading = "Identity")]
    pub env_file: Option<PathBuf>,
    /// Binding file from `bind`, instead of PRIVATE_KEY; requires the node key of the binding
    /// [P2P_NODE_BINDING]
    #[arg(long, value_name = "PATH", help_heading = "Identity")]
    pub binding: Option<String>,
    /// Node key file (default: node.key in the data directory, else derived from PRIVATE_KEY)
    /// [P2P_NODE_NODE_KEY]
    #[arg(long, value_name = "PATH", help_heading = "Identity")]
    pub node_key: Option<String>,
    /// Directory for persistent state: messages, node key, revocations, blocks (default: nothing is
    /// persisted) [P2P_NODE_DATA_DIR]
    #[arg(long, value_name = "PATH", help_heading = "Identity")]
    pub data_dir: Option<String>,
    /// Distinguishes several nodes with one key; the node that announced itself last receives the
    /// messages (default none) [P2P_NODE_INSTANCE]
    #[arg(long, value_name = "TEXT", help_heading = "Identity")]
    pub instance: Option<String>,
    /// Generation of the node key, in seconds since 1970 and not in the future; a higher generation
    /// revokes lower ones (default 0) [P2P_NODE_GENERATION]
    #[arg(long, value_name = "SECS", help_heading = "Identity")]
    pub generation: Option<String>,

    /// Start without the command `connect` [P2P_NODE_CONNECT]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Process"
    )]
    pub connect: Option<String>,
    /// Who acknowledges messages: auto (the node) or manual (your program, with the command `ack`)
    /// (default auto) [P2P_NODE_ACK]
    #[arg(long, value_name = "WHO", help_heading = "Process")]
    pub ack: Option<String>,
    /// At the end of stdin: exit, or stay until a signal (default exit) [P2P_NODE_ON_EOF]
    #[arg(long, value_name = "WHAT", help_heading = "Process")]
    pub on_eof: Option<String>,
    /// At the end of stdin wait for every delivery; exit with 0 only if every command succeeded and
    /// every message was delivered [P2P_NODE_REQUIRE_DELIVERY]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Process"
    )]
    pub require_delivery: Option<String>,
    /// Time to keep receiving after the end of stdin, in seconds (default 0)
    /// [P2P_NODE_RECEIVE_AFTER_EOF]
    #[arg(long, value_name = "SECS", help_heading = "Process")]
    pub receive_after_eof: Option<String>,
    /// Scope of the identity lock: processes with different scopes may use one key; for tests that
    /// simulate several machines on one (default none) [P2P_NODE_LOCK_SCOPE]
    #[arg(long, value_name = "TEXT", help_heading = "Process")]
    pub lock_scope: Option<String>,
    /// Exit when this process exits, even if another process keeps stdin open [P2P_NODE_PARENT_PID]
    #[arg(long, value_name = "PID", help_heading = "Process")]
    pub parent_pid: Option<String>,
    /// Maximum time to finish accepted work before exit, in seconds (default 5)
    /// [P2P_NODE_DRAIN_TIMEOUT]
    #[arg(long, value_name = "SECS", help_heading = "Process")]
    pub drain_timeout: Option<String>,
    /// Level of the logs on stderr: off, error, warn, info, debug or trace (default warn)
    /// [P2P_NODE_LOG_LEVEL]
    #[arg(long, value_name = "LEVEL", help_heading = "Process")]
    pub log_level: Option<String>,
}
