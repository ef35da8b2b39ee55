//! Messages encrypted by one HPKE implementation and decrypted by another, in both directions.

use std::process::Command;

use p2p_node_wire::seal::hpke::{Info, open};
use p2p_node_wire::seal::kem::{Secret, kem_id};
use p2p_node_wire::seal::padding::unpad;
use p2p_node_wire::seal::suite::Suite;
use serde_json::Value;

use crate::js::{directory, installed};
use crate::npm::run;

/// The vectors that the tests of the wire crate check, one for each suite.
const VECTORS: &str = include_str!("../../fixtures/seal/vectors.json");

#[test]
fn other_hpke_implementation_opens_and_seals_mail() {
    if !installed() {
        return;
    }
    let output = run(Command::new("node").arg("seal.mjs").current_dir(directory())).unwrap();
    let outputs: Vec<Value> = serde_json::from_str(&output).unwrap();
    let vectors: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
    assert_eq!((outputs.len(), vectors.len()), (Suite::ALL.len(), Suite::ALL.len()));
    for ((output, vector), suite) in outputs.iter().zip(&vectors).zip(Suite::ALL) {
        assert_eq!(vector["suite"], suite.number());
        opens(output, vector, suite);
    }
}

/// Opens what the other implementation sealed.
fn opens(output: &Value, vector: &Value, suite: Suite) {
    let bytes = |from: &Value, name: &str| hex::decode(from[name].as_str().unwrap()).unwrap();
    let secret: [u8; 32] = bytes(vector, "secret").try_into().unwrap();
    let secret = Secret::from(secret);
    let info = Info {
        network: vector["network"].as_str().unwrap().to_owned(),
        sender: bytes(vector, "sender").as_slice().try_into().unwrap(),
        recipient: bytes(vector, "recipient").as_slice().try_into().unwrap(),
        kem_id: kem_id(&secret.public_key()),
        suite,
    };
    let (content, session) =
        open(&secret, &info, &bytes(output, "enc"), &bytes(output, "ciphertext")).unwrap();
    assert_eq!(unpad(content).unwrap(), b"from elsewhere");
    assert_eq!(session.id().to_vec(), bytes(output, "id"));
    assert_eq!(unpad(session.open(7, &bytes(output, "following")).unwrap()).unwrap(), b"and more");
}
