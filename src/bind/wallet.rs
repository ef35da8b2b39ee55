//! Asks the contract wallet of a binding before the binding is written.

use std::ffi::OsStr;

use p2p_node_core::chain::{ChainCommand, ChainEvent, WalletQuestion};
use p2p_node_core::input::Input;
use p2p_node_wire::identity::SignedBinding;

use super::{BindError, invalid};
use crate::chain::contracts::ENS_REGISTRY;
use crate::chain::{BlockDepth, Chain, ChainConfig};
use crate::config::rpc_urls;

/// Returns whether the wallet confirms the binding, by RPC servers (the value of `RPC_URL`), or `None`
/// without servers. Reads the newest block, because the wallet may be new.
///
/// # Errors
/// Fails if the URLs are invalid, or if no server answers for the wallet's chain.
pub fn ask_wallet(signed: &SignedBinding, servers: Option<&OsStr>) -> Result<Option<bool>, BindError> {
    let rpc_urls = rpc_urls(&servers.unwrap_or_default().to_string_lossy()).map_err(invalid)?;
    if rpc_urls.is_empty() {
        return Ok(None);
    }
    let chain_id = signed.binding.chain_id;
    let mut chain = Chain::open(Some(ChainConfig {
        registry: None,
        ens: ENS_REGISTRY,
        rpc_urls,
        quorum: 1,
        chain_id: Some(chain_id),
        depth: BlockDepth::Blocks(0),
        refresh: None,
        reporter: None,
    }))
    .map_err(|error| invalid(format!("RPC_URL: {error}")))?;
    let question = WalletQuestion::of(signed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(invalid)?;
    let outcome = runtime.block_on(async {
        chain.execute(ChainCommand::AskWallet(Box::new(question)));
        loop {
            match chain.next().await {
                Input::Chain(ChainEvent::WalletAsked { outcome, .. }) => break outcome,
                Input::Chain(ChainEvent::Unusable { reason }) => {
                    tracing::debug!("{reason}");
                    break None;
                }
                _ => {}
            }
        }
    });
    outcome.map(Some).ok_or_else(|| invalid(format!("RPC_URL: no server of chain {chain_id} answers")))
}
