//! `p2p-node explorer` as a process.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::child::{Child, command, tcp_address};
use crate::http::{ON, Stream, get, raw, status, until};

/// Runs the explorer to its end.
fn explore(args: &[&str], env: &[(&str, &str)]) -> Output {
    let home = TempDir::new().unwrap();
    command(home.path()).arg("explorer").args(args).envs(env.iter().copied()).output().unwrap()
}

/// Starts the explorer and returns the address of its page.
fn page(args: &[&str], env: &[(&str, &str)]) -> (Child, SocketAddr) {
    let home = TempDir::new().unwrap();
    let mut explorer = command(home.path());
    explorer.arg("explorer").args(args).envs(env.iter().copied());
    let child = Child::start(home, explorer);
    let url = child.raw_line("a URL", |line| line.starts_with("http://"));
    let addr = url.trim().trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    (child, addr)
}

fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns `true` if the report has these nodes as active ones.
fn knows(report: &Value, peers: &[&Value]) -> bool {
    let nodes = report["topology"]["nodes"].as_array().unwrap();
    peers.iter().all(|peer| nodes.iter().any(|node| node["peerId"] == **peer && node["isActive"] == true))
}

#[test]
fn json_shows_a_network_of_3_nodes_that_the_explorer_joins() {
    let (alice, ready) = Child::join(1, 0, &ON, &[]);
    let bootstrap = tcp_address(&ready);
    let (_bob, of_bob) = Child::join(2, 0, &[], std::slice::from_ref(&bootstrap));
    let (_carol, of_carol) = Child::join(3, 0, &[], std::slice::from_ref(&bootstrap));
    let key = crate::child::test_key(9);
    let found = until("all 3 nodes", || {
        let env = [("PRIVATE_KEY", &*key)];
        let found = report(&explore(&["--json", "--bootstrap", &bootstrap], &env));
        knows(&found, &[&ready["peerId"], &of_bob["peerId"], &of_carol["peerId"]]).then_some(found)
    });
    let own =
        found["topology"]["nodes"].as_array().unwrap().iter().find(|node| node["isSelf"] == true).unwrap();
    assert!(own["role"] == "light" && own["address"].is_string(), "{own}");
    // The explorer has an identity of its own, not that of the key.
    let bound = Child::spawn(&["--connect"], &[("PRIVATE_KEY", &key)]);
    let of_key = bound.expect("ready", |event| event["type"] == "ready");
    assert_ne!(own["address"], of_key["address"], "{own}");
    drop(alice);
}

#[test]
fn page_of_an_explorer_that_joins_shows_the_network_and_ends_by_a_signal() {
    let (_alice, ready) = Child::join(1, 0, &[], &[]);
    let (mut explorer, addr) = page(&["--bootstrap", &tcp_address(&ready)], &[]);
    assert!(addr.ip().is_loopback());
    assert!(get(addr, "/").body.contains("<html"));
    let mut stream = Stream::open(addr);
    stream.expect("report", |report| knows(report, &[&ready["peerId"]]));
    let post = raw(addr, &format!("POST /api/report HTTP/1.1\r\nHost: {addr}\r\n\r\n"));
    assert_eq!(post.status, 405);
    explorer.signal(rustix::process::Signal::TERM);
    assert_eq!(explorer.wait().code(), Some(0));
}

#[test]
fn explorer_that_attaches_relays_the_report_and_the_events_of_a_node_with_a_token() {
    let token = ("P2P_NODE_HTTP_TOKEN", "correct-horse-battery");
    let node = Child::spawn(&["--connect", ON[0], ON[1]], &[token]);
    let ready = node.expect("ready", |event| event["type"] == "ready");
    let url = ready["http"].as_str().unwrap();
    let refused = explore(&["--json", "--attach", url], &[]);
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("P2P_NODE_HTTP_TOKEN"), "{refused:?}");
    assert!(knows(
        &report(&explore(&["--json", "--wait", "0", "--attach", url], &[token])),
        &[&ready["peerId"]]
    ));
    let (explorer, addr) = page(&["--attach", url], &[token]);
    let mut stream = Stream::open(addr);
    // The explorer opens the stream of the node after the second report, and makes the third one then.
    (0..3).for_each(|_| drop(stream.expect("report", |report| knows(report, &[&ready["peerId"]]))));
    let (_bob, of_bob) = Child::join(2, 0, &[], &[tcp_address(&ready)]);
    let event = stream.expect("event", |event| event["kind"] == "peer_connected");
    assert_eq!(event["peerId"], of_bob["peerId"]);
    drop(node);
    until("no report", || (status(addr, "/api/report") == 503).then_some(()));
    drop(explorer);
}

/// Text that turns the alternate screen of a terminal on, and off.
const SCREEN: [&str; 2] = ["\u{1b}[?1049h", "\u{1b}[?1049l"];

#[test]
fn terminal_view_shows_the_network_obeys_keys_and_leaves_the_terminal_as_it_was() {
    let (node, ready) = Child::join(1, 0, &[ON[0], ON[1], "--name", "observed"], &[]);
    let (_bob, _) = Child::join(2, 0, &["--name", "neighbour"], &[tcp_address(&ready)]);
    let home = TempDir::new().unwrap();
    let bare = command(home.path());
    let program = bare.get_program().to_str().unwrap();
    let line = format!(
        "stty rows 40 cols 120; '{program}' explorer --tui --attach {}; echo \"end $?\"; stty -a",
        ready["http"].as_str().unwrap()
    );
    // `script` runs a command on a terminal of its own.
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]).env("TERM", "xterm");
    let mut terminal = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keys, mut screen) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    let mut shown = String::new();
    let mut until_shown = |text: &str| {
        let mut chunk = [0; 4096];
        while !shown.contains(text) {
            let read = screen.read(&mut chunk).unwrap();
            assert!(read > 0, "the terminal never showed {text:?}: {shown:?}");
            shown.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
        shown.clone()
    };
    until_shown(SCREEN[0]);
    until_shown("Health");
    keys.write_all(b"2").unwrap();
    until_shown("observed");
    until_shown("neighbour");
    keys.write_all(b"q").unwrap();
    let shown = until_shown("end 0");
    assert!(shown.contains(SCREEN[1]), "{shown:?}");
    until_shown(" icanon");
    until_shown(" echo ");
    drop(keys);
    assert!(terminal.wait().unwrap().success());
    drop(node);
}

#[test]
fn terminal_view_without_a_terminal_ends_with_the_reason() {
    let (_node, ready) = Child::join(1, 0, &ON, &[]);
    let output = explore(&["--tui", "--attach", ready["http"].as_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--json"), "{output:?}");
}

#[test]
fn explorer_of_a_node_that_is_not_there_ends_with_the_reason() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for form in [&["--json"][..], &["--tui"], &[]] {
        let url = format!("http://{closed}");
        let output = explore(&[form, &["--attach", &url]].concat(), &[]);
        assert_eq!(output.status.code(), Some(69), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("start the node with --http"), "{output:?}");
    }
    let output = explore(&["--json", "--attach", "not a url"], &[]);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
}
