//! The length of files and functions.

use std::path::PathBuf;

use crate::{read, rust_files};

/// Maximum length of a Rust file, in lines. Longer files must be split.
const MAX_FILE_LINES: usize = 400;
/// Maximum length of a function, in lines, from its signature to its closing brace.
const MAX_FUNCTION_LINES: usize = 60;

fn all_files() -> Vec<PathBuf> {
    let files = ["src", "crates", "sdk", "tests", "benches", "fuzz/src"].into_iter().flat_map(rust_files);
    // A program writes those of `generated`, and nobody reads them.
    let is_generated = |file: &PathBuf| file.iter().any(|part| part == "generated");
    let files: Vec<_> = files.filter(|file| !is_generated(file)).collect();
    assert!(files.len() > 10, "only {} files found", files.len());
    files
}

fn is_too_long(text: &str) -> bool {
    text.lines().count() > MAX_FILE_LINES
}

/// Returns the functions of a formatted file that are too long, with their lengths.
fn long_functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut long = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let is_visibility = |word: &&str| word.starts_with("pub") || ["const", "async"].contains(word);
        let mut words = code.split(' ').skip_while(is_visibility);
        let (Some("fn"), Some(rest)) = (words.next(), words.next()) else { continue };
        let end = format!("{}}}", " ".repeat(line.len() - code.len()));
        let length = lines[first..].iter().position(|line| **line == end).map_or(1, |offset| offset + 1);
        if length > MAX_FUNCTION_LINES {
            let name = rest.split(['(', '<']).next().unwrap_or(rest);
            long.push((name.to_owned(), length));
        }
    }
    long
}

#[test]
fn rust_files_have_at_most_400_lines() {
    assert!(
        !is_too_long(&"line\n".repeat(MAX_FILE_LINES)) && is_too_long(&"line\n".repeat(MAX_FILE_LINES + 1))
    );
    let long: Vec<_> = all_files().into_iter().filter(|file| is_too_long(&read(file))).collect();
    assert!(long.is_empty(), "over {MAX_FILE_LINES} lines: {long:?}");
}

#[test]
fn functions_have_at_most_60_lines() {
    for signature in ["pub fn f(x: u8)", "fn f<T>(x: T)", "pub(crate) const fn f(x: u8)", "async fn f(x: u8)"]
    {
        let long = format!("    {signature} {{\n{}    }}\n", "        x;\n".repeat(MAX_FUNCTION_LINES));
        assert_eq!(long_functions(&long), [("f".to_owned(), MAX_FUNCTION_LINES + 2)], "{signature}");
    }
    let found: Vec<_> = all_files()
        .into_iter()
        .map(|file| (long_functions(&read(&file)), file))
        .filter(|(long, _)| !long.is_empty())
        .collect();
    assert!(found.is_empty(), "over {MAX_FUNCTION_LINES} lines: {found:?}");
}
