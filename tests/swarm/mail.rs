//! Requests and responses of the admission and mail protocols.

use bytes::Bytes;
use libp2p::PeerId;
use p2p_node::io::swarm::{MAX_MAIL, MAX_MAIL_ASKED, MAX_MAIL_SENT, SwarmConfig, SwarmDriver};
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::{DropKind, Input, Token};
use p2p_node_protocol::Role;

use super::node::{Node, config, mail, pair};

#[tokio::test]
async fn step_of_admission_gets_its_answer_or_fails_with_the_connection() {
    let (mut a, mut b) = pair().await;
    let step =
        |token| NetworkCommand::SendAdmission { token, peer: b.peer, body: Bytes::from_static(b"from a") };
    let (first, second) = (step(7), step(8));
    a.apply(first).await;
    let (token, peer, body) = b
        .expect("step", |input| match input {
            Input::AdmissionRequestReceived { token, peer, body } => Some((*token, *peer, body.clone())),
            _ => None,
        })
        .await;
    assert_eq!((peer, &body[..]), (a.peer, &b"from a"[..]));
    b.apply(NetworkCommand::AnswerAdmission { token, body: Bytes::from_static(b"from b") }).await;
    let answered = |input: &Input| match input {
        Input::AdmissionResponseReceived { token, peer, outcome } => Some((*token, *peer, outcome.clone())),
        _ => None,
    };
    assert_eq!(a.expect("answer", answered).await, (7, b.peer, Ok(Bytes::from_static(b"from b"))));
    a.apply_all(vec![second, NetworkCommand::Disconnect { peer: b.peer }]).await;
    let (token, peer, outcome) = a.expect("failure", answered).await;
    assert_eq!((token, peer, outcome.is_err()), (8, b.peer, true));
}

#[tokio::test]
async fn mail_request_up_to_the_largest_size_is_answered() {
    let (mut a, mut b) = pair().await;
    a.apply(mail(7, &b, vec![9; MAX_MAIL + 1])).await;
    let (token, outcome) = a.mail_response().await;
    assert_eq!(token, 7);
    assert!(outcome.unwrap_err().contains("allowed"));

    for size in [0, 1, 60_000, MAX_MAIL] {
        a.apply(mail(8, &b, vec![9; size])).await;
        let (token, peer, frame) = b.mail_request().await;
        assert_eq!((peer, frame.len()), (a.peer, size));
        b.apply(NetworkCommand::AnswerMail { token, body: Bytes::from_static(b"stored") }).await;
        assert_eq!(a.mail_response().await, (8, Ok(Bytes::from_static(b"stored"))));
    }
}

#[tokio::test]
async fn mail_request_to_disconnected_peer_fails_without_dial() {
    let mut a = Node::listening(config(1, Role::Full)).await;
    let b = Node::listening(config(2, Role::Full)).await;
    a.apply(mail(7, &b, "hello")).await;
    assert_eq!(a.mail_response().await, (7, Err("not connected".to_owned())));
    assert!(!a.has(|input| matches!(input, Input::DialFailed { .. } | Input::Connected { .. })));
}

#[tokio::test]
async fn mail_in_flight_fails_when_the_peer_disconnects() {
    let (mut a, mut b) = pair().await;
    a.apply(mail(7, &b, "hello")).await;
    b.mail_request().await;
    b.apply(NetworkCommand::Disconnect { peer: a.peer }).await;
    let (token, outcome) = a.mail_response().await;
    assert!(token == 7 && outcome.is_err());
    let disconnected = |input: &Input| match input {
        Input::Disconnected { peer, .. } => Some(*peer),
        _ => None,
    };
    assert_eq!(a.expect("disconnection", disconnected).await, b.peer);
    assert_eq!(b.expect("disconnection", disconnected).await, a.peer);
}

#[tokio::test]
async fn try_next_returns_pending_input() {
    let mut driver = SwarmDriver::new(config(1, Role::Full)).unwrap();
    assert!(driver.try_next().is_none());
    driver.apply(NetworkCommand::SendMail { token: 7, peer: PeerId::random(), frame: Bytes::new() });
    assert!(matches!(driver.try_next(), Some(Input::MailResponseReceived { token: 7, outcome: Err(_) })));
    assert!(driver.try_next().is_none());
}

#[tokio::test]
async fn mail_in_flight_is_bounded() {
    let (mut a, b) = pair().await;
    let above_limit = MAX_MAIL_SENT as Token;
    a.apply_all((0..=above_limit).map(|token| mail(token, &b, "hello")).collect()).await;
    let (token, outcome) = a.mail_response().await;
    assert_eq!((token, outcome), (above_limit, Err("too many mail frames are in flight".to_owned())));
}

#[tokio::test]
async fn mail_awaiting_a_response_is_bounded() {
    // At most 128 frames of one connection wait for a response.
    const PER_SENDER: usize = 128;
    let senders = MAX_MAIL_ASKED / PER_SENDER + 1;
    let mut b = Node::listening(config(200, Role::Full)).await;
    let mut nodes = Vec::new();
    for number in 0..senders {
        let mut a = Node::listening(config(number as u8 + 1, Role::Full)).await;
        a.dial(&b).await;
        a.connected().await;
        a.apply_all((0..PER_SENDER as Token).map(|token| mail(token, &b, "hello")).collect()).await;
        for _ in 0..PER_SENDER.min(MAX_MAIL_ASKED - number * PER_SENDER) {
            b.mail_request().await;
        }
        nodes.push(a);
    }
    let last = nodes.last_mut().unwrap();
    for _ in 0..PER_SENDER {
        assert!(last.mail_response().await.1.is_err());
    }
    assert_eq!(b.dropped(DropKind::Mail), PER_SENDER as u64);
}

#[tokio::test]
async fn responses_are_sent_before_the_node_closes() {
    const MESSAGES: u64 = 50;
    let (mut a, mut b) = pair().await;
    for token in 0..MESSAGES {
        a.apply(mail(token, &b, "hello")).await;
    }
    let mut answers = Vec::new();
    for _ in 0..MESSAGES {
        let (token, _, _) = b.mail_request().await;
        answers.push(NetworkCommand::AnswerMail { token, body: Bytes::from_static(b"stored") });
    }
    b.apply_all(answers).await;
    drop(b);
    for _ in 0..MESSAGES {
        assert_eq!(a.mail_response().await.1, Ok(Bytes::from_static(b"stored")));
    }
}

#[tokio::test]
async fn mail_passes_over_quic_in_both_directions() {
    let quic = "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap();
    let mut a = Node::listening(config(1, Role::Full)).await;
    let mut b = Node::listening(SwarmConfig { listen: Some(vec![quic]), ..config(2, Role::Full) }).await;
    a.dial(&b).await;
    a.connected().await;
    b.connected().await;
    for size in [1, 20_000, MAX_MAIL] {
        exchange(&mut a, &mut b, size).await;
        exchange(&mut b, &mut a, size).await;
    }
}

/// Sends a frame of this size and its response.
async fn exchange(sender: &mut Node, recipient: &mut Node, size: usize) {
    sender.apply(mail(3, recipient, vec![9; size])).await;
    let (token, peer, frame) = recipient.mail_request().await;
    assert_eq!((peer, frame.len()), (sender.peer, size));
    recipient.apply(NetworkCommand::AnswerMail { token, body: Bytes::from_static(b"stored") }).await;
    assert_eq!(sender.mail_response().await, (3, Ok(Bytes::from_static(b"stored"))));
}

#[tokio::test]
async fn small_frame_arrives_before_large_ones_that_were_sent_earlier() {
    const LARGE: u64 = 3;
    let (a, mut b) = pair().await;
    let large = (0..LARGE).map(|token| mail(token, &b, vec![9; MAX_MAIL]));
    a.apply_all(large.chain([mail(LARGE, &b, "urgent")]).collect()).await;
    let sizes = [b.mail_request().await.2.len(), b.mail_request().await.2.len()];
    assert!(sizes.contains(&"urgent".len()), "{sizes:?}");
}
