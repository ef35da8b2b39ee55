//! Command line arguments as unparsed text. [`super::Config`] parses the values, because a value
//! may also come from the environment.

use std::ffi::OsString;
use std::path::PathBuf;

use alloy::primitives::{Address, U256};
use clap::{ArgGroup, Args, Parser, Subcommand};

use p2p_node_core::chain::ens_name::{EnsName, InvalidName};
use p2p_node_wire::identity::parse_address;

use super::RunArgs;
use super::mcp::McpArgs;
use super::shell::OneShot;

const EXAMPLES: &str = "\
The agent's Ethereum key is PRIVATE_KEY, in the environment or in an env file; there is no flag for it.
With --binding the node needs no key: see `p2p-node bind --help`. Without both, the node uses
P2P_NODE_EPHEMERAL_KEY, or else generates a key for this run.
Readers of --http send P2P_NODE_HTTP_TOKEN, if it is set, clients of --grpc P2P_NODE_GRPC_TOKEN, and
clients of --a2a P2P_NODE_A2A_TOKEN;
there are no flags for them either, and none for OTEL_EXPORTER_OTLP_HEADERS, which may hold a key of the collector.
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

const ATTACH_EXAMPLES: &str = "\
The lines are those of a node that a program starts itself: see docs/pipe-protocol.md.
The end of stdin, and the command shutdown, end this program and not the node.

Examples:
  p2p-node daemon -e .env.alice &
  p2p-node attach -- -e .env.alice
  p2p-node attach --start -- -e .env.alice --data-dir alice";

const REGISTER_EXAMPLES: &str = "\
The transaction costs money of the agent's account. Run it with --dry-run first.
An agent that is registered already stays as it is.

Examples:
  p2p-node register -e .env.alice -n alice --dry-run
  p2p-node registry -e .env.alice 0x…";

const EXPLORER_EXAMPLES: &str = "\
Without --attach the explorer joins the network as a light node with a new identity, and leaves nothing behind.
Without --json and --tui it serves a page on loopback (--http) and prints its URL. Nothing can be changed.
If the node has a token, set P2P_NODE_HTTP_TOKEN to it.

Examples:
  p2p-node explorer --attach http://127.0.0.1:9464
  p2p-node explorer --network main --bootstrap /ip4/… --tui
  p2p-node explorer --bootstrap /ip4/… --json | jq .metrics";

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
    /// Run a node without a parent, to which programs attach by a socket, until a signal
    Daemon(Box<RunArgs>),
    /// Connect stdin and stdout to a running node
    Attach(Box<AttachArgs>),
    /// Serve a host of the Model Context Protocol on stdin and stdout
    Mcp(Box<McpArgs>),
    /// A command that does one thing and ends.
    #[command(flatten)]
    OneShot(Box<OneShot>),
    /// Create an Ethereum key file and print its address and PeerId
    Keygen(KeygenArgs),
    /// Bind a node to an account with a wallet's signature, so that the node does not need the
    /// account's key
    Bind(Box<BindArgs>),
    /// Register the agent in the registry on its chain, by a transaction of its key
    Register(Box<RegisterArgs>),
    /// Print what the registry says of an agent
    Registry(Box<RegistryArgs>),
    /// Show the network: as a page, as JSON or in the terminal
    Explorer(Box<ExplorerArgs>),
    /// Print the contract of the pipe, as a JSON Schema or as TypeScript
    Schema(SchemaArgs),
}

/// Arguments of `attach`.
#[derive(Debug, Args)]
#[command(after_help = ATTACH_EXAMPLES)]
pub struct AttachArgs {
    /// Socket of the node (default: that of a daemon with the same flags)
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Start a daemon if none runs
    #[arg(long)]
    pub start: bool,
    /// Flags of the daemon
    #[arg(last = true, value_name = "FLAGS")]
    pub flags: Vec<OsString>,
}

/// Arguments of `register`. The flags of the node choose the agent, its name and the registry.
#[derive(Debug, Args)]
#[command(after_help = REGISTER_EXAMPLES)]
pub struct RegisterArgs {
    /// Print the transaction and send nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object at the end, and nothing else on stdout
    #[arg(long)]
    pub json: bool,
    /// Maximum time to wait for a block with the transaction, in seconds
    #[arg(long, value_name = "SECS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// Flags of the node.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `registry`.
#[derive(Debug, Args)]
pub struct RegistryArgs {
    /// Address of the agent, or its name of ENS
    #[arg(value_name = "0x…|NAME", value_parser = subject)]
    pub agent: Subject,
    /// ID of the entry that the agent claims in a registry of the kind erc8004
    #[arg(long, value_name = "ID")]
    pub id: Option<U256>,
    /// Print the entry as JSON
    #[arg(long)]
    pub json: bool,
    /// Flags of the node.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Arguments of `explorer`. The flags of the node choose the network and how to join it.
#[derive(Debug, Args)]
#[command(after_help = EXPLORER_EXAMPLES)]
#[command(group = ArgGroup::new("form").args(["json", "tui"]))]
pub struct ExplorerArgs {
    /// URL of the HTTP server of a running node (--http), to show what that node sees
    #[arg(long, value_name = "URL")]
    pub attach: Option<String>,
    /// Print one report as JSON and exit
    #[arg(long)]
    pub json: bool,
    /// Show the network in the terminal
    #[arg(long)]
    pub tui: bool,
    /// Time before --json prints the report, in seconds (default: until peers are known, at most 10)
    #[arg(long, value_name = "SECS", requires = "json", value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub wait: Option<u64>,
    /// Flags of the node.
    #[command(flatten)]
    pub run: RunArgs,
}

/// An agent on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// By its address.
    Address(Address),
    /// By its name of ENS.
    Name(EnsName),
}

/// Parses an agent: a name has a dot.
fn subject(text: &str) -> Result<Subject, String> {
    match text.contains('.') {
        true => text.parse().map(Subject::Name).map_err(|error: InvalidName| error.to_string()),
        false => parse_address(text).map(Subject::Address).map_err(|error| error.to_string()),
    }
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
