//! A node of a later version among ours: our nodes ignore and forward its additions, and do not
//! penalise peers for unknown content.

use bytes::Bytes;
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::PublishOutcome;
use p2p_node_wire::envelope::ack::ACK_DOMAIN;
use p2p_node_wire::envelope::{
    Ack, Batch, FrameBody, Hello, MailResponse, Response, Scope, SignedAck, WIRE_VERSION,
};
use p2p_node_wire::identity::SignedBinding;
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::strict::Wire;
use prost::Message as _;
use serde_json::json;

use crate::extended::{BINDING, Extension, RECORD, extended};
use crate::forge::{Forger, SIGNATURE, topic};
use crate::peer::Hostile;
use crate::scene::{Real, Scene, TOPIC, VICTIM};

/// More things than it takes until a neighbour is not heard any more that is blamed for each.
const MANY: u64 = 30;

/// What a later version adds to every message.
fn additions() -> [Extension; 3] {
    [(0, b"later".to_vec()), (7, vec![3]), (100, vec![9; 8])]
}

fn extended_binding(binding: &SignedBinding) -> Bytes {
    extended(&binding.encode(), &BINDING, &additions()).into()
}

fn extended_record(forger: &Forger) -> Bytes {
    forger.sign_record(&extended(&forger.record(|_| {})[SIGNATURE..], &RECORD, &additions()))
}

fn extended_frame(forger: &Forger, scope: Scope, data: &'static str) -> Bytes {
    let mut body = forger.body(scope, data);
    body.binding = extended_binding(&forger.binding(|_| {}));
    forger.sign_frame(&extended(&body.encode_to_vec(), &FrameBody::SHAPE, &additions()))
}

/// The signed thing with the version after ours; it has to be signed anew.
fn of_next_version(body: &[u8]) -> Vec<u8> {
    assert_eq!(body[..2], [8, WIRE_VERSION as u8]);
    [&[8, WIRE_VERSION as u8 + 1], &body[2..]].concat()
}

/// Sends mail to the peer, and returns its stream and what the peer may answer to.
async fn mail_from(victim: &mut Real, hostile: &mut Hostile) -> (u64, Bytes) {
    let address = hostile.forger.address();
    let answer = victim.ask(json!({"type":"send","peerId":address,"data":1,"route":"direct"}));
    assert_eq!(answer["delivery"], "accepted", "{answer}");
    let (token, _, frame) = hostile.node.mail_asked().await;
    (token, hostile.forger.stream_of_mail(&frame).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_later_version_adds_is_passed_over_and_passed_on() {
    let mut scene = Scene::new("bootstrap");
    let mut later = Hostile::meet(Forger::new(0x40), &scene.victim).await;
    later.served_by(&scene.victim).await;
    later.subscribed(&scene.victim, TOPIC).await;
    let address = later.forger.address();

    // Hello and record, on both sides of the honest one's only neighbour.
    let record = extended_record(&later.forger);
    assert!(SignedRecord::decode(record.clone()).is_ok());
    let hello = Hello {
        version: WIRE_VERSION,
        network: "dev".to_owned(),
        record: record.clone(),
        agent_version: "p2p-node/2".to_owned(),
        time_ms: 0,
    };
    let body = extended(&hello.encode_to_vec(), &Hello::SHAPE, &additions()).into();
    later.node.apply(NetworkCommand::SendHello { peer: scene.victim.peer(), body }).await;
    scene.victim.child.expect("the record", |event| {
        event["type"] == "peer_discovered" && event["address"] == address.as_str()
    });
    later.publish("agent-announcements", record.clone()).await;
    scene.honest.child.expect("the record", |event| {
        event["type"] == "peer_discovered" && event["address"] == address.as_str()
    });
    assert!(later.put(later.forger.kad_key(), record.clone()).await);
    let key = later.forger.kad_key();
    assert_eq!(later.get(key).await, [record], "the bytes are as they came");

    // A broadcast, a mail, and the acknowledgement of one.
    let frame = extended_frame(&later.forger, topic(TOPIC), "\"to all\"");
    assert_eq!(later.publish(TOPIC, frame).await, PublishOutcome::Sent);
    for node in [&mut scene.victim, &mut scene.honest] {
        let heard = node.child.expect("the broadcast", |event| event["data"] == "to all");
        assert_eq!(heard["from"], address);
    }
    let victim = Forger::new(VICTIM);
    let plain = later.forger.frame(victim.scope(), "\"to one\"", |_| {});
    let sealed = later.seal_as(&scene.victim, plain, |batch: &Batch| {
        extended(&batch.encode_to_vec(), &Batch::SHAPE, &additions())
    });
    let sealed = sealed.await;
    let body = extended(&sealed[SIGNATURE..], &FrameBody::SHAPE, &additions());
    let sealed = later.forger.sign_frame(&body);
    let answer = later.mail(&scene.victim, sealed).await;
    assert!(matches!(answer, Some(Response::Ack(_))), "{answer:?}");
    scene.victim.child.expect("the mail", |event| event["data"] == "to one");

    let (token, stream) = mail_from(&mut scene.victim, &mut later).await;
    let ack = later.forger.ack(&victim, &stream);
    let ack = extended(&ack[SIGNATURE..], &Ack::SHAPE, &additions());
    let ack = later.forger.node.sign_whole(ACK_DOMAIN, &ack);
    let response = MailResponse { response: Some(Response::Ack(ack)) };
    let body = extended(&response.encode_to_vec(), &MailResponse::SHAPE, &additions()).into();
    later.node.apply(NetworkCommand::AnswerMail { token, body }).await;
    let ended = scene.victim.child.expect("the end", |event| event["type"] == "delivery");
    assert_eq!(ended["state"], "delivered", "{ended}");
    scene.still_honest();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn for_what_is_of_a_later_version_nobody_is_blamed() {
    let mut scene = Scene::new("bootstrap");
    let clean = scene.passed_on();
    let mut later = Hostile::meet(Forger::new(0x40), &scene.victim).await;
    later.served_by(&scene.victim).await;
    later.subscribed(&scene.victim, TOPIC).await;
    let forger = Forger::new(0x40);

    // Frames and records, in a number that would end it for one who is blamed.
    let frame = |data: &'static str, change: &dyn Fn(&mut FrameBody)| {
        forger.frame(topic(TOPIC), data, |body| change(body))
    };
    for number in 0..MANY {
        let frame = match number % 3 {
            0 => forger.sign_frame(&of_next_version(&frame("1", &|_| {})[SIGNATURE..])),
            // A payload that is not known, and a binding that is not.
            1 => forger.sign_frame(&[&frame("1", &|_| {})[SIGNATURE..], b"\x62\x01x"].concat()),
            _ => frame("1", &|body| body.binding = [&body.binding[..], b"\x48\x02"].concat().into()),
        };
        assert_eq!(later.publish(TOPIC, frame).await, PublishOutcome::Sent);
        let record = forger.record(|record| record.seq += number);
        let record = forger.sign_record(&of_next_version(&record[SIGNATURE..]));
        assert_eq!(later.publish("agent-announcements", record.clone()).await, PublishOutcome::Sent);
        later.hello(&scene.victim, record).await;
    }
    scene.victim.until_counted("frames_of_later_versions", MANY);
    scene.victim.until_counted("records_of_later_versions", 2 * MANY);
    assert_eq!(scene.victim.counter("frames_malformed") + scene.victim.counter("records_malformed"), 0);
    later.hello_as(&scene.victim, Bytes::from_static(b"?"), |hello| hello.version = 2).await;
    scene.victim.until_counted("hellos_of_later_versions", 1);
    let mail = forger.frame(Forger::new(VICTIM).scope(), "1", |body| body.version = 2);
    assert_eq!(later.refused_mail(&scene.victim, mail).await, "UNSUPPORTED_VERSION");

    // In the version that both speak it is heard, and passed on, as ever.
    let record = forger.record(|record| record.seq += MANY);
    later.hello(&scene.victim, record).await;
    later.publish(TOPIC, frame("\"as ever\"", &|_| {})).await;
    for node in [&mut scene.victim, &mut scene.honest] {
        node.child.expect("the broadcast", |event| event["data"] == "as ever");
    }
    // An acknowledgement that is not understood ends nothing, and does not keep the next one from
    // being heard.
    let (token, stream) = mail_from(&mut scene.victim, &mut later).await;
    let ack = forger.ack(&Forger::new(VICTIM), &stream);
    let next = forger.node.sign_whole(ACK_DOMAIN, &of_next_version(&ack[SIGNATURE..]));
    assert!(SignedAck::decode(next.clone()).is_err());
    let answer = |ack| Bytes::from(MailResponse { response: Some(Response::Ack(ack)) }.encode_to_vec());
    later.node.apply(NetworkCommand::AnswerMail { token, body: answer(next) }).await;
    scene.victim.until_counted("acks_of_later_versions", 1);
    let (token, _, _) = later.node.mail_asked().await;
    // Nor does an answer of a kind that is not known.
    later.node.apply(NetworkCommand::AnswerMail { token, body: Bytes::from_static(b"\x2a\x01x") }).await;
    scene.victim.until_counted("mail_attempts_failed", 1);
    let (token, _, _) = later.node.mail_asked().await;
    later.node.apply(NetworkCommand::AnswerMail { token, body: answer(ack) }).await;
    let ended = scene.victim.child.expect("the end", |event| event["type"] == "delivery");
    assert_eq!(ended["state"], "delivered", "{ended}");
    assert_eq!(scene.passed_on(), clean, "the victim passed something on");
    scene.still_honest();
}
