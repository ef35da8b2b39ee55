//! Replayed frames, and a peer that repeatedly sends invalid frames.

use std::time::{Duration, Instant};

use bytes::Bytes;
use p2p_node_core::effect::{NetworkCommand, Verdict};
use p2p_node_core::input::Input;
use p2p_node_wire::envelope::Response;
use serde_json::{Value, json};

use crate::child::TIMEOUT;
use crate::fixture::{Fixture, Real, TOPIC, VICTIM};
use crate::forge::{Forger, topic};
use crate::peer::Hostile;

/// Captures a frame of the honest peer and forwards it as an honest peer would. The command is
/// repeated until a frame arrives, because nothing reports when the peer joins the mesh.
async fn capture(hostile: &mut Hostile, on: &str, honest: &mut Real, command: &Value) -> Bytes {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        assert_eq!(honest.request(command.clone())["type"], "result");
        let frame = hostile.node.expect("gossip", |input| match input {
            Input::Gossip { token, topic, data, .. } if topic == on => Some((*token, data.clone())),
            _ => None,
        });
        if let Ok((token, data)) = tokio::time::timeout(Duration::from_millis(250), frame).await {
            hostile.node.apply(NetworkCommand::ReportValidation { token, verdict: Verdict::Accept }).await;
            return data;
        }
        assert!(Instant::now() < deadline, "no frame arrives on {on}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn frames_from_before_a_restart_are_not_delivered_again() {
    let mut fixture = Fixture::new("full");
    let victim = Forger::new(VICTIM);
    let mut hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    for name in [TOPIC, "agent-messages"] {
        hostile.node.apply(NetworkCommand::Subscribe { topic: name.to_owned() }).await;
    }
    // A captured broadcast and captured mail of the honest peer, and mail of the attacker.
    let mail = json!({"type":"send","peerId":fixture.victim.address(),"data":"mail","route":"gossip"});
    let broadcast = json!({"type":"send","topic":TOPIC,"data":"broadcast"});
    let mut captured = Vec::new();
    for (on, command) in [("agent-messages", mail), (TOPIC, broadcast)] {
        let frame = capture(&mut hostile, on, &mut fixture.honest, &command).await;
        captured.push((on, frame));
        fixture.victim.child.expect("the captured message", |event| event["data"] == command["data"]);
    }
    fixture.honest.until("all is delivered", |status| status["outbox"] == 0);
    fixture.victim.take_events(&["message"]);
    let own = hostile.forger.frame(victim.scope(), "\"own\"", |_| {});
    let own = hostile.seal(&fixture.victim, own).await;
    hostile.mail(&fixture.victim, own.clone()).await;
    fixture.victim.child.expect("the attacker's mail", |event| event["data"] == "own");

    // At once, by another peer. libp2p drops the duplicates before they reach the core.
    let mut other = Hostile::join(Forger::new(0x41), &fixture.victim).await;
    other.subscribed(&fixture.victim, TOPIC).await;
    for (on, frame) in &captured {
        other.publish(on, frame.clone()).await;
    }
    assert_eq!(other.refused_mail(&fixture.victim, own.clone()).await, "OUT_OF_SCOPE");
    assert_eq!(hostile.refused_mail(&fixture.victim, own.clone()).await, "REPLAYED");
    fixture.assert_no_events(&["message"]);

    // The victim restarts without a store.
    fixture.victim.child.kill();
    fixture.victim = Real::join(VICTIM, &[], &[fixture.honest.entry()]);
    fixture.victim.request(json!({"type":"subscribe","topic":TOPIC}));
    fixture.victim.until("connected", |status| status["peers"] == 1 && status["agents"] == 1);
    let clean = fixture.refused_by_honest();
    let mut other = Hostile::join(Forger::new(0x42), &fixture.victim).await;
    other.subscribed(&fixture.victim, TOPIC).await;
    for (number, (on, frame)) in (1..).zip(&captured) {
        other.publish(on, frame.clone()).await;
        fixture.victim.until_counted("frames_clock_out_of_range", number);
    }
    // Only the sender may send its mail, and the KEM key no longer exists.
    hostile.connect(&fixture.victim).await;
    let Some(Response::KemUnknown(_)) = hostile.mail(&fixture.victim, own).await else {
        panic!("mail from before the restart is decrypted");
    };
    assert_eq!(fixture.victim.counter("frames_clock_out_of_range"), 2);
    fixture.assert_no_events(&["message"]);
    assert_eq!(fixture.refused_by_honest(), clean);
    fixture.honest.child.take(|event| event["type"] == "peer_disconnected");
    fixture.check_honest_traffic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn peer_with_repeated_invalid_frames_is_graylisted_alone() {
    // Five rejections graylist a peer.
    const REJECTIONS: u64 = 5;
    let mut fixture = Fixture::new("full");
    let mut hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    hostile.subscribed(&fixture.victim, TOPIC).await;
    let invalid = |number: u64| Bytes::from(format!("nonsense {number}"));
    for number in 1..=REJECTIONS {
        hostile.publish(TOPIC, invalid(number)).await;
        fixture.victim.until_counted("frames_malformed", number);
    }
    for number in 0..200 {
        hostile.publish(TOPIC, invalid(REJECTIONS + 1 + number)).await;
    }
    // A valid frame is ignored from this peer and delivered from another.
    let valid = hostile.forger.frame(topic(TOPIC), "\"valid\"", |_| {});
    hostile.publish(TOPIC, valid.clone()).await;
    fixture.check_honest_traffic();
    fixture.assert_no_events(&["message"]);
    assert_eq!(fixture.victim.counter("frames_malformed"), REJECTIONS);
    let mut other = Hostile::join(Forger::new(0x41), &fixture.victim).await;
    other.subscribed(&fixture.victim, TOPIC).await;
    other.publish(TOPIC, valid).await;
    for node in [&mut fixture.victim, &mut fixture.honest] {
        let message = node.child.expect("the valid frame", |event| event["type"] == "message");
        assert_eq!((&message["data"], &message["from"]), (&json!("valid"), &json!(hostile.forger.address())));
    }
    fixture.check_honest_traffic();
}
