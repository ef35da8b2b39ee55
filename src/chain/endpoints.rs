//! The RPC servers of a chain together: fail-over, or agreement of several.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use alloy::eips::BlockId;
use alloy::primitives::Address;
use alloy::rpc::types::Filter;
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use p2p_node_core::chain::Changes;

use super::endpoint::{BlockDepth, Endpoint};
use super::registry::RegistryContract;
use super::server_error::ServerError;
use super::votes::Votes;

/// Number of blocks by which a server may be behind the newest block that the node has read at: our
/// choice, two epochs of Ethereum. A server further behind could show the past.
const MAX_BLOCKS_BEHIND: u64 = 64;

/// No answer that counts: the error of each server, for people.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub(super) struct NoAnswer(pub(super) String);

/// The RPC servers.
#[derive(Debug)]
pub(super) struct Endpoints {
    all: Vec<Endpoint>,
    /// Number of servers that must give the same answer.
    quorum: usize,
    depth: BlockDepth,
    /// Id of the chain, once configured or known.
    chain_id: OnceLock<u64>,
    /// Newest block that the node has read at.
    newest_block: AtomicU64,
    /// The server to ask first for agents: the last that answered.
    preferred: AtomicUsize,
    /// The server to ask first for changes. They take turns, so that none can hide events for long.
    next_for_changes: AtomicUsize,
}

impl Endpoints {
    pub(super) fn new(all: Vec<Endpoint>, quorum: usize, depth: BlockDepth, chain_id: Option<u64>) -> Self {
        Endpoints {
            all,
            quorum,
            depth,
            chain_id: chain_id.map(OnceLock::from).unwrap_or_default(),
            newest_block: AtomicU64::new(0),
            preferred: AtomicUsize::new(0),
            next_for_changes: AtomicUsize::new(0),
        }
    }

    /// Asks every server for the id of its chain, and whether the registry exists, if there is one. Returns why the
    /// configuration cannot be right, if that is certain; a server that does not answer proves nothing.
    pub(super) async fn check(&self, registry: Option<Address>) -> Result<(), String> {
        let ids = join_all(self.all.iter().map(Endpoint::chain_id)).await;
        let mut servers: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
        for (endpoint, id) in self.all.iter().zip(&ids) {
            if let Ok(id) = id {
                servers.entry(*id).or_default().push(&endpoint.name);
            }
        }
        let Some(most) = servers.values().map(Vec::len).max() else { return Ok(()) };
        let expected = match self.chain_id.get() {
            Some(expected) => *expected,
            None => {
                let mut candidates = servers.iter().filter(|(_, names)| names.len() == most);
                match (candidates.next(), candidates.next()) {
                    (Some((id, _)), None) => *id,
                    _ => return Err(format!("the RPC servers serve different chains: {servers:?}")),
                }
            }
        };
        let wrong: Vec<_> = servers.iter().filter(|(id, _)| **id != expected).collect();
        let number: usize = wrong.iter().map(|(_, names)| names.len()).sum();
        if self.all.len() - number < self.quorum {
            return Err(format!("chain {expected} is expected, and the RPC servers serve others: {wrong:?}"));
        }
        let expected = *self.chain_id.get_or_init(|| expected);
        let Some(registry) = registry else { return Ok(()) };
        // At the newest block: a registry that was just deployed is no mistake.
        match self.any(0, |endpoint| endpoint.has_code(registry, BlockId::latest())).await {
            Ok((_, false)) => Err(format!("there is no contract at {registry} on chain {expected}")),
            Ok((_, true)) | Err(_) => Ok(()),
        }
    }

    /// Returns the id of the chain, if it is configured or was learned at the start.
    pub(super) fn known_chain(&self) -> Option<u64> {
        self.chain_id.get().copied()
    }

    /// Puts questions to the servers, each about the state at a block. `ask` returns as many answers of a
    /// server as there are `questions`, and `None` where it has none. Returns `None` where the servers have
    /// no answer, or do not agree.
    pub(super) async fn read<'a, T, F>(
        &'a self,
        questions: usize,
        ask: impl Fn(&'a Endpoint, u64) -> F,
    ) -> Result<Vec<Option<T>>, NoAnswer>
    where
        T: Clone + PartialEq,
        F: Future<Output = Result<Vec<Option<T>>, ServerError>>,
    {
        if self.quorum > 1 {
            return self.read_agreed(questions, ask).await;
        }
        let first = self.preferred.load(Ordering::Relaxed);
        let found = self.any(first, |endpoint| {
            let ask = &ask;
            async move { ask(endpoint, endpoint.trusted_block(self.depth).await?).await }
        });
        let (index, found) = found.await?;
        self.preferred.store(index, Ordering::Relaxed);
        Ok(found)
    }

    /// Returns the block up to which the changes are known now, and the entries that events of the registry
    /// name since a block: `None` if there are too many blocks between. A chain that is far behind that
    /// block is a new one, or the number came from a server that was wrong; it begins anew.
    pub(super) async fn changes(
        &self,
        registry: &RegistryContract,
        since: u64,
        max_blocks: u64,
    ) -> Result<(u64, Option<Changes>), NoAnswer> {
        let events = Filter::new().event_signature(registry.events()).address(registry.address);
        let events = &events;
        let agreed = match self.quorum {
            1 => None,
            _ => Some(self.agreed_block().await?.0),
        };
        let first = self.next_for_changes.fetch_add(1, Ordering::Relaxed);
        let found = self.any(first, |endpoint| async move {
            let block = match agreed {
                Some(block) => block,
                None => endpoint.trusted_block(self.depth).await?,
            };
            let is_near = block <= since + max_blocks && block + MAX_BLOCKS_BEHIND >= since;
            if since == 0 || !is_near {
                return Ok((block, None));
            }
            if block <= since {
                return Ok((since, Some(Changes::default())));
            }
            let filter = events.clone().from_block(since + 1).to_block(block);
            Ok((block, Some(registry.changes(&endpoint.logs(&filter).await?))))
        });
        Ok(found.await?.1)
    }

    /// Asks the servers one after the other until one answers. Returns its index with the answer.
    async fn any<'a, T, F>(
        &'a self,
        first: usize,
        ask: impl Fn(&'a Endpoint) -> F,
    ) -> Result<(usize, T), NoAnswer>
    where
        F: Future<Output = Result<T, ServerError>>,
    {
        let mut errors = Vec::new();
        for offset in 0..self.all.len() {
            let index = first.wrapping_add(offset) % self.all.len();
            let endpoint = &self.all[index];
            match self.ask(endpoint, ask(endpoint)).await {
                Ok(answer) => return Ok((index, answer)),
                Err(error) => errors.push(format!("{}: {error}", endpoint.name)),
            }
        }
        Err(NoAnswer(errors.join("; ")))
    }

    /// Asks a server, unless it is paused or serves another chain.
    async fn ask<T>(
        &self,
        endpoint: &Endpoint,
        question: impl Future<Output = Result<T, ServerError>>,
    ) -> Result<T, ServerError> {
        endpoint.check_pause()?;
        let outcome = async {
            if let Some(expected) = self.chain_id.get() {
                endpoint.check_chain(*expected).await?;
            }
            question.await
        };
        let outcome = outcome.await;
        endpoint.note(&outcome);
        outcome
    }

    /// Returns the newest block that enough servers have, these servers, and the errors of the others.
    /// Fewer than a quorum of liars can neither move the block forward, nor back below what an honest
    /// quorum has, nor far below one that the node has read at.
    async fn agreed_block(&self) -> Result<(u64, Vec<&Endpoint>, Vec<String>), NoAnswer> {
        let blocks = self.all.iter().map(|endpoint| self.ask(endpoint, endpoint.trusted_block(self.depth)));
        let (mut errors, mut servers) = (Vec::new(), Vec::new());
        for (endpoint, block) in self.all.iter().zip(join_all(blocks).await) {
            match block {
                Ok(block) => servers.push((block, endpoint)),
                Err(error) => errors.push(format!("{}: {error}", endpoint.name)),
            }
        }
        servers.sort_by_key(|(block, _)| std::cmp::Reverse(*block));
        let Some((block, _)) = servers.get(self.quorum - 1) else { return Err(self.too_few(errors)) };
        let block = *block;
        let behind = self.newest_block.load(Ordering::Relaxed).saturating_sub(block);
        if behind > MAX_BLOCKS_BEHIND {
            return Err(NoAnswer(format!("the servers are {behind} blocks behind what they were")));
        }
        self.newest_block.fetch_max(block, Ordering::Relaxed);
        servers.retain(|(newest, _)| *newest >= block);
        Ok((block, servers.into_iter().map(|(_, endpoint)| endpoint).collect(), errors))
    }

    /// Asks all servers, at a block that enough of them have.
    async fn read_agreed<'a, T, F>(
        &'a self,
        questions: usize,
        ask: impl Fn(&'a Endpoint, u64) -> F,
    ) -> Result<Vec<Option<T>>, NoAnswer>
    where
        T: Clone + PartialEq,
        F: Future<Output = Result<Vec<Option<T>>, ServerError>>,
    {
        let (block, servers, mut errors) = self.agreed_block().await?;
        let mut answers = FuturesUnordered::new();
        for endpoint in servers {
            let answer = ask(endpoint, block);
            answers.push(async move { (endpoint, self.ask(endpoint, answer).await) });
        }
        let mut votes = Votes::new(questions, self.quorum);
        while let Some((endpoint, answer)) = answers.next().await {
            match answer {
                Ok(found) => votes.add(found),
                Err(error) => errors.push(format!("{}: {error}", endpoint.name)),
            }
            if votes.are_decided() {
                break;
            }
        }
        if !votes.are_enough() {
            return Err(self.too_few(errors));
        }
        Ok(votes.outcome())
    }

    fn too_few(&self, errors: Vec<String>) -> NoAnswer {
        NoAnswer(format!("fewer than {} servers answer: {}", self.quorum, errors.join("; ")))
    }
}
