//! Builds records, frames and hellos of agents without a node.

use bytes::Bytes;
use p2p_node_protocol::Role;
use p2p_node_wire::envelope::{
    Batch, FrameBody, Hello, Message, Payload, Scope, Sealed, WIRE_VERSION, sign_frame,
};
use p2p_node_wire::identity::NodeKey;
use p2p_node_wire::identity::keys::SIGNATURE_BYTES;
use p2p_node_wire::record::Record;
use p2p_node_wire::seal::hpke::Info;
use p2p_node_wire::seal::kem::{Keyring, kem_id};
use p2p_node_wire::seal::repeatable::DeterministicRng;
use p2p_node_wire::seal::suite::Suite;
use p2p_node_wire::seal::{hpke, padding};
use p2p_node_wire::time::{Instant, Now};
use prost::Message as _;

use crate::mesh::{START_MS, agent_key, binding, node_key};

pub fn record(number: u8, generation: u64, seq: u64, node: &NodeKey) -> Bytes {
    let record = Record {
        network: "dev".to_owned(),
        binding: agent_key(number).bind(binding(number, generation, node)).unwrap(),
        seq,
        issued_at_ms: START_MS,
        expires_at_ms: START_MS + 3_600_000,
        addrs: Vec::new(),
        kem: Keyring::new([number; 32], Suite::default(), Now { mono: Instant::ZERO, unix_ms: START_MS })
            .current(),
        role: Role::Full,
        name: String::new(),
        capabilities: Vec::new(),
        topics: Vec::new(),
    };
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

pub fn hello(record: Bytes) -> Bytes {
    let network = "dev".to_owned();
    let hello = Hello { version: WIRE_VERSION, network, record, agent_version: String::new(), time_ms: 0 };
    hello.encode_to_vec().into()
}

pub fn topic() -> Scope {
    Scope::Topic("jobs".to_owned())
}
