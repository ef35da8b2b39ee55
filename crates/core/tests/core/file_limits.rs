//! Limits of files: their number, their size, the room on disk, and strangers.

use std::time::Duration;

use p2p_node_core::file_io::{FileCommand, FileEvent, StoredFile};
use p2p_node_core::mail::inbound::files::{FileLimits, STRANGER_FILE_BYTES};
use p2p_node_protocol::{Counter, Role};
use serde_json::{Value, json};

use crate::files::{Fetch, command, event, fetches, hash, list, mesh, send};
use crate::mesh::{CONNECT, Mesh};

/// Returns a mesh whose node 0 has these limits and whose other nodes are connected to it.
fn limited(number: u8, limits: FileLimits, manual_ack: bool) -> Mesh {
    let mut mesh = Mesh::new(0);
    mesh.add_with(1, Role::Bootstrap, CONNECT, |config| {
        (config.files, config.manual_ack, config.limits_apply) = (limits, manual_ack, true);
    });
    for other in 1..usize::from(number) {
        mesh.add(other as u8 + 1, Role::Full);
        mesh.connect(other, 0);
    }
    mesh.advance(Duration::from_secs(2));
    for other in 1..usize::from(number) {
        let line = json!({"type": "allow", "peerId": mesh.nodes[other].address});
        mesh.command(0, &line.to_string());
    }
    mesh
}

fn limits(quota_bytes: u64) -> FileLimits {
    FileLimits { has_directory: true, max_bytes: 1 << 30, quota_bytes }
}

fn ends(mesh: &Mesh, node: usize) -> Vec<Value> {
    mesh.lines(node, "delivery").iter().map(|line| line["code"].clone()).collect()
}

/// Completes a fetch of node 0, whose sender then offers the message again.
fn complete(mesh: &mut Mesh, fetch: &Fetch) {
    let path = format!("/received/{}", fetch.name);
    event(mesh, 0, FileEvent::Fetched { token: fetch.token, path });
    mesh.take_file_commands();
    mesh.advance(Duration::from_secs(31));
}

fn stored(fetches: &[&Fetch], bytes: u64) -> Vec<StoredFile> {
    fetches.iter().map(|fetch| StoredFile { name: fetch.name.clone(), bytes }).collect()
}

#[test]
fn node_without_a_directory_refuses_files_and_takes_messages() {
    let mut mesh = limited(2, FileLimits { has_directory: false, ..limits(1 << 30) }, false);
    send(&mut mesh, 1, 0, "a", (1, 10), json!({}));
    mesh.send(1, 0, 1, "");
    mesh.settle();
    assert_eq!(ends(&mesh, 1), [json!("FILES_REFUSED"), json!(null)]);
    assert_eq!(mesh.received(0), [1]);
    assert_eq!(mesh.nodes[0].core.stats().get(Counter::MailRefused), 1);
}

#[test]
fn file_that_is_too_large_for_the_recipient_is_rejected_at_once() {
    let few = FileLimits { max_bytes: 100, ..limits(1 << 30) };
    let mut mesh = limited(2, few, false);
    send(&mut mesh, 1, 0, "a", (1, 101), json!({}));
    mesh.settle();
    assert_eq!(ends(&mesh, 1), [json!("FILE_TOO_LARGE")]);
    send(&mut mesh, 1, 0, "b", (1, 100), json!({}));
    assert_eq!(list(&mut mesh, 0, Vec::new()).len(), 1);
}

#[test]
fn strangers_send_small_files_only_and_use_an_eighth_of_the_room() {
    let mut mesh = Mesh::new(0);
    let quota = 10 * STRANGER_FILE_BYTES;
    mesh.add_with(1, Role::Bootstrap, CONNECT, |config| {
        (config.files, config.limits_apply) = (limits(quota), true);
    });
    for other in 1..4 {
        mesh.add(other as u8 + 1, Role::Full);
        mesh.connect(other, 0);
    }
    mesh.advance(Duration::from_secs(2));
    send(&mut mesh, 1, 0, "a", (1, STRANGER_FILE_BYTES + 1), json!({}));
    mesh.settle();
    assert_eq!(ends(&mesh, 1), [json!("FILE_TOO_LARGE")]);
    send(&mut mesh, 2, 0, "b", (2, STRANGER_FILE_BYTES), json!({}));
    assert_eq!(list(&mut mesh, 0, Vec::new()).len(), 1);
    send(&mut mesh, 3, 0, "c", (3, STRANGER_FILE_BYTES), json!({}));
    assert!(fetches(&mut mesh, 0).is_empty(), "the share of strangers is used up");
    let line = json!({"type": "allow", "peerId": mesh.nodes[3].address});
    mesh.command(0, &line.to_string());
    mesh.advance(Duration::from_secs(31));
    assert_eq!(fetches(&mut mesh, 0).len(), 1, "an allowed agent has the whole quota");
}

#[test]
fn file_waits_for_room_and_starts_when_a_program_has_deleted_one() {
    let mut mesh = limited(3, limits(1000), false);
    send(&mut mesh, 1, 0, "a", (1, 600), json!({}));
    let first = list(&mut mesh, 0, Vec::new()).pop().expect("a fetch");
    complete(&mut mesh, &first);
    assert_eq!(mesh.lines(0, "message").len(), 1);
    send(&mut mesh, 2, 0, "b", (2, 600), json!({}));
    mesh.advance(Duration::from_secs(11));
    assert!(list(&mut mesh, 0, stored(&[&first], 600)).is_empty());
    assert!(mesh.nodes[0].core.stats().get(Counter::FilesDeferred) > 0);
    let logs = mesh.lines(0, "log");
    assert!(logs.iter().any(|line| line["namespace"] == "files"), "the program learns why");
    mesh.advance(Duration::from_secs(11));
    assert_eq!(list(&mut mesh, 0, Vec::new()).len(), 1, "the program moved the file away");
}

#[test]
fn oldest_file_goes_for_a_new_one_after_an_hour_but_not_before_its_ack() {
    let mut mesh = limited(3, limits(1000), true);
    send(&mut mesh, 1, 0, "a", (1, 600), json!({}));
    let first = list(&mut mesh, 0, Vec::new()).pop().expect("a fetch");
    complete(&mut mesh, &first);
    let message_id = mesh.lines(0, "message")[0]["messageId"].clone();
    mesh.advance(Duration::from_secs(4000));
    send(&mut mesh, 2, 0, "b", (2, 600), json!({}));
    mesh.advance(Duration::from_secs(31));
    let _ = list(&mut mesh, 0, stored(&[&first], 600));
    assert!(fetches(&mut mesh, 0).is_empty(), "the first file waits for an ack");
    mesh.command(0, &json!({"type": "ack", "messageId": message_id}).to_string());
    mesh.advance(Duration::from_secs(31));
    let commands = mesh.take_file_commands();
    assert!(commands.contains(&(0, FileCommand::Remove { name: first.name.clone() })), "{commands:?}");
    let fetched = commands
        .iter()
        .any(|(_, command)| matches!(command, FileCommand::Fetch { hash: of, .. } if *of == hash(2)));
    assert!(fetched, "{commands:?}");
    assert_eq!(mesh.nodes[0].core.stats().get(Counter::FilesEvicted), 1);
}

#[test]
fn eight_files_are_fetched_at_the_same_time_and_the_next_one_when_one_has_ended() {
    let mut mesh = mesh(11);
    let mut active = Vec::new();
    for other in 1..11 {
        send(&mut mesh, other, 0, "a", (other as u8, 10), json!({}));
        active.extend(if other == 1 { list(&mut mesh, 0, Vec::new()) } else { fetches(&mut mesh, 0) });
    }
    assert_eq!(active.len(), 8);
    for usage in mesh.nodes[0].core.usage() {
        assert!(usage.size <= usage.limit, "{}: {} > {}", usage.name, usage.size, usage.limit);
    }
    let path = format!("/received/{}", active[0].name);
    event(&mut mesh, 0, FileEvent::Fetched { token: active[0].token, path });
    assert_eq!(fetches(&mut mesh, 0).len(), 1);
}

#[test]
fn sends_beyond_the_limit_of_files_to_read_are_busy() {
    let mut mesh = mesh(2);
    for number in 0..257 {
        command(&mut mesh, 1, 0, &number.to_string(), json!({}));
    }
    let errors = mesh.lines(1, "error");
    assert_eq!((errors.len(), &errors[0]["code"], &errors[0]["id"]), (1, &json!("BUSY"), &json!("256")));
}
