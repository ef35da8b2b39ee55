//! Seeds of the corpora that are rows of the store. A row has a version and a checksum, so that a
//! row of an older version teaches a fuzzer nothing: each seed is generated from its value.
//! With `UPDATE_FILES=1` the test writes the files.

use std::fs;

use alloy::primitives::Address;
use bytes::Bytes;
use p2p_node_core::highest_seen::HighestSeen;
use p2p_node_core::mail::inbound::digests::{ContentDigest, Digests};
use p2p_node_core::mail::inbound::receive_window::StreamCheckpoint;
use p2p_node_core::mail::outbound::outbox::PersistedMessage;
use p2p_node_core::outgoing::{OutgoingFile, OutgoingMessage};
use p2p_node_core::replies::reply_to::ReplyTo;
use p2p_node_protocol::{Priority, Route};
use p2p_node_store::{codec, mail};
use p2p_node_wire::envelope::{Encoding, FileOffer};
use p2p_node_wire::identity::presigned::read_binding_file;
use p2p_node_wire::identity::typed_data::read_typed_data;
use p2p_node_wire::message_id::StreamId;
use p2p_node_wire::record::RecordHash;
use p2p_node_wire::time::Instant;

use super::{directory, files, fuzz};

const SENT_MS: u64 = 1_767_225_600_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn message(priority: Priority, encoding: Encoding, route: Route, data: &[u8]) -> PersistedMessage {
    let draft = OutgoingMessage {
        data: Bytes::copy_from_slice(data),
        encoding,
        kind: String::new(),
        priority,
        sent_at_ms: SENT_MS,
        asked_at: None,
        expires: Instant::ZERO,
        reply_to: String::new(),
        conversation: String::new(),
        hops: 0,
        trace: None,
        call: None,
        file: None,
        route,
        command: ReplyTo::PARENT,
    };
    PersistedMessage {
        recipient: Address::repeat_byte(9),
        stream: StreamId([5; 16]),
        seq: 7,
        sent_as: None,
        position: 3,
        expires_at_ms: SENT_MS + DAY_MS,
        draft,
    }
}

fn message_row(message: &PersistedMessage) -> Vec<u8> {
    [mail::key(&message.stream, message.seq).as_slice(), &mail::encode(message)].concat()
}

fn message_rows() -> Vec<(&'static str, Vec<u8>)> {
    let plain = message(Priority::Medium, Encoding::Json, Route::Auto, br#"{"a":1}"#);
    let bytes: Vec<u8> = (0..50).collect();
    let mut texts = message(Priority::High, Encoding::Bytes, Route::Gossip, &bytes);
    texts.draft.kind = "vote".to_owned();
    texts.draft.reply_to = format!("{}-1", "0".repeat(32));
    texts.draft.conversation = "a conversation".to_owned();
    let renamed = PersistedMessage { sent_as: Some((StreamId([6; 16]), 8)), ..plain.clone() };
    let mut file = plain.clone();
    let offer = FileOffer { hash: vec![4; 32].into(), size: 1 << 20, name: "a.bin".to_owned() };
    file.draft.file = Some(Box::new(OutgoingFile { path: "/tmp/a.bin".to_owned(), offer }));
    let empty = message(Priority::Low, Encoding::Bytes, Route::Direct, b"");
    [("empty", empty), ("file", file), ("plain", plain), ("renamed", renamed), ("texts", texts)]
        .map(|(name, message)| (name, message_row(&message)))
        .into()
}

fn checkpoint_row(
    next: u64,
    delivered_up_to: u64,
    out_of_order: &[u64],
    digests: &[(u64, u64)],
    forgotten: u64,
) -> Vec<u8> {
    let digests = digests.iter().map(|(seq, digest)| (*seq, ContentDigest(*digest))).collect();
    let digests = Digests::restored(digests, forgotten, SENT_MS).unwrap();
    let (sender, stream) = (Address::repeat_byte(9), StreamId([5; 16]));
    let row = StreamCheckpoint {
        sender,
        stream,
        next,
        delivered_up_to,
        out_of_order: out_of_order.to_vec(),
        digests,
    };
    [codec::checkpoint_key(&sender, &stream).as_slice(), &codec::encode_checkpoint(&row)].concat()
}

fn checkpoint_rows() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("beyond", checkpoint_row(5, 9, &[6, 8], &[(6, 66), (8, 88)], 4)),
        ("leap", checkpoint_row(1, 1 << 33, &[(1 << 32) + 7], &[], 0)),
        ("one", checkpoint_row(5, 9, &[], &[(3, 33), (4, 44)], 0)),
    ]
}

fn highest_seen_rows() -> Vec<(&'static str, Vec<u8>)> {
    let address = Address::repeat_byte(0x11);
    let row = HighestSeen { address, generation: 0, seq: 1_790_000_000_000, hash: RecordHash([9; 32]) };
    vec![("golden", [address.as_slice(), &codec::encode(&row)].concat())]
}

/// Returns `true` if a row is a key and a value that decode.
fn decodes(target: &str, row: &[u8]) -> bool {
    match target {
        "highest_seen_row" => {
            let (key, value) = row.split_at(codec::KEY_BYTES);
            codec::decode(key, value).is_ok()
        }
        "message_row" => {
            let (key, value) = row.split_at(mail::KEY_BYTES);
            mail::decode(key, value).is_ok()
        }
        "checkpoint_row" => {
            let (key, value) = row.split_first_chunk().unwrap();
            codec::decode_checkpoint(key, value).is_ok()
        }
        other => panic!("no rows of {other}"),
    }
}

#[test]
fn seeds_of_rows_are_rows_of_this_version() {
    let targets = [
        ("highest_seen_row", highest_seen_rows()),
        ("message_row", message_rows()),
        ("checkpoint_row", checkpoint_rows()),
    ];
    for (target, rows) in targets {
        let directory = directory("corpus").join(target);
        for (name, row) in &rows {
            let path = directory.join(name);
            if std::env::var_os("UPDATE_FILES").is_some() {
                fs::write(&path, row).unwrap();
            }
            let advice = "run `UPDATE_FILES=1 cargo test --test fuzz seeds`";
            assert!(fs::read(&path).is_ok_and(|found| found == *row), "{} is old: {advice}", path.display());
        }
        let found = files(&directory);
        let names: Vec<_> = found.iter().map(|(path, _)| path.rsplit('/').next().unwrap()).collect();
        assert_eq!(names, rows.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "{target}");
        for (path, row) in &found {
            assert!(decodes(target, row), "{path}");
        }
    }
}

#[test]
fn seeds_that_are_named_as_valid_are_valid() {
    let seed = |path: &str| fs::read(directory("corpus").join(path)).unwrap();
    assert!(read_binding_file(&seed("binding_file/golden")).is_ok());
    assert!(read_typed_data(&seed("typed_data/golden")).is_ok());
    assert!(fuzz::sealed::opens(&seed("sealed/from_fixture")));
}
