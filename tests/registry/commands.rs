//! The subcommands `register` and `registry`.

use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::anvil::Anvil;
use crate::child::{Child, command, test_key};
use crate::nodes::agent;

pub fn run(args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let home = TempDir::new().unwrap();
    let Output { status, stdout, stderr } =
        command(home.path()).args(args).envs(env.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn register_shows_sends_and_confirms_one_transaction() {
    let Some(anvil) = Anvil::start() else { return };
    let registry = anvil.deploy("AgentRegistry").to_string();
    let (key, url, address) = (test_key(1), anvil.url(), agent(1).to_string());
    let env = [
        ("PRIVATE_KEY", key.as_str()),
        ("REGISTRY_ADDRESS", registry.as_str()),
        ("RPC_URL", url.as_str()),
        ("REGISTRY_DEPTH", "0"),
    ];
    // An account without money cannot pay, and the attempt says so.
    let (code, _, stderr) = run(&["register", "--name", "ann"], &env);
    assert_eq!(code, 65, "{stderr}");
    anvil.request("anvil_setBalance", json!([address, "0xde0b6b3a7640000"]));

    let (code, shown, hints) = run(&["register", "--name", "ann", "--dry-run"], &env);
    assert_eq!(code, 0, "{hints}");
    assert!(
        shown.contains(&address) && shown.contains("on chain 31337") && shown.contains("name      ann"),
        "{shown}"
    );
    assert!(hints.contains("nothing was sent"), "{hints}");
    let entry = |env: &[(&str, &str)]| -> Value {
        let (code, text, stderr) = run(&["registry", "--json", &address], env);
        assert_eq!(code, 0, "{stderr}");
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(entry(&env)["isRegistered"], false);

    let (code, shown, hints) = run(&["register", "--name", "ann"], &env);
    assert_eq!(code, 0, "{hints}");
    assert!(shown.contains("sent      0x") && shown.contains("done      in block"), "{shown}");
    let found = entry(&env);
    assert_eq!((&found["isRegistered"], &found["name"]), (&json!(true), &json!("ann")), "{found}");
    let metadata: Value = serde_json::from_str(found["metadata"].as_str().unwrap()).unwrap();
    assert_eq!(metadata["address"], *address);
    assert!(metadata["peerId"].as_str().unwrap().starts_with("12D3Koo"), "{metadata}");

    let blocks = anvil.request("eth_blockNumber", json!([]));
    let (code, shown, _) = run(&["register", "--name", "ann"], &env);
    assert_eq!((code, shown), (0, format!("{address} is registered already\n")));
    assert_eq!(anvil.request("eth_blockNumber", json!([])), blocks, "nothing was sent");
    assert!(!shown_secret(&key, &[&hints]));
}

#[test]
fn hostile_texts_of_an_entry_are_escaped_for_the_terminal() {
    let Some(anvil) = Anvil::start() else { return };
    let registry = anvil.deploy("AgentRegistry");
    anvil.register(registry, agent(2), "\u{1b}[2Jcleared\r\n");
    let (registry, url) = (registry.to_string(), anvil.url());
    let env = [("REGISTRY_ADDRESS", registry.as_str()), ("RPC_URL", &url), ("REGISTRY_DEPTH", "0")];
    let (code, shown, stderr) = run(&["registry", &agent(2).to_string()], &env);
    assert_eq!(code, 0, "{stderr}");
    assert!(shown.contains("registered  yes") && shown.contains("\\u{1b}[2Jcleared"), "{shown}");
    assert!(!shown.contains('\u{1b}'));
}

#[test]
fn commands_of_the_registry_name_what_is_missing() {
    let address = agent(1).to_string();
    for (args, env, wanted, reason) in [
        (vec!["registry", &address], vec![], 78, "set REGISTRY_ADDRESS and RPC_URL"),
        (vec!["registry", "0x12"], vec![], 64, "0x12"),
        (vec!["registry", &address], vec![("REGISTRY_ADDRESS", address.as_str())], 78, "requires RPC_URL"),
        (
            vec!["registry", &address],
            vec![("REGISTRY_ADDRESS", address.as_str()), ("RPC_URL", "http://127.0.0.1:1/secret")],
            69,
            "127.0.0.1:1",
        ),
    ] {
        let (code, _, stderr) = run(&args, &env);
        assert_eq!(code, wanted, "{args:?}: {stderr}");
        assert!(stderr.contains(reason) && !stderr.contains("secret"), "{args:?}: {stderr}");
    }
}

#[test]
fn system_without_certificates_serves_http_and_says_what_https_lacks() {
    let address = agent(1).to_string();
    for (url, code, reason) in [
        ("http://127.0.0.1:1", 69, "127.0.0.1:1: Connection refused"),
        ("https://127.0.0.1:1", 78, "install them"),
    ] {
        let env = [
            ("REGISTRY_ADDRESS", address.as_str()),
            ("RPC_URL", url),
            ("SSL_CERT_FILE", "/nonexistent"),
            ("SSL_CERT_DIR", "/nonexistent"),
        ];
        let (found, _, stderr) = run(&["registry", &address], &env);
        assert_eq!(found, code, "{stderr}");
        assert!(stderr.contains(reason), "{stderr}");
        let mut child = Child::spawn(&["--connect"], &env);
        let first = child.expect("the start", |event| event["type"] == "ready" || event["type"] == "error");
        match url.starts_with("https") {
            true => {
                assert_eq!(first["code"], "INVALID_ARGUMENT");
                assert_eq!(child.wait().code(), Some(78));
            }
            false => assert_eq!(first["type"], "ready"),
        }
    }
}

#[test]
fn command_on_the_pipe_says_why_there_is_no_entry() {
    let registry = agent(9).to_string();
    let dead = [("REGISTRY_ADDRESS", registry.as_str()), ("RPC_URL", "http://127.0.0.1:1")];
    for (env, code) in [(&[][..], "NO_REGISTRY"), (&dead[..], "REGISTRY_UNAVAILABLE")] {
        let mut child = Child::spawn(&["--connect"], env);
        child.command(json!({"type":"registry","address":registry,"id":"entry"}));
        assert_eq!(child.answer("entry")["code"], code);
        child.command(json!({"type":"registry","address":"0x12","id":"invalid"}));
        assert_eq!(child.answer("invalid")["code"], "INVALID_ARGUMENT");
    }
}

fn shown_secret(key: &str, texts: &[&str]) -> bool {
    texts.iter().any(|text| text.contains(key.trim_start_matches("0x")))
}
