//! A node of a later version in the network: nodes of this version ignore and forward its
//! additions, and do not penalise peers for unknown content.

use bytes::Bytes;
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::{Input, PublishOutcome};
use p2p_node_protocol::Role;
use p2p_node_wire::envelope::{
    Accepted, Ack, Admission, Batch, FrameBody, MailResponse, Response, Scope, SignedResponse, Step,
    WIRE_VERSION, strict_decode,
};
use p2p_node_wire::identity::SignedBinding;
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::strict::Wire;
use prost::Message as _;
use serde_json::json;

use crate::extended::{BINDING, Extension, RECORD, extended};
use crate::fixture::{Fixture, Real, TOPIC, VICTIM};
use crate::forge::{Forger, SIGNATURE, ack, topic};
use crate::peer::{Hostile, code, introduction, signature};

/// More messages than it takes to graylist or ban a peer that is penalised for each.
const MANY: u64 = 30;

/// Returns the additions of a later version to every message.
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

/// Returns a body with the next version; it must be signed again.
fn as_next_version(body: &[u8]) -> Vec<u8> {
    assert_eq!(body[..2], [8, WIRE_VERSION as u8]);
    [&[8, WIRE_VERSION as u8 + 1], &body[2..]].concat()
}

/// Sends mail to the peer. Returns the token of the request, and the stream of the mail.
async fn mail_from(victim: &mut Real, hostile: &mut Hostile) -> (u64, Bytes) {
    let address = hostile.forger.address();
    let answer = victim.request(json!({"type":"send","peerId":address,"data":1,"route":"direct"}));
    assert_eq!(answer["delivery"], "accepted", "{answer}");
    let (token, _, frame) = hostile.node.mail_request().await;
    (token, hostile.forger.stream_of_mail(&frame).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn additions_of_a_later_version_are_ignored_and_forwarded() {
    let mut fixture = Fixture::new("bootstrap");
    let mut later = Hostile::start(Forger::new(0x40), Role::Full).await;
    later.dial(&fixture.victim).await;
    later.served_by(&fixture.victim).await;
    later.subscribed(&fixture.victim, TOPIC).await;
    let address = later.forger.address();

    // Admission and record, on both sides of the honest peer's only neighbour.
    let record = extended_record(&later.forger);
    assert!(SignedRecord::decode(record.clone()).is_ok());
    let own = Step::Connect(introduction(record.clone()));
    let body = extended(&Admission::encode(own), &Admission::SHAPE, &additions()).into();
    let Step::Challenge(challenge) = later.step_as(&fixture.victim, body).await else {
        panic!("no challenge")
    };
    let signature = signature(&later.forger, fixture.victim.peer(), &challenge, |_| {});
    let response = Step::SignedResponse(SignedResponse { signature });
    let body = extended(&Admission::encode(response), &Admission::SHAPE, &additions()).into();
    assert_eq!(later.step_as(&fixture.victim, body).await, Step::Accepted(Accepted {}));
    fixture.victim.child.expect("the record", |event| {
        event["type"] == "peer_discovered" && event["address"] == address.as_str()
    });
    later.publish("agent-announcements", record.clone()).await;
    fixture.honest.child.expect("the record", |event| {
        event["type"] == "peer_discovered" && event["address"] == address.as_str()
    });
    assert!(later.put(later.forger.kad_key(), record.clone()).await);
    let key = later.forger.kad_key();
    assert_eq!(later.get(key).await, [record], "the stored bytes are unchanged");

    // A broadcast, mail, and an ack.
    let frame = extended_frame(&later.forger, topic(TOPIC), "\"to all\"");
    assert_eq!(later.publish(TOPIC, frame).await, PublishOutcome::Sent);
    for node in [&mut fixture.victim, &mut fixture.honest] {
        let message = node.child.expect("the broadcast", |event| event["data"] == "to all");
        assert_eq!(message["from"], address);
    }
    let victim = Forger::new(VICTIM);
    let plain = later.forger.frame(victim.scope(), "\"to one\"", |_| {});
    let sealed = later.seal_as(&fixture.victim, plain, |batch: &Batch| {
        extended(&batch.encode_to_vec(), &Batch::SHAPE, &additions())
    });
    let sealed = sealed.await;
    let body = extended(&sealed[SIGNATURE..], &FrameBody::SHAPE, &additions());
    let sealed = later.forger.sign_frame(&body);
    let answer = later.mail(&fixture.victim, sealed).await;
    assert!(matches!(answer, Some(Response::Ack(_))), "{answer:?}");
    fixture.victim.child.expect("the mail", |event| event["data"] == "to one");

    let (token, stream) = mail_from(&mut fixture.victim, &mut later).await;
    let ack = extended(&ack(&victim, &stream), &Ack::SHAPE, &additions()).into();
    let response = MailResponse { response: Some(Response::Ack(ack)) };
    let body = extended(&response.encode_to_vec(), &MailResponse::SHAPE, &additions()).into();
    later.node.apply(NetworkCommand::AnswerMail { token, body }).await;
    let delivery = fixture.victim.child.expect("the delivery", |event| event["type"] == "delivery");
    assert_eq!(delivery["state"], "delivered", "{delivery}");
    fixture.check_honest_traffic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn steps_of_a_later_version_are_refused_again_and_again_without_a_ban() {
    let mut fixture = Fixture::new("full");
    let mut later = Hostile::start(Forger::new(0x40), Role::Full).await;
    for _ in 0..MANY {
        later.dial(&fixture.victim).await;
        let own = Step::Connect(introduction(later.forger.early_record()));
        let body = as_next_version(&Admission::encode(own)).into();
        assert_eq!(code(later.step_as(&fixture.victim, body).await), "UNSUPPORTED_VERSION");
        later.node.apply(NetworkCommand::Disconnect { peer: fixture.victim.peer() }).await;
        let ended = |input: &Input| matches!(input, Input::Disconnected { .. }).then_some(());
        later.node.expect("the end of the connection", ended).await;
    }
    assert_eq!(fixture.victim.counter("admissions_of_later_versions"), MANY);
    later.dial(&fixture.victim).await;
    let record = later.forger.early_record();
    assert_eq!(later.admit(&fixture.victim, record).await, Step::Accepted(Accepted {}));
    fixture.check_honest_traffic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn content_of_a_later_version_is_not_penalised() {
    let mut fixture = Fixture::new("bootstrap");
    let clean = fixture.refused_by_honest();
    let mut later = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    later.served_by(&fixture.victim).await;
    later.subscribed(&fixture.victim, TOPIC).await;
    let forger = Forger::new(0x40);

    // So many frames and records that a penalised peer would be graylisted.
    let frame = |data: &'static str, change: &dyn Fn(&mut FrameBody)| {
        forger.frame(topic(TOPIC), data, |body| change(body))
    };
    for number in 0..MANY {
        let frame = match number % 3 {
            0 => forger.sign_frame(&as_next_version(&frame("1", &|_| {})[SIGNATURE..])),
            // An unknown field of the frame, and one of the binding.
            1 => forger.sign_frame(&[&frame("1", &|_| {})[SIGNATURE..], b"\x62\x01x"].concat()),
            _ => frame("1", &|body| body.binding = [&body.binding[..], b"\x48\x02"].concat().into()),
        };
        assert_eq!(later.publish(TOPIC, frame).await, PublishOutcome::Sent);
        let record = forger.record(|record| record.seq += number);
        let record = forger.sign_record(&as_next_version(&record[SIGNATURE..]));
        assert_eq!(later.publish("agent-announcements", record).await, PublishOutcome::Sent);
    }
    fixture.victim.until_counted("frames_of_later_versions", MANY);
    fixture.victim.until_counted("records_of_later_versions", MANY);
    assert_eq!(fixture.victim.counter("frames_malformed") + fixture.victim.counter("records_malformed"), 0);
    let mail = forger.frame(Forger::new(VICTIM).scope(), "1", |body| body.version = 2);
    assert_eq!(later.refused_mail(&fixture.victim, mail).await, "UNSUPPORTED_VERSION");

    // Messages in the common version are delivered and forwarded.
    let record = forger.record(|record| record.seq += MANY);
    later.admit(&fixture.victim, record).await;
    later.publish(TOPIC, frame("\"common version\"", &|_| {})).await;
    for node in [&mut fixture.victim, &mut fixture.honest] {
        node.child.expect("the broadcast", |event| event["data"] == "common version");
    }
    // An unknown ack completes nothing, and the next ack is processed.
    let (token, stream) = mail_from(&mut fixture.victim, &mut later).await;
    let ack = ack(&Forger::new(VICTIM), &stream);
    let next = Bytes::from(as_next_version(&ack));
    assert!(strict_decode::<Ack>(&next).is_err());
    let answer = |ack| Bytes::from(MailResponse { response: Some(Response::Ack(ack)) }.encode_to_vec());
    later.node.apply(NetworkCommand::AnswerMail { token, body: answer(next) }).await;
    fixture.victim.until_counted("acks_of_later_versions", 1);
    let (token, _, _) = later.node.mail_request().await;
    // The same holds for a response of an unknown kind.
    later.node.apply(NetworkCommand::AnswerMail { token, body: Bytes::from_static(b"\x2a\x01x") }).await;
    fixture.victim.until_counted("mail_attempts_failed", 1);
    let (token, _, _) = later.node.mail_request().await;
    later.node.apply(NetworkCommand::AnswerMail { token, body: answer(ack) }).await;
    let delivery = fixture.victim.child.expect("the delivery", |event| event["type"] == "delivery");
    assert_eq!(delivery["state"], "delivered", "{delivery}");
    assert_eq!(fixture.refused_by_honest(), clean, "the victim forwarded unknown content");
    fixture.check_honest_traffic();
}
