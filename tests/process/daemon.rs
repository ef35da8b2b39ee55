//! Programs that attach to a running node: `--socket`, `p2p-node daemon` and `p2p-node attach`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, TIMEOUT, command, tcp_address, test_key};
use crate::http::Stream;

/// A daemon, and the directory of its socket.
pub struct Daemon {
    home: TempDir,
    process: Child,
}

impl Daemon {
    pub fn start(args: &[&str]) -> Daemon {
        let home = TempDir::new().unwrap();
        let path = home.path().join("node.sock");
        let all = [&["daemon", "--socket", path.to_str().unwrap()], args].concat();
        let process = Child::spawn(&all, &[("PRIVATE_KEY", &test_key(0xd1))]);
        let daemon = Daemon { home, process };
        await_socket(&daemon.path());
        daemon
    }

    pub fn path(&self) -> PathBuf {
        self.home.path().join("node.sock")
    }

    /// Attaches a process and connects it. Returns its `ready` too.
    pub fn attach(&self, fields: Value) -> (Child, Value) {
        attach(&["attach", "--socket", self.path().to_str().unwrap()], fields)
    }

    /// Returns a peer that is connected to the daemon.
    pub fn peer(&self, ready: &Value) -> Child {
        let (mut peer, _) = Child::join(0xd2, 0, &[], &[tcp_address(ready)]);
        peer.until("connected", |status| status["peers"].as_u64() >= Some(1));
        peer
    }
}

fn await_socket(path: &Path) {
    let deadline = std::time::Instant::now() + TIMEOUT;
    while UnixStream::connect(path).is_err() {
        assert!(std::time::Instant::now() < deadline, "nobody listens at {}", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn attach(args: &[&str], mut fields: Value) -> (Child, Value) {
    let home = TempDir::new().unwrap();
    let mut command = command(home.path());
    command.args(args);
    let mut child = Child::start(home, command);
    fields["type"] = "connect".into();
    fields["protocol"] = 1.into();
    fields["id"] = "connect".into();
    child.command(fields);
    let ready = child.expect("ready", |event| event["type"] == "ready");
    child.answer("connect");
    (child, ready)
}

/// Returns the process at the other end of a socket.
fn owner(path: &Path) -> Pid {
    rustix::net::sockopt::socket_peercred(UnixStream::connect(path).unwrap()).unwrap().pid
}

fn peer_address(peer: &mut Child) -> String {
    let status = peer.until("there", |_| true);
    status["address"].as_str().unwrap().to_owned()
}

fn send(from: &mut Child, to: &str, data: Value, id: &str) {
    from.command(json!({"type":"send","id":id,"peerId":to,"data":data}));
}

fn message(child: &Child, data: &Value) -> Value {
    child.expect(&format!("message {data}"), |event| event["type"] == "message" && event["data"] == *data)
}

#[test]
fn attached_processes_work_as_with_a_node_of_their_own_and_leave_the_daemon() {
    let daemon = Daemon::start(&[]);
    let (mut one, ready) = daemon.attach(json!({}));
    let (two, _) = daemon.attach(json!({}));
    let (silent, _) = daemon.attach(json!({"inbox": false}));
    let mut peer = daemon.peer(&ready);
    let address = ready["address"].as_str().unwrap().to_owned();
    send(&mut peer, &address, json!("hello"), "1");
    for client in [&one, &two] {
        message(client, &json!("hello"));
    }
    peer.expect("delivery", |event| event["state"] == "delivered");
    send(&mut one, &peer_address(&mut peer), json!("back"), "back");
    message(&peer, &json!("back"));
    one.expect("delivery", |event| event["requestId"] == "back" && event["state"] == "delivered");
    assert!(!silent.seen().iter().any(|event| event["type"] == "message"));
}

#[test]
fn end_of_stdin_and_shutdown_end_the_attached_process_only() {
    let daemon = Daemon::start(&[]);
    let (one, ready) = daemon.attach(json!({}));
    let (mut two, _) = daemon.attach(json!({}));
    let mut peer = daemon.peer(&ready);
    let (code, rest, _) = one.finish();
    assert_eq!((code, rest.last().unwrap()["reason"].as_str()), (0, Some("eof")));
    two.command(json!({"type":"shutdown","id":"bye"}));
    two.answer("bye");
    let closing = two.expect("closing", |event| event["type"] == "closing");
    assert_eq!(closing["reason"], "shutdown");
    assert_eq!(two.wait().code(), Some(0));
    let (_three, again) = daemon.attach(json!({}));
    assert_eq!(again["peerId"], ready["peerId"]);
    send(&mut peer, ready["address"].as_str().unwrap(), json!(1), "1");
    message(&_three, &json!(1));
}

#[test]
fn end_of_the_daemon_is_an_error_of_the_attached_process() {
    let daemon = Daemon::start(&[]);
    let (mut one, _) = daemon.attach(json!({}));
    daemon.process.signal(Signal::TERM);
    let closing = one.expect("closing", |event| event["type"] == "closing");
    assert_eq!(closing["reason"], "signal");
    assert_eq!(one.wait().code(), Some(69), "a supervisor attaches again");
    let mut daemon = daemon;
    assert_eq!(daemon.process.wait().code(), Some(0));
    assert!(!daemon.path().exists());
    let home = TempDir::new().unwrap();
    let mut late = command(home.path());
    late.args(["attach", "--socket", daemon.path().to_str().unwrap()]);
    let (code, lines, _) = Child::start(home, late).finish();
    assert_eq!((code, lines[0]["code"].as_str()), (69, Some("NOT_CONNECTED")));
}

#[test]
fn killed_daemon_is_replaced_and_a_running_one_is_not() {
    let mut daemon = Daemon::start(&[]);
    let path = daemon.path();
    let args = ["daemon", "--socket", path.to_str().unwrap()];
    let second = Child::spawn(&args, &[("PRIVATE_KEY", &test_key(0xd3))]);
    let (code, lines, _) = second.finish();
    assert_eq!((code, lines[0]["type"].as_str()), (73, Some("error")));
    let (mut one, _) = daemon.attach(json!({}));
    daemon.process.kill();
    assert_eq!(one.wait().code(), Some(74), "the connection broke off");
    assert!(path.exists());
    let _third = Child::spawn(&args, &[("PRIVATE_KEY", &test_key(0xd3))]);
    await_socket(&path);
}

#[test]
fn attach_starts_one_daemon_that_outlives_the_process_that_started_it() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("node.sock");
    let pid = std::process::id().to_string();
    let key = home.path().join("key.env");
    std::fs::write(&key, format!("PRIVATE_KEY={}\n", test_key(0xd4))).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let args = [
        "attach",
        "--start",
        "--socket",
        path.to_str().unwrap(),
        "--",
        "-e",
        key.to_str().unwrap(),
        "--lock-scope",
        home.path().to_str().unwrap(),
        "--parent-pid",
        &pid,
    ];
    let (one, ready) = attach(&args, json!({}));
    let (mut two, again) = attach(&args, json!({}));
    assert_eq!(ready["peerId"], again["peerId"]);
    let daemon = owner(&path);
    let command_line = std::fs::read(format!("/proc/{}/cmdline", daemon.as_raw_nonzero())).unwrap();
    assert!(!String::from_utf8_lossy(&command_line).contains("--parent-pid"));
    assert_eq!(one.finish().0, 0);
    two.command(json!({"type":"ping","id":"ping"}));
    two.answer("ping");
    kill_process(daemon, Signal::TERM).unwrap();
    assert_eq!(two.wait().code(), Some(69));
}

#[test]
fn daemon_that_cannot_start_says_why_through_attach() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("node.sock");
    let mut start = command(home.path());
    start.args(["attach", "--start", "--socket", path.to_str().unwrap(), "--", "-e", "missing.env"]);
    let (code, lines, _) = Child::start(home, start).finish();
    assert_eq!((code, lines[0]["code"].as_str()), (78, Some("INVALID_ARGUMENT")));
}

#[test]
fn parent_and_clients_share_a_node_that_ends_with_the_parent() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("node.sock");
    let args = ["--socket", path.to_str().unwrap()];
    let (mut parent, ready) = Child::join(0xd5, 0, &args, &[]);
    let (mut client, same) = attach(&["attach", "--socket", path.to_str().unwrap()], json!({}));
    assert_eq!(ready["peerId"], same["peerId"]);
    client.command(json!({"type":"shutdown"}));
    assert_eq!(client.wait().code(), Some(0));
    let (mut client, _) = attach(&["attach", "--socket", path.to_str().unwrap()], json!({}));
    parent.command(json!({"type":"shutdown","id":"end"}));
    parent.answer("end");
    assert_eq!(parent.wait().code(), Some(0));
    assert_eq!(client.wait().code(), Some(0), "`shutdown` is the reason that it got");
}

/// A client that reads nothing unless told.
struct Raw(UnixStream);

impl Raw {
    fn connect(path: &Path) -> Raw {
        let mut raw = Raw(UnixStream::connect(path).unwrap());
        raw.write(r#"{"type":"connect","protocol":1,"id":"connect"}"#);
        raw
    }

    fn write(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

#[test]
fn stopped_killed_and_flooding_clients_cost_the_others_nothing() {
    /// Fewer than a client that the machine holds up may have unread: 1,638, a tenth of the parent's.
    const MESSAGES: u64 = 1_000;
    let daemon = Daemon::start(&[]);
    let mut clients: Vec<Child> = Vec::new();
    let mut ready = Value::Null;
    for _ in 0..7 {
        let (client, its_ready) = daemon.attach(json!({}));
        clients.push(client);
        ready = its_ready;
    }
    let (stopped, _) = daemon.attach(json!({}));
    stopped.signal(Signal::STOP);
    let mut killed = Raw::connect(&daemon.path());
    let flood = Raw::connect(&daemon.path());
    let mut peer = daemon.peer(&ready);
    let address = ready["address"].as_str().unwrap().to_owned();
    let peer_address = peer_address(&mut peer);
    let mut writer = flood.0.try_clone().unwrap();
    let flooding = std::thread::spawn(move || {
        // Until the node closes the connection, or the test does.
        let line = format!("{}\n", json!({"type":"ping"})).repeat(500);
        while writer.write_all(line.as_bytes()).is_ok() {}
    });
    killed.0.write_all(br#"{"type":"send","id":9,"peerId":"0x"#).unwrap();
    drop(killed);
    for number in 0..MESSAGES {
        send(&mut peer, &address, json!(number), &format!("m{number}"));
        if number % 100 == 0 {
            for (index, client) in clients.iter_mut().enumerate() {
                send(client, &peer_address, json!({"from": index, "number": number}), &format!("c{number}"));
            }
        }
    }
    for number in 0..MESSAGES {
        peer.expect("delivery", |event| {
            event["requestId"] == format!("m{number}") && event["state"] == "delivered"
        });
    }
    for client in &clients {
        for number in 0..MESSAGES {
            message(client, &json!(number));
        }
        for number in (0..MESSAGES).step_by(100) {
            let id = format!("c{number}");
            client.expect("delivery", |event| event["requestId"] == id && event["state"] == "delivered");
        }
        let foreign =
            client.seen().into_iter().find(|event| event["type"] == "message" || event["type"] == "delivery");
        assert_eq!(foreign, None, "each line once, and to its client alone");
    }
    for index in 0..clients.len() {
        for number in (0..MESSAGES).step_by(100) {
            message(&peer, &json!({"from": index, "number": number}));
        }
    }
    flood.0.shutdown(std::net::Shutdown::Both).unwrap();
    flooding.join().unwrap();
    stopped.signal(Signal::CONT);
}

#[test]
fn half_a_line_of_a_killed_client_does_nothing() {
    let daemon = Daemon::start(&[]);
    let (mut one, _) = daemon.attach(json!({}));
    let mut half = Raw::connect(&daemon.path());
    // A command that is whole but for its newline.
    half.0.write_all(br#"{"type":"subscribe","topic":"half"}"#).unwrap();
    let mut answered = BufReader::new(half.0.try_clone().unwrap());
    let mut line = String::new();
    answered.read_line(&mut line).unwrap();
    assert!(line.contains("ready"), "{line}");
    drop((half, answered));
    let (other, _) = daemon.attach(json!({}));
    assert_eq!(other.finish().0, 0);
    let status = one.until("there", |_| true);
    assert_eq!(status["topics"], json!([]));
}

#[test]
fn followers_of_a_daemon_see_peers_and_messages_of_its_clients() {
    let daemon = Daemon::start(&["--http", "127.0.0.1:0"]);
    let (one, ready) = daemon.attach(json!({}));
    let (_two, _) = daemon.attach(json!({}));
    let addr = ready["http"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    let mut stream = Stream::open(addr);
    stream.expect("report", |_| true);
    let mut peer = daemon.peer(&ready);
    stream.expect("event", |event| event["kind"] == "peer_connected");
    send(&mut peer, ready["address"].as_str().unwrap(), json!("to all"), "1");
    message(&one, &json!("to all"));
    stream.expect("event", |event| event["kind"] == "message");
}

#[test]
#[ignore = "needs root, to start a process of another user"]
fn process_of_another_user_is_refused_even_if_the_socket_lets_it_in() {
    /// The user `nobody`.
    const OTHER: u32 = 65_534;
    const CONNECT: &str = "import socket, sys
door = socket.socket(socket.AF_UNIX)
door.settimeout(60)
door.connect(sys.argv[1])
sys.exit(0 if door.recv(1) == b'' else 1)";
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let daemon = Daemon::start(&[]);
    let path = daemon.path();
    for (path, mode) in [(path.as_path(), 0o666), (path.parent().unwrap(), 0o755)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut other = std::process::Command::new("python3");
    other.args(["-c", CONNECT]).arg(&path).uid(OTHER).gid(OTHER).current_dir("/");
    assert!(other.status().unwrap().success(), "the daemon closes the connection without a line");
    let (one, _) = daemon.attach(json!({}));
    assert_eq!(one.finish().0, 0, "this user is let in");
}
