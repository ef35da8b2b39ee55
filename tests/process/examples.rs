//! Commands from the documentation: its example, the quick starts and the subcommands.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::child::{Child, command, tcp_address};

fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_p2p-node")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Runs a program that may be missing on a developer's machine, but not in CI.
fn run(program: &str, script: &Path, args: &[&str]) -> Option<Output> {
    run_with(Path::new(binary()), program, script, args)
}

fn run_with(node: &Path, program: &str, script: &Path, args: &[&str]) -> Option<Output> {
    let home = TempDir::new().unwrap();
    let result = Command::new(program)
        .arg(script)
        .args(args)
        .env("P2P_NODE_BIN", node)
        .env("P2P_NODE_NETWORK", "dev")
        .env("P2P_NODE_LOCK_SCOPE", home.path())
        .env("P2P_NODE_RENDEZVOUS", "off")
        .env_remove("PRIVATE_KEY")
        .current_dir(root())
        .stdin(Stdio::null())
        .output();
    match result {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && std::env::var_os("CI").is_none() => {
            eprintln!("SKIPPED: {program} is not installed, so {} was not run", script.display());
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

fn assert_success(output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

fn has_jq() -> bool {
    let installed = Command::new("jq").arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(installed || std::env::var_os("CI").is_none(), "jq is missing");
    if !installed {
        eprintln!("SKIPPED: jq is not installed, so examples/pipeline.sh was not run");
    }
    installed
}

#[test]
fn pipeline_example_receives_a_broadcast() {
    if !has_jq() {
        return;
    }
    let (mut bob, ready) = Child::join(0x5A, 0, &[], &[]);
    bob.command(json!({"type":"subscribe","topic":"news","id":"s"}));
    bob.answer("s");
    let home = TempDir::new().unwrap();
    let pipeline = Command::new("sh")
        .arg(root().join("examples/pipeline.sh"))
        .args(["news", "3", &tcp_address(&ready)])
        .env("P2P_NODE_BIN", binary())
        .env("P2P_NODE_NETWORK", "dev")
        .env("P2P_NODE_LOCK_SCOPE", home.path())
        .env("P2P_NODE_RENDEZVOUS", "off")
        .env_remove("PRIVATE_KEY")
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let message = bob.expect("the pipeline's broadcast", |event| event["type"] == "message");
    assert_eq!(message["data"], "the pipeline is listening");
    bob.command(json!({"type":"send","topic":"news","data":"hello"}));
    let output = assert_success(&pipeline.wait_with_output().unwrap());
    assert_eq!(output, format!("{} says hello\n", &ready["address"].as_str().unwrap()[..8]));
}

#[test]
fn original_example_runs_in_node_and_python() {
    for (program, script) in [("node", "seed_example.mjs"), ("python3", "seed_example.py")] {
        let script = root().join("tests/process").join(script);
        let Some(output) = run(program, &script, &[binary(), &free_port()]) else { continue };
        let stdout = assert_success(&output);
        assert!(stdout.contains("Received event: ready 12D3Koo"), "{stdout}");
        assert!(stdout.contains("Exited: 0"), "{stdout}");
    }
}

#[test]
fn quick_starts_run() {
    for (program, script) in
        [("sh", "quickstart.sh"), ("python3", "quickstart.py"), ("node", "quickstart.mjs")]
    {
        let Some(output) = run(program, &root().join("examples").join(script), &[]) else { continue };
        let stdout = assert_success(&output);
        assert!(!stdout.is_empty(), "{script} prints nothing");
    }
}

/// Returns a program in place of the node: bob never acks alice's mail, whose TTL is short.
fn failing_node(home: &Path) -> PathBuf {
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n*bob*) exec '{0}' \"$@\" --ack manual ;;\n\
         *) sed -u 's/20000/600/' | exec '{0}' \"$@\" ;;\nesac\n",
        binary()
    );
    let path = home.join("failing-node");
    p2p_node_testing::program::write_program(&path, script);
    path
}

#[test]
fn quick_starts_fail_without_delivery() {
    for (program, script) in
        [("sh", "quickstart.sh"), ("python3", "quickstart.py"), ("node", "quickstart.mjs")]
    {
        let home = TempDir::new().unwrap();
        let node = failing_node(home.path());
        let script = root().join("examples").join(script);
        let Some(output) = run_with(&node, program, &script, &[]) else { continue };
        assert!(!output.status.success(), "{program}: {output:?}");
        let output = String::from_utf8_lossy(&output.stdout);
        assert!(!output.contains("hello bob") && output.contains("expired"), "{program}: {output:?}");
    }
}

#[test]
fn pipeline_example_fails_without_subscribers_or_with_invalid_topic() {
    if !has_jq() {
        return;
    }
    let too_long = "t".repeat(10_000);
    for (topic, code) in [("nobody-listens", 75), (too_long.as_str(), 65)] {
        let output = run("sh", &root().join("examples/pipeline.sh"), &[topic, "0"]).unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}

#[test]
fn demo_succeeds_with_a_summary() {
    let home = TempDir::new().unwrap();
    let output = command(home.path()).arg("demo").stdin(Stdio::null()).output().unwrap();
    let stdout = assert_success(&output);
    let last = stdout.lines().last().unwrap();
    assert!(
        last.starts_with("demo: 2 agents, 3 nodes: 2 direct messages delivered, 1 broadcast received"),
        "{last}"
    );
    assert!(!stdout.contains('\u{1b}'), "colours without a terminal");
}

#[test]
fn generated_key_starts_a_node_and_is_never_printed() {
    let home = TempDir::new().unwrap();
    let output = command(home.path()).args(["keygen", "--out", ".env.agent"]).output().unwrap();
    let shown = assert_success(&output);
    let file = std::fs::read_to_string(home.path().join(".env.agent")).unwrap();
    let secret = file.lines().find_map(|line| line.strip_prefix("PRIVATE_KEY=")).unwrap();
    assert!(!shown.contains(secret.trim_start_matches("0x")));

    let mut child = command(home.path()).args(["-e", ".env.agent"]).spawn().unwrap();
    use std::io::Write;
    child.stdin.take().unwrap().write_all(b"{\"type\":\"connect\"}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let ready = assert_success(&output);
    let lines = ready.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let ready = lines.into_iter().find(|line| line["type"] == "ready").unwrap();
    assert!(shown.contains(ready["address"].as_str().unwrap()), "{shown}\n{ready}");
    assert!(shown.contains(ready["peerId"].as_str().unwrap()), "{shown}\n{ready}");
}

#[test]
fn schema_command_prints_one_json_document() {
    let home = TempDir::new().unwrap();
    let output = command(home.path()).args(["schema", "--json"]).output().unwrap();
    let schema: serde_json::Value = serde_json::from_str(&assert_success(&output)).unwrap();
    assert!(schema.to_string().contains("peer_discovered"));
}
