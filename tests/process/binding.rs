//! Nodes with a binding file, without the Ethereum key of their agent.

use std::path::Path;
use std::time::SystemTime;

use alloy::primitives::Signature;
use k256::ecdsa::SigningKey;
use p2p_node_wire::identity::binding::BINDING_MAX_LIFE_SECS;
use p2p_node_wire::identity::presigned::binding_file;
use p2p_node_wire::identity::{AgentKey, Binding, NodeKey};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::tcp_address;
use crate::child::{Child, command, test_key};

fn now_secs() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// Data directory with a node key and a binding for it.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Home(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Runs a subcommand. Returns its exit code, stdout and stderr.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let output = command(self.0.path()).args(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Creates a node key and a binding to the agent of `number`.
    fn bound(number: u8, change: impl FnOnce(&mut Binding)) -> Self {
        let (home, node) = (Home::new(), NodeKey::from_seed([number; 32]));
        let agent = AgentKey::from_hex(&test_key(number)).unwrap();
        let mut binding = Binding {
            account: agent.address(),
            chain_id: 0,
            peer_id: node.peer_id(),
            node_key: node.public(),
            network: "dev".to_owned(),
            generation: 0,
            not_before: now_secs() - 10,
            not_after: now_secs() + 3600,
        };
        change(&mut binding);
        std::fs::write(home.path("binding.json"), binding_file(&agent.bind(binding).unwrap())).unwrap();
        home.put_key(&format!("{number:02x}").repeat(32));
        home
    }

    fn put_key(&self, digits: &str) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(self.path("node.key"), digits).unwrap();
        std::fs::set_permissions(self.path("node.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Starts a node that must not start. Returns its exit code and error message.
    fn refusal(&self, args: &[&str], env: &[(&str, &str)]) -> (i32, String) {
        let (binding, dir) = (self.path("binding.json"), self.path(""));
        let args = [&["--binding", &binding, "--data-dir", &dir, "--connect"], args].concat();
        let (code, lines, _) = Child::spawn(&args, env).finish();
        let error = lines.iter().find(|line| line["type"] == "error").expect("an error");
        assert_eq!(error["code"], "IDENTITY_INVALID", "{error}");
        assert!(lines.iter().all(|line| line["type"] != "ready"), "{lines:#?}");
        (code, error["message"].as_str().unwrap().to_owned())
    }
}

/// Signs the printed typed data like a wallet on another machine.
fn sign_with_wallet(key: u8, printed: &str) -> String {
    let data: alloy_dyn_abi::TypedData = serde_json::from_str(printed).unwrap();
    let signer = SigningKey::from_slice(&[key; 32]).unwrap();
    let hash = data.eip712_signing_hash().unwrap();
    let signature = Signature::from(signer.sign_prehash_recoverable(hash.as_slice()).unwrap());
    format!("0x{}", hex::encode(signature.as_bytes()))
}

fn connect(child: &mut Child, bootstraps: &[String]) -> Value {
    child.command(json!({"type":"connect","port":0,"bootstrapPeers":bootstraps,"protocol":1}));
    child.expect("ready", |event| event["type"] == "ready")
}

#[test]
fn binding_signed_by_a_wallet_starts_a_node_for_the_account() {
    let home = Home::new();
    let account = AgentKey::from_hex(&test_key(0x81)).unwrap().address().to_string();
    let (dir, typed, out) = (home.path("data"), home.path("typed.json"), home.path("binding.json"));
    let (code, printed, hint) = home.run(&["bind", "--account", &account, "--data-dir", &dir]);
    assert_eq!((code, hint.contains("eth_signTypedData_v4")), (0, true), "{hint}");
    std::fs::write(&typed, &printed).unwrap();
    let signature = sign_with_wallet(0x81, &printed);
    let (code, summary, hint) =
        home.run(&["bind", "--typed-data", &typed, "--signature", &signature, "--out", &out]);
    assert_eq!((code, hint.contains("--binding")), (0, true), "{hint}");
    let summary: Value = serde_json::from_str(&summary).unwrap();
    let secret = std::fs::read_to_string(Path::new(&dir).join("node.key")).unwrap();
    assert!(![&printed, &hint, &summary.to_string()].iter().any(|text| text.contains(secret.trim())));

    let (mut bob, bob_ready) = Child::join(0x80, 0, &[], &[]);
    let mut alice = Child::spawn(&["--data-dir", &dir], &[("P2P_NODE_BINDING", &out)]);
    let ready = connect(&mut alice, &[tcp_address(&bob_ready)]);
    assert_eq!((&ready["address"], &ready["peerId"]), (&json!(account), &summary["peerId"]));
    let log = alice.expect("a log of the expiry", |event| event["namespace"] == "identity");
    assert_eq!(log["level"], "info", "{log}");
    alice.command(json!({"type":"send","peerId":bob_ready["address"],"data":"signed elsewhere","id":"m"}));
    let message = bob.expect("mail", |event| event["type"] == "message");
    assert_eq!((&message["from"], &message["data"]), (&json!(account), &json!("signed elsewhere")));
    bob.command(json!({"type":"send","peerId":message["from"],"data":"reply","replyTo":message["messageId"],"id":"r"}));
    let reply = alice.expect("the reply", |event| event["type"] == "message");
    assert_eq!((&reply["from"], &reply["data"]), (&bob_ready["address"], &json!("reply")));
    for child in [&alice, &bob] {
        let delivery = child.expect("delivery", |event| event["type"] == "delivery");
        assert_eq!(delivery["state"], "delivered");
    }
    assert_eq!(alice.finish().0, 0);

    // `--node-key` replaces the data directory; then nothing is persisted.
    let key = Path::new(&dir).join("node.key");
    let mut alice = Child::spawn(&["--binding", &out], &[("P2P_NODE_NODE_KEY", key.to_str().unwrap())]);
    assert_eq!(connect(&mut alice, &[])["address"], account);
}

#[test]
fn signature_of_another_key_is_refused() {
    let home = Home::new();
    let address = |key| AgentKey::from_hex(&test_key(key)).unwrap().address().to_string();
    let (dir, typed, out) = (home.path(""), home.path("typed.json"), home.path("binding.json"));
    let (_, printed, _) = home.run(&["bind", "--account", &address(0x82), "--data-dir", &dir]);
    std::fs::write(&typed, &printed).unwrap();
    let sign = |key| {
        let signature = sign_with_wallet(key, &printed);
        (home.run(&["bind", "--typed-data", &typed, "--signature", &signature, "--out", &out]), signature)
    };
    let ((code, stdout, stderr), wrong) = sign(0x83);
    assert_eq!((code, stdout.as_str()), (78, ""));
    let expected = format!("the signature was made by {}, not by {}", address(0x83), address(0x82));
    assert!(stderr.contains(&expected), "{stderr}");
    assert!(!Path::new(&out).exists());

    let ((code, ..), right) = sign(0x82);
    assert_eq!(code, 0);
    let file = std::fs::read_to_string(&out).unwrap().replace(&right, &wrong);
    std::fs::write(&out, file).unwrap();
    let (code, message) = home.refusal(&[], &[]);
    assert_eq!((code, message.contains(&expected)), (78, true), "{message}");
}

#[test]
fn binding_that_does_not_match_is_refused() {
    let check = |home: &Home, args: &[&str], env: &[(&str, &str)], expected: &str| {
        let (code, message) = home.refusal(args, env);
        assert!(code == 78 && message.contains(expected), "{code}: {message}");
    };
    let good = || Home::bound(0x84, |_| {});
    let expired = Home::bound(0x84, |binding| binding.not_after = now_secs() - 5);
    check(&expired, &[], &[], "the binding expired");
    let early = Home::bound(0x84, |binding| binding.not_before = now_secs() + 300);
    check(&early, &[], &[], "the binding is not valid yet");
    check(&good(), &["--network", "village"], &[], "for the network dev, but the node is for village");
    check(
        &good(),
        &[],
        &[("PRIVATE_KEY", &test_key(0x84))],
        "PRIVATE_KEY and P2P_NODE_BINDING (--binding) are both given",
    );
    check(&good(), &["--generation", "7"], &[], "the binding has generation 0, but --generation is 7");

    let home = good();
    home.put_key(&"ff".repeat(32));
    check(&home, &[], &[], "the binding is for node 12D3Koo");
    std::fs::remove_file(home.path("node.key")).unwrap();
    check(&home, &[], &[], "does not exist");
    std::fs::write(home.path("binding.json"), "{}").unwrap();
    check(&home, &[], &[], "it is not JSON of the right form");
    std::fs::remove_file(home.path("binding.json")).unwrap();
    check(&home, &[], &[], "No such file");

    let home = Home::bound(0x84, |binding| binding.not_after = binding.not_before + BINDING_MAX_LIFE_SECS);
    let text = std::fs::read_to_string(home.path("binding.json")).unwrap();
    let (before, after) = text.split_once("\"notAfter\": \"").unwrap();
    let (_, after) = after.split_once('"').unwrap();
    let longer = now_secs() + BINDING_MAX_LIFE_SECS + 86_400;
    std::fs::write(home.path("binding.json"), format!("{before}\"notAfter\": \"{longer}\"{after}")).unwrap();
    check(&home, &[], &[], "longer than 90 days");
}

#[test]
fn node_with_expired_binding_reports_it_and_ends() {
    let home = Home::bound(0x85, |binding| binding.not_after = now_secs() + 5);
    let (binding, dir) = (home.path("binding.json"), home.path(""));
    let mut child = Child::spawn(&["--binding", &binding, "--data-dir", &dir], &[]);
    connect(&mut child, &[]);
    let log = child.expect("a warning", |event| event["namespace"] == "identity");
    assert_eq!(log["level"], "warn", "{log}");
    let error = child.expect("an error", |event| event["type"] == "error");
    assert_eq!(error["code"], "IDENTITY_INVALID", "{error}");
    assert_eq!(child.wait().code(), Some(78));
}
