//! The checks of requests, and what happens to slow followers.

use std::cell::Cell;
use std::future::Future;
use std::io::{Read, Write};
use std::iter::once;
use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use p2p_node_protocol::{Event, Level, Log, NetworkReport};
use p2p_node_wire::time::{Instant, Now};
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;

use super::access::refusal;
use super::assets::{ASSETS, asset};
use super::connections::{Connections, MAX_CONNECTIONS, MAX_STREAMS};
use super::feed::Feed;
use super::metrics::{Sample, document::empty};
use super::{Ask, Http, HttpConfig, MIN_TOKEN_BYTES, Source};
use crate::config::{Config, RunArgs, Secret};

fn configured(http: &str, token: Option<&str>) -> Result<(SocketAddr, Option<Secret>), String> {
    let args = RunArgs { http: Some(http.to_owned()), ..RunArgs::default() };
    let environment = |name: &str| {
        let token = token.filter(|_| name == "P2P_NODE_HTTP_TOKEN");
        token.map(Into::into)
    };
    let empty = tempfile::TempDir::new().unwrap();
    let config = Config::resolve(&args, &environment, empty.path()).map_err(|error| error.to_string())?;
    let HttpConfig { addr, token } = HttpConfig::of(&config).unwrap().unwrap();
    Ok((addr, token))
}

fn token() -> Secret {
    configured("127.0.0.1:0", Some("correct-horse-battery")).unwrap().1.unwrap()
}

fn headers(host: &str, authorization: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_str(host).unwrap());
    if let Some(value) = authorization {
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[test]
fn other_address_than_loopback_requires_a_token_of_enough_characters() {
    assert!(configured("127.0.0.1:0", None).is_ok() && configured("[::1]:0", None).is_ok());
    for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9464"] {
        let error = configured(open, None).unwrap_err();
        assert!(error.contains("P2P_NODE_HTTP_TOKEN"), "{error}");
        assert!(configured(open, Some(&"x".repeat(MIN_TOKEN_BYTES))).is_ok());
    }
    for bad in ["x".repeat(MIN_TOKEN_BYTES - 1), "with a space in between".to_owned(), "ä".repeat(20)] {
        let error = configured("127.0.0.1:0", Some(&bad)).unwrap_err();
        assert!(error.contains("at least 16") && !error.contains(&bad), "{error}");
    }
}

#[test]
fn request_by_another_name_than_an_address_is_refused() {
    let ask = |host: &str| refusal(&Method::GET, &headers(host, None), false, None);
    for host in ["127.0.0.1", "127.0.0.1:80", "localhost", "LOCALHOST:1", "[::1]", "[::1]:9464", "192.0.2.1"]
    {
        assert_eq!(ask(host), None, "{host}");
    }
    let others = [
        "evil.example",
        "evil.example:80",
        "",
        ":80",
        "localhost.",
        "a.localhost",
        "::1",
        "[::1",
        "127.0.0.1.evil.example",
        "127.1",
    ];
    for host in others {
        assert_eq!(ask(host), Some(StatusCode::MISDIRECTED_REQUEST), "{host}");
    }
    let mut two = headers("localhost", None);
    two.append(HOST, HeaderValue::from_static("evil.example"));
    for headers in [two, HeaderMap::new()] {
        assert_eq!(refusal(&Method::GET, &headers, true, None), Some(StatusCode::MISDIRECTED_REQUEST));
    }
}

#[test]
fn request_without_the_token_is_refused() {
    let token = token();
    let ask = |value, is_public| refusal(&Method::GET, &headers("localhost", value), is_public, Some(&token));
    for right in ["Bearer correct-horse-battery", "bearer correct-horse-battery"] {
        assert_eq!(ask(Some(right), false), None);
    }
    let wrong = [
        "Bearer correct-horse-batterx",
        "Bearer correct-horse",
        "Bearer ",
        "Basic correct-horse-battery",
        "correct-horse-battery",
    ];
    for wrong in wrong.map(Some).into_iter().chain([None]) {
        assert_eq!(ask(wrong, false), Some(StatusCode::UNAUTHORIZED), "{wrong:?}");
        assert_eq!(ask(wrong, true), None);
    }
}

#[test]
fn only_get_and_head_are_answered() {
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH, Method::TRACE] {
        let refused = refusal(&method, &headers("localhost", None), true, None);
        assert_eq!(refused, Some(StatusCode::METHOD_NOT_ALLOWED), "{method}");
    }
    assert_eq!(refusal(&Method::HEAD, &headers("localhost", None), true, None), None);
}

#[test]
fn every_file_of_the_page_is_served() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/page");
    let files =
        std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let files: Vec<_> = files.filter(|name| name != "README").collect();
    assert_eq!(files.len(), ASSETS.len());
    for name in files {
        assert!(asset(&format!("/{name}")).is_some(), "{name}");
    }
    assert_eq!(asset("/"), asset("/index.html"));
    assert_eq!(asset("/../page/index.html"), None);
}

/// A source that counts what it made.
#[derive(Default)]
struct Counting(Cell<u32>);

impl Source for Counting {
    fn is_ready(&self) -> bool {
        true
    }

    fn report(&self) -> NetworkReport {
        self.0.set(self.0.get() + 1);
        NetworkReport::default()
    }

    fn sample(&self) -> Sample {
        self.0.set(self.0.get() + 1);
        empty()
    }
}

#[tokio::test]
async fn report_and_sample_are_made_at_most_once_a_second_however_often_somebody_asks() {
    let config = HttpConfig { addr: "127.0.0.1:0".parse().unwrap(), token: None };
    let mut http = Http::bind(&config, Registry::default(), None).await.unwrap();
    let source = Counting::default();
    // Each 100 ms for 2.9 s: at 0 s, 1 s and 2 s both are made.
    for number in 0..30 {
        let now = Now { mono: Instant::from_millis(100 * number), unix_ms: 0 };
        http.answer(Ask::Report(oneshot::channel().0), &source, now);
        http.answer(Ask::Metrics(oneshot::channel().0), &source, now);
    }
    assert_eq!(source.0.get(), 6);
}

#[tokio::test]
async fn health_check_is_answered_with_503_while_the_loop_hangs() {
    let config = HttpConfig { addr: "127.0.0.1:0".parse().unwrap(), token: None };
    let http = Http::bind(&config, Registry::default(), None).await.unwrap();
    // Blocks the runtime of the loop until the answer is there.
    let mut client = TcpStream::connect(http.addr).unwrap();
    client.write_all(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("the node does not respond\n"), "{answer}");
}

fn is_ready(future: impl Future<Output = ()>) -> bool {
    pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

fn log(number: usize) -> Event {
    let message = format!("{number}");
    Event::Log(Box::new(Log { level: Level::Info, namespace: "test".to_owned(), message, meta: None }))
}

#[tokio::test]
async fn follower_that_does_not_read_is_cut_and_the_others_go_on() {
    let (connections, feed) = (Connections::new(), Feed::default());
    let (slow, quick) = (connections.enter(), connections.enter());
    let report = Bytes::from_static(b"{}");
    let _unread = feed.follow(&slow, connections.stream().unwrap(), &report);
    let mut read = feed.follow(&quick, connections.stream().unwrap(), &report);
    let mut pieces = 0;
    while !is_ready(slow.ended()) {
        assert!(pieces < 100, "the slow follower is never cut");
        pieces += 1;
        feed.send(&Bytes::from_static(b"piece"));
        assert!(read.next().await.is_some());
    }
    assert_eq!(feed.take_dropped(), 1);
    assert!(feed.has_followers() && !is_ready(quick.ended()));
}

#[tokio::test]
async fn events_beyond_the_limit_of_a_piece_are_dropped_and_counted() {
    let (connections, feed) = (Connections::new(), Arc::new(Feed::default()));
    let mut read = feed.follow(&connections.enter(), connections.stream().unwrap(), &Bytes::new());
    (0..1000).for_each(|number| feed.publish(once(&log(number)), 1));
    let delivery = serde_json::from_str(r#"{"messageId":"a-1","state":"delivered","attempts":1}"#);
    let delivery = Event::Delivery(delivery.unwrap());
    feed.publish(once(&delivery), 1);
    assert_eq!(feed.take_dropped(), 951);
    let running = Arc::clone(&feed);
    let sending = tokio::spawn(async move { running.run(|| async { None }).await });
    let mut next = async || read.next().await.unwrap();
    assert_eq!(next().await, "event: report\ndata: \n\n");
    let piece = String::from_utf8(next().await.to_vec()).unwrap();
    assert_eq!(piece.matches("event: event\n").count(), 50);
    assert!(piece.ends_with("data: {\"kind\":\"log\",\"text\":\"test: 49\",\"timeMs\":1}\n\n"), "{piece}");
    feed.publish(once(&delivery), 1);
    let piece = String::from_utf8(next().await.to_vec()).unwrap();
    assert!(piece.contains("delivered"), "the next piece has room: {piece}");
    sending.abort();
}

#[tokio::test]
async fn connection_beyond_the_limit_ends_the_oldest_that_has_not_asked_or_is_refused() {
    let connections = Arc::new(Connections::new());
    let mut open = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        open.push((connections.place().await.unwrap(), connections.enter()));
    }
    open[1..].iter().for_each(|(_, connection)| connection.asked());
    let waiting = Arc::clone(&connections);
    let next = tokio::spawn(async move { waiting.place().await });
    open[0].1.ended().await;
    connections.leave(&open.remove(0).1);
    let place = next.await.unwrap().unwrap();
    assert!(connections.place().now_or_never().is_some_and(|place| place.is_none()), "all have asked");
    assert_eq!(connections.take_refused(), 2);
    drop(place);
    assert!(connections.place().await.is_some());
    let streams: Vec<_> = std::iter::from_fn(|| connections.stream()).collect();
    assert_eq!(streams.len(), MAX_STREAMS);
}
