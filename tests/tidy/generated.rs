//! Checks that generated files and tables match the declarations in the code. `UPDATE_FILES=1`
//! writes them.

use std::fs;

use clap::CommandFactory;
use p2p_node::config::{Cli, SETTINGS, env_example, table_of_settings};

use p2p_node_protocol::{
    Counter, ErrorCode, ExitCode, FIELD_LIMITS, Limits, MessageKind, Priority, SdkErrorCode,
};
use p2p_node_wire::envelope::limits::{MAX_KIND_BYTES, MAX_NAME_BYTES};

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
fn grpc_table_matches_the_codes() {
    check_tables("docs/grpc.md", &[p2p_node::grpc::table_of_codes()]);
}

fn tables_of_limits_and_kinds() -> [String; 3] {
    let mut limits = String::from("| limit | value | unit | meaning |\n|---|---|---|---|\n");
    for limit in Limits::ALL {
        let value = grouped(limit.value);
        limits.push_str(&format!("| `{}` | {value} | {} | {} |\n", limit.name, limit.unit, limit.meaning));
    }
    let mut fields = String::from("| limit of commands | value | unit | meaning |\n|---|---|---|---|\n");
    for limit in FIELD_LIMITS {
        let value = grouped(limit.value);
        fields.push_str(&format!("| `{}` | {value} | {} | {} |\n", limit.name, limit.unit, limit.meaning));
    }
    let mut kinds = String::from("| priority of a `send` without `priority` | `kind` |\n|---|---|\n");
    for (name, priority) in [("high", Priority::High), ("low", Priority::Low)] {
        let names = MessageKind::ALL.iter().filter(|kind| kind.priority == priority);
        let names: Vec<_> = names.map(|kind| format!("`{}`", kind.name)).collect();
        kinds.push_str(&format!("| `{name}` | {} |\n", names.join(", ")));
    }
    kinds.push_str("| `medium` | all others, and none |\n");
    [limits, fields, kinds]
}

fn tables_of_codes_and_counters() -> [String; 3] {
    let mut errors = String::from("| `code` | meaning | retryable | what to do |\n|---|---|---|---|\n");
    for code in ErrorCode::ALL {
        let retryable = if code.retryable() { "yes" } else { "no" };
        errors.push_str(&format!("| `{code}` | {} | {retryable} | {} |\n", code.meaning(), code.advice()));
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
    [errors, codes, counters]
}

#[test]
fn pipe_protocol_has_the_tables_of_limits_kinds_codes_and_counters() {
    let tables = [tables_of_limits_and_kinds(), tables_of_codes_and_counters()].concat();
    check_tables("docs/pipe-protocol.md", &tables);
}

#[test]
fn metrics_table_matches_the_counters_and_gauges() {
    check_tables("docs/metrics.md", &[p2p_node::http::metrics::table_of_metrics()]);
}

/// The section of a command, up to the next heading.
fn section<'a>(text: &'a str, command: &str) -> &'a str {
    let (_, after) = text.split_once(&format!("\n### `{command}`\n")).expect("a section of the command");
    after.split("\n### ").next().expect("a part")
}

#[test]
fn descriptions_of_fields_give_the_limits_of_the_fields() {
    let (text, document) = (read("docs/pipe-protocol.md"), p2p_node::schema::document());
    for limit in FIELD_LIMITS {
        let value = grouped(limit.value);
        for place in limit.fields {
            let (command, field) = place.split_once('.').expect("a command and a field");
            let row = format!("| `{field}` |");
            let row = section(&text, command).lines().find(|line| line.starts_with(&row));
            assert!(row.is_some_and(|row| row.contains(&value)), "{place} of {}: {row:?}", limit.name);
            let variants = document["commands"]["oneOf"].as_array().expect("variants");
            let variant = variants.iter().find(|variant| variant["properties"]["type"]["const"] == command);
            let reference = variant.and_then(|variant| variant["$ref"].as_str()).expect("a reference");
            let schema = document.pointer(&reference[1..]).expect("a definition");
            let meaning = schema["properties"][field]["description"].as_str().expect("a description");
            assert!(meaning.contains(&value), "{place} of {}: {meaning}", limit.name);
        }
    }
}

#[test]
fn messages_of_commands_fit_into_frames() {
    assert_eq!(p2p_node_protocol::MAX_KIND_BYTES, MAX_KIND_BYTES);
    assert_eq!(p2p_node_protocol::MAX_REFERENCE_BYTES, MAX_NAME_BYTES);
    assert_eq!(p2p_node_protocol::MAX_TOPIC_NAME_BYTES, MAX_NAME_BYTES);
}

#[test]
fn sources_of_the_sdks_take_codes_from_the_generated_constants() {
    let codes = ErrorCode::ALL.iter().map(|code| code.as_str());
    let codes: Vec<_> = codes.chain(SdkErrorCode::ALL.iter().map(|code| code.as_str())).collect();
    let repeated = |text: &str| codes.iter().any(|code| text.contains(&format!("\"{code}\"")));
    assert!(repeated(&read("sdk/python/src/p2p_node/types.py")));
    let mut sources = vec![root().join("sdk/rust/src/error.rs")];
    for directory in ["sdk/python/src/p2p_node", "sdk/typescript/src"] {
        let entries = fs::read_dir(root().join(directory)).expect("a directory");
        sources.extend(entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()));
    }
    sources.retain(|path| path.file_stem().is_some_and(|name| name != "types") && repeated(&read(path)));
    assert!(sources.is_empty(), "codes as strings: {sources:?}");
}

/// Returns the digits of a number in groups of three.
fn grouped(number: u64) -> String {
    if number < 1000 {
        number.to_string()
    } else {
        format!("{},{:03}", grouped(number / 1000), number % 1000)
    }
}
