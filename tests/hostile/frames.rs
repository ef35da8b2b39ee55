//! Invalid frames, over the mail protocol and on a topic.

use bytes::Bytes;
use p2p_node_core::input::PublishOutcome;
use p2p_node_wire::envelope::limits::MAX_GOSSIP_FRAME_BYTES;
use p2p_node_wire::envelope::{FrameBody, Payload, Response, Scope, Sealed};
use prost::Message as _;

use crate::fixture::{Fixture, HONEST, TOPIC, VICTIM};
use crate::forge::{Forger, SIGNATURE, corrupt, messages, now_ms, topic};
use crate::peer::Hostile;

const EVENTS: [&str; 2] = ["message", "error"];

/// The counter, a description, and the frame.
type Wrong = (&'static str, &'static str, Bytes);

/// Returns frames that are invalid on every route. `scope` is the valid scope.
fn wrong_frames(forger: &Forger, scope: &dyn Fn() -> Scope) -> Vec<Wrong> {
    let honest = Forger::new(HONEST);
    let good = forger.frame(scope(), "1", |_| {});
    let ms = now_ms();
    let frame = |change: &dyn Fn(&mut FrameBody)| forger.frame(scope(), "1", |body| change(body));
    let resigned = |body: Vec<u8>| forger.sign_frame(&body);
    // An unknown field without the number of an extension; and an extension before known fields.
    let unknown = [&good[SIGNATURE..], b"\x62\x01x"].concat();
    let misplaced = [b"\xfa\x01\x01x", &good[SIGNATURE..]].concat();
    // Version 1, twice.
    let repeated = [b"\x08\x01", &good[SIGNATURE..]].concat();
    vec![
        ("frames_forged", "a corrupt signature", corrupt(&good, 3)),
        ("frames_forged", "a bit of its data flipped", corrupt(&good, good.len() - 1)),
        ("frames_forged", "signed by another node", honest.sign_frame(&good[SIGNATURE..])),
        (
            "frames_binding_forged",
            "another's address",
            frame(&|body| body.binding = forger.stolen_binding(&honest).encode()),
        ),
        (
            "bindings_refused",
            "an expired binding",
            frame(&|body| {
                let past = ms / 1000 - 120;
                let old = forger.binding(|b| (b.not_before, b.not_after) = (past, past + 60));
                body.binding = old.encode();
            }),
        ),
        (
            "frames_out_of_scope",
            "a binding for another network",
            frame(&|body| body.binding = forger.binding(|b| b.network = "other".to_owned()).encode()),
        ),
        ("frames_out_of_scope", "another network", frame(&|body| body.network = "other".to_owned())),
        ("frames_out_of_scope", "another topic", frame(&|body| body.scope = Some(topic("other")))),
        ("frames_clock_out_of_range", "two minutes old", frame(&|body| body.created_at_ms = ms - 121_000)),
        ("frames_clock_out_of_range", "from the future", frame(&|body| body.created_at_ms = ms + 60_000)),
        ("frames_clock_out_of_range", "the largest time", frame(&|body| body.created_at_ms = u64::MAX)),
        ("frames_of_later_versions", "an unknown field", resigned(unknown)),
        ("frames_of_later_versions", "another version", frame(&|body| body.version = 2)),
        ("frames_malformed", "an extension before known fields", resigned(misplaced)),
        ("frames_malformed", "a field twice", resigned(repeated)),
        ("frames_malformed", "cut short", resigned(good[SIGNATURE..good.len() - 1].to_vec())),
        ("frames_malformed", "no version", frame(&|body| body.version = 0)),
        ("frames_malformed", "no payload", frame(&|body| body.payload = None)),
        (
            "frames_malformed",
            "an invalid stream id",
            frame(&|body| messages(body)[0].stream = Bytes::from_static(b"short")),
        ),
        ("frames_malformed", "the largest sequence number", frame(&|body| messages(body)[0].seq = u64::MAX)),
        ("frames_malformed", "no frame", Bytes::from_static(b"nonsense")),
        ("frames_malformed", "nothing", Bytes::new()),
    ]
}

/// Checks that a valid frame of a peer is accepted, once for each counter.
async fn check_counters_are_used_once(fixture: &mut Fixture, hostile: &mut Hostile) {
    let victim = Forger::new(VICTIM);
    let good = hostile.forger.frame(victim.scope(), "\"good\"", |_| {});
    let good = hostile.seal(&fixture.victim, good).await;
    let first = hostile.mail(&fixture.victim, good.clone()).await;
    assert!(matches!(first, Some(Response::Ack(_))), "{first:?}");
    let events = fixture.victim.take_events(&EVENTS);
    assert_eq!((events.len(), &events[0]["data"]), (1, &"good".into()), "{events:#?}");
    assert_eq!(events[0]["from"], hostile.forger.address());
    assert_eq!(hostile.refused_mail(&fixture.victim, good.clone()).await, "REPLAYED");
    let last = FrameBody::decode(&good[SIGNATURE..]).unwrap();
    let reused = hostile.forger.frame(victim.scope(), "\"other\"", |body| {
        (body.boot, body.counter) = (last.boot, last.counter);
    });
    let reused = hostile.seal(&fixture.victim, reused).await;
    assert_eq!(hostile.refused_mail(&fixture.victim, reused).await, "REPLAYED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn invalid_mail_frames_are_refused_with_their_code() {
    let mut fixture = Fixture::new("full");
    let victim = Forger::new(VICTIM);
    let mut hostile = Hostile::join(Forger::new(0x40), &fixture.victim).await;
    let mut cases = wrong_frames(&hostile.forger, &|| victim.scope());
    // On the connection of its sender a frame has no signature.
    cases.retain(|(counter, _, _)| *counter != "frames_forged");
    let honest = Forger::new(HONEST);
    let plain = hostile.forger.frame(victim.scope(), "1", |_| {});
    let sealed = hostile.seal(&fixture.victim, plain).await;
    let with_changed_seal = |change: &dyn Fn(&mut Sealed)| {
        let Some(Payload::Sealed(mut sealed)) = FrameBody::decode(&sealed[SIGNATURE..]).unwrap().payload
        else {
            unreachable!()
        };
        change(&mut sealed);
        hostile.forger.frame(victim.scope(), "", |body| body.payload = Some(Payload::Sealed(sealed)))
    };
    let corrupt_ciphertext = with_changed_seal(&|sealed| sealed.ciphertext = corrupt(&sealed.ciphertext, 3));
    let theirs = honest.seal(
        &honest.frame(victim.scope(), "1", |_| {}),
        fixture.victim.address().parse().unwrap(),
        hostile.kem.as_ref().unwrap(),
        9,
    );
    let another = with_changed_seal(&|sealed| {
        let body = FrameBody::decode(&theirs[SIGNATURE..]).unwrap();
        let Some(Payload::Sealed(theirs)) = body.payload else { unreachable!() };
        *sealed = theirs;
    });
    let unknown_key = with_changed_seal(&|sealed| sealed.kem_id = Bytes::from_static(b"?"));
    cases.extend([
        ("frames_of_others", "another's genuine frame", honest.frame(victim.scope(), "1", |_| {})),
        ("frames_out_of_scope", "mail for another", hostile.forger.frame(honest.scope(), "1", |_| {})),
        ("frames_not_encrypted", "plain mail", hostile.forger.frame(victim.scope(), "1", |_| {})),
        ("frames_not_decrypted", "a bit of what is sealed flipped", corrupt_ciphertext),
        ("frames_not_decrypted", "content sealed by another sender", another),
        ("frames_out_of_scope", "a broadcast", hostile.forger.frame(topic(TOPIC), "1", |_| {})),
    ]);
    let clean = fixture.refused_by_honest();
    for (counter, what, frame) in cases {
        let before = fixture.victim.counter(counter);
        hostile.refused_mail(&fixture.victim, frame).await;
        assert_eq!(fixture.victim.counter(counter), before + 1, "{what}");
    }
    fixture.assert_no_events(&EVENTS);
    let answer = hostile.mail(&fixture.victim, unknown_key).await;
    assert!(matches!(answer, Some(Response::KemUnknown(_))), "{answer:?}");

    check_counters_are_used_once(&mut fixture, &mut hostile).await;
    assert_eq!(fixture.victim.counter("frames_replayed"), 2);
    fixture.assert_no_events(&EVENTS);
    assert_eq!(fixture.refused_by_honest(), clean);
    fixture.check_honest_traffic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn invalid_broadcasts_are_neither_delivered_nor_forwarded() {
    let mut fixture = Fixture::new("full");
    let clean = fixture.refused_by_honest();
    let cases = |forger: &Forger| {
        let mut cases = wrong_frames(forger, &|| topic(TOPIC));
        let honest = Forger::new(HONEST);
        let large = vec![b'1'; MAX_GOSSIP_FRAME_BYTES];
        cases.extend([
            ("frames_out_of_scope", "mail on a topic", forger.frame(honest.scope(), "1", |_| {})),
            ("frames_malformed", "larger than a topic allows", forger.frame(topic(TOPIC), large, |_| {})),
            (
                "frames_forged",
                "another's frame, signed again",
                forger.sign_frame(&honest.frame(topic(TOPIC), "1", |_| {})[SIGNATURE..]),
            ),
            (
                "frames_forged",
                "in the victim's own name",
                forger.sign_frame(&Forger::new(VICTIM).frame(topic(TOPIC), "1", |_| {})[SIGNATURE..]),
            ),
        ]);
        cases
    };
    for case in 0..cases(&Forger::new(0x40)).len() {
        // A new peer for each frame, because a few rejections graylist a peer.
        let forger = Forger::new(0x40 + case as u8);
        let (counter, what, frame) = cases(&forger).swap_remove(case);
        let before = fixture.victim.counter(counter);
        let mut hostile = Hostile::join(forger, &fixture.victim).await;
        hostile.subscribed(&fixture.victim, TOPIC).await;
        assert_eq!(hostile.publish(TOPIC, frame).await, PublishOutcome::Sent, "{what}");
        fixture.victim.until_counted(counter, before + 1);
        assert_eq!(fixture.victim.counter(counter), before + 1, "{what}");
    }
    fixture.assert_no_events(&EVENTS);

    // A counter must not be reused, even by a valid frame.
    let mut hostile = Hostile::join(Forger::new(0x70), &fixture.victim).await;
    hostile.subscribed(&fixture.victim, TOPIC).await;
    let mut body = hostile.forger.body(topic(TOPIC), "\"first\"");
    for data in ["\"first\"", "\"second\""] {
        messages(&mut body)[0].data = Bytes::from(data);
        hostile.publish(TOPIC, hostile.forger.sign_frame(&body.encode_to_vec())).await;
    }
    for node in [&mut fixture.victim, &mut fixture.honest] {
        let message = node.child.expect("the first frame", |event| event["type"] == "message");
        assert_eq!(message["data"], "first");
    }
    fixture.victim.until_counted("frames_replayed", 1);
    fixture.assert_no_events(&EVENTS);
    assert_eq!(fixture.refused_by_honest(), clean, "the victim forwarded an invalid frame");
    fixture.check_honest_traffic();
}
