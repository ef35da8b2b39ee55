//! What a node reads back from a disk, where anybody may have been: it is what was written there, or an error.

use p2p_node::io::store::{codec, mail};
use p2p_node_wire::identity::presigned::{binding_file, check_presigned, read_binding_file};
use p2p_node_wire::identity::typed_data::{read_typed_data, typed_data};

use super::material::{NETWORK, START_MS};

/// A row of the store: the key, then the value.
pub fn floor_row(bytes: &[u8]) {
    let (key, value) = bytes.split_at(bytes.len().min(codec::KEY_BYTES));
    if let Ok(read) = codec::decode(key, value) {
        assert_eq!(codec::encode(&read).as_slice(), value, "one encoding");
        assert_eq!(read.address.as_slice(), key);
    }
}

/// Accepted mail in the store: the key, then the value.
pub fn mail_row(bytes: &[u8]) {
    let (key, value) = bytes.split_at(bytes.len().min(mail::KEY_BYTES));
    if let Ok(read) = mail::decode(key, value) {
        assert_eq!(mail::encode(&read), value, "one encoding");
        assert_eq!(mail::key(&read.stream, read.seq), key);
    }
}

/// How far mail was taken, in the store: the key, then the value.
pub fn taken_row(bytes: &[u8]) {
    let Some((key, value)) = bytes.split_first_chunk() else { return };
    if let Ok(read) = codec::decode_checkpoint(key, value) {
        assert_eq!(codec::encode_checkpoint(&read), value, "one encoding");
        assert_eq!(codec::checkpoint_key(&read.sender, &read.stream), *key);
    }
}

/// A binding that was signed elsewhere.
pub fn written_binding(bytes: &[u8]) {
    let Ok(read) = read_binding_file(bytes) else { return };
    let again = read_binding_file(binding_file(&read).as_bytes()).expect("what was read can be written");
    assert_eq!(again, read);
    let life = [read.binding.not_before, read.binding.not_after].map(|secs| secs.saturating_mul(1000));
    for now_ms in [0, START_MS, u64::MAX].into_iter().chain(life) {
        match check_presigned(&read, NETWORK, now_ms) {
            Ok(()) => assert!(read.verify_signature() && read.left_ms(now_ms) > 0),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// What was printed for a wallet, and comes back with its signature.
pub fn printed_statement(bytes: &[u8]) {
    let Ok(read) = read_typed_data(bytes) else { return };
    let again =
        read_typed_data(typed_data(&read).to_string().as_bytes()).expect("what was read can be printed");
    assert_eq!((again.signing_hash(), &again), (read.signing_hash(), &read));
}
