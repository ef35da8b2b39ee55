//! Builds valid records, frames and acks, which the tests then corrupt.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::Address;
use bytes::Bytes;
use p2p_node_testing::forged::{plain_binding, plain_record};
use p2p_node_wire::envelope::frame::FRAME_DOMAIN;
use p2p_node_wire::envelope::{
    Ack, Batch, FrameBody, Message, Payload, Scope, Sealed, StreamAck, WIRE_VERSION, sign_frame,
};
use p2p_node_wire::identity::{AgentKey, Binding, NodeKey, SignedBinding};
use p2p_node_wire::record::{Kem, RECORD_DOMAIN, Record, kad_key};
use p2p_node_wire::seal::hpke::Info;
use p2p_node_wire::seal::kem::{Keyring, kem_id};
use p2p_node_wire::seal::repeatable::DeterministicRng;
use p2p_node_wire::seal::suite::Suite;
use p2p_node_wire::seal::{hpke, padding};
use p2p_node_wire::time::{Instant, Now};
use prost::Message as _;

/// Bytes of the signature that stands before everything signed.
pub const SIGNATURE: usize = 64;

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// All the keys of one agent.
pub struct Forger {
    pub agent: AgentKey,
    pub node: NodeKey,
    boot: u64,
    counter: Cell<u64>,
}

impl Forger {
    /// Returns the keys of a real node that has the test key of this number.
    pub fn new(number: u8) -> Self {
        Forger::with_node(number, NodeKey::derive(&[number; 32], "dev", "", 0))
    }

    /// Returns an agent with a unique key.
    pub fn fake(number: u64) -> Self {
        let mut secret = [0x5a; 32];
        secret[..8].copy_from_slice(&number.to_be_bytes());
        Forger::with_keys(AgentKey::from_bytes(&secret).unwrap(), NodeKey::from_seed(secret))
    }

    pub fn with_node(number: u8, node: NodeKey) -> Self {
        Forger::with_keys(AgentKey::from_bytes(&[number; 32]).unwrap(), node)
    }

    fn with_keys(agent: AgentKey, node: NodeKey) -> Self {
        Forger { agent, node, boot: now_ms(), counter: Cell::new(0) }
    }

    pub fn address(&self) -> String {
        self.agent.address().to_string()
    }

    pub fn kad_key(&self) -> Bytes {
        Bytes::copy_from_slice(&kad_key("dev", &self.agent.address()))
    }

    pub fn binding(&self, change: impl FnOnce(&mut Binding)) -> SignedBinding {
        let mut binding = plain_binding(&self.agent, &self.node, now_ms() / 1000);
        change(&mut binding);
        self.agent.bind(binding).unwrap()
    }

    /// Returns a binding of this node to the account of `other`, signed by this agent.
    pub fn stolen_binding(&self, other: &Forger) -> SignedBinding {
        let mut stolen = self.binding(|_| {});
        stolen.binding.account = other.agent.address();
        stolen
    }

    fn plain_record(&self) -> Record {
        let kem = self.keyring().current();
        Record { kem, ..plain_record(self.binding(|_| {}), now_ms()) }
    }

    /// Returns a record for the admission of a peer, which each record of a test supersedes.
    pub fn early_record(&self) -> Bytes {
        self.record(|record| record.seq -= 3_000_000)
    }

    fn keyring(&self) -> Keyring {
        Keyring::new(*self.node.seed(), Suite::default(), Now { mono: Instant::ZERO, unix_ms: now_ms() })
    }

    /// Returns the stream of the mail in the body of a frame that is sealed to this agent.
    pub fn stream_of_mail(&self, body: &[u8]) -> Option<Bytes> {
        let body = FrameBody::decode(body).unwrap();
        let binding = SignedBinding::decode(&body.binding).unwrap().binding;
        let Some(Payload::Sealed(sealed)) = body.payload else { return None };
        let keyring = self.keyring();
        let secret = keyring.find(&sealed.kem_id)?;
        let info = Info {
            network: "dev".to_owned(),
            sender: binding.node_key,
            recipient: self.agent.address(),
            kem_id: sealed.kem_id.as_ref().try_into().unwrap(),
            suite: Suite::from_number(sealed.suite).unwrap(),
        };
        let (content, _) = hpke::open(&secret, &info, &sealed.enc, &sealed.ciphertext).unwrap();
        let batch = Batch::decode(padding::unpad(content).unwrap().as_slice()).unwrap();
        Some(batch.messages[0].stream.clone())
    }

    pub fn record(&self, change: impl FnOnce(&mut Record)) -> Bytes {
        let mut record = self.plain_record();
        change(&mut record);
        record.sign(&self.node).unwrap()
    }

    /// Signs any bytes as a record.
    pub fn sign_record(&self, body: &[u8]) -> Bytes {
        self.node.sign_whole(RECORD_DOMAIN, body)
    }

    /// Signs any bytes as a frame.
    pub fn sign_frame(&self, body: &[u8]) -> Bytes {
        self.node.sign_whole(FRAME_DOMAIN, body)
    }

    pub fn body(&self, scope: Scope, data: impl Into<Bytes>) -> FrameBody {
        self.counter.set(self.counter.get() + 1);
        let counter = self.counter.get();
        let message = Message { stream: stream(1), seq: counter, data: data.into(), ..Message::default() };
        FrameBody {
            version: WIRE_VERSION,
            network: "dev".to_owned(),
            scope: Some(scope),
            binding: self.binding(|_| {}).encode(),
            boot: self.boot,
            counter,
            created_at_ms: now_ms(),
            payload: Some(Payload::Plain(Batch { messages: vec![message], acks: Vec::new() })),
        }
    }

    /// Returns a frame with one message.
    pub fn frame(&self, scope: Scope, data: impl Into<Bytes>, change: impl FnOnce(&mut FrameBody)) -> Bytes {
        let mut body = self.body(scope, data);
        change(&mut body);
        sign_frame(&body, &self.node)
    }

    /// Returns a frame of this agent, sealed to a KEM key.
    pub fn seal(&self, frame: &Bytes, recipient: Address, kem: &Kem, seed: u64) -> Bytes {
        self.seal_as(frame, recipient, kem, seed, |batch| batch.encode_to_vec())
    }

    /// As `seal`, with another encoding of the batch.
    pub fn seal_as(
        &self,
        frame: &Bytes,
        recipient: Address,
        kem: &Kem,
        seed: u64,
        encode: impl FnOnce(&Batch) -> Vec<u8>,
    ) -> Bytes {
        let mut body = FrameBody::decode(&frame[SIGNATURE..]).unwrap();
        let Some(Payload::Plain(batch)) = &body.payload else { panic!("not plain: {body:?}") };
        let info = Info {
            network: "dev".to_owned(),
            sender: self.node.public(),
            recipient,
            kem_id: kem_id(&kem.public_key),
            suite: Suite::default(),
        };
        let content = padding::pad(encode(batch));
        let sealed = hpke::seal(&kem.public_key, &info, &content, &mut DeterministicRng::new(seed)).unwrap();
        let (enc, ciphertext) = (sealed.enc, sealed.ciphertext);
        body.payload = Some(Payload::Sealed(Sealed {
            kem_id: kem.id.clone(),
            suite: info.suite.number(),
            enc,
            ciphertext,
        }));
        sign_frame(&body, &self.node)
    }

    /// Returns a frame with acks only.
    pub fn ack_frame(&self, scope: Scope, acks: Vec<Bytes>, change: impl FnOnce(&mut FrameBody)) -> Bytes {
        self.frame(scope, "", |body| {
            body.payload = Some(Payload::Plain(Batch { messages: Vec::new(), acks }));
            change(body);
        })
    }

    /// Returns the scope of mail to this agent's node.
    pub fn scope(&self) -> Scope {
        Scope::NodeKey(Bytes::copy_from_slice(&self.node.public()))
    }
}

/// Returns an ack of everything on a stream of `sender`. What carries the ack says who made it.
pub fn ack(sender: &Forger, stream: &Bytes) -> Bytes {
    let streams = vec![StreamAck {
        stream: stream.clone(),
        cumulative: u64::MAX,
        selective: Vec::new(),
        rejections: Vec::new(),
        received: u64::MAX,
        window: 0,
    }];
    let ack = Ack {
        version: WIRE_VERSION,
        network: "dev".to_owned(),
        account: Bytes::copy_from_slice(sender.agent.address().as_slice()),
        streams,
        created_at_ms: now_ms(),
        boot: 0,
        counters: Vec::new(),
    };
    ack.encode_to_vec().into()
}

pub fn stream(number: u8) -> Bytes {
    Bytes::from(vec![number; 16])
}

pub fn topic(name: &str) -> Scope {
    Scope::Topic(name.to_owned())
}

pub fn messages(body: &mut FrameBody) -> &mut Vec<Message> {
    match &mut body.payload {
        Some(Payload::Plain(batch)) => &mut batch.messages,
        other => panic!("not plain: {other:?}"),
    }
}

/// Returns the bytes with one flipped bit.
pub fn corrupt(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes.into()
}
