//! `p2p-node register` and `p2p-node registry`: writes and reads the agent's entry in the registry.

use std::io::{self, Write};
use std::time::Duration;

use alloy::primitives::utils::format_ether;
use alloy::primitives::{Address, TxHash};
use p2p_node_core::chain::ens_name::EnsName;
use p2p_node_core::chain::{AgentQuery, ChainCommand, ChainEvent};
use p2p_node_core::effect::ExitCode;
use p2p_node_core::input::{Input, Now};
use p2p_node_wire::identity::Binding;
use serde::Serialize;
use serde_json::json;

use crate::chain::registry::{RegistryContract, RegistryKind};
use crate::chain::transactions::{Account, Receipt};
use crate::chain::{Chain, ChainConfig};
use crate::config::{Config, ConfigError, RegisterArgs, RegistryArgs, Subject};
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
    /// The name has no address.
    #[error("{0} has no address in ENS; check the name, and that RPC_URL serves the chain of ENS")]
    UnknownName(EnsName),
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
            RegisterError::Rejected(_) | RegisterError::UnknownName(_) => ExitCode::BadInput,
            RegisterError::Stdout(_) => ExitCode::Io,
        }
    }
}

const NO_REGISTRY: RegisterError =
    RegisterError::Missing("no registry is configured: set REGISTRY_ADDRESS and RPC_URL");

fn chain_config(config: &Config) -> Result<ChainConfig, RegisterError> {
    config.chain()?.filter(|chain| chain.registry.is_some()).ok_or(NO_REGISTRY)
}

/// What became of a registration. This is the object of `register --json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Registration {
    address: String,
    registry: String,
    chain_id: u64,
    state: State,
    #[serde(flatten)]
    transaction: Option<Transaction>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    /// A block has the transaction.
    Registered,
    /// The agent is registered, so nothing was sent.
    Already,
    /// A transaction of the agent waits for a block, so nothing was sent.
    Waiting,
    /// Nothing was sent, because of `--dry-run`.
    Shown,
}

/// The transaction that registers an agent. Numbers of 256 bits are decimal texts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Transaction {
    name: String,
    metadata: String,
    max_cost_wei: String,
    #[serde(flatten)]
    sent: Option<Sent>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    transaction: String,
    block: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<String>,
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
    if !args.json {
        return send(args, now, out, hints).await.map(drop);
    }
    let registration = send(args, now, &mut io::sink(), hints).await?;
    Ok(writeln!(out, "{}", serde_json::to_string(&registration).map_err(io::Error::from)?)?)
}

/// Registers the agent, and writes each step to `out`.
async fn send(
    args: &RegisterArgs,
    now: Now,
    out: &mut impl Write,
    hints: &mut impl Write,
) -> Result<Registration, RegisterError> {
    let config = Config::load(&args.run)?;
    let chain = chain_config(&config)?;
    let identity = Identity::from_config(&config, now)?;
    let agent = identity
        .agent
        .ok_or(RegisterError::Missing("`register` needs PRIVATE_KEY, which pays for the transaction"))?;
    let address = agent.address();
    let metadata = metadata(&identity.binding.binding);
    let account = Account::open(&chain, &agent.secret()).await.map_err(RegisterError::Unavailable)?;
    let registry = chain.registry.as_ref().ok_or(NO_REGISTRY)?;
    let mut registration = Registration {
        address: address.to_string(),
        registry: registry.address.to_string(),
        chain_id: account.chain_id().await.map_err(unavailable)?,
        state: State::Shown,
        transaction: None,
    };
    if let Some((state, words)) = registered(&account, registry, &config, &metadata, hints).await? {
        writeln!(out, "{address} {words}")?;
        registration.state = state;
        return Ok(registration);
    }
    let prepared = account.prepare(&config.name, &metadata).await.map_err(rejected)?;
    writeln!(out, "agent     {address}")?;
    writeln!(out, "registry  {} on chain {} ({})", registry.address, prepared.chain_id, registry.kind)?;
    writeln!(out, "name      {}", config.name)?;
    writeln!(out, "metadata  {metadata}")?;
    let (max_cost, balance) = (format_ether(prepared.max_cost), format_ether(prepared.balance));
    writeln!(out, "cost      at most {max_cost} of {balance} of the chain's coin")?;
    let max_cost_wei = prepared.max_cost.to_string();
    let transaction = Transaction { name: config.name.to_string(), metadata, max_cost_wei, sent: None };
    let transaction = registration.transaction.insert(transaction);
    if args.dry_run {
        writeln!(hints, "p2p-node: nothing was sent, because of --dry-run")?;
        return Ok(registration);
    }
    if prepared.balance < prepared.max_cost {
        return Err(rejected(format!("{address} cannot pay for the transaction")));
    }
    let hash = account.send(prepared).await.map_err(rejected)?;
    writeln!(out, "sent      {hash}")?;
    let receipt = confirm(&account, hash, Duration::from_secs(args.timeout), hints).await?;
    transaction.sent = Some(finish(hash, &receipt, out, hints)?);
    registration.state = State::Registered;
    Ok(registration)
}

/// Writes that a block has the transaction.
fn finish(
    hash: TxHash,
    receipt: &Receipt,
    out: &mut impl Write,
    hints: &mut impl Write,
) -> Result<Sent, RegisterError> {
    writeln!(out, "done      in block {}", receipt.block)?;
    if let Some(id) = receipt.id {
        writeln!(out, "agent id  {id}")?;
        writeln!(hints, "p2p-node: set REGISTRY_AGENT_ID={id}, so that the node claims this entry")?;
    }
    let agent_id = receipt.id.map(|id| id.to_string());
    Ok(Sent { transaction: hash.to_string(), block: receipt.block, agent_id })
}

/// Returns why the agent needs no transaction, also in words, or `None` if it needs one.
async fn registered(
    account: &Account,
    registry: &RegistryContract,
    config: &Config,
    metadata: &str,
    hints: &mut impl Write,
) -> Result<Option<(State, &'static str)>, RegisterError> {
    let claimed = config.registry_agent_id;
    let entry = account.entry(claimed, false).await.map_err(unavailable)?;
    let is_by_address = registry.kind == RegistryKind::AgentRegistry;
    if entry.is_active {
        if is_by_address && (&*entry.name, &*entry.metadata) != (&*config.name, metadata) {
            writeln!(
                hints,
                "p2p-node: the entry has another name or other metadata; deactivate the agent to register it anew"
            )?;
        }
        return Ok(Some((State::Already, "is registered already")));
    }
    if account.entry(claimed, true).await.map_err(unavailable)?.is_active {
        return Ok(Some((State::Waiting, "will be registered: its transaction waits for a block")));
    }
    if is_by_address {
        return Ok(None);
    }
    let owned = account.entries().await.map_err(unavailable)?;
    match claimed {
        Some(id) => Err(rejected(format!("the entry {id} is not of this agent"))),
        None if owned.is_zero() => Ok(None),
        None => Err(rejected(format!(
            "the agent owns {owned} entries already: name one of them with REGISTRY_AGENT_ID"
        ))),
    }
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

/// Waits until a block has the transaction.
async fn confirm(
    account: &Account,
    hash: TxHash,
    timeout: Duration,
    hints: &mut impl Write,
) -> Result<Receipt, RegisterError> {
    let progress = |secs| {
        let _ = writeln!(hints, "p2p-node: waiting for a block ({secs} s)");
    };
    match account.receipt(hash, timeout, progress).await {
        Ok(receipt) if receipt.is_accepted => Ok(receipt),
        Ok(receipt) => Err(rejected(format!("the contract rejected {hash} in block {}", receipt.block))),
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

/// Returns the answer to a request.
async fn answer(chain: &mut Chain, command: ChainCommand) -> Result<ChainEvent, RegisterError> {
    chain.execute(command);
    loop {
        match chain.next().await {
            Input::Chain(event @ (ChainEvent::EntryRead { .. } | ChainEvent::NameResolved { .. })) => {
                return Ok(event);
            }
            Input::Chain(ChainEvent::ReadFailed { reason, .. }) => return Err(unavailable(reason)),
            Input::Chain(ChainEvent::Unusable { reason }) => return Err(RegisterError::Unusable(reason)),
            _ => {}
        }
    }
}

async fn address_of(chain: &mut Chain, name: &EnsName) -> Result<Address, RegisterError> {
    match answer(chain, ChainCommand::ResolveName { token: 0, name: name.clone() }).await? {
        ChainEvent::NameResolved { outcome: Err(reason), .. } => Err(unavailable(reason)),
        ChainEvent::NameResolved { outcome: Ok(Some(address)), .. } => Ok(address),
        _ => Err(RegisterError::UnknownName(name.clone())),
    }
}

/// Prints what the registry says of an agent.
///
/// # Errors
/// Returns the first error.
pub async fn show(args: &RegistryArgs, out: &mut impl Write) -> Result<(), RegisterError> {
    let config = Config::load(&args.run)?;
    let mut chain = Chain::open(Some(chain_config(&config)?))
        .map_err(|error| RegisterError::Unusable(format!("RPC_URL: {error}")))?;
    let agent = match &args.agent {
        Subject::Address(address) => *address,
        Subject::Name(name) => address_of(&mut chain, name).await?,
    };
    let command = ChainCommand::ReadEntry { token: 0, query: AgentQuery { agent, id: args.id } };
    let (info, ens_name) = match answer(&mut chain, command).await? {
        ChainEvent::EntryRead { info, ens_name, .. } => (info, ens_name),
        _ => (None, None),
    };
    let info = info.ok_or_else(|| unavailable("the RPC servers do not agree on this agent"))?;
    let entry = info.entry(&agent, ens_name);
    if args.json {
        return Ok(writeln!(out, "{}", serde_json::to_string(&entry).map_err(io::Error::from)?)?);
    }
    // The texts are the agent's own, and a terminal obeys control characters.
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().escape_debug().to_string();
    let yes = |value| if value { "yes" } else { "no" };
    writeln!(out, "address     {}", entry.address)?;
    if let Some(name) = &entry.ens_name {
        writeln!(out, "ens name    {name}")?;
    }
    writeln!(out, "registered  {}", yes(entry.is_registered))?;
    writeln!(out, "blocked     {}", yes(entry.is_blocked))?;
    writeln!(out, "name        {}", text(&entry.name))?;
    writeln!(out, "metadata    {}", text(&entry.metadata))?;
    let reputation = entry.reputation.map_or_else(|| "none".to_owned(), |reputation| reputation.to_string());
    writeln!(out, "reputation  {reputation}")?;
    Ok(writeln!(out, "since       {} s after 1970", entry.registered_at_ms / 1_000)?)
}
