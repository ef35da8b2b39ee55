//! Reputations and bans: who is blamed for what, and what a ban does.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_core::CoreConfig;
use p2p_node_core::effect::Verdict;
use p2p_node_core::gate::address_rules::AddressRules;
use p2p_node_core::gate::reputation::Party;
use p2p_node_core::input::{Input, PeerReport};
use p2p_node_protocol::{Counter, Role};
use p2p_node_wire::envelope::{Accepted, Admission, Step};
use p2p_node_wire::identity::{NodeKey, hash_fields};
use p2p_node_wire::record::{SignedRecord, kad_key};
use serde_json::{Value, json};

use crate::forged::{admit_with, frame, introduction, record, topic};
use crate::mesh::{CONNECT, Mesh, START_MS, agent_key, node_key};

/// The node under test, and a connected peer that misbehaves, of agent 3.
const NODE: usize = 1;
const PEER: usize = 2;
/// Faults that count 0.2 each until a ban.
const FAULTS: u64 = 4;

fn mesh_with(limits: bool) -> Mesh {
    mesh_of(|config| config.limits_apply = limits)
}

fn mesh_of(change: impl FnOnce(&mut CoreConfig)) -> Mesh {
    let mut mesh = Mesh::new(1);
    mesh.add_with(2, Role::Full, CONNECT, change);
    mesh.add(3, Role::Full);
    mesh.obeys_disconnects = true;
    mesh.command(NODE, r#"{"type":"subscribe","topic":"jobs","id":"s"}"#);
    mesh.connect(NODE, 0);
    mesh.connect(PEER, NODE);
    mesh
}

fn mesh() -> Mesh {
    mesh_with(true)
}

fn count(mesh: &Mesh, counter: Counter) -> u64 {
    mesh.nodes[NODE].core.stats().get(counter)
}

/// Passes a message from a peer, and returns the verdict.
fn gossip_from(mesh: &mut Mesh, from: PeerId, data: Bytes) -> Verdict {
    // Higher than each token of the network, so that its verdict is the last one.
    let token = (1 << 40) + mesh.verdicts(NODE).len() as u64;
    mesh.input(NODE, Input::Gossip { token, from, topic: "jobs".to_owned(), data });
    *mesh.verdicts(NODE).last().expect("a verdict")
}

/// Forwards forged frames by the peer.
fn forward_forged(mesh: &mut Mesh, number: u64) {
    let from = mesh.nodes[PEER].peer;
    for counter in 0..number {
        let mut forged = frame(9, topic(), 100 + counter, |_| {}).to_vec();
        forged[0] ^= 1;
        assert_eq!(gossip_from(mesh, from, forged.into()), Verdict::Reject);
    }
}

/// Returns what `peers` says of a connected node.
fn listed(mesh: &mut Mesh, node: usize) -> Option<Value> {
    mesh.command(NODE, r#"{"type":"peers","id":"p"}"#);
    let answer = mesh.nodes[NODE].lines.iter().rfind(|line| line["id"] == "p").expect("an answer");
    let peer = mesh.nodes[node].peer.to_string();
    let connected = answer["connected"].as_array().expect("a list");
    connected.iter().find(|listed| listed["peerId"] == peer.as_str()).cloned()
}

fn is_connected(mesh: &mut Mesh) -> bool {
    listed(mesh, PEER).is_some()
}

fn command(mesh: &mut Mesh, command: &str, name: &str) {
    mesh.command(NODE, &json!({"type": command, "peerId": name, "id": "c"}).to_string());
}

fn reputation(mesh: &mut Mesh) -> f64 {
    listed(mesh, PEER).expect("connected")["reputation"].as_f64().expect("a number")
}

fn banned(mesh: &Mesh) -> Vec<&Value> {
    mesh.lines(NODE, "peer_banned")
}

#[test]
fn peer_that_forwards_forged_frames_is_banned_with_its_agent_and_the_parent_learns_why() {
    let mut mesh = mesh();
    assert_eq!(reputation(&mut mesh), 1.0);
    forward_forged(&mut mesh, FAULTS - 1);
    assert_eq!(reputation(&mut mesh), 0.4);
    assert!(is_connected(&mut mesh) && banned(&mesh).is_empty());
    forward_forged(&mut mesh, 1);
    assert!(!is_connected(&mut mesh));
    let (peer, address) = (mesh.nodes[PEER].peer.to_string(), mesh.nodes[PEER].address.clone());
    let until = START_MS + 3_600_000;
    let fields = |line: &Value| {
        (line["peerId"].clone(), line["address"].clone(), line["reason"].clone(), line["score"].clone())
    };
    let expected = |peer: Value| (peer, json!(address), json!("invalid_gossip"), json!(0.2));
    let lines: Vec<_> = banned(&mesh).into_iter().map(fields).collect();
    assert_eq!(lines, [expected(json!(peer)), expected(Value::Null)]);
    assert!(banned(&mesh).iter().all(|line| line["untilMs"].as_u64().is_some_and(|ms| ms >= until)));
    assert_eq!(count(&mesh, Counter::PeersBanned), 2);
    let gone = mesh.lines(NODE, "peer_disconnected");
    assert!(gone.last().expect("a line")["reason"].as_str().is_some_and(|why| why.contains("banned")));
    mesh.connect(PEER, NODE);
    mesh.command(NODE, &json!({"type": "send", "peerId": address, "data": 1, "id": "m"}).to_string());
    mesh.advance(Duration::from_secs(60));
    assert!(!is_connected(&mut mesh), "the node neither accepts nor dials it");
}

#[test]
fn nobody_is_penalised_without_limits_and_an_allowed_peer_never() {
    let mut mesh = mesh_with(false);
    forward_forged(&mut mesh, 20);
    assert!(is_connected(&mut mesh) && banned(&mesh).is_empty());
    let mut mesh = mesh_with(true);
    let address = mesh.nodes[PEER].address.clone();
    command(&mut mesh, "allow", &address);
    forward_forged(&mut mesh, 20);
    assert!(is_connected(&mut mesh) && banned(&mesh).is_empty());
    assert_eq!(reputation(&mut mesh), 1.0);
}

#[test]
fn relayer_is_not_blamed_for_what_it_could_not_check() {
    let mut mesh = mesh();
    let from = mesh.nodes[PEER].peer;
    let good = frame(9, topic(), 1, |_| {});
    assert_eq!(gossip_from(&mut mesh, from, good.clone()), Verdict::Accept);
    for token in 2..20 {
        let data = match token % 3 {
            0 => good.clone(),
            1 => frame(9, topic(), token, |body| body.created_at_ms = START_MS - 200_000),
            _ => frame(9, topic(), token, |body| body.version += 1),
        };
        assert_eq!(gossip_from(&mut mesh, from, data), Verdict::Ignore);
    }
    assert_eq!(reputation(&mut mesh), 1.0);
}

#[test]
fn gossip_of_a_banned_agent_is_not_forwarded_until_the_ban_ends_and_blames_no_relay() {
    let mut mesh = mesh();
    forward_forged(&mut mesh, FAULTS);
    // Another node of agent 3, which this node does not know, has its gossip forwarded by others.
    let relay = mesh.nodes[0].peer;
    let before = mesh.received(NODE).len();
    for number in 1..20 {
        assert_eq!(gossip_from(&mut mesh, relay, frame(3, topic(), number, |_| {})), Verdict::Ignore);
    }
    assert_eq!((mesh.received(NODE).len(), count(&mesh, Counter::FramesOfBanned)), (before, 19));
    assert_eq!(banned(&mesh).len(), 2, "agent and node of the author alone");
    let author = mesh.nodes[PEER].address.clone();
    command(&mut mesh, "allow", &author);
    assert_eq!(gossip_from(&mut mesh, relay, frame(3, topic(), 20, |_| {})), Verdict::Accept);
    assert_eq!(mesh.received(NODE).len(), before + 1);
}

#[test]
fn ban_ends_when_the_reputation_has_recovered() {
    let mut mesh = mesh();
    forward_forged(&mut mesh, FAULTS);
    let both = mesh.store(NODE).bans.clone();
    let (peer, agent) = (mesh.nodes[PEER].peer, agent_key(3).address());
    assert_eq!(both.keys().copied().collect::<Vec<_>>(), [Party::Agent(agent), Party::Node(peer)]);
    mesh.advance(Duration::from_secs(3590));
    assert!(mesh.lines(NODE, "peer_unbanned").is_empty());
    mesh.advance(Duration::from_secs(20));
    let ends = mesh.lines(NODE, "peer_unbanned");
    assert_eq!(ends.iter().map(|line| line["reason"].clone()).collect::<Vec<_>>(), ["recovered"; 2]);
    assert!(mesh.store(NODE).bans.is_empty());
    assert_eq!(count(&mesh, Counter::BansLifted), 2);
    mesh.connect(PEER, NODE);
    assert!(is_connected(&mut mesh));
    assert!((0.3..0.32).contains(&reputation(&mut mesh)));
    let peer = mesh.nodes[PEER].peer;
    gossip_from(&mut mesh, peer, Bytes::from_static(b"nonsense"));
    assert!(!is_connected(&mut mesh), "on probation");
}

#[test]
fn allow_and_unblock_end_a_ban_of_node_and_agent() {
    for (name, rule) in [("allow", true), ("unblock", false)] {
        let mut mesh = mesh();
        forward_forged(&mut mesh, FAULTS);
        let of = if rule { mesh.nodes[PEER].address.clone() } else { mesh.nodes[PEER].peer.to_string() };
        command(&mut mesh, name, &of);
        let ends = mesh.lines(NODE, "peer_unbanned");
        assert_eq!(ends.iter().map(|line| line["reason"].clone()).collect::<Vec<_>>(), ["pardoned"; 2]);
        mesh.connect(PEER, NODE);
        assert!(is_connected(&mut mesh));
        assert_eq!(reputation(&mut mesh), 1.0);
        assert!(mesh.store(NODE).bans.is_empty());
    }
}

#[test]
fn bans_survive_a_restart() {
    let mut mesh = mesh();
    forward_forged(&mut mesh, FAULTS);
    let bans: Vec<_> = mesh.store(NODE).bans.iter().map(|(party, ban)| (*party, *ban)).collect();
    mesh.kill(NODE);
    let again = mesh.add_with(2, Role::Full, CONNECT, |config| {
        config.limits_apply = true;
        config.bans = bans;
    });
    mesh.connect(again, 0);
    mesh.advance(Duration::from_secs(5));
    mesh.connect(PEER, again);
    assert!(!mesh.disconnect(PEER, again), "refused before it is known");
    mesh.advance(Duration::from_secs(3600));
    assert_eq!(mesh.lines(again, "peer_unbanned").len(), 2);
}

/// Lets the node look up agent 9 in the DHT, whose server has this record.
fn look_up(mesh: &mut Mesh, value: Bytes) {
    let address = agent_key(9).address();
    mesh.dht_mut().insert(Bytes::copy_from_slice(&kad_key("dev", &address)), value);
    let search = json!({"type": "discover", "address": address.to_string(), "id": "d"});
    mesh.command(NODE, &search.to_string());
    mesh.advance(Duration::from_secs(3));
}

#[test]
fn server_is_banned_for_forged_answers_and_not_for_expired_ones() {
    let mut forged = record(9, 0, 10, &node_key(9)).to_vec();
    *forged.last_mut().expect("bytes") ^= 1;
    let mut liar = mesh();
    look_up(&mut liar, forged.into());
    let lines = banned(&liar);
    assert_eq!(
        (&lines[0]["peerId"], &lines[0]["reason"]),
        (&json!(liar.nodes[0].peer.to_string()), &json!("invalid_record"))
    );
    let mut mesh = mesh();
    mesh.advance(Duration::from_secs(2 * 3600));
    let before = count(&mesh, Counter::RecordsOutOfDate);
    look_up(&mut mesh, record(9, 0, 10, &node_key(9)));
    assert!(count(&mesh, Counter::RecordsOutOfDate) > before);
    assert_eq!(listed(&mut mesh, 0).expect("connected")["reputation"], 1.0);
}

#[test]
fn peer_is_blamed_for_invalid_mail_admissions_questions_and_records() {
    let inputs: [fn(PeerId, u64) -> Input; 5] = [
        |peer, token| Input::MailRequestReceived { token, peer, frame: Bytes::from_static(b"no frame") },
        |peer, token| Input::AdmissionRequestReceived { token, peer, body: Bytes::from_static(b"no step") },
        |peer, token| {
            let connect = introduction(record(9, 0, 1, &node_key(9)));
            Input::AdmissionRequestReceived { token, peer, body: Admission::encode(Step::Connect(connect)) }
        },
        |peer, token| Input::FindRequestReceived { token, peer, body: Bytes::from_static(b"no question") },
        |peer, _| {
            let (key, value) = (Bytes::from_static(b"key"), record(9, 0, 1, &node_key(9)));
            Input::RecordOffered { peer, key, value }
        },
    ];
    for (number, input) in inputs.into_iter().enumerate() {
        let mut mesh = mesh();
        let peer = mesh.nodes[PEER].peer;
        mesh.input(NODE, input(peer, 1));
        assert_eq!(reputation(&mut mesh), 0.8, "input {number}");
    }
}

#[test]
fn record_of_another_network_in_an_admission_counts_once() {
    let mut mesh = mesh();
    let key = node_key(3);
    let mut other = SignedRecord::decode(record(3, 0, START_MS + 1, &key)).expect("a record").record;
    other.network = "other".to_owned();
    let answer = admit_with(&mut mesh, NODE, &key, other.sign(&key).expect("a record"));
    assert!(matches!(answer, Step::Rejected(rejected) if rejected.code == "INVALID_RECORD"));
    assert_eq!(reputation(&mut mesh), 0.8);
}

#[test]
fn agent_with_two_records_of_one_order_is_blamed_once_for_each_order() {
    let mut mesh = mesh();
    mesh.input(NODE, announced(1, record(9, 0, 10, &node_key(9))));
    let conflicting = |seq| {
        let node = node_key(9);
        let mut other = SignedRecord::decode(record(9, 0, seq, &node)).expect("a record").record;
        other.name = "another".to_owned();
        other.sign(&node).expect("a record")
    };
    let missing = |mesh: &Mesh| mesh.nodes[NODE].core.usage();
    let faults = |mesh: &Mesh| {
        let size = |name| missing(mesh).into_iter().find(|usage| usage.name == name).map(|usage| usage.size);
        (size("agents with faults"), size("bans"))
    };
    for token in 2..20 {
        mesh.input(NODE, announced(token, conflicting(10)));
    }
    assert_eq!(faults(&mesh), (Some(1), Some(0)), "many relayers, one fault");
    for seq in [11, 12] {
        mesh.input(NODE, announced(100 + seq, record(9, 0, seq, &node_key(9))));
        mesh.input(NODE, announced(200 + seq, conflicting(seq)));
    }
    assert_eq!(faults(&mesh), (Some(0), Some(2)));
    assert_eq!(banned(&mesh)[0]["reason"], "equivocation");
    assert_eq!(reputation(&mut mesh), 1.0, "the relayer is not blamed");
}

fn announced(token: u64, data: Bytes) -> Input {
    let from = node_key(3).peer_id();
    Input::Gossip { token, from, topic: "agent-announcements".to_owned(), data }
}

/// Connects a stranger from an address, lets it forward forged frames, and returns its node.
fn stranger_from(mesh: &mut Mesh, number: u64, addr: &str) -> PeerId {
    let key = NodeKey::from_seed(hash_fields(&[&number.to_be_bytes()]));
    let peer = key.peer_id();
    let accepted = admit_with(mesh, NODE, &key, record(20 + number as u8, 0, START_MS, &key));
    assert_eq!(accepted, Step::Accepted(Accepted {}));
    let remote = addr.parse().expect("an address");
    let report = PeerReport::LinkOpened { link: number, dialer: false, remote };
    mesh.input(NODE, Input::PeerReport { peer, report });
    for fault in 0..FAULTS {
        gossip_from(mesh, peer, Bytes::from(format!("nonsense {number} {fault}")));
    }
    peer
}

#[test]
fn host_of_five_banned_nodes_is_banned_and_not_dialled() {
    let allowed = AddressRules::new(&["198.51.100.1".parse::<IpAddr>().expect("an address").into()], &[]);
    let mut mesh = mesh_of(|config| {
        config.limits_apply = true;
        config.address_rules = allowed.into();
    });
    let hosts = |mesh: &Mesh| -> Vec<Value> {
        banned(mesh).into_iter().filter(|line| line["ip"].is_string()).cloned().collect()
    };
    for number in 0..6 {
        stranger_from(&mut mesh, 300 + number, "/ip4/198.51.100.1/tcp/1000");
    }
    for number in 0..4 {
        stranger_from(&mut mesh, number, "/ip4/192.0.2.1/tcp/1000");
        stranger_from(&mut mesh, 100 + number, "/ip4/127.0.0.1/tcp/1000");
        stranger_from(&mut mesh, 200 + number, &format!("/ip4/192.0.2.{}/tcp/1000", 10 + number));
    }
    assert_eq!(hosts(&mesh), Vec::<Value>::new(), "an office keeps its address");
    stranger_from(&mut mesh, 4, "/ip4/192.0.2.1/tcp/1000");
    stranger_from(&mut mesh, 104, "/ip4/127.0.0.1/tcp/1000");
    let banned = hosts(&mesh);
    assert_eq!(banned.len(), 1, "{banned:?}");
    assert_eq!((&banned[0]["ip"], &banned[0]["peerId"]), (&json!("192.0.2.1"), &Value::Null));
}
