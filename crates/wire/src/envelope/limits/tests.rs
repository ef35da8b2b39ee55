mod files;

use crate::trace_context::TRACE_CONTEXT_BYTES;
use bytes::Bytes;

use super::super::admission::{
    Accepted, Admission, Challenge, Connect, NONCE_BYTES, Rejected, SignedResponse, Step,
};
use super::super::call::{CALL_ID_BYTES, CallStep, MAX_CALL_PARTS, MAX_CALL_REASON_BYTES};
use super::super::codec::{Busy, KemUnknown, Refused, Rejection, Sealed, Session};
use super::*;
use crate::record::encode_topic_hashes;
use crate::strict::{WIRE_VERSION, strict_decode};

fn decoded<M: Wire>(message: &M) -> Result<M, DecodeError> {
    strict_decode(&message.encode_to_vec().into())
}

fn accept<M: Wire + PartialEq + std::fmt::Debug>(message: &M) {
    assert_eq!(decoded(message).as_ref(), Ok(message));
}

fn refuse<M: Wire + PartialEq + std::fmt::Debug>(message: &M, field: &'static str) {
    assert_eq!(decoded(message), Err(DecodeError::Field(field)));
}

fn bytes(length: usize) -> Bytes {
    vec![b'A'; length].into()
}

fn text(length: usize) -> String {
    "A".repeat(length)
}

fn message() -> Message {
    Message { stream: bytes(STREAM_BYTES), ..Default::default() }
}

fn batch(message: Message) -> Batch {
    Batch { messages: vec![message], acks: Vec::new() }
}

fn body() -> FrameBody {
    FrameBody {
        version: WIRE_VERSION,
        network: "dev".to_owned(),
        scope: Some(Scope::Topic("t".to_owned())),
        binding: bytes(100),
        payload: Some(Payload::Plain(Batch::default())),
        ..Default::default()
    }
}

fn stream_ack() -> StreamAck {
    StreamAck { stream: bytes(STREAM_BYTES), ..Default::default() }
}

fn ack() -> Ack {
    Ack {
        version: WIRE_VERSION,
        network: "dev".to_owned(),
        account: bytes(20),
        streams: vec![stream_ack()],
        ..Default::default()
    }
}

/// Returns a valid call of this step.
fn call(step: CallStep) -> Call {
    let has_error = matches!(step, CallStep::Fail | CallStep::Refuse);
    Call {
        step: step.into(),
        id: bytes(CALL_ID_BYTES),
        parts: u32::from(step != CallStep::Cancel),
        more: false,
        code: if has_error { "CODE".to_owned() } else { String::new() },
        reason: String::new(),
    }
}

fn with_call(call: Call) -> Message {
    Message { call: Some(Box::new(call)), ..message() }
}

#[test]
fn message_fields_are_limited() {
    accept(&batch(message()));
    for step in 0..7 {
        accept(&batch(with_call(call(CallStep::try_from(step).unwrap()))));
    }
    let longest = Message {
        seq: u64::MAX - 1,
        base_seq: u64::MAX - 1,
        kind: text(MAX_KIND_BYTES),
        priority: Priority::High.into(),
        reply_to: text(MAX_NAME_BYTES),
        conversation: text(MAX_NAME_BYTES),
        parents: vec![text(MAX_NAME_BYTES); MAX_PARENTS],
        encoding: Encoding::Bytes.into(),
        trace: vec![1; TRACE_CONTEXT_BYTES],
        ..message()
    };
    accept(&batch(longest));
    for (field, bad) in [
        ("stream", Message { stream: bytes(STREAM_BYTES - 1), ..message() }),
        ("seq", Message { seq: u64::MAX, ..message() }),
        ("base_seq", Message { seq: 1, base_seq: 2, ..message() }),
        ("kind", Message { kind: text(MAX_KIND_BYTES + 1), ..message() }),
        ("reply_to", Message { reply_to: text(MAX_NAME_BYTES + 1), ..message() }),
        ("conversation", Message { conversation: text(MAX_NAME_BYTES + 1), ..message() }),
        ("parents", Message { parents: vec![text(1); MAX_PARENTS + 1], ..message() }),
        ("parents", Message { parents: vec![text(MAX_NAME_BYTES + 1)], ..message() }),
        ("parents", Message { parents: vec![text(0)], ..message() }),
        ("accepted_stream", Message { accepted_stream: bytes(STREAM_BYTES - 1), ..message() }),
        ("accepted_seq", Message { accepted_seq: 1, ..message() }),
        ("hops", Message { hops: 1, ..message() }),
        ("trace", Message { trace: vec![1; TRACE_CONTEXT_BYTES - 1], ..message() }),
        ("trace", Message { trace: vec![1; TRACE_CONTEXT_BYTES + 1], ..message() }),
        ("trace", Message { trace: vec![0; TRACE_CONTEXT_BYTES], ..message() }),
        ("id", with_call(Call { id: bytes(CALL_ID_BYTES - 1), ..call(CallStep::Request) })),
        ("parts", with_call(Call { parts: 0, ..call(CallStep::Request) })),
        ("parts", with_call(Call { parts: 0, ..call(CallStep::Credit) })),
        ("parts", with_call(Call { parts: 1, ..call(CallStep::Cancel) })),
        ("parts", with_call(Call { parts: MAX_CALL_PARTS + 1, ..call(CallStep::Part) })),
        ("more", with_call(Call { more: true, ..call(CallStep::Credit) })),
        ("code", with_call(Call { code: "no".to_owned(), ..call(CallStep::Fail) })),
        ("code", with_call(Call { code: "CODE".to_owned(), ..call(CallStep::Part) })),
        ("reason", with_call(Call { reason: text(MAX_CALL_REASON_BYTES + 1), ..call(CallStep::Refuse) })),
        ("reason", with_call(Call { reason: "a\n".to_owned(), ..call(CallStep::Fail) })),
        ("reason", with_call(Call { reason: text(1), ..call(CallStep::Request) })),
    ] {
        refuse(&batch(bad), field);
    }
    for later in [
        Message { priority: 3, ..message() },
        Message { priority: -1, ..message() },
        Message { encoding: 2, ..message() },
        with_call(Call { step: 7, ..call(CallStep::Request) }),
    ] {
        assert_eq!(decoded(&batch(later)), Err(DecodeError::Unknown));
    }
}

#[test]
fn batch_counts_are_limited() {
    let ack = bytes(1);
    let with = |messages, acks| Batch { messages: vec![message(); messages], acks: vec![ack.clone(); acks] };
    accept(&with(MAX_BATCH_MESSAGES, MAX_BATCH_ACKS));
    accept(&Batch { messages: Vec::new(), acks: vec![bytes(MAX_ACK_BYTES)] });
    refuse(&with(MAX_BATCH_MESSAGES + 1, 0), "messages");
    refuse(&with(0, MAX_BATCH_ACKS + 1), "acks");
    for length in [0, MAX_ACK_BYTES + 1] {
        refuse(&Batch { messages: Vec::new(), acks: vec![bytes(length)] }, "acks");
    }
}

#[test]
fn counts_above_limit_are_rejected_before_allocation() {
    // Each element takes two bytes on the wire and about a hundred times as much in memory.
    let batch = [0x0a, 0x00].repeat(MAX_BATCH_MESSAGES + 1);
    assert_eq!(Batch::prescan(&batch), Err(DecodeError::Field("messages")));
    let parents = [vec![0x0a, 34], [0x52, 0x00].repeat(MAX_PARENTS + 1)].concat();
    assert_eq!(Batch::prescan(&parents), Err(DecodeError::Field("parents")));
    assert_eq!(FrameBody::prescan(&[vec![0x4a, 36], parents].concat()), Err(DecodeError::Field("parents")));
    assert_eq!(FrameBody::prescan(&[0x4a, 0x00, 0x4a, 0x00]), Err(DecodeError::Field("plain")));
}

#[test]
fn frame_fields_are_limited() {
    accept(&body());
    let scoped = |scope| FrameBody { scope, ..body() };
    accept(&scoped(Some(Scope::Topic(text(MAX_NAME_BYTES)))));
    refuse(&scoped(Some(Scope::Topic(text(MAX_NAME_BYTES + 1)))), "topic");
    refuse(&scoped(Some(Scope::Topic(String::new()))), "topic");
    accept(&scoped(Some(Scope::NodeKey(bytes(32)))));
    refuse(&scoped(Some(Scope::NodeKey(bytes(31)))), "node_key");
    refuse(&scoped(None), "scope");
    refuse(&FrameBody { network: "Dev".to_owned(), ..body() }, "network");
    refuse(&FrameBody { binding: Bytes::new(), ..body() }, "binding");
    refuse(&FrameBody { binding: bytes(MAX_BINDING_BYTES + 1), ..body() }, "binding");
    refuse(&FrameBody { payload: None, ..body() }, "payload");
    refuse(&FrameBody { version: 0, ..body() }, "version");
    assert_eq!(decoded(&FrameBody { version: 2, ..body() }), Err(DecodeError::Version));
    let inner = Payload::Plain(batch(Message { base_seq: 1, ..message() }));
    refuse(&FrameBody { payload: Some(inner), ..body() }, "base_seq");
}

#[test]
fn sealed_payload_fields_are_limited() {
    let sealed = |kem_id, enc, ciphertext| {
        let sealed =
            Sealed { kem_id: bytes(kem_id), suite: 1, enc: bytes(enc), ciphertext: bytes(ciphertext) };
        FrameBody { payload: Some(Payload::Sealed(sealed)), ..body() }
    };
    accept(&sealed(MAX_KEM_ID_BYTES, MAX_ENC_BYTES, 1));
    refuse(&sealed(MAX_KEM_ID_BYTES + 1, 1, 1), "kem_id");
    refuse(&sealed(0, 1, 1), "kem_id");
    refuse(&sealed(1, MAX_ENC_BYTES + 1, 1), "enc");
    refuse(&sealed(1, 0, 1), "enc");
    refuse(&sealed(1, 1, 0), "ciphertext");
    let session = |id, ciphertext| {
        let session = Session { id: bytes(id), counter: 1, ciphertext: bytes(ciphertext) };
        FrameBody { payload: Some(Payload::Session(session)), ..body() }
    };
    accept(&session(MAX_KEM_ID_BYTES, 1));
    refuse(&session(MAX_KEM_ID_BYTES + 1, 1), "id");
    refuse(&session(0, 1), "id");
    refuse(&session(1, 0), "ciphertext");
}

#[test]
fn ack_fields_are_limited() {
    let outcome = |length| Rejection { seq: 1, code: text(length) };
    let with = |stream| Ack { streams: vec![stream], ..ack() };
    let rejections = |count, length| StreamAck { rejections: vec![outcome(length); count], ..stream_ack() };
    accept(&with(rejections(MAX_ACK_OUTCOMES, 20)));
    refuse(&with(rejections(MAX_ACK_OUTCOMES + 1, 20)), "rejections");
    let numbered = |streams: Vec<StreamAck>| {
        let number =
            |(number, stream)| StreamAck { stream: Bytes::from(vec![number; STREAM_BYTES]), ..stream };
        Ack { streams: (0..).zip(streams).map(number).collect(), ..ack() }
    };
    refuse(&numbered(vec![rejections(MAX_ACK_OUTCOMES, 1), rejections(1, 1)]), "rejections");
    accept(&with(rejections(1, MAX_CODE_BYTES)));
    refuse(&with(rejections(1, MAX_CODE_BYTES + 1)), "code");
    refuse(&with(rejections(1, 0)), "code");
    let lower = Rejection { seq: 1, code: "lower case".to_owned() };
    refuse(&with(StreamAck { rejections: vec![lower], ..stream_ack() }), "code");
    let selective = |distances: Vec<u64>| StreamAck { selective: distances, ..stream_ack() };
    accept(&with(selective((1..=MAX_ACK_BEYOND as u64).collect())));
    refuse(&with(selective((1..=MAX_ACK_BEYOND as u64 + 1).collect())), "selective");
    let half = || selective((1..=MAX_ACK_BEYOND as u64 / 2 + 1).collect());
    refuse(&numbered(vec![half(), half()]), "selective");
    for wrong in [vec![0], vec![0, 1], vec![2, 1], vec![1, 1]] {
        refuse(&with(selective(wrong)), "selective");
    }
    refuse(&with(StreamAck { stream: bytes(STREAM_BYTES + 1), ..stream_ack() }), "stream");
    accept(&numbered(vec![stream_ack(); MAX_ACK_STREAMS]));
    refuse(&numbered(vec![stream_ack(); MAX_ACK_STREAMS + 1]), "streams");
    refuse(&Ack { streams: vec![stream_ack(); 2], ..ack() }, "streams");
    let mut backwards = numbered(vec![stream_ack(); 3]);
    backwards.streams.reverse();
    refuse(&backwards, "streams");
    accept(&Ack { streams: Vec::new(), ..ack() });
    let answers = |counters: Vec<u64>| Ack { boot: 1, counters, ..ack() };
    accept(&answers((1..=MAX_ACK_COUNTERS as u64).collect()));
    refuse(&answers((1..=MAX_ACK_COUNTERS as u64 + 1).collect()), "counters");
    for wrong in [vec![0], vec![2, 1], vec![1, 1]] {
        refuse(&answers(wrong), "counters");
    }
    refuse(&Ack { account: bytes(19), ..ack() }, "account");
    refuse(&Ack { network: String::new(), ..ack() }, "network");
    assert_eq!(decoded(&Ack { version: 2, ..ack() }), Err(DecodeError::Version));
    let large = Rejection { seq: u64::MAX, code: text(MAX_CODE_BYTES) };
    let large = with(StreamAck { rejections: vec![large; MAX_ACK_OUTCOMES], ..stream_ack() });
    assert!(decoded(&large) == Err(DecodeError::TooLarge { limit: MAX_ACK_BYTES }));
}

#[test]
fn mail_response_fields_are_limited() {
    let with = |response| MailResponse { response: Some(response) };
    accept(&with(Response::Ack(bytes(MAX_ACK_BYTES))));
    refuse(&with(Response::Ack(bytes(MAX_ACK_BYTES + 1))), "ack");
    refuse(&with(Response::Ack(Bytes::new())), "ack");
    accept(&with(Response::Busy(Busy { retry_after_ms: u64::MAX })));
    let unknown = |length| with(Response::KemUnknown(KemUnknown { record: bytes(length) }));
    accept(&unknown(MAX_RECORD_BYTES));
    refuse(&unknown(MAX_RECORD_BYTES + 1), "record");
    refuse(&unknown(0), "record");
    let refused = |code, reason| {
        with(Response::Refused(Refused { code: text(code), reason: text(reason), time_ms: 0 }))
    };
    accept(&refused(MAX_CODE_BYTES, MAX_REASON_BYTES));
    refuse(&refused(0, 0), "code");
    refuse(&refused(MAX_CODE_BYTES + 1, 0), "code");
    refuse(&refused(1, MAX_REASON_BYTES + 1), "reason");
    refuse(&MailResponse { response: None }, "response");
}

#[test]
fn admission_fields_are_limited() {
    let connect = |record, agent_version| Connect {
        network: "dev".to_owned(),
        record: bytes(record),
        nonce: bytes(NONCE_BYTES),
        role: 0,
        time_ms: 0,
        agent_version,
    };
    let of = |connect| Admission::of(Step::Connect(connect));
    let whole = || connect(MAX_RECORD_BYTES, text(MAX_REASON_BYTES));
    let challenge = |signature| {
        Admission::of(Step::Challenge(Challenge { responder: Some(whole()), signature: bytes(signature) }))
    };
    accept(&of(whole()));
    accept(&challenge(SIGNATURE_BYTES));
    refuse(&of(connect(1, text(MAX_REASON_BYTES + 1))), "agent_version");
    refuse(&of(connect(1, "a\u{1b}b".to_owned())), "agent_version");
    refuse(&of(connect(0, String::new())), "record");
    refuse(&of(connect(MAX_RECORD_BYTES + 1, String::new())), "record");
    refuse(&of(Connect { network: String::new(), ..whole() }), "network");
    for length in [0, NONCE_BYTES - 1, NONCE_BYTES + 1] {
        refuse(&of(Connect { nonce: bytes(length), ..whole() }), "nonce");
    }
    assert_eq!(decoded(&of(Connect { role: 3, ..whole() })), Err(DecodeError::Unknown));
    refuse(&challenge(SIGNATURE_BYTES - 1), "signature");
    let unnamed = Challenge { responder: None, signature: bytes(SIGNATURE_BYTES) };
    refuse(&Admission::of(Step::Challenge(unnamed)), "responder");
    let response = |length| Admission::of(Step::SignedResponse(SignedResponse { signature: bytes(length) }));
    accept(&response(SIGNATURE_BYTES));
    refuse(&response(SIGNATURE_BYTES + 1), "signature");
    accept(&Admission::of(Step::Accepted(Accepted {})));
    let rejected = |code: &str, reason: &str| {
        let (code, reason) = (code.to_owned(), reason.to_owned());
        Admission::of(Step::Rejected(Rejected { code, reason, retry_after_ms: 1, time_ms: 2 }))
    };
    accept(&rejected("BUSY", "later"));
    refuse(&rejected("busy", ""), "code");
    refuse(&rejected("BUSY", "a\u{1b}b"), "reason");
    refuse(&Admission { version: WIRE_VERSION, step: None }, "step");
    refuse(&Admission { version: 0, ..of(whole()) }, "version");
    assert_eq!(decoded(&Admission { version: 2, ..of(whole()) }), Err(DecodeError::Version));
}

#[test]
fn fields_of_a_question_for_agents_are_limited() {
    let question = FindAgents {
        version: WIRE_VERSION,
        network: "n".repeat(32),
        topic_hashes: encode_topic_hashes(&(0..MAX_FIND_TOPICS as u32).collect::<Vec<_>>()),
        capability: String::new(),
        after: bytes(20),
        limit: MAX_FOUND_RECORDS as u32,
        address: Bytes::new(),
        forward: false,
    };
    accept(&question);
    let many = encode_topic_hashes(&(0..=MAX_FIND_TOPICS as u32).collect::<Vec<_>>());
    refuse(&FindAgents { topic_hashes: many, ..question.clone() }, "topic_hashes");
    refuse(&FindAgents { topic_hashes: encode_topic_hashes(&[2, 1]), ..question.clone() }, "topic_hashes");
    refuse(&FindAgents { capability: text(1), ..question.clone() }, "capability");
    let by_capability = FindAgents { topic_hashes: Bytes::new(), ..question.clone() };
    accept(&FindAgents { capability: text(MAX_RECORD_TAG_BYTES), ..by_capability.clone() });
    refuse(&FindAgents { capability: text(MAX_RECORD_TAG_BYTES + 1), ..by_capability }, "capability");
    accept(&FindAgents { after: Bytes::new(), ..question.clone() });
    refuse(&FindAgents { after: bytes(19), ..question.clone() }, "after");
    refuse(&FindAgents { limit: 0, ..question.clone() }, "limit");
    refuse(&FindAgents { limit: MAX_FOUND_RECORDS as u32 + 1, ..question.clone() }, "limit");
    refuse(&FindAgents { network: String::new(), ..question.clone() }, "network");
    refuse(&FindAgents { forward: true, ..question.clone() }, "forward");
    refuse(&FindAgents { address: bytes(20), limit: 1, ..question.clone() }, "address");
    let nothing = FindAgents { topic_hashes: Bytes::new(), after: Bytes::new(), ..question.clone() };
    let by_address = FindAgents { address: bytes(20), limit: 1, forward: true, ..nothing };
    accept(&by_address);
    accept(&FindAgents { forward: false, ..by_address.clone() });
    refuse(&FindAgents { address: bytes(19), ..by_address.clone() }, "address");
    refuse(&FindAgents { limit: 2, ..by_address.clone() }, "address");
    refuse(&FindAgents { after: bytes(20), ..by_address.clone() }, "address");
    refuse(&FindAgents { topic_hashes: question.topic_hashes, ..by_address.clone() }, "address");
    refuse(&FindAgents { capability: text(1), ..by_address }, "address");
}

#[test]
fn fields_of_an_answer_with_agents_are_limited() {
    let answer = |number: usize, length: usize| FoundAgents {
        version: WIRE_VERSION,
        records: vec![bytes(length); number],
        more: true,
        agents: u32::MAX,
        servers: u32::MAX,
        partial: true,
    };
    accept(&answer(9, MAX_RECORD_BYTES));
    accept(&answer(MAX_FOUND_RECORDS, 1));
    refuse(&answer(MAX_FOUND_RECORDS + 1, 1), "records");
    refuse(&answer(1, 0), "records");
    refuse(&answer(1, MAX_RECORD_BYTES + 1), "records");
}

#[test]
fn envelope_limits_match_wire_protocol() {
    assert_eq!(MAX_FRAME_BYTES, 1_056_768);
    assert_eq!(MAX_ADMISSION_BYTES, 7_296);
    assert_eq!((MAX_FIND_BYTES, MAX_FOUND_BYTES), (1_024, 65_536));
    assert_eq!((FrameBody::MAX_BYTES, Batch::MAX_BYTES), (1_056_704, 1_056_704));
}

#[test]
fn ack_count_is_checked_before_decoding() {
    let acks = |number: usize| b"\x12\x00".repeat(number);
    assert_eq!(Batch::prescan(&acks(MAX_BATCH_ACKS)), Ok(()));
    assert_eq!(Batch::prescan(&acks(MAX_BATCH_ACKS + 1)), Err(DecodeError::Field("acks")));
}
