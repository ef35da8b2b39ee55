//! Messages with files: offered, fetched, accepted, and what goes wrong on the way.

use std::time::Duration;

use p2p_node_core::file_io::{FetchFault, FileCommand, FileEvent, FileHash, HashFault, HashedFile, ServeEnd};
use p2p_node_core::input::{Input, Token};
use p2p_node_protocol::Counter;
use serde_json::{Value, json};

use crate::mesh::Mesh;

/// Token of the driver for the request of a peer.
const REQUEST: Token = 7;

/// A fetch that the driver of a node was asked for.
#[derive(Clone, Debug)]
pub struct Fetch {
    pub token: Token,
    pub hash: FileHash,
    pub partial: String,
    pub name: String,
}

pub fn hash(number: u8) -> FileHash {
    [number; 32]
}

/// Returns a mesh in which each node is connected to node 0.
pub fn mesh(number: u8) -> Mesh {
    let mut mesh = Mesh::new(number);
    for other in 1..usize::from(number) {
        mesh.connect(other, 0);
    }
    mesh.advance(Duration::from_secs(2));
    mesh
}

pub fn event(mesh: &mut Mesh, node: usize, event: FileEvent) {
    mesh.input(node, Input::File(event));
}

/// Writes a `send` with a file to a node.
pub fn command(mesh: &mut Mesh, from: usize, to: usize, id: &str, more: Value) {
    let peer = mesh.nodes[to].address.clone();
    let mut line = json!({"type": "send", "id": id, "peerId": peer, "file": "/tmp/a", "data": null});
    line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    mesh.command(from, &line.to_string());
}

/// Returns the number of the `Hash` that the driver of a node was asked for.
pub fn hash_number(mesh: &mut Mesh, node: usize) -> u64 {
    let commands = mesh.take_file_commands();
    let mut numbers = commands.into_iter().filter_map(|(of, command)| match command {
        FileCommand::Hash { number, .. } if of == node => Some(number),
        _ => None,
    });
    numbers.next_back().expect("a file to hash")
}

/// Sends a file, which the driver hashes.
pub fn send(mesh: &mut Mesh, from: usize, to: usize, id: &str, (number, size): (u8, u64), more: Value) {
    command(mesh, from, to, id, more);
    let file = HashedFile { hash: hash(number), size, name: "a.bin".to_owned() };
    let number = hash_number(mesh, from);
    event(mesh, from, FileEvent::Hashed { number, outcome: Ok(file) });
}

/// Lets the driver of a node list its directory, if the node asks for it.
pub fn list(mesh: &mut Mesh, node: usize, stored: Vec<p2p_node_core::file_io::StoredFile>) -> Vec<Fetch> {
    let mut fetches = fetches(mesh, node);
    event(mesh, node, FileEvent::Stored(stored));
    fetches.extend(self::fetches(mesh, node));
    fetches
}

/// Returns the fetches that the driver of a node was asked for since the last call.
pub fn fetches(mesh: &mut Mesh, node: usize) -> Vec<Fetch> {
    let commands = mesh.take_file_commands();
    let fetches = commands.into_iter().filter_map(|(of, command)| match command {
        FileCommand::Fetch { token, hash, partial, name, .. } if of == node => {
            Some(Fetch { token, hash, partial, name })
        }
        _ => None,
    });
    fetches.collect()
}

/// Sends a file of node 1 to node 0, which begins to fetch it.
fn offered(mesh: &mut Mesh, number: u8, size: u64) -> Fetch {
    send(mesh, 1, 0, &format!("send {number}"), (number, size), json!({}));
    list(mesh, 0, Vec::new()).pop().expect("a fetch")
}

/// Lets the driver of node 1 serve a fetch of node 0. Returns what the core of node 1 said.
fn request(mesh: &mut Mesh, from: usize, hash: FileHash) -> FileCommand {
    let peer = mesh.nodes[from].peer;
    mesh.take_file_commands();
    event(mesh, 1, FileEvent::Requested { token: REQUEST, peer, hash });
    let of_sender = mesh.take_file_commands().into_iter().filter(|(node, _)| *node == 1);
    of_sender.map(|(_, command)| command).next().expect("an answer")
}

/// Completes a fetch of node 0.
fn fetched(mesh: &mut Mesh, fetch: &Fetch) {
    let path = format!("/received/{}", fetch.name);
    event(mesh, 0, FileEvent::Fetched { token: fetch.token, path });
    let commands = mesh.take_file_commands();
    assert!(commands.contains(&(0, FileCommand::FinishFetch { token: fetch.token })), "{commands:?}");
}

fn end(mesh: &mut Mesh, sent: u64, end: ServeEnd) {
    event(mesh, 1, FileEvent::ServeEnded { token: REQUEST, sent, end });
}

fn count(mesh: &Mesh, node: usize, counter: Counter) -> u64 {
    mesh.nodes[node].core.stats().get(counter)
}

fn deliveries(mesh: &Mesh, node: usize) -> Vec<(String, Option<String>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let lines = mesh.lines(node, "delivery");
    lines.iter().map(|line| (text(&line["state"]).unwrap(), text(&line["code"]))).collect()
}

fn assert_usage_is_within_limits(mesh: &Mesh) {
    for usage in mesh.nodes.iter().flat_map(|node| node.core.usage()) {
        assert!(usage.size <= usage.limit, "{}: {} > {}", usage.name, usage.size, usage.limit);
    }
}

#[test]
fn message_arrives_when_the_recipient_has_the_file_and_not_before() {
    let mut mesh = mesh(2);
    let fetch = offered(&mut mesh, 1, 5000);
    assert_eq!(mesh.lines(0, "message").len(), 0);
    assert!(deliveries(&mesh, 1).is_empty());
    let served = request(&mut mesh, 0, hash(1));
    assert_eq!(
        served,
        FileCommand::Serve { token: REQUEST, path: "/tmp/a".to_owned(), hash: hash(1), size: 5000 }
    );
    event(&mut mesh, 1, FileEvent::Served { token: REQUEST, bytes: 3000 });
    event(&mut mesh, 0, FileEvent::Received { token: fetch.token, bytes: 2000 });
    fetched(&mut mesh, &fetch);
    end(&mut mesh, 5000, ServeEnd::Complete);
    let message = mesh.lines(0, "message")[0].clone();
    let id = message["messageId"].as_str().unwrap().to_owned();
    let text = "01".repeat(32);
    assert_eq!(
        message["file"],
        json!({"path": format!("/received/{id}"), "size": 5000, "hash": text, "name": "a.bin"})
    );
    assert_eq!(fetch.name, id, "the name of the sender is no part of the path");
    assert_eq!(deliveries(&mesh, 1), [("delivered".to_owned(), None)]);
    let progress = |node: usize| -> Vec<(u64, u64)> {
        let lines = mesh.lines(node, "transfer").into_iter();
        lines.map(|line| (line["bytes"].as_u64().unwrap(), line["total"].as_u64().unwrap())).collect()
    };
    assert_eq!((progress(1), progress(0)), (vec![(3000, 5000)], vec![(2000, 5000), (5000, 5000)]));
    let transfer = mesh.lines(1, "transfer")[0];
    assert_eq!((&transfer["direction"], &transfer["requestId"]), (&json!("send"), &json!("send 1")));
    assert_eq!(
        (count(&mesh, 0, Counter::FilesReceived), count(&mesh, 0, Counter::FileBytesReceived)),
        (1, 5000)
    );
    assert_eq!(count(&mesh, 1, Counter::FileBytesSent), 5000);
    assert_usage_is_within_limits(&mesh);
}

#[test]
fn other_messages_and_other_files_do_not_wait_for_a_file() {
    let mut mesh = mesh(3);
    let first = offered(&mut mesh, 1, 5000);
    mesh.send(1, 0, 1, "");
    send(&mut mesh, 2, 0, "other", (2, 10), json!({}));
    let second = fetches(&mut mesh, 0).pop().expect("a fetch of the other file");
    assert_eq!(mesh.received(0), [1]);
    assert_eq!((first.hash, second.hash), (hash(1), hash(2)));
    assert_ne!(first.partial, second.partial);
}

#[test]
fn files_of_one_agent_come_one_after_the_other_in_their_order() {
    let mut mesh = mesh(2);
    let first = offered(&mut mesh, 1, 5000);
    send(&mut mesh, 1, 0, "second", (2, 10), json!({"data": 2}));
    assert!(fetches(&mut mesh, 0).is_empty());
    request(&mut mesh, 0, hash(1));
    fetched(&mut mesh, &first);
    end(&mut mesh, 5000, ServeEnd::Complete);
    let second = fetches(&mut mesh, 0).pop().expect("the second file");
    assert_eq!(second.hash, hash(2));
    request(&mut mesh, 0, hash(2));
    fetched(&mut mesh, &second);
    end(&mut mesh, 10, ServeEnd::Complete);
    let data: Vec<_> = mesh.lines(0, "message").iter().map(|line| line["data"].clone()).collect();
    assert_eq!(data, [json!(null), json!(2)]);
}

#[test]
fn broken_transfer_goes_on_in_the_same_part_when_the_sender_offers_the_file_again() {
    let mut mesh = mesh(2);
    let first = offered(&mut mesh, 1, 5000);
    request(&mut mesh, 0, hash(1));
    event(&mut mesh, 0, FileEvent::FetchFailed { token: first.token, fault: FetchFault::Broken });
    end(&mut mesh, 3000, ServeEnd::Broken);
    let second = fetches(&mut mesh, 0).pop().expect("a fetch as soon as the sender knows");
    assert_eq!((&second.partial, &second.name), (&first.partial, &first.name));
    assert_ne!(second.token, first.token);
    // A peer that takes nothing is not offered the file in a loop.
    event(&mut mesh, 0, FileEvent::FetchFailed { token: second.token, fault: FetchFault::Refused });
    request(&mut mesh, 0, hash(1));
    end(&mut mesh, 0, ServeEnd::Broken);
    assert!(fetches(&mut mesh, 0).is_empty());
    mesh.advance(Duration::from_secs(31));
    assert_eq!(fetches(&mut mesh, 0).len(), 1, "the sender offers it again after a pause");
}

#[test]
fn recipient_of_a_part_learns_that_its_sender_gave_it_up() {
    let codes = |mesh: &Mesh| -> Vec<Value> {
        mesh.lines(0, "transfer").iter().map(|event| event["code"].clone()).collect()
    };
    let mut mesh = mesh(2);
    let fetch = offered(&mut mesh, 1, 5000);
    event(&mut mesh, 0, FileEvent::Received { token: fetch.token, bytes: 1000 });
    event(&mut mesh, 0, FileEvent::FetchFailed { token: fetch.token, fault: FetchFault::Broken });
    mesh.kill(1);
    mesh.advance(Duration::from_secs(100));
    assert_eq!(codes(&mesh), [Value::Null]);
    mesh.advance(Duration::from_secs(60));
    assert_eq!(codes(&mesh), [Value::Null, "EXPIRED".into()]);
}

#[test]
fn only_the_recipient_gets_a_file_and_only_while_its_message_lives() {
    let mut mesh = mesh(3);
    mesh.connect(2, 1);
    mesh.advance(Duration::from_secs(2));
    send(&mut mesh, 1, 0, "a", (1, 10), json!({"ttlMs": 60_000}));
    let refused = FileCommand::Refuse { token: REQUEST };
    assert_eq!(request(&mut mesh, 2, hash(1)), refused, "another agent");
    assert_eq!(request(&mut mesh, 0, hash(2)), refused, "another file");
    assert!(matches!(request(&mut mesh, 0, hash(1)), FileCommand::Serve { .. }));
    assert_eq!(count(&mesh, 1, Counter::FileRequestsRefused), 2);
    mesh.advance(Duration::from_secs(61));
    assert!(mesh.take_file_commands().contains(&(1, FileCommand::StopServing { token: REQUEST })));
    end(&mut mesh, 10, ServeEnd::Broken);
    assert_eq!(deliveries(&mesh, 1)[0].0, "expired");
    assert_eq!(request(&mut mesh, 0, hash(1)), refused, "the message has ended");
}

#[test]
fn file_that_changed_ends_its_message_and_both_programs_learn_it() {
    let mut mesh = mesh(2);
    let fetch = offered(&mut mesh, 1, 5000);
    request(&mut mesh, 0, hash(1));
    event(&mut mesh, 0, FileEvent::FetchFailed { token: fetch.token, fault: FetchFault::Changed });
    let removed = FileCommand::Remove { name: fetch.partial.clone() };
    assert!(mesh.take_file_commands().contains(&(0, removed)));
    end(&mut mesh, 3000, ServeEnd::Changed);
    assert_eq!(deliveries(&mesh, 1), [("failed".to_owned(), Some("FILE_CHANGED".to_owned()))]);
    let last = mesh.lines(0, "transfer").pop().expect("an event")["code"].clone();
    assert_eq!(last, "FILE_CHANGED");
    assert!(mesh.lines(0, "message").is_empty());
    // The next file of the same agent arrives.
    send(&mut mesh, 1, 0, "next", (2, 10), json!({}));
    assert_eq!(fetches(&mut mesh, 0).pop().expect("a fetch").hash, hash(2));
}

#[test]
fn sender_of_wrong_bytes_is_rejected_and_loses_reputation() {
    let mut mesh = mesh(2);
    let fetch = offered(&mut mesh, 1, 5000);
    event(&mut mesh, 0, FileEvent::FetchFailed { token: fetch.token, fault: FetchFault::Wrong });
    mesh.advance(Duration::from_secs(31));
    assert_eq!(deliveries(&mesh, 1), [("rejected".to_owned(), Some("FILE_CHANGED".to_owned()))]);
    assert_eq!(count(&mesh, 0, Counter::FileTransfersFailed), 1);
    assert!(mesh.lines(0, "message").is_empty());
}

#[test]
fn failing_disk_is_a_typed_error_and_the_file_comes_later() {
    let mut mesh = mesh(2);
    let fetch = offered(&mut mesh, 1, 5000);
    request(&mut mesh, 0, hash(1));
    let fault = FetchFault::Disk("No space left on device".to_owned());
    event(&mut mesh, 0, FileEvent::FetchFailed { token: fetch.token, fault });
    end(&mut mesh, 1000, ServeEnd::Broken);
    let errors = mesh.lines(0, "error");
    assert_eq!(errors.last().expect("an error")["code"], "DISK_FULL");
    assert!(fetches(&mut mesh, 0).is_empty(), "the node does not try at once");
    mesh.advance(Duration::from_secs(65));
    assert_eq!(fetches(&mut mesh, 0).pop().expect("another fetch").partial, fetch.partial);
}

#[test]
fn invalid_files_are_refused_with_their_reason() {
    let mut mesh = mesh(2);
    for (id, more) in [
        ("relative", json!({"file": "a"})),
        ("gossip", json!({"route": "gossip"})),
        ("long", json!({"file": format!("/{}", "a".repeat(4096))})),
    ] {
        command(&mut mesh, 1, 0, id, more);
        let error = mesh.lines(1, "error").pop().expect("an error").clone();
        assert_eq!((&error["id"], &error["code"]), (&json!(id), &json!("INVALID_ARGUMENT")));
    }
    mesh.command(1, r#"{"type":"send","id":"topic","topic":"a","data":1,"file":"/tmp/a"}"#);
    assert_eq!(mesh.lines(1, "error").pop().expect("an error")["code"], "INVALID_ARGUMENT");
    for (fault, code) in [
        (HashFault::Unreadable("no such file".to_owned()), "FILE_UNAVAILABLE"),
        (HashFault::TooLarge(1 << 31), "FILE_TOO_LARGE"),
    ] {
        command(&mut mesh, 1, 0, code, json!({}));
        let number = hash_number(&mut mesh, 1);
        event(&mut mesh, 1, FileEvent::Hashed { number, outcome: Err(fault) });
        let error = mesh.lines(1, "error").pop().expect("an error").clone();
        assert_eq!((&error["id"], &error["code"]), (&json!(code), &json!(code)));
    }
}

#[test]
fn cancel_ends_a_send_whose_file_is_read_and_one_whose_file_is_offered() {
    let mut mesh = mesh(2);
    command(&mut mesh, 1, 0, "a", json!({}));
    let number = hash_number(&mut mesh, 1);
    mesh.command(1, r#"{"type":"cancel","id":"c","target":"a"}"#);
    assert_eq!(mesh.lines(1, "error").pop().expect("an error")["code"], "CANCELLED");
    let file = HashedFile { hash: hash(1), size: 1, name: String::new() };
    event(&mut mesh, 1, FileEvent::Hashed { number, outcome: Ok(file) });
    assert!(list(&mut mesh, 0, Vec::new()).is_empty());
    send(&mut mesh, 1, 0, "b", (1, 10), json!({}));
    mesh.command(1, r#"{"type":"cancel","id":"d","target":"b"}"#);
    assert_eq!(deliveries(&mesh, 1), [("failed".to_owned(), Some("CANCELLED".to_owned()))]);
    let cancelled = mesh.lines(1, "result").iter().filter(|line| line["cancelled"] == true).count();
    assert_eq!(cancelled, 2);
}

#[test]
fn shutdown_refuses_a_send_whose_file_is_read_after_the_drain() {
    let mut mesh = mesh(2);
    command(&mut mesh, 1, 0, "a", json!({}));
    mesh.command(1, r#"{"type":"shutdown","id":"s"}"#);
    mesh.advance(Duration::from_secs(6));
    let error = mesh.lines(1, "error").pop().expect("an error").clone();
    assert_eq!((&error["id"], &error["code"]), (&json!("a"), &json!("SHUTTING_DOWN")));
}
