//! Transactions to the registry, signed with the agent's key.

use std::time::Duration;

use alloy::eips::BlockId;
use alloy::network::{Ethereum, EthereumWallet, TransactionBuilder};
use alloy::primitives::{Address, TxHash, U256};
use alloy::providers::{Provider, ProviderBuilder};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::TransactionRequest;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use p2p_node_core::chain::AgentInfo;
use reqwest::Url;

use super::ChainConfig;
use super::agents::agent_info;
use super::contracts::AgentRegistry;
use super::endpoint::Called;
use super::http::HttpTransport;
use super::server_error::{ServerError, short};

/// Time between two questions for a receipt: our choice, a quarter of a block of Ethereum.
const RECEIPT_INTERVAL: Duration = Duration::from_secs(3);

/// A transaction as it will be sent.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The transaction with nonce, gas and fees.
    pub request: TransactionRequest,
    /// Id of the chain.
    pub chain_id: u64,
    /// Most that it can cost, in wei.
    pub max_cost: U256,
    /// Money of the account, in wei.
    pub balance: U256,
}

/// The account of an agent on the chain of the registry.
pub struct Account {
    provider: Box<dyn Provider<Ethereum>>,
    address: Address,
    registry: Address,
}

impl Account {
    /// Connects to the first RPC server of the right chain.
    ///
    /// # Errors
    /// Fails with the error of each server.
    pub async fn open(config: &ChainConfig, key: &[u8; 32]) -> Result<Self, String> {
        let signer = PrivateKeySigner::from_slice(key).map_err(|error| error.to_string())?;
        let (address, wallet) = (signer.address(), EthereumWallet::from(signer));
        let mut errors = Vec::new();
        for url in &config.rpc_urls {
            let host = url.host_str().unwrap_or("unknown").to_owned();
            match connect(url, wallet.clone(), config.chain_id).await {
                Ok(provider) => return Ok(Account { provider, address, registry: config.registry }),
                Err(error) => errors.push(format!("{host}: {error}")),
            }
        }
        Err(errors.join("; "))
    }

    /// Returns what the registry says of the agent, in the newest block or in the transactions that wait.
    ///
    /// # Errors
    /// Fails if the server does not answer as the contract does.
    pub async fn entry(&self, with_pending: bool) -> Result<AgentInfo, ServerError> {
        let call = AgentRegistry::getAgentInfoCall { agent: self.address };
        let request = TransactionRequest::default().with_to(self.registry).with_input(call.abi_encode());
        let block = if with_pending { BlockId::pending() } else { BlockId::latest() };
        let info = agent_info(Called::Returned(self.provider.call(request).block(block).await?))?;
        info.ok_or_else(|| ServerError::Invalid("no entry".to_owned()))
    }

    /// Returns the transaction that registers the agent. The server runs it first, so an error of the
    /// contract shows here.
    ///
    /// # Errors
    /// Fails if the contract rejects it, or the server does not answer.
    pub async fn prepare(&self, name: &str, metadata: &str) -> Result<Prepared, ServerError> {
        let call = AgentRegistry::registerAgentCall { name: name.to_owned(), metadata: metadata.to_owned() };
        let mut request = TransactionRequest::default()
            .with_from(self.address)
            .with_to(self.registry)
            .with_input(call.abi_encode());
        let gas = self.provider.estimate_gas(request.clone()).await?;
        let fees = self.provider.estimate_eip1559_fees().await?;
        let chain_id = self.provider.get_chain_id().await?;
        let nonce = self.provider.get_transaction_count(self.address).await?;
        let balance = self.provider.get_balance(self.address).await?;
        // A fifth more than the estimate, because the state may change until the transaction runs.
        let gas = gas + gas / 5;
        request = request
            .with_gas_limit(gas)
            .with_max_fee_per_gas(fees.max_fee_per_gas)
            .with_max_priority_fee_per_gas(fees.max_priority_fee_per_gas)
            .with_chain_id(chain_id)
            .with_nonce(nonce);
        let max_cost = U256::from(gas) * U256::from(fees.max_fee_per_gas);
        Ok(Prepared { request, chain_id, max_cost, balance })
    }

    /// Sends a transaction. Returns its hash.
    ///
    /// # Errors
    /// Fails if the server rejects it.
    pub async fn send(&self, prepared: Prepared) -> Result<TxHash, ServerError> {
        Ok(*self.provider.send_transaction(prepared.request).await?.tx_hash())
    }

    /// Waits for the receipt of a transaction. Calls `progress` with the seconds so far. Returns the number
    /// of the block, and whether the contract accepted the transaction.
    ///
    /// # Errors
    /// Fails after `timeout`, with the last error of the server.
    pub async fn receipt(
        &self,
        hash: TxHash,
        timeout: Duration,
        mut progress: impl FnMut(u64),
    ) -> Result<(u64, bool), String> {
        let began = tokio::time::Instant::now();
        loop {
            let problem = match self.provider.get_transaction_receipt(hash).await {
                Ok(Some(receipt)) => {
                    return Ok((receipt.block_number.unwrap_or_default(), receipt.status()));
                }
                Ok(None) => "no block has the transaction yet".to_owned(),
                Err(error) => ServerError::from(error).to_string(),
            };
            if began.elapsed() >= timeout {
                return Err(problem);
            }
            progress(began.elapsed().as_secs());
            tokio::time::sleep(RECEIPT_INTERVAL.min(timeout - began.elapsed())).await;
        }
    }
}

async fn connect(
    url: &Url,
    wallet: EthereumWallet,
    chain_id: Option<u64>,
) -> Result<Box<dyn Provider<Ethereum>>, String> {
    let transport = HttpTransport::new(url.clone()).map_err(|error| error.to_string())?;
    let provider = ProviderBuilder::new()
        .disable_recommended_fillers()
        .wallet(wallet)
        .connect_client(RpcClient::new(transport, false));
    match (provider.get_chain_id().await, chain_id) {
        (Ok(found), Some(expected)) if found != expected => {
            Err(ServerError::OtherChain { found, expected }.to_string())
        }
        (Ok(_), _) => Ok(Box::new(provider)),
        (Err(error), _) => Err(short(&error.to_string())),
    }
}
