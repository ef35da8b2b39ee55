//! Arguments of the one-shot commands: `send`, `listen`, `ask`, `discover` and `whoami`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use p2p_node_protocol::{MAX_DEADLINE_MS, MAX_DISCOVER_MS, MAX_TTL_MS, Priority};

const SEND_EXAMPLES: &str = "\
DATA is a text; @FILE is the content of a file, - that of stdin, and @@… a text that begins with @.
Without a daemon the command runs a node of its own, which ends with it, so it always waits.
Exit codes: 0 done, 65 refused by the node, 68 refused by the recipient, 75 not delivered. See docs/shell.md.

Examples:
  p2p-node send 0x… 'the build is green'
  p2p-node send 0x… @report.json --format json --wait
  p2p-node send --topic builds green -- -e .env.alice --bootstrap /ip4/…";

const LISTEN_EXAMPLES: &str = "\
A message counts as delivered when this command has written it.
Exit codes: 0 done, 124 fewer than --count messages within --timeout. See docs/shell.md.

Examples:
  p2p-node listen
  p2p-node listen --topic builds --count 1 --timeout 60
  p2p-node listen --json | jq .data";

const ASK_EXAMPLES: &str = "\
The parts of an answer are written as they come, one line each.
Exit codes: 0 answered, 68 refused by the agent, 76 no answer in time. See docs/shell.md.

Examples:
  p2p-node ask 0x… 'how many tasks wait?' --kind tasks
  p2p-node ask 0x… '[1,2]' --kind sum --format json --timeout 5";

const DISCOVER_EXAMPLES: &str = "\
Exit codes: 0 found, 67 nobody found. See docs/shell.md.

Examples:
  p2p-node discover
  p2p-node discover 0x…
  p2p-node discover --capability review --json";

const WHOAMI_EXAMPLES: &str = "\
Without a daemon the command reads the keys alone and starts no node.

Examples:
  p2p-node whoami
  p2p-node whoami -- -e .env.alice";

/// The one-shot commands.
#[derive(Debug, Subcommand)]
pub enum OneShot {
    /// Send a message to an agent, or a broadcast to a topic
    Send(SendArgs),
    /// Print the messages to the agent, or the broadcasts of topics
    Listen(ListenArgs),
    /// Ask an agent a question and print the answer
    Ask(AskArgs),
    /// Find agents
    Discover(DiscoverArgs),
    /// Print the agent's address and PeerId, and where its daemon listens
    Whoami(WhoamiArgs),
}

impl OneShot {
    /// Returns how the command reaches a node, and what it prints.
    pub fn node(&self) -> &NodeArgs {
        match self {
            OneShot::Send(args) => &args.node,
            OneShot::Listen(args) => &args.node,
            OneShot::Ask(args) => &args.node,
            OneShot::Discover(args) => &args.node,
            OneShot::Whoami(args) => &args.node,
        }
    }
}

/// How a one-shot command reaches a node, and what it prints.
#[derive(Clone, Debug, Default, Args)]
pub struct NodeArgs {
    /// Socket of a running node, which must run (default: that of a daemon with the same flags)
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print JSON, one object on each line, with the events of docs/pipe-protocol.md
    #[arg(long)]
    pub json: bool,
    /// Flags of the node
    #[arg(last = true, value_name = "FLAGS")]
    pub flags: Vec<OsString>,
}

/// How DATA is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As text, which the recipient gets as a string.
    #[default]
    Text,
    /// As one JSON value.
    Json,
    /// As bytes, which the recipient gets as base64.
    Bytes,
}

/// Arguments of `send`.
#[derive(Debug, Args)]
#[command(after_help = SEND_EXAMPLES,
          override_usage = "p2p-node send [OPTIONS] <TO> <DATA> [-- FLAGS]\n       p2p-node send [OPTIONS] --topic <TOPIC> <DATA> [-- FLAGS]")]
pub struct SendArgs {
    /// Address, PeerId or ENS name of the recipient; with --topic, the data
    #[arg(value_name = "TO")]
    pub first: String,
    /// The data: a text, @FILE, or - for stdin
    #[arg(value_name = "DATA", required_unless_present = "topic", conflicts_with = "topic")]
    pub second: Option<String>,
    /// Send a broadcast to this topic, which everybody can read
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// How to read DATA
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,
    /// Kind of the message, for the receiving agent
    #[arg(long, value_name = "TEXT")]
    pub kind: Option<String>,
    /// Priority: high, medium or low (default: that of the kind)
    #[arg(long, value_name = "PRIORITY", value_parser = priority)]
    pub priority: Option<Priority>,
    /// Lifetime of the message in seconds (default: with a wait 60, else that of the node)
    #[arg(long, value_name = "SECS", value_parser = ttl)]
    pub ttl: Option<Duration>,
    /// ID of the message that this one answers
    #[arg(long, value_name = "MESSAGE_ID")]
    pub reply_to: Option<String>,
    /// Name of the conversation
    #[arg(long, value_name = "TEXT")]
    pub conversation: Option<String>,
    /// Wait until the message is delivered, or has failed
    #[arg(long)]
    pub wait: bool,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Arguments of `listen`.
#[derive(Debug, Args)]
#[command(after_help = LISTEN_EXAMPLES)]
pub struct ListenArgs {
    /// Print the broadcasts of this topic instead of messages to the agent; repeat it for several topics
    #[arg(long = "topic", value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// With --topic, print the messages to the agent too
    #[arg(long, requires = "topics")]
    pub mail: bool,
    /// End after this number of messages
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after this time, in seconds (default: at a signal)
    #[arg(long, value_name = "SECS", value_parser = any_time)]
    pub timeout: Option<Duration>,
    /// Group of the listener: of those in one group, one gets each message
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Arguments of `ask`.
#[derive(Debug, Args)]
#[command(after_help = ASK_EXAMPLES)]
pub struct AskArgs {
    /// Address, PeerId or ENS name of the agent
    #[arg(value_name = "TO")]
    pub to: String,
    /// The question: a text, @FILE, or - for stdin
    #[arg(value_name = "DATA")]
    pub data: String,
    /// How to read DATA
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,
    /// Kind of the question, which selects the handler
    #[arg(long, value_name = "TEXT")]
    pub kind: Option<String>,
    /// Maximum time for the whole answer, in seconds
    #[arg(long, value_name = "SECS", default_value = "30", value_parser = deadline)]
    pub timeout: Duration,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Arguments of `discover`.
#[derive(Debug, Args)]
#[command(after_help = DISCOVER_EXAMPLES)]
#[command(group = ArgGroup::new("whom").args(["address", "topic", "capability"]))]
pub struct DiscoverArgs {
    /// Address or ENS name of the agent (default: all agents)
    #[arg(value_name = "ADDRESS")]
    pub address: Option<String>,
    /// Agents that subscribe to this topic
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Agents with this capability
    #[arg(long, value_name = "NAME")]
    pub capability: Option<String>,
    /// Time to search, in seconds (default: until no more is to come)
    #[arg(long, value_name = "SECS", value_parser = search_time)]
    pub timeout: Option<Duration>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Arguments of `whoami`.
#[derive(Debug, Args)]
#[command(after_help = WHOAMI_EXAMPLES)]
pub struct WhoamiArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

fn priority(text: &str) -> Result<Priority, String> {
    match text {
        "high" => Ok(Priority::High),
        "medium" => Ok(Priority::Medium),
        "low" => Ok(Priority::Low),
        _ => Err("the value must be high, medium or low".to_owned()),
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    time(text, MAX_TTL_MS)
}

fn deadline(text: &str) -> Result<Duration, String> {
    time(text, MAX_DEADLINE_MS)
}

fn search_time(text: &str) -> Result<Duration, String> {
    time(text, MAX_DISCOVER_MS)
}

/// Parses a time without a limit of the contract. A year is longer than anybody waits.
fn any_time(text: &str) -> Result<Duration, String> {
    time(text, 365 * 24 * 60 * 60 * 1000)
}

/// Parses a number of seconds from 0.001 to a limit.
fn time(text: &str, max_ms: u64) -> Result<Duration, String> {
    let max = Duration::from_millis(max_ms);
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| (Duration::from_millis(1)..=max).contains(time))
        .ok_or_else(|| format!("the value must be 0.001 to {} seconds", max.as_secs()))
}
