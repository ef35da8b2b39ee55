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
use p2p_node_core::chain::{AgentInfo, AgentQuery, InteractionReport};
use reqwest::Url;

use super::ChainConfig;
use super::contracts::IdentityRegistry;
use super::endpoint::{Called, called};
use super::http::HttpTransport;
use super::registry::{RegistryContract, invalid};
use super::server_error::{ServerError, short};

/// Time between two questions for a receipt: our choice, a quarter of a block of Ethereum.
const RECEIPT_INTERVAL: Duration = Duration::from_secs(3);

/// Time in which a report gets into a block: our choice, five blocks of Ethereum.
const REPORT_TIMEOUT: Duration = Duration::from_secs(60);

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

/// What became of a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Receipt {
    /// Number of the block.
    pub block: u64,
    /// `true` if the contract accepted the transaction.
    pub is_accepted: bool,
    /// Id of the entry that the transaction made, in a registry that has ids.
    pub id: Option<U256>,
}

/// The account of an agent on the chain of the registry.
pub struct Account {
    provider: Box<dyn Provider<Ethereum>>,
    address: Address,
    registry: RegistryContract,
}

impl Account {
    /// Connects to the first RPC server of the right chain.
    ///
    /// # Errors
    /// Fails with the error of each server.
    pub async fn open(config: &ChainConfig, key: &[u8; 32]) -> Result<Self, String> {
        let registry = config.registry.clone().ok_or("there is no registry")?;
        let signer = PrivateKeySigner::from_slice(key).map_err(|error| error.to_string())?;
        let (address, wallet) = (signer.address(), EthereumWallet::from(signer));
        let mut errors = Vec::new();
        for url in &config.rpc_urls {
            let host = url.host_str().unwrap_or("unknown").to_owned();
            match connect(url, wallet.clone(), config.chain_id).await {
                Ok(provider) => return Ok(Account { provider, address, registry }),
                Err(error) => errors.push(format!("{host}: {error}")),
            }
        }
        Err(errors.join("; "))
    }

    /// Returns the id of the server's chain.
    ///
    /// # Errors
    /// Fails if the server does not answer.
    pub async fn chain_id(&self) -> Result<u64, ServerError> {
        Ok(self.provider.get_chain_id().await?)
    }

    /// Returns what the registry says of the agent, in the newest block or in the transactions that wait.
    /// `id` is that of the entry which the agent claims.
    ///
    /// # Errors
    /// Fails if the server does not answer as the contract does.
    pub async fn entry(&self, id: Option<U256>, with_pending: bool) -> Result<AgentInfo, ServerError> {
        let query = AgentQuery { agent: self.address, id };
        let block = if with_pending { BlockId::pending() } else { BlockId::latest() };
        let mut answers = Vec::new();
        for (to, data) in self.registry.questions(&query) {
            let request = TransactionRequest::default().with_to(to).with_input(data);
            answers.push(called(self.provider.call(request).block(block).await)?);
        }
        let info = self.registry.entry(&query, answers)?;
        info.ok_or_else(|| ServerError::Invalid("the entry is too large".to_owned()))
    }

    /// Returns the number of entries that the agent owns in a registry of ERC-8004.
    ///
    /// # Errors
    /// Fails if the server does not answer as the contract does.
    pub async fn entries(&self) -> Result<U256, ServerError> {
        let call = IdentityRegistry::balanceOfCall { owner: self.address };
        let request =
            TransactionRequest::default().with_to(self.registry.address).with_input(call.abi_encode());
        match called(self.provider.call(request).await)? {
            Called::Returned(bytes) => {
                IdentityRegistry::balanceOfCall::abi_decode_returns_validate(&bytes).map_err(invalid)
            }
            Called::Reverted | Called::TooLarge => Err(ServerError::Invalid("no number".to_owned())),
        }
    }

    /// Returns the transaction that registers the agent. The server runs it first, so an error of the
    /// contract shows here.
    ///
    /// # Errors
    /// Fails if the contract rejects it, or the server does not answer.
    pub async fn prepare(&self, name: &str, metadata: &str) -> Result<Prepared, ServerError> {
        let call = self.registry.registration(name, metadata);
        self.prepare_call(self.registry.address, call).await
    }

    /// Returns a transaction to a contract, with its costs.
    async fn prepare_call(&self, to: Address, call: Vec<u8>) -> Result<Prepared, ServerError> {
        let mut request = TransactionRequest::default().with_from(self.address).with_to(to).with_input(call);
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

    /// Reports an interaction, and waits until a block has the transaction. Returns its hash.
    ///
    /// # Errors
    /// Fails if the contract rejects it, if the account cannot pay, or if the server does not answer.
    pub async fn report(&self, report: &InteractionReport) -> Result<String, String> {
        let (to, call) = self.registry.report(report).ok_or("the registry takes no reports of this agent")?;
        let prepared = self.prepare_call(to, call).await.map_err(|error| error.to_string())?;
        if prepared.balance < prepared.max_cost {
            return Err("the account of the agent cannot pay for the transaction".to_owned());
        }
        let hash = self.send(prepared).await.map_err(|error| error.to_string())?;
        match self.receipt(hash, REPORT_TIMEOUT, |_| {}).await? {
            receipt if receipt.is_accepted => Ok(hash.to_string()),
            receipt => Err(format!("the contract rejected {hash} in block {}", receipt.block)),
        }
    }

    /// Sends a transaction. Returns its hash.
    ///
    /// # Errors
    /// Fails if the server rejects it.
    pub async fn send(&self, prepared: Prepared) -> Result<TxHash, ServerError> {
        Ok(*self.provider.send_transaction(prepared.request).await?.tx_hash())
    }

    /// Waits for the receipt of a transaction. Calls `progress` with the seconds so far.
    ///
    /// # Errors
    /// Fails after `timeout`, with the last error of the server.
    pub async fn receipt(
        &self,
        hash: TxHash,
        timeout: Duration,
        mut progress: impl FnMut(u64),
    ) -> Result<Receipt, String> {
        let began = tokio::time::Instant::now();
        loop {
            let problem = match self.provider.get_transaction_receipt(hash).await {
                Ok(Some(receipt)) => {
                    return Ok(Receipt {
                        block: receipt.block_number.unwrap_or_default(),
                        is_accepted: receipt.status(),
                        id: self.registry.registered_id(receipt.logs()),
                    });
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
