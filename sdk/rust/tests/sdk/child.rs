//! Tests against a fake child that misbehaves, `sdk/testing/child.sh`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{CHILD, Notes, child, endless, exit_code, next, open, refused, until};
use p2p_node_sdk::{Bytes, DeliveryState, DiscoverOptions, Error, Event, Priority, SendOptions};
use tokio::task::JoinSet;
use tokio::time::timeout;

#[tokio::test]
async fn calls_to_good_child_return_answers() {
    let (node, mut events) = open("good").await;
    assert_eq!((node.address(), node.ready().protocol), ("0xA".to_owned(), 1));
    let mail = node.send("0xB", &["hello"]).await.unwrap();
    let message_id = mail.message_id.clone();
    assert_eq!(mail.delivered().await.unwrap().message_id, message_id);
    let Event::Message(message) = next(&mut events, |event| matches!(event, Event::Message(_))).await else {
        unreachable!()
    };
    assert_eq!(message.data.get(), r#"{"text":"h\u00e9"}"#);
    node.reply(&message, "yes").await.unwrap().delivered().await.unwrap();
    let low = SendOptions { priority: Some(Priority::Low), ..SendOptions::default() };
    let mail = node.send_with("0xB", "hello", low).await.unwrap();
    for _ in 0..2 {
        let late = refused(mail.delivered().await);
        assert!(matches!(&late, Error::Undelivered(delivery) if delivery.state == DeliveryState::Expired));
        assert_eq!((late.code(), late.retryable()), ("EXPIRED", true));
    }
    assert_eq!(node.publish("t", &1).await.unwrap().peers, 3);
    let found = node.discover(DiscoverOptions::default()).await.unwrap();
    assert_eq!((found[0].address.as_str(), found.complete), ("0xB", false));
    node.subscribe("t").await.unwrap();
    node.unsubscribe("t").await.unwrap();
    for call in [node.block("0xB").await, node.allow("0xB").await, node.unblock("0xB").await] {
        call.unwrap();
    }
    assert_eq!(refused(node.status().await).code(), "CONTRACT", "the answer has no status");
    assert_eq!(refused(node.registry("0xB").await).code(), "CONTRACT", "the answer has no registry");
    let unknown = refused(node.send("nobody", "hello").await);
    assert_eq!((unknown.code(), unknown.retryable()), ("PEER_NOT_FOUND", true));
}

#[tokio::test]
async fn binary_of_other_version_or_protocol_error_names_it() {
    for mode in ["version", "old"] {
        let error = refused(child(mode).open().await);
        assert_eq!(error.code(), "VERSION_MISMATCH");
        assert!(error.to_string().contains(CHILD) && error.to_string().contains("0.1.0"), "{error}");
    }
}

#[tokio::test]
async fn child_silent_stuck_or_exiting_early_fails_the_start() {
    for mode in ["silent", "stuck"] {
        let error = refused(child(mode).ready_timeout(Duration::from_millis(100)).open().await);
        assert_eq!((error.code(), error.retryable()), ("NOT_READY", true));
    }
    let error = refused(child("early").open().await);
    assert_eq!(exit_code(&error), Some(64));
    assert!(error.to_string().contains("--nonsense is unknown"), "{error}");
}

#[tokio::test]
async fn undecodable_and_long_lines_are_counted_and_skipped() {
    for (mode, dropped) in [("garbage", 3), ("huge", 1), ("split", 0)] {
        let (node, _events) = open(mode).await;
        node.ping().await.unwrap();
        assert!(node.undecodable() >= dropped, "{mode}: {}", node.undecodable());
        if mode == "split" {
            assert_eq!(node.ready().name, "né");
        }
    }
}

#[tokio::test]
async fn stderr_flood_does_not_stop_the_node() {
    let (node, _events) = open("stderr").await;
    node.ping().await.unwrap();
    until(|| node.stderr_tail().ends_with("the last words\n")).await;
    assert_eq!(node.stderr_tail().len(), 64 * 1024);
}

#[tokio::test]
async fn abandoned_and_concurrent_calls_do_not_stop_the_node() {
    let (node, _events) = child("good").call_timeout(Duration::MAX).open().await.unwrap();
    for _ in 0..2000 {
        let given_up = timeout(Duration::ZERO, node.ping()).await;
        assert!(given_up.is_err() || given_up.unwrap().is_ok());
    }
    let calls: Vec<_> = (0..3000)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { node.ping().await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn abandoned_search_is_cancelled() {
    let notes = Notes::new();
    let (node, _events) = notes.listen().open().await.unwrap();
    let mut searches = JoinSet::new();
    for _ in 0..500 {
        let node = node.clone();
        searches.spawn(async move { node.discover(endless()).await.map(drop) });
    }
    until(|| notes.said().matches("\"discover\"").count() == 500).await;
    // Drops all searches at once: more cancels than the queue before the pipe holds.
    searches.shutdown().await;
    until(|| notes.said().matches("\"cancel\"").count() == 500).await;
    let late = child("good").call_timeout(Duration::from_millis(50)).open().await.unwrap().0;
    assert_eq!(refused(late.discover(endless()).await).code(), "TIMEOUT");
    node.ping().await.unwrap();
}

#[tokio::test]
async fn send_options_are_written_to_the_line() {
    let notes = Notes::new();
    let (node, mut events) = notes.listen().open().await.unwrap();
    let options = SendOptions {
        kind: Some("job".to_owned()),
        priority: Some(Priority::High),
        ttl: Some(Duration::from_secs(2)),
        conversation_id: Some("c".to_owned()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        ..SendOptions::default()
    };
    node.send_with("0xB", &Bytes(b"\xff\x00"), options.clone()).await.unwrap();
    let Event::Message(message) = next(&mut events, |event| matches!(event, Event::Message(_))).await else {
        unreachable!()
    };
    assert_eq!(message.bytes(), None, "the message has JSON data");
    node.publish_with("t", &[1, 2], options).await.unwrap();
    node.reply(&message, &Bytes(b"")).await.unwrap();
    let said = notes.said();
    let said: Vec<&str> = said.lines().skip(1).map(|line| line.split(r#","id":"#).next().unwrap()).collect();
    assert_eq!(
        said,
        [
            r#"{"type":"send","peerId":"0xB","data":"/wA=","kind":"job","priority":"high","ttlMs":2000,"conversationId":"c","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","encoding":"base64""#,
            r#"{"type":"send","topic":"t","data":[1,2],"kind":"job","priority":"high","ttlMs":2000,"conversationId":"c","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01""#,
            r#"{"type":"send","peerId":"0xB","data":"","replyTo":"r2","encoding":"base64""#,
        ]
    );
}

#[tokio::test]
async fn stderr_hook_that_panics_is_called_again() {
    let heard = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&heard);
    let hook = move |bytes: &[u8]| {
        *counter.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += bytes.len();
        std::panic::panic_any(());
    };
    let (node, _events) = child("stderr").on_stderr(hook).open().await.unwrap();
    node.ping().await.unwrap();
    until(|| *heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) == 1_000_016).await;
}
