//! Encryption: only sealed content opens, and no other input panics.

use bytes::Bytes;
use p2p_node_wire::envelope::{Batch, strict_decode};
use p2p_node_wire::identity::NodePublicKey;
use p2p_node_wire::seal::hpke::{Info, open};
use p2p_node_wire::seal::kem::{Secret, kem_id};
use p2p_node_wire::seal::padding::{pad, unpad};
use p2p_node_wire::seal::suite::Suite;
use prost::Message as _;

/// Length of an encapsulated key of X-Wing, in bytes.
const ENC_BYTES: usize = 1120;

/// The key of `fixtures/seal`, to which the first file of the corpus is sealed.
fn secret() -> Secret {
    Secret::from([3; 32])
}

fn info(secret: &Secret) -> Info {
    Info {
        network: "dev".to_owned(),
        sender: NodePublicKey([7; 32]),
        recipient: [9; 20].into(),
        kem_id: kem_id(&secret.public_key()),
        suite: Suite::default(),
    }
}

/// Returns `true` if the input opens.
pub fn opens(bytes: &[u8]) -> bool {
    let (enc, ciphertext) = bytes.split_at(bytes.len().min(ENC_BYTES));
    let secret = secret();
    open(&secret, &info(&secret), enc, ciphertext).is_some()
}

pub fn sealed(bytes: &[u8]) {
    content(bytes);
    let (enc, ciphertext) = bytes.split_at(bytes.len().min(ENC_BYTES));
    let secret = secret();
    let info = info(&secret);
    let Some((opened, session)) = open(&secret, &info, enc, ciphertext) else { return };
    content(&opened);
    assert!(session.open(1, ciphertext).is_none(), "a session has its own key");
    let mut altered = ciphertext.to_vec();
    altered[0] ^= 1;
    assert!(open(&secret, &info, enc, &altered).is_none());
    assert!(open(&Secret::from([4; 32]), &info, enc, ciphertext).is_none());
    assert!(open(&secret, &Info { suite: Suite::Aes256Gcm, ..info.clone() }, enc, ciphertext).is_none());
    assert!(open(&secret, &Info { sender: NodePublicKey([8; 32]), ..info }, enc, ciphertext).is_none());
}

/// Checks a decrypted content.
fn content(bytes: &[u8]) {
    let Some(content) = unpad(bytes.to_vec()) else { return };
    assert_eq!(pad(content.clone()), bytes, "one padding");
    if let Ok(batch) = strict_decode::<Batch>(&Bytes::from(content.clone())) {
        let known = batch.encode_to_vec();
        assert!(known.len() < content.len() || known == content, "one encoding");
    }
}
