//! Scenarios in files: regressions, and properties that must always hold.

use std::path::PathBuf;

use crate::scenario::Scenario;

/// The recorded report of all scenarios.
const REPORT: &str = "report.txt";

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/scenarios")
}

/// Compares a report with the recorded one, or writes it with `UPDATE_FIXTURES`.
pub fn compare(report: &str) {
    let path = directory().join(REPORT);
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, report).expect("written");
    }
    if std::env::var_os("SIM_REPORT").is_some_and(|value| value == "ignored") {
        return;
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    let changed: Vec<_> = report.lines().filter(|line| !recorded.lines().any(|old| old == *line)).collect();
    let old: Vec<_> = recorded.lines().filter(|line| !report.lines().any(|new| new == *line)).collect();
    assert!(
        changed.is_empty() && old.is_empty(),
        "the simulation report has changed; if that is intended, run `UPDATE_FIXTURES=1 cargo test --test simulation`\nrecorded {old:#?}\nnow {changed:#?}"
    );
}

/// Returns every scenario of `fixtures/scenarios` with its name.
pub fn all() -> Vec<(String, Scenario)> {
    scenarios(directory())
}

/// Returns every scenario without attackers and faulty disks.
pub fn honest() -> Vec<(String, Scenario)> {
    scenarios(directory().join("honest"))
}

fn scenarios(directory: PathBuf) -> Vec<(String, Scenario)> {
    let mut found: Vec<(String, Scenario)> = std::fs::read_dir(directory)
        .expect("a directory of scenarios")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file() && path.file_name().is_some_and(|name| name != REPORT))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a text");
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let scenario = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, scenario)
        })
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}
