//! `p2p-node bind`: binds a node to an account with a wallet's signature, so that the node does not
//! need the key of the account.
//!
//! The first step prints the typed data that the wallet signs. The second step checks the signature
//! and writes the binding file. Output for programs goes to stdout, instructions for people to
//! stderr. The node key is the only secret; it is written to its file only.

mod wallet;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::{self, BindArgs, ConfigError, DEFAULT_NETWORK};
use crate::io::keystore::{self, KeyFileError, NODE_KEY_FILE};
use p2p_node_core::effect::ExitCode;
use p2p_node_wire::identity::binding::is_future_generation;
use p2p_node_wire::identity::presigned::{self, Proof, check_presigned, read_signature};
use p2p_node_wire::identity::typed_data::{MAX_TYPED_DATA_BYTES, read_typed_data, typed_data};
use p2p_node_wire::identity::{AgentKey, Binding, NodeKey, SignedBinding};

/// Number of seconds in a day.
const DAY_SECS: u64 = 24 * 60 * 60;
/// Maximum size of a signature file, in bytes: the longest signature in hex digits, and white
/// space.
const MAX_SIGNATURE_FILE_BYTES: usize = 2048;

/// Errors of `bind`.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Reading or creating the node key failed, or writing the binding file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The env file is missing, unreadable or malformed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Reading an input file failed.
    #[error("{0}: {1}")]
    Read(PathBuf, #[source] io::Error),
    /// The arguments are invalid or contradict each other.
    #[error("{0}")]
    Invalid(String),
    /// Writing to stdout failed.
    #[error("writing to stdout failed: {0}")]
    Stdout(#[from] io::Error),
}

impl BindError {
    /// Returns the exit code for this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            BindError::File(error) => error.exit_code(),
            BindError::Config(error) => error.exit_code(),
            BindError::Read(_, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                ExitCode::NoPermission
            }
            BindError::Read(..) | BindError::Invalid(_) => ExitCode::Config,
            BindError::Stdout(_) => ExitCode::Io,
        }
    }
}

fn invalid(what: impl ToString) -> BindError {
    BindError::Invalid(what.to_string())
}

/// Runs one of the two steps, or both if `--sign-with-env-file` gives the key. `now_ms` is in ms
/// since 1970. `rpc_urls` is the value of `RPC_URL`, whose servers say whether a contract wallet made the
/// signature.
///
/// # Errors
/// Returns the first error in the arguments or files.
pub fn run(
    args: &BindArgs,
    now_ms: u64,
    rpc_urls: Option<&OsStr>,
    out: &mut impl Write,
    hints: &mut impl Write,
) -> Result<(), BindError> {
    let key_path = args.node_key.clone().or_else(|| Some(args.data_dir.as_ref()?.join(NODE_KEY_FILE)));
    let signer = args.sign_with_env_file.as_deref().map(read_agent_key).transpose()?;
    let binding = match &args.typed_data {
        Some(path) => read_signed_binding(args, path, key_path.as_deref())?,
        None => build_binding(args, key_path.as_deref(), signer.as_ref(), now_ms / 1000)?,
    };
    let signature = match (&args.signature, &args.signature_file) {
        (Some(text), _) => {
            Some(read_signature(text).map_err(|error| invalid(format!("--signature: {error}")))?)
        }
        (None, Some(path)) => {
            let text = String::from_utf8_lossy(&read(path, MAX_SIGNATURE_FILE_BYTES)?).into_owned();
            let wrong = |error| invalid(format!("{}: {error}", path.display()));
            Some(read_signature(&text).map_err(wrong)?)
        }
        (None, None) => None,
    };
    let signed = match (signature, signer) {
        (Some(signature), _) => SignedBinding { binding, signature },
        (None, Some(agent)) => {
            let account = binding.account;
            agent.bind(binding).map_err(|error| {
                invalid(format!("the key in the env file belongs to account {}, but the binding is for account {account}: {error}", agent.address()))
            })?
        }
        (None, None) => return print_typed_data(&binding, out, hints),
    };
    if check_presigned(&signed, &signed.binding.network, now_ms).map_err(invalid)? == Proof::OnChain {
        confirm(&signed, rpc_urls, hints)?;
    }
    keystore::replace(&args.out, presigned::binding_file(&signed).as_bytes())?;
    print_summary(&signed.binding, args, out, hints)
}

/// Builds the binding to sign. Creates the node key if it is missing.
fn build_binding(
    args: &BindArgs,
    key_path: Option<&Path>,
    signer: Option<&AgentKey>,
    now_secs: u64,
) -> Result<Binding, BindError> {
    let account = args.account.or_else(|| signer.map(AgentKey::address));
    let account = account.ok_or_else(|| invalid("--account is missing: give the address of the account"))?;
    let key_path = key_path
        .ok_or_else(|| invalid("--data-dir or --node-key is missing: give one of them for the node key"))?;
    let generation = args.generation.unwrap_or(now_secs);
    if is_future_generation(generation, now_secs.saturating_mul(1000)) {
        return Err(invalid(format!(
            "--generation {generation} is in the future: use seconds since 1970 (not milliseconds), at most {now_secs}"
        )));
    }
    let node_key = NodeKey::from_seed(*keystore::node_key(key_path)?);
    Ok(Binding {
        account,
        chain_id: args.chain_id,
        peer_id: node_key.peer_id(),
        node_key: node_key.public(),
        network: args.network.clone().unwrap_or_else(|| DEFAULT_NETWORK.to_owned()),
        generation,
        not_before: now_secs,
        not_after: now_secs + args.days * DAY_SECS,
    })
}

/// Reads the signed typed data. Checks that it is for the given network and node key, if any.
fn read_signed_binding(args: &BindArgs, path: &Path, key_path: Option<&Path>) -> Result<Binding, BindError> {
    let wrong = |what: &dyn std::fmt::Display| invalid(format!("{}: {what}", path.display()));
    let binding = read_typed_data(&read(path, MAX_TYPED_DATA_BYTES)?).map_err(|error| wrong(&error))?;
    if let Some(network) = args.network.as_ref().filter(|network| **network != binding.network) {
        return Err(wrong(&format!(
            "the typed data is for the network {}, not for {network}",
            binding.network
        )));
    }
    if let Some(key_path) = key_path {
        let node_key = NodeKey::from_seed(*keystore::existing_node_key(key_path)?);
        if node_key.public() != binding.node_key {
            let (theirs, ours) = (binding.peer_id, node_key.peer_id());
            return Err(wrong(&format!(
                "the typed data is for node {theirs}, but the key in {} belongs to node {ours}",
                key_path.display()
            )));
        }
    }
    Ok(binding)
}

/// Checks that the contract wallet of a binding made the signature, if there are servers to ask.
fn confirm(
    signed: &SignedBinding,
    rpc_urls: Option<&OsStr>,
    hints: &mut impl Write,
) -> Result<(), BindError> {
    let Binding { account, chain_id, .. } = signed.binding;
    match wallet::ask_wallet(signed, rpc_urls)? {
        Some(true) => Ok(()),
        Some(false) => Err(invalid(format!(
            "neither the key of {account} nor a contract wallet there on chain {chain_id} made the signature"
        ))),
        None => {
            // The hint is optional: a closed stderr is not an error.
            let _ = writeln!(
                hints,
                "The key of {account} did not make this signature. If it is of a contract wallet on chain {chain_id}, set RPC_URL to have it checked here; peers check it there."
            );
            Ok(())
        }
    }
}

fn read_agent_key(path: &Path) -> Result<AgentKey, BindError> {
    let secret = config::private_key_in(path)?
        .ok_or_else(|| invalid(format!("env file {} does not set PRIVATE_KEY", path.display())))?;
    AgentKey::from_hex(secret.expose()).map_err(|error| invalid(format!("PRIVATE_KEY: {error}")))
}

fn read(path: &Path, limit: usize) -> Result<Vec<u8>, BindError> {
    keystore::read_public(path, limit).map_err(|error| BindError::Read(path.to_owned(), error))
}

fn print(value: &Value, out: &mut impl Write) -> Result<(), BindError> {
    writeln!(out, "{value:#}").and_then(|()| out.flush()).map_err(BindError::Stdout)
}

fn print_typed_data(
    binding: &Binding,
    out: &mut impl Write,
    hints: &mut impl Write,
) -> Result<(), BindError> {
    print(&typed_data(binding), out)?;
    // The hint is optional: a closed stderr is not an error.
    let _ = writeln!(
        hints,
        "Sign this with the wallet of {} (eth_signTypedData_v4), then run:\n  p2p-node bind --typed-data FILE --signature 0x…",
        binding.account
    );
    Ok(())
}

fn print_summary(
    binding: &Binding,
    args: &BindArgs,
    out: &mut impl Write,
    hints: &mut impl Write,
) -> Result<(), BindError> {
    let summary = json!({
        "bindingFile": args.out,
        "address": binding.account.to_string(),
        "peerId": binding.peer_id.to_string(),
        "network": binding.network,
        "generation": binding.generation,
        "notBefore": binding.not_before,
        "notAfter": binding.not_after,
    });
    print(&summary, out)?;
    let mut hint = format!(
        "Start the node on the machine with the node key, without PRIVATE_KEY:\n  p2p-node --binding {}",
        args.out.display()
    );
    match (&args.data_dir, &args.node_key) {
        (Some(dir), _) => hint += &format!(" --data-dir {}", dir.display()),
        (None, Some(path)) => hint += &format!(" --node-key {}", path.display()),
        (None, None) => hint += " --data-dir DIR",
    }
    if binding.network != DEFAULT_NETWORK {
        hint += &format!(" --network {}", binding.network);
    }
    let _ = writeln!(hints, "{hint}");
    Ok(())
}

#[cfg(test)]
mod tests;
