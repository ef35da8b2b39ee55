//! Handshakes that both ends begin, that are deferred, or that the registry decides.

use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_core::effect::Verdict;
use p2p_node_core::gate::admission_policy::AdmissionMode;
use p2p_node_core::gate::registry::{RegistryConfig, RegistryPolicy};
use p2p_node_core::input::{Input, Token};
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::{Accepted, Admission, Connect, Rejected, SignedResponse, Step};
use p2p_node_wire::identity::{NodeKey, SignedBinding};
use p2p_node_wire::record::SignedRecord;

use crate::forged::{admit, answer, challenge, frame, introduction, record, response, sent, step, topic};
use crate::mesh::{CONNECT, FaultDecision, Mesh, START_MS, agent_key, binding, node_key};
use crate::verification::listener;

fn count(mesh: &Mesh, counter: Counter) -> u64 {
    mesh.nodes[0].core.stats().get(counter)
}

/// Connects node 0 to a forged peer that it dialled. Returns the peer, and the step with which it begins.
fn dialled(mesh: &mut Mesh, key: &NodeKey) -> (PeerId, Token, Connect) {
    let peer = key.peer_id();
    mesh.forged.insert(peer);
    mesh.input(0, Input::Connected { peer, dialer: true });
    match sent(mesh).pop() {
        Some((token, Step::Connect(connect))) => (peer, token, connect),
        other => panic!("{other:?}"),
    }
}

fn rejected(code: &str, retry_after_ms: u64) -> Step {
    Step::Rejected(Rejected {
        code: code.to_owned(),
        reason: "a reason".to_owned(),
        retry_after_ms,
        time_ms: 0,
    })
}

/// Returns the code and the reason of a rejection.
fn refusal(answer: Step) -> (String, String) {
    match answer {
        Step::Rejected(rejected) => (rejected.code, rejected.reason),
        other => panic!("not rejected: {other:?}"),
    }
}

/// Runs an exchange that a forged peer begins on a standing connection.
fn exchange(mesh: &mut Mesh, key: &NodeKey, record: Bytes) -> Step {
    let Step::Challenge(challenge) = step(mesh, 0, key.peer_id(), Step::Connect(introduction(record))) else {
        panic!("no challenge")
    };
    step(mesh, 0, key.peer_id(), response(key, &challenge))
}

fn gossip(mesh: &mut Mesh, token: Token) {
    let (from, data) = (node_key(9).peer_id(), frame(9, topic(), token, |_| {}));
    mesh.input(0, Input::Gossip { token, from, topic: "jobs".to_owned(), data });
}

#[test]
fn busy_to_one_of_two_exchanges_keeps_the_admission_of_the_other() {
    let mut mesh = listener();
    let key = node_key(9);
    let (peer, token, _) = dialled(&mut mesh, &key);
    assert_eq!(exchange(&mut mesh, &key, record(9, 0, START_MS, &key)), Step::Accepted(Accepted {}));
    answer(&mut mesh, 0, peer, token, rejected("BUSY", 1000));
    gossip(&mut mesh, 1);
    assert_eq!((mesh.received(0), mesh.verdicts(0)), (vec![1], vec![Verdict::Accept]));
    mesh.disconnect_requests.clear();
    mesh.input(0, Input::PeerSubscribed { peer, topic: "jobs".to_owned() });
    mesh.advance(Duration::from_secs(60));
    assert!(!mesh.disconnect_requests.contains(&(0, peer)) && sent(&mut mesh).is_empty());
}

#[test]
fn pause_after_busy_is_kept_whatever_mail_comes() {
    // The own pause, that of the peer, and the longest.
    for (stated_ms, least_ms) in [(0, 1_000), (3_000, 3_000), (60_000, 5_000)] {
        let mut mesh = listener();
        let (peer, token, _) = dialled(&mut mesh, &node_key(9));
        answer(&mut mesh, 0, peer, token, rejected("BUSY", stated_ms));
        let mut waited_ms = 0;
        while mesh.steps.is_empty() {
            assert!(waited_ms < least_ms * 3 / 2 + 100, "{waited_ms} ms");
            mesh.input(
                0,
                Input::MailRequestReceived { token: waited_ms, peer, frame: Bytes::from_static(b"1") },
            );
            mesh.advance(Duration::from_millis(100));
            waited_ms += 100;
        }
        assert!(waited_ms > least_ms, "{waited_ms} ms");
    }
}

#[test]
fn failed_connect_is_not_repeated_at_once_whatever_mail_comes() {
    let mut mesh = listener();
    let (peer, token, _) = dialled(&mut mesh, &node_key(9));
    mesh.input(0, Input::AdmissionResponseReceived { token, peer, outcome: Err("no stream".to_owned()) });
    for token in 0..4 {
        mesh.input(0, Input::MailRequestReceived { token, peer, frame: Bytes::from_static(b"1") });
        assert!(mesh.steps.is_empty());
        mesh.advance(Duration::from_millis(100));
    }
    mesh.advance(Duration::from_millis(100));
    assert_eq!(mesh.steps.len(), 1);
}

#[test]
fn connect_is_not_repeated_while_one_is_under_way() {
    let mut mesh = listener();
    let key = node_key(9);
    let (peer, token, connect) = dialled(&mut mesh, &key);
    step(&mut mesh, 0, peer, rejected("BUSY", 0));
    mesh.advance(Duration::from_secs(5));
    assert!(mesh.steps.is_empty());
    let challenge = challenge(&key, &connect, record(9, 0, START_MS, &key));
    answer(&mut mesh, 0, peer, token, challenge);
    mesh.advance(Duration::from_secs(3));
    // A signature and another step could overtake each other too.
    assert!(matches!(sent(&mut mesh)[..], [(_, Step::SignedResponse(_))]));
}

#[test]
fn next_connect_of_a_peer_answers_its_response_that_waits_for_the_crypto_pool() {
    let mut mesh = listener();
    let key = node_key(9);
    let peer = key.peer_id();
    mesh.input(0, Input::Connected { peer, dialer: false });
    let connect = || Step::Connect(introduction(record(9, 0, START_MS, &key)));
    let Step::Challenge(first) = step(&mut mesh, 0, peer, connect()) else { panic!("no challenge") };
    mesh.faults = Box::new(|_, input| match input {
        Input::BindingChecked { .. } => FaultDecision::Drop,
        _ => FaultDecision::Deliver,
    });
    let body = Admission::encode(response(&key, &first));
    mesh.input(0, Input::AdmissionRequestReceived { token: 7, peer, body });
    let answered = |mesh: &Mesh, token| mesh.answers.iter().filter(|(_, of, _)| *of == token).count();
    assert_eq!(answered(&mesh, 7), 0);
    let Step::Challenge(second) = step(&mut mesh, 0, peer, connect()) else { panic!("no challenge") };
    assert_eq!(answered(&mesh, 7), 1);
    // A second response to one challenge ends both.
    let body = Admission::encode(response(&key, &second));
    for token in [8, 9] {
        mesh.input(0, Input::AdmissionRequestReceived { token, peer, body: body.clone() });
    }
    assert_eq!([7, 8, 9].map(|token| answered(&mesh, token)), [1; 3]);
}

#[test]
fn deferred_and_repeated_admission_has_no_second_effect_and_announces_new_topics() {
    let mut mesh = listener();
    let key = node_key(9);
    mesh.command(0, r#"{"type":"discover","topic":"new","id":"d","waitForPeers":1,"timeoutMs":600000}"#);
    let admitted = count(&mesh, Counter::PeersAdmitted);
    let peer = admit(&mut mesh, 0, 9);
    let awaited = |mesh: &Mesh| {
        let rows = mesh.nodes[0].core.usage();
        rows.into_iter().find(|row| row.name == "peers with awaited subscriptions").unwrap().size
    };
    let before = awaited(&mesh);
    for round in 0..5 {
        step(&mut mesh, 0, peer, rejected("CLOCK_OUT_OF_RANGE", 0));
        if round == 4 {
            mesh.input(0, Input::PeerSubscribed { peer, topic: "agent-messages".to_owned() });
        }
        let accepted = exchange(&mut mesh, &key, record(9, 0, START_MS, &key));
        assert_eq!(accepted, Step::Accepted(Accepted {}));
    }
    assert_eq!((count(&mesh, Counter::PeersAdmitted), awaited(&mesh)), (admitted + 1, before));
    gossip(&mut mesh, 1);
    assert_eq!(mesh.received(0), [1]);
}

#[test]
fn answer_to_a_refusal_is_not_the_word_of_the_peer() {
    let mut mesh = listener();
    let key = node_key(9);
    let (peer, token, connect) = dialled(&mut mesh, &key);
    let mut old = SignedRecord::decode(record(9, 0, START_MS, &key)).unwrap().record;
    old.issued_at_ms -= 7_200_000;
    old.expires_at_ms -= 7_200_000;
    let challenge = challenge(&key, &connect, old.sign(&key).unwrap());
    answer(&mut mesh, 0, peer, token, challenge);
    let (token, Step::Rejected(own)) = sent(&mut mesh).pop().expect("a step") else { panic!("no refusal") };
    assert_eq!((own.code.as_str(), count(&mesh, Counter::AdmissionsDeferred)), ("CLOCK_OUT_OF_RANGE", 1));
    answer(&mut mesh, 0, peer, token, Step::Rejected(Rejected { time_ms: 1, ..own }));
    assert_eq!(count(&mesh, Counter::AdmissionsDeferred), 1);
    assert!(mesh.lines(0, "error").is_empty(), "{:?}", mesh.lines(0, "error"));
}

/// Returns a node that admits registered agents.
fn registered_mode() -> Mesh {
    let mut mesh = Mesh::new(0);
    mesh.add_with(1, Role::Full, CONNECT, |config| {
        let registry = RegistryConfig { policy: RegistryPolicy::Enforce, ..RegistryConfig::default() };
        (config.admission, config.registry) = (AdmissionMode::Registered, Some(registry));
    });
    mesh
}

#[test]
fn registry_is_read_for_agents_that_are_proven_alone() {
    let mut mesh = registered_mode();
    mesh.registry().register(agent_key(9).address());
    for (number, code) in [(9, None), (10, Some("NOT_REGISTERED"))] {
        let key = node_key(number);
        let peer = key.peer_id();
        mesh.input(0, Input::Connected { peer, dialer: false });
        let reads = mesh.registry().reads;
        let own = introduction(record(number, 0, START_MS, &key));
        assert!(matches!(step(&mut mesh, 0, peer, Step::Connect(own)), Step::Challenge(_)));
        mesh.advance(Duration::from_secs(1));
        assert_eq!(mesh.registry().reads, reads, "the peer has proven nothing");
        let answer = exchange(&mut mesh, &key, record(number, 0, START_MS, &key));
        assert_eq!(refusal(answer), ("BUSY".to_owned(), "the registry has not been read yet".to_owned()),);
        assert_eq!(mesh.registry().reads, reads + 1);
        assert!(mesh.disconnect_requests.is_empty(), "the peer has not read the reason");
        let own = introduction(record(number, 0, START_MS, &key));
        let answer = match step(&mut mesh, 0, peer, Step::Connect(own)) {
            Step::Challenge(challenge) => step(&mut mesh, 0, peer, response(&key, &challenge)),
            refused => refused,
        };
        match code {
            None => assert_eq!(answer, Step::Accepted(Accepted {})),
            Some(code) => assert_eq!(refusal(answer).0, code),
        }
    }
}

#[test]
fn registry_is_not_read_for_a_peer_without_the_signature_of_the_exchange() {
    let mut mesh = registered_mode();
    let key = node_key(9);
    let peer = key.peer_id();
    mesh.input(0, Input::Connected { peer, dialer: false });
    let own = introduction(record(9, 0, START_MS, &key));
    assert!(matches!(step(&mut mesh, 0, peer, Step::Connect(own)), Step::Challenge(_)));
    let forged = SignedResponse { signature: vec![0; 64].into() };
    assert_eq!(refusal(step(&mut mesh, 0, peer, Step::SignedResponse(forged))).0, "FORGED");
    mesh.advance(Duration::from_secs(1));
    assert_eq!(mesh.registry().reads, 0);
}

#[test]
fn stranger_gets_no_challenge_and_no_entry_by_naming_the_agent_of_the_node() {
    let mut mesh = Mesh::new(0);
    mesh.add_with(1, Role::Full, CONNECT, |config| config.admission = AdmissionMode::Known);
    let key = node_key(9);
    let peer = key.peer_id();
    // The account of the node, under the signature of another.
    let mut stolen = SignedRecord::decode(record(9, 0, START_MS, &key)).unwrap().record;
    let SignedBinding { signature, .. } = stolen.binding;
    stolen.binding = SignedBinding { binding: binding(1, 0, &key), signature };
    mesh.input(0, Input::Connected { peer, dialer: false });
    let answer = exchange(&mut mesh, &key, stolen.sign(&key).unwrap());
    assert_eq!(refusal(answer).0, "INVALID_RECORD");
    mesh.input(0, Input::Disconnected { peer, reason: None });
    mesh.input(0, Input::Connected { peer, dialer: false });
    let own = introduction(record(9, 0, START_MS, &key));
    assert_eq!(refusal(step(&mut mesh, 0, peer, Step::Connect(own))).0, "NOT_KNOWN");
}
