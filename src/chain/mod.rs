//! The registry on a chain: executes the reads of the core and reports what changed. Nothing here waits
//! for the loop, and the loop never waits for a server.

mod agents;
pub mod contracts;
mod endpoint;
mod endpoints;
mod http;
mod server_error;
pub mod transactions;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use alloy::rpc::types::Filter;
use alloy::sol_types::SolEvent;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use p2p_node_core::chain::{ChainCommand, ChainEvent};
use p2p_node_core::input::Input;
use reqwest::Url;

use contracts::AgentRegistry;
pub use endpoint::BlockDepth;
use endpoint::Endpoint;
use endpoints::Endpoints;
pub use http::NoHttpClient;

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

/// Which registry the node reads, and from which servers.
#[derive(Clone)]
pub struct ChainConfig {
    /// Address of the registry.
    pub registry: Address,
    /// URLs of the RPC servers. They may contain keys.
    pub rpc_urls: Vec<Url>,
    /// Number of servers that must give the same answer.
    pub quorum: usize,
    /// Id of the chain, if the configuration says it.
    pub chain_id: Option<u64>,
    /// At which block the node reads.
    pub depth: BlockDepth,
    /// Time between two questions for changes. `None` if nobody wants to know.
    pub refresh: Option<Duration>,
}

impl fmt::Debug for ChainConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainConfig").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// The connection to the chain; nothing without a registry.
#[derive(Default)]
pub struct Chain(Option<Client>);

struct Client {
    shared: Arc<Shared>,
    running: FuturesUnordered<BoxFuture<'static, ChainEvent>>,
    /// The question for changes, which begins again when it ends.
    changes: BoxFuture<'static, (u64, ChainEvent)>,
}

struct Shared {
    endpoints: Endpoints,
    registry: Address,
    /// The events that change what the node keeps of an agent.
    events: Filter,
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
    /// requests, and makes none without a registry.
    pub fn execute(&mut self, command: ChainCommand) {
        if let Some(client) = &mut self.0 {
            client.execute(command);
        }
    }

    /// Waits for the next report; never completes without a registry. Cancel-safe.
    pub async fn next(&mut self) -> Input {
        match &mut self.0 {
            Some(client) => Input::Chain(client.next().await),
            None => std::future::pending().await,
        }
    }
}

impl Client {
    fn new(config: ChainConfig) -> Result<Self, NoHttpClient> {
        let ChainConfig { registry, rpc_urls, quorum, chain_id, depth, refresh } = config;
        let all = rpc_urls.into_iter().map(Endpoint::new).collect::<Result<Vec<_>, _>>()?;
        let events: Vec<B256> = vec![
            AgentRegistry::AgentRegistered::SIGNATURE_HASH,
            AgentRegistry::AgentDeactivated::SIGNATURE_HASH,
            AgentRegistry::AgentBlocked::SIGNATURE_HASH,
            AgentRegistry::AgentUnblocked::SIGNATURE_HASH,
        ];
        let shared = Arc::new(Shared {
            endpoints: Endpoints::new(all, quorum, depth, chain_id),
            registry,
            events: Filter::new().event_signature(events),
            refresh,
        });
        let running: FuturesUnordered<BoxFuture<'static, ChainEvent>> = FuturesUnordered::new();
        running.push(Box::pin(Arc::clone(&shared).check()));
        let changes = Box::pin(Arc::clone(&shared).changes(0));
        Ok(Client { shared, running, changes })
    }

    fn execute(&mut self, command: ChainCommand) {
        let ChainCommand::ReadAgents { token, agents } = command;
        let shared = Arc::clone(&self.shared);
        self.running.push(Box::pin(async move {
            match shared.endpoints.agents(shared.registry, &agents).await {
                Ok(found) => {
                    ChainEvent::AgentsRead { token, agents: agents.into_iter().zip(found).collect() }
                }
                Err(error) => ChainEvent::ReadFailed { token, reason: error.to_string() },
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
        match self.endpoints.check(self.registry).await {
            Ok(()) => ChainEvent::AgentsChanged(Vec::new()),
            Err(reason) => ChainEvent::Unusable { reason },
        }
    }

    /// Waits until the registry has changed since a block; never completes if nobody wants to know. Returns the block up to which the node knows
    /// the changes.
    async fn changes(self: Arc<Self>, mut since: u64) -> (u64, ChainEvent) {
        let Some(refresh) = self.refresh else { return std::future::pending().await };
        loop {
            tokio::time::sleep(refresh).await;
            let read = self.endpoints.changes(self.registry, &self.events, since, MAX_BLOCKS_OF_EVENTS).await;
            match read {
                Ok((block, Some(agents))) if agents.is_empty() => since = block,
                Ok((block, Some(agents))) => return (block, ChainEvent::AgentsChanged(agents)),
                // Also the first answer, which says where to begin: agents may have changed since the node
                // read them.
                Ok((block, None)) => return (block, ChainEvent::ChangesMissed),
                // The reads of the core tell it that the servers do not answer.
                Err(error) => tracing::debug!("the changes of the registry were not read: {error}"),
            }
        }
    }
}
