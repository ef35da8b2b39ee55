use std::fs;
use std::os::unix::fs::PermissionsExt;

use alloy::primitives::U256;
use clap::Parser;
use tempfile::TempDir;

use super::*;
use crate::config::{Cli, Task};
use p2p_node_wire::identity::presigned::read_binding_file;
use p2p_node_wire::identity::testing::NOW_SECS;

const NOW_MS: u64 = NOW_SECS * 1000;

/// A directory to work in, and what a step printed there.
struct Desk {
    directory: TempDir,
}

fn agent(byte: u8) -> AgentKey {
    AgentKey::from_bytes(&[byte; 32]).expect("a key")
}

impl Desk {
    fn new() -> Self {
        Desk { directory: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().expect("text").to_owned()
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("written");
        // An env file with a key must be closed to others.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        path
    }

    fn run_at(&self, args: &[&str], now_ms: u64) -> Result<(Value, String), BindError> {
        let words = ["p2p-node", "bind"].iter().chain(args);
        let Some(Task::Bind(args)) = Cli::try_parse_from(words).expect("a command line").task else {
            panic!("another task");
        };
        let (mut out, mut hints) = (Vec::new(), Vec::new());
        run(&args, now_ms, None, &mut out, &mut hints)?;
        let hints = String::from_utf8(hints).expect("text");
        Ok((serde_json::from_slice(&out).expect("JSON"), hints))
    }

    fn run(&self, args: &[&str]) -> Result<(Value, String), BindError> {
        self.run_at(args, NOW_MS)
    }

    /// The first step for agent 0x11; the file with what it printed.
    fn ask(&self, more: &[&str]) -> (Value, String) {
        let (account, dir) = (agent(0x11).address().to_string(), self.path("data"));
        let args = [&["--account", &account, "--data-dir", &dir], more].concat();
        let (printed, hints) = self.run(&args).expect("printed");
        assert!(hints.contains("--typed-data"), "{hints}");
        let file = self.put("typed.json", printed.to_string());
        (printed, file)
    }
}

/// Signs as a wallet does, which knows the JSON and nothing else.
fn wallet(key: &AgentKey, printed: &Value) -> String {
    let data: alloy_dyn_abi::TypedData = serde_json::from_value(printed.clone()).expect("typed data");
    let hash = data.eip712_signing_hash().expect("a hash");
    let signer = k256::ecdsa::SigningKey::from_slice(&key.secret()[..]).expect("a key");
    let signature = signer.sign_prehash_recoverable(hash.as_slice()).expect("a signature");
    let signature = alloy::primitives::Signature::from(signature);
    format!("0x{}", hex::encode(signature.as_bytes()))
}

#[test]
fn print_and_sign_steps_bind_generated_node_key() {
    let desk = Desk::new();
    let (printed, typed) = desk.ask(&["--network", "village", "--days", "30", "--chain-id", "5"]);
    let key_file = desk.path("data/node.key");
    assert_eq!(fs::metadata(&key_file).expect("made").permissions().mode() & 0o777, 0o600);
    let message = &printed["message"];
    assert_eq!(message["account"], agent(0x11).address().to_string());
    assert_eq!(message["generation"], NOW_SECS.to_string(), "when the key was made");
    assert_eq!(message["notAfter"], (NOW_SECS + 30 * DAY_SECS).to_string());
    assert_eq!((&message["network"], &message["chainId"]), (&json!("village"), &json!("5")));

    let (signature, out) = (wallet(&agent(0x11), &printed), desk.path("binding.json"));
    let dir = desk.path("data");
    for more in [&[][..], &["--data-dir", &dir, "--network", "village"]] {
        let args = [&["--typed-data", &typed, "--signature", &signature, "--out", &out], more].concat();
        let (summary, hints) = desk.run_at(&args, NOW_MS + 60_000).expect("made");
        assert_eq!(summary["bindingFile"], out);
        assert_eq!(summary["address"], message["account"]);
        assert!(hints.contains("--binding") && hints.contains("--network village"), "{hints}");
        let signed = read_binding_file(&fs::read(&out).expect("there")).expect("a binding");
        assert_eq!(check_presigned(&signed, "village", NOW_MS), Ok(Proof::Key));
        let seed = hex::decode(fs::read_to_string(&key_file).expect("text").trim()).expect("digits");
        let node = NodeKey::from_seed(seed.try_into().expect("32 bytes"));
        assert_eq!(
            (signed.binding.node_key, summary["peerId"].as_str()),
            (node.public(), Some(&*node.peer_id().to_string()))
        );
    }
    let from_file = desk.put("signature", format!("{signature}\n"));
    desk.run(&["--typed-data", &typed, "--signature-file", &from_file, "--out", &out]).expect("made");
}

#[test]
fn signature_of_another_account_is_rejected_and_nothing_written() {
    let desk = Desk::new();
    let (printed, typed) = desk.ask(&[]);
    let out = desk.path("binding.json");
    let good = wallet(&agent(0x11), &printed);
    let try_it = |signature: &str, now_ms| {
        let args = ["--typed-data", &typed, "--signature", signature, "--out", &out];
        let error = desk.run_at(&args, now_ms).expect_err("refused");
        assert_eq!(error.exit_code(), ExitCode::Config, "{error}");
        assert!(!Path::new(&out).exists());
        error.to_string()
    };
    let (ours, theirs) = (agent(0x11).address(), agent(0x33).address());
    let told = try_it(&wallet(&agent(0x33), &printed), NOW_MS);
    assert!(told.starts_with(&format!("the signature was made by {theirs}, not by {ours}")), "{told}");

    let mut turned = hex::decode(&good[2..]).expect("digits");
    let order = U256::from_str_radix("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16);
    let s = order.expect("a number") - U256::from_be_slice(&turned[32..64]);
    turned[32..64].copy_from_slice(&s.to_be_bytes::<32>());
    turned[64] = 27 + 28 - turned[64];
    assert_eq!(
        try_it(&hex::encode(turned), NOW_MS),
        "the signature is not in its canonical form: s is above half of the curve order"
    );
    assert_eq!(
        try_it("0x12", NOW_MS),
        "the signature has not 65 bytes: that of a contract wallet needs the wallet's chain id"
    );
    assert!(try_it("nonsense", NOW_MS).starts_with("--signature: "));
    assert!(try_it(&good, NOW_MS + 91 * DAY_SECS * 1000).starts_with("the binding expired 24 hours ago"));
    assert!(
        try_it(&good, NOW_MS - 3_600_000)
            .starts_with("the binding is not valid yet: it starts in 60 minutes")
    );
}

#[test]
fn changed_or_foreign_typed_data_is_rejected() {
    let desk = Desk::new();
    let (mut printed, typed) = desk.ask(&[]);
    let signature = wallet(&agent(0x11), &printed);
    let refuse = |args: &[&str]| desk.run(args).expect_err("refused").to_string();
    let told = refuse(&["--typed-data", &typed, "--signature", &signature, "--network", "village"]);
    assert!(told.ends_with("the typed data is for the network dev, not for village"), "{told}");
    keystore::node_key(Path::new(&desk.path("other.key"))).expect("made");
    let other = desk.path("other.key");
    let told = refuse(&["--typed-data", &typed, "--signature", &signature, "--node-key", &other]);
    assert!(told.contains("is for node 12D3Koo") && told.contains("belongs to node 12D3Koo"), "{told}");
    printed["message"]["statement"] = "Something else.".into();
    let bent = desk.put("bent.json", printed.to_string());
    let told = refuse(&["--typed-data", &bent, "--signature", &signature]);
    assert!(told.contains("it differs from the output of `p2p-node bind`"), "{told}");
    let told = refuse(&["--typed-data", &desk.path("none"), "--signature", &signature]);
    assert!(told.contains("none: "), "{told}");
}

#[test]
fn private_key_signs_new_or_printed_typed_data() {
    let desk = Desk::new();
    let env = desk.put(".env", format!("PRIVATE_KEY=0x{}\n", "11".repeat(32)));
    let (dir, out) = (desk.path("data"), desk.path("binding.json"));
    let made = |args: &[&str]| {
        let (summary, _) = desk.run(args).expect("made");
        assert_eq!(summary["address"], agent(0x11).address().to_string());
        let signed = read_binding_file(&fs::read(&out).expect("there")).expect("a binding");
        assert_eq!(check_presigned(&signed, "dev", NOW_MS), Ok(Proof::Key));
    };
    made(&["--data-dir", &dir, "--sign-with-env-file", &env, "--generation", "7", "--out", &out]);
    let (_, typed) = desk.ask(&[]);
    made(&["--typed-data", &typed, "--sign-with-env-file", &env, "--out", &out]);

    let other = desk.put(".env.other", format!("PRIVATE_KEY=0x{}\n", "33".repeat(32)));
    let refuse =
        |env: &str| desk.run(&["--typed-data", &typed, "--sign-with-env-file", env]).expect_err("refused");
    let told = refuse(&other).to_string();
    assert!(told.contains(&agent(0x33).address().to_string()) && !told.contains("3333"), "{told}");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).expect("set");
    let told = refuse(&other).to_string();
    assert!(told.contains("0644") && !told.contains("3333"), "{told}");
    assert!(refuse(&desk.put(".env.none", "A=1")).to_string().ends_with("does not set PRIVATE_KEY"));
    assert_eq!(refuse(&desk.path("nowhere")).exit_code(), ExitCode::Config);
}

#[test]
fn command_line_rejects_flags_of_another_step() {
    let parse = |args: &[&str]| Cli::try_parse_from([&["p2p-node", "bind"], args].concat());
    for bad in [
        &[][..],
        &["--account", "0x1111111111111111111111111111111111111111"],
        &["--data-dir", "d"],
        &["--account", "0x11", "--data-dir", "d"],
        &["--typed-data", "t"],
        &["--signature", "0x11", "--data-dir", "d"],
        &["--typed-data", "t", "--signature", "0x11", "--signature-file", "s"],
        &["--typed-data", "t", "--signature", "0x11", "--generation", "1"],
        &["--sign-with-env-file", "e", "--data-dir", "d", "--node-key", "k"],
        &["--sign-with-env-file", "e", "--data-dir", "d", "--days", "91"],
        &["--sign-with-env-file", "e", "--data-dir", "d", "--days", "0"],
        &["--sign-with-env-file", "e", "--data-dir", "d", "--network", "Dev"],
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
    assert!(parse(&["--sign-with-env-file", "e", "--data-dir", "d"]).is_ok());
}
