//! Arguments of `p2p-node mcp`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

const EXAMPLES: &str = "\
A host starts this command and speaks MCP with it. The daemon, which the command starts if none runs,
keeps messages while no host runs. docs/mcp.md shows the configuration of hosts.

Example:
  p2p-node mcp -- --data-dir /home/me/.p2p-node";

/// Arguments of `mcp`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct McpArgs {
    /// Socket of the daemon (default: that of a daemon with the same flags)
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Fail if no daemon runs
    #[arg(long)]
    pub no_start: bool,
    /// Group of the host: of the programs in one group, one gets each message (default: each host gets all)
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Flags of the daemon
    #[arg(last = true, value_name = "FLAGS")]
    pub flags: Vec<OsString>,
}
