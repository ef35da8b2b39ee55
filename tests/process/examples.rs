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

fn succeeds(output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

fn has_jq() -> bool {
    let there = Command::new("jq").arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(there || std::env::var_os("CI").is_none(), "jq is missing");
    if !there {
        eprintln!("SKIPPED: jq is not installed, so examples/pipeline.sh was not run");
    }
    there
}

#[test]
fn a_pipeline_with_jq_listens_to_a_topic() {
    if !has_jq() {
        return;
    }
    let (mut bob, ready) = Child::join(0x5A, 0, &[], &[]);
    bob.say(json!({"type":"subscribe","topic":"news","id":"s"}));
    bob.answer("s");
    let home = TempDir::new().unwrap();
    let pipeline = Command::new("sh")
        .arg(root().join("examples/pipeline.sh"))
        .args(["news", "3", &tcp_address(&ready)])
        .env("P2P_NODE_BIN", binary())
        .env("P2P_NODE_NETWORK", "dev")
        .env("P2P_NODE_LOCK_SCOPE", home.path())
        .env_remove("PRIVATE_KEY")
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let heard = bob.expect("the pipeline's broadcast", |event| event["type"] == "message");
    assert_eq!(heard["data"], "the pipeline is listening");
    bob.say(json!({"type":"send","topic":"news","data":"hello"}));
    let said = succeeds(&pipeline.wait_with_output().unwrap());
    assert_eq!(said, format!("{} says hello\n", &ready["address"].as_str().unwrap()[..8]));
}

#[test]
fn the_original_example_runs_in_node_and_python() {
    for (program, script) in [("node", "seed_example.mjs"), ("python3", "seed_example.py")] {
        let script = root().join("tests/process").join(script);
        let Some(output) = run(program, &script, &[binary(), &free_port()]) else { continue };
        let stdout = succeeds(&output);
        assert!(stdout.contains("Received event: ready 12D3Koo"), "{stdout}");
        assert!(stdout.contains("Exited: 0"), "{stdout}");
    }
}

#[test]
fn the_quick_starts_run_as_typed() {
    for (program, script) in
        [("sh", "quickstart.sh"), ("python3", "quickstart.py"), ("node", "quickstart.mjs")]
    {
        let Some(output) = run(program, &root().join("examples").join(script), &[]) else { continue };
        let stdout = succeeds(&output);
        assert!(!stdout.is_empty(), "{script} shows something");
    }
}

/// A program that stands for the node: bob takes alice's mail, but nobody acknowledges it, and she
/// soon gives it up.
fn inattentive(home: &Path) -> PathBuf {
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n*bob*) exec '{0}' \"$@\" --ack manual ;;\n\
         *) sed -u 's/20000/600/' | exec '{0}' \"$@\" ;;\nesac\n",
        binary()
    );
    let path = home.join("inattentive");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path
}

#[test]
fn quick_start_whose_mail_is_not_delivered_fails() {
    for (program, script) in
        [("sh", "quickstart.sh"), ("python3", "quickstart.py"), ("node", "quickstart.mjs")]
    {
        let home = TempDir::new().unwrap();
        let node = inattentive(home.path());
        let script = root().join("examples").join(script);
        let Some(output) = run_with(&node, program, &script, &[]) else { continue };
        assert!(!output.status.success(), "{program}: {output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!said.contains("hello bob") && said.contains("expired"), "{program}: {output:?}");
    }
}

#[test]
fn pipeline_fails_where_nobody_hears_it_or_its_topic_cannot_be() {
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
fn the_demo_ends_well_and_says_so() {
    let home = TempDir::new().unwrap();
    let output = command(home.path()).arg("demo").stdin(Stdio::null()).output().unwrap();
    let stdout = succeeds(&output);
    let last = stdout.lines().last().unwrap();
    assert!(
        last.starts_with("demo: 2 agents, 3 nodes: 2 direct messages delivered, 1 broadcast received"),
        "{last}"
    );
    assert!(!stdout.contains('\u{1b}'), "no colour but on a terminal");
}

#[test]
fn a_made_key_runs_a_node_and_is_never_shown() {
    let home = TempDir::new().unwrap();
    let output = command(home.path()).args(["keygen", "--out", ".env.agent"]).output().unwrap();
    let shown = succeeds(&output);
    let file = std::fs::read_to_string(home.path().join(".env.agent")).unwrap();
    let secret = file.lines().find_map(|line| line.strip_prefix("PRIVATE_KEY=")).unwrap();
    assert!(!shown.contains(secret.trim_start_matches("0x")));

    let mut child = command(home.path()).args(["-e", ".env.agent"]).spawn().unwrap();
    use std::io::Write;
    child.stdin.take().unwrap().write_all(b"{\"type\":\"connect\"}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let ready = succeeds(&output);
    let lines = ready.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let ready = lines.into_iter().find(|line| line["type"] == "ready").unwrap();
    assert!(shown.contains(ready["address"].as_str().unwrap()), "{shown}\n{ready}");
    assert!(shown.contains(ready["peerId"].as_str().unwrap()), "{shown}\n{ready}");
}

#[test]
fn the_schema_is_one_json_document() {
    let home = TempDir::new().unwrap();
    let output = command(home.path()).args(["schema", "--json"]).output().unwrap();
    let schema: serde_json::Value = serde_json::from_str(&succeeds(&output)).unwrap();
    assert!(schema.to_string().contains("peer_discovered"));
}
