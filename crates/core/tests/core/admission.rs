//! Admission of peers: nothing that a peer sends has an effect before its handshake has ended.

use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_core::effect::Verdict;
use p2p_node_core::gate::admission_policy::AdmissionMode;
use p2p_node_core::input::Input;
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::{Accepted, Rejected, SignedResponse, Step};
use p2p_node_wire::identity::NodeKey;
use p2p_node_wire::record::kad_key;

use crate::forged::{admit, frame, introduction, record, response, step, topic};
use crate::mesh::{CONNECT, FaultDecision, Mesh, START_MS, agent_key, node_key};
use crate::verification::listener;

fn count(mesh: &Mesh, node: usize, counter: Counter) -> u64 {
    mesh.nodes[node].core.stats().get(counter)
}

/// Returns the code of a rejection.
fn code(answer: Step) -> String {
    match answer {
        Step::Rejected(rejected) => rejected.code,
        other => panic!("not rejected: {other:?}"),
    }
}

#[test]
fn gossip_before_admission_is_held_and_has_its_effect_after_it() {
    let mut mesh = listener();
    let key = node_key(9);
    let peer = key.peer_id();
    mesh.input(0, Input::Connected { peer, dialer: false });
    let data = frame(9, topic(), 1, |_| {});
    mesh.input(0, Input::Gossip { token: 1, from: peer, topic: "jobs".to_owned(), data });
    assert!(mesh.received(0).is_empty() && mesh.verdicts(0).is_empty());
    let own = introduction(record(9, 0, START_MS, &key));
    let Step::Challenge(challenge) = step(&mut mesh, 0, peer, Step::Connect(own)) else {
        panic!("no challenge")
    };
    assert!(mesh.received(0).is_empty(), "a challenge is no admission");
    let answer = step(&mut mesh, 0, peer, response(&key, &challenge));
    assert_eq!(answer, Step::Accepted(Accepted {}));
    assert_eq!((mesh.received(0), mesh.verdicts(0)), (vec![1], vec![Verdict::Accept]));
}

#[test]
fn silent_peer_is_disconnected_and_what_it_sent_is_ignored() {
    let mut mesh = listener();
    let peer = node_key(9).peer_id();
    mesh.input(0, Input::Connected { peer, dialer: false });
    let data = frame(9, topic(), 1, |_| {});
    mesh.input(0, Input::Gossip { token: 1, from: peer, topic: "jobs".to_owned(), data });
    mesh.disconnect_requests.clear();
    mesh.advance(Duration::from_secs(9));
    assert!(!mesh.disconnect_requests.contains(&(0, peer)));
    mesh.advance(Duration::from_secs(2));
    assert!(mesh.disconnect_requests.contains(&(0, peer)));
    assert_eq!((mesh.verdicts(0), count(&mesh, 0, Counter::AdmissionsTimedOut)), (vec![Verdict::Ignore], 1));
    assert!(mesh.received(0).is_empty());
}

#[test]
fn gossip_that_a_peer_relays_before_its_admission_counts_at_once() {
    let mut mesh = listener();
    let peer = node_key(9).peer_id();
    mesh.input(0, Input::Connected { peer, dialer: false });
    let data = frame(2, topic(), 1, |_| {});
    mesh.input(0, Input::Gossip { token: 1, from: peer, topic: "jobs".to_owned(), data });
    let data = record(2, 0, START_MS, &node_key(2));
    mesh.input(0, Input::Gossip { token: 2, from: peer, topic: "agent-announcements".to_owned(), data });
    assert_eq!((mesh.received(0), mesh.verdicts(0)), (vec![1], vec![Verdict::Accept; 2]));
    // Its own record waits.
    let data = record(9, 0, START_MS, &node_key(9));
    mesh.input(0, Input::Gossip { token: 3, from: peer, topic: "agent-announcements".to_owned(), data });
    assert_eq!(count(&mesh, 0, Counter::RecordsAccepted), 1);
    mesh.advance(Duration::from_secs(11));
    assert_eq!(mesh.verdicts(0).last(), Some(&Verdict::Ignore));
    assert_eq!(count(&mesh, 0, Counter::RecordsAccepted), 1);
}

#[test]
fn record_offered_before_admission_is_not_stored() {
    let mut mesh = Mesh::new(0);
    let server = mesh.add(1, Role::Bootstrap);
    let key = node_key(9);
    let peer = key.peer_id();
    mesh.input(server, Input::Connected { peer, dialer: false });
    let offer = || {
        let dht_key = Bytes::copy_from_slice(&kad_key("dev", &agent_key(9).address()));
        Input::RecordOffered { peer, key: dht_key, value: record(9, 0, START_MS, &key) }
    };
    mesh.input(server, offer());
    assert_eq!(count(&mesh, server, Counter::RecordsAccepted), 0);
    mesh.advance(Duration::from_secs(11));
    mesh.input(server, Input::Disconnected { peer, reason: None });
    assert_eq!(
        (count(&mesh, server, Counter::RecordsAccepted), count(&mesh, server, Counter::DataNotAdmitted)),
        (0, 1)
    );
}

#[test]
fn peer_counts_as_a_subscriber_once_it_is_admitted() {
    let mut mesh = listener();
    let key = node_key(9);
    let peer = key.peer_id();
    mesh.input(0, Input::Connected { peer, dialer: false });
    mesh.input(0, Input::PeerSubscribed { peer, topic: "jobs".to_owned() });
    let subscribers = |mesh: &mut Mesh, id: &str| {
        mesh.command(0, &format!(r#"{{"type":"send","topic":"jobs","data":1,"id":"{id}"}}"#));
        mesh.lines(0, "result").into_iter().rfind(|line| line["id"] == id).expect("a result")["peers"]
            .as_u64()
    };
    assert_eq!(subscribers(&mut mesh, "before"), Some(0));
    let own = introduction(record(9, 0, START_MS, &key));
    let Step::Challenge(challenge) = step(&mut mesh, 0, peer, Step::Connect(own)) else {
        panic!("no challenge")
    };
    step(&mut mesh, 0, peer, response(&key, &challenge));
    assert_eq!(subscribers(&mut mesh, "after"), Some(1));
}

#[test]
fn held_data_is_bounded() {
    let mut mesh = listener();
    let peer = node_key(9).peer_id();
    mesh.input(0, Input::Connected { peer, dialer: false });
    for token in 1..=70 {
        let data = frame(9, topic(), token, |_| {});
        mesh.input(0, Input::Gossip { token, from: peer, topic: "jobs".to_owned(), data });
    }
    assert_eq!(mesh.verdicts(0), [Verdict::Ignore; 6]);
    assert_eq!(
        (count(&mesh, 0, Counter::DataHeldForAdmission), count(&mesh, 0, Counter::DataNotAdmitted)),
        (64, 6)
    );
}

fn size(mesh: &Mesh, name: &str) -> (usize, usize) {
    let usage = mesh.nodes[0].core.usage().into_iter().find(|usage| usage.name == name).expect("a row");
    (usage.size, usage.limit)
}

#[test]
fn peers_that_never_finish_leave_room_for_others() {
    const PEERS: u8 = 12;
    let mut mesh = Mesh::new(1);
    let mut held = Vec::new();
    for number in 0..PEERS {
        let peer = connected(&mut mesh, 100 + number);
        let before = count(&mesh, 0, Counter::DataHeldForAdmission);
        for token in 0..70 {
            let (token, body) = (u64::from(number) * 100 + token, Bytes::from_static(b"a question"));
            mesh.input(0, Input::FindRequestReceived { token, peer, body });
        }
        held.push(count(&mesh, 0, Counter::DataHeldForAdmission) - before);
    }
    // Each takes at most four times what it leaves.
    assert_eq!(held, [64, 64, 64, 64, 64, 64, 64, 52, 10, 2, 0, 0]);
    assert_eq!(size(&mesh, "data held for admission"), (512, 512));
    let peers = held.iter().filter(|held| **held > 0).count();
    assert_eq!(size(&mesh, "peers with held data").0, peers);
    assert_eq!(size(&mesh, "handshakes").0, usize::from(PEERS));
    mesh.advance(Duration::from_secs(11));
    assert_eq!(size(&mesh, "data held for admission").0, 0);
    assert_eq!(size(&mesh, "peers with held data").0, 0);
}

#[test]
fn bytes_that_are_held_for_all_peers_reach_their_limit() {
    const PEERS: u8 = 10;
    let mut mesh = Mesh::new(1);
    for number in 0..PEERS {
        let peer = connected(&mut mesh, 100 + number);
        for token in 0..3 {
            let (token, frame) = (u64::from(number) * 10 + token, Bytes::from(vec![1; 1 << 20]));
            mesh.input(0, Input::MailRequestReceived { token, peer, frame });
        }
    }
    assert_eq!(size(&mesh, "bytes held for admission"), (16 << 20, 16 << 20));
    assert_eq!(count(&mesh, 0, Counter::DataHeldForAdmission), 16);
    assert_eq!(mesh.answers.len(), usize::from(PEERS) * 3 - 16, "the node refuses the rest");
}

#[test]
fn strangers_that_use_up_the_handshakes_of_all_keep_no_allowed_agent_out() {
    let mut mesh = Mesh::new(0);
    mesh.add_with(1, Role::Full, CONNECT, |config| config.limits_apply = true);
    let connect = |mesh: &mut Mesh, key: &NodeKey, number| {
        let own = introduction(record(number, 0, START_MS, key));
        step(mesh, 0, key.peer_id(), Step::Connect(own))
    };
    for seed in 0..33 {
        let key = NodeKey::derive(&[seed; 32], "dev", "strangers", 0);
        mesh.input(0, Input::Connected { peer: key.peer_id(), dialer: false });
        for number in 0..32 {
            let answer = connect(&mut mesh, &key, 9);
            assert_eq!(matches!(answer, Step::Challenge(_)), seed < 32, "peer {seed}, step {number}");
        }
    }
    mesh.command(0, &format!(r#"{{"type":"allow","peerId":"{}"}}"#, node_key(10).peer_id()));
    for number in [10, 11] {
        connected(&mut mesh, number);
        let answer = connect(&mut mesh, &node_key(number), number);
        assert_eq!(matches!(answer, Step::Challenge(_)), number == 10);
    }
}

#[test]
fn signature_of_another_exchange_or_without_challenge_is_refused() {
    let mut mesh = listener();
    let key = node_key(9);
    let peer = key.peer_id();
    mesh.input(0, Input::Connected { peer, dialer: false });
    let connect = || Step::Connect(introduction(record(9, 0, START_MS, &key)));
    let Step::Challenge(first) = step(&mut mesh, 0, peer, connect()) else { panic!("no challenge") };
    let Step::Challenge(_) = step(&mut mesh, 0, peer, connect()) else { panic!("no challenge") };
    assert_eq!(code(step(&mut mesh, 0, peer, response(&key, &first))), "FORGED");
    let other = node_key(10).peer_id();
    mesh.input(0, Input::Connected { peer: other, dialer: false });
    let alone = SignedResponse { signature: vec![0; 64].into() };
    assert_eq!(code(step(&mut mesh, 0, other, Step::SignedResponse(alone))), "OUT_OF_TURN");
    assert_eq!(count(&mesh, 0, Counter::AdmissionsRefused), 2);
}

#[test]
fn role_other_than_that_of_the_record_is_refused() {
    let mut mesh = listener();
    let key = node_key(9);
    mesh.input(0, Input::Connected { peer: key.peer_id(), dialer: false });
    let mut own = introduction(record(9, 0, START_MS, &key));
    own.role = 1;
    assert_eq!(code(step(&mut mesh, 0, key.peer_id(), Step::Connect(own))), "WRONG_ROLE");
}

#[test]
fn flood_of_connects_gets_few_challenges() {
    let mut mesh = listener();
    let key = node_key(9);
    mesh.input(0, Input::Connected { peer: key.peer_id(), dialer: false });
    let answers: Vec<Step> = (0..70)
        .map(|_| step(&mut mesh, 0, key.peer_id(), Step::Connect(introduction(record(9, 0, START_MS, &key)))))
        .collect();
    let challenges = answers.iter().filter(|answer| matches!(answer, Step::Challenge(_))).count();
    assert_eq!(challenges, 32);
    let codes: Vec<String> = answers.into_iter().skip(challenges).map(code).collect();
    assert!(codes[..32].iter().all(|code| code == "BUSY"), "{codes:?}");
    // The 65th ends the handshake.
    assert_eq!((codes[32].as_str(), codes[33].as_str()), ("TOO_MANY", "OUT_OF_TURN"));
    mesh.advance(Duration::from_secs(2));
    assert!(mesh.disconnect_requests.contains(&(0, key.peer_id())));
}

#[test]
fn connects_over_several_connections_count_together() {
    let mut mesh = listener();
    let key = node_key(9);
    let peer = key.peer_id();
    let mut challenges = 0;
    for _ in 0..40 {
        mesh.input(0, Input::Connected { peer, dialer: false });
        let connect = Step::Connect(introduction(record(9, 0, START_MS, &key)));
        challenges += usize::from(matches!(step(&mut mesh, 0, peer, connect), Step::Challenge(_)));
        mesh.input(0, Input::Disconnected { peer, reason: None });
    }
    assert_eq!(challenges, 32);
}

/// Connects a forged peer to node 0, without its admission.
fn connected(mesh: &mut Mesh, number: u8) -> PeerId {
    let peer = node_key(number).peer_id();
    mesh.input(0, Input::Connected { peer, dialer: false });
    peer
}

/// Returns a step of a peer that has no room.
fn rejected(code: &str) -> Step {
    let (code, reason) = (code.to_owned(), "a reason".to_owned());
    Step::Rejected(Rejected { code, reason, retry_after_ms: 0, time_ms: 0 })
}

#[test]
fn peer_that_defers_the_handshake_again_and_again_is_disconnected() {
    // `BUSY` ends no finished admission, so this peer never begins.
    for (code, patience) in [("BUSY", 10), ("CLOCK_OUT_OF_RANGE", 600)] {
        let mut mesh = Mesh::new(0);
        mesh.add_with(1, Role::Full, CONNECT, |config| config.admission = AdmissionMode::Known);
        let agent = agent_key(9).address();
        mesh.command(0, &format!(r#"{{"type":"allow","peerId":"{agent}"}}"#));
        let peer = match code {
            "BUSY" => connected(&mut mesh, 9),
            _ => admit(&mut mesh, 0, 9),
        };
        mesh.input(0, Input::PeerSubscribed { peer, topic: "jobs".to_owned() });
        let mut ended = None;
        for second in 0..700 {
            let is_over = mesh.disconnect_requests.contains(&(0, peer));
            ended = ended.or(is_over.then_some(second));
            if ended.is_none() {
                step(&mut mesh, 0, peer, rejected(code));
            }
            mesh.advance(Duration::from_secs(1));
        }
        let ended = ended.expect("an end");
        assert!((patience - 1..patience + 3).contains(&ended), "{code}: after {ended} s");
    }
}

#[test]
fn known_mode_refuses_strangers_and_admits_agents_that_the_parent_names() {
    let mut mesh = Mesh::new(0);
    mesh.add_with(1, Role::Full, CONNECT, |config| config.admission = AdmissionMode::Known);
    let stranger = mesh.add(2, Role::Full);
    mesh.obeys_disconnects = true;
    mesh.connect(stranger, 0);
    mesh.advance(Duration::from_secs(2));
    let ended = mesh.lines(stranger, "peer_disconnected");
    assert!(ended[0]["reason"].as_str().unwrap().contains("NOT_KNOWN"), "{ended:?}");
    let address = mesh.nodes[stranger].address.clone();
    mesh.command(0, &format!(r#"{{"type":"allow","peerId":"{address}"}}"#));
    mesh.connect(stranger, 0);
    mesh.send(stranger, 0, 7, "");
    mesh.advance(Duration::from_secs(2));
    assert_eq!(mesh.received(0), [7]);
}

#[test]
fn both_ends_that_take_the_other_for_the_dialer_admit_each_other() {
    let mut mesh = Mesh::new(0);
    (1..=2).for_each(|number| drop(mesh.add(number, Role::Full).to_string()));
    // The first steps get lost.
    mesh.faults = Box::new(|_, input| match input {
        Input::AdmissionRequestReceived { .. } => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    mesh.connect(0, 1);
    mesh.faults = Box::new(|_, _| FaultDecision::Deliver);
    mesh.advance(Duration::from_secs(2));
    mesh.send(0, 1, 1, "");
    mesh.send(1, 0, 2, "");
    mesh.advance(Duration::from_secs(1));
    assert_eq!((mesh.received(1), mesh.received(0)), (vec![1], vec![2]));
}

#[test]
fn admission_ends_with_the_connection() {
    let mut mesh = listener();
    let peer = admit(&mut mesh, 0, 9);
    mesh.input(0, Input::Disconnected { peer, reason: None });
    mesh.input(0, Input::Connected { peer, dialer: false });
    let data = frame(9, topic(), 1, |_| {});
    mesh.input(0, Input::Gossip { token: 1, from: peer, topic: "jobs".to_owned(), data });
    mesh.input(0, Input::Disconnected { peer, reason: None });
    let data = frame(9, topic(), 2, |_| {});
    mesh.input(0, Input::Gossip { token: 2, from: peer, topic: "jobs".to_owned(), data });
    assert_eq!((mesh.verdicts(0), mesh.received(0)), (vec![Verdict::Ignore; 2], vec![]));
}
