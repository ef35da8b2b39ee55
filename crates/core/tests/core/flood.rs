//! Floods of frames on topics: what a node spends on them, and whom it blames.

use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_core::effect::Verdict;
use p2p_node_core::gate::address_scope::AddressScope;
use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::record::kad_key;
use serde_json::json;

use crate::forged::{admit, frame, record, topic};
use crate::mesh::{CONNECT, Mesh, START_MS, agent_key, node_key};

/// The node under test.
const NODE: usize = 1;
/// Spot checks of one neighbour at once.
const SPOT_CHECKS: usize = 8;
/// Burst of the frames of an author.
const BURST: u64 = 100;

fn mesh() -> Mesh {
    let mut mesh = Mesh::new(1);
    mesh.add_with(2, Role::Full, CONNECT, |config| config.limits_apply = true);
    mesh.command(NODE, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
    mesh.settle();
    mesh
}

fn count(mesh: &Mesh, counter: Counter) -> u64 {
    mesh.nodes[NODE].core.stats().get(counter)
}

/// Passes a message from a peer, and returns the verdict.
fn gossip_from(mesh: &mut Mesh, from: PeerId, data: Bytes) -> Verdict {
    // Higher than each token of the network, so that its verdict is the last one.
    let token = (1 << 40) + mesh.verdicts(NODE).len() as u64;
    mesh.input(NODE, Input::Gossip { token, from, topic: "jobs".to_owned(), data });
    *mesh.verdicts(NODE).last().expect("a verdict")
}

fn now_ms(mesh: &Mesh) -> u64 {
    mesh.clock_of(NODE).unix_ms
}

/// Returns a frame of an agent that was made now.
fn made_now(mesh: &Mesh, agent: u8, counter: u64) -> Bytes {
    let created = now_ms(mesh);
    frame(agent, topic(), counter, |body| body.created_at_ms = created)
}

fn corrupt(frame: &Bytes) -> Bytes {
    let mut forged = frame.to_vec();
    forged[0] ^= 1;
    forged.into()
}

/// Allows a node, which is then never banned, so that all its frames are read. Their author stays a stranger.
fn never_ban(mesh: &mut Mesh, peer: PeerId) {
    mesh.command(NODE, &json!({"type": "allow", "peerId": peer.to_string()}).to_string());
}

#[test]
fn frame_above_the_limit_of_its_author_costs_no_signature_and_blames_no_relay() {
    let mut mesh = mesh();
    let relay = node_key(50).peer_id();
    let good = |counter| frame(3, topic(), counter, |_| {});
    for counter in 1..=BURST {
        assert_eq!(gossip_from(&mut mesh, relay, good(counter)), Verdict::Accept, "{counter}");
    }
    let above = (0..200).map(|number| gossip_from(&mut mesh, relay, good(BURST + 1 + number)));
    assert!(above.into_iter().all(|verdict| verdict == Verdict::Ignore));
    assert_eq!((count(&mesh, Counter::FramesOverLimit), count(&mesh, Counter::PeersBanned)), (200, 0));
    // The node verifies a few of them, to find forgers, and no more.
    let forger = node_key(51).peer_id();
    never_ban(&mut mesh, forger);
    let forged = |number: u64| corrupt(&good(1_000 + number));
    let verdicts: Vec<_> = (0..100).map(|number| gossip_from(&mut mesh, forger, forged(number))).collect();
    let rejected = verdicts.iter().filter(|verdict| **verdict == Verdict::Reject).count();
    assert_eq!(rejected, SPOT_CHECKS);
}

#[test]
fn forger_does_not_use_up_the_limit_of_the_author_that_it_names() {
    let mut mesh = mesh();
    let (forger, relay) = (node_key(50).peer_id(), node_key(51).peer_id());
    never_ban(&mut mesh, forger);
    for counter in 1..=2 * BURST {
        let forged = corrupt(&frame(3, topic(), counter, |_| {}));
        assert_eq!(gossip_from(&mut mesh, forger, forged), Verdict::Reject);
    }
    for counter in 1..=BURST {
        let verdict = gossip_from(&mut mesh, relay, frame(3, topic(), counter, |_| {}));
        assert_eq!(verdict, Verdict::Accept, "{counter}");
    }
}

#[test]
fn forged_frame_is_rejected_although_it_is_old_or_a_replay_or_names_this_node() {
    let mut mesh = mesh();
    let (relay, forger) = (node_key(50).peer_id(), node_key(51).peer_id());
    let replayed = frame(3, topic(), 1, |_| {});
    assert_eq!(gossip_from(&mut mesh, relay, replayed.clone()), Verdict::Accept);
    let frames = [
        replayed,
        frame(3, topic(), 2, |body| body.created_at_ms = START_MS - 600_000),
        frame(3, topic(), 3, |body| body.created_at_ms = u64::MAX),
        frame(2, topic(), 4, |_| {}),
    ];
    for (index, good) in frames.into_iter().enumerate() {
        assert_eq!(gossip_from(&mut mesh, relay, good.clone()), Verdict::Ignore, "{index}");
        assert_eq!(gossip_from(&mut mesh, forger, corrupt(&good)), Verdict::Reject, "{index}");
    }
    assert_eq!(count(&mesh, Counter::PeersBanned), 1, "four forged frames ban the forger, and it alone");
    let late = corrupt(&frame(3, topic(), 5, |_| {}));
    assert_eq!(gossip_from(&mut mesh, forger, late), Verdict::Ignore, "what a banned node sent is not read");
    assert_eq!((count(&mesh, Counter::FramesForged), count(&mesh, Counter::DataNotAdmitted)), (4, 1));
}

#[test]
fn neighbour_that_floods_with_its_own_frames_is_banned_within_five_seconds_and_its_relays_never() {
    let mut mesh = mesh();
    let (spammer, relay) = (node_key(3).peer_id(), node_key(50).peer_id());
    let mut counter = 0;
    for _ in 0..1_000 {
        counter += 1;
        let data = made_now(&mesh, 3, counter);
        gossip_from(&mut mesh, relay, data.clone());
        mesh.advance(Duration::from_millis(5));
    }
    assert_eq!(count(&mesh, Counter::PeersBanned), 0);
    assert_eq!(admit(&mut mesh, NODE, 3), spammer);
    let began = now_ms(&mesh);
    while count(&mesh, Counter::PeersBanned) == 0 {
        assert!(now_ms(&mesh) < began + 5_000, "the spammer is not banned");
        counter += 1;
        let data = made_now(&mesh, 3, counter);
        gossip_from(&mut mesh, spammer, data);
        mesh.advance(Duration::from_millis(5));
    }
    let banned = mesh.lines(NODE, "peer_banned");
    assert_eq!(banned[0]["reason"], "message_rate_exceeded", "{banned:?}");
    assert_eq!(banned[0]["peerId"], spammer.to_string(), "{banned:?}");
}

#[test]
fn peer_that_floods_a_server_with_records_is_banned() {
    let mut mesh = mesh();
    let node = node_key(3);
    let (peer, value) = (admit(&mut mesh, NODE, 3), record(3, 0, START_MS, &node));
    let key = Bytes::copy_from_slice(&kad_key("dev", &agent_key(3).address()));
    for _ in 0..1_000 {
        mesh.input(NODE, Input::RecordOffered { peer, key: key.clone(), value: value.clone() });
        mesh.advance(Duration::from_millis(5));
    }
    let banned = mesh.lines(NODE, "peer_banned");
    assert_eq!(banned[0]["reason"], "message_rate_exceeded", "{banned:?}");
    assert_eq!(banned[0]["peerId"], peer.to_string(), "{banned:?}");
}

#[test]
fn frame_that_waits_for_the_check_of_its_binding_counts_once() {
    let mut mesh = mesh();
    let relay = node_key(50).peer_id();
    let fill = |mesh: &mut Mesh, first: u64, number: u64| {
        let frames = (first..first + number).map(|counter| frame(3, topic(), counter, |_| {}));
        frames
            .map(|data| gossip_from(mesh, relay, data))
            .filter(|verdict| *verdict == Verdict::Accept)
            .count()
    };
    // The binding of the first frame is not checked yet.
    assert_eq!(fill(&mut mesh, 1, 1), 1);
    let bytes = |mesh: &Mesh| {
        let usage = mesh.nodes[NODE].core.usage();
        usage.into_iter().find(|usage| usage.name == "bytes of recent gossip").map(|usage| usage.size)
    };
    let of_first = bytes(&mesh).expect("a size");
    assert_eq!(fill(&mut mesh, 2, 1), 1);
    assert_eq!(bytes(&mesh), Some(2 * of_first));
}

#[test]
fn node_that_its_subscribers_allow_keeps_to_the_limits_of_one_that_does_not() {
    let mut mesh = mesh();
    let sender = mesh.add_with(3, Role::Full, CONNECT, |config| config.limits_apply = true);
    let friend = mesh.add_with(4, Role::Full, CONNECT, |config| config.limits_apply = true);
    for node in [sender, friend] {
        mesh.command(node, r#"{"type":"subscribe","topic":"jobs"}"#);
        mesh.connect(node, 0);
    }
    mesh.connect(sender, NODE);
    mesh.connect(sender, friend);
    for (one, other) in [(sender, friend), (friend, sender)] {
        let peer = mesh.nodes[other].address.clone();
        mesh.command(one, &json!({"type": "allow", "peerId": peer}).to_string());
    }
    mesh.advance(Duration::from_secs(2));
    for number in 0..4_000_u64 {
        mesh.command(sender, &json!({"type": "send", "topic": "jobs", "data": number}).to_string());
        mesh.advance(Duration::from_millis(5));
    }
    mesh.advance(Duration::from_secs(2));
    assert_eq!(mesh.received(friend).len(), 4_000, "the friend gets everything");
    let over = [Counter::FramesOverLimit, Counter::PeersBanned];
    assert_eq!(over.map(|counter| count(&mesh, counter)), [0; 2], "the stranger has nothing to blame");
    assert!(mesh.lines(NODE, "peer_banned").is_empty());
}

fn faults(mesh: &Mesh, node: usize) -> usize {
    let usage = mesh.nodes[node].core.usage();
    usage.into_iter().find(|usage| usage.name == "nodes with faults").expect("the row").size
}

fn allow(mesh: &mut Mesh, node: usize, other: usize) {
    let peer = mesh.nodes[other].address.clone();
    mesh.command(node, &json!({"type": "allow", "peerId": peer}).to_string());
}

/// Broadcasts so many messages, one each time.
fn broadcast(mesh: &mut Mesh, node: usize, messages: u64, each: Duration) {
    for number in 0..messages {
        mesh.command(node, &json!({"type": "send", "topic": "jobs", "data": number}).to_string());
        mesh.advance(each);
    }
}

#[test]
fn sender_that_a_subscriber_does_not_allow_is_never_to_blame() {
    // The sender allows the subscriber; the sender has no limits.
    for limits_apply in [true, false] {
        let mut mesh = mesh();
        let sender = mesh.add_with(3, Role::Full, CONNECT, |config| {
            (config.limits_apply, config.scope) = (limits_apply, AddressScope::Private);
        });
        mesh.connect(sender, NODE);
        if limits_apply {
            allow(&mut mesh, sender, NODE);
        }
        mesh.advance(Duration::from_secs(2));
        broadcast(&mut mesh, sender, 6_000, Duration::from_millis(10));
        assert_eq!((faults(&mesh, NODE), count(&mesh, Counter::PeersBanned)), (0, 0), "{limits_apply}");
        let (received, dropped) =
            (mesh.received(NODE).len() as u64, count(&mesh, Counter::BroadcastsOverLimit));
        assert!(received >= 100 && dropped >= 5_000, "{received} received, {dropped} above the limit");
    }
}

#[test]
fn stranger_that_subscribes_in_the_middle_of_a_fast_stream_has_nothing_to_blame() {
    let mut mesh = Mesh::new(1);
    let [sender, friend, stranger] = [2, 3, 4]
        .map(|number| mesh.add_with(number, Role::Full, CONNECT, |config| config.limits_apply = true));
    allow(&mut mesh, sender, friend);
    allow(&mut mesh, friend, sender);
    mesh.command(friend, r#"{"type":"subscribe","topic":"jobs"}"#);
    mesh.connect(sender, friend);
    mesh.connect(sender, stranger);
    mesh.advance(Duration::from_secs(2));
    broadcast(&mut mesh, sender, 2_000, Duration::from_millis(5));
    mesh.command(stranger, r#"{"type":"subscribe","topic":"jobs"}"#);
    broadcast(&mut mesh, sender, 2_000, Duration::from_millis(5));
    mesh.advance(Duration::from_secs(2));
    assert_eq!((faults(&mesh, stranger), faults(&mesh, friend)), (0, 0));
    assert_eq!(mesh.received(friend).len(), 4_000, "the friend gets everything");
    assert!(!mesh.received(stranger).is_empty());
}

/// Both checks of own frames fail then, but what comes at once counts once.
#[test]
fn stall_in_which_the_clock_of_the_sender_jumps_back_ends_in_no_ban() {
    let mut mesh = mesh();
    let sender = admit(&mut mesh, NODE, 3);
    mesh.advance(Duration::from_secs(600));
    let now = now_ms(&mesh);
    for number in 0..4_000_u64 {
        let sent = now - 240_000 + number * 57;
        let created = if sent > now - 120_000 { sent - 60_000 } else { sent };
        let data = frame(3, topic(), number + 1, |body| body.created_at_ms = created);
        gossip_from(&mut mesh, sender, data);
    }
    assert_eq!((faults(&mesh, NODE), count(&mesh, Counter::PeersBanned)), (1, 0));
}
