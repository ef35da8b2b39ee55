//! One host with many connections: it leaves places for others.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::{Value, json};

use crate::child::{Child, SMALL, test_key};

/// The first line of a dialer and of a listener, with its length.
const MULTISTREAM: &[u8] = b"\x13/multistream/1.0.0\n";
/// Largest number of handshakes at the same time (`src/io/swarm/handshakes.rs`).
const MAX_HANDSHAKES: usize = 64;
/// Time in which a newcomer must get an answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// Makes a bootstrap node limit connections by address.
const LIMITED: [&str; 6] =
    ["--address-scope", "private", "--listen", "/ip4/127.0.0.1/tcp/0", "--role", "bootstrap"];

/// Connects from a loopback address of this test's choice.
pub fn connect_from(from: [u8; 4], port: u16) -> TcpStream {
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&stream, &SocketAddr::from((from, 0))).expect("an address");
    connect(&stream, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).expect("a connection");
    stream.into()
}

/// Returns `true` if the node answers the first line of a connection.
pub fn is_answered(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(ANSWERED_WITHIN)).expect("a timeout");
    let mut answer = [0; MULTISTREAM.len()];
    stream.write_all(MULTISTREAM).is_ok() && stream.read_exact(&mut answer).is_ok() && answer == MULTISTREAM
}

/// Starts a bootstrap node that limits connections by address, and returns its TCP port.
pub fn limited_node(key: u8, args: &[&str]) -> (Child, u16) {
    let args = [&LIMITED, args].concat();
    listening(Child::spawn(&args, &[("PRIVATE_KEY", &test_key(key))]))
}

fn listening(mut node: Child) -> (Child, u16) {
    node.command(json!({"type":"connect","protocol":1}));
    let listening = node.expect("ready", |event| event["type"] == "ready");
    // A node of the scope `private` does not announce loopback addresses, so the system tells the port.
    let port = listening_port(node.id()).unwrap_or_else(|| panic!("no port: {listening}"));
    (node, port)
}

#[test]
fn five_hundred_silent_connections_of_many_hosts_keep_no_newcomer_out() {
    let (node, port) = limited_node(0x5a, &[]);
    connect_in_silence(node, port);
}

#[test]
fn five_hundred_silent_connections_keep_no_newcomer_out_of_a_small_container() {
    let (node, port) = listening(Child::spawn_limited(SMALL, &LIMITED, &[("PRIVATE_KEY", &test_key(0x5f))]));
    connect_in_silence(node, port);
}

fn connect_in_silence(mut node: Child, port: u16) {
    let before = descriptors(node.id());
    // From 125 addresses with 25 prefixes: none of them exceeds its own limit.
    let hosts = (0..500_u16).map(|number| [127, 1, (number % 25) as u8, 1 + (number / 25 % 5) as u8]);
    let silent: Vec<TcpStream> = hosts.map(|host| connect_from(host, port)).collect();
    let deadline = Instant::now() + ANSWERED_WITHIN;
    while !is_answered(&connect_from([127, 2, 1, 3], port)) {
        assert!(Instant::now() < deadline, "a newcomer gets an answer in time");
    }
    let evicted = |status: &Value| status["counters"]["handshakes_evicted"].as_u64() > Some(0);
    node.until("evicted handshakes", evicted);
    assert!(descriptors(node.id()) <= before + MAX_HANDSHAKES + 8, "the node keeps few of the connections");
    drop(silent);
}

#[test]
fn silent_host_keeps_no_newcomer_out() {
    let (mut node, port) = limited_node(0x59, &[]);
    let silent: Vec<TcpStream> = (0..65).map(|_| connect_from([127, 0, 0, 2], port)).collect();
    node.until("refused connections", |status| {
        status["counters"]["connections_refused"].as_u64() >= Some(40)
    });
    let newcomer = connect_from([127, 0, 1, 3], port);
    assert!(is_answered(&newcomer), "a newcomer gets an answer");
    assert!(!is_answered(&connect_from([127, 0, 0, 2], port)), "the silent host does not");
    drop(silent);
}

/// Returns the number of open files of a process.
fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Returns the TCP port on which a process listens.
fn listening_port(pid: u32) -> Option<u16> {
    let sockets = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let inodes: Vec<String> = sockets
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // State 0A is LISTEN.
        let listens = fields[3] == "0A" && inodes.iter().any(|inode| inode == fields[9]);
        listens.then(|| u16::from_str_radix(fields[1].split(':').nth(1)?, 16).ok()).flatten()
    })
}
