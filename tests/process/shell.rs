//! One-shot commands: `send`, `listen`, `ask`, `discover` and `whoami`, through a daemon and with a node of
//! their own.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, TIMEOUT, command, tcp_address, test_key};
use crate::shell_command::{Pair, Running};

#[test]
fn send_through_a_daemon_waits_if_told_and_reports_what_became_of_the_message() {
    let mut pair = Pair::start(&[]);
    let to = pair.peer_address.clone();
    let sent = pair.run(&["send", &to, "hello", "--kind", "greeting", "--wait"]);
    assert_eq!((sent.code, &sent.out[..10]), (0, "delivered "), "{sent:?}");
    let got = pair.peer.expect("message", |event| event["data"] == "hello");
    assert_eq!((&got["kind"], got["from"].as_str()), (&json!("greeting"), Some(&*pair.address)));
    let sent = pair.run(&["send", &to, r#"{"b":1,"a":[]}"#, "--format", "json", "--wait", "--json"]);
    assert_eq!(
        (&sent.lines()[0]["type"], &sent.lines()[0]["state"]),
        (&json!("delivery"), &json!("delivered"))
    );
    let got = pair.peer.raw_line("message", |line| line.contains(r#""type":"message""#));
    assert!(got.contains(r#""data":{"b":1,"a":[]}"#), "{got}");

    // Nobody has this address. Without --wait the daemon has the message.
    let nobody = "0x1111111111111111111111111111111111111111";
    let sent = pair.run(&["send", nobody, "later", "--json"]);
    assert_eq!((sent.code, &sent.lines()[0]["delivery"]), (0, &json!("accepted")));
    let sent = pair.run(&["send", nobody, "now", "--wait", "--ttl", "0.3", "--json"]);
    assert_eq!((sent.code, &sent.lines()[0]["state"]), (75, &json!("expired")), "{sent:?}");
    pair.peer.command(json!({"type":"block","id":"block","peerId":pair.address}));
    pair.peer.answer("block");
    let sent = pair.run(&["send", &to, "unwanted", "--wait"]);
    assert_eq!((sent.code, sent.out.as_str()), (68, ""), "{sent:?}");
    assert!(sent.err.contains("PEER_REJECTED"), "{sent:?}");
}

#[test]
fn send_without_a_daemon_waits_for_the_delivery_and_says_so() {
    let (mut peer, ready) = Child::join(0xd7, 0, &[], &[]);
    let (to, bootstrap) = (ready["address"].as_str().unwrap(), tcp_address(&ready));
    let key = test_key(0xd8);
    let args = ["send", to, "-", "--", "--bootstrap", &bootstrap];
    let sent = Running::start(&args, &[("PRIVATE_KEY", &key)], b"from stdin\n").end();
    assert_eq!((sent.code, &sent.out[..10]), (0, "delivered "), "{sent:?}");
    assert!(sent.err.contains("no daemon runs, so the command waits"), "{sent:?}");
    peer.expect("message", |event| event["data"] == "from stdin\n");
    // Not even a key is necessary.
    peer.command(json!({"type":"subscribe","id":"sub","topic":"builds"}));
    peer.answer("sub");
    let args = ["send", "--topic", "builds", "green", "--wait", "--", "--bootstrap", &bootstrap];
    let sent = Running::start(&args, &[], b"").end();
    assert_eq!((sent.code, &sent.out[..10]), (0, "published "), "{sent:?}");
    peer.expect("broadcast", |event| event["topic"] == "builds" && event["data"] == "green");
}

#[test]
fn broadcast_that_reaches_nobody_is_not_delivered() {
    let mut pair = Pair::start(&[]);
    let sent = pair.run(&["send", "--topic", "empty", "x", "--wait", "--ttl", "0.5", "--json"]);
    assert_eq!((sent.code, &sent.lines()[0]["code"]), (75, &json!("NO_SUBSCRIBERS")), "{sent:?}");
    pair.peer.command(json!({"type":"subscribe","id":"sub","topic":"builds"}));
    pair.peer.answer("sub");
    let sent = pair.run(&["send", "--topic", "builds", "green", "--wait", "--json"]);
    assert_eq!((sent.code, &sent.lines()[0]["command"]), (0, &json!("send")), "{sent:?}");
    pair.peer.expect("broadcast", |event| event["data"] == "green");
}

#[test]
fn bad_command_lines_and_refused_commands_have_their_own_exit_codes() {
    let pair = Pair::start(&[]);
    let file = format!("@{}", pair.daemon.path().with_file_name("missing").display());
    for (args, code, name) in [
        (&["send", "0x12", "x", "--json"] as &[&str], 65, "INVALID_ARGUMENT"),
        (&["send", "--topic", "agent-announcements", "x", "--json"], 65, "RESERVED_TOPIC"),
        (&["send", &pair.address, "x", "--json"], 65, "INVALID_ARGUMENT"),
        (&["send", &pair.peer_address, "{", "--format", "json", "--json"], 65, "INVALID_ARGUMENT"),
        (&["send", &pair.peer_address, &file, "--json"], 74, "INVALID_ARGUMENT"),
        (&["ask", "0x12", "x", "--json"], 65, "INVALID_ARGUMENT"),
        (&["discover", "0x12", "--json"], 65, "INVALID_ARGUMENT"),
        (&["whoami", "--json", "--", "--port", "x"], 64, "INVALID_ARGUMENT"),
    ] {
        let ended = pair.run(args);
        let event = &ended.lines()[0];
        assert_eq!(
            (ended.code, &event["type"], &event["code"]),
            (code, &json!("error"), &json!(name)),
            "{args:?}"
        );
        assert!(ended.err.starts_with("p2p-node: "), "{ended:?}");
    }
    for args in [
        &["send", "0x12"] as &[&str],
        &["send", "0x12", "x", "--ttl", "0"],
        &["send", "--topic", "t", "x", "y"],
        &["listen", "--count", "0"],
        &["discover", "0x12", "--topic", "t"],
    ] {
        let ended = pair.run(args);
        assert_eq!((ended.code, ended.out.as_str()), (64, ""), "{args:?}");
    }
    let ended = Running::start(&["whoami", "--socket", "nobody.sock"], &[], b"").end();
    assert_eq!(ended.code, 69, "{ended:?}");
    let large = "a".repeat(100_000);
    let mut input = Vec::new();
    (0..11).for_each(|_| input.extend(large.as_bytes()));
    let path = pair.daemon.path();
    let args = ["send", &pair.peer_address, "-", "--json", "--socket", path.to_str().unwrap()];
    let home = TempDir::new().unwrap();
    let file = home.path().join("large");
    std::fs::write(&file, &input).unwrap();
    let mut command = command(home.path());
    command.args(args).stdin(std::fs::File::open(&file).unwrap());
    let ended = command.output().unwrap();
    let event: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((ended.status.code(), &event["code"]), (Some(65), &json!("MESSAGE_TOO_LARGE")));
}

#[test]
fn listen_acknowledges_what_it_has_written_and_leaves_the_rest() {
    let mut pair = Pair::start(&["--ack", "manual"]);
    pair.send_to_daemon(&["one", "two", "three"]);
    let heard = pair.run(&["listen", "--count", "1"]);
    assert_eq!((heard.code, heard.out.lines().count()), (0, 1), "{heard:?}");
    assert!(heard.out.ends_with(" one\n") && heard.out.contains(&pair.peer_address), "{heard:?}");
    pair.is_delivered("one");
    assert_eq!(pair.peer.take(|event| event["type"] == "delivery"), None, "only one was heard");
    let heard = pair.run(&["listen", "--count", "2", "--json"]);
    let data: Vec<Value> = heard.lines().iter().map(|event| event["data"].clone()).collect();
    assert_eq!(data, ["two", "three"]);
    pair.is_delivered("two");
    pair.is_delivered("three");
}

#[test]
fn listen_through_a_daemon_that_acknowledges_prints_all_that_it_was_given() {
    let mut pair = Pair::start(&[]);
    pair.send_to_daemon(&["one", "two"]);
    ["one", "two"].iter().for_each(|id| pair.is_delivered(id));
    let heard = pair.run(&["listen", "--count", "1", "--json"]);
    let data: Vec<Value> = heard.lines().iter().map(|event| event["data"].clone()).collect();
    assert_eq!((heard.code, data), (0, vec![json!("one"), json!("two")]), "nobody else would get the second");
    let heard = pair.run(&["listen", "--count", "1", "--timeout", "0.1"]);
    assert_eq!((heard.code, heard.out.as_str()), (124, ""), "{heard:?}");
    assert!(heard.err.contains("0 of 1 messages came within 100ms"), "{heard:?}");
    let heard = pair.run(&["listen", "--timeout", "0.1"]);
    assert_eq!((heard.code, heard.out.as_str()), (0, ""), "{heard:?}");
}

#[test]
fn listen_prints_broadcasts_of_its_topics_until_a_signal() {
    let mut pair = Pair::start(&[]);
    let mut listener = pair.start_command(&["listen", "--topic", "builds"]);
    pair.peer.command(json!({"type":"send","id":"b","topic":"builds","data":"\u{1b}[31mred","kind":"k"}));
    pair.peer.answer("b");
    let line = listener.line();
    assert!(line.ends_with("topic=\"builds\" kind=\"k\" \\u{1b}[31mred\n"), "{line}");
    listener.signal(Signal::INT);
    let ended = listener.end();
    assert_eq!((ended.code, ended.out.as_str()), (0, ""), "{ended:?}");
    // Mail was not for the listener.
    pair.send_to_daemon(&["mail"]);
    assert!(pair.run(&["listen", "--count", "1"]).out.ends_with(" mail\n"));
}

#[test]
fn listen_without_a_daemon_receives_with_a_node_of_its_own() {
    let (mut peer, ready) = Child::join(0xd7, 0, &[], &[]);
    let key = test_key(0xd8);
    let address =
        Running::start(&["whoami", "--json"], &[("PRIVATE_KEY", &key)], b"").end().lines()[0]["address"]
            .as_str()
            .unwrap()
            .to_owned();
    for data in ["one", "two"] {
        peer.command(json!({"type":"send","id":data,"peerId":address,"data":data}));
    }
    let args = ["listen", "--count", "1", "--timeout", "15", "--", "--bootstrap", &tcp_address(&ready)];
    let heard = Running::start(&args, &[("PRIVATE_KEY", &key)], b"").end();
    assert_eq!((heard.code, heard.out.lines().count()), (0, 1), "{heard:?}");
    peer.expect("delivery", |event| event["requestId"] == "one" && event["state"] == "delivered");
    assert_eq!(peer.take(|event| event["state"] == "delivered"), None, "the second stays with its sender");
}

#[test]
fn ask_prints_the_parts_as_they_come_and_tells_refusals_from_silence() {
    let mut pair = Pair::start(&[]);
    pair.peer.command(json!({"type":"handle","id":"h","kinds":["sum","silent"]}));
    pair.peer.answer("h");
    let to = pair.peer_address.clone();
    let mut asked = pair.start_command(&["ask", &to, "[1,2]", "--format", "json", "--kind", "sum"]);
    let request = pair.peer.expect("request", |event| event["type"] == "request");
    assert_eq!(request["data"], json!([1, 2]));
    pair.peer
        .command(json!({"type":"respond","ticket":request["ticket"],"data":"first\n\u{7}line","last":false}));
    assert_eq!(asked.line(), "first\n");
    assert_eq!(asked.line(), "\\u{7}line\n");
    pair.peer.command(json!({"type":"respond","ticket":request["ticket"],"data":{"sum":3}}));
    let asked = asked.end();
    assert_eq!((asked.code, asked.out.as_str()), (0, "{\"sum\":3}\n"), "{asked:?}");

    let asked = pair.start_command(&["ask", &to, "x", "--kind", "sum", "--json"]);
    let request = pair.peer.expect("request", |event| event["type"] == "request");
    let error = json!({"code":"DIVISION_BY_ZERO","message":"the divisor is 0"});
    pair.peer.command(json!({"type":"respond","ticket":request["ticket"],"error":error}));
    let asked = asked.end();
    let event = &asked.lines()[0];
    assert_eq!((asked.code, &event["code"]), (68, &json!("HANDLER_FAILED")), "{asked:?}");
    assert_eq!(event["details"]["code"], "DIVISION_BY_ZERO");
    let asked = pair.run(&["ask", &to, "x", "--kind", "other", "--json"]);
    assert_eq!((asked.code, &asked.lines()[0]["code"]), (68, &json!("NO_HANDLER")), "{asked:?}");
    let asked = pair.run(&["ask", &to, "x", "--kind", "silent", "--timeout", "0.5", "--json"]);
    assert_eq!((asked.code, &asked.lines()[0]["code"]), (76, &json!("DEADLINE_EXCEEDED")), "{asked:?}");
}

#[test]
fn killed_ask_cancels_its_request() {
    let mut pair = Pair::start(&[]);
    pair.peer.command(json!({"type":"handle","id":"h","kinds":["sum"]}));
    pair.peer.answer("h");
    let asked = pair.start_command(&["ask", &pair.peer_address, "x", "--kind", "sum"]);
    let request = pair.peer.expect("request", |event| event["type"] == "request");
    asked.signal(Signal::INT);
    let cancelled = pair.peer.expect("cancel", |event| event["type"] == "request_cancelled");
    assert_eq!(cancelled["ticket"], request["ticket"]);
}

#[test]
fn discover_finds_agents_by_address_and_capability() {
    let mut pair = Pair::start(&[]);
    pair.peer.command(json!({"type":"capabilities","id":"c","capabilities":["review"]}));
    pair.peer.answer("c");
    let found = pair.run(&["discover", &pair.peer_address]);
    assert!(found.code == 0 && found.out.starts_with(&pair.peer_address), "{found:?}");
    let deadline = Instant::now() + TIMEOUT;
    loop {
        // Others learn of a new capability within seconds.
        let found = pair.run(&["discover", "--capability", "review", "--json"]);
        if found.code == 0 {
            let event = &found.lines()[0];
            assert_eq!(
                (&event["type"], event["address"].as_str()),
                (&json!("peer_discovered"), Some(&*pair.peer_address))
            );
            break;
        }
        assert!(Instant::now() < deadline && found.code == 67, "{found:?}");
    }
    let found = pair.run(&["discover", "--capability", "nobody", "--json"]);
    assert_eq!((found.code, &found.lines()[0]["code"]), (67, &json!("PEER_NOT_FOUND")), "{found:?}");
    let (ready, home) = (pair.daemon.attach(json!({"inbox": false})).1, TempDir::new().unwrap());
    let mut own = command(home.path());
    own.args(["discover", &pair.peer_address, "--", "--bootstrap", &tcp_address(&ready)]);
    let found = Running::start_in(home, own, b"").end();
    assert!(found.code == 0 && found.out.starts_with(&pair.peer_address), "{found:?}");
}

#[test]
fn whoami_tells_the_same_agent_with_and_without_a_daemon() {
    let key = test_key(0xd9);
    let env: [(&str, &str); 1] = [("PRIVATE_KEY", &key)];
    let home = TempDir::new().unwrap();
    let scope = home.path().to_str().unwrap().to_owned();
    let (flags, name) = (["--lock-scope", &scope, "--name", "alice"], json!("alice"));
    let before = Running::start(&[&["whoami", "--json", "--"], &flags[..]].concat(), &env, b"").end();
    let agent = &before.lines()[0];
    assert_eq!((before.code, &agent["isRunning"], &agent["name"]), (0, &json!(false), &name), "{before:?}");
    // The daemon has the socket that belongs to its key.
    let daemon = Child::spawn(&[&["daemon"], &flags[..]].concat(), &env);
    let deadline = Instant::now() + TIMEOUT;
    let running = loop {
        let now = Running::start(&[&["whoami", "--json", "--"], &flags[..]].concat(), &env, b"").end();
        if now.lines()[0]["isRunning"] == true {
            break now.lines()[0].clone();
        }
        assert!(Instant::now() < deadline, "{now:?}");
    };
    assert_eq!((&running["address"], &running["peerId"]), (&agent["address"], &agent["peerId"]));
    assert!(running["addrs"][0].as_str().unwrap().contains("/p2p/"), "{running}");
    let text = Running::start(&[&["whoami", "--"], &flags[..]].concat(), &env, b"").end().out;
    assert!(text.starts_with(&format!("address   {}\n", agent["address"].as_str().unwrap())), "{text}");
    assert!(text.contains("\nlistens   /ip4/"), "{text}");
    drop(daemon);
    let nobody = Running::start(&["whoami"], &[], b"").end();
    assert_eq!(
        (nobody.code, nobody.out.as_str()),
        (78, ""),
        "an agent without a key is another one each time"
    );
}
