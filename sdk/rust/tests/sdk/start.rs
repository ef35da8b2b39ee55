//! Failed starts and their errors.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::{child, closed, exit_code, quick, refused};
use p2p_node_sdk::{BinaryReason, Error, Node};

/// A temporary file. Dropping it removes the file.
struct Binary(PathBuf);

impl Binary {
    fn new(content: impl AsRef<[u8]>, mode: u32) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("p2p-node-binary-{}-{number}", std::process::id()));
        // A child process writes the file. A child that another thread forks would inherit a
        // descriptor of this process, and the system does not start a file that is open for writing.
        let write = format!(r#"cat >"$0" && chmod {mode:o} "$0""#);
        let mut shell =
            Command::new("sh").args(["-c", &write]).arg(&path).stdin(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(content.as_ref()).unwrap();
        assert!(shell.wait().unwrap().success());
        Binary(path)
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Opens a node with this binary and returns the reason of the failure.
async fn reason(path: &Path) -> BinaryReason {
    let error = refused(Node::builder().binary(path).restart(Some(quick())).open().await);
    assert_eq!((error.code(), error.retryable()), ("BINARY_UNUSABLE", false), "{error}");
    let Error::BinaryUnusable { path: named, reason, message, .. } = &error else { panic!("{error}") };
    assert_eq!(named, path);
    let text = error.to_string();
    let has_all =
        [path.to_str().unwrap(), &reason.to_string(), message].iter().all(|word| text.contains(word));
    assert!(has_all, "{text}");
    *reason
}

#[tokio::test]
async fn open_with_file_that_is_no_program_gives_the_reason() {
    assert_eq!(reason(Path::new("/nowhere/p2p-node")).await, BinaryReason::Missing);
    assert_eq!(reason(&std::env::temp_dir()).await, BinaryReason::NotAFile);
    let cases: [(&[u8], u32, BinaryReason); 6] = [
        (b"", 0o755, BinaryReason::Empty),
        (b"<!DOCTYPE html><html></html>\n", 0o755, BinaryReason::NotAProgram),
        (b"MZ and more", 0o755, BinaryReason::WrongArchitecture),
        (b"\x7fELF and more", 0o755, BinaryReason::Truncated),
        (b"#!/nowhere/sh\n", 0o755, BinaryReason::MissingInterpreter),
        (b"#!/bin/sh\n", 0o644, BinaryReason::NotExecutable),
    ];
    for (content, mode, wanted) in cases {
        let binary = Binary::new(content, mode);
        assert_eq!(reason(&binary.0).await, wanted);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn open_with_foreign_or_damaged_program_gives_the_reason() {
    let mut shell = fs::read("/bin/sh").unwrap();
    let cut = Binary::new(&shell[..shell.len() / 2], 0o755);
    assert_eq!(reason(&cut.0).await, BinaryReason::Truncated);
    let at = shell.windows(4).position(|four| four == b"/ld-").unwrap();
    shell[at + 1] = b'x';
    let libc = Binary::new(&shell, 0o755);
    assert_eq!(reason(&libc.0).await, BinaryReason::MissingLoader);
    shell[18] ^= 0xff;
    let machine = Binary::new(&shell, 0o755);
    assert_eq!(reason(&machine.0).await, BinaryReason::WrongArchitecture);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn open_with_binary_on_noexec_mount_gives_the_reason() {
    const NAME: &str = "start::open_with_binary_on_noexec_mount_gives_the_reason";
    if let Some(path) = std::env::var_os("ON_NOEXEC") {
        assert_eq!(reason(Path::new(&path)).await, BinaryReason::Noexec);
        return;
    }
    let place = std::env::temp_dir().join(format!("p2p-node-noexec-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    // The mount ends with the process that made it.
    let script = r#"mount -t tmpfs -o noexec none "$1" && cp /bin/sh "$1/p2p-node" || exit 99; exec "$2" --exact "$3""#;
    let mut command = tokio::process::Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(&place);
    command.arg(std::env::current_exe().unwrap()).arg(NAME).env("ON_NOEXEC", place.join("p2p-node"));
    let output = command.output().await;
    fs::remove_dir_all(&place).unwrap();
    // The test passes without a check where this user may not mount.
    let Ok(output) = output else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    let is_refused = output.status.code() == Some(99) || text.is_empty();
    assert!(is_refused || output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn open_with_binary_for_other_library_gives_the_reason() {
    let script = "#!/bin/sh\necho \"version \\`GLIBC_2.99' not found\" >&2\nexit 1\n";
    let binary = Binary::new(script, 0o755);
    assert_eq!(reason(&binary.0).await, BinaryReason::MissingLoader);
}

#[tokio::test]
async fn open_with_silent_script_that_exits_with_0_fails() {
    let binary = Binary::new("#!/bin/sh\n", 0o755);
    let error = refused(Node::builder().binary(&binary.0).open().await);
    assert!(matches!(error, Error::StartFailed { report: None, .. }), "{error}");
    assert_eq!((error.code(), exit_code(&error)), ("SIDECAR_EXITED", Some(0)));
}

#[tokio::test]
async fn open_with_process_that_reports_error_and_exits_returns_the_report() {
    let script = r#"#!/bin/sh
echo '{"type":"error","code":"IDENTITY_INVALID","message":"PRIVATE_KEY is no key","retryable":false,"details":{"a":1}}'
exit 78
"#;
    let binary = Binary::new(script, 0o755);
    let error = refused(Node::builder().binary(&binary.0).open().await);
    let Error::StartFailed { report: Some(report), .. } = &error else { panic!("{error:?}") };
    assert_eq!(report.details.as_ref().unwrap()["a"], 1);
    assert_eq!((error.code(), error.retryable(), exit_code(&error)), ("IDENTITY_INVALID", false, Some(78)));
    assert!(error.to_string().contains("PRIVATE_KEY is no key"), "{error}");
}

#[tokio::test]
async fn error_reported_before_exit_is_in_the_errors_of_calls() {
    let (node, mut events) = child("fatal").restart(None).open().await.unwrap();
    let lost = refused(node.send("0xB", "1").await);
    assert_eq!(exit_code(&lost), Some(70));
    for error in [lost, closed(&mut events).await.unwrap()] {
        assert!(error.to_string().contains("a defect, told"), "{error}");
    }
    let (node, _events) = child("fatal").open().await.unwrap();
    let lost = refused(node.send("0xB", "1").await);
    assert!(matches!(&lost, Error::SidecarRestarted { report: Some(_), .. }), "{lost}");
}
