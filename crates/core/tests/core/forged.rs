//! Builds records, frames and admissions of agents without a node.

use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_core::input::{Input, Token};
pub use p2p_node_testing::forged::introduction;
use p2p_node_testing::forged::{plain_record, signature};
use p2p_node_wire::envelope::{
    Accepted, Admission, Batch, Challenge, Connect, FrameBody, Message, Payload, Scope, Sealed, Side,
    SignedResponse, Step, WIRE_VERSION, sign_frame, strict_decode,
};
use p2p_node_wire::identity::NodeKey;
use p2p_node_wire::identity::keys::SIGNATURE_BYTES;
use p2p_node_wire::record::{Record, SignedRecord};
use p2p_node_wire::seal::hpke::Info;
use p2p_node_wire::seal::kem::{Keyring, kem_id};
use p2p_node_wire::seal::repeatable::DeterministicRng;
use p2p_node_wire::seal::suite::Suite;
use p2p_node_wire::seal::{hpke, padding};
use p2p_node_wire::time::{Instant, Now};
use prost::Message as _;

use crate::mesh::{Mesh, START_MS, agent_key, binding, node_key};

/// The first token of the steps of forged peers.
const ADMISSION_TOKENS: Token = 1 << 24;

pub fn record(number: u8, generation: u64, seq: u64, node: &NodeKey) -> Bytes {
    let binding = agent_key(number).bind(binding(number, generation, node)).unwrap();
    let started = Now { mono: Instant::ZERO, unix_ms: START_MS };
    let kem = Keyring::new([number; 32], Suite::default(), started).current();
    let record = Record { seq, kem, ..plain_record(binding, START_MS) };
    record.sign(node).unwrap()
}

/// Returns a signed frame of agent `number` for `scope`.
pub fn frame(number: u8, scope: Scope, counter: u64, change: impl FnOnce(&mut FrameBody)) -> Bytes {
    let node = node_key(number);
    let message = Message {
        stream: Bytes::from_static(&[5; 16]),
        seq: counter,
        data: Bytes::from(counter.to_string()),
        ..Message::default()
    };
    let mut body = FrameBody {
        version: WIRE_VERSION,
        network: "dev".to_owned(),
        scope: Some(scope),
        binding: agent_key(number).bind(binding(number, 0, &node)).unwrap().encode(),
        boot: 77,
        counter,
        created_at_ms: START_MS,
        payload: Some(Payload::Plain(Batch { messages: vec![message], acks: Vec::new() })),
    };
    change(&mut body);
    sign_frame(&body, &node)
}

/// Returns a signed frame in the form that it has on the connection of its sender.
pub fn direct(frame: Bytes) -> Bytes {
    frame.slice(SIGNATURE_BYTES..)
}

/// Returns an encrypted frame of mail from one agent to another.
pub fn sealed(from: u8, to: u8, counter: u64, messages: Vec<Message>) -> Bytes {
    let node = node_key(to);
    let started = Now { mono: Instant::ZERO, unix_ms: START_MS };
    let kem = Keyring::new([to; 32], Suite::default(), started).current().unwrap();
    let info = Info {
        network: "dev".to_owned(),
        sender: node_key(from).public(),
        recipient: agent_key(to).address(),
        kem_id: kem_id(&kem.public_key),
        suite: Suite::default(),
    };
    let content = padding::pad(Batch { messages, acks: Vec::new() }.encode_to_vec());
    let sealed_once =
        hpke::seal(&kem.public_key, &info, &content, &mut DeterministicRng::new(counter)).unwrap();
    let (enc, ciphertext) = (sealed_once.enc, sealed_once.ciphertext);
    let sealed = Sealed { kem_id: kem.id, suite: info.suite.number(), enc, ciphertext };
    let scope = Scope::NodeKey(Bytes::copy_from_slice(&node.public()));
    direct(frame(from, scope, counter, |body| body.payload = Some(Payload::Sealed(sealed))))
}

/// Sends a step of a forged peer and returns the answer.
pub fn step(mesh: &mut Mesh, node: usize, peer: PeerId, step: Step) -> Step {
    let token = ADMISSION_TOKENS + mesh.answers.len() as Token;
    mesh.input(node, Input::AdmissionRequestReceived { token, peer, body: Admission::encode(step) });
    let (_, _, body) = mesh.answers.iter().find(|(_, answered, _)| *answered == token).expect("an answer");
    strict_decode::<Admission>(body).unwrap().step.unwrap()
}

/// Returns the response of a forged peer to a challenge.
pub fn response(key: &NodeKey, challenge: &Challenge) -> Step {
    let responder = challenge.responder.as_ref().unwrap();
    let peer = SignedRecord::decode(responder.record.clone()).unwrap().peer_id();
    let signature = signature(Side::Initiator, key, &peer, &responder.nonce, |_| {});
    Step::SignedResponse(SignedResponse { signature })
}

/// Answers a step of a node as a forged peer.
pub fn answer(mesh: &mut Mesh, node: usize, peer: PeerId, token: Token, step: Step) {
    let outcome = Ok(Admission::encode(step));
    mesh.input(node, Input::AdmissionResponseReceived { token, peer, outcome });
}

/// Takes the steps that nodes sent to forged peers.
pub fn sent(mesh: &mut Mesh) -> Vec<(Token, Step)> {
    let decode =
        |(token, body): (Token, Bytes)| (token, strict_decode::<Admission>(&body).unwrap().step.unwrap());
    std::mem::take(&mut mesh.steps).into_iter().map(decode).collect()
}

/// Returns the challenge of a forged peer with this record to a node that sent `connect`.
pub fn challenge(key: &NodeKey, connect: &Connect, record: Bytes) -> Step {
    let initiator = SignedRecord::decode(connect.record.clone()).unwrap().peer_id();
    let signature = signature(Side::Responder, key, &initiator, &connect.nonce, |_| {});
    Step::Challenge(Challenge { responder: Some(introduction(record)), signature })
}

/// Connects a forged peer with this record to a node, and completes its admission.
pub fn admit_with(mesh: &mut Mesh, node: usize, key: &NodeKey, record: Bytes) -> Step {
    let peer = key.peer_id();
    mesh.input(node, Input::Connected { peer, dialer: false });
    let Step::Challenge(challenge) = step(mesh, node, peer, Step::Connect(introduction(record))) else {
        panic!("no challenge");
    };
    step(mesh, node, peer, response(key, &challenge))
}

/// Connects a forged node whose record the other node does not keep, because it is from the future, and
/// completes its admission.
pub fn admit_unknown(mesh: &mut Mesh, node: usize, number: u8) -> PeerId {
    let key = node_key(number);
    let mut early = SignedRecord::decode(record(number, 0, START_MS, &key)).unwrap().record;
    // Each by another time: several clocks that are ahead by the same time say that the own one is behind.
    let ahead_ms = 3_600_000 * (24 + u64::from(number));
    early.issued_at_ms += ahead_ms;
    early.expires_at_ms += ahead_ms;
    let accepted = admit_with(mesh, node, &key, early.sign(&key).unwrap());
    assert_eq!(accepted, Step::Accepted(Accepted {}));
    key.peer_id()
}

/// Connects the forged node of an agent to a node, and completes its admission.
pub fn admit(mesh: &mut Mesh, node: usize, number: u8) -> PeerId {
    let key = node_key(number);
    let accepted = admit_with(mesh, node, &key, record(number, 0, START_MS, &key));
    assert_eq!(accepted, Step::Accepted(Accepted {}));
    key.peer_id()
}

/// Returns the relayer of the gossip that the tests make. Connects it the first time.
pub fn relayer(mesh: &mut Mesh) -> PeerId {
    let peer = node_key(50).peer_id();
    let is_connected = mesh.lines(0, "peer_connected").iter().any(|line| line["peerId"] == peer.to_string());
    if is_connected { peer } else { admit_unknown(mesh, 0, 50) }
}

pub fn topic() -> Scope {
    Scope::Topic("jobs".to_owned())
}
