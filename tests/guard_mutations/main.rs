//! Shows that every guard is tested: removes each guard from a copy of the sources and expects a
//! test to fail.
//!
//! This builds the copy once for each guard, so it runs separately:
//! `cargo test --test guard_mutations -- --ignored`.

#![allow(clippy::disallowed_methods, reason = "the time limit is in real time")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// A guard, the edit that removes it, and the test that must fail then.
#[derive(Debug, Default)]
struct Guard {
    name: String,
    file: String,
    guarded: String,
    bare: String,
    test: String,
}

/// Reads `fixtures/guard_mutations.txt`: a name after `==`, a file, lines that begin with `-` and
/// `+` as in a patch, and a test target with a filter.
fn guards() -> Vec<Guard> {
    let path = root().join("fixtures/guard_mutations.txt");
    let text = std::fs::read_to_string(path).expect("the list of guards");
    let mut guards: Vec<Guard> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            guards.push(Guard { name: name.to_owned(), ..Guard::default() });
        }
        let Some(guard) = guards.last_mut() else { continue };
        match line.split_once(' ') {
            Some(("file", file)) => guard.file = file.to_owned(),
            Some(("test", test)) => guard.test = test.to_owned(),
            _ => {}
        }
        for (mark, code) in [('-', &mut guard.guarded), ('+', &mut guard.bare)] {
            if let Some(line) = line.strip_prefix(mark) {
                if !code.is_empty() {
                    code.push('\n');
                }
                code.push_str(line);
            }
        }
    }
    guards
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Copies the parts of the tree that cargo needs.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("read").map(|entry| entry.expect("an entry")) {
        let (path, name) = (entry.path(), entry.file_name());
        let built = ["target", ".git", "node_modules", "corpus"].iter().any(|skipped| name == *skipped);
        if path.is_dir() && !built {
            copy(&path, &to.join(name));
        } else if path.is_file() {
            let copied = to.join(name);
            std::fs::copy(&path, &copied).expect("copied");
            // To cargo an older file is unchanged, so that it builds only what depends on a removed guard.
            let modified = entry.metadata().and_then(|metadata| metadata.modified()).expect("a time");
            let file = std::fs::File::options().write(true).open(&copied).expect("opened");
            file.set_modified(modified).expect("set");
        }
    }
}

/// Maximum time of one guard, in seconds: our choice, three times what the first build of the workspace takes on two
/// slow processors (200 s). A test that waits forever without its guard must become one that fails.
const LIMIT_SECS: &str = "600";

/// Returns the problem with a guard, if any: the guard must occur exactly once, the copy must build
/// without it, and the test must fail.
fn fault(guard: &Guard, tree: &Path) -> Option<String> {
    let path = tree.join(&guard.file);
    let source = std::fs::read_to_string(&path).ok()?;
    if source.matches(&guard.guarded).count() != 1 {
        return Some(format!("{} does not contain the guard exactly once", guard.file));
    }
    std::fs::write(&path, source.replacen(&guard.guarded, &guard.bare, 1)).expect("written");
    let output = Command::new("timeout")
        .arg(LIMIT_SECS)
        .arg(env!("CARGO"))
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", root().join("target"))
        // The copies differ only in the removed guard, so builds are incremental, as by default.
        .env_remove("CARGO_INCREMENTAL")
        // A changed simulation report does not count: an assertion must fail.
        .env("SIM_REPORT", "ignored")
        // Random tests do not count either.
        .env("PROPTEST_CASES", "0")
        // What is compiled once for one test needs no optimisation.
        .args(["test", "--offline", "--quiet", "--config", "profile.dev.package.p2p-node.opt-level=0"])
        .args(guard.test.split_whitespace())
        .output()
        .expect("cargo runs");
    std::fs::write(&path, source).expect("written");
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(124) {
        return Some(format!("the test does not end within {LIMIT_SECS} s"));
    }
    match (output.status.success(), text.contains("test result: FAILED")) {
        (false, true) => None,
        (true, _) => Some("no test fails".to_owned()),
        (false, false) => {
            Some(format!("the copy does not build: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }
}

#[test]
fn guard_list_matches_the_sources() {
    let guards = guards();
    assert!(guards.len() >= 6, "only {} guards", guards.len());
    for guard in &guards {
        let source = std::fs::read_to_string(root().join(&guard.file)).expect("the guard's file");
        assert_eq!(
            source.matches(&guard.guarded).count(),
            1,
            "{}: the guard occurs once in {}",
            guard.name,
            guard.file
        );
        assert!(!guard.test.is_empty() && guard.guarded != guard.bare, "{guard:?}");
    }
}

#[test]
#[ignore = "builds the crate once for each guard"]
fn every_removed_guard_fails_its_test() {
    let directory = tempfile::tempdir().expect("a directory");
    let tree = directory.path().join("tree");
    copy(&root(), &tree);
    let mut undetected = Vec::new();
    // CI has a time limit. On a slow machine a run checks only some guards, and the next run starts
    // at another place of the list.
    let budget = std::env::var("GUARD_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let budget = Duration::from_secs(budget.unwrap_or(u64::MAX));
    let (mut guards, began) = (guards(), SystemTime::now());
    let today = began.duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs() / 60;
    let (number, first) = (guards.len(), today as usize % guards.len());
    guards.rotate_left(if budget == Duration::from_secs(u64::MAX) { 0 } else { first });
    for (tried, guard) in guards.into_iter().enumerate() {
        if began.elapsed().expect("a clock") > budget {
            println!("{tried} of {number} guards were checked in {} s", budget.as_secs());
            break;
        }
        let fault = fault(&guard, &tree);
        println!("{}: {}", guard.name, fault.as_deref().unwrap_or("detected"));
        undetected.extend(fault.map(|fault| format!("{}: {fault}", guard.name)));
    }
    assert!(undetected.is_empty(), "{undetected:#?}");
}
