//! Acknowledgements from agents that are not the recipient.

use bytes::Bytes;
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::Input;
use p2p_node_wire::envelope::{Busy, KemUnknown, MailResponse, Refused, Response, Scope};
use p2p_node_wire::identity::NodeKey;
use prost::Message as _;
use serde_json::{Value, json};

use crate::fixture::{Fixture, HONEST, Real, VICTIM};
use crate::forge::{Forger, SIGNATURE, ack, corrupt, stream};
use crate::peer::Hostile;

/// An offline agent to whom the victim sends mail.
const OFFLINE: u8 = 0x21;

/// Sends mail and returns its id.
fn send(victim: &mut Real, to: &Forger, route: &str) -> String {
    let answer = victim.request(json!({"type":"send","peerId":to.address(),"data":1,"route":route}));
    answer["messageId"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Sends mail by gossip and captures it. Returns its id, and its stream, which only the recipient
/// can decrypt.
async fn send_captured(hostile: &mut Hostile, victim: &mut Real, to: &Forger) -> (String, Bytes) {
    hostile.node.apply(NetworkCommand::Subscribe { topic: "agent-messages".to_owned() }).await;
    let id = send(victim, to, "gossip");
    let stream = hostile.node.expect("the mail", |input| match input {
        Input::Gossip { topic, data, .. } if topic == "agent-messages" => {
            to.stream_of_mail(&data[SIGNATURE..])
        }
        _ => None,
    });
    (id, stream.await)
}

fn delivery(victim: &Real, message: &str) -> Value {
    victim.child.expect("delivery", |event| event["type"] == "delivery" && event["messageId"] == message)
}

/// Returns frames with acks for the mail of the victim to the offline agent that must not count.
fn wrong_ack_frames(forger: &Forger, stream_id: &Bytes) -> Vec<(&'static str, &'static str, Bytes)> {
    let (victim, offline) = (Forger::new(VICTIM), Forger::new(OFFLINE));
    let honest = Forger::new(HONEST);
    let old_node = Forger::with_node(OFFLINE, NodeKey::from_seed([0x99; 32]));
    let own = |acks| forger.ack_frame(victim.scope(), acks, |_| {});
    let stream_id = stream_id.clone();
    vec![
        ("acks_misplaced", "an ack in the attacker's frame", own(vec![ack(&victim, &stream_id)])),
        ("acks_refused", "an ack of another's mail", own(vec![ack(&honest, &stream_id)])),
        ("acks_refused", "a corrupt ack", own(vec![corrupt(&ack(&victim, &stream_id), 3)])),
        ("acks_refused", "no ack", own(vec![Bytes::from(vec![9; 80])])),
        (
            "frames_forged",
            "the recipient's binding, the attacker's signature",
            forger.ack_frame(victim.scope(), vec![ack(&victim, &stream_id)], |body| {
                body.binding = offline.binding(|_| {}).encode();
            }),
        ),
        (
            "frames_binding_forged",
            "the recipient's address, the attacker's node",
            forger.ack_frame(victim.scope(), vec![ack(&victim, &stream_id)], |body| {
                body.binding = forger.stolen_binding(&offline).encode();
            }),
        ),
        (
            "acks_refused",
            "a node that the recipient had before",
            old_node.ack_frame(victim.scope(), vec![ack(&victim, &stream_id)], |_| {}),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn mail_is_acked_by_its_recipient_only() {
    let mut fixture = Fixture::new("full");
    let (victim, offline) = (Forger::new(VICTIM), Forger::new(OFFLINE));
    let mut hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    // Any peer may publish a record.
    hostile.publish("agent-announcements", offline.record(|_| {})).await;
    fixture
        .victim
        .child
        .expect("the offline agent's record", |event| event["address"] == offline.address().as_str());
    let (mail, stream_id) = send_captured(&mut hostile, &mut fixture.victim, &offline).await;

    let honest = Forger::new(HONEST);
    let own = |hostile: &Hostile, acks| hostile.forger.ack_frame(victim.scope(), acks, |_| {});
    let wrong = wrong_ack_frames(&hostile.forger, &stream_id);
    for (counter, what, frame) in &wrong {
        let before = fixture.victim.counter(counter);
        hostile.publish("agent-messages", frame.clone()).await;
        fixture.victim.until_counted(counter, before + 1);
        assert_eq!(fixture.victim.counter(counter), before + 1, "{what}");
    }
    // The acks that an attacker can send over the mail protocol.
    for (counter, what, to) in
        [("acks_misplaced", "an own ack", &victim), ("acks_refused", "an ack of another's mail", &honest)]
    {
        let frame = own(&hostile, vec![ack(to, &stream_id)]);
        let before = fixture.victim.counter(counter);
        hostile.sealed_mail(&fixture.victim, frame).await;
        assert_eq!(fixture.victim.counter(counter), before + 1, "{what}");
    }
    let other_scope = Scope::NodeKey(Bytes::copy_from_slice(&honest.node.public()));
    let genuine = offline.ack_frame(other_scope, vec![ack(&victim, &stream_id)], |_| {});
    hostile.publish("agent-messages", genuine).await;
    fixture.check_honest_traffic();
    fixture.assert_no_events(&["delivery", "error"]);
    assert_eq!(fixture.victim.counter("mail_delivered"), fixture.honest.counter("mail_received"));

    // The recipient's own ack counts, even if another peer publishes it.
    let genuine = offline.ack_frame(victim.scope(), vec![ack(&victim, &stream_id)], |_| {});
    hostile.publish("agent-messages", genuine).await;
    assert_eq!(delivery(&fixture.victim, &mail)["state"], "delivered");
}

/// Returns responses to the mail of `own_stream` that must not count.
fn wrong_responses(own_stream: &Bytes, stream_id: &Bytes) -> Vec<(&'static str, &'static str, Bytes)> {
    let (victim, honest) = (Forger::new(VICTIM), Forger::new(HONEST));
    let ack = |to: &Forger, stream_id: &Bytes| Response::Ack(ack(to, stream_id));
    let text = |code: &str, reason: &str| {
        Response::Refused(Refused { code: code.to_owned(), reason: reason.to_owned(), time_ms: 0 })
    };
    let answers = vec![
        ("acks_misplaced", "a stream of another recipient", ack(&victim, stream_id)),
        ("acks_misplaced", "an unknown stream", ack(&victim, &stream(9))),
        ("acks_refused", "another's account", ack(&honest, own_stream)),
        ("acks_refused", "no ack", Response::Ack(Bytes::from_static(b"short"))),
        ("mail_attempts_failed", "an invalid code", text("FAKE\",\"type\":\"ready", "")),
        ("mail_attempts_failed", "a reason of two lines", text("BUSY", "a\n{\"type\":\"ready\"}")),
        ("mail_deferred", "busy without end", Response::Busy(Busy { retry_after_ms: u64::MAX })),
        (
            "mail_kem_unknown",
            "another's record as one's own",
            Response::KemUnknown(KemUnknown { record: honest.record(|_| {}) }),
        ),
        ("mail_attempts_failed", "an empty ack", Response::Ack(Bytes::new())),
    ];
    let mut bodies: Vec<_> = answers
        .into_iter()
        .map(|(counter, what, response)| {
            (counter, what, Bytes::from(MailResponse { response: Some(response) }.encode_to_vec()))
        })
        .collect();
    bodies.push(("mail_attempts_failed", "no response", Bytes::from_static(b"nonsense")));
    bodies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn mail_response_completes_only_the_mail_of_its_request() {
    let mut fixture = Fixture::new("full");
    let (victim, offline) = (Forger::new(VICTIM), Forger::new(OFFLINE));
    let mut hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    hostile.publish("agent-announcements", offline.record(|_| {})).await;
    fixture.victim.until("two more agents", |status| status["agents"] == 3);
    let (others, stream_id) = send_captured(&mut hostile, &mut fixture.victim, &offline).await;
    let own = send(&mut fixture.victim, &hostile.forger, "direct");
    let forger = Forger::new(0x40);
    let (_, _, frame) = hostile.node.mail_request().await;
    let own_stream = forger.stream_of_mail(&frame).unwrap();
    reconnect(&mut hostile, &fixture.victim).await;

    let bodies = wrong_responses(&own_stream, &stream_id);
    for (counter, what, body) in bodies {
        let (token, from, _) = hostile.node.mail_request().await;
        assert_eq!(from, fixture.victim.peer());
        let before = fixture.victim.counter(counter);
        hostile.node.apply(NetworkCommand::AnswerMail { token, body }).await;
        fixture.victim.until_counted(counter, before + 1);
        assert_eq!(fixture.victim.counter(counter), before + 1, "{what}");
        // After a reconnect the victim tries again at once.
        reconnect(&mut hostile, &fixture.victim).await;
    }
    fixture.assert_no_events(&["delivery", "error"]);

    let (token, _, _) = hostile.node.mail_request().await;
    answer(&mut hostile, token, Response::Ack(ack(&victim, &own_stream))).await;
    assert_eq!(delivery(&fixture.victim, &own)["state"], "delivered");
    fixture.check_honest_traffic();
    let deliveries = fixture.victim.take_events(&["delivery"]);
    assert!(deliveries.is_empty(), "mail to {others} is still in flight: {deliveries:?}");
}

async fn answer(hostile: &mut Hostile, token: u64, response: Response) {
    let body = MailResponse { response: Some(response) }.encode_to_vec().into();
    hostile.node.apply(NetworkCommand::AnswerMail { token, body }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn response_of_a_node_that_the_recipient_had_before_does_not_count() {
    let mut fixture = Fixture::new("full");
    for (number, is_ack) in [(0x40, true), (0x41, false)] {
        let mut hostile = Hostile::join(Forger::new(number), &fixture.victim).await;
        send(&mut fixture.victim, &hostile.forger, "direct");
        let (token, _, frame) = hostile.node.mail_request().await;
        let stream_id = hostile.forger.stream_of_mail(&frame).unwrap();
        let moved = Forger::with_node(number, NodeKey::from_seed([number + 1; 32]));
        hostile.publish("agent-announcements", moved.record(|record| record.seq += 1)).await;
        let new_node = moved.node.peer_id().to_string();
        fixture.victim.child.expect("the new node", |event| {
            event["type"] == "peer_discovered" && event["peerId"] == new_node.as_str()
        });

        let counter = if is_ack { "acks_refused" } else { "mail_attempts_failed" };
        let before = fixture.victim.counter(counter);
        let response = if is_ack {
            Response::Ack(ack(&Forger::new(VICTIM), &stream_id))
        } else {
            let code = "MALFORMED".to_owned();
            Response::Refused(Refused { code, reason: String::new(), time_ms: 0 })
        };
        answer(&mut hostile, token, response).await;
        fixture.victim.until_counted(counter, before + 1);
    }
    fixture.assert_no_events(&["delivery", "error"]);
    fixture.check_honest_traffic();
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
    // A node that sees the new connection before the end of the old one does not send its
    // subscriptions again.
    let disconnected = hostile.node.peer.to_string();
    victim.child.expect("the end of the connection", |event| {
        event["type"] == "peer_disconnected" && event["peerId"] == disconnected.as_str()
    });
    // Earlier requests cannot be answered any more.
    while hostile
        .node
        .take_earlier(|input| matches!(input, Input::MailRequestReceived { .. }).then_some(()))
        .is_some()
    {}
    hostile.connect(victim).await;
}
