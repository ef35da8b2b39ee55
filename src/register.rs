//! `p2p-node register` and `p2p-node registry`: writes and reads the agent's entry in the registry.

use std::io::{self, Write};
use std::time::Duration;

use alloy::primitives::TxHash;
use alloy::primitives::utils::format_ether;
use p2p_node_core::chain::{ChainCommand, ChainEvent};
use p2p_node_core::effect::ExitCode;
use p2p_node_core::input::{Input, Now};
use p2p_node_wire::identity::Binding;
use serde_json::json;

use crate::chain::transactions::Account;
use crate::chain::{Chain, ChainConfig};
use crate::config::{Config, ConfigError, RegisterArgs, RegistryArgs};
use crate::node::{Identity, StartError};

/// Errors of `register` and `registry`.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] StartError),
    /// The configuration is not enough.
    #[error("{0}")]
    Missing(&'static str),
    /// The chain does not fit the configuration.
    #[error("{0}")]
    Unusable(String),
    /// The RPC servers do not answer, or the transaction did not get into a block in time.
    #[error("{0}")]
    Unavailable(String),
    /// The contract rejects the transaction, or the account cannot pay for it.
    #[error("{0}")]
    Rejected(String),
    /// Writing to stdout failed.
    #[error("writing to stdout failed: {0}")]
    Stdout(#[from] io::Error),
}

impl RegisterError {
    /// Returns the exit code for this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            RegisterError::Config(error) => error.exit_code(),
            RegisterError::Identity(error) => error.exit_code(),
            RegisterError::Missing(_) | RegisterError::Unusable(_) => ExitCode::Config,
            RegisterError::Unavailable(_) => ExitCode::Unavailable,
            RegisterError::Rejected(_) => ExitCode::BadInput,
            RegisterError::Stdout(_) => ExitCode::Io,
        }
    }
}

fn chain_config(config: &Config) -> Result<ChainConfig, RegisterError> {
    config
        .chain()?
        .ok_or(RegisterError::Missing("no registry is configured: set REGISTRY_ADDRESS and RPC_URL"))
}

/// Registers the agent of the configuration. What programs read goes to `out`, progress to `hints`.
///
/// # Errors
/// Returns the first error. An agent that is registered already is none.
pub async fn register(
    args: &RegisterArgs,
    now: Now,
    out: &mut impl Write,
    hints: &mut impl Write,
) -> Result<(), RegisterError> {
    let config = Config::load(&args.run)?;
    let chain = chain_config(&config)?;
    let identity = Identity::from_config(&config, now)?;
    let agent = identity
        .agent
        .ok_or(RegisterError::Missing("`register` needs PRIVATE_KEY, which pays for the transaction"))?;
    let address = agent.address();
    let metadata = metadata(&identity.binding.binding);
    let account = Account::open(&chain, &agent.secret()).await.map_err(RegisterError::Unavailable)?;
    let entry = account.entry(false).await.map_err(unavailable)?;
    if entry.is_active {
        writeln!(out, "{address} is registered already")?;
        if (&entry.name, &entry.metadata) != (&config.name, &metadata) {
            writeln!(
                hints,
                "p2p-node: the entry has another name or other metadata; deactivate the agent to register it anew"
            )?;
        }
        return Ok(());
    }
    if account.entry(true).await.map_err(unavailable)?.is_active {
        writeln!(out, "{address} will be registered: its transaction waits for a block")?;
        return Ok(());
    }
    let prepared = account.prepare(&config.name, &metadata).await.map_err(rejected)?;
    writeln!(out, "agent     {address}")?;
    writeln!(out, "registry  {} on chain {}", chain.registry, prepared.chain_id)?;
    writeln!(out, "call      registerAgent(name, metadata)")?;
    writeln!(out, "name      {}", config.name)?;
    writeln!(out, "metadata  {metadata}")?;
    writeln!(
        out,
        "cost      at most {} of {} of the chain's coin",
        format_ether(prepared.max_cost),
        format_ether(prepared.balance)
    )?;
    if args.dry_run {
        writeln!(hints, "p2p-node: nothing was sent, because of --dry-run")?;
        return Ok(());
    }
    if prepared.balance < prepared.max_cost {
        return Err(RegisterError::Rejected(format!("{address} cannot pay for the transaction")));
    }
    let hash = account.send(prepared).await.map_err(rejected)?;
    writeln!(out, "sent      {hash}")?;
    let block = confirm(&account, hash, Duration::from_secs(args.timeout), hints).await?;
    Ok(writeln!(out, "done      in block {block}")?)
}

/// Returns the metadata of the entry: which node speaks for the agent. Its KEM keys live for a week at most,
/// so they are in its record alone.
fn metadata(binding: &Binding) -> String {
    json!({
        "address": binding.account.to_string(),
        "nodeKey": format!("0x{}", hex::encode(binding.node_key)),
        "peerId": binding.peer_id.to_string(),
        "network": binding.network,
    })
    .to_string()
}

/// Waits until a block has the transaction, and returns its number.
async fn confirm(
    account: &Account,
    hash: TxHash,
    timeout: Duration,
    hints: &mut impl Write,
) -> Result<u64, RegisterError> {
    let progress = |secs| {
        let _ = writeln!(hints, "p2p-node: waiting for a block ({secs} s)");
    };
    match account.receipt(hash, timeout, progress).await {
        Ok((block, true)) => Ok(block),
        Ok((block, false)) => Err(rejected(format!("the contract rejected {hash} in block {block}"))),
        Err(problem) => Err(unavailable(format!(
            "{problem}: {hash} may still get into a block; run the command again to see"
        ))),
    }
}

fn unavailable(error: impl ToString) -> RegisterError {
    RegisterError::Unavailable(error.to_string())
}

fn rejected(error: impl ToString) -> RegisterError {
    RegisterError::Rejected(error.to_string())
}

/// Prints what the registry says of an agent.
///
/// # Errors
/// Returns the first error.
pub async fn show(args: &RegistryArgs, out: &mut impl Write) -> Result<(), RegisterError> {
    let config = Config::load(&args.run)?;
    let mut chain = Chain::open(Some(chain_config(&config)?))
        .map_err(|error| RegisterError::Unusable(format!("RPC_URL: {error}")))?;
    chain.execute(ChainCommand::ReadAgents { token: 0, agents: vec![args.address] });
    let info = loop {
        match chain.next().await {
            Input::Chain(ChainEvent::AgentsRead { agents, .. }) => {
                break agents.into_iter().find_map(|(_, info)| info);
            }
            Input::Chain(ChainEvent::ReadFailed { reason, .. }) => {
                return Err(RegisterError::Unavailable(reason));
            }
            Input::Chain(ChainEvent::Unusable { reason }) => return Err(RegisterError::Unusable(reason)),
            _ => {}
        }
    };
    let info = info.ok_or_else(|| unavailable("the RPC servers do not agree on this agent"))?;
    let entry = info.entry(&args.address);
    if args.json {
        return Ok(writeln!(out, "{}", serde_json::to_string(&entry).map_err(io::Error::from)?)?);
    }
    // The texts are the agent's own, and a terminal obeys control characters.
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().escape_debug().to_string();
    let yes = |value| if value { "yes" } else { "no" };
    writeln!(out, "address     {}", entry.address)?;
    writeln!(out, "registered  {}", yes(entry.is_registered))?;
    writeln!(out, "blocked     {}", yes(entry.is_blocked))?;
    writeln!(out, "name        {}", text(&entry.name))?;
    writeln!(out, "metadata    {}", text(&entry.metadata))?;
    writeln!(out, "reputation  {}", entry.reputation)?;
    Ok(writeln!(out, "since       {} s after 1970", entry.registered_at_ms / 1_000)?)
}
