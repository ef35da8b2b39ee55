//! Peers that do not complete their admission, or cheat in it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::input::{Input, PublishOutcome};
use p2p_node_protocol::Role;
use p2p_node_wire::envelope::admission::NONCE_BYTES;
use p2p_node_wire::envelope::{
    Accepted, Admission, Challenge, Connect, Handshake, MailResponse, Response, Side, SignedResponse, Step,
};
use prost::Message as _;
use serde_json::json;

use crate::fixture::{Fixture, Real, TOPIC, VICTIM};
use crate::forge::{Forger, SIGNATURE, topic};
use crate::peer::{Hostile, NONCE, code, entry, introduction, signature};

const EVENTS: [&str; 3] = ["message", "peer_discovered", "error"];

/// Returns what a peer says of itself.
fn connect(hostile: &Hostile) -> Step {
    Step::Connect(introduction(hostile.forger.early_record()))
}

/// Starts a peer of the topic and connects it, without its admission.
async fn connected(number: u64, real: &Real) -> Hostile {
    let mut hostile = Hostile::start(Forger::fake(number), Role::Full).await;
    hostile.node.apply(NetworkCommand::Subscribe { topic: TOPIC.to_owned() }).await;
    hostile.dial(real).await;
    hostile.subscribed(real, TOPIC).await;
    hostile
}

/// Begins an exchange and returns the challenge.
async fn challenged(hostile: &mut Hostile, real: &Real) -> Challenge {
    let own = connect(hostile);
    let Step::Challenge(challenge) = hostile.step(real, own).await else { panic!("no challenge") };
    challenge
}

async fn disconnected(hostile: &mut Hostile) {
    let ended = |input: &Input| matches!(input, Input::Disconnected { .. }).then_some(());
    hostile.node.expect("the end of the connection", ended).await;
}

/// Broadcasts, and sends mail, whose response is awaited later.
async fn send_early(hostile: &mut Hostile, real: &Real, data: &'static str) {
    let frame = hostile.forger.frame(topic(TOPIC), data, |_| {});
    assert_eq!(hostile.publish(TOPIC, frame).await, PublishOutcome::Sent);
    let frame = hostile.forger.frame(Forger::new(VICTIM).scope(), data, |_| {});
    let frame = hostile.seal(real, frame).await.slice(SIGNATURE..);
    hostile.node.apply(NetworkCommand::SendMail { token: 0, peer: real.peer(), frame }).await;
}

/// Asserts that the response to the mail of a peer refuses it.
fn assert_not_admitted(body: Bytes) {
    let response = MailResponse::decode(body).unwrap().response;
    assert!(
        matches!(&response, Some(Response::Refused(refused)) if refused.code == "NOT_ADMITTED"),
        "{response:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_never_finish_have_no_effect_cost_little_and_are_disconnected() {
    // As many as the victim has places for, with its low limit of open files.
    const PEERS: u64 = 5;
    const BROADCASTS: usize = 100;
    let mut fixture = Fixture::new("bootstrap");
    let before = fixture.victim.memory();
    let mut peers = Vec::new();
    for number in 0..PEERS {
        let mut hostile = connected(number, &fixture.victim).await;
        hostile.served_by(&fixture.victim).await;
        let began = Instant::now();
        // Half of them go as far as the challenge.
        if number % 2 == 0 {
            challenged(&mut hostile, &fixture.victim).await;
            send_early(&mut hostile, &fixture.victim, "1").await;
        }
        for _ in 0..BROADCASTS {
            let frame = hostile.forger.frame(topic(TOPIC), vec![b'1'; 16 << 10], |_| {});
            hostile.publish(TOPIC, frame).await;
        }
        let key = hostile.forger.kad_key();
        let record = hostile.forger.record(|_| {});
        hostile.put(key, record).await;
        peers.push((hostile, began));
    }
    // The node holds 64 of each.
    fixture.victim.until_counted("data_not_admitted", PEERS * (BROADCASTS as u64 - 64));
    let grown = fixture.victim.memory().saturating_sub(before) >> 20;
    assert!(grown < 24, "{grown} MiB");
    fixture.check_honest_traffic();
    for (number, (mut hostile, began)) in peers.into_iter().enumerate() {
        disconnected(&mut hostile).await;
        assert!(began.elapsed() > Duration::from_secs(8), "too early: {:?}", began.elapsed());
        if number % 2 == 0 {
            // The node closes the connection when it has answered, so the response may be lost.
            hostile.node.mail_response().await.1.into_iter().for_each(assert_not_admitted);
        }
    }
    fixture.victim.until("only the honest peer", |status| status["peers"] == 1 && status["agents"] == 1);
    assert_eq!(fixture.victim.counter("admissions_timed_out"), PEERS);
    fixture.assert_no_events(&EVENTS);
    fixture.check_honest_traffic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn data_before_acceptance_waits_for_it_and_is_dropped_with_a_refusal() {
    let mut fixture = Fixture::new("full");
    for (number, is_honest) in [(1, false), (2, true)] {
        let mut hostile = connected(number, &fixture.victim).await;
        let challenge = challenged(&mut hostile, &fixture.victim).await;
        let held = fixture.victim.counter("data_held_for_admission");
        send_early(&mut hostile, &fixture.victim, if is_honest { "\"honest\"" } else { "\"forged\"" }).await;
        fixture.victim.until_counted("data_held_for_admission", held + 2);
        fixture.assert_no_events(&EVENTS);
        let signer = if is_honest { number } else { 99 };
        let signature = signature(&Forger::fake(signer), fixture.victim.peer(), &challenge, |_| {});
        let answer = hostile.step(&fixture.victim, Step::SignedResponse(SignedResponse { signature })).await;
        if is_honest {
            assert_eq!(answer, Step::Accepted(Accepted {}));
            for _ in 0..2 {
                fixture.victim.child.expect("broadcast and mail", |event| event["data"] == "honest");
            }
            fixture.honest.child.expect("the broadcast", |event| event["data"] == "honest");
        } else {
            assert_eq!(code(answer), "FORGED");
            // The connection stays for a second, so the response arrives.
            assert_not_admitted(hostile.node.mail_response().await.1.expect("a response"));
            assert_eq!(fixture.victim.counter("data_not_admitted"), 2);
            disconnected(&mut hostile).await;
            fixture.assert_no_events(&EVENTS);
        }
    }
    fixture.check_honest_traffic();
}

/// Returns the signature of a peer at an end of its exchange, with a role.
fn signed(forger: &Forger, real: &Real, challenge: &Challenge, side: Side, role: Role) -> Bytes {
    let (own, other) = (forger.node.peer_id(), real.peer());
    let exchange = Handshake {
        network: "dev",
        initiator: &own,
        responder: &other,
        initiator_nonce: &NONCE,
        responder_nonce: &challenge.responder.as_ref().unwrap().nonce,
    };
    exchange.sign(side, role, &forger.node)
}

/// Returns a signature that does not prove the peer of a challenge.
fn wrong_signature(case: u64, forger: &Forger, real: &Real, challenge: &Challenge) -> Option<Bytes> {
    const OTHER: [u8; NONCE_BYTES] = [7; NONCE_BYTES];
    let victim = real.peer();
    let other = Forger::fake(1_000);
    Some(match case {
        0 => signature(&other, victim, challenge, |_| {}),
        1 => signature(forger, other.node.peer_id(), challenge, |_| {}),
        2 => signature(forger, victim, challenge, |exchange| exchange.network = "other"),
        3 => signature(forger, victim, challenge, |exchange| exchange.initiator_nonce = &OTHER),
        4 => signature(forger, victim, challenge, |exchange| exchange.responder_nonce = &OTHER),
        5 => signed(forger, real, challenge, Side::Responder, Role::Full),
        6 => signed(forger, real, challenge, Side::Initiator, Role::Bootstrap),
        7 => challenge.signature.clone(),
        _ => return None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn signature_of_another_key_exchange_network_end_or_role_is_refused() {
    let mut fixture = Fixture::new("full");
    let mut cases = 0;
    loop {
        let mut hostile = connected(cases, &fixture.victim).await;
        let challenge = challenged(&mut hostile, &fixture.victim).await;
        let Some(signature) = wrong_signature(cases, &hostile.forger, &fixture.victim, &challenge) else {
            break;
        };
        let answer = hostile.step(&fixture.victim, Step::SignedResponse(SignedResponse { signature })).await;
        assert_eq!(code(answer), "FORGED", "case {cases}");
        disconnected(&mut hostile).await;
        cases += 1;
    }
    assert!(cases > 7);
    assert_eq!(fixture.victim.counter("admissions_refused"), cases);
    fixture.assert_no_events(&EVENTS);
    fixture.check_honest_traffic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn signature_serves_one_exchange_only() {
    let mut fixture = Fixture::new("full");
    let mut hostile = connected(1, &fixture.victim).await;
    let challenge = challenged(&mut hostile, &fixture.victim).await;
    let signature = signature(&hostile.forger, fixture.victim.peer(), &challenge, |_| {});
    let response = || Step::SignedResponse(SignedResponse { signature: signature.clone() });
    assert_eq!(hostile.step(&fixture.victim, response()).await, Step::Accepted(Accepted {}));
    // On the same connection without and with another challenge, and on another connection.
    assert_eq!(code(hostile.step(&fixture.victim, response()).await), "OUT_OF_TURN");
    disconnected(&mut hostile).await;
    for _ in 0..2 {
        hostile.dial(&fixture.victim).await;
        challenged(&mut hostile, &fixture.victim).await;
        assert_eq!(code(hostile.step(&fixture.victim, response()).await), "FORGED");
        disconnected(&mut hostile).await;
    }
    fixture.check_honest_traffic();
}

/// Makes a step wrong.
type Change = fn(&mut Admission, &mut Connect);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn malformed_steps_and_claims_of_another_role_network_or_version_are_refused() {
    let mut fixture = Fixture::new("full");
    let changes: [(&str, Change); 5] = [
        ("MALFORMED", |_, connect| connect.agent_version = "two\nlines".to_owned()),
        ("MALFORMED", |_, connect| connect.record = Bytes::new()),
        ("WRONG_ROLE", |_, connect| connect.role = 1),
        ("WRONG_NETWORK", |_, connect| connect.network = "other".to_owned()),
        ("UNSUPPORTED_VERSION", |admission, _| admission.version += 1),
    ];
    for (number, (expected, change)) in (0..).zip(changes) {
        let mut hostile = connected(number, &fixture.victim).await;
        let mut own = introduction(hostile.forger.early_record());
        let mut admission = Admission::of(Step::Accepted(Accepted {}));
        change(&mut admission, &mut own);
        admission.step = Some(Step::Connect(own));
        let answer = hostile.step_as(&fixture.victim, admission.encode_to_vec().into()).await;
        assert_eq!(code(answer), expected);
        disconnected(&mut hostile).await;
    }
    assert_eq!(fixture.victim.counter("admissions_of_later_versions"), 1);
    fixture.assert_no_events(&EVENTS);
    fixture.check_honest_traffic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn node_refuses_the_challenge_of_another_key_exchange_role_or_network() {
    for (case, expected) in (0..).zip(["FORGED", "FORGED", "WRONG_ROLE", "WRONG_NETWORK", "INVALID_RECORD"]) {
        let mut contact = Hostile::start(Forger::fake(case), Role::Full).await;
        let mut newcomer = Real::join(VICTIM, &[], &[entry(&contact)]);
        let (token, Step::Connect(mut asked)) = contact.asked().await else { panic!("no connect") };
        if case == 1 {
            // The nonce of another exchange.
            asked.nonce = Bytes::from_static(&[7; NONCE_BYTES]);
        }
        let mut challenge = contact.challenge(newcomer.peer(), &asked, contact.forger.early_record());
        let own = challenge.responder.as_mut().unwrap();
        match case {
            0 => challenge.signature = Bytes::from_static(&[7; SIGNATURE]),
            2 => own.role = 1,
            3 => own.network = "other".to_owned(),
            4 => own.record = Forger::fake(1_000).early_record(),
            _ => {}
        }
        contact.answer(token, Step::Challenge(challenge)).await;
        let (token, answer) = contact.asked().await;
        assert_eq!(code(answer.clone()), expected, "case {case}");
        contact.answer(token, answer).await;
        let ended = newcomer.child.expect("the end", |event| event["type"] == "peer_disconnected");
        assert!(ended["reason"].as_str().unwrap().contains(expected), "{ended}");
        let found = newcomer.take_events(&EVENTS);
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(newcomer.status()["agents"], 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loops_of_handshakes_are_cut_off_and_keep_no_newcomer_out() {
    const PEERS: u64 = 20;
    let mut fixture = Fixture::new("bootstrap");
    let before = fixture.victim.memory();
    for number in 0..PEERS {
        let mut hostile = connected(number, &fixture.victim).await;
        let (began, mut challenges) = (Instant::now(), 0);
        loop {
            let own = connect(&hostile);
            match hostile.step(&fixture.victim, own).await {
                Step::Challenge(_) => challenges += 1,
                Step::Rejected(rejected) if rejected.code == "BUSY" => {}
                cut_off => break assert_eq!(code(cut_off), "TOO_MANY"),
            }
        }
        // A burst of 32, and ten a second.
        assert!(challenges <= 32 + began.elapsed().as_millis() / 100 + 1, "{challenges} challenges");
        disconnected(&mut hostile).await;
    }
    assert_eq!(fixture.victim.counter("admissions_refused"), PEERS);
    let mut newcomer = Real::join(0x30, &[], &[fixture.victim.entry()]);
    let mail = json!({"type":"send","peerId":fixture.victim.address(),"data":"hello","id":"first"});
    newcomer.child.command(mail);
    let delivery = newcomer.child.expect("delivery", |event| event["type"] == "delivery");
    assert_eq!(delivery["state"], "delivered", "{delivery}");
    let grown = fixture.victim.memory().saturating_sub(before) >> 20;
    assert!(grown < 24, "{grown} MiB");
    fixture.check_honest_traffic();
}
