//! The two kinds of keys, and the encoding of everything that is signed or hashed.

use std::fmt;

use alloy_primitives::{Address, B256, Signature, keccak256};
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use k256::ecdsa;
use libp2p_identity::PeerId;
use libp2p_identity::{PublicKey, ed25519};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::SecretBytes;
use super::binding::{Binding, BindingError, SignedBinding};
use crate::newtype::fixed_bytes;

/// Length of an Ed25519 signature, in bytes (RFC 8032 §5.1.6).
pub const SIGNATURE_BYTES: usize = 64;

/// Domain for deriving a node key from an agent's key.
const NODE_KEY_DOMAIN: &str = "p2p-node/node-key/v1";

/// Multihash header of the PeerId of an Ed25519 key: an identity hash of 36 bytes, which hold a
/// protobuf of key type 1 and 32 bytes of data (libp2p specification, `peer-ids`).
const PEER_ID_HEADER: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The reasons why bytes are not a key. The error never contains the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not 64 hexadecimal digits, with or without `0x`.
    #[error("an Ethereum key is 64 hexadecimal digits")]
    NotHex,
    /// The number is zero, or not below the order of the curve.
    #[error("the number is not a secp256k1 key")]
    OutOfRange,
}

fixed_bytes!(
    /// The public part of a [`NodeKey`], from which the PeerId of the node follows.
    NodePublicKey,
    32
);

/// The Ed25519 key of a node. The PeerId follows from it, and it signs the node's frames, records
/// and acks. The key is zeroised on drop.
#[derive(Clone)]
pub struct NodeKey(SigningKey);

impl NodeKey {
    /// Creates the key from a seed, which is the private key of RFC 8032.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        NodeKey(SigningKey::from_bytes(&seed))
    }

    /// Derives a node key from an agent's key, so that the PeerId is stable without a disk. It uses
    /// HKDF-SHA256 without salt; the info is the length-prefixed list of domain, network, instance
    /// and generation (u64, big endian).
    pub fn derive(agent_secret: &[u8; 32], network: &str, instance: &str, generation: u64) -> Self {
        let info = length_prefixed(&[
            NODE_KEY_DOMAIN.as_bytes(),
            network.as_bytes(),
            instance.as_bytes(),
            &generation.to_be_bytes(),
        ]);
        let mut seed = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, agent_secret)
            .expand(&info, seed.as_mut())
            .expect("32 bytes are far below HKDF's limit of 255 hashes");
        NodeKey::from_seed(*seed)
    }

    /// Returns the public key.
    pub fn public(&self) -> NodePublicKey {
        NodePublicKey(self.0.verifying_key().to_bytes())
    }

    /// Returns the PeerId of the public key.
    pub fn peer_id(&self) -> PeerId {
        peer_id_of(&self.public()).expect("the public key of a secret key is a point")
    }

    /// Returns the seed, for the key file and for libp2p's copy of the key.
    pub fn seed(&self) -> SecretBytes {
        SecretBytes::from(self.0.to_bytes())
    }

    /// Signs the length-prefixed list of `domain` and `body`.
    pub fn sign(&self, domain: &str, body: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(&signed_bytes(domain, body)).to_bytes()
    }

    /// Signs `body` and returns signature ‖ body, the form that travels.
    pub fn sign_whole(&self, domain: &str, body: &[u8]) -> Bytes {
        let mut whole = Vec::with_capacity(SIGNATURE_BYTES + body.len());
        whole.extend_from_slice(&self.sign(domain, body));
        whole.extend_from_slice(body);
        whole.into()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.peer_id())
    }
}

/// Returns `true` if `node_key` signed `domain` and `body`. The check is strict: it accepts only
/// one signature per message, and no keys of small order.
pub fn verify(node_key: &NodePublicKey, domain: &str, body: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&node_key.0) else { return false };
    let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else { return false };
    key.verify_strict(&signed_bytes(domain, body), &signature).is_ok()
}

/// Returns the bytes that a signature covers: the domain and the SHA-256 of the body. Ed25519
/// hashes its input with SHA-512 twice. For a frame of 256 KiB one SHA-256, which processors
/// accelerate, costs a fraction of that.
fn signed_bytes(domain: &str, body: &[u8]) -> Vec<u8> {
    length_prefixed(&[domain.as_bytes(), &Sha256::digest(body)])
}

/// Runs [`verify`] on signature ‖ body as received.
pub fn verify_signed(node_key: &NodePublicKey, domain: &str, whole: &[u8]) -> bool {
    whole
        .split_at_checked(SIGNATURE_BYTES)
        .is_some_and(|(signature, body)| verify(node_key, domain, body, signature))
}

/// Returns the body of signature ‖ body, sharing its memory, or `None` when the input is shorter
/// than a signature.
pub(crate) fn signed_body(whole: &Bytes) -> Option<Bytes> {
    (whole.len() >= SIGNATURE_BYTES).then(|| whole.slice(SIGNATURE_BYTES..))
}

/// Returns the PeerId of a node key, or `None` when the bytes are not a point of the curve.
pub fn peer_id_of(node_key: &NodePublicKey) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(node_key).ok()?;
    Some(PeerId::from_public_key(&PublicKey::from(key)))
}

/// Returns the node key that a PeerId contains, or `None` for other kinds of keys, whose PeerId
/// contains only a hash.
pub fn node_key_of(peer: &PeerId) -> Option<NodePublicKey> {
    peer.to_bytes().strip_prefix(&PEER_ID_HEADER)?.try_into().ok()
}

/// Returns the PeerId that a node key would have, without the check that the bytes are a key.
pub(crate) fn claimed_peer_id(node_key: &NodePublicKey) -> Option<PeerId> {
    PeerId::from_bytes(&[&PEER_ID_HEADER[..], &node_key.0].concat()).ok()
}

/// Returns the SHA-256 of a length-prefixed list of fields.
pub fn hash_fields(fields: &[&[u8]]) -> [u8; 32] {
    Sha256::digest(length_prefixed(fields)).into()
}

/// Returns the Keccak-256 of a length-prefixed list of fields.
pub(crate) fn keccak_fields(fields: &[&[u8]]) -> [u8; 32] {
    keccak256(length_prefixed(fields)).0
}

/// Concatenates the fields, each after its length (u32, big endian), so that no two lists give the
/// same bytes.
pub(crate) fn length_prefixed(fields: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(fields.iter().map(|field| 4 + field.len()).sum());
    for field in fields {
        let length = u32::try_from(field.len()).expect("nothing that is signed or hashed has 4 GiB");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(field);
    }
    out
}

/// The secp256k1 key that identifies an agent. The key is zeroised on drop.
#[derive(Clone)]
pub struct AgentKey {
    key: ecdsa::SigningKey,
    address: Address,
}

impl AgentKey {
    /// Reads 64 hexadecimal digits, with or without `0x`.
    ///
    /// # Errors
    /// Fails when the text has another form, or the number is not a key.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let mut secret = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), secret.as_mut())
            .map_err(|_| KeyError::NotHex)?;
        AgentKey::from_bytes(&secret)
    }

    /// Reads a big-endian number.
    ///
    /// # Errors
    /// Fails when the number is zero or not below the order of the curve.
    pub fn from_bytes(secret: &[u8; 32]) -> Result<Self, KeyError> {
        let key = ecdsa::SigningKey::from_slice(secret).map_err(|_| KeyError::OutOfRange)?;
        Ok(AgentKey { address: Address::from_private_key(&key), key })
    }

    /// Returns the Ethereum address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Returns the secret, for deriving node keys.
    pub fn secret(&self) -> SecretBytes {
        SecretBytes::from(<[u8; 32]>::from(self.key.to_bytes()))
    }

    /// Signs a binding to this key's address.
    ///
    /// # Errors
    /// Fails when the binding names another account, or when every verifier would reject it.
    pub fn bind(&self, binding: Binding) -> Result<SignedBinding, BindingError> {
        if binding.account != self.address() {
            return Err(BindingError::WrongAccount);
        }
        binding.check_form()?;
        let signature = self.sign_hash(&binding.signing_hash());
        Ok(SignedBinding { binding, signature: Bytes::copy_from_slice(&signature.as_bytes()) })
    }

    /// Signs deterministically (RFC 6979), with the lower of the two valid values of `s`.
    pub(super) fn sign_hash(&self, hash: &B256) -> Signature {
        let signed = self.key.sign_prehash_recoverable(hash.as_slice());
        signed.expect("a key in memory signs every hash of 32 bytes").into()
    }
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentKey({})", self.address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_boundaries_change_hash() {
        assert_ne!(hash_fields(&[b"ab", b"c"]), hash_fields(&[b"a", b"bc"]));
        assert_ne!(hash_fields(&[b"abc"]), hash_fields(&[b"abc", b""]));
        assert_eq!(length_prefixed(&[b"ab", b""]), b"\0\0\0\x02ab\0\0\0\0");
    }

    #[test]
    fn peer_id_and_node_key_convert_into_each_other() {
        let key = NodeKey::from_seed([7; 32]);
        assert_eq!(node_key_of(&key.peer_id()), Some(key.public()));
        let keypair = libp2p_identity::Keypair::ed25519_from_bytes(*key.seed()).unwrap();
        assert_eq!(keypair.public().to_peer_id(), key.peer_id());
    }

    #[test]
    fn peer_ids_of_other_key_types_have_no_node_key() {
        let mut hashed = vec![0x12, 0x20];
        hashed.extend([9; 32]);
        assert_eq!(node_key_of(&PeerId::from_bytes(&hashed).unwrap()), None);
        let mut secp256k1 = vec![0x00, 0x25, 0x08, 0x02, 0x12, 0x21];
        secp256k1.extend([2; 33]);
        assert_eq!(node_key_of(&PeerId::from_bytes(&secp256k1).unwrap()), None);
    }

    #[test]
    fn bytes_off_the_curve_have_no_peer_id() {
        let none = (0..=255)
            .map(|byte| NodePublicKey([byte; 32]))
            .filter(|bytes| peer_id_of(bytes).is_none())
            .count();
        assert!(
            (64..192).contains(&none),
            "about half of all byte strings are no points, here {none} of 256"
        );
    }

    #[test]
    fn derived_keys_differ_by_every_input() {
        let derive = |secret: u8, network, instance, generation| {
            NodeKey::derive(&[secret; 32], network, instance, generation).public()
        };
        let base = derive(1, "dev", "", 0);
        assert_eq!(base, derive(1, "dev", "", 0));
        for other in [
            derive(2, "dev", "", 0),
            derive(1, "main", "", 0),
            derive(1, "dev", "a", 0),
            derive(1, "dev", "", 1),
        ] {
            assert_ne!(base, other);
        }
        assert_ne!(derive(1, "dev", "x", 0), derive(1, "devx", "", 0));
    }

    #[test]
    fn key_derivation_is_hkdf_of_rfc_5869() {
        // Computes both HKDF steps by hand from the definition of HMAC: extract with a salt of 32
        // zero bytes, expand one block.
        let hmac = |key: &[u8; 32], parts: &[&[u8]]| -> [u8; 32] {
            let pad = |byte: u8| {
                let mut pad = [byte; 64];
                pad.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
                pad
            };
            let mut inner = Sha256::new_with_prefix(pad(0x36));
            parts.iter().for_each(|part| inner.update(part));
            Sha256::new_with_prefix(pad(0x5c)).chain_update(inner.finalize()).finalize().into()
        };
        let prk = hmac(&[0; 32], &[&[3; 32]]);
        let info = b"\0\0\0\x14p2p-node/node-key/v1\0\0\0\x03dev\0\0\0\x01i\0\0\0\x08\0\0\0\0\0\0\0\x05";
        let seed = hmac(&prk, &[info, &[1]]);
        assert_eq!(*NodeKey::derive(&[3; 32], "dev", "i", 5).seed(), seed);
    }

    #[test]
    fn signature_is_valid_for_one_key_domain_and_body() {
        let key = NodeKey::from_seed([1; 32]);
        let signature = key.sign("a", b"body");
        assert!(verify(&key.public(), "a", b"body", &signature));
        assert!(!verify(&NodeKey::from_seed([2; 32]).public(), "a", b"body", &signature));
        assert!(!verify(&key.public(), "b", b"body", &signature));
        assert!(!verify(&key.public(), "a", b"bod", &signature));
        assert!(!verify(&key.public(), "a", b"body", &signature[..63]));
        assert!(verify_signed(&key.public(), "a", &key.sign_whole("a", b"body")));
        assert!(!verify_signed(&key.public(), "a", &signature[..63]));
    }

    #[test]
    fn key_of_small_order_verifies_no_signature() {
        // With the neutral point as key and as R, and s = 0, a lax verifier accepts any message as
        // signed.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let lax = VerifyingKey::from_bytes(&neutral).unwrap();
        let message = length_prefixed(&[b"a", b"body"]);
        let parsed = ed25519_dalek::Signature::from_bytes(&signature);
        assert!(ed25519_dalek::Verifier::verify(&lax, &message, &parsed).is_ok());
        assert!(!verify(&NodePublicKey(neutral), "a", b"body", &signature));
    }

    #[test]
    fn agent_keys_are_parsed_and_invalid_ones_rejected() {
        let with = AgentKey::from_hex(&format!("0x{}", "11".repeat(32))).unwrap();
        let without = AgentKey::from_hex(&"11".repeat(32)).unwrap();
        assert_eq!(with.address(), without.address());
        assert_eq!(*with.secret(), [0x11; 32]);
        for bad in ["", "0x", "11", &"11".repeat(33), &"1g".repeat(32)] {
            assert_eq!(AgentKey::from_hex(bad).unwrap_err(), KeyError::NotHex);
        }
        assert_eq!(AgentKey::from_hex(&"00".repeat(32)).unwrap_err(), KeyError::OutOfRange);
        assert_eq!(AgentKey::from_hex(&"ff".repeat(32)).unwrap_err(), KeyError::OutOfRange);
    }

    #[test]
    fn address_of_key_matches_ethereum() {
        // The public key of the key 1 is the generator, whose address is widely known.
        let mut one = [0; 32];
        one[31] = 1;
        let address = AgentKey::from_bytes(&one).unwrap().address();
        assert_eq!(address.to_string(), "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf");
    }

    #[test]
    fn debug_output_of_keys_has_no_secret() {
        let agent = AgentKey::from_bytes(&[0x11; 32]).unwrap();
        assert_eq!(format!("{agent:?}"), format!("AgentKey({})", agent.address()));
        let node = NodeKey::from_seed([0x22; 32]);
        assert_eq!(format!("{node:?}"), format!("NodeKey({})", node.peer_id()));
    }
}
