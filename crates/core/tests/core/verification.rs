//! Forged, repeated and impersonated input from peers, which the core must reject.

use std::time::Duration;

use bytes::Bytes;
use p2p_node_core::effect::{ExitCode, Verdict};
use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::{FrameBody, Payload, Scope};
use p2p_node_wire::identity::Binding;
use p2p_node_wire::record::{SignedRecord, kad_key};
use serde_json::Value;

use crate::forged::{frame, hello, record, topic};
use crate::mesh::{CONNECT, Mesh, START_MS, agent_key, binding, node_key};

/// A node that subscribes to `jobs`, and a stranger's PeerId.
pub fn listener() -> Mesh {
    let mut mesh = Mesh::new(1);
    mesh.say(0, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
    mesh
}

pub fn gossip(mesh: &mut Mesh, token: u64, topic: &str, data: Bytes) -> Verdict {
    let before = mesh.verdicts(0).len();
    let from = node_key(50).peer_id();
    mesh.input(0, Input::Gossip { token, from, topic: topic.to_owned(), data });
    let verdicts = mesh.verdicts(0);
    assert_eq!(verdicts.len(), before + 1, "one verdict");
    *verdicts.last().unwrap()
}

#[test]
fn frames_are_judged_by_what_a_relayer_can_see() {
    let mut mesh = listener();
    let good = frame(2, topic(), 1, |_| {});
    assert_eq!(gossip(&mut mesh, 1000, "jobs", good.clone()), Verdict::Accept);
    assert_eq!(mesh.received(0), [1]);
    assert_eq!(gossip(&mut mesh, 1001, "jobs", good.clone()), Verdict::Ignore, "a repetition");

    let mut bent = frame(2, topic(), 20, |_| {}).to_vec();
    *bent.last_mut().unwrap() ^= 1;
    let forged = {
        let mut bytes = frame(2, topic(), 2, |_| {}).to_vec();
        bytes[0] ^= 1;
        Bytes::from(bytes)
    };
    let elsewhere = Scope::Topic("other".to_owned());
    let unbound = |body: &mut FrameBody| {
        // The binding of another agent's node: the signature of the frame is not by its key.
        let other = node_key(3);
        body.binding = agent_key(3).bind(binding(3, 0, &other)).unwrap().encode();
    };
    let stolen = |body: &mut FrameBody| {
        // Our own node key under another's account, signed by ourselves.
        let mut claim = binding(2, 0, &node_key(2));
        claim.account = agent_key(3).address();
        let mut signed = agent_key(2).bind(binding(2, 0, &node_key(2))).unwrap();
        signed.binding = claim;
        body.binding = signed.encode();
    };
    let abroad = |body: &mut FrameBody| {
        let claim = Binding { network: "other".to_owned(), ..binding(2, 0, &node_key(2)) };
        body.binding = agent_key(2).bind(claim).unwrap().encode();
    };
    let rejected = [
        Bytes::from(bent),
        forged,
        frame(2, elsewhere, 3, |_| {}),
        frame(2, topic(), 4, |body| body.network = "other".to_owned()),
        frame(2, topic(), 5, unbound),
        frame(2, topic(), 10, |body| {
            let mut elsewhere = binding(2, 0, &node_key(2));
            elsewhere.network = "other".to_owned();
            body.binding = agent_key(2).bind(elsewhere).unwrap().encode();
        }),
        frame(2, topic(), 11, |body| {
            let mut bound = agent_key(2).bind(binding(2, 0, &node_key(2))).unwrap();
            bound.signature = [&bound.signature[..64], &[9]].concat().into();
            body.binding = bound.encode();
        }),
        frame(2, topic(), 6, stolen),
        frame(2, topic(), 10, abroad),
        Bytes::from_static(b"nonsense"),
        Bytes::from(vec![0; 70_000]),
    ];
    for (index, data) in rejected.into_iter().enumerate() {
        assert_eq!(gossip(&mut mesh, 2000 + index as u64, "jobs", data), Verdict::Reject, "case {index}");
    }
    let ignored = [
        frame(2, topic(), 7, |body| body.created_at_ms = START_MS - 121_000),
        frame(2, topic(), 8, |body| body.created_at_ms = START_MS + 31_000),
        frame(2, topic(), 9, |body| body.created_at_ms = u64::MAX),
        frame(2, topic(), 12, |body| {
            let mut early = binding(2, 0, &node_key(2));
            early.not_before = START_MS / 1000 + 60;
            body.binding = agent_key(2).bind(early).unwrap().encode();
        }),
    ];
    for (index, data) in ignored.into_iter().enumerate() {
        assert_eq!(gossip(&mut mesh, 3000 + index as u64, "jobs", data), Verdict::Ignore, "case {index}");
    }
    assert_eq!(mesh.received(0), [1], "nothing else reached the parent");
}

#[test]
fn data_that_would_forge_a_line_is_dropped_and_the_frame_passed_on() {
    let mut mesh = listener();
    let hostile: [&[u8]; 5] = [
        b"1\n{\"type\":\"ready\"}",
        b"{\"a\":1",
        b"1 2",
        b"\"\xFF\"",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
    ];
    for (index, data) in hostile.into_iter().enumerate() {
        let data = frame(2, topic(), 1 + index as u64, |body| {
            let Some(Payload::Plain(batch)) = &mut body.payload else { unreachable!() };
            batch.messages[0].data = Bytes::copy_from_slice(data);
        });
        assert_eq!(gossip(&mut mesh, 1000 + index as u64, "jobs", data), Verdict::Accept);
    }
    assert!(mesh.lines(0, "message").is_empty());
}

#[test]
fn a_full_crypto_pool_blames_nobody_and_the_next_one_gets_through() {
    let mut mesh = listener();
    mesh.crypto = false;
    assert_eq!(gossip(&mut mesh, 1000, "jobs", frame(2, topic(), 1, |_| {})), Verdict::Ignore);
    mesh.crypto = true;
    assert_eq!(gossip(&mut mesh, 1001, "jobs", frame(2, topic(), 2, |_| {})), Verdict::Accept);
    assert_eq!(mesh.received(0), [2]);
}

#[test]
fn mail_is_taken_from_its_own_sender_once_and_for_us() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    mesh.send(1, 0, 7, "");
    mesh.settle();
    assert_eq!(mesh.received(0), [7]);
    let (_, from, seen) = mesh.frames[0].clone();
    mesh.input(0, Input::MailRequestReceived { token: 9000, peer: from, frame: seen.clone() });
    mesh.input(
        0,
        Input::MailRequestReceived { token: 9001, peer: node_key(50).peer_id(), frame: seen.clone() },
    );
    mesh.input(1, Input::MailRequestReceived { token: 9002, peer: from, frame: seen });
    let for_another = frame(2, Scope::NodeKey(Bytes::copy_from_slice(&node_key(60).public())), 1, |_| {});
    mesh.input(
        0,
        Input::MailRequestReceived { token: 9003, peer: node_key(2).peer_id(), frame: for_another },
    );
    mesh.input(
        0,
        Input::MailRequestReceived {
            token: 9004,
            peer: node_key(2).peer_id(),
            frame: frame(2, topic(), 2, |_| {}),
        },
    );
    assert_eq!(mesh.received(0), [7]);
    assert!(mesh.received(1).is_empty());
}

#[test]
fn records_are_believed_only_when_all_of_them_is_true() {
    let mut mesh = Mesh::new(1);
    let stranger = node_key(2);
    let good = record(2, 0, START_MS, &stranger);
    let mut bent = good.to_vec();
    bent[80] ^= 1;
    let offer = |mesh: &mut Mesh, number: u8, value: Bytes| {
        let key = Bytes::copy_from_slice(&kad_key("dev", &agent_key(number).address()));
        mesh.input(0, Input::RecordOffered { peer: stranger.peer_id(), key, value });
        mesh.lines(0, "peer_discovered").len()
    };
    assert_eq!(offer(&mut mesh, 2, Bytes::from(bent)), 0, "mutated");
    assert_eq!(offer(&mut mesh, 3, good.clone()), 0, "under another's key");
    assert_eq!(offer(&mut mesh, 2, record(2, 0, START_MS + 31_000, &stranger)), 0, "ahead of time");
    assert_eq!(offer(&mut mesh, 2, good), 1);
    assert_eq!(offer(&mut mesh, 2, record(2, 0, START_MS - 1, &node_key(4))), 1, "superseded");
    assert_eq!(mesh.lines(0, "peer_discovered")[0]["peerId"], stranger.peer_id().to_string());
    // An announcement of the same is passed on, an older one is not.
    let announced = gossip(&mut mesh, 100, "agent-announcements", record(2, 0, START_MS, &stranger));
    assert_eq!(announced, Verdict::Accept);
    let older = gossip(&mut mesh, 101, "agent-announcements", record(2, 0, START_MS - 1, &stranger));
    assert_eq!(older, Verdict::Ignore);
    let elsewhere = {
        let mut record = SignedRecord::decode(record(2, 0, START_MS + 1, &stranger)).unwrap().record;
        record.network = "other".to_owned();
        record.sign(&stranger).unwrap()
    };
    assert_eq!(gossip(&mut mesh, 102, "agent-announcements", elsewhere), Verdict::Reject);
    for number in 5..10 {
        let conflict = record(2, 0, START_MS, &node_key(number));
        let token = 100 + u64::from(number);
        assert_eq!(gossip(&mut mesh, token, "agent-announcements", conflict), Verdict::Ignore);
    }
    assert!(mesh.lines(0, "error").is_empty(), "it is another agent's conflict");
    let logs: Vec<_> =
        mesh.lines(0, "log").into_iter().filter(|line| line["namespace"] == "directory").collect();
    assert_eq!(logs.len(), 1, "once for each agent: {logs:?}");
}

#[test]
fn our_own_identity_elsewhere_is_told_and_a_newer_generation_ends_us() {
    let mut mesh = Mesh::new(1);
    let elsewhere = node_key(9);
    let same_generation = record(1, 0, START_MS + 20_000, &elsewhere);
    gossip(&mut mesh, 1, "agent-announcements", same_generation.clone());
    assert_eq!(mesh.lines(0, "error").last().unwrap()["code"], "IDENTITY_CONFLICT");
    assert!(mesh.nodes[0].exit.is_none());
    let newer = record(1, START_MS / 1000, START_MS, &elsewhere);
    assert!(SignedRecord::decode(newer.clone()).is_ok());
    gossip(&mut mesh, 2, "agent-announcements", newer);
    assert_eq!(mesh.lines(0, "error").last().unwrap()["code"], Value::from("IDENTITY_SUPERSEDED"));
    assert_eq!(mesh.nodes[0].exit, Some(ExitCode::Config));
}

#[test]
fn an_identity_that_is_in_use_twice_is_told_to_both_once_unless_that_is_meant() {
    for one_of_several in [false, true] {
        let mut mesh = Mesh::new(1);
        let add = |mesh: &mut Mesh, key: u8| {
            let node = mesh.add_with(5, Role::Full, CONNECT, |setup| {
                setup.node_key = node_key(key);
                let agent = setup.agent.as_ref().unwrap();
                let peer_id = setup.node_key.peer_id();
                let binding =
                    Binding { peer_id, node_key: setup.node_key.public(), ..setup.binding.binding.clone() };
                setup.binding = agent.bind(binding).unwrap();
                setup.one_of_several = one_of_several;
            });
            mesh.connect(node, 0);
            mesh.pass(Duration::from_secs(5));
            node
        };
        let both = [101, 102].map(|key| add(&mut mesh, key));
        // Soon, and not again with the records that follow.
        for time in [60, 3600] {
            mesh.pass(Duration::from_secs(time));
            for node in both {
                let told = |kind: &str, field: &str, value: &str| {
                    mesh.lines(node, kind).iter().filter(|line| line[field] == value).count()
                };
                let conflicts = told("error", "code", "IDENTITY_CONFLICT");
                let logs = told("log", "namespace", "identity");
                assert_eq!((conflicts, logs), if one_of_several { (0, 1) } else { (1, 0) });
            }
        }
    }
}

#[test]
fn a_server_that_comes_and_goes_has_no_mail_sent_again() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    let absent = record(9, 0, START_MS, &node_key(9));
    mesh.input(1, Input::HelloResponseReceived { peer: node_key(9).peer_id(), body: hello(absent) });
    let address = agent_key(9).address();
    mesh.say(1, &format!(r#"{{"type":"send","peerId":"{address}","data":1}}"#));
    mesh.pass(Duration::from_secs(4));
    let sent = mesh.nodes[1].core.stats().get(Counter::MailFramesSent);
    assert!(sent > 0, "by gossip, for the recipient is not there");
    for _ in 0..5 {
        let server = node_key(50).peer_id();
        mesh.input(1, Input::Connected { peer: server, dialer: false });
        mesh.input(1, Input::DhtServerSeen { peer: server });
        mesh.input(1, Input::Disconnected { peer: server, reason: None });
    }
    assert_eq!(mesh.nodes[1].core.stats().get(Counter::MailFramesSent), sent);
}

#[test]
fn bindings_are_renewed_before_they_end() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    for day in 1..=10 {
        mesh.pass(Duration::from_secs(24 * 3600));
        mesh.send(1, 0, day, "");
        mesh.settle();
        mesh.pass(Duration::from_secs(1));
        assert_eq!(mesh.received(0).last(), Some(&day), "on day {day}");
    }
}

/// A node without the agent's key, whose binding lives for so many days.
fn presigned(days: u64) -> Mesh {
    let mut mesh = Mesh::new(1);
    mesh.add_with(2, Role::Full, CONNECT, |setup| {
        let life = Binding { not_after: START_MS / 1000 + days * DAY, ..binding(2, 0, &node_key(2)) };
        setup.binding = agent_key(2).bind(life).unwrap();
        setup.agent = None;
    });
    mesh.connect(1, 0);
    mesh
}

const DAY: u64 = 24 * 3600;

fn told(mesh: &Mesh) -> Vec<String> {
    let logs = mesh.lines(1, "log").into_iter().filter(|line| line["namespace"] == "identity");
    logs.map(|line| format!("{} {}", line["level"].as_str().unwrap(), line["message"].as_str().unwrap()))
        .collect()
}

#[test]
fn a_binding_signed_elsewhere_is_warned_of_daily_from_a_week_before_its_end() {
    let mut mesh = presigned(8);
    let starts = |line: &String, with: &str| line.starts_with(with);
    assert_eq!(told(&mesh).len(), 1);
    assert!(starts(&told(&mesh)[0], "info the node cannot renew its binding, which expires in 8 days"));
    mesh.pass(Duration::from_secs(DAY - 60));
    assert_eq!(told(&mesh).len(), 1, "{:?}", told(&mesh));
    for day in 0..3 {
        mesh.pass(Duration::from_secs(DAY));
        let warned = told(&mesh);
        assert_eq!(warned.len(), 2 + day, "{warned:?}");
        assert!(
            starts(&warned[1 + day], "warn the node cannot renew its binding, which expires in"),
            "{warned:?}"
        );
    }
    assert!(mesh.nodes[1].exit.is_none());
    mesh.send(1, 0, 7, "");
    mesh.settle();
    assert_eq!(mesh.received(0), [7], "it is believed to the end");
}

#[test]
fn a_node_whose_binding_expires_says_so_and_ends() {
    let mut mesh = presigned(1);
    assert!(told(&mesh)[0].starts_with("warn the node cannot renew its binding, which expires in 24 hours"));
    mesh.pass(Duration::from_secs(DAY) - Duration::from_millis(1));
    assert!(mesh.nodes[1].exit.is_none());
    assert!(mesh.lines(1, "error").is_empty());
    mesh.pass(Duration::from_millis(1));
    let codes: Vec<_> = mesh.lines(1, "error").iter().map(|line| line["code"].clone()).collect();
    assert_eq!(codes, ["IDENTITY_INVALID"]);
    assert_eq!(mesh.nodes[1].exit, Some(ExitCode::Config));
}

#[test]
fn no_line_is_longer_than_the_parent_can_read() {
    const LIMIT: usize = 4096;
    let mut mesh = Mesh::new(0);
    let connect = format!(r#"{{"type":"connect","protocol":1,"maxLineBytes":{LIMIT}}}"#);
    mesh.add_with(1, Role::Full, &connect, |_| {});
    mesh.say(0, r#"{"type":"subscribe","topic":"jobs"}"#);
    // A peer says that it subscribes to as much as it may, and broadcasts what grows when it is
    // written.
    let peer = node_key(2).peer_id();
    mesh.input(0, Input::Connected { peer, dialer: false });
    for number in 0..250 {
        mesh.input(0, Input::PeerSubscribed { peer, topic: format!("{number}{}", "\u{2028}".repeat(40)) });
    }
    gossip(&mut mesh, 1000, "agent-announcements", record(2, 0, START_MS, &node_key(2)));
    for (counter, size) in [(1, 300), (2, 450), (3, 700), (4, 1000)] {
        let data = frame(2, topic(), counter, |body| {
            let Some(Payload::Plain(batch)) = &mut body.payload else { unreachable!() };
            let message = &mut batch.messages[0];
            message.data = format!("\"{}\"", "\u{85}".repeat(size)).into();
            message.kind = "\u{2028}".repeat(21);
            message.conversation = "\u{2028}".repeat(42);
        });
        assert_eq!(gossip(&mut mesh, 1000 + counter, "jobs", data), Verdict::Accept);
    }
    mesh.say(0, r#"{"type":"discover","timeoutMs":1,"id":"d"}"#);
    for number in 0..200 {
        mesh.say(0, &format!(r#"{{"type":"subscribe","topic":"{number}{}"}}"#, "t".repeat(120)));
    }
    mesh.say(0, r#"{"type":"status","id":"s"}"#);
    let far = format!("/{}", "x".repeat(100_000));
    mesh.say(0, &format!(r#"{{"type":"connect","bootstrapPeers":["{far}"],"id":"c"}}"#));
    // With a `seq` as long as it can be.
    assert!(mesh.nodes[0].longest + 20 <= LIMIT, "{} bytes", mesh.nodes[0].longest);
    for kind in ["ready", "message", "peer_discovered", "result"] {
        assert!(!mesh.lines(0, kind).is_empty(), "{kind}");
    }
}
