//! Logs on stderr: what they contain at the highest level, and their format.

use serde_json::{Value, json};

use crate::child::{Child, tcp_address, test_key};

/// The agent's key, in the form that a log could show.
const KEY: &str = "5ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7";
/// A topic that no log may name.
const TOPIC: &str = "unspeakable-topic-of-the-test";
/// A password in the URL of a server.
const PASSWORD: &str = "password-of-the-rpc-server";

/// Returns the forms in which a program may print this text: as it is, in hexadecimal, in base64
/// without what depends on its neighbours, and as a list of numbers.
fn forms(text: &str) -> Vec<String> {
    use base64::Engine;
    let bytes = text.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let base64 = (0..3).map(|start| {
        let whole = &bytes[start..start + (bytes.len() - start) / 3 * 3];
        base64::engine::general_purpose::STANDARD_NO_PAD.encode(whole)
    });
    [text.to_owned(), hex.to_uppercase(), hex, list].into_iter().chain(base64).collect()
}

fn check_is_secret(what: &str, secret: &str, log: &str) {
    for form in forms(secret) {
        if let Some(line) = log.lines().find(|line| line.contains(&form)) {
            panic!("a log shows {what}: {line}");
        }
    }
}

fn start(key: &str, args: &[&str], bootstraps: &[String]) -> (Child, Value) {
    // A server that refuses connections: the node logs that it cannot read the registry.
    let rpc_url = format!("http://user:{PASSWORD}@127.0.0.1:9/{PASSWORD}");
    let registry = ("REGISTRY_ADDRESS", "0x0000000000000000000000000000000000000001");
    let env = [("PRIVATE_KEY", key), ("RPC_URL", &rpc_url), registry];
    let mut node = Child::spawn(&[args, &["--log-level", "trace"]].concat(), &env);
    node.command(json!({"type":"connect","port":0,"bootstrapPeers":bootstraps,"protocol":1,"id":"connect"}));
    let ready = node.expect("ready", |event| event["type"] == "ready");
    (node, ready)
}

#[test]
fn logs_at_level_trace_show_no_key_no_payload_and_no_topic() {
    let payload = "payload-that-nobody-logs";
    let (mut recipient, ready) = start(&test_key(0xC1), &[], &[]);
    let (mut sender, _) = start(KEY, &["--log-format", "json"], &[tcp_address(&ready)]);
    recipient.command(json!({"type":"subscribe","topic":TOPIC,"id":"subscribe"}));
    recipient.answer("subscribe");
    sender.command(json!({"type":"send","peerId":ready["address"],"data":{"text":payload},"id":"mail"}));
    recipient.expect("the mail", |event| event["data"]["text"] == payload);
    sender.expect("the delivery", |event| event["type"] == "delivery" && event["state"] == "delivered");
    sender.command(json!({"type":"send","topic":TOPIC,"data":payload,"id":"broadcast"}));
    recipient.expect("the broadcast", |event| event["type"] == "message" && event["data"] == payload);
    for (node, is_json) in [(sender, true), (recipient, false)] {
        let (code, lines, stderr) = node.finish();
        assert_eq!(code, 0, "{stderr}");
        let of_libraries = if is_json { "\"target\":\"libp2p_swarm\"" } else { "libp2p_swarm:" };
        assert!(stderr.contains(of_libraries) && stderr.contains("TRACE"), "{}", &stderr[..2000]);
        let logs = lines.iter().filter(|event| ["log", "error"].contains(&event["type"].as_str().unwrap()));
        let stdout: String = logs.map(|event| format!("{event}\n")).collect();
        for log in [&stderr, &stdout] {
            check_is_secret("the payload", payload, log);
            check_is_secret("the topic", TOPIC, log);
            check_is_secret("the password of a server", PASSWORD, log);
            check_is_secret("the key", KEY, log);
            let key: Vec<String> = hex::decode(KEY).unwrap().iter().map(u8::to_string).collect();
            assert!(!log.contains(&key.join(", ")), "a log shows the key as numbers");
        }
        if is_json {
            for line in stderr.lines() {
                let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
                assert!(line["level"].is_string() && line["target"].is_string(), "{line}");
            }
        }
    }
}
