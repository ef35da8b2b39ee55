//! The RPC servers of a chain together: fail-over, or agreement of several.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use alloy::eips::BlockId;
use alloy::primitives::Address;
use alloy::rpc::types::Filter;
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use p2p_node_core::chain::AgentInfo;

use super::endpoint::{BlockDepth, Endpoint};
use super::server_error::ServerError;

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
    /// The server to ask first: the last that answered.
    preferred: AtomicUsize,
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
        }
    }

    /// Asks every server for the id of its chain, and whether the registry exists. Returns why the
    /// configuration cannot be right, if that is certain; a server that does not answer proves nothing.
    pub(super) async fn check(&self, registry: Address) -> Result<(), String> {
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
        // At the newest block: a registry that was just deployed is no mistake.
        match self.any(|endpoint| endpoint.has_code(registry, BlockId::latest())).await {
            Ok(false) => Err(format!("there is no contract at {registry} on chain {expected}")),
            Ok(true) | Err(_) => Ok(()),
        }
    }

    /// Returns what the registry says of each agent: `None` for an agent on whom the servers do not agree.
    pub(super) async fn agents(
        &self,
        registry: Address,
        agents: &[Address],
    ) -> Result<Vec<Option<AgentInfo>>, NoAnswer> {
        if self.quorum == 1 {
            let found = self.any(|endpoint| async move {
                let block = self.block_of(endpoint).await?;
                endpoint.agents(registry, agents, block).await
            });
            return Ok(found.await?.into_iter().map(Some).collect());
        }
        self.agreed_agents(registry, agents).await
    }

    /// Returns the agents that events of the registry name since a block, and the block up to which they
    /// were read. The servers are asked in turn, so that one of them cannot hide events for long.
    pub(super) async fn changes(
        &self,
        registry: Address,
        events: &Filter,
        since: u64,
        max_blocks: u64,
    ) -> Result<(u64, Option<Vec<Address>>), NoAnswer> {
        self.preferred.fetch_add(1, Ordering::Relaxed);
        let found = self.any(|endpoint| async move {
            let block = self.block_of(endpoint).await?;
            if block <= since {
                return Ok((since, Some(Vec::new())));
            }
            if since == 0 || block - since > max_blocks {
                return Ok((block, None));
            }
            let filter = events.clone().address(registry).from_block(since + 1).to_block(block);
            Ok((block, Some(endpoint.changed_agents(&filter, registry).await?)))
        });
        found.await
    }

    /// Asks the servers one after the other until one answers.
    async fn any<'a, T, F>(&'a self, ask: impl Fn(&'a Endpoint) -> F) -> Result<T, NoAnswer>
    where
        F: Future<Output = Result<T, ServerError>>,
    {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut errors = Vec::new();
        for offset in 0..self.all.len() {
            let index = (first + offset) % self.all.len();
            let endpoint = &self.all[index];
            let outcome = self.ask(endpoint, ask(endpoint)).await;
            match outcome {
                Ok(answer) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
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

    /// Returns the block at which to read from a server.
    async fn block_of(&self, endpoint: &Endpoint) -> Result<u64, ServerError> {
        let block = endpoint.trusted_block(self.depth).await?;
        let behind = self.newest_block.load(Ordering::Relaxed).saturating_sub(block);
        if behind > MAX_BLOCKS_BEHIND {
            return Err(ServerError::Behind(behind));
        }
        Ok(block)
    }

    /// Reads agents from all servers, at a block that enough of them have.
    async fn agreed_agents(
        &self,
        registry: Address,
        agents: &[Address],
    ) -> Result<Vec<Option<AgentInfo>>, NoAnswer> {
        let blocks = self.all.iter().map(|endpoint| self.ask(endpoint, self.block_of(endpoint)));
        let mut errors = Vec::new();
        let mut ready_to_read = Vec::new();
        for (endpoint, block) in self.all.iter().zip(join_all(blocks).await) {
            match block {
                Ok(block) => ready_to_read.push((block, endpoint)),
                Err(error) => errors.push(format!("{}: {error}", endpoint.name)),
            }
        }
        // The newest block that enough servers have: fewer than a quorum of liars cannot move it
        // forward, nor back below what an honest quorum has.
        ready_to_read.sort_by_key(|(block, _)| std::cmp::Reverse(*block));
        let Some((block, _)) = ready_to_read.get(self.quorum - 1) else { return Err(self.too_few(errors)) };
        let block = *block;
        let servers = ready_to_read.into_iter().filter(|(newest, _)| *newest >= block);
        let mut answers = FuturesUnordered::new();
        for (_, endpoint) in servers {
            answers.push(async move {
                let answer = self.ask(endpoint, endpoint.agents(registry, agents, block)).await;
                (endpoint, answer)
            });
        }
        let mut votes = Votes::new(agents.len(), self.quorum);
        while let Some((endpoint, answer)) = answers.next().await {
            match answer {
                Ok(found) => votes.add(found),
                Err(error) => errors.push(format!("{}: {error}", endpoint.name)),
            }
            if votes.are_decided() {
                break;
            }
        }
        if votes.voters < self.quorum {
            return Err(self.too_few(errors));
        }
        self.newest_block.fetch_max(block, Ordering::Relaxed);
        Ok(votes.outcome())
    }

    fn too_few(&self, errors: Vec<String>) -> NoAnswer {
        NoAnswer(format!("fewer than {} servers answer: {}", self.quorum, errors.join("; ")))
    }
}

/// The answers of several servers about the same agents.
#[derive(Debug)]
struct Votes {
    quorum: usize,
    voters: usize,
    /// For each agent, the different answers with their numbers.
    by_agent: Vec<Vec<(AgentInfo, usize)>>,
}

impl Votes {
    fn new(agents: usize, quorum: usize) -> Self {
        Votes { quorum, voters: 0, by_agent: vec![Vec::new(); agents] }
    }

    fn add(&mut self, answer: Vec<AgentInfo>) {
        self.voters += 1;
        for (answers, info) in self.by_agent.iter_mut().zip(answer) {
            match answers.iter_mut().find(|(known, _)| *known == info) {
                Some((_, number)) => *number += 1,
                None => answers.push((info, 1)),
            }
        }
    }

    fn winner(&self, answers: &[(AgentInfo, usize)]) -> Option<AgentInfo> {
        answers.iter().find(|(_, number)| *number >= self.quorum).map(|(info, _)| info.clone())
    }

    fn are_decided(&self) -> bool {
        self.voters >= self.quorum && self.by_agent.iter().all(|answers| self.winner(answers).is_some())
    }

    fn outcome(&self) -> Vec<Option<AgentInfo>> {
        self.by_agent.iter().map(|answers| self.winner(answers)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(is_active: bool) -> AgentInfo {
        AgentInfo { is_active, ..AgentInfo::default() }
    }

    #[test]
    fn fewer_servers_than_the_quorum_decide_about_no_agent() {
        let mut votes = Votes::new(2, 2);
        votes.add(vec![info(true), info(true)]);
        assert_eq!((votes.outcome(), votes.are_decided()), (vec![None, None], false));
        // The second server agrees about the first agent only.
        votes.add(vec![info(true), info(false)]);
        assert_eq!((votes.outcome(), votes.are_decided()), (vec![Some(info(true)), None], false));
        votes.add(vec![info(false), info(false)]);
        assert_eq!(votes.outcome(), [Some(info(true)), Some(info(false))]);
        assert!(votes.are_decided());
    }
}
