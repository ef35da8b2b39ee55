use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use alloy::primitives::Address;
use libp2p::PeerId;
use p2p_node_core::source::LocalNode;

use super::*;

/// A rendezvous directory and the nodes in it.
struct Meeting {
    _home: tempfile::TempDir,
    path: PathBuf,
}

impl Meeting {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let path = Place::At(home.path().to_owned()).directory("dev", "").expect("made").expect("on");
        Meeting { _home: home, path }
    }

    fn join(&self, agent: u8) -> (Directory, LocalNode) {
        let mut directory = Directory::new(self.path.clone());
        let node = node(agent);
        directory.execute(vec![SourceCommand::PublishLocalNode(node.clone())]);
        (directory, node)
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.path).expect("a directory");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }
}

fn node(agent: u8) -> LocalNode {
    let addr = format!("/ip4/127.0.0.1/tcp/{}", 1000 + u16::from(agent));
    LocalNode {
        agent: Address::repeat_byte(agent),
        peer: PeerId::random(),
        addrs: vec![addr.parse().expect("an address")],
    }
}

fn nodes(events: Vec<SourceEvent>) -> Vec<LocalNode> {
    let nodes = |event| match event {
        SourceEvent::LocalNodes(nodes) => nodes,
        _ => Vec::new(),
    };
    events.into_iter().flat_map(nodes).collect()
}

fn find(directory: &mut Directory, agent: u8) -> Vec<LocalNode> {
    let agent = Address::repeat_byte(agent);
    nodes(directory.execute(vec![SourceCommand::FindLocalAgent { agent, max: 4 }]))
}

fn sample(directory: &mut Directory, seed: u64, max: usize) -> Vec<LocalNode> {
    nodes(directory.execute(vec![SourceCommand::SampleLocalNodes { seed, max }]))
}

#[test]
fn node_finds_another_by_agent_until_the_other_ends() {
    let meeting = Meeting::new();
    let (mut alice, _) = meeting.join(1);
    let (mut bob, published) = meeting.join(2);
    assert_eq!(find(&mut alice, 2), [published]);
    assert!(find(&mut alice, 1).is_empty() && find(&mut alice, 3).is_empty());
    for file in meeting.files() {
        assert_eq!(fs::metadata(file).expect("a file").permissions().mode() & 0o777, 0o600);
    }
    bob.withdraw();
    assert!(find(&mut alice, 2).is_empty());
    assert_eq!(meeting.files().len(), 1);
}

#[test]
fn file_without_a_lock_is_stale_and_removed() {
    let meeting = Meeting::new();
    let (mut alice, _) = meeting.join(1);
    let (bob, _) = meeting.join(2);
    // As after a crash: the lock is gone and the file is not.
    drop(bob);
    assert_eq!(meeting.files().len(), 2);
    assert!(sample(&mut alice, 1, 8).is_empty());
    assert_eq!(meeting.files().len(), 1);
}

#[test]
fn changed_addresses_replace_the_file_and_no_addresses_remove_it() {
    let meeting = Meeting::new();
    let (mut alice, _) = meeting.join(1);
    let (mut bob, mut published) = meeting.join(2);
    published.addrs = vec!["/ip4/127.0.0.1/tcp/9".parse().expect("an address")];
    bob.execute(vec![SourceCommand::PublishLocalNode(published.clone())]);
    assert_eq!(find(&mut alice, 2), [published.clone()]);
    published.addrs.clear();
    bob.execute(vec![SourceCommand::PublishLocalNode(published)]);
    assert_eq!(meeting.files().len(), 1);
}

#[test]
fn deleted_file_is_written_again_with_the_next_sample() {
    let meeting = Meeting::new();
    let (mut alice, _) = meeting.join(1);
    fs::remove_file(&meeting.files()[0]).expect("removed");
    sample(&mut alice, 1, 8);
    assert_eq!(meeting.files().len(), 1);
}

#[test]
fn links_large_files_pipes_and_other_texts_are_ignored() {
    let meeting = Meeting::new();
    let (mut alice, _) = meeting.join(1);
    let name = |agent: u8| format!("{:#x}.{}", Address::repeat_byte(agent), PeerId::random());
    let elsewhere = tempfile::tempdir().expect("a directory");
    let held = |path: PathBuf, text: String| {
        fs::write(&path, text).expect("written");
        let file = fs::File::open(path).expect("opened");
        file.lock().expect("locked");
        file
    };
    let valid = "p2p-node rendezvous 1\n/ip4/127.0.0.1/tcp/9\n";
    let target = elsewhere.path().join("file");
    let mut files = vec![held(target.clone(), valid.to_owned())];
    symlink(&target, meeting.path.join(name(2))).expect("linked");
    let padding = "x".repeat(MAX_FILE_BYTES as usize);
    files.push(held(meeting.path.join(name(3)), format!("{valid}{padding}")));
    files.push(held(meeting.path.join(name(4)), "p2p-node rendezvous 2\n/ip4/127.0.0.1/tcp/9\n".to_owned()));
    files.push(held(meeting.path.join(name(5)), "p2p-node rendezvous 1\nnonsense\n".to_owned()));
    let pipe = meeting.path.join(name(6));
    let status = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(status.success());
    files.push(held(meeting.path.join(name(7)), valid.to_owned()));
    let found: Vec<_> = (2..=7).flat_map(|agent| find(&mut alice, agent)).map(|node| node.agent).collect();
    assert_eq!(found, [Address::repeat_byte(7)], "only the last one is valid");
    assert!(target.exists() && meeting.files().len() == 7, "nothing is removed");
    drop(files);
}

#[test]
fn sample_is_a_random_choice_of_other_nodes() {
    let meeting = Meeting::new();
    let others: Vec<_> = (2..=40).map(|agent| meeting.join(agent)).collect();
    let (mut alice, own) = meeting.join(1);
    let mut seen = std::collections::HashSet::new();
    for seed in 0..40 {
        let chosen = sample(&mut alice, seed, 8);
        let peers: std::collections::HashSet<_> = chosen.iter().map(|node| node.peer).collect();
        assert_eq!(peers.len(), 8);
        assert!(!peers.contains(&own.peer));
        seen.extend(peers);
    }
    assert!(seen.len() > others.len() / 2, "{} of {}", seen.len(), others.len());
}

#[test]
fn stale_temporary_file_is_removed() {
    let meeting = Meeting::new();
    let (mut alice, _) = meeting.join(1);
    fs::write(meeting.path.join(".0x"), "").expect("written");
    sample(&mut alice, 1, 8);
    assert_eq!(meeting.files().len(), 1);
}

#[tokio::test]
async fn new_file_of_another_node_is_reported() {
    let home = tempfile::tempdir().expect("a directory");
    fs::set_permissions(home.path(), Permissions::from_mode(0o700)).expect("set");
    let place = Place::At(home.path().to_owned());
    let mut alice = Rendezvous::open(&place, "dev", "").expect("opened").expect("on");
    let mut bob = Rendezvous::open(&place, "dev", "").expect("opened").expect("on");
    bob.execute(SourceCommand::PublishLocalNode(node(2)));
    assert!(tokio::select! {
        report = alice.next() => report == SourceEvent::LocalAgentsAdded(vec![Address::repeat_byte(2)]),
        never = async { loop { bob.next().await; } } => never,
    });
    bob.close().await;
    alice.execute(SourceCommand::FindLocalAgent { agent: Address::repeat_byte(2), max: 1 });
    alice.close().await;
}
