//! Runs the fuzz targets without a fuzzer: on their corpora, on all regressions, and on random
//! inputs for a few seconds. `fuzz/run` runs the real fuzzer.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;
mod seeds;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fuzz::TARGETS;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestError, TestRunner};

/// Number of random inputs for each target. One run of `core` takes as long as many of the others.
const CASES: u32 = 2000;
const CORE_CASES: u32 = 300;
/// Maximum length of a random input, in bytes.
const MAX_BYTES: usize = 600;

fn directory(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind)
}

/// Returns the files below a directory, sorted by name; none if the directory does not exist.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

/// Prints the file name if the target panics.
struct Running<'a>(&'a str);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing input: {}", self.0);
        }
    }
}

fn known(name: &str) -> Vec<(String, Vec<u8>)> {
    let mut known = files(&directory("corpus").join(name));
    known.extend(files(&directory("regressions").join(name)));
    known
}

fn replay(name: &str) {
    let known = known(name);
    assert!(!known.is_empty(), "{name} has no corpus");
    for (path, bytes) in known {
        let running = Running(&path);
        fuzz::run(name, &bytes);
        drop(running);
    }
}

/// Returns the bytes of a seed with one piece replaced by another.
fn changed(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), 0..8usize, vec(any::<u8>(), 0..8));
    (select(seeds), vec(change, 1..4)).prop_map(|(mut bytes, changes)| {
        for (at, cut, inserted) in changes {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..(at + cut).min(bytes.len()), inserted);
        }
        bytes
    })
}

fn run_random(name: &str) {
    let seeds: Vec<Vec<u8>> = known(name).into_iter().map(|(_, bytes)| bytes).collect();
    let inputs = prop_oneof![vec(any::<u8>(), 0..MAX_BYTES), changed(seeds)];
    let cases = if name == "core" { CORE_CASES } else { CASES };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&inputs, |bytes| {
        fuzz::run(name, &bytes);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, bytes)) => {
            panic!("{name}: {reason}; the input in hex: {}", hex::encode(bytes))
        }
        Err(TestError::Abort(reason)) => panic!("{name}: {reason}"),
    }
}

macro_rules! targets {
    ($($name:ident)+) => {
        const TESTED: &[&str] = &[$(stringify!($name)),+];

        $(mod $name {
            #[test]
            fn corpus_and_regressions_pass() {
                super::replay(stringify!($name));
            }

            #[test]
            fn random_inputs_pass() {
                super::run_random(stringify!($name));
            }
        })+
    };
}

targets! { ack admission binding binding_file bootstrap checkpoint_row core event frame highest_seen_row line mail_response message_row record sealed typed_data }

#[test]
fn every_target_is_tested_built_and_has_a_wrapper() {
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, TESTED);
    let wrappers = files(&directory("fuzz_targets"));
    assert_eq!(wrappers.len(), TARGETS.len());
    let manifest = fs::read_to_string(directory("Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "Cargo.toml lacks {name}");
        let (_, wrapper) = wrappers.iter().find(|(path, _)| path.ends_with(&format!("/{name}.rs"))).unwrap();
        assert!(String::from_utf8_lossy(wrapper).contains(&format!("run(\"{name}\"")), "{name}");
    }
    for kind in ["corpus", "regressions"] {
        let known: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let Ok(entries) = fs::read_dir(directory(kind)) else { continue };
        let found = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let unknown: Vec<_> = found.filter(|name| !known.contains(name)).collect();
        assert!(unknown.is_empty(), "fuzz/{kind} has directories of no target: {unknown:?}");
    }
}
