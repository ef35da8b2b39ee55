//! Invalid arguments: the error names the argument, and the SDK writes nothing.

use std::time::Duration;

use crate::common::{Notes, child, next, refused};
use p2p_node_sdk::{Builder, DiscoverOptions, Error, Event, SendOptions};

/// The name of an option, and a function that sets an invalid value.
type Case = (&'static str, fn(Builder) -> Builder);

/// Returns the argument that the error names.
fn argument(error: Error) -> String {
    assert_eq!((error.code(), error.retryable()), ("INVALID_ARGUMENT", false), "{error}");
    match error {
        Error::InvalidArgument { argument, .. } => argument,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn open_with_invalid_option_error_names_it() {
    let cases: [Case; 11] = [
        ("mail_buffer", |builder| builder.mail_buffer(0)),
        ("mail_buffer", |builder| builder.mail_buffer(16_385)),
        ("broadcast_buffer", |builder| builder.broadcast_buffer(0)),
        ("event_buffer", |builder| builder.event_buffer(0)),
        ("bootstrap_peers[1]", |builder| builder.bootstrap_peers(["/ip4/127.0.0.1", "127.0.0.1:4001"])),
        ("cwd", |builder| builder.cwd("/nowhere")),
        ("name", |builder| builder.name("a\0b")),
        ("binding_file", |builder| builder.binding_file("a\0b")),
        ("args[1]", |builder| builder.args(["\0"])),
        ("env[\"A=B\"]", |builder| builder.env("A=B", "")),
        ("private_key", |builder| builder.private_key("\0")),
    ];
    for (wanted, spoil) in cases {
        assert_eq!(argument(refused(spoil(child("good")).open().await)), wanted);
    }
}

#[tokio::test]
async fn call_with_invalid_argument_error_names_it_and_nothing_is_written() {
    let notes = Notes::new();
    let (node, mut events) = notes.listen().open().await.unwrap();
    for ttl in [Duration::ZERO, Duration::from_secs(7 * 24 * 60 * 60 + 1)] {
        let options = SendOptions { ttl: Some(ttl), ..SendOptions::default() };
        assert_eq!(argument(refused(node.send_with("0xB", "", options).await)), "ttl");
    }
    let options = DiscoverOptions { look_for: Some(Duration::from_secs(61)), ..DiscoverOptions::default() };
    assert_eq!(argument(refused(node.discover(options).await)), "look_for");
    assert_eq!(argument(refused(node.send("", "").await)), "to");
    assert_eq!(argument(refused(node.publish(" ", "").await)), "topic");
    assert_eq!(argument(refused(node.subscribe("").await)), "topic");
    assert_eq!(argument(refused(node.unsubscribe("").await)), "topic");
    for call in [node.block("").await, node.allow("").await, node.unblock("").await] {
        assert_eq!(argument(refused(call)), "peer");
    }
    assert_eq!(argument(refused(node.send("0xB", &[1.0, f64::NAN]).await)), "data[1]");
    node.send("0xB", &(1.5, None::<u8>)).await.unwrap();
    let Event::Message(message) = next(&mut events, |event| matches!(event, Event::Message(_))).await else {
        unreachable!()
    };
    assert_eq!(argument(refused(node.reply(&message, &f32::INFINITY).await)), "data");
    let said = notes.said();
    assert_eq!(said.lines().filter(|line| !line.contains("\"connect\"")).count(), 1, "{said}");
}
