//! The chain: executes the reads of the core, of the registry and of ENS, and reports what changed in the
//! registry. Nothing here waits
//! for the loop, and the loop never waits for a server.

pub mod contracts;
mod endpoint;
mod endpoints;
mod http;
mod names;
pub mod registry;
mod server_error;
pub mod transactions;
mod votes;
mod wallets;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use p2p_node_core::chain::ens_name::EnsName;
use p2p_node_core::chain::{
    AgentInfo, AgentQuery, ChainCommand, ChainEvent, Changes, InteractionReport, WalletQuestion,
};
use p2p_node_core::input::Input;
use p2p_node_wire::identity::AgentKey;
use reqwest::Url;

pub use endpoint::BlockDepth;
use endpoint::Endpoint;
use endpoints::Endpoints;
pub use http::NoHttpClient;
use registry::RegistryContract;
use transactions::Account;

/// Largest number of blocks whose events the node asks for at once: our choice, as many as public
/// servers answer for. After a longer pause the node reads the agents again instead.
const MAX_BLOCKS_OF_EVENTS: u64 = 1_000;

/// Largest number of RPC servers: our choice. With more, an agreement takes longer and is worth no more.
pub const MAX_RPC_SERVERS: usize = 8;
/// Default time between two questions for changes: our choice, a little longer than a block of Ethereum
/// takes (12 s).
pub const DEFAULT_REFRESH: Duration = Duration::from_secs(15);
/// Shortest time between two questions for changes, for development chains: our choice.
pub const MIN_REFRESH: Duration = Duration::from_millis(100);

/// What the node reads of a chain, and from which servers.
#[derive(Clone)]
pub struct ChainConfig {
    /// The registry, if there is one.
    pub registry: Option<RegistryContract>,
    /// Address of the registry of ENS.
    pub ens: Address,
    /// URLs of the RPC servers. They may contain keys.
    pub rpc_urls: Vec<Url>,
    /// Number of servers that must give the same answer.
    pub quorum: usize,
    /// Id of the chain, if the configuration says it.
    pub chain_id: Option<u64>,
    /// At which block the node reads.
    pub depth: BlockDepth,
    /// Time between two questions for changes of the registry. `None` if nobody wants to know.
    pub refresh: Option<Duration>,
    /// Key of the agent, which pays for reports of interactions.
    pub reporter: Option<AgentKey>,
}

impl fmt::Debug for ChainConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainConfig").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// The connection to the chain; nothing without an RPC server.
#[derive(Default)]
pub struct Chain(Option<Client>);

struct Client {
    shared: Arc<Shared>,
    running: FuturesUnordered<BoxFuture<'static, ChainEvent>>,
    /// The question for changes, which begins again when it ends.
    changes: BoxFuture<'static, (u64, ChainEvent)>,
}

struct Shared {
    /// The configuration of accounts, with which the node reports interactions.
    config: ChainConfig,
    endpoints: Endpoints,
    registry: Option<RegistryContract>,
    ens: Address,
    refresh: Option<Duration>,
}

impl Chain {
    /// Connects to nobody before the first request.
    ///
    /// # Errors
    /// Fails for an https URL if the system has no certificates.
    pub fn open(config: Option<ChainConfig>) -> Result<Self, NoHttpClient> {
        Ok(Chain(config.map(Client::new).transpose()?))
    }

    /// Begins to execute a request. [`Chain::next`] returns its result. The core limits the number of
    /// requests, and makes none without an RPC server.
    pub fn execute(&mut self, command: ChainCommand) {
        if let Some(client) = &mut self.0 {
            client.execute(command);
        }
    }

    /// Waits for the next report; never completes without an RPC server. Cancel-safe.
    pub async fn next(&mut self) -> Input {
        match &mut self.0 {
            Some(client) => Input::Chain(client.next().await),
            None => std::future::pending().await,
        }
    }
}

impl Client {
    fn new(config: ChainConfig) -> Result<Self, NoHttpClient> {
        let ChainConfig { registry, ens, rpc_urls, quorum, chain_id, depth, refresh, .. } = config.clone();
        let all = rpc_urls.into_iter().map(Endpoint::new).collect::<Result<Vec<_>, _>>()?;
        let endpoints = Endpoints::new(all, quorum, depth, chain_id);
        let shared = Arc::new(Shared { config, endpoints, registry, ens, refresh });
        let running: FuturesUnordered<BoxFuture<'static, ChainEvent>> = FuturesUnordered::new();
        running.push(Box::pin(Arc::clone(&shared).check()));
        let changes = Box::pin(Arc::clone(&shared).changes(0));
        Ok(Client { shared, running, changes })
    }

    fn execute(&mut self, command: ChainCommand) {
        let shared = Arc::clone(&self.shared);
        self.running.push(Box::pin(async move {
            match command {
                ChainCommand::ReadAgents { token, agents } => match shared.agents(&agents).await {
                    Ok(found) => {
                        let agents = agents.iter().map(|query| query.agent).zip(found).collect();
                        ChainEvent::AgentsRead { token, agents }
                    }
                    Err(reason) => ChainEvent::ReadFailed { token, reason },
                },
                ChainCommand::ReportInteraction(report) => {
                    let outcome = shared.report(&report).await;
                    ChainEvent::InteractionReported { agent: report.agent, outcome }
                }
                ChainCommand::AskWallet(question) => {
                    let outcome = shared.wallet(&question).await;
                    ChainEvent::WalletAsked { binding: question.binding, outcome }
                }
                ChainCommand::ReadEntry { token, query } => {
                    let (found, ens_name) = tokio::join!(
                        shared.agents(std::slice::from_ref(&query)),
                        shared.name_of(query.agent)
                    );
                    match found {
                        Ok(found) => {
                            let info = found.into_iter().next().flatten();
                            ChainEvent::EntryRead { token, agent: query.agent, info, ens_name }
                        }
                        Err(reason) => ChainEvent::ReadFailed { token, reason },
                    }
                }
                ChainCommand::ResolveName { token, name } => {
                    ChainEvent::NameResolved { token, outcome: shared.address_of(&name).await }
                }
            }
        }));
    }

    async fn next(&mut self) -> ChainEvent {
        tokio::select! {
            Some(event) = self.running.next() => event,
            (block, event) = &mut self.changes => {
                self.changes = Box::pin(Arc::clone(&self.shared).changes(block));
                event
            }
        }
    }
}

impl Shared {
    /// Checks the configuration. The result is an empty change if nothing is wrong.
    async fn check(self: Arc<Self>) -> ChainEvent {
        match self.endpoints.check(self.registry.as_ref().map(|registry| registry.address)).await {
            Ok(()) => ChainEvent::AgentsChanged(Changes::default()),
            Err(reason) => ChainEvent::Unusable { reason },
        }
    }

    /// Returns what the registry says of agents.
    async fn agents(&self, queries: &[AgentQuery]) -> Result<Vec<Option<AgentInfo>>, String> {
        let Some(registry) = &self.registry else { return Err("there is no registry".to_owned()) };
        let found =
            self.endpoints.read(queries.len(), |endpoint, block| registry.read(endpoint, queries, block));
        found.await.map_err(|error| error.to_string())
    }

    /// Returns `true` if a contract wallet confirms a signature, and `None` if no server says so. A wallet of
    /// another chain confirms nothing here.
    async fn wallet(&self, question: &WalletQuestion) -> Option<bool> {
        let known = self.endpoints.known_chain();
        let ask = |endpoint, block| async move {
            let chain = match known {
                Some(chain) => chain,
                None => Endpoint::chain_id(endpoint).await?,
            };
            match chain == question.chain_id {
                true => Endpoint::ask_wallet(endpoint, question, block).await,
                false => Ok(vec![Some(false)]),
            }
        };
        match self.endpoints.read(1, ask).await {
            Ok(answers) => answers.into_iter().next().flatten(),
            Err(error) => {
                tracing::debug!("the wallet {} was not asked: {error}", question.account);
                None
            }
        }
    }

    /// Returns the address of a name.
    async fn address_of(&self, name: &EnsName) -> Result<Option<Address>, String> {
        let (ens, hash) = (self.ens, name.hash());
        let found = self.endpoints.read(1, |endpoint, block| async move {
            Ok(vec![names::address_of(endpoint, ens, hash, block).await?])
        });
        let found = found.await.map_err(|error| error.to_string())?;
        let no_answer = "the RPC servers do not agree, or the resolver of the name takes too much gas";
        found.into_iter().next().flatten().ok_or_else(|| no_answer.to_owned())
    }

    /// Returns the name of an agent, to show it. Without an answer there is none.
    async fn name_of(&self, agent: Address) -> Option<EnsName> {
        let ens = self.ens;
        let found = self.endpoints.read(1, |endpoint, block| async move {
            Ok(vec![names::name_of(endpoint, ens, agent, block).await?])
        });
        match found.await {
            Ok(found) => found.into_iter().next().flatten().flatten(),
            Err(error) => {
                tracing::debug!("the name of {agent} was not read: {error}");
                None
            }
        }
    }

    /// Reports an interaction by a transaction, and waits until a block has it. Returns its hash.
    async fn report(&self, report: &InteractionReport) -> Result<String, String> {
        let key = self.config.reporter.as_ref().ok_or("the node has no key of its agent")?;
        let account = Account::open(&self.config, &key.secret()).await?;
        account.report(report).await.map_err(|error| error.to_string())
    }

    /// Waits until the registry has changed since a block; never completes if nobody wants to know. Returns
    /// the block up to which the node knows the changes.
    async fn changes(self: Arc<Self>, mut since: u64) -> (u64, ChainEvent) {
        let (Some(refresh), Some(registry)) = (self.refresh, &self.registry) else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(refresh).await;
            match self.endpoints.changes(registry, since, MAX_BLOCKS_OF_EVENTS).await {
                Ok((block, Some(changes))) if changes == Changes::default() => since = block,
                Ok((block, Some(changes))) => return (block, ChainEvent::AgentsChanged(changes)),
                // Also the first answer, which says where to begin: agents may have changed since the node
                // read them.
                Ok((block, None)) => return (block, ChainEvent::ChangesMissed),
                // The reads of the core tell it that the servers do not answer.
                Err(error) => tracing::debug!("the changes of the registry were not read: {error}"),
            }
        }
    }
}
