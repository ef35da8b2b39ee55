//! Frames that were right once and are brought again, and what becomes of a peer that goes on doing
//! wrong.

use std::time::{Duration, Instant};

use bytes::Bytes;
use p2p_node_core::effect::{NetworkCommand, Verdict};
use p2p_node_core::input::Input;
use p2p_node_wire::envelope::Response;
use serde_json::{Value, json};

use crate::child::SOON;
use crate::forge::{Forger, topic};
use crate::peer::Hostile;
use crate::scene::{Real, Scene, TOPIC, VICTIM};

/// Hears what the honest peer says, and passes it on as an honest peer would. Nobody tells when a
/// subscription has become part of the mesh: it is said again until it is heard.
async fn overhear(hostile: &mut Hostile, on: &str, honest: &mut Real, command: &Value) -> Bytes {
    let deadline = Instant::now() + SOON;
    loop {
        assert_eq!(honest.ask(command.clone())["type"], "result");
        let heard = hostile.node.expect("gossip", |input| match input {
            Input::Gossip { token, topic, data, .. } if topic == on => Some((*token, data.clone())),
            _ => None,
        });
        if let Ok((token, data)) = tokio::time::timeout(Duration::from_millis(250), heard).await {
            hostile.node.apply(NetworkCommand::Judge { token, verdict: Verdict::Accept }).await;
            return data;
        }
        assert!(Instant::now() < deadline, "nothing is heard on {on}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn frames_from_before_a_restart_are_not_told_again() {
    let mut scene = Scene::new("full");
    let victim = Forger::new(VICTIM);
    let mut hostile = Hostile::meet(Forger::new(0x40), &scene.victim).await;
    for name in [TOPIC, "agent-messages"] {
        hostile.node.apply(NetworkCommand::Subscribe { topic: name.to_owned() }).await;
    }
    // The honest peer's own broadcast and mail, overheard, and mail of the attacker's own.
    let mail = json!({"type":"send","peerId":scene.victim.address(),"data":"mail","route":"gossip"});
    let broadcast = json!({"type":"send","topic":TOPIC,"data":"broadcast"});
    let mut overheard = Vec::new();
    for (on, command) in [("agent-messages", mail), (TOPIC, broadcast)] {
        let frame = overhear(&mut hostile, on, &mut scene.honest, &command).await;
        overheard.push((on, frame));
        scene.victim.child.expect("what was overheard", |event| event["data"] == command["data"]);
    }
    scene.honest.until("all is delivered", |status| status["outbox"] == 0);
    scene.victim.said(&["message"]);
    let own = hostile.forger.frame(victim.scope(), "\"own\"", |_| {});
    let own = hostile.seal(&scene.victim, own).await;
    hostile.mail(&scene.victim, own.clone()).await;
    scene.victim.child.expect("the attacker's mail", |event| event["data"] == "own");

    // At once, by another peer; what libp2p remembers to have seen does not even reach the core.
    let mut other = Hostile::meet(Forger::new(0x41), &scene.victim).await;
    other.subscribed(&scene.victim, TOPIC).await;
    for (on, frame) in &overheard {
        other.publish(on, frame.clone()).await;
    }
    assert_eq!(other.refused_mail(&scene.victim, own.clone()).await, "OUT_OF_SCOPE");
    assert_eq!(hostile.refused_mail(&scene.victim, own.clone()).await, "REPLAYED");
    scene.nothing_said(&["message"]);

    // The victim starts anew and remembers nothing.
    scene.victim.child.kill();
    scene.victim = Real::join(VICTIM, &[], &[scene.honest.entry()]);
    scene.victim.ask(json!({"type":"subscribe","topic":TOPIC}));
    scene.victim.until("acquainted", |status| status["peers"] == 1 && status["agents"] == 1);
    let clean = scene.passed_on();
    let mut other = Hostile::meet(Forger::new(0x42), &scene.victim).await;
    other.subscribed(&scene.victim, TOPIC).await;
    for (number, (on, frame)) in (1..).zip(&overheard) {
        other.publish(on, frame.clone()).await;
        scene.victim.until_counted("frames_untimely", number);
    }
    // Mail comes from its sender alone, and the key to which it was sealed is gone.
    hostile.connect(&scene.victim).await;
    let Some(Response::KemUnknown(_)) = hostile.mail(&scene.victim, own).await else {
        panic!("mail from before the restart is read");
    };
    assert_eq!(scene.victim.counter("frames_untimely"), 2);
    scene.nothing_said(&["message"]);
    assert_eq!(scene.passed_on(), clean);
    scene.honest.child.take(|event| event["type"] == "peer_disconnected");
    scene.still_honest();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_goes_on_doing_wrong_is_no_longer_heard_and_nobody_else_suffers() {
    // Five rejections are beyond the graylist.
    const REJECTIONS: u64 = 5;
    let mut scene = Scene::new("full");
    let mut hostile = Hostile::meet(Forger::new(0x40), &scene.victim).await;
    hostile.subscribed(&scene.victim, TOPIC).await;
    let wrong = |number: u64| Bytes::from(format!("nonsense {number}"));
    for number in 1..=REJECTIONS {
        hostile.publish(TOPIC, wrong(number)).await;
        scene.victim.until_counted("frames_malformed", number);
    }
    for number in 0..200 {
        hostile.publish(TOPIC, wrong(REJECTIONS + 1 + number)).await;
    }
    // Even what is right goes unheard from this peer, and is heard from another.
    let right = hostile.forger.frame(topic(TOPIC), "\"right\"", |_| {});
    hostile.publish(TOPIC, right.clone()).await;
    scene.still_honest();
    scene.nothing_said(&["message"]);
    assert_eq!(scene.victim.counter("frames_malformed"), REJECTIONS);
    let mut other = Hostile::meet(Forger::new(0x41), &scene.victim).await;
    other.subscribed(&scene.victim, TOPIC).await;
    other.publish(TOPIC, right).await;
    for node in [&mut scene.victim, &mut scene.honest] {
        let heard = node.child.expect("what is right", |event| event["type"] == "message");
        assert_eq!((&heard["data"], &heard["from"]), (&json!("right"), &json!(hostile.forger.address())));
    }
    scene.still_honest();
}
