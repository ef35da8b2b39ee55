//! The binding: a statement signed by the agent's Ethereum key that a node key may speak for the
//! agent's address.

use alloy_primitives::{Address, B256, FixedBytes, Signature, U256};
use alloy_sol_types::{Eip712Domain, SolStruct, eip712_domain};
use bytes::Bytes;
use libp2p_identity::PeerId;
use prost::Message;

use super::keys::{NodePublicKey, hash_fields, peer_id_of};
use crate::newtype::fixed_bytes;
use crate::strict::{DecodeError, Shape, Wire, ensure, strict_decode};

/// The sentence that a wallet shows to a person before signing. It is the same in every binding.
pub const STATEMENT: &str = "I let this peer-to-peer node send and receive messages as my account on the named network until the binding ends.";

/// Life of a binding that the node signs itself, in seconds: 7 days. The node renews it at half its
/// life, so a stolen node key alone is useless after a week.
pub const BINDING_LIFE_SECS: u64 = 7 * 24 * 60 * 60;

/// Longest accepted life of a binding, in seconds: 90 days, because a person has to sign a new one
/// with a wallet each time.
pub const BINDING_MAX_LIFE_SECS: u64 = 90 * 24 * 60 * 60;

/// Largest tolerated difference between two clocks, in seconds. A node warns with `CLOCK_SKEW` at
/// half of it.
pub const MAX_SKEW_SECS: u64 = 30;

/// Longest network name, in bytes of `[a-z0-9-]`. The name is part of every protocol name and of
/// every record.
pub const MAX_NETWORK_BYTES: usize = 32;

/// Longest signature that is read, in bytes. Our choice: that of a contract wallet has the signatures of its
/// owners, and before the wallet is deployed also the call that deploys it (ERC-6492), some 1,000 bytes.
pub const MAX_BINDING_SIGNATURE_BYTES: usize = 1536;

/// Length of an ECDSA signature r ‖ s ‖ v, in bytes.
pub const ECDSA_SIGNATURE_BYTES: usize = 65;

/// Longest encoded binding, in bytes: the signature and 160 bytes for the other fields, which take
/// at most 145.
pub const MAX_BINDING_BYTES: usize = MAX_BINDING_SIGNATURE_BYTES + 160;

/// Half of the order of secp256k1, big endian: the largest s of a signature in its canonical form.
/// SEC 2 §2.4.1 gives the order, EIP-2 gives the rule.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d,
    0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// Returns `true` if a generation (seconds since 1970) lies in the future at `now_ms` (ms since
/// 1970). Such a generation comes from a clock that was ahead, or was given in another unit. Peers
/// reject its bindings. If a peer accepted the generation before, the peer ignores it until that
/// time has come.
pub fn is_future_generation(generation: u64, now_ms: u64) -> bool {
    generation > (now_ms / 1000).saturating_add(MAX_SKEW_SECS)
}

fixed_bytes!(
    /// Hash of the encoding of a signed binding, signature included. It identifies the binding.
    BindingHash,
    32
);

/// The reasons why a binding is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// The bytes are not an encoded binding.
    #[error("the binding is {0}")]
    Decode(#[from] DecodeError),
    /// The network's name is not 1 to 32 bytes of `[a-z0-9-]`.
    #[error("the network name is not 1 to 32 characters of a-z, 0-9 and -")]
    NetworkName,
    /// The binding is for another network.
    #[error("the binding is for another network")]
    WrongNetwork,
    /// The binding names an account other than that of the signing key.
    #[error("the binding names an account other than that of the signing key")]
    WrongAccount,
    /// The PeerId does not belong to the node key, or the node key is not a valid key.
    #[error("the PeerId does not belong to the node key")]
    WrongKey,
    /// The binding ends before it begins, or lives longer than 90 days.
    #[error("the binding's lifetime is negative or longer than 90 days")]
    Lifetime,
    /// The binding begins in the future.
    #[error("the binding is not valid yet")]
    NotYetValid,
    /// The binding has expired.
    #[error("the binding has expired")]
    Expired,
    /// The generation of the binding lies in the future.
    #[error("the binding's generation lies in the future")]
    FutureGeneration,
    /// The signature does not have the length of an ECDSA signature, and the binding does not name the chain
    /// of a contract wallet.
    #[error("the signature has not 65 bytes: that of a contract wallet needs the wallet's chain id")]
    ContractSignature,
    /// The last byte of the signature is not 0, 1, 27 or 28.
    #[error("the signature's recovery id is not 0, 1, 27 or 28")]
    RecoveryId,
    /// The signature has the higher of its two possible values of s. Anybody can compute it from
    /// the canonical one without the key.
    #[error("the signature is not in its canonical form: s is above half of the curve order")]
    HighS,
}

impl BindingError {
    /// Returns `true` if every node would find the same error, independent of its clock. Only then is the peer that forwarded the binding to blame.
    pub fn is_provable(&self) -> bool {
        use BindingError::*;
        match self {
            Decode(error) => error.is_provable(),
            NotYetValid | Expired | FutureGeneration => false,
            NetworkName | WrongNetwork | WrongAccount | WrongKey | Lifetime | ContractSignature
            | RecoveryId | HighS => true,
        }
    }
}

pub(super) mod typed {
    // The struct that a wallet shows and hashes. Its names and their order define the EIP-712 type.
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

/// The statement that the agent's key signs: this node key speaks for this address. Times are in
/// seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The agent's Ethereum address.
    pub account: Address,
    /// The chain id. 0 means a plain key, valid on every chain. With another one, the account may be a
    /// contract wallet on this chain.
    pub chain_id: u64,
    /// The node's PeerId. It always belongs to `node_key`.
    pub peer_id: PeerId,
    /// The node's Ed25519 public key.
    pub node_key: NodePublicKey,
    /// The network for which the binding is valid.
    pub network: String,
    /// The time when the node key was created, in seconds since 1970, or 0. A higher generation
    /// revokes a lower one.
    pub generation: u64,
    /// First second in which the binding is valid.
    pub not_before: u64,
    /// Last second in which the binding is valid.
    pub not_after: u64,
}

impl Binding {
    /// Returns the EIP-712 hash that the agent's key signs.
    pub fn signing_hash(&self) -> B256 {
        self.typed().eip712_signing_hash(&domain())
    }

    /// Checks the rules that do not depend on the time: names, keys and length of life.
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
            nodeKey: FixedBytes(self.node_key.0),
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
    /// The signed binding.
    pub binding: Binding,
    /// The signature: r ‖ s ‖ v, 65 bytes, of a plain key, or what the contract wallet of the chain accepts.
    pub signature: Bytes,
}

impl SignedBinding {
    /// Returns the bytes that travel in frames and records. They omit the PeerId, which follows
    /// from the node key.
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

    /// Decodes the output of [`SignedBinding::encode`]. Does not check whether the binding is
    /// valid.
    ///
    /// # Errors
    /// Fails when the bytes are not the canonical encoding of a binding within its limits, or when
    /// the node key is not a valid key.
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

    /// Returns the hash that identifies this binding in caches of the results of
    /// [`SignedBinding::verify_signature`].
    pub fn hash(&self) -> BindingHash {
        BindingHash(hash_fields(&[b"p2p-node/binding-hash/v1", &self.encode()]))
    }

    /// Checks every cheap rule. Only the signature remains to be verified.
    ///
    /// # Errors
    /// Returns the first rule that the binding breaks, in the order of [`BindingError`].
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
        if self.may_be_of_contract() {
            return Ok(());
        }
        self.ecdsa().map(|_| ())
    }

    /// Returns `true` if a contract wallet may have made the signature, which then only its chain can verify.
    pub fn may_be_of_contract(&self) -> bool {
        self.binding.chain_id != 0
    }

    /// Returns `true` if a plain key may have made the signature.
    pub fn may_be_of_key(&self) -> bool {
        self.ecdsa().is_ok()
    }

    /// Returns `true` if the plain key of the account named in the binding made the signature. Recovering the key
    /// takes some hundred microseconds, so a stranger must not be able to cause it often.
    pub fn verify_signature(&self) -> bool {
        self.signer() == Some(self.binding.account)
    }

    /// Returns the address whose key made the signature, or `None` if the signature is not in its
    /// canonical form. If the key signed something else, the result is an unrelated address. Costs
    /// as much as [`SignedBinding::verify_signature`].
    pub fn signer(&self) -> Option<Address> {
        self.ecdsa().ok()?.recover_address_from_prehash(&self.binding.signing_hash()).ok()
    }

    /// Returns the time for which the binding is still valid at `now_ms` (ms since 1970), in ms.
    pub fn left_ms(&self, now_ms: u64) -> u64 {
        self.binding.not_after.saturating_mul(1000).saturating_sub(now_ms)
    }

    /// Returns the signature if it is in canonical form. The library would silently normalise a
    /// high s, so this function rejects it first.
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

/// Returns `true` if `name` is a valid network name: 1 to 32 characters of `[a-z0-9-]`.
pub fn is_network_name(name: &str) -> bool {
    (1..=MAX_NETWORK_BYTES).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Returns the EIP-712 domain. The domain has no chain id: the binding carries it, because most
/// keys are valid on every chain.
pub(super) fn domain() -> Eip712Domain {
    eip712_domain! { name: "p2p-node", version: "1", }
}

/// `SignedBinding` in `docs/wire-protocol.md`.
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
