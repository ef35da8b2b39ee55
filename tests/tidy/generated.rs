//! Checks that generated files and tables match the declarations in the code. `UPDATE_FILES=1`
//! writes them.

use std::fs;

use clap::CommandFactory;
use p2p_node::config::{Cli, SETTINGS, env_example, table_of_settings};

use p2p_node_protocol::{Counter, ExitCode, Limits};

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

fn check_tables(path: &str, tables: &[String]) {
    let expected = tables.iter().fold(read(path), |text, table| {
        with_table(&text, table)
            .unwrap_or_else(|| panic!("{path} lacks the table {:?}", table.lines().next()))
    });
    check(path, &expected);
}

#[test]
fn with_table_replaces_only_the_table() {
    let text = "a\n\n| x |\n|---|\n| 1 |\n\nb\n";
    assert_eq!(with_table(text, "| x |\n|---|\n| 2 |\n").as_deref(), Some("a\n\n| x |\n|---|\n| 2 |\n\nb\n"));
    assert_eq!(with_table(text, "| y |\n"), None);
}

#[test]
fn env_example_matches_the_settings() {
    check(".env.example", &env_example());
}

#[test]
fn operations_table_matches_the_settings() {
    check_tables("docs/operations.md", &[table_of_settings()]);
}

#[test]
fn help_names_every_variable() {
    let help = Cli::command().render_long_help().to_string();
    let missing: Vec<_> = SETTINGS.iter().filter(|setting| !help.contains(setting.variable)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn pipe_protocol_tables_match_limits_exit_codes_and_counters() {
    let mut limits = String::from("| limit | value | unit | meaning |\n|---|---|---|---|\n");
    for limit in Limits::ALL {
        let value = grouped(limit.value);
        limits.push_str(&format!("| `{}` | {value} | {} | {} |\n", limit.name, limit.unit, limit.meaning));
    }
    let mut codes = String::from("| exit code | meaning | restart? |\n|---|---|---|\n");
    for &code in ExitCode::ALL {
        let restart = if code.restart() { "yes" } else { "no" };
        codes.push_str(&format!("| {} | {} | {restart} |\n", code as u8, code.meaning()));
    }
    let mut counters = String::from("| counter | counts |\n|---|---|\n");
    for counter in Counter::ALL {
        counters.push_str(&format!("| `{}` | {} |\n", counter.as_str(), counter.doc()));
    }
    check_tables("docs/pipe-protocol.md", &[limits, codes, counters]);
}

/// Returns the digits of a number in groups of three.
fn grouped(number: u64) -> String {
    if number < 1000 {
        number.to_string()
    } else {
        format!("{},{:03}", grouped(number / 1000), number % 1000)
    }
}
