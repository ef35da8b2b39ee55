//! Encryption: only the recipient can read a message, even if frames are lost.

use std::time::Duration;

use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::{Frame, Payload, limits::MAX_FRAME_BYTES};

use crate::mesh::{CONNECT, FaultDecision, Mesh};

const HOUR: Duration = Duration::from_secs(3600);

fn count(mesh: &Mesh, node: usize, counter: Counter) -> u64 {
    mesh.nodes[node].core.stats().get(counter)
}

/// Two agents that are connected and know each other, beside a server.
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
    mesh.pass(Duration::from_millis(10));
    assert_eq!(mesh.received(2).last(), Some(&data));
}

#[test]
fn one_sealing_serves_a_connection_and_no_frame_can_be_read() {
    let mut mesh = pair();
    for data in 123_456_000..123_456_100 {
        send_and_wait(&mut mesh, data);
    }
    assert_eq!(count(&mesh, 1, Counter::MailSealed), 1);
    let frames: Vec<_> =
        mesh.frames.iter().filter(|(to, _, _)| *to == 2).map(|(_, _, frame)| frame).collect();
    assert_eq!(frames.len(), 100);
    for (number, bytes) in frames.into_iter().enumerate() {
        assert!(!bytes.windows(6).any(|bytes| bytes == b"123456"), "frame {number}");
        let frame = Frame::decode(bytes.clone(), MAX_FRAME_BYTES).unwrap();
        let (sealed, ciphertext) = match frame.body.payload.unwrap() {
            Payload::Sealed(sealed) => (true, sealed.ciphertext),
            Payload::Session(session) => (false, session.ciphertext),
            Payload::Plain(_) => panic!("frame {number} is plain"),
        };
        assert_eq!((sealed, ciphertext.len()), (number == 0, 256 + 16), "frame {number}");
    }
    // The other way has a session of its own, and another connection another one.
    mesh.send(2, 1, 1, "");
    mesh.settle();
    assert_eq!((mesh.received(1), count(&mesh, 2, Counter::MailSealed)), (vec![1], 1));
    assert_eq!(count(&mesh, 2, Counter::FramesKemUnknown), 0);
}

#[test]
fn a_session_is_followed_by_another_and_no_mail_waits_for_it() {
    let mut mesh = pair();
    send_and_wait(&mut mesh, 0);
    mesh.pass(Duration::from_secs(599));
    send_and_wait(&mut mesh, 1);
    assert_eq!(count(&mesh, 1, Counter::MailSealed), 1);
    mesh.pass(Duration::from_secs(2));
    for data in 2..20 {
        send_and_wait(&mut mesh, data);
    }
    assert_eq!(count(&mesh, 1, Counter::MailSealed), 2);
}

#[test]
fn mail_goes_on_while_keys_rotate() {
    let mut mesh = pair();
    for day in 0..9 {
        send_and_wait(&mut mesh, day);
        mesh.pass(24 * HOUR);
        mesh.settle();
    }
    mesh.pass(Duration::from_secs(5));
    assert_eq!(mesh.received(2), (0..9).collect::<Vec<_>>());
    assert_eq!(count(&mesh, 2, Counter::FramesKemUnknown), 0, "records are told before keys go");
}

#[test]
fn by_gossip_every_frame_is_sealed_and_only_its_recipient_opens_it() {
    let mut mesh = Mesh::new(4);
    for agent in 1..4 {
        mesh.connect(agent, 0);
    }
    for data in 0..5 {
        mesh.send(1, 2, data, r#","route":"gossip""#);
        mesh.pass(Duration::from_millis(100));
    }
    mesh.pass(Duration::from_secs(2));
    assert_eq!((mesh.received(2), mesh.received(3)), ((0..5).collect(), vec![]));
    assert_eq!(count(&mesh, 1, Counter::MailSealed), 5);
    assert_eq!(mesh.lines(1, "delivery").len(), 5);
}

#[test]
fn a_recipient_that_forgot_its_sessions_or_its_keys_is_sealed_to_anew_at_once() {
    let mut mesh = pair();
    send_and_wait(&mut mesh, 0);
    // The recipient alone sees an end of the connection.
    let peer = mesh.nodes[1].peer;
    mesh.input(2, Input::Disconnected { peer, reason: None });
    mesh.input(2, Input::Connected { peer, dialer: false });
    send_and_wait(&mut mesh, 1);
    assert_eq!((count(&mesh, 2, Counter::FramesKemUnknown), count(&mesh, 1, Counter::MailSealed)), (1, 2));

    // Another process of the same identity, of which the sender has not heard: it knows neither
    // session nor key.
    mesh.kill(2);
    let again = mesh.add_with(3, Role::Full, CONNECT, |setup| setup.kem_seed = [99; 32].into());
    mesh.faults = Box::new(move |node, input| match input {
        Input::Gossip { topic, .. } if node == 1 && topic == "agent-announcements" => FaultDecision::Lose,
        Input::HelloRequestReceived { .. } | Input::HelloResponseReceived { .. } if node == 1 => {
            FaultDecision::Lose
        }
        _ => FaultDecision::Deliver,
    });
    mesh.connect(1, again);
    mesh.send(1, again, 2, "");
    mesh.pass(Duration::from_millis(10));
    assert_eq!(mesh.received(again), [2], "within one round trip");
    assert_eq!(count(&mesh, again, Counter::FramesKemUnknown), 1);
}

#[test]
fn a_full_crypto_pool_defers_mail_and_loses_none() {
    let mut mesh = pair();
    mesh.crypto = false;
    for data in 0..10 {
        mesh.send(1, 2, data, "");
    }
    mesh.pass(Duration::from_secs(3));
    assert_eq!(mesh.received(2), [0; 0]);
    assert!(count(&mesh, 1, Counter::CryptoPoolFull) > 0);
    mesh.crypto = true;
    mesh.pass(Duration::from_secs(30));
    assert_eq!(mesh.received(2), (0..10).collect::<Vec<_>>());
    assert_eq!(mesh.lines(1, "delivery").len(), 10);
}
