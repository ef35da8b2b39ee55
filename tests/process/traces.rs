//! Traces: spans of real nodes at a collector of the test, and a collector that is down or slow.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};

use crate::child::{Child, TIMEOUT, tcp_address, test_key};

/// The trace of the sender's parent: the example of W3C Trace Context.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT_SPAN: &str = "b7ad6b7169203331";
/// A header that only the collector may see.
const HEADER: &str = "secret-of-the-collector";

fn traceparent() -> String {
    format!("00-{TRACE}-{PARENT_SPAN}-01")
}

/// A request at the collector: its head, the attributes of the resource, and its spans.
struct Export {
    head: String,
    resource: Vec<KeyValue>,
    spans: Vec<Span>,
}

/// Reads one request with a Content-Length.
fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
            })?;
            if bytes.len() >= end + 4 + length {
                return Some((head, bytes[end + 4..end + 4 + length].to_vec()));
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

/// Starts a collector. Returns its URL and what it receives.
fn collector() -> (String, Receiver<Export>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (exports, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, exports) = (stream.unwrap(), exports.clone());
            std::thread::spawn(move || {
                while let Some((head, body)) = read_request(&mut stream) {
                    let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
                    for resource in request.resource_spans {
                        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans).collect();
                        let attributes = resource.resource.unwrap().attributes;
                        let _ = exports.send(Export { head: head.clone(), resource: attributes, spans });
                    }
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            });
        }
    });
    (url, received)
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    let found =
        attributes.iter().find(|attribute| attribute.key == key).unwrap_or_else(|| panic!("no {key}"));
    match found.value.as_ref().unwrap().value.as_ref().unwrap() {
        AnyValue::StringValue(text) => text,
        other => panic!("{key} is {other:?}"),
    }
}

fn start(key: u8, endpoint: Option<&str>, bootstraps: &[String]) -> (Child, Value) {
    let mut env = vec![("PRIVATE_KEY", test_key(key)), ("P2P_NODE_LOG_LEVEL", "trace".to_owned())];
    if let Some(endpoint) = endpoint {
        env.push(("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.to_owned()));
        env.push(("OTEL_EXPORTER_OTLP_HEADERS", format!("x-key={HEADER}")));
        env.push(("OTEL_SERVICE_NAME", format!("agent-{key:x}")));
    }
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut node = Child::spawn(&[], &env);
    node.command(json!({"type":"connect","port":0,"bootstrapPeers":bootstraps,"protocol":1,"id":"connect"}));
    let ready = node.expect("ready", |event| event["type"] == "ready");
    (node, ready)
}

/// Starts two nodes that know each other. Returns them and the address of the first.
fn pair(keys: [u8; 2], endpoints: [Option<&str>; 2]) -> (Child, Child, Value) {
    let (recipient, ready) = start(keys[0], endpoints[0], &[]);
    let (sender, _) = start(keys[1], endpoints[1], &[tcp_address(&ready)]);
    (recipient, sender, ready["address"].clone())
}

#[test]
fn one_trace_shows_both_nodes_and_the_parents() {
    let (url, received) = collector();
    let (recipient, mut sender, to) = pair([0x71, 0x72], [Some(&url), Some(&url)]);
    sender.command(json!({"type":"send","peerId":to,"data":"the payload","kind":"job","priority":"high",
        "traceparent":traceparent(),"id":"mail"}));
    let message = recipient.expect("the mail", |event| event["type"] == "message");
    let delivery = sender.expect("the delivery", |event| event["type"] == "delivery");
    assert_eq!(delivery["state"], "delivered");
    let (mut spans, mut services) = (Vec::new(), Vec::new());
    while spans.len() < 2 {
        let Export { head, resource, spans: more } = received.recv_timeout(TIMEOUT).expect("spans");
        assert!(head.starts_with("POST /v1/traces ") && head.contains(HEADER), "{head}");
        services.extend(more.iter().map(|_| attribute(&resource, "service.name").to_owned()));
        spans.extend(more);
    }
    services.sort_unstable();
    assert_eq!(services, ["agent-71", "agent-72"]);
    let span = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let (send, deliver) = (span("send"), span("deliver"));
    for span in [send, deliver] {
        assert_eq!(hex::encode(&span.trace_id), TRACE);
        assert!(span.start_time_unix_nano > 0 && span.start_time_unix_nano <= span.end_time_unix_nano);
        assert_eq!(attribute(&span.attributes, "messaging.message.id"), message["messageId"]);
        assert_eq!(attribute(&span.attributes, "p2p_node.kind"), "job");
        assert_eq!(attribute(&span.attributes, "p2p_node.priority"), "high");
        assert_eq!(attribute(&span.attributes, "p2p_node.route"), "direct");
        assert_eq!(attribute(&span.attributes, "p2p_node.outcome"), "delivered");
        assert!(!format!("{span:?}").contains("the payload"));
    }
    assert_eq!(hex::encode(&send.parent_span_id), PARENT_SPAN);
    assert_eq!(deliver.parent_span_id, send.span_id);
    let written = |span: &Span| format!("00-{TRACE}-{}-01", hex::encode(&span.span_id));
    assert_eq!(message["traceparent"], written(deliver));
    assert_eq!(delivery["traceparent"], written(send));
    for node in [sender, recipient] {
        let (code, _, stderr) = node.finish();
        assert_eq!(code, 0);
        assert!(!stderr.contains(HEADER), "the log shows a header");
    }
}

#[test]
fn broadcast_without_traceparent_begins_a_trace() {
    let (url, received) = collector();
    let (mut recipient, mut sender, _) = pair([0x73, 0x74], [Some(&url), Some(&url)]);
    recipient.command(json!({"type":"subscribe","topic":"builds","id":"subscribe"}));
    recipient.answer("subscribe");
    sender.command(json!({"type":"send","topic":"builds","data":1}));
    let message = recipient.expect("the broadcast", |event| event["type"] == "message");
    let mut spans = Vec::new();
    while spans.len() < 2 {
        spans.extend(received.recv_timeout(TIMEOUT).expect("spans").spans);
    }
    let span = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let (send, deliver) = (span("send"), span("deliver"));
    assert!(send.parent_span_id.is_empty());
    assert_eq!(attribute(&send.attributes, "p2p_node.outcome"), "published");
    assert_eq!((&deliver.trace_id, &deliver.parent_span_id), (&send.trace_id, &send.span_id));
    let text = format!("00-{}-{}-01", hex::encode(&deliver.trace_id), hex::encode(&deliver.span_id));
    assert_eq!(message["traceparent"], text);
}

#[test]
fn traceparent_travels_through_nodes_that_make_no_spans() {
    let (mut recipient, mut sender, to) = pair([0x75, 0x76], [None, None]);
    recipient.command(json!({"type":"subscribe","topic":"builds","id":"subscribe"}));
    recipient.answer("subscribe");
    for destination in [json!({"peerId":to}), json!({"topic":"builds"})] {
        let mut send = json!({"type":"send","data":1,"traceparent":traceparent()});
        send.as_object_mut().unwrap().extend(destination.as_object().unwrap().clone());
        sender.command(send);
        let message = recipient.expect("the message", |event| event["type"] == "message");
        assert_eq!(message["traceparent"], traceparent());
    }
    let delivery = sender.expect("the delivery", |event| event["type"] == "delivery");
    assert_eq!(delivery["traceparent"], traceparent());
    sender.command(json!({"type":"send","peerId":to,"data":1}));
    let message = recipient.expect("the message", |event| event["type"] == "message");
    assert_eq!(message.get("traceparent"), None);
}

#[test]
fn invalid_traceparent_is_refused() {
    let (_recipient, mut sender, to) = pair([0x77, 0x78], [None, None]);
    for bad in ["", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", &format!("{}-", traceparent())]
    {
        sender.command(json!({"type":"send","peerId":to,"data":1,"traceparent":bad,"id":"bad"}));
        assert_eq!(sender.answer("bad")["code"], "INVALID_ARGUMENT", "{bad}");
    }
}

/// Sends mail and returns how long each took to be delivered, sorted.
fn latencies(endpoint: Option<&str>, keys: [u8; 2], mails: usize) -> (Vec<Duration>, Child, Child) {
    let (recipient, mut sender, to) = pair(keys, [endpoint, endpoint]);
    let mut times = Vec::new();
    for number in 0..mails {
        let begin = Instant::now();
        sender.command(json!({"type":"send","peerId":to,"data":number}));
        sender.expect("the delivery", |event| event["type"] == "delivery" && event["state"] == "delivered");
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    (times, sender, recipient)
}

#[test]
fn collector_that_is_down_or_slow_costs_spans_and_no_time() {
    // A collector that accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}", silent.local_addr().unwrap());
    // Nobody listens on the port of a listener that was closed.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed_url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let (without, ..) = latencies(None, [0x79, 0x7A], 50);
    for (url, keys) in [(&silent_url, [0x7B, 0x7C]), (&closed_url, [0x7D, 0x7E])] {
        let (with, mut sender, recipient) = latencies(Some(url), keys, 50);
        let (usual, now) = (without[25], with[25]);
        assert!(now < 3 * usual + Duration::from_millis(20), "{usual:?} without and {now:?} with {url}");
        if *url == closed_url {
            sender.until("dropped spans", |status| status["counters"]["spans_dropped"].as_u64() >= Some(50));
        }
        for node in [sender, recipient] {
            let begin = Instant::now();
            let (code, ..) = node.finish();
            assert_eq!(code, 0);
            assert!(begin.elapsed() < Duration::from_secs(10), "the exit waits for the collector");
        }
    }
}
