//! Invalid frames, over the mail protocol and on a topic.

use bytes::Bytes;
use p2p_node_core::input::PublishOutcome;
use p2p_node_wire::envelope::limits::MAX_GOSSIP_FRAME_BYTES;
use p2p_node_wire::envelope::{FrameBody, Payload, Response, Scope, Sealed};
use prost::Message as _;

use crate::forge::{Forger, SIGNATURE, bent, messages, now_ms, topic};
use crate::peer::Hostile;
use crate::scene::{HONEST, Scene, TOPIC, VICTIM};

const HEARD: [&str; 2] = ["message", "error"];

/// What counts it, what is wrong, and the frame.
type Wrong = (&'static str, &'static str, Bytes);

/// What is wrong wherever it is heard. `scope` is the right one.
fn wrong_frames(forger: &Forger, scope: &dyn Fn() -> Scope) -> Vec<Wrong> {
    let honest = Forger::new(HONEST);
    let good = forger.frame(scope(), "1", |_| {});
    let ms = now_ms();
    let frame = |change: &dyn Fn(&mut FrameBody)| forger.frame(scope(), "1", |body| change(body));
    let resigned = |body: Vec<u8>| forger.sign_frame(&body);
    // A field that has to be understood; and one that need not be, in front of those that have.
    let unknown = [&good[SIGNATURE..], b"\x62\x01x"].concat();
    let misplaced = [b"\xfa\x01\x01x", &good[SIGNATURE..]].concat();
    // Version 1, twice.
    let repeated = [b"\x08\x01", &good[SIGNATURE..]].concat();
    vec![
        ("frames_forged", "a bent signature", bent(&good, 3)),
        ("frames_forged", "a bit of its data turned over", bent(&good, good.len() - 1)),
        ("frames_forged", "signed by another node", honest.sign_frame(&good[SIGNATURE..])),
        (
            "frames_unbound",
            "another's address",
            frame(&|body| body.binding = forger.stolen_binding(&honest).encode()),
        ),
        (
            "bindings_refused",
            "a binding that is over",
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
        ("frames_untimely", "two minutes old", frame(&|body| body.created_at_ms = ms - 121_000)),
        ("frames_untimely", "from the future", frame(&|body| body.created_at_ms = ms + 60_000)),
        ("frames_untimely", "the end of time", frame(&|body| body.created_at_ms = u64::MAX)),
        ("frames_of_later_versions", "a field that is not known", resigned(unknown)),
        ("frames_of_later_versions", "another version", frame(&|body| body.version = 2)),
        ("frames_malformed", "an extension in front", resigned(misplaced)),
        ("frames_malformed", "a field twice", resigned(repeated)),
        ("frames_malformed", "cut short", resigned(good[SIGNATURE..good.len() - 1].to_vec())),
        ("frames_malformed", "no version", frame(&|body| body.version = 0)),
        ("frames_malformed", "no payload", frame(&|body| body.payload = None)),
        (
            "frames_malformed",
            "a stream without its name",
            frame(&|body| messages(body)[0].stream = Bytes::from_static(b"short")),
        ),
        (
            "frames_malformed",
            "a number that could be told again for ever",
            frame(&|body| messages(body)[0].seq = u64::MAX),
        ),
        ("frames_malformed", "no frame at all", Bytes::from_static(b"nonsense")),
        ("frames_malformed", "nothing", Bytes::new()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn wrong_mail_is_refused_and_its_code_says_why() {
    let mut scene = Scene::new("full");
    let victim = Forger::new(VICTIM);
    let mut hostile = Hostile::meet(Forger::new(0x40), &scene.victim).await;
    let mut cases = wrong_frames(&hostile.forger, &|| victim.scope());
    let honest = Forger::new(HONEST);
    let plain = hostile.forger.frame(victim.scope(), "1", |_| {});
    let sealed = hostile.seal(&scene.victim, plain).await;
    let respell = |change: &dyn Fn(&mut Sealed)| {
        let Some(Payload::Sealed(mut sealed)) = FrameBody::decode(&sealed[SIGNATURE..]).unwrap().payload
        else {
            unreachable!()
        };
        change(&mut sealed);
        hostile.forger.frame(victim.scope(), "", |body| body.payload = Some(Payload::Sealed(sealed)))
    };
    let unreadable = respell(&|sealed| sealed.ciphertext = bent(&sealed.ciphertext, 3));
    let theirs = honest.seal(
        &honest.frame(victim.scope(), "1", |_| {}),
        scene.victim.address().parse().unwrap(),
        hostile.kem.as_ref().unwrap(),
        9,
    );
    let another = respell(&|sealed| {
        let body = FrameBody::decode(&theirs[SIGNATURE..]).unwrap();
        let Some(Payload::Sealed(theirs)) = body.payload else { unreachable!() };
        *sealed = theirs;
    });
    let unknown_key = respell(&|sealed| sealed.kem_id = Bytes::from_static(b"?"));
    cases.extend([
        ("frames_of_others", "another's genuine frame", honest.frame(victim.scope(), "1", |_| {})),
        ("frames_out_of_scope", "mail for another", hostile.forger.frame(honest.scope(), "1", |_| {})),
        ("frames_unsealed", "mail for all to read", hostile.forger.frame(victim.scope(), "1", |_| {})),
        ("frames_unreadable", "a bit of what is sealed turned over", unreadable),
        ("frames_unreadable", "what was sealed for another sender", another),
        ("frames_out_of_scope", "a broadcast", hostile.forger.frame(topic(TOPIC), "1", |_| {})),
    ]);
    let clean = scene.passed_on();
    for (counter, what, frame) in cases {
        let before = scene.victim.counter(counter);
        hostile.refused_mail(&scene.victim, frame).await;
        assert_eq!(scene.victim.counter(counter), before + 1, "{what}");
    }
    scene.nothing_said(&HEARD);
    let answer = hostile.mail(&scene.victim, unknown_key).await;
    assert!(matches!(answer, Some(Response::KemUnknown(_))), "{answer:?}");

    // The same peer is heard when it does right, once for each counter.
    let good = hostile.forger.frame(victim.scope(), "\"good\"", |_| {});
    let good = hostile.seal(&scene.victim, good).await;
    let first = hostile.mail(&scene.victim, good.clone()).await;
    assert!(matches!(first, Some(Response::Ack(_))), "{first:?}");
    let said = scene.victim.said(&HEARD);
    assert_eq!((said.len(), &said[0]["data"]), (1, &"good".into()), "{said:#?}");
    assert_eq!(said[0]["from"], hostile.forger.address());
    assert_eq!(hostile.refused_mail(&scene.victim, good.clone()).await, "REPLAYED");
    let last = FrameBody::decode(&good[SIGNATURE..]).unwrap();
    let reused = hostile.forger.frame(victim.scope(), "\"other\"", |body| {
        (body.boot, body.counter) = (last.boot, last.counter);
    });
    let reused = hostile.seal(&scene.victim, reused).await;
    assert_eq!(hostile.refused_mail(&scene.victim, reused).await, "REPLAYED");
    assert_eq!(scene.victim.counter("frames_replayed"), 2);
    scene.nothing_said(&HEARD);
    assert_eq!(scene.passed_on(), clean);
    scene.still_honest();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn wrong_broadcasts_are_neither_told_nor_passed_on() {
    let mut scene = Scene::new("full");
    let clean = scene.passed_on();
    let cases = |forger: &Forger| {
        let mut cases = wrong_frames(forger, &|| topic(TOPIC));
        let honest = Forger::new(HONEST);
        let large = vec![b'1'; MAX_GOSSIP_FRAME_BYTES];
        cases.extend([
            ("frames_out_of_scope", "mail on a topic", forger.frame(honest.scope(), "1", |_| {})),
            ("frames_malformed", "more than a topic carries", forger.frame(topic(TOPIC), large, |_| {})),
            (
                "frames_forged",
                "another's frame, signed anew",
                forger.sign_frame(&honest.frame(topic(TOPIC), "1", |_| {})[SIGNATURE..]),
            ),
            (
                "frames_of_ours",
                "in the victim's own name",
                forger.sign_frame(&Forger::new(VICTIM).frame(topic(TOPIC), "1", |_| {})[SIGNATURE..]),
            ),
        ]);
        cases
    };
    for case in 0..cases(&Forger::new(0x40)).len() {
        // A peer of its own, for a few rejections make a peer unheard.
        let forger = Forger::new(0x40 + case as u8);
        let (counter, what, frame) = cases(&forger).swap_remove(case);
        let before = scene.victim.counter(counter);
        let mut hostile = Hostile::meet(forger, &scene.victim).await;
        hostile.subscribed(&scene.victim, TOPIC).await;
        assert_eq!(hostile.publish(TOPIC, frame).await, PublishOutcome::Sent, "{what}");
        scene.victim.until_counted(counter, before + 1);
        assert_eq!(scene.victim.counter(counter), before + 1, "{what}");
    }
    scene.nothing_said(&HEARD);

    // A counter may not be used twice, whatever else the frame says.
    let mut hostile = Hostile::meet(Forger::new(0x70), &scene.victim).await;
    hostile.subscribed(&scene.victim, TOPIC).await;
    let mut body = hostile.forger.body(topic(TOPIC), "\"first\"");
    for data in ["\"first\"", "\"second\""] {
        messages(&mut body)[0].data = Bytes::from(data);
        hostile.publish(TOPIC, hostile.forger.sign_frame(&body.encode_to_vec())).await;
    }
    for node in [&mut scene.victim, &mut scene.honest] {
        let heard = node.child.expect("what was right", |event| event["type"] == "message");
        assert_eq!(heard["data"], "first");
    }
    scene.victim.until_counted("frames_replayed", 1);
    scene.nothing_said(&HEARD);
    assert_eq!(scene.passed_on(), clean, "the victim passed something on");
    scene.still_honest();
}
