//! The HTTP server of a node.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, TIMEOUT, tcp_address, test_key};

pub const ON: [&str; 2] = ["--http", "127.0.0.1:0"];

/// A response: its status, its head and its body.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Returns the address of the server in `ready`.
pub fn server(ready: &Value) -> SocketAddr {
    ready["http"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap()
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Sends a request as it is, and returns the response.
pub fn raw(addr: SocketAddr, request: &str) -> Response {
    let mut stream = connect(addr);
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Response { status, head: head.to_owned(), body: body.to_owned() }
}

fn get_with(addr: SocketAddr, path: &str, headers: &str) -> Response {
    raw(addr, &format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n{headers}\r\n"))
}

pub fn get(addr: SocketAddr, path: &str) -> Response {
    get_with(addr, path, "")
}

pub fn status(addr: SocketAddr, path: &str) -> u16 {
    get(addr, path).status
}

/// Waits until `read` returns something.
pub fn until<T>(what: &str, mut read: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = read() {
            return found;
        }
        assert!(Instant::now() < deadline, "never {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the value of a metric without labels.
fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// A follower of the events.
pub struct Stream {
    stream: TcpStream,
    text: String,
}

impl Stream {
    pub fn open(addr: SocketAddr) -> Stream {
        let mut stream = connect(addr);
        write!(stream, "GET /api/stream HTTP/1.1\r\nHost: {addr}\r\n\r\n").unwrap();
        Stream { stream, text: String::new() }
    }

    /// Waits for an event of this name for which `matches` holds.
    pub fn expect(&mut self, name: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            while let Some((piece, rest)) = self.text.split_once("\n\n") {
                let (piece, rest) = (piece.to_owned(), rest.to_owned());
                self.text = rest;
                let Some((head, data)) = piece.split_once("\ndata: ") else { continue };
                // What comes before are the length of a chunk and the end of the one before.
                if head.ends_with(&format!("event: {name}"))
                    && let Ok(value) = serde_json::from_str(data)
                    && matches(&value)
                {
                    return value;
                }
            }
            assert!(Instant::now() < deadline, "no {name}: {:?}", self.text);
            let mut bytes = [0; 64 * 1024];
            let length = self.stream.read(&mut bytes).unwrap();
            assert!(length > 0, "the stream ended: {:?}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    }
}

#[test]
fn health_and_ready_follow_the_life_of_a_node() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let addr: SocketAddr = ([127, 0, 0, 1], port).into();
    let home = TempDir::new().unwrap();
    let args = ["--http", &addr.to_string(), "--drain-timeout", "60"];
    let mut child = Child::spawn_in(home, &args, &[("PRIVATE_KEY", &test_key(1))]);
    until("a listener", || TcpStream::connect(addr).ok());
    assert_eq!((status(addr, "/health"), status(addr, "/ready")), (200, 503));
    child.command(json!({"type":"connect","protocol":1,"id":"connect"}));
    let ready = child.expect("ready", |event| event["type"] == "ready");
    assert_eq!(ready["http"], format!("http://{addr}"));
    assert_eq!((status(addr, "/health"), status(addr, "/ready")), (200, 200));
    // The node waits for the delivery to an agent that does not exist.
    child.command(json!({"type":"send","peerId":format!("0x{}", "11".repeat(20)),"data":1,"id":"send"}));
    child.expect("accepted", |event| event["id"] == "send");
    child.command(json!({"type":"shutdown"}));
    until("not ready", || (status(addr, "/ready") == 503).then_some(()));
    assert_eq!(status(addr, "/health"), 200);
    child.kill();
}

#[test]
fn metrics_equal_what_was_sent_and_are_documented_and_valid() {
    let (mut alice, ready) = Child::join(1, 0, &ON, &[]);
    let (bob, of_bob) = Child::join(2, 0, &ON, &[tcp_address(&ready)]);
    for number in 0..5 {
        alice.command(json!({"type":"send","peerId":of_bob["address"],"data":number,"id":number}));
        let delivery = alice.expect("delivery", |event| event["type"] == "delivery");
        assert_eq!(delivery["state"], "delivered", "{delivery}");
        bob.expect("message", |event| event["type"] == "message");
    }
    let plain = until("5 deliveries", || {
        let text = get(server(&ready), "/metrics").body;
        (metric(&text, "p2p_node_mail_delivered_total") == Some(5.0)).then_some(text)
    });
    assert_eq!(metric(&plain, "p2p_node_mail_accepted_total"), Some(5.0));
    assert_eq!(metric(&plain, "p2p_node_delivery_seconds_count"), Some(5.0));
    assert_eq!(metric(&plain, "p2p_node_ready"), Some(1.0));
    assert_eq!(metric(&plain, "p2p_node_peers"), Some(1.0));
    until("5 messages", || {
        let text = get(server(&of_bob), "/metrics").body;
        (metric(&text, "p2p_node_mail_received_total") == Some(5.0)).then_some(())
    });
    assert!(
        plain.contains("libp2p_bandwidth_bytes_total{protocols=\"/ip4/tcp\",direction=\"Inbound\"}"),
        "{plain}"
    );
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let open = get_with(server(&ready), "/metrics", accept);
    assert!(open.head.contains("application/openmetrics-text") && open.body.ends_with("# EOF\n"), "{open:?}");
    let table = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    let names = plain.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let unknown: Vec<_> = names.filter(|name| !table.contains(&format!("| `{name}` |"))).collect();
    assert!(unknown.is_empty(), "not in docs/metrics.md: {unknown:?}");
    check_by_promtool(&["check", "metrics"], &plain);
}

#[test]
fn alerts_are_valid_rules() {
    check_by_promtool(&["check", "rules", concat!(env!("CARGO_MANIFEST_DIR"), "/docs/alerts.yml")], "");
}

/// Runs `promtool`, if it is there. CI installs it.
fn check_by_promtool(args: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = match command.spawn() {
        Ok(process) => process,
        Err(error) if std::env::var_os("CI").is_none() => {
            return eprintln!("SKIPPED: promtool of Debian's package prometheus does not run: {error}");
        }
        Err(error) => panic!("promtool of Debian's package prometheus does not run: {error}"),
    };
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "promtool {args:?}: {text}");
}

#[test]
fn token_is_required_and_never_logged() {
    const TOKEN: &str = "correct-horse-battery";
    let env = [("PRIVATE_KEY", &*test_key(1)), ("P2P_NODE_HTTP_TOKEN", TOKEN)];
    let mut child = Child::spawn(&["--connect", "--log-level", "trace", ON[0], ON[1]], &env);
    let ready = child.expect("ready", |event| event["type"] == "ready");
    let addr = server(&ready);
    for path in ["/metrics", "/api/report", "/api/stream", "/nothing"] {
        assert_eq!(status(addr, path), 401, "{path}");
        assert_eq!(
            get_with(addr, path, "Authorization: Bearer correct-horse-batterx\r\n").status,
            401,
            "{path}"
        );
    }
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(get_with(addr, "/metrics", &right).status, 200);
    assert_eq!(get_with(addr, "/api/report", &right).status, 200);
    for path in ["/", "/explorer.js", "/explorer.css", "/health", "/ready"] {
        assert_eq!(status(addr, path), 200, "{path}");
    }
    child.until("refusals", |status| status["counters"]["http_requests_refused"] == 8);
    let (code, rest, stderr) = child.finish();
    assert_eq!(code, 0);
    assert!(!stderr.contains(TOKEN) && !format!("{rest:?}").contains(TOKEN), "{stderr}");
}

#[test]
fn other_address_than_loopback_without_a_token_ends_the_start() {
    let child = Child::spawn(&["--connect", "--http", "0.0.0.0:0"], &[]);
    let error = child.expect("error", |event| event["type"] == "error");
    assert_eq!(error["code"], "INVALID_ARGUMENT");
    assert!(error["message"].as_str().unwrap().contains("P2P_NODE_HTTP_TOKEN"), "{error}");
    let (code, ..) = child.finish();
    assert_eq!(code, 78);
}

#[test]
fn port_in_use_ends_the_start_with_a_stable_code() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let child = Child::spawn(&["--connect", "--http", &taken.local_addr().unwrap().to_string()], &[]);
    let error = child.expect("error", |event| event["type"] == "error");
    assert_eq!(error["code"], "LISTEN_FAILED");
    assert!(error["message"].as_str().unwrap().contains("--http"), "{error}");
    let (code, ..) = child.finish();
    assert_eq!(code, 69);
}

#[test]
fn requests_that_do_not_read_or_name_another_host_are_refused() {
    let (child, ready) = Child::join(1, 0, &ON, &[]);
    let addr = server(&ready);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let response = raw(addr, &format!("{method} /ready HTTP/1.1\r\nHost: {addr}\r\n\r\n"));
        assert_eq!(response.status, 405, "{response:?}");
        assert!(response.head.to_lowercase().contains("allow: get, head"), "{response:?}");
    }
    for host in ["Host: evil.example\r\n", "", "Host: localhost\r\nHost: evil.example\r\n"] {
        let response = raw(addr, &format!("GET /api/report HTTP/1.1\r\n{host}\r\n"));
        assert_eq!(response.status, 421, "{host}");
    }
    let head = raw(addr, &format!("HEAD /metrics HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", addr.port()));
    assert_eq!((head.status, &*head.body), (200, ""));
    assert_eq!(status(addr, "/nothing"), 404);
    let long = get_with(addr, "/ready", &format!("X-Long: {}\r\n", "x".repeat(20_000)));
    assert_eq!(long.status, 431, "{long:?}");
    let page = get(addr, "/").head.to_lowercase();
    for header in [
        "content-security-policy: default-src 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
    ] {
        assert!(page.contains(header), "{page}");
    }
    assert!(!page.contains("access-control"), "{page}");
    drop(child);
}

#[test]
fn idle_sockets_and_stalled_followers_do_not_disturb_the_node() {
    let (mut alice, ready) = Child::join(1, 0, &ON, &[]);
    let (_bob, of_bob) = Child::join(2, 0, &[], &[tcp_address(&ready)]);
    let addr = server(&ready);
    let mut stalled: Vec<_> = (0..8).map(|_| Stream::open(addr)).collect();
    stalled.iter_mut().for_each(|stream| drop(stream.expect("report", |_| true)));
    let ninth = get(addr, "/api/stream");
    assert_eq!(ninth.status, 503, "{ninth:?}");
    let idle: Vec<_> = (0..200).map(|_| connect(addr)).collect();
    for number in 0..20 {
        alice.command(json!({"type":"send","peerId":of_bob["address"],"data":number,"id":number}));
        let delivery =
            alice.expect_within(Duration::from_secs(5), "delivery", |event| event["type"] == "delivery");
        assert_eq!(delivery["state"], "delivered", "{delivery}");
        assert_eq!(status(addr, "/health"), 200);
    }
    alice.until("refused connections", |status| {
        status["counters"]["http_connections_refused"].as_u64() >= Some(200 + 8 - 64)
    });
    drop(idle);
    for stream in &stalled {
        stream.stream.shutdown(Shutdown::Both).unwrap();
    }
    until("a place", || (Stream::open(addr).stream.peek(&mut [0; 12]).is_ok()).then_some(()));
}

#[test]
fn stream_delivers_reports_and_events_without_payloads() {
    let (alice, ready) = Child::join(1, 0, &ON, &[]);
    let mut stream = Stream::open(server(&ready));
    stream.expect("report", |_| true);
    let (mut bob, of_bob) = Child::join(2, 0, &[], &[tcp_address(&ready)]);
    let peer = stream.expect("event", |event| event["kind"] == "peer_connected");
    assert_eq!(peer["peerId"], of_bob["peerId"]);
    bob.command(json!({"type":"send","peerId":ready["address"],"data":"the payload","id":"send"}));
    let message = stream.expect("event", |event| event["kind"] == "message");
    assert_eq!(message["text"], format!("from {}", of_bob["address"].as_str().unwrap()));
    assert!(!message.to_string().contains("the payload"), "{message}");
    stream.expect("report", |_| true);
    drop(alice);
}
