//! The binding: the agent's Ethereum key says which node key speaks for its address.

use alloy_primitives::{Address, B256, FixedBytes, Signature, U256};
use alloy_sol_types::{Eip712Domain, SolStruct, eip712_domain};
use bytes::Bytes;
use libp2p_identity::PeerId;
use prost::Message;

use super::keys::{hash_fields, peer_id_of};
use crate::strict::{DecodeError, Shape, Wire, ensure, strict_decode};

/// The sentence that a person reads in a wallet before signing; the same in every binding.
pub const STATEMENT: &str = "I let this peer-to-peer node send and receive messages as my account on the named network until the binding ends.";

/// Life of a binding that the sidecar signs for itself, in seconds: 7 days (design §3).
pub const BINDING_LIFE_SECS: u64 = 7 * 24 * 60 * 60;

/// Longest life of a binding that is accepted, in seconds: 90 days (design §3).
pub const BINDING_MAX_LIFE_SECS: u64 = 90 * 24 * 60 * 60;

/// How far two clocks may be apart, in seconds (design §3).
pub const MAX_SKEW_SECS: u64 = 30;

/// Longest network name, in bytes of `[a-z0-9-]`; it is part of protocol names and of every record.
pub const MAX_NETWORK_BYTES: usize = 32;

/// Longest signature that is read, in bytes (design §3); room for contract wallets, which are refused so far.
pub const MAX_BINDING_SIGNATURE_BYTES: usize = 512;

/// Length of an ECDSA signature r ‖ s ‖ v, in bytes.
pub const ECDSA_SIGNATURE_BYTES: usize = 65;

/// Longest encoded binding, in bytes: the signature, and 160 for all else (fields at their longest take 145).
pub const MAX_BINDING_BYTES: usize = MAX_BINDING_SIGNATURE_BYTES + 160;

/// Half of the order of secp256k1, big endian: the greatest s of a signature that nobody has turned over
/// (SEC 2 §2.4.1 gives the order, EIP-2 the rule).
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d,
    0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// Whether a generation (seconds since 1970) has yet to come at `now_ms` (ms since 1970). It comes from a clock that was ahead, or was given in
/// another unit: nobody believes its bindings, and where it was believed once it counts for nothing until its time has come.
pub fn is_future_generation(generation: u64, now_ms: u64) -> bool {
    generation > (now_ms / 1000).saturating_add(MAX_SKEW_SECS)
}

/// Names a signed binding: a hash of its encoding, signature included.
pub type BindingHash = [u8; 32];

/// Why a binding is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// The bytes are no binding.
    #[error("the binding is {0}")]
    Decode(#[from] DecodeError),
    /// The network is not named in 1 to 32 bytes of `[a-z0-9-]`.
    #[error("the network's name is not 1 to 32 characters of a-z, 0-9 and -")]
    NetworkName,
    /// For another network.
    #[error("the binding is for another network")]
    WrongNetwork,
    /// To be signed by another account's key.
    #[error("the binding names another account than the key's")]
    WrongAccount,
    /// The PeerId is not the node key's, or there is no such key.
    #[error("the node key and the PeerId do not belong together")]
    WrongKey,
    /// It ends before it begins, or lives longer than 90 days.
    #[error("the binding's life is negative or longer than 90 days")]
    Lifetime,
    /// It begins in the future.
    #[error("the binding is not valid yet")]
    NotYetValid,
    /// It is over.
    #[error("the binding has expired")]
    Expired,
    /// Its generation lies in the future.
    #[error("the binding's generation lies in the future")]
    FutureGeneration,
    /// A signature of another length than ECDSA's: a contract wallet's, which cannot be checked yet.
    #[error("signatures of contract wallets are not supported")]
    ContractSignature,
    /// The last byte is none of 0, 1, 27, 28.
    #[error("the signature's recovery id is not 0, 1, 27 or 28")]
    RecoveryId,
    /// A valid signature turned over by somebody who does not have the key.
    #[error("the signature has a high s")]
    HighS,
}

impl BindingError {
    /// Whether everybody would find the same, whatever their clock says and whichever signatures they can check: only for
    /// this is whoever passed the binding on to blame.
    pub fn is_provable(&self) -> bool {
        use BindingError::*;
        match self {
            Decode(error) => error.is_provable(),
            NotYetValid | Expired | FutureGeneration | ContractSignature => false,
            NetworkName | WrongNetwork | WrongAccount | WrongKey | Lifetime | RecoveryId | HighS => true,
        }
    }
}

pub(super) mod typed {
    // What a wallet is shown and what is hashed; names and order are those of the EIP-712 type.
    alloy_sol_types::sol! {
        struct PeerBinding {
            string statement;
            address account;
            uint256 chainId;
            string peerId;
            bytes32 nodeKey;
            string network;
            uint64 generation;
            uint64 notBefore;
            uint64 notAfter;
        }
    }
}

/// What the agent's key signs: this node key speaks for this address. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The agent.
    pub account: Address,
    /// 0: a plain key, valid on every chain.
    pub chain_id: u64,
    /// The node's PeerId; always that of `node_key`.
    pub peer_id: PeerId,
    /// The node's Ed25519 public key.
    pub node_key: [u8; 32],
    /// The network that it is for.
    pub network: String,
    /// When the node key was made, or 0; a higher one revokes a lower one.
    pub generation: u64,
    /// First second of its life.
    pub not_before: u64,
    /// Last second of its life.
    pub not_after: u64,
}

impl Binding {
    /// The EIP-712 hash that the signature is over.
    pub fn signing_hash(&self) -> B256 {
        self.typed().eip712_signing_hash(&domain())
    }

    /// Checks what is right or wrong at every time: names, keys, length of life.
    pub(super) fn check_form(&self) -> Result<(), BindingError> {
        if !is_network_name(&self.network) {
            return Err(BindingError::NetworkName);
        }
        if peer_id_of(&self.node_key) != Some(self.peer_id) {
            return Err(BindingError::WrongKey);
        }
        match self.not_after.checked_sub(self.not_before) {
            Some(life) if life <= BINDING_MAX_LIFE_SECS => Ok(()),
            _ => Err(BindingError::Lifetime),
        }
    }

    fn typed(&self) -> typed::PeerBinding {
        typed::PeerBinding {
            statement: STATEMENT.to_owned(),
            account: self.account,
            chainId: U256::from(self.chain_id),
            peerId: self.peer_id.to_base58(),
            nodeKey: FixedBytes(self.node_key),
            network: self.network.clone(),
            generation: self.generation,
            notBefore: self.not_before,
            notAfter: self.not_after,
        }
    }
}

/// A binding with its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBinding {
    /// What was signed.
    pub binding: Binding,
    /// r ‖ s ‖ v, 65 bytes.
    pub signature: Bytes,
}

impl SignedBinding {
    /// The bytes that travel in frames and records. The PeerId is left out: the node key is all of it.
    pub fn encode(&self) -> Bytes {
        let Binding { account, chain_id, peer_id: _, node_key, network, generation, not_before, not_after } =
            &self.binding;
        let wire = WireBinding {
            account: Bytes::copy_from_slice(account.as_slice()),
            chain_id: *chain_id,
            node_key: Bytes::copy_from_slice(node_key),
            network: network.clone(),
            generation: *generation,
            not_before: *not_before,
            not_after: *not_after,
            signature: self.signature.clone(),
        };
        wire.encode_to_vec().into()
    }

    /// Reads what [`SignedBinding::encode`] wrote, and nothing else. Does not judge it.
    ///
    /// # Errors
    /// When the bytes are not the canonical encoding of a binding within its limits, or the node key is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, BindingError> {
        let wire: WireBinding = strict_decode(&Bytes::copy_from_slice(bytes))?;
        let account = Address::try_from(&*wire.account).map_err(|_| DecodeError::Field("account"))?;
        let node_key = (*wire.node_key).try_into().map_err(|_| DecodeError::Field("node_key"))?;
        let binding = Binding {
            account,
            chain_id: wire.chain_id,
            peer_id: peer_id_of(&node_key).ok_or(BindingError::WrongKey)?,
            node_key,
            network: wire.network,
            generation: wire.generation,
            not_before: wire.not_before,
            not_after: wire.not_after,
        };
        Ok(SignedBinding { binding, signature: wire.signature })
    }

    /// Names this binding, for caches of what [`SignedBinding::verify_signature`] found.
    pub fn hash(&self) -> BindingHash {
        hash_fields(&[b"p2p-node/binding-hash/v1", &self.encode()])
    }

    /// Everything about a binding that is cheap to check; its signature is what remains.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order of [`BindingError`].
    pub fn check(&self, network: &str, now_ms: u64) -> Result<(), BindingError> {
        let Binding { not_before, not_after, generation, .. } = self.binding;
        let now = now_ms / 1000;
        let latest = now.saturating_add(MAX_SKEW_SECS);
        if self.binding.network != network {
            return Err(BindingError::WrongNetwork);
        }
        self.binding.check_form()?;
        if not_before > latest {
            return Err(BindingError::NotYetValid);
        }
        if not_after.saturating_add(MAX_SKEW_SECS) < now {
            return Err(BindingError::Expired);
        }
        if is_future_generation(generation, now_ms) {
            return Err(BindingError::FutureGeneration);
        }
        self.ecdsa().map(|_| ())
    }

    /// Whether the account named in the binding signed it. Recovers a key, which takes some hundred
    /// microseconds: a stranger must not be able to make us do it often.
    pub fn verify_signature(&self) -> bool {
        self.signer() == Some(self.binding.account)
    }

    /// Whose key made the signature, if it is in its accepted form. If it was made over something else, that is an address which
    /// nobody has. Takes as long as [`SignedBinding::verify_signature`].
    pub fn signer(&self) -> Option<Address> {
        self.ecdsa().ok()?.recover_address_from_prehash(&self.binding.signing_hash()).ok()
    }

    /// How long it may still be used at `now_ms`, in ms; both in ms since 1970.
    pub fn left_ms(&self, now_ms: u64) -> u64 {
        self.binding.not_after.saturating_mul(1000).saturating_sub(now_ms)
    }

    /// The signature in its only accepted form. The library would quietly turn a high s over: refuse it first.
    fn ecdsa(&self) -> Result<Signature, BindingError> {
        let bytes: &[u8; ECDSA_SIGNATURE_BYTES] =
            (&*self.signature).try_into().map_err(|_| BindingError::ContractSignature)?;
        let parity = match bytes[64] {
            0 | 27 => false,
            1 | 28 => true,
            _ => return Err(BindingError::RecoveryId),
        };
        if bytes[32..64] > HALF_ORDER[..] {
            return Err(BindingError::HighS);
        }
        Ok(Signature::from_bytes_and_parity(&bytes[..64], parity))
    }
}

/// Whether `name` may name a network: 1 to 32 characters of `[a-z0-9-]`.
pub fn is_network_name(name: &str) -> bool {
    (1..=MAX_NETWORK_BYTES).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// The EIP-712 domain. No chain id: the binding itself carries it, because most keys are for no chain.
pub(super) fn domain() -> Eip712Domain {
    eip712_domain! { name: "p2p-node", version: "1", }
}

/// `SignedBinding` of `docs/wire-protocol.md`.
#[derive(Clone, PartialEq, Message)]
struct WireBinding {
    #[prost(bytes = "bytes", tag = 1)]
    account: Bytes,
    #[prost(uint64, tag = 2)]
    chain_id: u64,
    #[prost(bytes = "bytes", tag = 3)]
    node_key: Bytes,
    #[prost(string, tag = 4)]
    network: String,
    #[prost(uint64, tag = 5)]
    generation: u64,
    #[prost(uint64, tag = 6)]
    not_before: u64,
    #[prost(uint64, tag = 7)]
    not_after: u64,
    #[prost(bytes = "bytes", tag = 8)]
    signature: Bytes,
}

impl Wire for WireBinding {
    const MAX_BYTES: usize = MAX_BINDING_BYTES;
    const SHAPE: Shape = Shape::flat(8);

    fn check(&self) -> Result<(), DecodeError> {
        ensure(is_network_name(&self.network), "network")?;
        ensure((1..=MAX_BINDING_SIGNATURE_BYTES).contains(&self.signature.len()), "signature")
    }
}

#[cfg(test)]
mod tests;
