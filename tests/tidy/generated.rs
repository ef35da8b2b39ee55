//! Checks that files and tables are those that the declarations in the code give. With
//! `UPDATE_FILES=1` the tests write them instead.

use std::fs;

use clap::CommandFactory;
use p2p_node::config::{Cli, SETTINGS, env_example, table_of_settings};

use super::{read, root};

/// Returns `text` with the table that begins with the head of `table` replaced by `table`.
fn with_table(text: &str, table: &str) -> Option<String> {
    let head = table.lines().next()?;
    let start = text.find(head)?;
    let length = text[start..].find("\n\n").map_or(text.len() - start, |end| end + 1);
    Some(format!("{}{table}{}", &text[..start], &text[start + length..]))
}

/// Checks that the file at `path` is `expected`, or writes it.
fn check(path: &str, expected: &str) {
    if std::env::var_os("UPDATE_FILES").is_some() {
        fs::write(root().join(path), expected).expect("written");
        return;
    }
    let text = read(path);
    let mut pairs = text.lines().zip(expected.lines());
    let differs = pairs.find(|(found, expected)| found != expected);
    assert!(
        text == expected,
        "{path} differs from the code; run `UPDATE_FILES=1 cargo test --test tidy`: (found, expected) = {differs:?}"
    );
}

fn check_table(path: &str, table: &str) {
    let expected = with_table(&read(path), table);
    check(path, &expected.unwrap_or_else(|| panic!("{path} lacks the table {:?}", table.lines().next())));
}

#[test]
fn the_rows_of_a_table_are_replaced_and_the_text_around_it_is_kept() {
    let text = "a\n\n| x |\n|---|\n| 1 |\n\nb\n";
    assert_eq!(with_table(text, "| x |\n|---|\n| 2 |\n").as_deref(), Some("a\n\n| x |\n|---|\n| 2 |\n\nb\n"));
    assert_eq!(with_table(text, "| y |\n"), None);
}

#[test]
fn env_example_is_that_of_the_settings() {
    check(".env.example", &env_example());
}

#[test]
fn operations_has_the_table_of_the_settings() {
    check_table("docs/operations.md", &table_of_settings());
}

#[test]
fn the_help_names_every_variable() {
    let help = Cli::command().render_long_help().to_string();
    let lacking: Vec<_> = SETTINGS.iter().filter(|setting| !help.contains(setting.variable)).collect();
    assert!(lacking.is_empty(), "{lacking:?}");
}
