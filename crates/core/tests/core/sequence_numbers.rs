//! Sequence numbers that are used twice: by independent processes, or by one restored from a
//! snapshot.

use p2p_node_wire::message_id::StreamId;
use p2p_node_wire::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use p2p_node_core::CoreConfig;
use p2p_node_core::input::Input;
use p2p_node_core::mail::outbound::outbox::PersistedMessage;
use p2p_node_core::outgoing::OutgoingMessage;
use p2p_node_core::replies::reply_to::ReplyTo;
use p2p_node_protocol::{Counter, Priority, Role, Route};
use p2p_node_wire::envelope::{Encoding, Frame, MailResponse, Refused, Response};
use prost::Message as _;

use crate::forged::{frame, record, topic};
use crate::mesh::{CONNECT, FaultDecision, Mesh, START_MS, agent_key, node_key};

pub const SENDER: u8 = 3;
const RECIPIENT: u8 = 4;

/// Returns a mesh of a server, a sender with a store, and a recipient with this configuration; and
/// the indexes of sender and recipient.
pub fn fixture(recipient: impl FnOnce(&mut CoreConfig)) -> (Mesh, usize, usize) {
    let mut mesh = Mesh::new(1);
    let sender = mesh.add_with(SENDER, Role::Full, CONNECT, |config| config.durable = true);
    let to = mesh.add_with(RECIPIENT, Role::Full, CONNECT, recipient);
    for (one, other) in [(sender, 0), (to, 0), (sender, to)] {
        mesh.connect(one, other);
    }
    (mesh, sender, to)
}

pub fn manual_ack(config: &mut CoreConfig) {
    config.manual_ack = true;
}

pub fn send(mesh: &mut Mesh, from: usize, to: usize, data: u64) {
    mesh.send(from, to, data, &format!(r#","id":"m{data}""#));
    mesh.settle();
}

pub fn ack(mesh: &mut Mesh, node: usize, data: u64) {
    let message = mesh.lines(node, "message").into_iter().rfind(|line| line["data"] == data).unwrap();
    let id = message["messageId"].clone();
    mesh.command(node, &format!(r#"{{"type":"ack","messageId":{id}}}"#));
}

pub fn states(mesh: &Mesh, node: usize) -> Vec<&str> {
    mesh.lines(node, "delivery").iter().map(|line| line["state"].as_str().unwrap()).collect()
}

/// Returns the message id of each payload at the recipient's parent.
fn ids(mesh: &Mesh, node: usize) -> BTreeMap<u64, String> {
    let messages = mesh.lines(node, "message").into_iter();
    messages
        .map(|line| (line["data"].as_u64().unwrap(), line["messageId"].as_str().unwrap().to_owned()))
        .collect()
}

pub fn stat(mesh: &Mesh, node: usize, name: Counter) -> u64 {
    mesh.nodes[node].core.stats().get(name)
}

#[test]
fn message_after_two_restarts_is_delivered_while_earlier_ones_await_acks() {
    for durable in [false, true] {
        let (mut mesh, first, to) = fixture(|config| {
            manual_ack(config);
            config.durable = durable;
        });
        send(&mut mesh, first, to, 1);
        let second = mesh.restart(first, SENDER, &[0, to], |_| {});
        send(&mut mesh, second, to, 2);
        mesh.advance(Duration::from_secs(5));
        ack(&mut mesh, to, 2);
        mesh.advance(Duration::from_secs(5));
        assert_eq!(states(&mesh, second), ["delivered"], "{durable}");
        let third = mesh.restart(second, SENDER, &[0, to], |_| {});
        send(&mut mesh, third, to, 3);
        mesh.advance(Duration::from_secs(5));
        assert_eq!(mesh.received(to), [1, 2, 3], "{durable}");
        assert_eq!(states(&mesh, third), [""; 0], "{durable}: the parent has not acked message 3");
        for data in [3, 1] {
            ack(&mut mesh, to, data);
        }
        mesh.advance(Duration::from_secs(5));
        assert_eq!(states(&mesh, third), ["delivered"; 2], "{durable}");
        assert_eq!(ids(&mesh, to).len(), 3, "each message has its own id");
    }
}

#[test]
fn message_from_restored_store_copy_is_delivered() {
    let (mut mesh, first, to) = fixture(manual_ack);
    send(&mut mesh, first, to, 1);
    let copy = mesh.store(first).messages.clone();
    assert_eq!(copy.len(), 1);
    let second = mesh.restart(first, SENDER, &[0, to], |_| {});
    for data in 2..=4 {
        send(&mut mesh, second, to, data);
        mesh.advance(Duration::from_secs(1));
        ack(&mut mesh, to, data);
    }
    mesh.advance(Duration::from_secs(5));
    assert_eq!(states(&mesh, second), ["delivered"; 3]);
    mesh.store_mut(second).messages = copy;
    let third = mesh.restart(second, SENDER, &[0, to], |_| {});
    for data in 5..=7 {
        send(&mut mesh, third, to, data);
    }
    mesh.advance(Duration::from_secs(5));
    assert_eq!(mesh.received(to), (1..=7).collect::<Vec<_>>());
    assert_eq!(states(&mesh, third), [""; 0]);
    for data in [1, 5, 6, 7] {
        ack(&mut mesh, to, data);
    }
    mesh.advance(Duration::from_secs(5));
    assert_eq!(states(&mesh, third), ["delivered"; 4]);
}

/// Returns a persisted message of an earlier process on this stream.
fn persisted(stream: u8, seq: u64, position: u64) -> PersistedMessage {
    let data = Bytes::from(position.to_string());
    PersistedMessage {
        recipient: agent_key(RECIPIENT).address(),
        stream: StreamId([stream; 16]),
        seq,
        sent_as: None,
        position,
        expires_at_ms: START_MS + 3_600_000,
        draft: OutgoingMessage {
            data,
            encoding: Encoding::Json,
            kind: String::new(),
            priority: Priority::Medium,
            sent_at_ms: START_MS,
            asked_at: None,
            expires: Instant::ZERO,
            reply_to: String::new(),
            conversation: String::new(),
            hops: 0,
            trace: None,
            call: None,
            file: None,
            route: Route::Auto,
            command: ReplyTo::PARENT,
        },
    }
}

#[test]
fn restored_streams_are_sent_in_the_order_of_acceptance() {
    for manual in [false, true] {
        let (mut mesh, original, to) = fixture(|config| config.manual_ack = manual);
        mesh.kill(original);
        // Stream ids and sequence numbers do not give the order of acceptance.
        let rows = [(1, 3, 5), (5, 2, 3), (5, 4, 4), (9, 7, 1), (9, 9, 2)];
        let rows = rows.map(|(stream, seq, position)| persisted(stream, seq, position)).to_vec();
        let again = mesh.add_with(SENDER, Role::Full, CONNECT, |config| {
            config.durable = true;
            config.outbox = rows.clone();
        });
        send(&mut mesh, again, to, 6);
        assert_eq!(mesh.store(again).messages.values().map(|message| message.position).max(), Some(6));
        mesh.connect(again, 0);
        mesh.connect(again, to);
        mesh.advance(Duration::from_secs(10));
        assert_eq!(mesh.received(to), [1, 2, 3, 4, 5, 6], "{manual}");
        if manual {
            for data in 1..=6 {
                ack(&mut mesh, to, data);
            }
            mesh.advance(Duration::from_secs(5));
        }
        assert_eq!(states(&mesh, again), ["delivered"; 6], "{manual}");
    }
}

/// Starts the sender again with the memory of its start, although its peers have received frames
/// since: as from a snapshot of the machine.
fn restore_snapshot(mesh: &mut Mesh, sender: usize, to: usize, durable: bool) -> usize {
    mesh.kill(sender);
    let again = mesh.add_with(SENDER, Role::Full, CONNECT, |config| {
        (config.boot, config.database, config.durable) = (77, [77; 16], durable);
    });
    mesh.connect(again, 0);
    mesh.connect(again, to);
    again
}

#[test]
fn process_restored_from_snapshot_renumbers_its_messages() {
    let (mut mesh, original, to) = fixture(|_| {});
    let first = restore_snapshot(&mut mesh, original, to, true);
    for data in 1..=3 {
        send(&mut mesh, first, to, data);
    }
    mesh.advance(Duration::from_secs(2));
    assert_eq!(states(&mesh, first), ["delivered"; 3]);
    let second = restore_snapshot(&mut mesh, first, to, true);
    for data in 4..=6 {
        send(&mut mesh, second, to, data);
    }
    mesh.advance(Duration::from_secs(30));
    assert_eq!(mesh.received(to), (1..=6).collect::<Vec<_>>());
    assert_eq!(states(&mesh, second), ["delivered"; 3]);
    assert_eq!(stat(&mesh, second, Counter::FrameCountersReused), 1);
    let known = ids(&mesh, to);
    assert_eq!(known.values().collect::<std::collections::BTreeSet<_>>().len(), 6, "{known:?}");
    let accepted: BTreeMap<String, String> = mesh
        .lines(second, "result")
        .iter()
        .filter(|line| line["command"] == "send")
        .map(|line| (line["id"].as_str().unwrap().to_owned(), line["messageId"].as_str().unwrap().to_owned()))
        .collect();
    for delivery in mesh.lines(second, "delivery") {
        let id = delivery["requestId"].as_str().unwrap();
        assert_eq!(delivery["messageId"].as_str(), Some(accepted[id].as_str()), "the id that was answered");
        let data: u64 = id[1..].parse().unwrap();
        assert_eq!(delivery["deliveredAs"].as_str(), Some(known[&data].as_str()), "{delivery}");
    }
    assert!(mesh.store(second).messages.is_empty(), "the store has no row under either number");
    send(&mut mesh, second, to, 7);
    mesh.advance(Duration::from_secs(1));
    let last = mesh.lines(second, "delivery").last().copied().unwrap();
    assert!(
        last["state"] == "delivered" && last["deliveredAs"].is_null(),
        "new mail has new numbers: {last}"
    );
}

#[test]
fn restarted_recipient_detects_reused_sequence_numbers() {
    for manual in [false, true] {
        let (mut mesh, original, to) = fixture(|config| (config.durable, config.manual_ack) = (true, manual));
        let first = restore_snapshot(&mut mesh, original, to, true);
        for data in 1..=3 {
            send(&mut mesh, first, to, data);
        }
        mesh.advance(Duration::from_secs(2));
        if manual {
            // Message 1 awaits its ack when the recipient ends.
            ack(&mut mesh, to, 2);
            ack(&mut mesh, to, 3);
        }
        mesh.kill(first);
        mesh.advance(Duration::from_secs(2));
        // The new process has no replay window.
        let again = mesh.restart(to, RECIPIENT, &[0], |config| config.manual_ack = manual);
        let second = restore_snapshot(&mut mesh, first, again, true);
        for data in 4..=6 {
            send(&mut mesh, second, again, data);
        }
        mesh.advance(Duration::from_secs(30));
        assert_eq!(mesh.received(again), [4, 5, 6], "{manual}");
        assert_eq!(
            stat(&mesh, again, Counter::MailCollisions),
            1,
            "{manual}: one collision renumbers the whole stream"
        );
        let (before, after) = (ids(&mesh, to), ids(&mesh, again));
        assert!(after.values().all(|id| !before.values().any(|known| known == id)), "{before:?} {after:?}");
        if manual {
            assert_eq!(states(&mesh, second), [""; 0]);
            (4..=6).for_each(|data| ack(&mut mesh, again, data));
            mesh.advance(Duration::from_secs(2));
        }
        assert_eq!(states(&mesh, second), ["delivered"; 3], "{manual}");
    }
}

#[test]
fn renumbered_message_keeps_its_new_number_in_the_next_process() {
    let (mut mesh, original, to) = fixture(|config| (config.durable, config.manual_ack) = (true, true));
    let first = restore_snapshot(&mut mesh, original, to, true);
    send(&mut mesh, first, to, 1);
    mesh.advance(Duration::from_secs(2));
    mesh.kill(first);
    let again = mesh.restart(to, RECIPIENT, &[0], manual_ack);
    let second = restore_snapshot(&mut mesh, first, again, true);
    send(&mut mesh, second, again, 2);
    mesh.advance(Duration::from_secs(10));
    assert_eq!(mesh.received(again), [2]);
    let accepted = mesh.lines(second, "result").last().unwrap()["messageId"].clone();
    let third = mesh.restart(second, SENDER, &[0, again], |_| {});
    mesh.advance(Duration::from_secs(10));
    assert_eq!(mesh.received(again), [2], "the message is not delivered under a third number");
    let id = ids(&mesh, again)[&2].clone();
    ack(&mut mesh, again, 2);
    mesh.advance(Duration::from_secs(10));
    let delivery = mesh.lines(third, "delivery")[0];
    assert_eq!((&delivery["messageId"], delivery["deliveredAs"].as_str()), (&accepted, Some(id.as_str())));
    assert!(mesh.store(third).messages.is_empty());
}

#[test]
fn retransmitted_message_is_no_collision() {
    let (mut mesh, sender, to) = fixture(|_| {});
    mesh.faults = Box::new(|node, input| match input {
        Input::MailResponseReceived { .. } if node == 1 => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    send(&mut mesh, sender, to, 1);
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    mesh.fail_open_requests(sender);
    mesh.advance(Duration::from_secs(10));
    assert_eq!((mesh.received(to), states(&mesh, sender)), (vec![1], vec!["delivered"]));
    assert_eq!((stat(&mesh, to, Counter::MailDuplicates), stat(&mesh, to, Counter::MailCollisions)), (1, 0));
    assert!(mesh.lines(sender, "delivery")[0]["deliveredAs"].is_null());
}

/// Returns the boot ids of the frames that a sender has sent so far.
fn boots(mesh: &Mesh, sender: usize) -> Vec<u64> {
    let peer = mesh.nodes[sender].peer;
    let frames = mesh.frames.iter().filter(|(_, from, _)| *from == peer);
    let mut boots: Vec<u64> =
        frames.map(|(_, from, frame)| Frame::decode_direct(frame, from).unwrap().body.boot).collect();
    boots.dedup();
    boots
}

#[test]
fn peer_with_false_replay_refusals_causes_few_new_boot_ids() {
    let (mut mesh, sender, to) = fixture(|_| {});
    let refusal = MailResponse {
        response: Some(Response::Refused(Refused { code: "REPLAYED".to_owned(), ..Refused::default() })),
    };
    let refusal = Bytes::from(refusal.encode_to_vec());
    mesh.forged_responses = Box::new(move |node| (node == to).then(|| refusal.clone()));
    send(&mut mesh, sender, to, 1);
    mesh.advance(Duration::from_secs(15 * 60));
    let boots = boots(&mesh, sender).len();
    assert!((2..=5).contains(&boots), "{boots} boot ids in a quarter of an hour");
    mesh.forged_responses = Box::new(|_| None);
    mesh.advance(Duration::from_secs(90));
    assert_eq!((mesh.received(to), states(&mesh, sender)), (vec![1], vec!["delivered"]));
}

#[test]
fn record_of_another_process_with_own_seq_raises_the_seq() {
    let (mut mesh, sender, to) = fixture(|_| {});
    let own = |mesh: &Mesh| mesh.store(sender).highest_seen[&agent_key(SENDER).address()].seq;
    let before = own(&mesh);
    let twin = record(SENDER, 0, before, &node_key(SENDER));
    let from = mesh.nodes[to].peer;
    let gossip = Input::Gossip { token: 1, from, topic: "agent-announcements".to_owned(), data: twin };
    mesh.input(sender, gossip);
    mesh.advance(Duration::from_secs(5));
    assert!(own(&mesh) > before, "peers may have accepted the other record");
    assert_eq!(stat(&mesh, sender, Counter::OwnSeqRaised), 1);
    assert_eq!(mesh.lines(sender, "error").len(), 0);
}

#[test]
fn frame_with_own_boot_id_and_future_counter_reveals_a_copy() {
    let (mut mesh, original, to) = fixture(|_| {});
    let sender = restore_snapshot(&mut mesh, original, to, true);
    let from = mesh.nodes[to].peer;
    let gossip = |token, boot, key: u8| {
        let data = frame(key, topic(), 1000 + token, |body| body.boot = boot);
        Input::Gossip { token, from, topic: "jobs".to_owned(), data }
    };
    // Frames of peers and of earlier processes prove nothing.
    mesh.input(sender, gossip(1, 77, RECIPIENT));
    mesh.input(sender, gossip(2, 78, SENDER));
    assert_eq!(stat(&mesh, sender, Counter::FrameCountersReused), 0);
    mesh.input(sender, gossip(3, 77, SENDER));
    assert_eq!(stat(&mesh, sender, Counter::FrameCountersReused), 1);
    send(&mut mesh, sender, to, 1);
    assert!(!boots(&mesh, sender).contains(&77), "the node continues with another boot id");
}
