use proptest::prelude::*;

use super::*;
use crate::identity::AgentKey;
use crate::identity::binding::BINDING_LIFE_SECS;
use crate::identity::testing::{NOW_SECS, agent, binding};

fn signed() -> SignedBinding {
    agent().bind(binding()).unwrap()
}

fn check(signed: &SignedBinding, secs: u64) -> Result<Proof, PresignedError> {
    check_presigned(signed, "dev", secs * 1000)
}

#[test]
fn binding_file_round_trips() {
    let text = binding_file(&signed());
    assert_eq!(read_binding_file(text.as_bytes()).unwrap(), signed());
    assert!(text.len() < 2048 && text.ends_with("}\n"), "{text}");
    assert_eq!(check(&signed(), NOW_SECS), Ok(Proof::Key));
}

#[test]
fn malformed_binding_file_is_rejected_with_reason() {
    let text = binding_file(&signed());
    for (from, to, told) in [
        ("\"version\": 1", "\"version\": 2", "its version is 2"),
        ("\"version\": 1", "\"version\": 1, \"more\": 1", "unknown field `more`"),
        ("\"chainId\": \"0\"", "\"chainId\": 0", "invalid type"),
        ("\"chainId\": \"0\"", "\"chainId\": \"zero\"", "its field `chainId` is invalid"),
        ("\"nodeKey\": \"0x", "\"nodeKey\": \"", "its field `nodeKey`"),
        ("\"signature\": \"0x", "\"signature\": \"0xz", "its field `signature`"),
        ("}\n", "", "EOF"),
    ] {
        assert!(text.contains(from), "{from}");
        let error = read_binding_file(text.replacen(from, to, 1).as_bytes());
        let error = error.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(told), "{told}: {error}");
    }
    assert!(read_binding_file(&[b' '; MAX_BINDING_FILE_BYTES + 1]).is_err());
}

#[test]
fn wrong_signer_is_reported_by_address() {
    let other = AgentKey::from_bytes(&[0x33; 32]).unwrap();
    let mut wrong = signed();
    let signature = other.sign_hash(&wrong.binding.signing_hash());
    wrong.signature = Bytes::copy_from_slice(&signature.as_bytes());
    let error = check(&wrong, NOW_SECS).unwrap_err().to_string();
    let told = format!("the signature was made by {}, not by {}", other.address(), agent().address());
    assert!(error.starts_with(&told), "{error}");
    // r is not the x coordinate of a point on the curve.
    wrong.signature = [&[0; 64][..], &[27]].concat().into();
    assert_eq!(check(&wrong, NOW_SECS), Err(PresignedError::NobodysSignature));
    wrong.signature = [&[0xFF; 64][..], &[27]].concat().into();
    assert_eq!(check(&wrong, NOW_SECS), Err(BindingError::HighS.into()));
    wrong.signature = vec![1; 100].into();
    assert_eq!(check(&wrong, NOW_SECS), Err(BindingError::ContractSignature.into()));
    wrong.binding.chain_id = 1;
    assert_eq!(check(&wrong, NOW_SECS), Ok(Proof::OnChain));
}

#[test]
fn presigned_binding_is_checked_for_time_and_network() {
    let end = NOW_SECS + BINDING_LIFE_SECS;
    assert_eq!(check(&signed(), NOW_SECS - 60), Err(PresignedError::NotYetValid(60)));
    assert_eq!(check(&signed(), end - 1), Ok(Proof::Key));
    assert_eq!(check(&signed(), end), Err(PresignedError::Expired(0)));
    assert_eq!(check(&signed(), end + 5), Err(PresignedError::Expired(5)));
    let error = check(&signed(), end + 3 * 86_400).unwrap_err().to_string();
    assert!(error.starts_with("the binding expired 3 days ago"), "{error}");
    let error = check_presigned(&signed(), "village", NOW_SECS * 1000).unwrap_err().to_string();
    assert_eq!(error, "the binding is for the network dev, but the node is for village");
    let mut bent = signed();
    bent.binding.node_key = NodePublicKey([9; 32]);
    assert_eq!(check(&bent, NOW_SECS), Err(BindingError::WrongKey.into()));
}

#[test]
fn signature_formats_of_wallets_are_accepted() {
    let digits = "ab".repeat(65);
    for text in [digits.clone(), format!("0x{digits}"), format!("  0x{}\n", digits.to_uppercase())] {
        assert_eq!(read_signature(&text).unwrap(), vec![0xAB; 65]);
    }
    for text in ["", "0x", "0xa", "nonsense", &"ab".repeat(1_537)] {
        assert!(read_signature(text).is_err(), "{text}");
    }
}

#[test]
fn durations_use_the_largest_fitting_unit() {
    for (secs, text) in [
        (1, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (7_200, "2 hours"),
        (172_799, "47 hours"),
        (172_800, "2 days"),
    ] {
        assert_eq!(span(secs), text);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_binding_file(&bytes);
    }

    /// A file with one changed byte fails to parse, fails the check, or is the same binding.
    #[test]
    fn altered_binding_file_is_rejected(at in 0..600_usize, byte in any::<u8>()) {
        let mut bytes = binding_file(&signed()).into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(read) = read_binding_file(&bytes) {
            prop_assert!(read == signed() || check(&read, NOW_SECS).is_err());
        }
    }
}
