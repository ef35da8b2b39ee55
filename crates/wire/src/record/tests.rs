use alloy_primitives::U256;

use super::*;
use crate::identity::Binding;
use crate::identity::testing::{NOW_SECS, agent, binding, node};

const NOW: u64 = NOW_SECS * 1000;

fn record() -> Record {
    Record {
        network: "dev".to_owned(),
        binding: agent().bind(binding()).unwrap(),
        seq: NOW,
        issued_at_ms: NOW,
        expires_at_ms: NOW + 60_000,
        addrs: vec!["/ip4/127.0.0.1/tcp/4001".parse().unwrap()],
        kem: None,
        role: Role::Full,
        name: String::new(),
        capabilities: vec!["review".to_owned()],
        topics: vec!["builds".to_owned()],
        topic_hashes: Vec::new(),
        claim: None,
    }
}

fn signed(record: &Record) -> SignedRecord {
    SignedRecord::decode(record.sign(&node()).unwrap()).unwrap()
}

fn check_at(record: &Record, now: u64) -> Result<(), RecordError> {
    signed(record).check("dev", None, now)
}

#[test]
fn valid_record_passes_check_and_round_trips() {
    let full = Record {
        kem: Some(Kem {
            id: vec![1; 16].into(),
            suite: 1,
            public_key: vec![2; 1216].into(),
            not_after_ms: NOW,
        }),
        role: Role::Bootstrap,
        name: "Ada".to_owned(),
        ..record()
    };
    let signed = signed(&full);
    assert_eq!(signed.record, full);
    assert_eq!(signed.address(), agent().address());
    assert_eq!(signed.peer_id(), node().peer_id());
    assert_eq!(signed.order(), (0, NOW));
    assert_eq!(signed.check("dev", None, NOW), Ok(()));
    assert_eq!(signed.check("dev", Some(agent().address()), NOW), Ok(()));
}

#[test]
fn record_is_valid_for_one_address_and_network() {
    let signed = signed(&record());
    assert_eq!(signed.check("main", None, NOW), Err(RecordError::WrongNetwork));
    assert_eq!(signed.check("dev", Some(Address::ZERO), NOW), Err(RecordError::WrongAddress));
    let elsewhere = Binding { network: "main".to_owned(), ..binding() };
    let crossed = Record { binding: agent().bind(elsewhere).unwrap(), ..record() };
    assert_eq!(check_at(&crossed, NOW), Err(BindingError::WrongNetwork.into()));
}

#[test]
fn lifetime_ends_exactly_at_allowed_clock_skew() {
    assert_eq!(check_at(&record(), NOW - 30_000), Ok(()));
    let early = Record { seq: 0, ..record() };
    let binding = Binding { not_before: 0, ..binding() };
    let early = Record {
        binding: agent()
            .bind(Binding { not_after: NOW_SECS + 1, not_before: NOW_SECS - 60, ..binding })
            .unwrap(),
        ..early
    };
    assert_eq!(check_at(&early, NOW - 30_001), Err(RecordError::FromTheFuture));
    assert_eq!(check_at(&record(), NOW + 60_000 + 30_000), Ok(()));
    assert_eq!(check_at(&record(), NOW + 60_000 + 30_001), Err(RecordError::Expired));
    let with = |expires_at_ms| Record { expires_at_ms, ..record() };
    assert_eq!(check_at(&with(NOW + MAX_RECORD_LIFE_MS), NOW), Ok(()));
    assert_eq!(check_at(&with(NOW + MAX_RECORD_LIFE_MS + 1), NOW), Err(RecordError::Lifetime));
    assert_eq!(check_at(&with(NOW - 1), NOW), Err(RecordError::Lifetime));
    assert_eq!(check_at(&with(u64::MAX), NOW), Err(RecordError::Lifetime));
}

#[test]
fn record_expires_with_its_binding() {
    let binding = Binding { not_after: NOW_SECS + 1, ..binding() };
    let record = Record { binding: agent().bind(binding).unwrap(), ..record() };
    assert_eq!(check_at(&record, NOW + 31_000), Ok(()));
    assert_eq!(check_at(&record, NOW + 32_000), Err(BindingError::Expired.into()));
}

#[test]
fn seq_or_generation_above_30_seconds_ahead_is_rejected() {
    let with_seq = |seq| Record { seq, ..record() };
    assert_eq!(check_at(&with_seq(NOW + 30_000), NOW), Ok(()));
    assert_eq!(check_at(&with_seq(NOW + 30_001), NOW), Err(RecordError::FutureSeq));
    assert_eq!(check_at(&with_seq(u64::MAX), NOW), Err(RecordError::FutureSeq));
    let binding = Binding { generation: NOW_SECS + 31, ..binding() };
    let ahead = Record { binding: agent().bind(binding).unwrap(), ..record() };
    assert_eq!(check_at(&ahead, NOW), Err(BindingError::FutureGeneration.into()));
}

#[test]
fn signature_of_another_node_key_is_rejected() {
    let other = NodeKey::from_seed([0x77; 32]);
    let forged = SignedRecord::decode(record().sign(&other).unwrap()).unwrap();
    assert_eq!(forged.check("dev", None, NOW), Err(RecordError::BadSignature));
}

#[test]
fn order_compares_generation_before_seq() {
    let reborn = Binding { generation: 1, ..binding() };
    let reborn = Record { binding: agent().bind(reborn).unwrap(), seq: 1, ..record() };
    assert!(signed(&reborn).order() > signed(&record()).order());
    assert!(signed(&Record { seq: NOW + 1, ..record() }).order() > signed(&record()).order());
}

#[test]
fn field_limits_apply_to_signing_and_decoding() {
    let refuse = |record: Record, field| {
        let expected = RecordError::Decode(DecodeError::Field(field));
        assert_eq!(record.sign(&node()), Err(expected), "{field}");
        let bytes = node().sign_whole(RECORD_DOMAIN, &WireRecord::from(&record).encode_to_vec());
        assert_eq!(SignedRecord::decode(bytes), Err(expected), "{field}");
    };
    let accept = |record: Record| assert_eq!(check_at(&record, NOW), Ok(()));
    let addrs = |count| vec!["/ip4/127.0.0.1/tcp/4001".parse().unwrap(); count];
    accept(Record { addrs: addrs(MAX_RECORD_ADDRS), ..record() });
    refuse(Record { addrs: addrs(MAX_RECORD_ADDRS + 1), ..record() }, "addrs");
    // Two bytes for the protocol code, two for the length, then the name.
    let dns = |length: usize| vec![format!("/dns4/{}", "a".repeat(length - 3)).parse().unwrap()];
    accept(Record { addrs: dns(MAX_RECORD_ADDR_BYTES), ..record() });
    refuse(Record { addrs: dns(MAX_RECORD_ADDR_BYTES + 1), ..record() }, "addrs");
    refuse(Record { addrs: vec![Multiaddr::empty()], ..record() }, "addrs");
    accept(Record { name: "n".repeat(MAX_RECORD_NAME_BYTES), ..record() });
    refuse(Record { name: "n".repeat(MAX_RECORD_NAME_BYTES + 1), ..record() }, "name");
    refuse(Record { name: "a\u{1b}[2J".to_owned(), ..record() }, "name");
    let tags = |each: usize| vec!["t".repeat(each)];
    let half = MAX_RECORD_TAG_BYTES / 2;
    accept(Record { capabilities: tags(half), topics: tags(half), ..record() });
    refuse(Record { capabilities: tags(half), topics: tags(half + 1), ..record() }, "capabilities");
    refuse(Record { topics: tags(0), ..record() }, "capabilities");
    refuse(Record { topics: vec!["a\nb".to_owned()], ..record() }, "capabilities");
    let hashes = |number: usize| (0..number as TopicHash).collect::<Vec<_>>();
    accept(Record { topic_hashes: hashes(MAX_RECORD_TOPIC_HASHES), ..record() });
    refuse(Record { topic_hashes: hashes(MAX_RECORD_TOPIC_HASHES + 1), ..record() }, "topic_hashes");
    refuse(Record { topic_hashes: vec![2, 1], ..record() }, "topic_hashes");
    for agent_id in [U256::ZERO, U256::from(1), U256::MAX] {
        let claim = RegistryClaim { chain_id: u64::MAX, registry: Address::repeat_byte(7), agent_id };
        accept(Record { claim: Some(claim), ..record() });
    }
    refuse(Record { network: "Dev".to_owned(), ..record() }, "network");
    let kem = |id: usize, key: usize| {
        let (id, public_key) = (vec![1; id].into(), vec![2; key].into());
        Record { kem: Some(Kem { id, suite: 1, public_key, not_after_ms: NOW }), ..record() }
    };
    accept(kem(MAX_RECORD_KEM_ID_BYTES, 1216));
    for (id, key) in [(MAX_RECORD_KEM_ID_BYTES + 1, 1216), (0, 1216), (16, 0)] {
        refuse(kem(id, key), "kem");
    }
}

#[test]
fn record_above_size_limit_is_rejected() {
    let with_key = |length: usize| {
        let kem = Kem { id: vec![1].into(), suite: 1, public_key: vec![2; length].into(), not_after_ms: NOW };
        Record { kem: Some(kem), ..record() }
    };
    let rest = with_key(1216).sign(&node()).unwrap().len() - 1216;
    let longest = with_key(MAX_RECORD_BYTES - rest).sign(&node()).unwrap();
    assert_eq!(longest.len(), MAX_RECORD_BYTES);
    assert!(SignedRecord::decode(longest).is_ok());
    let too_large = RecordError::Decode(DecodeError::TooLarge { limit: MAX_RECORD_BYTES });
    let over = with_key(MAX_RECORD_BYTES - rest + 1);
    assert_eq!(over.sign(&node()), Err(too_large));
    let bytes = node().sign_whole(RECORD_DOMAIN, &WireRecord::from(&over).encode_to_vec());
    assert_eq!(SignedRecord::decode(bytes), Err(too_large));
}

#[test]
fn other_versions_and_roles_are_rejected() {
    let refuse = |change: fn(&mut WireRecord), expected| {
        let mut wire = WireRecord::from(&record());
        change(&mut wire);
        let bytes = node().sign_whole(RECORD_DOMAIN, &wire.encode_to_vec());
        assert_eq!(SignedRecord::decode(bytes), Err(RecordError::Decode(expected)));
    };
    refuse(|wire| wire.version = 2, DecodeError::Version);
    refuse(|wire| wire.version = 0, DecodeError::Field("version"));
    refuse(|wire| wire.role = 3, DecodeError::Unknown);
    refuse(|wire| wire.addrs = vec![vec![0xff].into()], DecodeError::Field("addrs"));
    refuse(|wire| wire.binding = Bytes::new(), DecodeError::Field("binding"));
}

#[test]
fn dht_key_depends_on_network_and_address() {
    let address = agent().address();
    assert_ne!(kad_key("dev", &address), kad_key("main", &address));
    assert_ne!(kad_key("dev", &address), kad_key("dev", &Address::ZERO));
}

#[test]
fn record_lifetime_limit_is_one_day() {
    assert_eq!(MAX_RECORD_LIFE_MS, 86_400_000);
}

#[test]
fn clock_dependent_faults_are_not_provable() {
    let faults = [
        (RecordError::Decode(DecodeError::Malformed), true),
        (RecordError::WrongNetwork, true),
        (RecordError::Binding(BindingError::WrongNetwork), true),
        (RecordError::WrongAddress, true),
        (RecordError::Expired, false),
        (RecordError::FromTheFuture, false),
        (RecordError::FutureSeq, false),
        (RecordError::Binding(BindingError::Expired), false),
        (RecordError::Binding(BindingError::NotYetValid), false),
        (RecordError::Binding(BindingError::HighS), true),
        (RecordError::Lifetime, true),
        (RecordError::BadSignature, true),
    ];
    for (fault, provable) in faults {
        assert_eq!(fault.is_provable(), provable, "{fault}");
    }
}

#[test]
fn record_has_topics_by_name_and_by_hash() {
    let record = Record { topic_hashes: vec![topic_hash("hashed")], ..record() };
    assert!(record.has_topic("builds") && record.has_topic("hashed"));
    assert!(!record.has_topic("other"));
    assert_eq!(record.all_topic_hashes().len(), 2);
}
