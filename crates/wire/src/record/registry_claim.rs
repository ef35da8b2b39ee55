//! The entry of a registry that an agent claims as its own.

use alloy_primitives::{Address, U256};
use bytes::Bytes;
use prost::Message;

/// An entry of an identity registry of ERC-8004, which knows ids and no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryClaim {
    /// Id of the chain.
    pub chain_id: u64,
    /// Address of the registry.
    pub registry: Address,
    /// Id of the entry.
    pub agent_id: U256,
}

/// `RegistryClaim` in `docs/wire-protocol.md`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WireClaim {
    #[prost(uint64, tag = 1)]
    chain_id: u64,
    #[prost(bytes = "bytes", tag = 2)]
    registry: Bytes,
    /// Big endian, without leading zeros.
    #[prost(bytes = "bytes", tag = 3)]
    agent_id: Bytes,
}

impl From<&RegistryClaim> for WireClaim {
    fn from(claim: &RegistryClaim) -> Self {
        WireClaim {
            chain_id: claim.chain_id,
            registry: Bytes::copy_from_slice(claim.registry.as_slice()),
            agent_id: claim.agent_id.to_be_bytes_trimmed_vec().into(),
        }
    }
}

impl WireClaim {
    /// Returns `true` if each field has its only form.
    pub(super) fn is_valid(&self) -> bool {
        self.claim().is_some()
    }

    /// Returns the claim, or `None` if a field has the wrong form.
    pub(super) fn claim(&self) -> Option<RegistryClaim> {
        let registry = Address::try_from(&*self.registry).ok()?;
        let is_shortest = self.agent_id.first() != Some(&0);
        let agent_id = U256::try_from_be_slice(&self.agent_id).filter(|_| is_shortest)?;
        Some(RegistryClaim { chain_id: self.chain_id, registry, agent_id })
    }
}
