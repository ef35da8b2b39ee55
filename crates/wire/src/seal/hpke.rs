//! HPKE: encrypts one frame to a KEM key, and derives the session for the frames that follow.

use alloy_primitives::Address;
use bytes::Bytes;
use hpke::aead::{Aead, AesGcm256, ChaCha20Poly1305};
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::rand_core::CryptoRng;
use hpke::{Deserializable, OpModeR, OpModeS, Serializable, setup_receiver, setup_sender_with_rng};

use super::kem::{KemId, Secret};
use super::session::{KEY_BYTES, SESSION_ID_BYTES, SessionKey};
use super::suite::Suite;
use crate::identity::NodePublicKey;
use crate::identity::keys::length_prefixed;

/// The KEM of the suite.
pub(super) type Algorithm = XWing;

const SEAL_DOMAIN: &[u8] = b"p2p-node/seal/v1";
/// Context of the HPKE export from which a session is derived.
const SESSION_CONTEXT: &[u8] = b"p2p-node/session/v1";

/// The context to which the encryption is bound. A third party can neither sign the sealed frame as
/// its own nor forward it to another recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The network.
    pub network: String,
    /// The node key that signs the frame.
    pub sender: NodePublicKey,
    /// The account that may decrypt the frame.
    pub recipient: Address,
    /// The recipient's KEM key.
    pub kem_id: KemId,
    /// The suite. HPKE binds every key to it, so it is no part of the encoded context.
    pub suite: Suite,
}

impl Info {
    /// Encodes the context as HPKE's `info`: the length-prefixed list of domain, network, sender,
    /// recipient and key id.
    pub fn encode(&self) -> Vec<u8> {
        let Info { network, sender, recipient, kem_id, suite: _ } = self;
        length_prefixed(&[SEAL_DOMAIN, network.as_bytes(), sender, recipient.as_slice(), kem_id])
    }
}

/// An encrypted frame, and the session that both sides derive from it.
#[derive(Clone, Debug)]
pub struct SealedFrame {
    /// The encapsulated key.
    pub enc: Bytes,
    /// The encrypted content.
    pub ciphertext: Bytes,
    /// The session for later frames on the same connection.
    pub session: SessionKey,
}

/// Encrypts content to a public key. Returns `None` when the public key is invalid.
pub fn seal(public_key: &[u8], info: &Info, content: &[u8], rng: &mut impl CryptoRng) -> Option<SealedFrame> {
    match info.suite {
        Suite::ChaCha20Poly1305 => seal_with::<ChaCha20Poly1305>(public_key, info, content, rng),
        Suite::Aes256Gcm => seal_with::<AesGcm256>(public_key, info, content, rng),
    }
}

fn seal_with<Cipher: Aead>(
    public_key: &[u8],
    info: &Info,
    content: &[u8],
    rng: &mut impl CryptoRng,
) -> Option<SealedFrame> {
    let public_key = Deserializable::from_bytes(public_key).ok()?;
    let (enc, mut context) = setup_sender_with_rng::<Cipher, HkdfSha256, Algorithm>(
        &OpModeS::Base,
        &public_key,
        &info.encode(),
        rng,
    )
    .ok()?;
    let ciphertext = context.seal(content, &[]).ok()?;
    let session = session(info.suite, |exported| context.export(SESSION_CONTEXT, exported))?;
    Some(SealedFrame { enc: Bytes::copy_from_slice(&enc.to_bytes()), ciphertext: ciphertext.into(), session })
}

/// Decrypts the output of [`seal`]. Returns `None` when any part of it was changed.
pub fn open(secret: &Secret, info: &Info, enc: &[u8], ciphertext: &[u8]) -> Option<(Vec<u8>, SessionKey)> {
    match info.suite {
        Suite::ChaCha20Poly1305 => open_with::<ChaCha20Poly1305>(secret, info, enc, ciphertext),
        Suite::Aes256Gcm => open_with::<AesGcm256>(secret, info, enc, ciphertext),
    }
}

fn open_with<Cipher: Aead>(
    secret: &Secret,
    info: &Info,
    enc: &[u8],
    ciphertext: &[u8],
) -> Option<(Vec<u8>, SessionKey)> {
    let enc = Deserializable::from_bytes(enc).ok()?;
    let mut context =
        setup_receiver::<Cipher, HkdfSha256, Algorithm>(&OpModeR::Base, &secret.key(), &enc, &info.encode())
            .ok()?;
    let content = context.open(ciphertext, &[]).ok()?;
    let session = session(info.suite, |exported| context.export(SESSION_CONTEXT, exported))?;
    Some((content, session))
}

fn session(
    suite: Suite,
    export: impl FnOnce(&mut [u8]) -> Result<(), hpke::HpkeError>,
) -> Option<SessionKey> {
    let mut exported = zeroize::Zeroizing::new([0; SESSION_ID_BYTES + KEY_BYTES]);
    export(exported.as_mut()).ok()?;
    SessionKey::from_bytes(suite, exported.as_slice())
}

#[cfg(test)]
mod tests;
