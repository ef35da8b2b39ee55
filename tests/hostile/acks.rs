//! Acknowledgements from agents that are not the recipient.

use bytes::Bytes;
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::Input;
use p2p_node_wire::envelope::{Busy, KemUnknown, MailResponse, Refused, Response, Scope, SignedAck};
use p2p_node_wire::identity::NodeKey;
use prost::Message as _;
use serde_json::{Value, json};

use crate::forge::{Forger, bent, stream};
use crate::peer::Hostile;
use crate::scene::{HONEST, Real, Scene, VICTIM};

/// An agent to whom the victim writes, and who is not there.
const ABSENT: u8 = 0x21;

/// Sends mail and returns its id.
fn send(victim: &mut Real, to: &Forger, route: &str) -> String {
    let answer = victim.ask(json!({"type":"send","peerId":to.address(),"data":1,"route":route}));
    answer["messageId"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Sends mail by gossip, and overhears it: its id and, which nobody but its recipient can read, its
/// stream.
async fn send_overheard(hostile: &mut Hostile, victim: &mut Real, to: &Forger) -> (String, Bytes) {
    hostile.node.apply(NetworkCommand::Subscribe { topic: "agent-messages".to_owned() }).await;
    let id = send(victim, to, "gossip");
    let stream = hostile.node.expect("the mail", |input| match input {
        Input::Gossip { topic, data, .. } if topic == "agent-messages" => to.stream_of_mail(data),
        _ => None,
    });
    (id, stream.await)
}

fn delivery(victim: &Real, message: &str) -> Value {
    victim.child.expect("delivery", |event| event["type"] == "delivery" && event["messageId"] == message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn mail_is_acknowledged_by_nobody_but_its_recipient() {
    let mut scene = Scene::new("full");
    let (victim, absent) = (Forger::new(VICTIM), Forger::new(ABSENT));
    let mut hostile = Hostile::meet(Forger::new(0x40), &scene.victim).await;
    let own_record = hostile.forger.record(|_| {});
    hostile.hello(&scene.victim, own_record).await;
    // Whoever has the record may bring it.
    hostile.publish("agent-announcements", absent.record(|_| {})).await;
    scene.victim.child.expect("the absent one", |event| event["address"] == absent.address().as_str());
    let (mail, on) = send_overheard(&mut hostile, &mut scene.victim, &absent).await;

    let honest = Forger::new(HONEST);
    let old_node = Forger::with_node(ABSENT, NodeKey::from_seed([0x99; 32]));
    let own = |hostile: &Hostile, acks| hostile.forger.ack_frame(victim.scope(), acks, |_| {});
    let forger = &hostile.forger;
    let elsewhere = Scope::NodeKey(Bytes::copy_from_slice(&honest.node.public()));
    let wrong: Vec<(&str, &str, Bytes)> = vec![
        ("acks_misplaced", "the attacker's own ack", own(&hostile, vec![forger.ack(&victim, &on)])),
        ("acks_refused", "an ack in another's name", own(&hostile, vec![absent.ack(&honest, &on)])),
        (
            "acks_refused",
            "the recipient's ack in a strange frame",
            own(&hostile, vec![absent.ack(&victim, &on)]),
        ),
        ("acks_refused", "a bent ack", own(&hostile, vec![bent(&forger.ack(&victim, &on), 3)])),
        ("acks_refused", "no ack", own(&hostile, vec![Bytes::from(vec![9; 80])])),
        (
            "frames_forged",
            "the recipient's binding, the attacker's signature",
            forger.ack_frame(victim.scope(), vec![forger.ack(&victim, &on)], |body| {
                body.binding = absent.binding(|_| {}).encode();
            }),
        ),
        (
            "frames_unbound",
            "the recipient's address, the attacker's node",
            forger.ack_frame(victim.scope(), vec![forger.ack(&victim, &on)], |body| {
                body.binding = forger.stolen_binding(&absent).encode();
            }),
        ),
        (
            "acks_refused",
            "a node that the recipient had before",
            old_node.ack_frame(victim.scope(), vec![old_node.ack(&victim, &on)], |_| {}),
        ),
    ];
    for (counter, what, frame) in &wrong {
        let before = scene.victim.counter(counter);
        hostile.publish("agent-messages", frame.clone()).await;
        scene.victim.until_counted(counter, before + 1);
        assert_eq!(scene.victim.counter(counter), before + 1, "{what}");
    }
    // By mail, as far as the attacker may say it there at all.
    for (counter, what) in [("acks_misplaced", "the attacker's own ack"), ("acks_refused", "another's ack")] {
        let by = if counter == "acks_refused" { &absent } else { &hostile.forger };
        let frame = own(&hostile, vec![by.ack(&victim, &on)]);
        let before = scene.victim.counter(counter);
        hostile.sealed_mail(&scene.victim, frame).await;
        assert_eq!(scene.victim.counter(counter), before + 1, "{what}");
    }
    let genuine = absent.ack_frame(elsewhere, vec![absent.ack(&victim, &on)], |_| {});
    hostile.publish("agent-messages", genuine).await;
    scene.still_honest();
    scene.nothing_said(&["delivery", "error"]);
    assert_eq!(scene.victim.counter("mail_delivered"), scene.honest.counter("mail_received"));

    // Only this was missing: the recipient's own ack, whoever passes it on.
    let ack = absent.ack_frame(victim.scope(), vec![absent.ack(&victim, &on)], |_| {});
    hostile.publish("agent-messages", ack).await;
    assert_eq!(delivery(&scene.victim, &mail)["state"], "delivered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn answers_settle_nothing_but_the_mail_that_they_answer() {
    let mut scene = Scene::new("full");
    let (victim, absent) = (Forger::new(VICTIM), Forger::new(ABSENT));
    let mut hostile = Hostile::meet(Forger::new(0x40), &scene.victim).await;
    let own_record = hostile.forger.record(|_| {});
    hostile.hello(&scene.victim, own_record).await;
    hostile.publish("agent-announcements", absent.record(|_| {})).await;
    scene.victim.until("two more agents", |status| status["agents"] == 3);
    let (others, on) = send_overheard(&mut hostile, &mut scene.victim, &absent).await;
    let own = send(&mut scene.victim, &hostile.forger, "direct");
    let forger = Forger::new(0x40);
    let (_, _, frame) = hostile.node.mail_asked().await;
    let own_stream = forger.stream_of_mail(&frame).unwrap();
    reconnect(&mut hostile, &scene.victim).await;

    let honest = Forger::new(HONEST);
    let ack = |by: &Forger, to: &Forger, on: &Bytes| Response::Ack(by.ack(to, on));
    let text = |code: &str, reason: &str| {
        Response::Refused(Refused { code: code.to_owned(), reason: reason.to_owned(), time_ms: 0 })
    };
    let answers = vec![
        ("acks_misplaced", "a stream of another recipient", ack(&forger, &victim, &on)),
        ("acks_misplaced", "a stream of nobody", ack(&forger, &victim, &stream(9))),
        ("acks_refused", "another's key", ack(&absent, &victim, &own_stream)),
        ("acks_refused", "another's account", ack(&forger, &honest, &own_stream)),
        ("mail_attempts_failed", "a code that is none", text("FAKE\",\"type\":\"ready", "")),
        ("mail_attempts_failed", "a reason of two lines", text("BUSY", "a\n{\"type\":\"ready\"}")),
        ("mail_deferred", "busy for ever", Response::Busy(Busy { retry_after_ms: u64::MAX })),
        (
            "mail_kem_unknown",
            "another's record as one's own",
            Response::KemUnknown(KemUnknown { record: honest.record(|_| {}) }),
        ),
        ("mail_attempts_failed", "an ack without a signature", Response::Ack(Bytes::from_static(b"short"))),
    ];
    let mut bodies: Vec<_> = answers
        .into_iter()
        .map(|(counter, what, response)| {
            (counter, what, Bytes::from(MailResponse { response: Some(response) }.encode_to_vec()))
        })
        .collect();
    bodies.push(("mail_attempts_failed", "no answer at all", Bytes::from_static(b"nonsense")));
    for (counter, what, body) in bodies {
        let (token, from, _) = hostile.node.mail_asked().await;
        assert_eq!(from, scene.victim.peer());
        let before = scene.victim.counter(counter);
        hostile.node.apply(NetworkCommand::AnswerMail { token, body }).await;
        scene.victim.until_counted(counter, before + 1);
        assert_eq!(scene.victim.counter(counter), before + 1, "{what}");
        // A reconnect is what makes the victim try again at once.
        reconnect(&mut hostile, &scene.victim).await;
    }
    scene.nothing_said(&["delivery", "error"]);

    let (token, _, _) = hostile.node.mail_asked().await;
    let ack = forger.ack(&victim, &own_stream);
    assert!(SignedAck::decode(ack.clone()).is_ok());
    let body = MailResponse { response: Some(Response::Ack(ack)) }.encode_to_vec().into();
    hostile.node.apply(NetworkCommand::AnswerMail { token, body }).await;
    assert_eq!(delivery(&scene.victim, &own)["state"], "delivered");
    scene.still_honest();
    let said = scene.victim.said(&["delivery"]);
    assert!(said.is_empty(), "mail to {others} is still under way: {said:?}");
}

async fn reconnect(hostile: &mut Hostile, victim: &Real) {
    let peer = victim.peer();
    hostile.node.apply(NetworkCommand::Disconnect { peer }).await;
    hostile
        .node
        .expect("end of the connection", |input| {
            matches!(input, Input::Disconnected { peer: other, .. } if *other == peer).then_some(())
        })
        .await;
    // A node that sees the new connection before the end of the old one does not tell anew what it
    // subscribes to.
    let gone = hostile.node.peer.to_string();
    victim.child.expect("the end of the connection", |event| {
        event["type"] == "peer_disconnected" && event["peerId"] == gone.as_str()
    });
    // What came before cannot be answered any more.
    while hostile
        .node
        .take_earlier(|input| matches!(input, Input::MailRequestReceived { .. }).then_some(()))
        .is_some()
    {}
    hostile.connect(victim).await;
}
