//! One frame sealed to a KEM key, and the session that comes of it.

use alloy_primitives::Address;
use bytes::Bytes;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::rand_core::CryptoRng;
use hpke::{Deserializable, OpModeR, OpModeS, Serializable, setup_receiver, setup_sender_with_rng};

use super::kem::{KemId, Secret};
use super::session::{KEY_BYTES, SESSION_ID_BYTES, SessionKey};
use crate::identity::keys::length_prefixed;

/// The KEM of the suite.
pub(super) type Algorithm = XWing;

const SEAL_DOMAIN: &[u8] = b"p2p-node/seal/v1";
/// Context of the export from which a session comes.
const SESSION_CONTEXT: &[u8] = b"p2p-node/session/v1";

/// What a sealed frame is bound to: nobody else can pass it off as theirs, or to somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The network.
    pub network: String,
    /// The node key that signs the frame.
    pub sender: [u8; 32],
    /// The account that is to read it.
    pub recipient: Address,
    /// The key that it is sealed to.
    pub kem_id: KemId,
}

impl Info {
    /// As HPKE's `info`: the length-prefixed list of domain, network, sender, recipient and key.
    pub fn encode(&self) -> Vec<u8> {
        let Info { network, sender, recipient, kem_id } = self;
        length_prefixed(&[SEAL_DOMAIN, network.as_bytes(), sender, recipient.as_slice(), kem_id])
    }
}

/// What is sent of a sealing, and the session that both ends have from it.
#[derive(Clone, Debug)]
pub struct SealedFrame {
    /// The encapsulated key.
    pub enc: Bytes,
    /// The encrypted content.
    pub ciphertext: Bytes,
    /// What comes next on the same connection.
    pub session: SessionKey,
}

/// Seals content to a public key; `None` when that is none.
pub fn seal(public_key: &[u8], info: &Info, content: &[u8], rng: &mut impl CryptoRng) -> Option<SealedFrame> {
    let public_key = Deserializable::from_bytes(public_key).ok()?;
    let (enc, mut context) = setup_sender_with_rng::<ChaCha20Poly1305, HkdfSha256, Algorithm>(
        &OpModeS::Base,
        &public_key,
        &info.encode(),
        rng,
    )
    .ok()?;
    let ciphertext = context.seal(content, &[]).ok()?;
    let session = session(|exported| context.export(SESSION_CONTEXT, exported))?;
    Some(SealedFrame { enc: Bytes::copy_from_slice(&enc.to_bytes()), ciphertext: ciphertext.into(), session })
}

/// Opens what [`seal`] sealed; `None` when anything about it is not as it was.
pub fn open(secret: &Secret, info: &Info, enc: &[u8], ciphertext: &[u8]) -> Option<(Vec<u8>, SessionKey)> {
    let enc = Deserializable::from_bytes(enc).ok()?;
    let mut context = setup_receiver::<ChaCha20Poly1305, HkdfSha256, Algorithm>(
        &OpModeR::Base,
        &secret.key(),
        &enc,
        &info.encode(),
    )
    .ok()?;
    let content = context.open(ciphertext, &[]).ok()?;
    let session = session(|exported| context.export(SESSION_CONTEXT, exported))?;
    Some((content, session))
}

fn session(export: impl FnOnce(&mut [u8]) -> Result<(), hpke::HpkeError>) -> Option<SessionKey> {
    let mut exported = zeroize::Zeroizing::new([0; SESSION_ID_BYTES + KEY_BYTES]);
    export(exported.as_mut()).ok()?;
    SessionKey::from_bytes(exported.as_slice())
}

#[cfg(test)]
mod tests;
