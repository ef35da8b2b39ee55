//! Agents, servers and programs that do wrong things.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::{Child, TIMEOUT, test_key};
use crate::http::{Response, Server, address, call, card, post, respond, respond_json, send, stream};
use crate::{NOBODY, Pair, text};

const CARD: &str = "/.well-known/agent-card.json";

/// Answers the next request of this kind as a program of an agent may.
fn answer(agent: &mut Child, kind: &str, data: &Value) {
    let request = agent.expect(kind, |event| event["type"] == "request" && event["kind"] == kind);
    agent.command(json!({"type":"respond","ticket":request["ticket"],"data":data}));
}

#[test]
fn answers_of_an_agent_that_are_not_a2a_are_clean_errors() {
    let mut pair = Pair::new(None);
    pair.agent.command(json!({"type":"handle","id":"h","kinds":["a2a", "a2a.card"]}));
    pair.agent.answer("h");
    let (gateway, agent) = (address(&pair.of_asker["a2a"]), pair.address());
    let hostile = [
        json!(1),
        json!([]),
        json!({}),
        json!({"result":1,"error":{"code":1,"message":"x"}}),
        json!({"error":"x"}),
    ];
    for data in hostile {
        for method in ["GetTask", "SendStreamingMessage", "GetExtendedAgentCard"] {
            let asking = std::thread::spawn({
                let agent = agent.clone();
                move || post(gateway, &agent, &call(method, json!({"id": "1"})))
            });
            answer(&mut pair.agent, "a2a", &data);
            let error = asking.join().unwrap();
            assert_eq!((&error["id"], &error["error"]["code"]), (&json!("mine"), &json!(-32006)), "{data}");
        }
    }
    // Its own id, and fields that nobody asked for.
    let asking = std::thread::spawn({
        let agent = agent.clone();
        move || post(gateway, &agent, &call("GetTask", json!({"id": "1"})))
    });
    answer(&mut pair.agent, "a2a", &json!({"id":"other","result":{"id":"1"},"x":1}));
    assert_eq!(asking.join().unwrap(), json!({"jsonrpc":"2.0","id":"mine","result":{"id":"1"}}));
}

#[test]
fn card_that_the_agent_did_not_sign_is_refused() {
    let server = Server::new(|_, stream| respond_json(stream, &card("/rpc")));
    let mut pair = Pair::new(Some(&server.url()));
    let gateway = address(&pair.of_asker["a2a"]);
    let path = |agent: &str, card: &str| format!("/agents/{agent}/{card}");
    let genuine = send(gateway, "GET", &path(&pair.address(), "signed-agent-card.json"), "", "").json();
    let known = ["name", "signatures", "supportedInterfaces"].map(str::to_owned);
    assert_eq!(genuine.as_object().unwrap().keys().cloned().collect::<Vec<_>>(), known);
    let (mut other, of_other) = Child::join(0xa3, 0, &[], &[crate::child::tcp_address(&pair.of_asker)]);
    pair.asker.until("connected", |status| status["peers"].as_u64() >= Some(2));
    other.command(json!({"type":"handle","id":"h","kinds":["a2a.card"]}));
    other.answer("h");
    let mut changed = genuine.clone();
    changed["name"] = json!("better");
    let mut unsigned = genuine.clone();
    unsigned["signatures"] = json!([]);
    for card in [Value::Null, json!("card"), unsigned, changed, genuine] {
        let other_address = text(&of_other["address"]);
        for file in ["signed-agent-card.json", &CARD[1..]] {
            let path = path(&other_address, file);
            let asking = std::thread::spawn(move || send(gateway, "GET", &path, "", ""));
            answer(&mut other, "a2a.card", &card);
            let Response { status, body } = asking.join().unwrap();
            assert_eq!(status, 502, "{card}: {body}");
        }
    }
}

/// Asks the agent as a program without a gateway does, and returns the answer.
fn ask(pair: &mut Pair, id: &str, data: &Value) -> Value {
    let agent = pair.address();
    pair.asker.command(json!({"type":"request","id":id,"peerId":agent,"kind":"a2a","data":data}));
    pair.asker.expect(id, |event| {
        (event["type"] == "response" && event["requestId"] == id)
            || (event["type"] == "error" && event["id"] == id)
    })
}

#[test]
fn calls_of_an_agent_that_are_not_a2a_never_reach_the_server() {
    let server = Server::new(|_, stream| respond_json(stream, &json!({"jsonrpc":"2.0","id":1,"result":{}})));
    let mut pair = Pair::new(Some(&server.url()));
    let rpc = |method: &str, params: Value| json!({"call": {"jsonrpc":"2.0","id":1,"method":method,"params":params}});
    let hook = json!({"url": "http://10.0.0.1/"});
    for (number, (data, code)) in [
        (json!(1), -32600),
        (json!({"call": []}), -32600),
        (rpc("message/send", json!({"configuration":{"pushNotificationConfig":hook}})), -32601),
        (rpc("SendMessage", json!({"configuration":{"taskPushNotificationConfig":hook}})), -32602),
        (rpc("SendMessage", json!({"configuration":{"task_push_notification_config":hook}})), -32602),
        (rpc("CreateTaskPushNotificationConfig", hook.clone()), -32602),
        (rpc("SendStreamingMessage", json!({})), -32600),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = ask(&mut pair, &format!("q{number}"), &data);
        assert_eq!(answer["data"]["error"]["code"], code, "{data}: {answer}");
    }
    // A broadcast.
    pair.agent.command(json!({"type":"subscribe","id":"s","topic":"t"}));
    pair.agent.answer("s");
    let broadcast =
        json!({"type":"request","id":"b","topic":"t","kind":"a2a","deadlineMs":15_000,"quorum":1});
    let mut broadcast = broadcast;
    broadcast["data"] = rpc("GetTask", json!({"id":"1"}));
    pair.asker.command(broadcast);
    let answer = pair.asker.expect("b", |event| event["requestId"] == "b" || event["id"] == "b");
    assert_eq!(answer["error"]["handlerCode"], "INVALID_ARGUMENT", "{answer}");
    assert_eq!(server.paths(), Vec::<String>::new());
    pair.asker.command(
        json!({"type":"request","id":"push","peerId":pair.address(),"kind":"a2a.push","data":{"id":"00"}}),
    );
    let error = pair.asker.expect("push", |event| event["id"] == "push");
    assert_eq!((&error["code"], &error["details"]["code"]), (&json!("HANDLER_FAILED"), &json!("NOT_FOUND")));
}

#[test]
fn gateway_connects_to_the_configured_server_alone() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let other = format!("http://{}", elsewhere.local_addr().unwrap());
    let interface = format!("{other}/rpc");
    let server = Server::new(move |path, stream| match path {
        CARD => respond_json(stream, &card(&interface)),
        _ => respond(stream, "302 Found", &format!("Location: {other}/rpc\r\n"), ""),
    });
    let pair = Pair::new(Some(&server.url()));
    let gateway = address(&pair.of_asker["a2a"]);
    let answer = post(gateway, &pair.address(), &call("GetTask", json!({"id":"1"})));
    let info = &answer["error"]["data"][0]["metadata"];
    assert_eq!(info, &json!({"code":"HANDLER_FAILED","handlerCode":"AGENT_UNAVAILABLE"}), "{answer}");
    let got = server.request("/rpc");
    assert!(
        got.head
            .to_lowercase()
            .contains(&format!("x-p2p-agent: {}", text(&pair.of_asker["address"]).to_lowercase()))
    );
    assert!(elsewhere.accept().is_err(), "the gateway followed the card, or the redirect");
}

#[test]
fn answers_of_a_server_that_are_too_long_or_no_json_are_clean_errors() {
    for (path, code) in [
        ("/long", "ANSWER_TOO_LONG"),
        ("/longer", "ANSWER_TOO_LONG"),
        ("/page", "AGENT_UNAVAILABLE"),
        ("/502", "AGENT_UNAVAILABLE"),
    ] {
        let server = Server::new(move |asked, stream| match asked {
            CARD => respond_json(stream, &card(path)),
            // Longer than a message, and than what the gateway reads.
            "/long" => respond_json(stream, &json!({"result":"x".repeat((1 << 20) - 100)})),
            "/longer" => respond_json(stream, &json!({"result":"x".repeat(1 << 21)})),
            "/502" => respond(stream, "502 Bad Gateway", "", "{}"),
            _ => respond(stream, "200 OK", "", "<html>"),
        });
        let pair = Pair::new(Some(&server.url()));
        let gateway = address(&pair.of_asker["a2a"]);
        let answer = post(gateway, &pair.address(), &call("GetTask", json!({"id":"1"})));
        assert_eq!(answer["error"]["data"][0]["metadata"]["handlerCode"], code, "{path}: {answer}");
        let is_unread = text(&answer["error"]["message"]).contains("more than 1048576 bytes");
        assert_eq!(is_unread, path == "/longer", "{answer}");
    }
}

#[test]
fn stream_of_a_client_that_leaves_ends_at_the_server() {
    let (left, has_left) = channel();
    let server = Server::new(move |path, mut stream| match path {
        CARD => respond_json(stream, &card("/rpc")),
        _ => {
            let event = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"task\":{\"id\":\"1\"}}}\n\n";
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
            stream.write_all(format!("{head}{event}").as_bytes()).unwrap();
            let left = left.clone();
            std::thread::spawn(move || {
                let mut rest = [0; 1];
                left.send(stream.read(&mut rest).unwrap_or(0)).unwrap();
            });
        }
    });
    let pair = Pair::new(Some(&server.url()));
    let gateway = address(&pair.of_asker["a2a"]);
    let open = stream(gateway, &pair.address(), &call("SendStreamingMessage", json!({})));
    assert!(has_left.try_recv().is_err(), "the stream is open");
    drop(open);
    assert_eq!(has_left.recv_timeout(TIMEOUT), Ok(0));
}

#[test]
fn requests_of_pages_strangers_and_broken_programs_are_refused() {
    const TOKEN: &str = "a2a-test-token-of-32-characters";
    let env = [("PRIVATE_KEY", &*test_key(0xa4)), ("P2P_NODE_A2A_TOKEN", TOKEN)];
    let mut node = Child::spawn(&["--a2a", "127.0.0.1:0"], &env);
    node.command(json!({"type":"connect","protocol":1,"id":"connect"}));
    let ready = node.expect("ready", |event| event["type"] == "ready");
    let gateway = address(&ready["a2a"]);
    let agent = format!("/agents/{}", text(&ready["address"]));
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let get = call("GetTask", json!({"id":"1"}));
    let status = |method: &str, path: &str, headers: &str| send(gateway, method, path, headers, &get).status;
    assert_eq!(status("POST", &agent, "A2A-Version: 1.0\r\n"), 401);
    assert_eq!(status("GET", &format!("{agent}{CARD}"), "Authorization: Bearer a2a-test\r\n"), 401);
    assert_eq!(status("POST", &agent, &format!("{token}Host: evil.example\r\n")), 421);
    assert_eq!(status("POST", &agent, &format!("{token}Origin: http://127.0.0.1\r\n")), 403);
    assert_eq!(status("GET", &agent, &token), 405);
    assert_eq!(status("POST", &format!("{agent}{CARD}"), &token), 405);
    assert_eq!(status("POST", "/agents/alice", &token), 404);
    let id = "0".repeat(32);
    assert_eq!(status("POST", &format!("/push/{}/{id}/{id}", text(&ready["address"])), ""), 404);
    let version = format!("{token}A2A-Version: 1.0\r\n");
    for (headers, body, code) in [
        (&version, "{", -32700),
        (&version, "[]", -32600),
        (&version, &"x".repeat((1 << 20) + 1), -32600),
        (&version, &call("message/send", json!({})), -32601),
        (&version, &call("CreateTaskPushNotificationConfig", json!({"url":"http://10.0.0.1/"})), -32602),
        (&token, &get, -32009),
        (&format!("{token}A2A-Version: 0.3\r\n"), &get, -32009),
    ] {
        let answer = send(gateway, "POST", &agent, headers, body).json();
        assert_eq!(answer["error"]["code"], code, "{answer}");
    }
    node.until("counted", |status| status["counters"]["a2a_requests_refused"] == 4);
}

/// Returns an address on which nothing listens.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Waits until a call to nobody ends with this code.
fn until_code(gateway: &str, code: &str) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let gateway = gateway.parse().unwrap();
        let answer =
            TcpStream::connect(gateway).is_ok().then(|| post(gateway, NOBODY, &call("GetTask", json!({}))));
        let found = answer.as_ref().map(|answer| text(&answer["error"]["data"][0]["reason"]));
        if found.as_deref() == Some(code) {
            return;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn gateway_waits_for_the_parent_to_start_the_node() {
    let addr = free_address();
    let mut node = Child::spawn(&["--a2a", &addr], &[]);
    until_code(&addr, "BUSY");
    node.command(json!({"type":"connect","protocol":1,"id":"connect"}));
    let ready = node.expect("ready", |event| event["type"] == "ready");
    assert_eq!(ready["a2a"], format!("http://{addr}"));
    until_code(&addr, "PEER_NOT_FOUND");
}

#[test]
fn daemon_has_a_gateway() {
    let addr = free_address();
    let key = test_key(0xa5);
    let home = tempfile::TempDir::new().unwrap();
    let socket = home.path().join("node.sock").display().to_string();
    let _daemon = Child::spawn(&["daemon", "--a2a", &addr, "--socket", &socket], &[("PRIVATE_KEY", &key)]);
    until_code(&addr, "PEER_NOT_FOUND");
}

#[test]
fn settings_that_would_open_the_gateway_to_others_are_refused_at_the_start() {
    let used = TcpListener::bind("127.0.0.1:0").unwrap();
    let used = used.local_addr().unwrap().to_string();
    for (args, env, code, reason, exit) in [
        (&["--a2a", "0.0.0.0:0"][..], &[][..], "INVALID_ARGUMENT", "requires P2P_NODE_A2A_TOKEN", 78),
        (
            &["--a2a", "127.0.0.1:0"],
            &[("P2P_NODE_A2A_TOKEN", "short")],
            "INVALID_ARGUMENT",
            "at least 16",
            78,
        ),
        (&["--a2a-server", "http://127.0.0.1:1"], &[], "INVALID_ARGUMENT", "give --a2a as well", 78),
        (
            &["--a2a", "127.0.0.1:0", "--a2a-server", "http://u:p@127.0.0.1"],
            &[],
            "INVALID_ARGUMENT",
            "without a password",
            64,
        ),
        (&["--a2a", &used], &[], "LISTEN_FAILED", "cannot listen", 69),
    ] {
        let child = Child::spawn(args, env);
        let error = child.expect("error", |event| event["type"] == "error");
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().unwrap().contains(reason), "{error}");
        assert_eq!(child.finish().0, exit, "{args:?}");
    }
}
