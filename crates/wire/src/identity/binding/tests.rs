use alloy_primitives::keccak256;

use super::*;
use crate::identity::NodeKey;
use crate::identity::testing::{NOW_SECS as NOW, agent, binding};

fn signed() -> SignedBinding {
    agent().bind(binding()).unwrap()
}

/// Signs any binding with the right key, also one that `bind` would refuse.
fn signed_anyway(binding: Binding) -> SignedBinding {
    let signature = agent().sign_hash(&binding.signing_hash());
    SignedBinding { binding, signature: Bytes::copy_from_slice(&signature.as_bytes()) }
}

fn check_at(signed: &SignedBinding, secs: u64) -> Result<(), BindingError> {
    signed.check("dev", secs * 1000)
}

#[test]
fn valid_binding_passes_check_and_round_trips() {
    let signed = signed();
    assert_eq!(check_at(&signed, NOW), Ok(()));
    assert!(signed.verify_signature());
    let decoded = SignedBinding::decode(&signed.encode()).unwrap();
    assert_eq!(decoded, signed);
    assert_eq!(decoded.hash(), signed.hash());
}

#[test]
fn typed_data_hash_matches_published_type() {
    // Computes the hash by hand, from EIP-712 and from the struct in `docs/wire-protocol.md`.
    let word = |number: u64| U256::from(number).to_be_bytes::<32>();
    let binding = Binding { chain_id: 5, generation: 6, ..binding() };
    let mut account = [0; 32];
    account[12..].copy_from_slice(binding.account.as_slice());
    let type_hash = keccak256(
        "PeerBinding(string statement,address account,uint256 chainId,string peerId,bytes32 nodeKey,\
         string network,uint64 generation,uint64 notBefore,uint64 notAfter)",
    );
    let fields = [
        type_hash.0,
        keccak256(STATEMENT).0,
        account,
        word(5),
        keccak256(binding.peer_id.to_string()).0,
        binding.node_key.0,
        keccak256("dev").0,
        word(6),
        word(binding.not_before),
        word(binding.not_after),
    ];
    let domain =
        [keccak256("EIP712Domain(string name,string version)").0, keccak256("p2p-node").0, keccak256("1").0];
    let (domain, fields) = (keccak256(domain.concat()), keccak256(fields.concat()));
    let whole = [&b"\x19\x01"[..], domain.as_slice(), fields.as_slice()];
    assert_eq!(binding.signing_hash(), keccak256(whole.concat()));
}

#[test]
fn lifetime_ends_exactly_at_allowed_clock_skew() {
    let signed = signed();
    assert_eq!(check_at(&signed, NOW - 30), Ok(()));
    assert_eq!(check_at(&signed, NOW - 31), Err(BindingError::NotYetValid));
    let end = NOW + BINDING_LIFE_SECS;
    assert_eq!(check_at(&signed, end + 30), Ok(()));
    assert_eq!(check_at(&signed, end + 31), Err(BindingError::Expired));
    assert_eq!(signed.check("dev", 0), Err(BindingError::NotYetValid));
    assert_eq!(signed.check("dev", u64::MAX), Err(BindingError::Expired));
}

#[test]
fn lifetime_above_90_days_or_negative_is_rejected() {
    let with = |not_before, not_after| signed_anyway(Binding { not_before, not_after, ..binding() });
    assert_eq!(check_at(&with(NOW, NOW + BINDING_MAX_LIFE_SECS), NOW), Ok(()));
    assert_eq!(check_at(&with(NOW, NOW + BINDING_MAX_LIFE_SECS + 1), NOW), Err(BindingError::Lifetime));
    assert_eq!(check_at(&with(NOW, NOW - 1), NOW), Err(BindingError::Lifetime));
    assert_eq!(check_at(&with(0, u64::MAX), NOW), Err(BindingError::Lifetime));
    let forever = Binding { not_before: 0, not_after: u64::MAX, ..binding() };
    assert_eq!(agent().bind(forever), Err(BindingError::Lifetime));
}

#[test]
fn generation_above_30_seconds_ahead_is_rejected() {
    let with = |generation| signed_anyway(Binding { generation, ..binding() });
    assert_eq!(check_at(&with(NOW + 30), NOW), Ok(()));
    assert_eq!(check_at(&with(NOW + 31), NOW), Err(BindingError::FutureGeneration));
    assert_eq!(check_at(&with(u64::MAX), NOW), Err(BindingError::FutureGeneration));
}

#[test]
fn binding_is_valid_for_one_network_account_and_node_key() {
    assert_eq!(signed().check("main", NOW * 1000), Err(BindingError::WrongNetwork));
    let other = NodeKey::from_seed([0x33; 32]);
    let crossed = Binding { node_key: other.public(), ..binding() };
    assert_eq!(check_at(&signed_anyway(crossed.clone()), NOW), Err(BindingError::WrongKey));
    assert_eq!(agent().bind(crossed), Err(BindingError::WrongKey));
    let foreign = Binding { account: Address::ZERO, ..binding() };
    assert_eq!(agent().bind(foreign.clone()), Err(BindingError::WrongAccount));
    assert!(!signed_anyway(foreign).verify_signature());
    let nameless = Binding { network: "Dev".to_owned(), ..binding() };
    assert_eq!(agent().bind(nameless), Err(BindingError::NetworkName));
}

#[test]
fn signature_with_high_s_is_rejected() {
    let mut turned = signed();
    let mut bytes = turned.signature.to_vec();
    let order = U256::from_be_bytes(HALF_ORDER) * U256::from(2) + U256::from(1);
    let s = U256::from_be_slice(&bytes[32..64]);
    bytes[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
    bytes[64] = 27 + 28 - bytes[64];
    turned.signature = bytes.into();
    // A verifier that does not check s accepts this signature: the library recovers the same
    // account from it.
    let lax = Signature::from_raw(&turned.signature).unwrap();
    assert_eq!(
        lax.recover_address_from_prehash(&turned.binding.signing_hash()).unwrap(),
        turned.binding.account
    );
    assert_eq!(check_at(&turned, NOW), Err(BindingError::HighS));
    assert!(!turned.verify_signature());
}

#[test]
fn signature_with_bad_recovery_id_or_length_is_rejected() {
    let mut signed = signed();
    let good = signed.signature.to_vec();
    for v in 0..=255 {
        let mut bytes = good.clone();
        bytes[64] = v;
        signed.signature = bytes.into();
        let expected = if [0, 1, 27, 28].contains(&v) { Ok(()) } else { Err(BindingError::RecoveryId) };
        assert_eq!(check_at(&signed, NOW), expected);
        assert_eq!(signed.verify_signature(), v == good[64] || v == good[64] - 27);
    }
    for length in [1, 64, 66, MAX_BINDING_SIGNATURE_BYTES] {
        signed.signature = vec![1; length].into();
        let decoded = SignedBinding::decode(&signed.encode()).unwrap();
        assert_eq!(check_at(&decoded, NOW), Err(BindingError::ContractSignature));
        assert!(!decoded.verify_signature());
    }
    let mut of_contract = signed.clone();
    of_contract.binding.chain_id = 1;
    for length in [1, 64, 65, MAX_BINDING_SIGNATURE_BYTES] {
        of_contract.signature = vec![1; length].into();
        assert_eq!(check_at(&of_contract, NOW), Ok(()), "the chain decides");
        assert!(of_contract.may_be_of_contract() && !of_contract.verify_signature());
    }
    for length in [0, MAX_BINDING_SIGNATURE_BYTES + 1] {
        signed.signature = vec![1; length].into();
        let refused = SignedBinding::decode(&signed.encode());
        assert_eq!(refused, Err(BindingError::Decode(DecodeError::Field("signature"))));
    }
}

#[test]
fn longest_binding_fits_size_limit() {
    let longest = SignedBinding {
        binding: Binding {
            chain_id: u64::MAX,
            network: "n".repeat(MAX_NETWORK_BYTES),
            generation: u64::MAX,
            not_before: u64::MAX,
            not_after: u64::MAX,
            ..binding()
        },
        signature: vec![1; MAX_BINDING_SIGNATURE_BYTES].into(),
    };
    assert_eq!(SignedBinding::decode(&longest.encode()).as_ref(), Ok(&longest));
}

#[test]
fn network_names_are_short_and_lower_case() {
    let longest = "n".repeat(MAX_NETWORK_BYTES);
    for good in ["dev", "main", "team-7", &longest] {
        assert!(is_network_name(good), "{good}");
    }
    for bad in ["", "Dev", "a b", "a/b", "ä", &format!("{longest}n")] {
        assert!(!is_network_name(bad), "{bad}");
    }
}

#[test]
fn binding_limits_match_wire_protocol() {
    assert_eq!((BINDING_LIFE_SECS, BINDING_MAX_LIFE_SECS), (604_800, 7_776_000));
    assert_eq!(MAX_BINDING_BYTES, 1_696);
}

#[test]
fn only_faults_that_depend_on_the_clock_are_not_provable() {
    use BindingError::*;
    for fault in [NotYetValid, Expired, FutureGeneration] {
        assert!(!fault.is_provable(), "{fault}");
    }
    for fault in [
        Decode(DecodeError::Malformed),
        NetworkName,
        WrongNetwork,
        WrongKey,
        Lifetime,
        ContractSignature,
        RecoveryId,
        HighS,
    ] {
        assert!(fault.is_provable(), "{fault}");
    }
}

#[test]
fn binding_hash_covers_signature() {
    let one = agent().bind(binding()).unwrap();
    let mut other = one.clone();
    other.signature = Bytes::from(vec![1; ECDSA_SIGNATURE_BYTES]);
    assert_eq!(one.hash(), one.clone().hash());
    assert_ne!(one.hash(), other.hash());
}
