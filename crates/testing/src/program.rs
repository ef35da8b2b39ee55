//! Programs that a test writes and starts.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes an executable file.
///
/// A child process writes it. If this process had the file open for writing, a child that another
/// thread forks at the same time would inherit the descriptor, and the system does not start a file
/// that a process has open for writing (`ETXTBSY`).
///
/// # Panics
/// Panics if the file cannot be written.
pub fn write_program(path: &Path, content: impl AsRef<[u8]>) {
    let mut shell = Command::new("sh")
        .args(["-c", r#"cat >"$0" && chmod 755 "$0""#])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut stdin = shell.stdin.take().expect("its stdin");
    stdin.write_all(content.as_ref()).expect("the content is written");
    drop(stdin);
    assert!(shell.wait().expect("the shell ends").success(), "{} is not written", path.display());
}
