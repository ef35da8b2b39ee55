//! The examples of the Rust SDK, which `cargo test --workspace` builds beside the binary.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

fn example(name: &str) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_p2p-node"));
    let example = binary.parent().unwrap().join("examples").join(name);
    assert!(
        example.exists(),
        "{} is missing: `cargo build --workspace --examples` makes it",
        example.display()
    );
    let home = TempDir::new().unwrap();
    let output = Command::new(example)
        .env("P2P_NODE_BIN", binary)
        .env("P2P_NODE_LOCK_SCOPE", home.path())
        .env_remove("PRIVATE_KEY")
        .current_dir(home.path())
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

#[test]
fn two_agents_chat() {
    let said = example("chat");
    assert!(
        said.contains("alice hears: \"Not a packet lost.\"") && said.contains("bob hears: \"Goodbye!\""),
        "{said}"
    );
}

#[test]
fn requests_are_answered() {
    let said = example("request_reply");
    assert!(said.starts_with("7 squared: {\"result\":49}\n12 squared: {\"result\":144}\n"), "{said}");
    assert!(said.contains("error"), "{said}");
}

#[test]
fn a_launcher_supervises_twenty_agents() {
    let said = example("launcher");
    assert!(said.starts_with("agent 19 was killed and is back\n"), "{said}");
    assert!(said.ends_with("20 of 20 ended in good order\n"), "{said}");
    assert_eq!(said.lines().filter(|line| line.ends_with("and of 19 others")).count(), 20, "{said}");
}
