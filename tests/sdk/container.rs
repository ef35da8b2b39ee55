//! Runs the quick starts and the SDKs in a strict container, made by `tests/container/run`: process
//! 1, a read-only root, no `/etc/resolv.conf`, no temporary directory, a user ID without an
//! account, the environment variables of Kubernetes, loopback only.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::others::{has, root, typescript};

/// The variables that Kubernetes sets in a namespace with services called `p2p`, `role` and
/// `p2p-node`, and other common ones.
const VARIABLES: &[(&str, &str)] = &[
    ("KUBERNETES_SERVICE_HOST", "10.43.0.1"),
    ("KUBERNETES_SERVICE_PORT", "443"),
    ("KUBERNETES_PORT", "tcp://10.43.0.1:443"),
    ("P2P_PORT", "tcp://10.43.0.17:8000"),
    ("P2P_SERVICE_HOST", "10.43.0.17"),
    ("ROLE_PORT", "tcp://10.43.0.18:80"),
    ("P2P_NODE_PORT", "tcp://10.43.0.19:8000"),
    ("P2P_NODE_PORT_8000_TCP", "tcp://10.43.0.19:8000"),
    ("P2P_NODE_PORT_8000_TCP_PROTO", "tcp"),
    ("P2P_NODE_SERVICE_HOST", "10.43.0.19"),
    ("P2P_NODE_SERVICE_PORT", "8000"),
    ("HOSTNAME", "agent-6f7d9c5b4-x2x8z"),
    ("ROLE", "assistant"),
    ("NETWORK", "mainnet"),
    ("CONNECT", "yes please"),
    ("LISTEN", ":8080"),
    ("PORT", "8080"),
    ("NAME", "agent"),
    ("ACK", "1"),
    ("LOG_LEVEL", "WARNING"),
];

/// Returns the executable of an interpreter and its prefix; the program in `PATH` may be a script.
fn interpreter(program: &str, expression: &[&str]) -> (PathBuf, PathBuf) {
    let output = Command::new(program).args(expression).stdin(Stdio::null()).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let (executable, prefix) = output.trim_end().split_once('\n').unwrap();
    (executable.into(), prefix.into())
}

struct Containers {
    python: PathBuf,
    node: Option<PathBuf>,
    prefixes: Vec<PathBuf>,
    home: TempDir,
}

impl Containers {
    /// Returns `None` and prints why if the system does not allow containers; fails in CI.
    fn new() -> Option<Self> {
        if !has("python3", "--version", (3, 10)) {
            return None;
        }
        let (python, prefix) =
            interpreter("python3", &["-c", "import sys; print(sys.executable, sys.base_prefix, sep='\\n')"]);
        let mut prefixes = vec![prefix];
        let node = has("node", "--version", (20, 0)).then(|| {
            let code = "console.log(`${process.execPath}\n${path.join(process.execPath, '../..')}`)";
            let (node, prefix) = interpreter("node", &["-e", code]);
            prefixes.push(prefix);
            node
        });
        prefixes.retain(|prefix| !prefix.starts_with("/usr"));
        let containers = Containers { python, node, prefixes, home: TempDir::new().unwrap() };
        let output = containers.run("box", Path::new("true"), &[]).output().unwrap();
        if output.status.success() {
            return Some(containers);
        }
        let reason =
            format!("this system does not allow namespaces: {}", String::from_utf8_lossy(&output.stderr));
        assert!(std::env::var_os("CI").is_none(), "{reason}");
        // Not by `eprintln`, which is shown only if the test fails.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: the container tests were not run: {reason}");
        None
    }

    /// Returns the command of a program in its own network: in a container (`box`), or outside the
    /// containers that it starts (`beside`).
    fn run(&self, place: &str, program: &Path, args: &[&str]) -> Command {
        let script = root().join("tests/container/run");
        let mut command = Command::new(&script);
        command.arg("pod");
        if place == "box" {
            command.arg(&script).arg("box");
        }
        let node = Path::new(env!("CARGO_BIN_EXE_p2p-node"));
        let prefixes: Vec<&str> = self.prefixes.iter().map(|prefix| prefix.to_str().unwrap()).collect();
        command
            .arg(program)
            .args(args)
            .env_clear()
            .envs(VARIABLES.iter().copied())
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("P2P_NODE_NETWORK", "dev")
            .env("P2P_NODE_BIN", "/app/bin/p2p-node")
            .env("P2P_NODE_RENDEZVOUS", "off")
            .env("PYTHONPATH", "/app/sdk/python/src")
            .env("CONTAINER_BIN", node.parent().unwrap())
            .env("CONTAINER_PREFIXES", prefixes.join(":"))
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// Runs a program in its own container.
    fn inside(&self, program: &Path, args: &[&str]) -> String {
        assert_success(program, args, &self.run("box", program, args).output().unwrap())
    }

    /// Runs a program whose nodes are each process 1 of their own container.
    fn beside(&self, program: &Path, args: &[&str]) -> String {
        let start = self.home.path().join("p2p-node");
        if !start.exists() {
            let run = root().join("tests/container/run");
            let script = format!("#!/bin/sh\nexec '{}' box /app/bin/p2p-node \"$@\"\n", run.display());
            p2p_node_testing::program::write_program(&start, script);
        }
        let mut command = self.run("beside", program, args);
        command.env("P2P_NODE_BIN", &start).env("PYTHONPATH", root().join("sdk/python/src"));
        assert_success(program, args, &command.output().unwrap())
    }
}

fn assert_success(program: &Path, args: &[&str], output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program:?} {args:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join("tests/container").join(path)).unwrap()
}

#[test]
fn test_container_has_its_restrictions() {
    let Some(containers) = Containers::new() else { return };
    containers.inside(&containers.python, &["-c", &text("probe.py")]);
}

#[test]
#[ignore = "slow; CI runs it"]
fn quick_starts_run_in_a_container() {
    let Some(containers) = Containers::new() else { return };
    let output = containers.inside(Path::new("sh"), &["/app/examples/quickstart.sh"]);
    assert!(output.contains(r#""data":{"text":"hello bob"}"#), "{output}");
    let mut interpreters = vec![(containers.python.as_path(), "quickstart.py")];
    interpreters.extend(containers.node.as_deref().map(|node| (node, "quickstart.mjs")));
    for (interpreter, script) in interpreters {
        let output = containers.inside(interpreter, &[&format!("/app/examples/{script}")]);
        assert!(output.starts_with("alice knows that it is delivered\nbob received"), "{output}");
        let path = root().join("examples").join(script);
        let output = containers.beside(interpreter, &[path.to_str().unwrap()]);
        assert!(output.starts_with("alice knows that it is delivered\nbob received"), "{output}");
    }
}

const EXPECTED: [&str; 2] = ["alice received hello", "bob received hello"];

#[test]
#[ignore = "slow; CI runs it"]
fn python_sdk_sends_mail_in_a_container() {
    let Some(containers) = Containers::new() else { return };
    let program = ["-c", &text("mail.py")];
    for output in
        [containers.inside(&containers.python, &program), containers.beside(&containers.python, &program)]
    {
        assert!(EXPECTED.iter().all(|line| output.contains(line)), "{output}");
    }
    let output = containers.inside(&containers.python, &["/app/examples/python/chat.py"]);
    assert_eq!(output.matches(" hears: ").count(), 6, "{output}");
}

#[test]
#[ignore = "slow; CI runs it"]
fn typescript_sdk_sends_mail_in_a_container() {
    let Some(containers) = Containers::new() else { return };
    let Some(_built) = typescript() else { return };
    let node = containers.node.as_deref().unwrap();
    for place in ["/app", root().to_str().unwrap()] {
        let index = format!("{place}/sdk/typescript/dist/index.js");
        let program = text("mail.mjs").replace("../../sdk/typescript/dist/index.js", &index);
        let args = ["--input-type=module", "-e", &program];
        let output =
            if place == "/app" { containers.inside(node, &args) } else { containers.beside(node, &args) };
        assert!(EXPECTED.iter().all(|line| output.contains(line)), "{output}");
    }
    let output = containers.inside(node, &["/app/sdk/typescript/out/examples/typescript/chat.js"]);
    assert_eq!(output.matches(" hears: ").count(), 6, "{output}");
}

#[test]
#[ignore = "slow; CI runs it"]
fn rust_sdk_sends_mail_in_a_container() {
    let Some(containers) = Containers::new() else { return };
    let output = containers.inside(Path::new("/app/bin/examples/chat"), &[]);
    assert_eq!(output.matches(" hears: ").count(), 6, "{output}");
    let chat = Path::new(env!("CARGO_BIN_EXE_p2p-node")).with_file_name("examples").join("chat");
    let output = containers.beside(&chat, &[]);
    assert_eq!(output.matches(" hears: ").count(), 6, "{output}");
    let output = containers.inside(Path::new("/app/bin/examples/launcher"), &[]);
    assert!(output.ends_with("20 of 20 ended in good order\n"), "{output}");
}
