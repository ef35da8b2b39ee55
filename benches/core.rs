//! Benchmarks of lines, frames and encryption: `cargo bench --bench core`.
#![allow(clippy::unwrap_used, missing_docs, reason = "benchmarks fail by panicking")]

use std::hint::black_box;

use alloy::primitives::Address;
use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use p2p_node_core::mail::inbound::digests::digest;
use p2p_node_protocol::line::{check_data, decode_request, encode_event};
use p2p_node_protocol::{Event, Priority, Route, Trust};
use p2p_node_wire::envelope::limits::MAX_FRAME_BYTES;
use p2p_node_wire::envelope::{Batch, Frame, FrameBody, Message, Payload, Scope, WIRE_VERSION, sign_frame};
use p2p_node_wire::identity::binding::BINDING_LIFE_SECS;
use p2p_node_wire::identity::{AgentKey, Binding, NodeKey, NodePublicKey};
use p2p_node_wire::seal::hpke::{Info, open, seal};
use p2p_node_wire::seal::kem::{Secret, kem_id};
use p2p_node_wire::seal::padding;
use p2p_node_wire::seal::repeatable::DeterministicRng;
use p2p_node_wire::seal::session::OutboundSession;
use p2p_node_wire::seal::suite::Suite;
use p2p_node_wire::time::Instant;

const SECONDS: u64 = 1_790_000_000;

fn payload() -> String {
    format!("\"{}\"", "x".repeat(254))
}

fn lines(c: &mut Criterion) {
    let mut group = c.benchmark_group("line");
    group.throughput(Throughput::Elements(1));
    let send = format!(
        r#"{{"type":"send","peerId":"0x8fd379246834eac74B8419FfdA202CF8051F7A03","data":{}}}"#,
        payload()
    );
    group.bench_function("decode send of 256 B", |b| {
        b.iter(|| decode_request(black_box(send.as_bytes())).unwrap())
    });
    let event = Event::Message(Box::new(p2p_node_protocol::Message {
        from: "0x8fd379246834eac74B8419FfdA202CF8051F7A03".to_owned(),
        data: check_data(payload().as_bytes()).unwrap(),
        peer_id: "12D3KooWGhQhEdNqvgjfwe1d4UuCuDpgPDW9pNr3Pskbj5N8temE".to_owned(),
        message_id: format!("{}-1", "ab".repeat(16)),
        topic: None,
        kind: None,
        priority: Priority::Medium,
        sent_at_ms: SECONDS * 1000,
        received_at_ms: SECONDS * 1000,
        route: Route::Direct,
        reply_to: None,
        conversation_id: None,
        hops: None,
        traceparent: None,
        encoding: None,
        file: None,
        trust: Trust::Unverified,
        redelivered: false,
    }));
    let mut out = Vec::with_capacity(1024);
    group.bench_function("encode message of 256 B", |b| {
        b.iter(|| {
            out.clear();
            encode_event(black_box(&event), Some(1), &mut out);
        });
    });
    group.bench_function("check data of 256 B", |b| {
        b.iter(|| check_data(black_box(payload().as_bytes())).unwrap())
    });
    group.finish();
}

fn digests(c: &mut Criterion) {
    let mut group = c.benchmark_group("digest");
    for size in [256, 64 << 10] {
        let message = Message { data: vec![b'x'; size].into(), ..Message::default() };
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{size} B")), |b| {
            b.iter(|| digest(black_box(&message)))
        });
    }
    group.finish();
}

fn frames(c: &mut Criterion) {
    // Keys for benchmarks only.
    let (agent, node) = (AgentKey::from_bytes(&[1; 32]).unwrap(), NodeKey::from_seed([2; 32]));
    let binding = agent
        .bind(Binding {
            account: agent.address(),
            chain_id: 0,
            peer_id: node.peer_id(),
            node_key: node.public(),
            network: "dev".to_owned(),
            generation: 0,
            not_before: SECONDS,
            not_after: SECONDS + BINDING_LIFE_SECS,
        })
        .unwrap();
    let body = |messages: u64| FrameBody {
        version: WIRE_VERSION,
        network: "dev".to_owned(),
        scope: Some(Scope::NodeKey(Bytes::from_static(&[3; 32]))),
        binding: binding.encode(),
        boot: 1,
        counter: 1,
        created_at_ms: SECONDS * 1000,
        payload: Some(Payload::Plain(Batch {
            messages: (1..=messages)
                .map(|seq| Message {
                    stream: Bytes::from_static(&[4; 16]),
                    seq,
                    base_seq: seq,
                    sent_at_ms: SECONDS * 1000,
                    ttl_left_ms: 120_000,
                    data: payload().into(),
                    ..Message::default()
                })
                .collect(),
            acks: Vec::new(),
        })),
    };
    let mut group = c.benchmark_group("frame");
    for messages in [1, 16, 190, 700] {
        group.throughput(Throughput::Elements(messages));
        let body = body(messages);
        let signed = sign_frame(&body, &node);
        group.bench_with_input(BenchmarkId::new("encode and sign", messages), &body, |b, body| {
            b.iter(|| sign_frame(black_box(body), &node));
        });
        group.bench_with_input(BenchmarkId::new("decode and verify", messages), &signed, |b, signed| {
            b.iter_batched(
                || signed.clone(),
                |signed| assert!(Frame::decode(signed, MAX_FRAME_BYTES).unwrap().is_authentic()),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
    let mut group = c.benchmark_group("binding");
    group.bench_function("recover", |b| b.iter(|| assert!(black_box(&binding).verify_signature())));
    group.finish();
}

fn sealing(c: &mut Criterion) {
    let secret = Secret::from([5; 32]);
    let public = secret.public_key();
    let rng = || DeterministicRng::new(1);
    let content = |bytes: usize| padding::pad(vec![0x78; bytes]);
    for suite in Suite::ALL {
        let info = Info {
            network: "dev".to_owned(),
            sender: NodePublicKey([7; 32]),
            recipient: Address::repeat_byte(9),
            kem_id: kem_id(&public),
            suite,
        };
        let sealed = seal(&public, &info, &content(256), &mut rng()).unwrap();
        let mut group = c.benchmark_group(format!("seal with {suite:?}"));
        group.bench_function("to a key", |b| {
            b.iter(|| seal(&public, &info, black_box(&content(256)), &mut rng()).unwrap());
        });
        group.bench_function("open with a key", |b| {
            b.iter(|| open(&secret, &info, black_box(&sealed.enc), &sealed.ciphertext).unwrap());
        });
        for bytes in [256, 60 << 10, 256 << 10] {
            group.throughput(Throughput::Bytes(bytes as u64));
            let node_key = NodePublicKey([7; 32]);
            let mut session =
                OutboundSession::new(sealed.session.clone(), node_key, info.kem_id, Instant::ZERO);
            group.bench_with_input(BenchmarkId::new("in a session", bytes), &bytes, |b, bytes| {
                b.iter(|| session.seal(content(*bytes)).unwrap());
            });
            let frame = session.seal(content(bytes)).unwrap();
            group.bench_with_input(BenchmarkId::new("open in a session", bytes), &frame, |b, frame| {
                b.iter(|| sealed.session.open(frame.counter, black_box(&frame.ciphertext)).unwrap());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, lines, digests, frames, sealing);
criterion_main!(benches);
