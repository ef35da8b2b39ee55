//! Checks rules that the compiler does not check: the length of files, texts that must match the
//! code, and minimum versions of dependencies.

#[path = "tidy/components.rs"]
mod components;
#[path = "tidy/dependency_versions.rs"]
mod dependency_versions;
#[path = "tidy/generated.rs"]
mod generated;
#[path = "tidy/lengths.rs"]
mod lengths;
#[path = "tidy/texts.rs"]
mod texts;

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the Rust files below a directory, as paths relative to the root of the repository.
fn rust_files(directory: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(root()).expect("below the root").to_owned());
            }
        }
    }
    files.sort();
    files
}
