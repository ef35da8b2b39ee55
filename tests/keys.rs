//! Valid and invalid signatures from the tables `fixtures/keys/*_cases.txt`.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use p2p_node_wire::identity::{BindingError, NodePublicKey, SignedBinding, verify, verify_signed};

/// Time at which the binding of the fixtures is valid: 2026-01-01, in ms since 1970.
const NOW_MS: u64 = 1_767_225_600_000;

fn fixture(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).unwrap()
}

/// Reads the rows of a table and checks that their names are unique.
fn rows<const COLUMNS: usize>(table: &str) -> Vec<[String; COLUMNS]> {
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rows: Vec<[String; COLUMNS]> = lines
        .map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>().try_into().expect(line))
        .collect();
    let names: BTreeSet<_> = rows.iter().map(|row| row[0].clone()).collect();
    assert_eq!(names.len(), rows.len());
    rows
}

fn unhex(text: &str) -> Vec<u8> {
    if text == "-" { Vec::new() } else { hex::decode(text).unwrap() }
}

#[test]
fn ed25519_cases_have_their_outcomes() {
    let rows = rows(&fixture("keys/ed25519_cases.txt"));
    assert!(rows.len() > 120, "only {} cases", rows.len());
    for [name, outcome, domain, key, body, signature] in rows {
        let key = NodePublicKey::try_from(&*unhex(&key)).unwrap();
        let (body, signature) = (unhex(&body), unhex(&signature));
        let valid = outcome == "valid";
        assert!(valid || outcome == "invalid", "{name}");
        assert_eq!(verify(&key, &domain, &body, &signature), valid, "{name}");
        if signature.len() == 64 {
            assert_eq!(verify_signed(&key, &domain, &[signature, body].concat()), valid, "{name} as a whole");
        }
    }
}

#[test]
fn ed25519_key_or_signature_with_a_flipped_bit_is_refused() {
    for [name, _, domain, key, body, signature] in
        rows(&fixture("keys/ed25519_cases.txt")).into_iter().filter(|row| row[1] == "valid")
    {
        let (key, body, signature): ([u8; 32], _, _) =
            (unhex(&key).try_into().unwrap(), unhex(&body), unhex(&signature));
        for bit in 0..256 {
            let mut other = key;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !verify(&NodePublicKey(other), &domain, &body, &signature),
                "{name}, bit {bit} of the key"
            );
        }
        for bit in 0..512 {
            let mut other = signature.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !verify(&NodePublicKey(key), &domain, &body, &other),
                "{name}, bit {bit} of the signature"
            );
        }
    }
}

/// Returns the binding of the fixtures with the given signature, in the wire format.
fn binding(signature: Vec<u8>) -> Result<SignedBinding, BindingError> {
    let bytes: Vec<u8> = fixture("envelopes/binding.hex").lines().flat_map(unhex).collect();
    let mut signed = SignedBinding::decode(&bytes).unwrap();
    signed.signature = Bytes::from(signature);
    SignedBinding::decode(&signed.encode())
}

fn outcome(signature: Vec<u8>) -> &'static str {
    let Ok(signed) = binding(signature) else { return "malformed" };
    let checked = match signed.check("dev", NOW_MS) {
        Ok(()) if signed.verify_signature() => return "accepted",
        Ok(()) => "signature",
        Err(BindingError::HighS) => "high_s",
        Err(BindingError::RecoveryId) => "recovery_id",
        Err(BindingError::ContractSignature) => "length",
        Err(other) => panic!("the binding itself is invalid: {other}"),
    };
    assert!(!signed.verify_signature(), "a signature that fails its checks verifies");
    checked
}

#[test]
fn secp256k1_cases_have_their_outcomes() {
    let rows = rows(&fixture("keys/secp256k1_cases.txt"));
    assert!(rows.len() > 80, "only {} cases", rows.len());
    for [name, expected, signature] in rows {
        assert_eq!(outcome(unhex(&signature)), expected, "{name}");
    }
}

#[test]
fn ecdsa_signature_with_a_flipped_bit_is_refused() {
    let [name, _, signature] = rows(&fixture("keys/secp256k1_cases.txt")).swap_remove(0);
    let signature = unhex(&signature);
    for bit in 0..signature.len() * 8 {
        let mut other = signature.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        // 27 and 28 also mean 0 and 1, but no single bit turns one into the other.
        assert_ne!(outcome(other), "accepted", "{name}, bit {bit}");
    }
}
