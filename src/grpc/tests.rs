//! Tests of the server without a node: the test plays the node at the other end of the lines.

use std::path::PathBuf;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderMap};
use p2p_node_grpc::v1;
use p2p_node_protocol::{Command, ErrorCode, ErrorEvent, Status as StatusCommand};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tonic::Code;

use super::access::refusal;
use super::codes;
use super::config::{GrpcAddr, GrpcConfig};
use super::requests::request;
use super::streams;
use crate::config::{Config, RunArgs, Secret};
use crate::inner::{Calls, Link, MAX_ATTACHING, MAX_EVENTS, MAX_WAITING_BYTES, Taker};

/// The node's end of the lines of a client.
struct Node {
    lines: BufReader<UnixStream>,
}

impl Node {
    async fn read(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).await.unwrap();
        serde_json::from_str(&line).unwrap()
    }

    async fn write(&mut self, line: Value) {
        self.lines.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Answers the next command with a bare `result`.
    async fn answer(&mut self) -> Value {
        let command = self.read().await;
        self.write(json!({"type":"result","id":command["id"],"command":command["type"]})).await;
        command
    }
}

async fn open() -> (Calls, Node) {
    let (link, mut clients) = Link::pair();
    let node = async {
        let mut node = Node { lines: BufReader::new(clients.recv().await.unwrap()) };
        let connect = node.answer().await;
        assert_eq!((&connect["type"], &connect["inbox"]), (&json!("connect"), &json!(false)));
        node
    };
    let (calls, node) = tokio::join!(Calls::open(&link), node);
    (calls.unwrap(), node)
}

/// Makes another call.
async fn assert_is_answered(calls: &Calls, node: &mut Node) {
    let status = async {
        let mut call = calls.call(Command::Status(StatusCommand {}), Taker::Server).await?;
        call.answer().await
    };
    let (answer, _) = tokio::join!(status, node.answer());
    assert_eq!(answer.unwrap().command, "status");
}

fn request_to(agent: &str) -> v1::RequestRequest {
    v1::RequestRequest {
        recipient: Some(v1::request_request::Recipient::Agent(agent.to_owned())),
        payload: Some(v1::Payload { form: Some(v1::payload::Form::Json("1".to_owned())) }),
        ..v1::RequestRequest::default()
    }
}

fn response(id: &Value, part: usize, data: &str) -> Value {
    json!({"type":"response","requestId":id,"from":"0xa","data":data,"part":part,"last":false,"trust":"unverified"})
}

async fn next<T>(stream: &mut streams::Outgoing<T>) -> Option<Result<T, tonic::Status>> {
    let next = futures::StreamExt::next(stream);
    tokio::time::timeout(Duration::from_secs(20), next).await.expect("an item in time")
}

/// Returns a token, as the configuration reads it.
fn token() -> Secret {
    let args = RunArgs { grpc: Some("127.0.0.1:0".to_owned()), ..RunArgs::default() };
    let environment = |name: &str| (name == "P2P_NODE_GRPC_TOKEN").then(|| "a-token-of-16-ch".into());
    let empty = tempfile::TempDir::new().unwrap();
    let config = Config::resolve(&args, &environment, empty.path()).unwrap();
    GrpcConfig::of(&config).unwrap().unwrap().token.unwrap()
}

#[test]
fn only_calls_with_the_token_and_health_checks_are_answered() {
    let token = token();
    let refused = |given: Option<&str>, is_public: bool| {
        let mut headers = HeaderMap::new();
        headers.extend(given.map(|given| (AUTHORIZATION, given.parse().unwrap())));
        refusal(&headers, is_public, Some(&token)).map(|status| status.code())
    };
    for wrong in [None, Some("Bearer "), Some("Bearer a-token-of-16-cX"), Some("a-token-of-16-ch")] {
        assert_eq!(refused(wrong, false), Some(Code::Unauthenticated), "{wrong:?}");
        assert_eq!(refused(wrong, true), None);
    }
    assert_eq!(refused(Some("Bearer a-token-of-16-ch"), false), None);
    assert!(refusal(&HeaderMap::new(), false, None).is_none(), "a Unix socket");
}

#[test]
fn address_is_an_ip_with_a_port_or_a_unix_socket() {
    assert_eq!("127.0.0.1:1".parse(), Ok(GrpcAddr::Tcp("127.0.0.1:1".parse().unwrap())));
    assert_eq!("unix:/run/x".parse(), Ok(GrpcAddr::Unix(PathBuf::from("/run/x"))));
    for wrong in ["", "unix:", "localhost:1", "127.0.0.1", "/run/x"] {
        assert!(wrong.parse::<GrpcAddr>().is_err(), "{wrong}");
    }
}

#[test]
fn every_code_that_answers_a_command_has_a_status_of_its_own_kind() {
    let of_the_start = [
        ErrorCode::WrongNetwork,
        ErrorCode::RegistryUnusable,
        ErrorCode::ListenFailed,
        ErrorCode::StoreUnavailable,
        ErrorCode::DataDirInUse,
        ErrorCode::DataDirMismatch,
        ErrorCode::IdentityInvalid,
        ErrorCode::IdentityInUse,
        ErrorCode::IdentityConflict,
        ErrorCode::IdentitySuperseded,
        ErrorCode::ClockSkew,
        ErrorCode::Internal,
    ];
    for code in ErrorCode::ALL {
        let status = codes::status(ErrorEvent::new(*code, "what"));
        assert_eq!(status.code() == Code::Internal, of_the_start.contains(code), "{code}");
        assert_eq!(status.metadata().get("p2p-code").unwrap().to_str().unwrap(), code.as_str());
        assert!(String::from_utf8_lossy(status.details()).contains(code.as_str()));
    }
}

#[test]
fn long_details_of_an_error_do_not_fill_the_trailers() {
    let error = ErrorEvent {
        details: Some(json!({"messageIds": vec!["x".repeat(100); 1000]})),
        ..ErrorEvent::new(ErrorCode::MessageNotFound, "what")
    };
    assert!(codes::status(error).details().len() < 1024);
}

#[tokio::test]
async fn dropped_request_is_cancelled_and_leaves_nothing() {
    let (calls, mut node) = open().await;
    let stream = request(&calls, request_to("0xa")).await.unwrap();
    let asked = node.read().await;
    assert_eq!(asked["type"], "request");
    drop(stream);
    let cancel = node.read().await;
    assert_eq!((&cancel["type"], &cancel["target"]), (&json!("cancel"), &asked["id"]));
    assert_eq!(calls.len(), 0);
}

#[tokio::test]
async fn ended_request_is_not_cancelled() {
    let (calls, mut node) = open().await;
    let mut stream = request(&calls, request_to("0xa")).await.unwrap();
    node.answer().await;
    assert!(next(&mut stream).await.unwrap().is_ok());
    assert!(next(&mut stream).await.is_none());
    drop(stream);
    drop(calls.call(Command::Status(StatusCommand {}), Taker::Server).await.unwrap());
    assert_eq!(node.read().await["type"], "status", "nothing came before");
}

#[tokio::test]
async fn command_longer_than_a_line_fails_at_once() {
    let (calls, _node) = open().await;
    let payload = v1::Payload { form: Some(v1::payload::Form::Binary(vec![0; 1 << 20])) };
    let long = v1::RequestRequest { payload: Some(payload), ..request_to("0xa") };
    let failed = request(&calls, long).await.err().unwrap();
    assert_eq!(failed.metadata().get("p2p-code").unwrap(), "MESSAGE_TOO_LARGE");
    assert_eq!(calls.len(), 0);
}

#[tokio::test]
async fn request_that_nobody_reads_ends_and_others_go_on() {
    let (calls, mut node) = open().await;
    let mut slow = request(&calls, request_to("0xa")).await.unwrap();
    let id = node.read().await["id"].clone();
    let big = "x".repeat(MAX_WAITING_BYTES / 16);
    for part in 0..17 {
        node.write(response(&id, part, &big)).await;
    }
    assert_is_answered(&calls, &mut node).await;
    let mut read = 0;
    let end = loop {
        match next(&mut slow).await.unwrap() {
            Ok(_) => read += 1,
            Err(status) => break status,
        }
    };
    assert_eq!((read, end.code()), (15, Code::ResourceExhausted), "a line is longer than its data");
    assert_eq!(node.read().await["type"], "cancel");
}

#[tokio::test]
async fn small_answers_that_nobody_reads_are_bounded_by_their_number() {
    let (calls, mut node) = open().await;
    let mut slow = request(&calls, request_to("0xa")).await.unwrap();
    let id = node.read().await["id"].clone();
    for part in 0..=MAX_EVENTS {
        node.write(response(&id, part, "")).await;
    }
    // The server has read all of them then.
    assert_is_answered(&calls, &mut node).await;
    let mut read = 0;
    while next(&mut slow).await.unwrap().is_ok() {
        read += 1;
    }
    assert_eq!(read, MAX_EVENTS);
}

#[tokio::test]
async fn parts_are_permitted_as_the_client_reads() {
    let (calls, mut node) = open().await;
    let asked = v1::RequestRequest { stream: true, ..request_to("0xa") };
    let mut stream = request(&calls, asked).await.unwrap();
    let asked = node.read().await;
    assert_eq!(asked["credit"], 16);
    for part in 0..16 {
        node.write(response(&asked["id"], part, "x")).await;
    }
    for _ in 0..7 {
        next(&mut stream).await.unwrap().unwrap();
    }
    next(&mut stream).await.unwrap().unwrap();
    let credit = node.read().await;
    assert_eq!((&credit["type"], &credit["parts"]), (&json!("credit"), &json!(24)));
}

#[tokio::test]
async fn calls_fail_when_the_node_closes_the_client_with_its_reason() {
    let (calls, mut node) = open().await;
    let mut call = calls.call(Command::Status(StatusCommand {}), Taker::Server).await.unwrap();
    node.read().await;
    node.write(json!({"type":"error","code":"BUSY","message":"full","retryable":true})).await;
    drop(node);
    assert_eq!(call.next().await.unwrap_err().0.code, ErrorCode::Busy);
    assert!(calls.is_closed());
    let later = calls.call(Command::Status(StatusCommand {}), Taker::Server).await;
    assert_eq!(later.unwrap_err().0.code, ErrorCode::Busy);
}

#[tokio::test]
async fn stream_that_nobody_reads_leaves_lines_at_the_node() {
    let (link, mut clients) = Link::pair();
    let mut stream = streams::connect(&link, v1::ConnectRequest::default()).await.unwrap();
    let mut node = Node { lines: BufReader::new(clients.recv().await.unwrap()) };
    node.answer().await;
    let log = json!({"type":"log","level":"info","namespace":"x","message":"y".repeat(1000)});
    let line = format!("{log}\n");
    let mut written = 0;
    let mut full = 0;
    // The buffers of the socket fill, and then nothing more leaves the node.
    while full < 10 {
        match node.lines.get_ref().try_write(line.as_bytes()) {
            Ok(bytes) => (written, full) = (written + bytes, 0),
            Err(_) => full += 1,
        }
        tokio::task::yield_now().await;
    }
    assert!(written < 1 << 20, "{written} bytes left the node");
    drop(node);
    while next(&mut stream).await.unwrap().is_ok() {}
}

#[tokio::test]
async fn clients_that_attach_at_once_wait_for_the_door() {
    let (link, mut clients) = Link::pair();
    let mut attaching = Vec::new();
    for _ in 0..MAX_ATTACHING {
        attaching.push(link.attach().await.unwrap());
    }
    let mut next = std::pin::pin!(link.attach());
    tokio::select! {
        biased;
        _ = &mut next => panic!("the door has room for {MAX_ATTACHING} only"),
        () = tokio::task::yield_now() => {}
    }
    clients.recv().await.unwrap();
    next.await.unwrap();
}
