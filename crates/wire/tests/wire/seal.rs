//! Golden bytes of sealed messages.

use alloy_primitives::Address;
use p2p_node_wire::identity::NodePublicKey;
use p2p_node_wire::seal::hpke::{Info, seal};
use p2p_node_wire::seal::kem::{Secret, kem_id};
use p2p_node_wire::seal::padding;
use p2p_node_wire::seal::repeatable::DeterministicRng;
use p2p_node_wire::seal::session::OutboundSession;
use p2p_node_wire::seal::suite::Suite;
use p2p_node_wire::time::Instant;

/// Another implementation opens these vectors in `tests/interop`. `UPDATE_FIXTURES=1` writes them.
#[test]
fn sealed_bytes_of_fixed_key_and_randomness_match_the_fixture() {
    let vectors: Vec<_> = Suite::ALL.into_iter().map(vector).collect();
    let actual = serde_json::to_string_pretty(&vectors).unwrap() + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/seal/vectors.json");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(path, &actual).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), actual);
}

fn vector(suite: Suite) -> serde_json::Value {
    let secret_bytes = [3; 32];
    let secret = Secret::from(secret_bytes);
    let info = Info {
        network: "dev".to_owned(),
        sender: NodePublicKey([7; 32]),
        recipient: Address::repeat_byte(9),
        kem_id: kem_id(&secret.public_key()),
        suite,
    };
    let content = padding::pad(b"hello".to_vec());
    let sealed = seal(&secret.public_key(), &info, &content, &mut DeterministicRng::new(0)).unwrap();
    let mut session = OutboundSession::new(sealed.session.clone(), info.sender, info.kem_id, Instant::ZERO);
    let next = session.seal(padding::pad(vec![7; 300])).unwrap();
    serde_json::json!({
        "comment": "The keys are for tests, and known to everybody.",
        "suite": suite.number(),
        "network": info.network,
        "sender": hex::encode(info.sender),
        "recipient": hex::encode(info.recipient),
        "secret": hex::encode(secret_bytes),
        "public_key": hex::encode(secret.public_key()),
        "kem_id": hex::encode(info.kem_id),
        "content": hex::encode("hello"),
        "enc": hex::encode(&sealed.enc),
        "ciphertext": hex::encode(&sealed.ciphertext),
        "session_id": hex::encode(sealed.session.id()),
        "counter": next.counter,
        "next_content": hex::encode([7; 300]),
        "next_ciphertext": hex::encode(&next.ciphertext),
    })
}

#[test]
fn public_keys_of_secrets_match_the_standard_vectors() {
    let known: serde_json::Value =
        serde_json::from_str(include_str!("../../../../fixtures/seal/xwing.json")).unwrap();
    let vectors = known["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 3);
    for vector in vectors {
        let secret: [u8; 32] = hex::decode(vector["secret"].as_str().unwrap()).unwrap().try_into().unwrap();
        assert_eq!(hex::encode(Secret::from(secret).public_key()), vector["public_key"].as_str().unwrap());
    }
}
