//! The quick starts and the SDKs in what a strict container is, made by `tests/container/run`: process 1, a root that nobody can write to,
//! no `/etc/resolv.conf`, no directory for temporary files, a user whom no file knows, Kubernetes' variables, loopback alone.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::others::{has, root, typescript};

/// What Kubernetes gives every container of a namespace with services called `p2p`, `role` and `p2p-node`, and what others set.
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

/// The interpreter itself, and where it is installed; not a script that looks for it.
fn interpreter(program: &str, expression: &[&str]) -> (PathBuf, PathBuf) {
    let output = Command::new(program).args(expression).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (executable, prefix) = said.trim_end().split_once('\n').unwrap();
    (executable.into(), prefix.into())
}

struct Containers {
    python: PathBuf,
    node: Option<PathBuf>,
    prefixes: Vec<PathBuf>,
    home: TempDir,
}

impl Containers {
    /// `None`, and it says so, where nobody may make them; in CI that is a failure.
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
            format!("this system lets nobody make namespaces: {}", String::from_utf8_lossy(&output.stderr));
        assert!(std::env::var_os("CI").is_none(), "{reason}");
        // Not by `eprintln`, which is heard only when a test fails.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: nothing was tried in a container: {reason}");
        None
    }

    /// A program in a network of its own: in a container (`box`), or beside those that it starts (`beside`).
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
            .env("PYTHONPATH", "/app/sdk/python/src")
            .env("CONTAINER_BIN", node.parent().unwrap())
            .env("CONTAINER_PREFIXES", prefixes.join(":"))
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// A program in a container of its own, to its end.
    fn inside(&self, program: &Path, args: &[&str]) -> String {
        ends_well(program, args, &self.run("box", program, args).output().unwrap())
    }

    /// A program whose nodes are each process 1 of a container of its own.
    fn beside(&self, program: &Path, args: &[&str]) -> String {
        let start = self.home.path().join("p2p-node");
        if !start.exists() {
            let run = root().join("tests/container/run");
            let script = format!("#!/bin/sh\nexec '{}' box /app/bin/p2p-node \"$@\"\n", run.display());
            std::fs::write(&start, script).unwrap();
            let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&start, executable).unwrap();
        }
        let mut command = self.run("beside", program, args);
        command.env("P2P_NODE_BIN", &start).env("PYTHONPATH", root().join("sdk/python/src"));
        ends_well(program, args, &command.output().unwrap())
    }
}

fn ends_well(program: &Path, args: &[&str], output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program:?} {args:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join("tests/container").join(path)).unwrap()
}

#[test]
fn a_container_of_the_tests_is_as_strict_as_they_say() {
    let Some(containers) = Containers::new() else { return };
    containers.inside(&containers.python, &["-c", &text("probe.py")]);
}

#[test]
#[ignore = "takes minutes with the others of its kind; CI runs it"]
fn the_quick_starts_run_in_a_container() {
    let Some(containers) = Containers::new() else { return };
    let said = containers.inside(Path::new("sh"), &["/app/examples/quickstart.sh"]);
    assert!(said.contains(r#""data":{"text":"hello bob"}"#), "{said}");
    let mut interpreters = vec![(containers.python.as_path(), "quickstart.py")];
    interpreters.extend(containers.node.as_deref().map(|node| (node, "quickstart.mjs")));
    for (interpreter, script) in interpreters {
        let said = containers.inside(interpreter, &[&format!("/app/examples/{script}")]);
        assert!(said.starts_with("alice knows that it is delivered\nbob received"), "{said}");
        let path = root().join("examples").join(script);
        let said = containers.beside(interpreter, &[path.to_str().unwrap()]);
        assert!(said.starts_with("alice knows that it is delivered\nbob received"), "{said}");
    }
}

const HEARD: [&str; 2] = ["alice hears hello", "bob hears hello"];

#[test]
#[ignore = "takes minutes with the others of its kind; CI runs it"]
fn the_python_sdk_mails_in_a_container() {
    let Some(containers) = Containers::new() else { return };
    let program = ["-c", &text("mail.py")];
    for said in
        [containers.inside(&containers.python, &program), containers.beside(&containers.python, &program)]
    {
        assert!(HEARD.iter().all(|line| said.contains(line)), "{said}");
    }
    let said = containers.inside(&containers.python, &["/app/examples/python/chat.py"]);
    assert_eq!(said.matches(" hears: ").count(), 6, "{said}");
}

#[test]
#[ignore = "takes minutes with the others of its kind; CI runs it"]
fn the_typescript_sdk_mails_in_a_container() {
    let Some(containers) = Containers::new() else { return };
    let Some(_built) = typescript() else { return };
    let node = containers.node.as_deref().unwrap();
    for place in ["/app", root().to_str().unwrap()] {
        let index = format!("{place}/sdk/typescript/dist/index.js");
        let program = text("mail.mjs").replace("../../sdk/typescript/dist/index.js", &index);
        let args = ["--input-type=module", "-e", &program];
        let said =
            if place == "/app" { containers.inside(node, &args) } else { containers.beside(node, &args) };
        assert!(HEARD.iter().all(|line| said.contains(line)), "{said}");
    }
    let said = containers.inside(node, &["/app/sdk/typescript/out/examples/typescript/chat.js"]);
    assert_eq!(said.matches(" hears: ").count(), 6, "{said}");
}

#[test]
#[ignore = "takes minutes with the others of its kind; CI runs it"]
fn the_rust_sdk_mails_in_a_container() {
    let Some(containers) = Containers::new() else { return };
    let said = containers.inside(Path::new("/app/bin/examples/chat"), &[]);
    assert_eq!(said.matches(" hears: ").count(), 6, "{said}");
    let chat = Path::new(env!("CARGO_BIN_EXE_p2p-node")).with_file_name("examples").join("chat");
    let said = containers.beside(&chat, &[]);
    assert_eq!(said.matches(" hears: ").count(), 6, "{said}");
    let said = containers.inside(Path::new("/app/bin/examples/launcher"), &[]);
    assert!(said.ends_with("20 of 20 ended in good order\n"), "{said}");
}
