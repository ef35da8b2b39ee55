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

use crate::forged::{admit, admit_unknown, direct, frame, record, relayer, topic};
use crate::mesh::{CONNECT, Mesh, START_MS, agent_key, binding, node_key};

/// Returns a mesh of one node that subscribes to `jobs`.
pub fn listener() -> Mesh {
    let mut mesh = Mesh::new(1);
    mesh.command(0, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
    relayer(&mut mesh);
    mesh
}

pub fn gossip(mesh: &mut Mesh, token: u64, topic: &str, data: Bytes) -> Verdict {
    let before = mesh.verdicts(0).len();
    let from = relayer(mesh);
    mesh.input(0, Input::Gossip { token, from, topic: topic.to_owned(), data });
    let verdicts = mesh.verdicts(0);
    assert_eq!(verdicts.len(), before + 1, "one verdict");
    *verdicts.last().unwrap()
}

/// Returns frames of agent 2 that every relayer rejects.
fn rejected_frames() -> Vec<Bytes> {
    let mut corrupted = frame(2, topic(), 20, |_| {}).to_vec();
    *corrupted.last_mut().unwrap() ^= 1;
    let forged = {
        let mut bytes = frame(2, topic(), 2, |_| {}).to_vec();
        bytes[0] ^= 1;
        Bytes::from(bytes)
    };
    let other_topic = Scope::Topic("other".to_owned());
    let other_binding = |body: &mut FrameBody| {
        // The binding of another agent's node, whose key did not sign the frame.
        let other = node_key(3);
        body.binding = agent_key(3).bind(binding(3, 0, &other)).unwrap().encode();
    };
    let other_account = |body: &mut FrameBody| {
        // The node key of this agent under another account, signed by this agent.
        let mut claim = binding(2, 0, &node_key(2));
        claim.account = agent_key(3).address();
        let mut signed = agent_key(2).bind(binding(2, 0, &node_key(2))).unwrap();
        signed.binding = claim;
        body.binding = signed.encode();
    };
    let other_network = |body: &mut FrameBody| {
        let claim = Binding { network: "other".to_owned(), ..binding(2, 0, &node_key(2)) };
        body.binding = agent_key(2).bind(claim).unwrap().encode();
    };
    vec![
        Bytes::from(corrupted),
        forged,
        frame(2, other_topic, 3, |_| {}),
        frame(2, topic(), 4, |body| body.network = "other".to_owned()),
        frame(2, topic(), 5, other_binding),
        frame(2, topic(), 10, |body| {
            let mut claim = binding(2, 0, &node_key(2));
            claim.network = "other".to_owned();
            body.binding = agent_key(2).bind(claim).unwrap().encode();
        }),
        frame(2, topic(), 11, |body| {
            let mut bound = agent_key(2).bind(binding(2, 0, &node_key(2))).unwrap();
            bound.signature = [&bound.signature[..64], &[9]].concat().into();
            body.binding = bound.encode();
        }),
        frame(2, topic(), 6, other_account),
        frame(2, topic(), 10, other_network),
        Bytes::from_static(b"nonsense"),
        Bytes::from(vec![0; 70_000]),
    ]
}

#[test]
fn gossip_frames_are_validated_without_decryption() {
    let mut mesh = listener();
    let good = frame(2, topic(), 1, |_| {});
    assert_eq!(gossip(&mut mesh, 1000, "jobs", good.clone()), Verdict::Accept);
    assert_eq!(mesh.received(0), [1]);
    assert_eq!(gossip(&mut mesh, 1001, "jobs", good.clone()), Verdict::Ignore, "a replay");

    for (index, data) in rejected_frames().into_iter().enumerate() {
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
    assert_eq!(mesh.received(0), [1], "the parent receives no other message");
}

#[test]
fn payload_that_is_no_json_is_dropped_and_its_frame_accepted() {
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
fn frame_with_full_crypto_pool_is_ignored_and_the_next_accepted() {
    let mut mesh = listener();
    mesh.crypto = false;
    assert_eq!(gossip(&mut mesh, 1000, "jobs", frame(2, topic(), 1, |_| {})), Verdict::Ignore);
    mesh.crypto = true;
    assert_eq!(gossip(&mut mesh, 1001, "jobs", frame(2, topic(), 2, |_| {})), Verdict::Accept);
    assert_eq!(mesh.received(0), [2]);
}

#[test]
fn mail_request_is_accepted_once_from_its_sender_and_for_this_node() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    mesh.send(1, 0, 7, "");
    mesh.settle();
    assert_eq!(mesh.received(0), [7]);
    let (_, from, replay) = mesh.frames[0].clone();
    admit_unknown(&mut mesh, 0, 50);
    mesh.input(0, Input::MailRequestReceived { token: 9000, peer: from, frame: replay.clone() });
    mesh.input(
        0,
        Input::MailRequestReceived { token: 9001, peer: node_key(50).peer_id(), frame: replay.clone() },
    );
    mesh.input(1, Input::MailRequestReceived { token: 9002, peer: from, frame: replay });
    let scope = Scope::NodeKey(Bytes::copy_from_slice(&node_key(60).public()));
    let for_another = direct(frame(2, scope, 1, |_| {}));
    mesh.input(
        0,
        Input::MailRequestReceived { token: 9003, peer: node_key(2).peer_id(), frame: for_another },
    );
    mesh.input(
        0,
        Input::MailRequestReceived {
            token: 9004,
            peer: node_key(2).peer_id(),
            frame: direct(frame(2, topic(), 2, |_| {})),
        },
    );
    assert_eq!(mesh.received(0), [7]);
    assert!(mesh.received(1).is_empty());
}

#[test]
fn record_is_stored_only_if_every_check_passes() {
    let mut mesh = Mesh::new(1);
    let stranger = node_key(2);
    admit_unknown(&mut mesh, 0, 2);
    let good = record(2, 0, START_MS, &stranger);
    let mut corrupted = good.to_vec();
    corrupted[80] ^= 1;
    let offer = |mesh: &mut Mesh, number: u8, value: Bytes| {
        let key = Bytes::copy_from_slice(&kad_key("dev", &agent_key(number).address()));
        mesh.input(0, Input::RecordOffered { peer: stranger.peer_id(), key, value });
        mesh.lines(0, "peer_discovered").len()
    };
    assert_eq!(offer(&mut mesh, 2, Bytes::from(corrupted)), 0, "mutated");
    assert_eq!(offer(&mut mesh, 3, good.clone()), 0, "under the key of another agent");
    assert_eq!(offer(&mut mesh, 2, record(2, 0, START_MS + 31_000, &stranger)), 0, "too far in the future");
    assert_eq!(offer(&mut mesh, 2, good), 1);
    assert_eq!(offer(&mut mesh, 2, record(2, 0, START_MS - 1, &node_key(4))), 1, "superseded");
    assert_eq!(mesh.lines(0, "peer_discovered")[0]["peerId"], stranger.peer_id().to_string());
    // An announcement of the stored record is accepted, an older one is ignored.
    let announced = gossip(&mut mesh, 100, "agent-announcements", record(2, 0, START_MS, &stranger));
    assert_eq!(announced, Verdict::Accept);
    let older = gossip(&mut mesh, 101, "agent-announcements", record(2, 0, START_MS - 1, &stranger));
    assert_eq!(older, Verdict::Ignore);
    let other_network = {
        let mut record = SignedRecord::decode(record(2, 0, START_MS + 1, &stranger)).unwrap().record;
        record.network = "other".to_owned();
        record.sign(&stranger).unwrap()
    };
    assert_eq!(gossip(&mut mesh, 102, "agent-announcements", other_network), Verdict::Reject);
    // A conflict of another agent is no error, and a log message only of an agent that this one deals with.
    let address = agent_key(3).address();
    mesh.command(0, &format!(r#"{{"type":"allow","peerId":"{address}","id":"allow"}}"#));
    let allowed = record(3, 0, START_MS, &node_key(20));
    assert_eq!(gossip(&mut mesh, 110, "agent-announcements", allowed), Verdict::Accept);
    for (agent, numbers, logged) in [(2, 5..7, 0), (3, 7..10, 1)] {
        for number in numbers {
            let conflict = record(agent, 0, START_MS, &node_key(number));
            let token = 120 + u64::from(number);
            assert_eq!(gossip(&mut mesh, token, "agent-announcements", conflict), Verdict::Ignore);
        }
        assert!(mesh.lines(0, "error").is_empty());
        let logs: Vec<_> =
            mesh.lines(0, "log").into_iter().filter(|line| line["namespace"] == "directory").collect();
        assert_eq!(logs.len(), logged, "once for each agent: {logs:?}");
    }
    assert_eq!(mesh.nodes[0].core.stats().get(Counter::RecordsConflicting), 5);
}

#[test]
fn own_identity_on_another_node_is_reported_and_newer_generation_ends_the_node() {
    let mut mesh = Mesh::new(1);
    let other_node = node_key(9);
    let same_generation = record(1, 0, START_MS + 20_000, &other_node);
    gossip(&mut mesh, 1, "agent-announcements", same_generation.clone());
    assert_eq!(mesh.lines(0, "error").last().unwrap()["code"], "IDENTITY_CONFLICT");
    assert!(mesh.nodes[0].exit.is_none());
    let newer = record(1, START_MS / 1000, START_MS, &other_node);
    assert!(SignedRecord::decode(newer.clone()).is_ok());
    gossip(&mut mesh, 2, "agent-announcements", newer);
    assert_eq!(mesh.lines(0, "error").last().unwrap()["code"], Value::from("IDENTITY_SUPERSEDED"));
    assert_eq!(mesh.nodes[0].exit, Some(ExitCode::Config));
}

#[test]
fn identity_used_twice_is_reported_once_by_both_nodes_unless_one_of_several() {
    for one_of_several in [false, true] {
        let mut mesh = Mesh::new(1);
        let add = |mesh: &mut Mesh, key: u8| {
            let node = mesh.add_with(5, Role::Full, CONNECT, |config| {
                config.node_key = node_key(key);
                let agent = config.agent.as_ref().unwrap();
                let peer_id = config.node_key.peer_id();
                let binding =
                    Binding { peer_id, node_key: config.node_key.public(), ..config.binding.binding.clone() };
                config.binding = agent.bind(binding).unwrap();
                config.one_of_several = one_of_several;
            });
            mesh.connect(node, 0);
            mesh.advance(Duration::from_secs(5));
            node
        };
        let both = [101, 102].map(|key| add(&mut mesh, key));
        // Soon, and not again with later records.
        for time in [60, 3600] {
            mesh.advance(Duration::from_secs(time));
            for node in both {
                let count = |kind: &str, field: &str, value: &str| {
                    mesh.lines(node, kind).iter().filter(|line| line[field] == value).count()
                };
                let conflicts = count("error", "code", "IDENTITY_CONFLICT");
                let logs = count("log", "namespace", "identity");
                assert_eq!((conflicts, logs), if one_of_several { (0, 1) } else { (1, 0) });
            }
        }
    }
}

#[test]
fn reconnecting_server_causes_no_retransmission() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    let absent = admit(&mut mesh, 1, 9);
    mesh.input(1, Input::Disconnected { peer: absent, reason: None });
    let address = agent_key(9).address();
    mesh.command(1, &format!(r#"{{"type":"send","peerId":"{address}","data":1}}"#));
    mesh.advance(Duration::from_secs(4));
    let sent = mesh.nodes[1].core.stats().get(Counter::MailFramesSent);
    assert!(sent > 0, "by gossip, because the recipient is not connected");
    for _ in 0..5 {
        let server = admit_unknown(&mut mesh, 1, 50);
        mesh.input(1, Input::DhtMode { peer: server, serves: true, addrs: Vec::new() });
        mesh.input(1, Input::Disconnected { peer: server, reason: None });
    }
    assert_eq!(mesh.nodes[1].core.stats().get(Counter::MailFramesSent), sent);
}

#[test]
fn binding_is_renewed_before_it_expires() {
    let mut mesh = Mesh::new(2);
    mesh.connect(1, 0);
    for day in 1..=10 {
        mesh.advance(Duration::from_secs(24 * 3600));
        mesh.send(1, 0, day, "");
        mesh.settle();
        mesh.advance(Duration::from_secs(1));
        assert_eq!(mesh.received(0).last(), Some(&day), "on day {day}");
    }
}

/// Returns a mesh of a server and a node without the agent's key, whose binding is valid for this
/// many days.
fn presigned(days: u64) -> Mesh {
    let mut mesh = Mesh::new(1);
    mesh.add_with(2, Role::Full, CONNECT, |config| {
        let life = Binding { not_after: START_MS / 1000 + days * DAY, ..binding(2, 0, &node_key(2)) };
        config.binding = agent_key(2).bind(life).unwrap();
        config.agent = None;
    });
    mesh.connect(1, 0);
    mesh
}

const DAY: u64 = 24 * 3600;

fn identity_logs(mesh: &Mesh) -> Vec<String> {
    let logs = mesh.lines(1, "log").into_iter().filter(|line| line["namespace"] == "identity");
    logs.map(|line| format!("{} {}", line["level"].as_str().unwrap(), line["message"].as_str().unwrap()))
        .collect()
}

#[test]
fn presigned_binding_is_warned_of_daily_in_its_last_week() {
    let mut mesh = presigned(8);
    let starts = |line: &String, with: &str| line.starts_with(with);
    assert_eq!(identity_logs(&mesh).len(), 1);
    assert!(starts(
        &identity_logs(&mesh)[0],
        "info the node cannot renew its binding, which expires in 8 days"
    ));
    mesh.advance(Duration::from_secs(DAY - 60));
    assert_eq!(identity_logs(&mesh).len(), 1, "{:?}", identity_logs(&mesh));
    for day in 0..3 {
        mesh.advance(Duration::from_secs(DAY));
        let logs = identity_logs(&mesh);
        assert_eq!(logs.len(), 2 + day, "{logs:?}");
        let warning = "warn the node cannot renew its binding, which expires in";
        assert!(starts(&logs[1 + day], warning), "{logs:?}");
    }
    assert!(mesh.nodes[1].exit.is_none());
    mesh.send(1, 0, 7, "");
    mesh.settle();
    assert_eq!(mesh.received(0), [7], "peers accept the binding until it expires");
}

#[test]
fn node_with_expired_binding_reports_it_and_ends() {
    let mut mesh = presigned(1);
    let warning = "warn the node cannot renew its binding, which expires in 24 hours";
    assert!(identity_logs(&mesh)[0].starts_with(warning));
    mesh.advance(Duration::from_secs(DAY) - Duration::from_millis(1));
    assert!(mesh.nodes[1].exit.is_none());
    assert!(mesh.lines(1, "error").is_empty());
    mesh.advance(Duration::from_millis(1));
    let codes: Vec<_> = mesh.lines(1, "error").iter().map(|line| line["code"].clone()).collect();
    assert_eq!(codes, ["IDENTITY_INVALID"]);
    assert_eq!(mesh.nodes[1].exit, Some(ExitCode::Config));
}

#[test]
fn lines_are_at_most_max_line_bytes_long() {
    const LIMIT: usize = 4096;
    let mut mesh = Mesh::new(0);
    let connect = format!(r#"{{"type":"connect","protocol":1,"maxLineBytes":{LIMIT}}}"#);
    mesh.add_with(1, Role::Full, &connect, |_| {});
    mesh.command(0, r#"{"type":"subscribe","topic":"jobs"}"#);
    // The peer subscribes to as many topics as it may, and its broadcasts grow when they are
    // written as JSON.
    let peer = node_key(2).peer_id();
    admit_unknown(&mut mesh, 0, 2);
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
    mesh.command(0, r#"{"type":"discover","timeoutMs":1,"id":"d"}"#);
    for number in 0..200 {
        mesh.command(0, &format!(r#"{{"type":"subscribe","topic":"{number}{}"}}"#, "t".repeat(120)));
    }
    mesh.command(0, r#"{"type":"status","id":"s"}"#);
    let addr = format!("/{}", "x".repeat(100_000));
    mesh.command(0, &format!(r#"{{"type":"connect","bootstrapPeers":["{addr}"],"id":"c"}}"#));
    // Plus the longest possible `seq`.
    assert!(mesh.nodes[0].longest_line + 20 <= LIMIT, "{} bytes", mesh.nodes[0].longest_line);
    for kind in ["ready", "message", "peer_discovered", "result"] {
        assert!(!mesh.lines(0, kind).is_empty(), "{kind}");
    }
}
