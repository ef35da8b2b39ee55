//! Rules of the pipe protocol, tested with the real process.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{Child, command, test_key};

const UNKNOWN: &str = "0x000000000000000000000000000000000000dEaD";

fn single(key: u8) -> Child {
    Child::join(key, 0, &[], &[]).0
}

#[test]
fn node_ends_at_eof() {
    let (code, lines, _) = Child::spawn(&[], &[]).finish();
    assert_eq!(code, 0);
    assert!(lines.iter().all(|line| line["type"] == "log"), "{lines:#?}");
}

#[test]
fn piped_commands_are_executed_until_eof() {
    let mut child = Child::spawn(&[], &[]);
    // A byte order mark, a carriage return, blank lines, and no newline at the end.
    child.write(
        b"\xEF\xBB\xBF{\"type\":\"connect\",\"port\":0,\"protocol\":1}\r\n\n  \n{\"type\":\"ping\",\"id\":7}",
    );
    let (code, lines, _) = child.finish();
    assert_eq!(code, 0);
    let types: Vec<_> =
        lines.iter().filter(|line| line["type"] != "log").map(|line| line["type"].clone()).collect();
    assert_eq!(types, ["ready", "result", "closing"], "{lines:#?}");
    assert_eq!(lines.last().unwrap()["reason"], "eof");
}

#[test]
fn undelivered_mail_at_eof_fails_and_exits_75() {
    let mut child = Child::spawn(&["--drain-timeout", "1"], &[]);
    child.write(b"{\"type\":\"connect\",\"protocol\":1}\n");
    child.command(json!({"type":"send","peerId":UNKNOWN,"data":1,"id":"m"}));
    let (code, lines, _) = child.finish();
    let delivery = lines.iter().find(|line| line["type"] == "delivery").expect("a delivery");
    assert_eq!((&delivery["state"], &delivery["code"]), (&json!("failed"), &json!("SHUTTING_DOWN")));
    assert_eq!(code, 75);
}

#[test]
fn signal_ends_the_node_after_draining_and_second_signal_at_once() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut child = single(0x60);
        child.signal(signal);
        assert_eq!(child.wait().code(), Some(0));
        assert_eq!(child.rest().last().unwrap()["reason"], "signal");
    }
    let mut child = Child::spawn(&["--drain-timeout", "600"], &[("PRIVATE_KEY", &test_key(0x61))]);
    child.write(b"{\"type\":\"connect\",\"protocol\":1}\n");
    child.command(json!({"type":"send","peerId":UNKNOWN,"data":1,"id":"m"}));
    child.answer("m");
    child.signal(Signal::TERM);
    // The signal and stdin are independent, so the node may still answer some commands.
    let closing = (0..).any(|number| {
        let id = format!("late-{number}");
        child.command(json!({"type":"ping","id":id}));
        child.answer(&id)["code"] == "SHUTTING_DOWN"
    });
    assert!(closing);
    child.signal(Signal::TERM);
    assert_eq!(child.wait().code(), Some(75));
}

#[test]
fn closed_stdout_ends_the_node_with_0() {
    let home = TempDir::new().unwrap();
    let mut child = command(home.path()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"{\"type\":\"connect\"}\n{\"type\":\"ping\",\"id\":1}\n").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the node does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert_eq!(status.code(), Some(0));
}

#[test]
fn bad_lines_are_answered_with_their_code() {
    let mut child = Child::spawn(&[], &[]);
    child.command(json!({"type":"status","id":"early"}));
    assert_eq!(child.answer("early")["code"], "NOT_CONNECTED");
    child.command(json!({"type":"connect","protocol":1,"id":"c"}));
    child.answer("c");
    let cases: [(&[u8], &str); 8] = [
        (b"nonsense\n", "INVALID_JSON"),
        (b"[]\n", "INVALID_JSON"),
        (b"{\"type\":\"fly\"}\n", "UNKNOWN_COMMAND"),
        (b"{\"type\":\"send\",\"peerId\":1,\"data\":2}\n", "INVALID_ARGUMENT"),
        (b"{\"type\":\"send\",\"data\":2}\n", "INVALID_ARGUMENT"),
        (b"{\"type\":\"ping\xFF\"}\n", "INVALID_UTF8"),
        (b"{\"type\":\"send\",\"topic\":\"node-status\",\"data\":2}\n", "RESERVED_TOPIC"),
        (b"{\"type\":\"connect\"}\n", "ALREADY_CONNECTED"),
    ];
    for (line, code) in cases {
        child.write(line);
        let error = child.expect(code, |event| event["type"] == "error");
        assert_eq!(error["code"], code, "{error}");
        assert!(error["retryable"].is_boolean() && !error["message"].as_str().unwrap().is_empty());
    }
    child.write(&[b'x'; (1 << 20) + 1]);
    child.write(b"\n");
    assert_eq!(child.expect("LINE_TOO_LONG", |event| event["type"] == "error")["code"], "LINE_TOO_LONG");
    child.command(json!({"type":"discover","timeoutMs":60_000,"id":"twice"}));
    child.command(json!({"type":"ping","id":"twice"}));
    let error = child.expect("DUPLICATE_ID", |event| event["type"] == "error");
    assert_eq!((&error["code"], &error["details"]["id"]), (&json!("DUPLICATE_ID"), &json!("twice")));
    assert!(error.get("id").is_none(), "the id belongs to the first command");
    child.command(json!({"type":"ping","id":"alive"}));
    assert_eq!(child.answer("alive")["type"], "result");
}

#[test]
fn bad_line_is_answered_with_its_id_and_line_number() {
    let mut child = Child::spawn(&[], &[]);
    child.write(b"\n{\"type\":\"connect\",\"protocol\":1,\"id\":\"c\"}\n");
    child.answer("c");
    let filler = "x".repeat(1 << 20);
    let cases = [
        (br#"{"type":"send","topic":"t","data":NaN,"id":"nan"}"#.to_vec(), "INVALID_JSON"),
        (b"{\"type\":\"send\",\"topic\":\"t\",\"data\":\"\xff\",\"id\":\"utf\"}".to_vec(), "INVALID_UTF8"),
        (
            format!(r#"{{"type":"send","id":"long","topic":"t","data":"{filler}"}}"#).into_bytes(),
            "LINE_TOO_LONG",
        ),
        (
            format!(r#"{{"type":"send","topic":"t","data":"{filler}","id":"far"}}"#).into_bytes(),
            "LINE_TOO_LONG",
        ),
        (br#"{"type":"subscribe","topic":"t","id":null}"#.to_vec(), "INVALID_ARGUMENT"),
    ];
    let ids = [json!("nan"), json!("utf"), json!("long"), Value::Null, Value::Null];
    for ((line, code), (number, id)) in cases.into_iter().zip((3..).zip(ids)) {
        child.write(&[&line[..], b"\n"].concat());
        let error = child.expect(code, |event| event["type"] == "error");
        assert_eq!((&error["code"], &error["id"]), (&json!(code), &id), "{error}");
        assert_eq!(error["details"]["line"], number, "{error}");
    }
    child.command(json!({"type":"status","id":"s"}));
    assert_eq!(
        child.answer("s")["status"]["topics"],
        json!([]),
        "the command without a valid id was not executed"
    );
}

#[test]
fn connect_negotiates_protocol_and_max_line_bytes() {
    let mut child = Child::spawn(&[], &[]);
    child.command(json!({"type":"connect","protocol":0,"id":"zero"}));
    let refused = child.answer("zero");
    assert_eq!(
        (&refused["code"], &refused["details"]),
        (&json!("UNSUPPORTED_PROTOCOL"), &json!({"supported":[1]}))
    );
    for bytes in [4095, (1 << 20) + 1] {
        child.command(json!({"type":"connect","protocol":1,"maxLineBytes":bytes,"id":"line"}));
        assert_eq!(child.answer("line")["code"], "INVALID_ARGUMENT");
    }
    // A parent of a later version learns the supported version.
    child.command(json!({"type":"connect","protocol":99,"id":"later"}));
    let refused = child.answer("later");
    assert_eq!(
        (&refused["code"], &refused["details"]),
        (&json!("UNSUPPORTED_PROTOCOL"), &json!({"supported":[1]}))
    );
    child.command(json!({"type":"connect","protocol":1,"maxLineBytes":4096,"later":true,"id":"c"}));
    let ready = child.expect("ready", |event| event["type"] == "ready");
    assert_eq!((&ready["protocol"], &ready["limits"]["maxLineBytes"]), (&json!(1), &json!(4096)));
    assert_eq!(child.answer("c")["type"], "result");
}

#[test]
fn numbers_in_data_arrive_unchanged() {
    let (alice, alice_ready, mut bob, _) = pair(0x6C);
    let data =
        "[9007199254740993,-18446744073709551617,0.1000000000000000055511151231257827,1e308,\"\\u00e9\"]";
    let to = alice_ready["address"].as_str().unwrap();
    bob.write(format!("{{\"type\":\"send\",\"peerId\":\"{to}\",\"data\": [ {} }}\n", &data[1..]).as_bytes());
    assert!(
        alice.raw_line("mail", |line| line.contains("\"message\"")).contains(&format!("\"data\":{data}"))
    );
}

#[test]
fn every_id_has_one_terminal_line_and_seq_has_no_gaps() {
    let mut child = single(0x62);
    let mut lines = Vec::new();
    for number in 0..2000 {
        let command = match number % 5 {
            0 => json!({"type":"ping","id":number}),
            1 => json!({"type":"status","id":number}),
            2 => json!({"type":"subscribe","topic":format!("t{}", number % 7),"id":number}),
            3 => json!({"type":"send","peerId":"nobody","data":number,"id":number}),
            _ => json!({"type":"discover","timeoutMs":number % 50,"id":number}),
        };
        lines.extend_from_slice(format!("{command}\n").as_bytes());
    }
    child.write(&lines);
    let mut answers: BTreeMap<i64, u32> = BTreeMap::new();
    while answers.len() < 2000 {
        let event = child.expect("an answer", |event| event["id"].is_i64());
        *answers.entry(event["id"].as_i64().unwrap()).or_default() += 1;
    }
    child.command(json!({"type":"shutdown","id":"bye"}));
    let rest = child.rest();
    assert!(rest.iter().all(|event| !event["id"].is_i64()), "no second answer");
    assert!(answers.values().all(|count| *count == 1));
    assert_eq!(child.wait().code(), Some(0));

    let mut child = single(0x62);
    for number in 0..500 {
        child.command(json!({"type":"ping","id":number}));
    }
    child.command(json!({"type":"shutdown"}));
    let rest = child.rest();
    let numbers: Vec<u64> = rest.iter().map(|event| event["seq"].as_u64().expect("numbered")).collect();
    // `single` has already taken `ready` and the answer to `connect`.
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    assert_eq!(numbers[0], 3);
}

#[test]
fn parent_without_protocol_sees_only_events_of_the_first_sidecar() {
    let (_bootstrap, entry) = Child::join(0x63, 0, &["--role", "bootstrap"], &[]);
    let mut child = Child::spawn(&[], &[]);
    child.command(json!({"type":"connect","port":0,"bootstrapPeers":[entry["addrs"][0]]}));
    child.command(json!({"type":"subscribe","topic":"t"}));
    child.command(json!({"type":"discover","topic":"t"}));
    child.command(json!({"type":"send","peerId":entry["address"],"data":"hello"}));
    child.command(json!({"type":"send","peerId":"nonsense","data":"hello"}));
    child.expect("the bootstrap", |event| event["type"] == "peer_discovered");
    child.command(json!({"type":"shutdown"}));
    for event in child.rest() {
        let known = ["ready", "message", "peer_discovered", "error", "log"];
        assert!(known.contains(&event["type"].as_str().unwrap()), "{event}");
    }
    assert_eq!(child.wait().code(), Some(0));
}

#[test]
fn identity_in_use_and_port_in_use_are_refused() {
    let home = TempDir::new().unwrap();
    let scope = home.path().to_str().unwrap().to_owned();
    let shared = [("PRIVATE_KEY", test_key(0x64)), ("P2P_NODE_LOCK_SCOPE", scope)];
    let shared: Vec<(&str, &str)> = shared.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut first = Child::spawn(&[], &shared);
    first.command(json!({"type":"connect"}));
    let ready = first.expect("ready", |event| event["type"] == "ready");
    // With other temporary directories, and without a drain timeout.
    let other_env =
        [&shared[..], &[("XDG_RUNTIME_DIR", "/nonexistent"), ("TMPDIR", "/nonexistent")]].concat();
    let (code, lines, _) = Child::spawn(&["--drain-timeout", "0"], &other_env).finish();
    assert_eq!(lines.last().unwrap()["code"], "IDENTITY_IN_USE", "{lines:#?}");
    assert_eq!((code, &lines.last().unwrap()["retryable"]), (73, &json!(false)));
    let text = lines[0]["message"].as_str().unwrap();
    assert!(
        text.contains(&format!("process {}", first.id())) && text.contains("waiting up to"),
        "{lines:#?}"
    );
    drop(first);

    let (_other, ready_other) = Child::join(0x65, 0, &[], &[]);
    let port = ready_other["addrs"][0].as_str().unwrap().split('/').nth(4).unwrap().to_owned();
    let mut third = Child::spawn(&["-p", &port], &[]);
    third.command(json!({"type":"connect","id":"c"}));
    assert_eq!(third.answer("c")["code"], "LISTEN_FAILED");
    assert_eq!(third.wait().code(), Some(69));
    assert!(ready["peerId"].is_string());
}

#[test]
fn successor_waits_for_the_draining_predecessor() {
    let home = TempDir::new().unwrap();
    let scope = home.path().to_str().unwrap();
    let key = test_key(0x6A);
    let env = [("PRIVATE_KEY", key.as_str()), ("P2P_NODE_LOCK_SCOPE", scope)];
    let mut first = Child::spawn(&["--drain-timeout", "2"], &env);
    first.command(json!({"type":"connect","protocol":1}));
    first.command(json!({"type":"send","peerId":UNKNOWN,"data":1,"id":"m"}));
    first.answer("m");
    // As if its parent had crashed: the node drains its mail until the drain timeout.
    first.close_stdin();
    let mut second = Child::spawn(&["--drain-timeout", "2"], &env);
    second.command(json!({"type":"connect","protocol":1,"id":"c"}));
    second.expect("a log that it waits", |event| {
        event["type"] == "log" && event["message"].as_str().unwrap().contains("waiting up to")
    });
    assert_eq!(second.answer("c")["type"], "result");
    assert_eq!(first.wait().code(), Some(75));
}

#[test]
fn private_key_is_never_logged() {
    let key = test_key(0x66);
    let mut child = Child::spawn(&["--log-level", "trace"], &[("PRIVATE_KEY", &key)]);
    child.command(json!({"type":"connect","protocol":1}));
    child.command(json!({"type":"status","id":"s"}));
    let (code, lines, stderr) = child.finish();
    assert_eq!(code, 0);
    assert!(!stderr.is_empty(), "stderr is empty");
    let bare = key.trim_start_matches("0x");
    assert!(!stderr.contains(bare) && !serde_json::to_string(&lines).unwrap().contains(bare));
}

/// Starts two agents that know each other.
fn pair(key: u8) -> (Child, Value, Child, Value) {
    let (alice, alice_ready) = Child::join(key, 0, &[], &[]);
    let entry = alice_ready["addrs"][0].as_str().unwrap().to_owned();
    let (bob, bob_ready) = Child::join(key + 1, 0, &[], &[entry]);
    (alice, alice_ready, bob, bob_ready)
}

#[test]
fn payloads_arrive_unchanged_up_to_the_limits() {
    let (mut alice, alice_ready, mut bob, bob_ready) = pair(0x68);
    let direct = bob_ready["limits"]["maxDirectBytes"].as_u64().unwrap() as usize;
    let topic = bob_ready["limits"]["maxTopicBytes"].as_u64().unwrap() as usize;
    let to = alice_ready["address"].as_str().unwrap();

    let largest = "x".repeat(direct - 2);
    bob.command(json!({"type":"send","peerId":to,"data":largest,"id":"largest"}));
    assert_eq!(alice.expect("mail", |event| event["type"] == "message")["data"], largest.as_str());
    assert_eq!(bob.expect("delivery", |event| event["requestId"] == "largest")["state"], "delivered");
    bob.command(json!({"type":"send","peerId":to,"data":format!("{largest}x"),"id":"larger"}));
    assert_eq!(bob.answer("larger")["code"], "MESSAGE_TOO_LARGE");

    alice.command(json!({"type":"subscribe","topic":"t","id":"sub"}));
    alice.answer("sub");
    let largest = "y".repeat(topic - 2);
    bob.command(json!({"type":"send","topic":"t","data":largest,"id":"topic"}));
    bob.answer("topic");
    assert_eq!(alice.expect("broadcast", |event| event["type"] == "message")["data"], largest.as_str());
    bob.command(json!({"type":"send","topic":"t","data":format!("{largest}y"),"id":"topic-larger"}));
    assert_eq!(bob.answer("topic-larger")["code"], "MESSAGE_TOO_LARGE");

    bob.command(json!({"type":"send","peerId":to,"data":"AAEC/w==","encoding":"base64","id":"bytes"}));
    let message = alice.expect("bytes", |event| event["type"] == "message");
    assert_eq!((&message["data"], &message["encoding"]), (&json!("AAEC/w=="), &json!("base64")));
    bob.command(json!({"type":"send","peerId":to,"data":"not base64!","encoding":"base64","id":"bad"}));
    assert_eq!(bob.answer("bad")["code"], "INVALID_ARGUMENT");

    // Unicode line separators, and text that looks like another event.
    let unusual = json!({"text":"a\u{2028}b\u{85}c\n{\"type\":\"ready\"}"});
    bob.command(json!({"type":"send","peerId":to,"data":unusual,"replyTo":"m-1","conversationId":"c","kind":"vote","priority":"high"}));
    let message = alice.expect("unusual text", |event| event["type"] == "message");
    assert_eq!(message["data"], unusual);
    assert_eq!((&message["replyTo"], &message["conversationId"]), (&json!("m-1"), &json!("c")));
    assert_eq!((&message["kind"], &message["priority"]), (&json!("vote"), &json!("high")));
}

#[test]
fn flood_of_messages_arrives_complete_and_in_order() {
    const FLOOD: usize = 20_000;
    let (alice, alice_ready, mut bob, _bob_ready) = pair(0x6A);
    let to = alice_ready["address"].as_str().unwrap().to_owned();
    let writer = std::thread::spawn(move || {
        for number in 0..FLOOD {
            bob.command(json!({"type":"send","peerId":to,"data":number}));
        }
        bob
    });
    for number in 0..FLOOD {
        let message = alice.expect("the next message", |event| event["type"] == "message");
        assert_eq!(message["data"], number);
    }
    let bob = writer.join().unwrap();
    for _ in 0..FLOOD {
        let delivery = bob.expect("delivery", |event| event["type"] == "delivery");
        assert_eq!(delivery["state"], "delivered");
    }
}
