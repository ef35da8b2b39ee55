use p2p_node_wire::message_id::StreamId;
use std::fs;

use alloy_primitives::Address;
use bytes::Bytes;
use p2p_node_core::input::Input;
use p2p_node_core::mail::outbound::outbox::PersistedMessage;
use tempfile::TempDir;

use super::super::tests::{ANN, directory, next, open, some_mail};
use super::super::{STORE_FILE, Store};

/// A store of 40 mails of two streams that is closed, and has the payload of one of them altered.
async fn store_with_an_altered_mail(directory: &TempDir) -> Vec<PersistedMessage> {
    let (mut store, _) = open(directory);
    let messages: Vec<PersistedMessage> = (1..=40_u64)
        .map(|seq| {
            let mut mail = some_mail();
            (mail.seq, mail.position, mail.stream) = (seq, seq, StreamId([(seq % 2) as u8; 16]));
            mail.draft.data = Bytes::from(format!("payload-{seq:02}").repeat(200));
            mail
        })
        .collect();
    for mail in &messages {
        store.put_message(mail.seq, mail.clone());
    }
    while !matches!(next(&mut store).await, Input::Persisted { through: 40 }) {}
    store.close().await;
    let path = directory.path().join(STORE_FILE);
    let mut image = fs::read(&path).expect("there");
    let altered: Vec<usize> =
        (0..image.len() - 10).filter(|at| image[*at..].starts_with(b"payload-17")).collect();
    for at in altered {
        image[at + 9] ^= 1;
    }
    fs::write(&path, image).expect("written");
    messages
}

#[tokio::test]
async fn damaged_database_keeps_mail_that_can_be_read_and_drops_altered_mail() {
    let directory = directory();
    let mut messages = store_with_an_altered_mail(&directory).await;
    let image = fs::read(directory.path().join(STORE_FILE)).expect("there");
    messages.retain(|mail| mail.seq != 17);
    for is_damaged in [true, false] {
        let (mut store, snapshot) = Store::open(directory.path(), "dev", ANN, 77, &[7; 16]).expect("opened");
        let mut found = snapshot.messages;
        found.sort_by_key(|mail| mail.seq);
        assert!(found == messages, "{} mails", found.len());
        if is_damaged {
            let Input::StoreFailed { reason } = next(&mut store).await else { panic!("no report") };
            assert!(reason.contains("39 queued messages"), "{reason}");
        }
        store.close().await;
    }
    let aside = fs::read(directory.path().join("node.redb.corrupt-77")).expect("there");
    assert_eq!(aside.len(), image.len(), "the damaged file stays");
}

#[tokio::test]
async fn damaged_database_of_another_agent_or_network_yields_no_mail() {
    for (network, account) in [("dev", Address::repeat_byte(0xb0)), ("other", ANN)] {
        let directory = directory();
        store_with_an_altered_mail(&directory).await;
        let (_, snapshot) = Store::open(directory.path(), network, account, 77, &[7; 16]).expect("opened");
        assert_eq!(snapshot.messages, []);
    }
}
