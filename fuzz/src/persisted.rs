//! Data that a node reads from a disk, where other programs may have changed it: it decodes to the
//! written value, or to an error.

use p2p_node_store::{codec, mail};
use p2p_node_wire::identity::presigned::{self, Proof, check_presigned, read_binding_file};
use p2p_node_wire::identity::typed_data::{self, read_typed_data};

use super::material::{NETWORK, START_MS};

/// A row of a highest (generation, seq) in the store: the key, then the value.
pub fn highest_seen_row(bytes: &[u8]) {
    let (key, value) = bytes.split_at(bytes.len().min(codec::KEY_BYTES));
    if let Ok(read) = codec::decode(key, value) {
        assert_eq!(codec::encode(&read).as_slice(), value, "one encoding");
        assert_eq!(read.address.as_slice(), key);
    }
}

/// A row of an accepted message in the store: the key, then the value.
pub fn message_row(bytes: &[u8]) {
    let (key, value) = bytes.split_at(bytes.len().min(mail::KEY_BYTES));
    if let Ok(read) = mail::decode(key, value) {
        assert_eq!(mail::encode(&read), value, "one encoding");
        assert_eq!(mail::key(&read.stream, read.seq), key);
    }
}

/// A row of a checkpoint in the store: the key, then the value.
pub fn checkpoint_row(bytes: &[u8]) {
    let Some((key, value)) = bytes.split_first_chunk() else { return };
    if let Ok(read) = codec::decode_checkpoint(key, value) {
        assert_eq!(codec::encode_checkpoint(&read), value, "one encoding");
        assert_eq!(codec::checkpoint_key(&read.sender, &read.stream), *key);
    }
}

/// A file with a presigned binding.
pub fn binding_file(bytes: &[u8]) {
    let Ok(read) = read_binding_file(bytes) else { return };
    let again = read_binding_file(presigned::binding_file(&read).as_bytes())
        .expect("a decoded binding encodes again");
    assert_eq!(again, read);
    let life = [read.binding.not_before, read.binding.not_after].map(|secs| secs.saturating_mul(1000));
    for now_ms in [0, START_MS, u64::MAX].into_iter().chain(life) {
        match check_presigned(&read, NETWORK, now_ms) {
            Ok(Proof::OnChain) => assert!(read.may_be_of_contract()),
            Ok(Proof::Key) => assert!(read.verify_signature() && read.left_ms(now_ms) > 0),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// Typed data that was printed for a wallet.
pub fn typed_data(bytes: &[u8]) {
    let Ok(read) = read_typed_data(bytes) else { return };
    let again = read_typed_data(typed_data::typed_data(&read).to_string().as_bytes())
        .expect("decoded typed data prints again");
    assert_eq!((again.signing_hash(), &again), (read.signing_hash(), &read));
}
