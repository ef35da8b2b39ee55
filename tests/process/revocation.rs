//! A newer generation revokes an older key on all nodes that have seen the newer record.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use p2p_node::io::swarm::{DEFAULT_CONNECTION_TIMEOUT, SwarmConfig, SwarmDriver};
use p2p_node_core::effect::NetworkCommand;
use p2p_node_core::gate::address_scope::AddressScope;
use p2p_node_core::input::Input;
use p2p_node_core::local::addresses::Reachability;
use p2p_node_store::{STORE_FILE, Store};
use p2p_node_testing::forged::{self, plain_binding, plain_record};
use p2p_node_wire::envelope::{
    Admission, Batch, Connect, FrameBody, MailResponse, Message, Payload, Response, Scope, Sealed, Side,
    SignedResponse, Step, WIRE_VERSION, direct_frame,
};
use p2p_node_wire::identity::{AgentKey, NodeKey, node_key_of};
use p2p_node_wire::record::SignedRecord;
use p2p_node_wire::seal::hpke::Info;
use p2p_node_wire::seal::kem::kem_id;
use p2p_node_wire::seal::repeatable::DeterministicRng;
use p2p_node_wire::seal::suite::Suite;
use p2p_node_wire::seal::{hpke, padding};
use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::tcp_address;
use crate::child::{Child, TIMEOUT, test_key};

/// The agent whose key is revoked.
const AGENT: u8 = 0x72;

fn now_secs() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn node_key(data_dir: &TempDir) -> NodeKey {
    let text = std::fs::read_to_string(data_dir.path().join("node.key")).unwrap();
    NodeKey::from_seed(hex::decode(text.trim()).unwrap().try_into().unwrap())
}

fn swarm_config(key: &NodeKey) -> SwarmConfig {
    SwarmConfig {
        seed: key.seed(),
        network: "dev".to_owned(),
        scope: AddressScope::Loopback,
        address_rules: Default::default(),
        serves_dht: false,
        dns_server: None,
        listen: None,
        reachability: Reachability::Reachable,
        relay_bytes: None,
        upnp: false,
        mdns: false,
        max_connections: 10,
        max_handshakes: 64,
        connections_per_address: 3,
        connection_timeout: DEFAULT_CONNECTION_TIMEOUT,
        agent_version: "p2p-node/test".to_owned(),
    }
}

/// Returns the messages and the unsealed frame of mail by a key of generation 0.
fn unsealed(agent: &AgentKey, key: &NodeKey, recipient: &PeerId, number: u64) -> (Batch, FrameBody) {
    let binding = plain_binding(agent, key, now_secs());
    let data = Bytes::from(format!(r#""by the old key {number}""#));
    let message = Message { stream: Bytes::from_static(&[5; 16]), seq: number, data, ..Message::default() };
    let batch = Batch { messages: vec![message], acks: Vec::new() };
    let body = FrameBody {
        version: WIRE_VERSION,
        network: "dev".to_owned(),
        scope: Some(Scope::NodeKey(Bytes::copy_from_slice(&node_key_of(recipient).unwrap()))),
        binding: agent.bind(binding).unwrap().encode(),
        boot: 77,
        counter: number,
        // After the recipient's start, which may be in this second.
        created_at_ms: now_secs() * 1000 + 999,
        payload: None,
    };
    (batch, body)
}

/// Sends mail of `AGENT` from this node key in generation 0, and returns the response of the
/// node. The peer is only a swarm, without a core.
fn response_to_mail_of(key: &NodeKey, ready: &Value, number: u64) -> Result<Response, String> {
    let agent = AgentKey::from_hex(&test_key(AGENT)).unwrap();
    let recipient: PeerId = ready["peerId"].as_str().unwrap().parse().unwrap();
    let (batch, mut body) = unsealed(&agent, key, &recipient, number);
    let mut addr: Multiaddr = tcp_address(ready).parse().unwrap();
    addr.pop();
    let config = swarm_config(key);
    let exchange = async {
        let mut driver = SwarmDriver::new(config).unwrap();
        driver.apply(NetworkCommand::Dial { peer: recipient, addrs: vec![addr] });
        loop {
            match driver.next().await {
                Input::Connected { .. } => {
                    let step = Step::Connect(introduction(&agent, key));
                    let body = Admission::encode(step);
                    driver.apply(NetworkCommand::SendAdmission { token: 1, peer: recipient, body });
                }
                Input::AdmissionResponseReceived { outcome, .. } => {
                    match Admission::decode(outcome.unwrap()).unwrap().step.unwrap() {
                        // The record in the challenge has the KEM key.
                        Step::Challenge(challenge) => {
                            let responder = challenge.responder.unwrap();
                            let record = SignedRecord::decode(responder.record).unwrap();
                            body.payload = Some(sealed(&batch, key, record));
                            let signature =
                                forged::signature(Side::Initiator, key, &recipient, &responder.nonce, |_| {});
                            let body = Admission::encode(Step::SignedResponse(SignedResponse { signature }));
                            driver.apply(NetworkCommand::SendAdmission { token: 2, peer: recipient, body });
                        }
                        Step::Accepted(_) => {
                            let frame = direct_frame(&body);
                            driver.apply(NetworkCommand::SendMail { token: 3, peer: recipient, frame });
                        }
                        Step::Rejected(rejected) => return Err(rejected.code),
                        step => panic!("{step:?}"),
                    }
                }
                Input::MailResponseReceived { outcome, .. } => {
                    return Ok(MailResponse::decode(outcome.unwrap()).unwrap().response.unwrap());
                }
                Input::DialFailed { reason, .. } => panic!("{reason}"),
                _ => {}
            }
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(TIMEOUT, exchange).await }).expect("an answer")
}

/// Returns what the node says of itself, with a record of generation 0.
fn introduction(agent: &AgentKey, key: &NodeKey) -> Connect {
    let now = now_secs();
    let binding = agent.bind(plain_binding(agent, key, now)).unwrap();
    forged::introduction(plain_record(binding, now * 1000).sign(key).unwrap())
}

fn sealed(batch: &Batch, sender: &NodeKey, recipient: SignedRecord) -> Payload {
    let kem = recipient.record.kem.as_ref().unwrap();
    let info = Info {
        network: "dev".to_owned(),
        sender: sender.public(),
        recipient: recipient.address(),
        kem_id: kem_id(&kem.public_key),
        suite: Suite::default(),
    };
    let content = padding::pad(batch.encode_to_vec());
    let sealed = hpke::seal(&kem.public_key, &info, &content, &mut DeterministicRng::new(1)).unwrap();
    let (enc, ciphertext) = (sealed.enc, sealed.ciphertext);
    Payload::Sealed(Sealed { kem_id: kem.id.clone(), suite: info.suite.number(), enc, ciphertext })
}

/// Waits until the store of a running node has the generation of `AGENT`. Opens a copy, because the
/// store is locked. A copy from the middle of a write may be damaged; opening it moves it aside.
fn until_persisted(data_dir: &TempDir, owner: u8, generation: u64) {
    let owner = AgentKey::from_hex(&test_key(owner)).unwrap().address();
    let address = AgentKey::from_hex(&test_key(AGENT)).unwrap().address();
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let copy = TempDir::new().unwrap();
        std::fs::copy(data_dir.path().join(STORE_FILE), copy.path().join(STORE_FILE)).unwrap();
        let (_store, rows) = Store::open(copy.path(), "dev", owner, 0, &[7; 16]).unwrap();
        if rows.highest_seen.iter().any(|row| row.address == address && row.generation == generation) {
            return;
        }
        assert!(Instant::now() < deadline, "not persisted: {rows:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn higher_generation_ends_the_old_node_and_revokes_its_key() {
    let (_bootstrap, entry) = Child::join(0x70, 0, &["--role", "bootstrap"], &[]);
    let entries = [tcp_address(&entry)];
    let dirs: [TempDir; 2] = std::array::from_fn(|_| TempDir::new().unwrap());
    let [data_dir, old_dir] = dirs.each_ref().map(|dir| ["--data-dir", dir.path().to_str().unwrap()]);
    let (mut witness, witness_ready) = Child::join(0x71, 0, &data_dir, &entries);
    let (mut old, old_ready) = Child::join(AGENT, 0, &old_dir, &entries);
    old.command(json!({"type":"send","peerId":witness_ready["address"],"data":"before"}));
    let before = witness.expect("mail", |event| event["type"] == "message");
    assert_eq!((&before["from"], &before["peerId"]), (&old_ready["address"], &old_ready["peerId"]));

    let generation = now_secs();
    let started = Instant::now();
    let raised = generation.to_string();
    let (mut new, new_ready) =
        Child::join(AGENT, 0, &["--generation", &raised, "--instance", "new"], &entries);
    assert_eq!(new_ready["address"], old_ready["address"]);
    assert_ne!(new_ready["peerId"], old_ready["peerId"]);
    let ended = old.expect("the end of the old node", |event| event["type"] == "error");
    assert_eq!(ended["code"], "IDENTITY_SUPERSEDED", "{ended}");
    assert_eq!(old.wait().code(), Some(78));
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "the old node ended only after {:?}",
        started.elapsed()
    );

    new.command(json!({"type":"send","peerId":witness_ready["address"],"data":"after"}));
    let after = witness.expect("mail", |event| event["type"] == "message");
    assert_eq!((&after["from"], &after["peerId"]), (&new_ready["address"], &new_ready["peerId"]));
    let old_key = node_key(&dirs[1]);
    assert_eq!(old_key.peer_id().to_string(), old_ready["peerId"].as_str().unwrap());
    let answer = response_to_mail_of(&old_key, &witness_ready, 1);
    assert_eq!(answer, Err("SUPERSEDED".to_owned()));
    witness.until("a refused node", |status| status["counters"]["admissions_refused"] == 1);

    // Without peers, so that the witness cannot learn the generation again.
    until_persisted(&dirs[0], 0x71, generation);
    witness.kill();
    let (mut witness, witness_ready) = Child::join(0x71, 0, &data_dir, &[]);
    let answer = response_to_mail_of(&old_key, &witness_ready, 2);
    assert_eq!(answer, Err("SUPERSEDED".to_owned()), "after a restart");
    witness.command(json!({"type":"ping","id":"p"}));
    witness.answer("p");
    assert!(
        witness.seen().iter().all(|event| event["type"] != "message"),
        "a message of the old key was delivered"
    );

    // The old node does not start again. A node without a store accepts the old key.
    let again = Child::spawn(&[&old_dir[..], &["--connect"]].concat(), &[("PRIVATE_KEY", &test_key(AGENT))]);
    let (code, lines, _) = again.finish();
    assert_eq!(code, 78);
    assert!(lines.iter().any(|line| line["code"] == "IDENTITY_SUPERSEDED"), "{lines:#?}");
    let (_empty, empty_ready) = Child::join(0x71, 0, &["--instance", "empty"], &[]);
    let answer = response_to_mail_of(&old_key, &empty_ready, 3);
    assert!(matches!(answer, Ok(Response::Ack(_))), "{answer:?}");
}

#[test]
fn data_directory_in_use_is_refused() {
    let dir = TempDir::new().unwrap();
    let args = ["--data-dir", dir.path().to_str().unwrap()];
    let (_first, _) = Child::join(0x73, 0, &args, &[]);
    // Another lock scope, so that the identity lock does not interfere.
    let (code, lines, _) = Child::spawn(&args, &[("PRIVATE_KEY", &test_key(0x73))]).finish();
    assert_eq!(code, 73);
    assert_eq!(lines.last().unwrap()["code"], "IDENTITY_IN_USE", "{lines:#?}");
}

#[test]
fn damaged_store_is_replaced_with_a_warning() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join(STORE_FILE), vec![0x5A; 10_000]).unwrap();
    let (child, _) = Child::join(0x74, 0, &["--data-dir", dir.path().to_str().unwrap()], &[]);
    let warning = child.expect("a warning", |event| event["type"] == "log" && event["namespace"] == "store");
    assert_eq!(warning["level"], "warn");
    assert!(warning["message"].as_str().unwrap().contains("node.redb.corrupt-"), "{warning}");
    assert_eq!(child.finish().0, 0);
    let mode = |name: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(name).unwrap().permissions()) & 0o777
    };
    assert_eq!(mode(&dir.path().join(STORE_FILE)), 0o600);
}
