//! Encryption: only the recipient can read a message, even if frames are lost.

use std::time::Duration;

use p2p_node_core::input::{Input, Token};
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::{Frame, Payload};
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::seal::kem::Keyring;
use p2p_node_wire::seal::suite::Suite;
use p2p_node_wire::time::{Instant, Now};

use crate::forged::record;
use crate::mesh::{CONNECT, FaultDecision, Mesh, START_MS, node_key};

const HOUR: Duration = Duration::from_secs(3600);

fn count(mesh: &Mesh, node: usize, counter: Counter) -> u64 {
    mesh.nodes[node].core.stats().get(counter)
}

/// Returns a mesh of a server and two connected agents that know each other.
fn pair() -> Mesh {
    let mut mesh = Mesh::new(3);
    mesh.connect(1, 0);
    mesh.connect(2, 0);
    mesh.connect(1, 2);
    mesh
}

fn send_and_wait(mesh: &mut Mesh, data: u64) {
    mesh.send(1, 2, data, "");
    mesh.settle();
    mesh.advance(Duration::from_millis(10));
    assert_eq!(mesh.received(2).last(), Some(&data));
}

#[test]
fn connection_uses_one_session_and_no_frame_is_readable() {
    let mut mesh = pair();
    for data in 123_456_000..123_456_100 {
        send_and_wait(&mut mesh, data);
    }
    assert_eq!(count(&mesh, 1, Counter::MailEncrypted), 1);
    let frames: Vec<_> = mesh.frames.iter().filter(|(to, _, _)| *to == 2).collect();
    assert_eq!(frames.len(), 100);
    for (number, (_, from, bytes)) in frames.into_iter().enumerate() {
        assert!(!bytes.windows(6).any(|bytes| bytes == b"123456"), "frame {number}");
        let frame = Frame::decode_direct(bytes, from).unwrap();
        let (sealed, ciphertext) = match frame.body.payload.unwrap() {
            Payload::Sealed(sealed) => (true, sealed.ciphertext),
            Payload::Session(session) => (false, session.ciphertext),
            Payload::Plain(_) => panic!("frame {number} is plain"),
        };
        assert_eq!((sealed, ciphertext.len()), (number == 0, 256 + 16), "frame {number}");
    }
    // The other direction has its own session.
    mesh.send(2, 1, 1, "");
    mesh.settle();
    assert_eq!((mesh.received(1), count(&mesh, 2, Counter::MailEncrypted)), (vec![1], 1));
    assert_eq!(count(&mesh, 2, Counter::FramesKemUnknown), 0);
}

#[test]
fn aes_encrypts_only_between_processors_that_prefer_it() {
    let (chacha, aes) = (Suite::ChaCha20Poly1305, Suite::Aes256Gcm);
    for (sender, recipient, used) in [(aes, aes, aes), (aes, chacha, chacha), (chacha, aes, chacha)] {
        let mut mesh = Mesh::new(1);
        let from = mesh.add_with(2, Role::Full, CONNECT, |config| config.suite = sender);
        let to = mesh.add_with(3, Role::Full, CONNECT, |config| config.suite = recipient);
        mesh.connect(from, 0);
        mesh.connect(to, 0);
        mesh.connect(from, to);
        for data in 1..=2 {
            mesh.send(from, to, data, "");
            mesh.settle();
            mesh.advance(Duration::from_millis(10));
        }
        assert_eq!(mesh.received(to), [1, 2]);
        let (_, peer, frame) = mesh.frames.iter().find(|(node, _, _)| *node == to).unwrap();
        let Payload::Sealed(sealed) = Frame::decode_direct(frame, peer).unwrap().body.payload.unwrap() else {
            panic!("the first frame begins a session");
        };
        assert_eq!(Suite::from_number(sealed.suite), Some(used), "{sender:?} to {recipient:?}");
    }
}

#[test]
fn session_is_replaced_after_10_minutes_without_delay() {
    let mut mesh = pair();
    send_and_wait(&mut mesh, 0);
    mesh.advance(Duration::from_secs(599));
    send_and_wait(&mut mesh, 1);
    assert_eq!(count(&mesh, 1, Counter::MailEncrypted), 1);
    mesh.advance(Duration::from_secs(2));
    for data in 2..20 {
        send_and_wait(&mut mesh, data);
    }
    assert_eq!(count(&mesh, 1, Counter::MailEncrypted), 2);
}

#[test]
fn messages_are_delivered_while_kem_keys_rotate() {
    let mut mesh = pair();
    for day in 0..9 {
        send_and_wait(&mut mesh, day);
        mesh.advance(24 * HOUR);
        mesh.settle();
    }
    mesh.advance(Duration::from_secs(5));
    assert_eq!(mesh.received(2), (0..9).collect::<Vec<_>>());
    assert_eq!(
        count(&mesh, 2, Counter::FramesKemUnknown),
        0,
        "a new record is announced before its old KEM key expires"
    );
}

#[test]
fn gossip_mail_is_sealed_per_frame_and_opened_by_its_recipient_alone() {
    let mut mesh = Mesh::new(4);
    for agent in 1..4 {
        mesh.connect(agent, 0);
    }
    for data in 0..5 {
        mesh.send(1, 2, data, r#","route":"gossip""#);
        mesh.advance(Duration::from_millis(100));
    }
    mesh.advance(Duration::from_secs(2));
    assert_eq!((mesh.received(2), mesh.received(3)), ((0..5).collect(), vec![]));
    assert_eq!(count(&mesh, 1, Counter::MailEncrypted), 5);
    assert_eq!(mesh.lines(1, "delivery").len(), 5);
}

#[test]
fn recipient_that_lost_session_or_kem_key_gets_a_new_session_at_once() {
    let mut mesh = pair();
    send_and_wait(&mut mesh, 0);
    // Only the recipient sees the end of the connection.
    let peer = mesh.nodes[1].peer;
    mesh.input(2, Input::Disconnected { peer, reason: None });
    mesh.input(2, Input::Connected { peer, dialer: false });
    send_and_wait(&mut mesh, 1);
    assert_eq!((count(&mesh, 2, Counter::FramesKemUnknown), count(&mesh, 1, Counter::MailEncrypted)), (1, 2));

    // Another process of the same identity has neither the session nor the KEM key. The sender learns
    // the new key by the admission.
    mesh.kill(2);
    let again = mesh.add_with(3, Role::Full, CONNECT, |config| config.kem_seed = [99; 32].into());
    mesh.faults = Box::new(move |node, input| match input {
        Input::Gossip { topic, .. } if node == 1 && topic == "agent-announcements" => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    mesh.connect(1, again);
    mesh.send(1, again, 2, "");
    mesh.advance(Duration::from_millis(10));
    assert_eq!(mesh.received(again), [2], "within one round trip");
    assert_eq!(count(&mesh, again, Counter::FramesKemUnknown), 0);
}

#[test]
fn mail_for_a_key_that_the_recipient_does_not_have_is_sealed_again_at_once() {
    const FORGED: Token = 900;
    let mut mesh = pair();
    let (relayer, key) = (mesh.nodes[0].peer, node_key(3));
    // The sender learns of another key of the recipient, and not of the record with which this one answers.
    let known = record(3, 0, mesh.clock().unix_ms + 5_000, &key);
    let mut other = SignedRecord::decode(known).unwrap().record;
    let started = Now { mono: Instant::ZERO, unix_ms: START_MS };
    other.kem = Keyring::new([99; 32], Suite::default(), started).current();
    mesh.faults = Box::new(|node, input| match input {
        Input::Gossip { token, .. } if node == 1 && *token != FORGED => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    let (topic, data) = ("agent-announcements".to_owned(), other.sign(&key).unwrap());
    mesh.input(1, Input::Gossip { token: FORGED, from: relayer, topic, data });
    mesh.settle();
    send_and_wait(&mut mesh, 1);
    let refused = (count(&mesh, 2, Counter::FramesKemUnknown), count(&mesh, 1, Counter::MailKemUnknown));
    assert_eq!((refused, count(&mesh, 1, Counter::MailEncrypted)), ((1, 1), 2));
}

#[test]
fn full_crypto_pool_delays_messages_and_loses_none() {
    let mut mesh = pair();
    mesh.crypto = false;
    for data in 0..10 {
        mesh.send(1, 2, data, "");
    }
    mesh.advance(Duration::from_secs(3));
    assert_eq!(mesh.received(2), [0; 0]);
    assert!(count(&mesh, 1, Counter::CryptoPoolFull) > 0);
    mesh.crypto = true;
    mesh.advance(Duration::from_secs(30));
    assert_eq!(mesh.received(2), (0..10).collect::<Vec<_>>());
    assert_eq!(mesh.lines(1, "delivery").len(), 10);
}
