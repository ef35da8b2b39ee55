//! One RPC server: what the node asks it, and when it asks again after a failure.

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::network::{BlockResponse, Ethereum, TransactionBuilder};
use alloy::primitives::{Address, Bytes};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::{Filter, Log, TransactionRequest};
use alloy::transports::{RpcError, TransportResult};
use reqwest::Url;
use tokio::time::Instant;

use super::contracts::MULTICALL3;
use super::http::{HttpTransport, NoHttpClient, TooLarge};
use super::server_error::ServerError;

/// Pause after the first failure of a server; it doubles with each further one: our choice.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause, and longest time that a server may ask the node to wait: our choice.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Code of an error response for a call that the contract reverted (geth, reth, anvil).
const REVERTED: i64 = 3;

/// Most gas of a call to a contract of which the node knows nothing: our choice. The deployment of a wallet
/// takes some 2 million.
const MAX_GAS: u64 = 10_000_000;

/// At which block the node reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockDepth {
    /// At the newest block that the chain calls safe.
    Safe,
    /// So many blocks below the newest one, for chains without safe blocks.
    Blocks(u64),
}

impl FromStr for BlockDepth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "safe" => Ok(BlockDepth::Safe),
            number => number
                .parse()
                .map(BlockDepth::Blocks)
                .map_err(|_| "the value must be `safe` or a number of blocks".to_owned()),
        }
    }
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Called {
    /// What the contract returned.
    Returned(Bytes),
    /// The contract reverted the call.
    Reverted,
    /// The answer is larger than the node reads.
    TooLarge,
}

/// Returns the outcome of a call; an error is one of the server.
pub(super) fn called(outcome: TransportResult<Bytes>) -> Result<Called, ServerError> {
    match outcome {
        Ok(returned) => Ok(Called::Returned(returned)),
        Err(RpcError::ErrorResp(error)) if error.code == REVERTED || error.as_revert_data().is_some() => {
            Ok(Called::Reverted)
        }
        Err(RpcError::Transport(error)) if error.as_custom().is_some_and(|error| error.is::<TooLarge>()) => {
            Ok(Called::TooLarge)
        }
        Err(error) => Err(error.into()),
    }
}

/// An RPC server.
#[derive(Debug)]
pub(super) struct Endpoint {
    provider: RootProvider<Ethereum>,
    /// Host and port of the server. The rest of the URL may be secret.
    pub(super) name: String,
    health: Mutex<Health>,
}

/// What the node knows of a server.
#[derive(Clone, Copy, Debug, Default)]
struct Health {
    failures: u32,
    paused_until: Option<Instant>,
    /// `true` once the server told the id of its chain.
    is_checked: bool,
    /// Whether the chain has Multicall3, once the server told it.
    has_multicall: Option<bool>,
}

impl Endpoint {
    /// # Errors
    /// Fails for an https URL if the system has no certificates.
    pub(super) fn new(url: Url) -> Result<Self, NoHttpClient> {
        let host = url.host_str().unwrap_or("unknown").to_owned();
        let name = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        Ok(Endpoint {
            provider: RootProvider::new(RpcClient::new(HttpTransport::new(url)?, false)),
            name,
            health: Mutex::default(),
        })
    }

    fn health(&self) -> Health {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_health(&self, change: impl FnOnce(&mut Health)) {
        change(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns an error if the node waits before it asks this server again.
    pub(super) fn check_pause(&self) -> Result<(), ServerError> {
        match self.health().paused_until {
            Some(until) if Instant::now() < until => Err(ServerError::Paused),
            _ => Ok(()),
        }
    }

    /// Notes the outcome of a request: a failure pauses the server.
    pub(super) fn note<T>(&self, outcome: &Result<T, ServerError>) {
        let failures = self.health().failures;
        let pause = match outcome {
            Ok(_) => {
                return self.change_health(|health| (health.failures, health.paused_until) = (0, None));
            }
            Err(ServerError::Paused) => return,
            Err(ServerError::RateLimited(Some(asked))) => *asked,
            Err(_) => FIRST_PAUSE * 2_u32.saturating_pow(failures.min(6)),
        };
        self.change_health(|health| {
            health.failures = failures.saturating_add(1);
            // A server that has failed may be another one afterwards.
            health.is_checked = false;
            health.paused_until = Some(Instant::now() + pause.clamp(FIRST_PAUSE, LONGEST_PAUSE));
        });
    }

    /// Returns the id of the server's chain.
    pub(super) async fn chain_id(&self) -> Result<u64, ServerError> {
        Ok(self.provider.get_chain_id().await?)
    }

    /// Checks once that the server serves this chain.
    pub(super) async fn check_chain(&self, expected: u64) -> Result<(), ServerError> {
        if self.health().is_checked {
            return Ok(());
        }
        match self.chain_id().await? {
            found if found == expected => {
                self.change_health(|health| health.is_checked = true);
                Ok(())
            }
            found => Err(ServerError::OtherChain { found, expected }),
        }
    }

    /// Returns the number of the newest block that the node trusts.
    pub(super) async fn trusted_block(&self, depth: BlockDepth) -> Result<u64, ServerError> {
        match depth {
            BlockDepth::Blocks(blocks) => Ok(self.provider.get_block_number().await?.saturating_sub(blocks)),
            BlockDepth::Safe => {
                let block = self.provider.get_block_by_number(BlockNumberOrTag::Safe).await?;
                let block = block.ok_or_else(|| ServerError::Invalid("no safe block".to_owned()))?;
                Ok(block.header().number)
            }
        }
    }

    /// Calls a contract without a transaction.
    pub(super) async fn call(&self, to: Address, data: Bytes, block: u64) -> Result<Called, ServerError> {
        let request = TransactionRequest::default().with_to(to).with_input(data);
        called(self.provider.call(request).block(BlockId::number(block)).await)
    }

    /// Calls a contract of which the node knows nothing, or runs the constructor in `data` without a contract.
    pub(super) async fn call_bounded(
        &self,
        to: Option<Address>,
        data: Bytes,
        block: u64,
    ) -> Result<Called, ServerError> {
        let mut request = TransactionRequest::default().with_input(data).with_gas_limit(MAX_GAS);
        request.to = to.map(Into::into);
        called(self.provider.call(request).block(BlockId::number(block)).await)
    }

    /// Returns `true` if there is a contract at an address.
    pub(super) async fn has_code(&self, at: Address, block: BlockId) -> Result<bool, ServerError> {
        Ok(!self.provider.get_code_at(at).block_id(block).await?.is_empty())
    }

    /// Returns `true` if the chain has Multicall3.
    pub(super) async fn has_multicall(&self, block: u64) -> Result<bool, ServerError> {
        if let Some(known) = self.health().has_multicall {
            return Ok(known);
        }
        let found = self.has_code(MULTICALL3, BlockId::number(block)).await?;
        self.change_health(|health| health.has_multicall = Some(found));
        Ok(found)
    }

    /// Returns events.
    pub(super) async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, ServerError> {
        Ok(self.provider.get_logs(filter).await?)
    }
}
