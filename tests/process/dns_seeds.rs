//! DNS seeds: a node joins through the peers that TXT records list. The test is the DNS server.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::child::{Child, tcp_address, test_key};

/// Texts of the TXT records of each name.
type Records = HashMap<String, Vec<String>>;

/// A DNS server on 127.0.0.1 that has these records and no others.
struct Server {
    addr: SocketAddr,
    records: Arc<Mutex<Records>>,
}

impl Server {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let records = Arc::new(Mutex::new(Records::new()));
        let answers = Arc::clone(&records);
        // The thread ends with the process of the test.
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let answer = answer(&buffer[..length], &answers.lock().unwrap());
                let _ = socket.send_to(&answer, from);
            }
        });
        Server { addr, records }
    }

    fn set(&self, name: &str, texts: &[String]) {
        self.records.lock().unwrap().insert(name.to_owned(), texts.to_vec());
    }
}

/// Returns the end of the question of a query, and its name in lower case.
fn question(query: &[u8]) -> (usize, String) {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..at + 1 + length]).to_lowercase());
        at += 1 + length;
    }
    (at + 5, labels.join("."))
}

/// Returns the answer to a query.
fn answer(query: &[u8], records: &Records) -> Vec<u8> {
    let (end, name) = question(query);
    let is_txt = query[end - 4..end - 2] == [0, 16];
    let texts = records.get(&name).filter(|_| is_txt).cloned().unwrap_or_default();
    let mut answer = query[..2].to_vec();
    // A response with recursion; NXDOMAIN without records.
    answer.extend([0x81, if texts.is_empty() { 0x83 } else { 0x80 }]);
    answer.extend([0, 1, 0, texts.len() as u8, 0, 0, 0, 0]);
    answer.extend(&query[12..end]);
    for text in texts {
        // The name of the question, TXT, IN, and a lifetime of one second.
        answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 1]);
        answer.extend((text.len() as u16 + 1).to_be_bytes());
        answer.push(text.len() as u8);
        answer.extend(text.as_bytes());
    }
    answer
}

/// Starts a node that knows nothing but a DNS seed.
fn start(server: SocketAddr, args: &[&str]) -> Child {
    let server = server.to_string();
    let args = [&["--connect", "--dns-seed", "peers.village.test", "--dns-server", &server], args].concat();
    let child = Child::spawn(&args, &[("PRIVATE_KEY", &test_key(0xf8))]);
    child.expect("ready", |event| event["type"] == "ready");
    child
}

fn expect_connected(child: &Child, ready: &Value) {
    child.expect("a connection", |event| {
        event["type"] == "peer_connected" && event["peerId"] == ready["peerId"]
    });
}

#[test]
fn node_joins_through_each_form_of_txt_records() {
    let (_entry, ready) = Child::join(0xf6, 0, &["--role", "bootstrap"], &[]);
    let addr = tcp_address(&ready);
    let port = addr.split('/').nth(4).unwrap();
    for (name, text) in [
        ("peers.village.test", format!("127.0.0.1:{port}:bootstrap:dht,relay")),
        ("peers.village.test", format!("dnsaddr={addr}")),
        ("_dnsaddr.peers.village.test", format!("dnsaddr={addr}")),
    ] {
        let server = Server::start();
        server.set(name, &["v=spf1 -all".to_owned(), text]);
        let mut node = start(server.addr, &[]);
        expect_connected(&node, &ready);
        // The node is in the network: an agent that joined elsewhere finds it.
        let (bob, bob_ready) = Child::join(0xf7, 0, &[], std::slice::from_ref(&addr));
        node.command(json!({"type":"send","peerId":bob_ready["address"],"data":"hello","id":"m"}));
        bob.expect("the message", |event| event["type"] == "message" && event["data"] == "hello");
    }
}

#[test]
fn node_without_dns_server_starts_and_joins_when_the_name_resolves() {
    let (_entry, ready) = Child::join(0xf9, 0, &["--role", "bootstrap"], &[]);
    let server = Server::start();
    let mut node = start(server.addr, &[]);
    let log = node.expect("a warning", |event| {
        event["type"] == "log" && event["message"].as_str().unwrap().contains("DNS seeds")
    });
    assert!(log["message"].as_str().unwrap().contains("peers.village.test"), "{log}");
    node.command(json!({"type":"ping","id":"ping"}));
    node.answer("ping");
    server.set("peers.village.test", &[format!("dnsaddr={}", tcp_address(&ready))]);
    expect_connected(&node, &ready);
}

#[test]
fn host_name_of_an_address_is_resolved_by_the_configured_server() {
    // Only TXT records are served, so the name has an address by `dnsaddr` alone.
    const SCOPE: [&str; 4] = ["--address-scope", "private", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let (_entry, ready) = Child::join(0xfa, 0, &SCOPE, &[]);
    let server = Server::start();
    server.set("_dnsaddr.village.test", &[format!("dnsaddr={}", tcp_address(&ready))]);
    let bootstrap = format!("/dnsaddr/village.test/p2p/{}", ready["peerId"].as_str().unwrap());
    let node = start(server.addr, &[&SCOPE[..], &["--bootstrap", &bootstrap]].concat());
    expect_connected(&node, &ready);
}
