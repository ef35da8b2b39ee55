//! Checks that the documentation matches the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use p2p_node_protocol::ErrorCode;
use serde_json::Value;

use super::{read, root, rust_files};

const PIPE_PROTOCOL: &str = "docs/pipe-protocol.md";

/// Returns the names that a text does not contain between backticks.
fn missing<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    names.into_iter().filter(|name| !text.contains(&format!("`{name}`"))).collect()
}

/// Returns the types of the commands or events of a schema.
fn types(schema: &Value) -> Vec<&str> {
    let variants = schema["oneOf"].as_array().expect("variants");
    variants.iter().map(|variant| variant["properties"]["type"]["const"].as_str().expect("a type")).collect()
}

/// Returns the names of all fields of a schema.
fn fields(document: &Value) -> BTreeSet<&str> {
    let definitions = document["$defs"].as_object().expect("definitions");
    let properties = definitions.values().filter_map(|definition| definition["properties"].as_object());
    properties.flat_map(|properties| properties.keys().map(String::as_str)).collect()
}

#[test]
fn pipe_protocol_names_every_code_command_event_and_field() {
    let (text, document) = (read(PIPE_PROTOCOL), p2p_node::schema::document());
    let codes = ErrorCode::ALL.iter().map(|code| code.as_str());
    assert_eq!(missing(&text, codes), Vec::<&str>::new(), "codes");
    assert_eq!(missing(&text, types(&document["commands"])), Vec::<&str>::new(), "commands");
    assert_eq!(missing(&text, types(&document["events"])), Vec::<&str>::new(), "events");
    assert_eq!(missing(&text, fields(&document)), Vec::<&str>::new(), "fields");

    assert_eq!(missing("`a` and b", ["a", "b"]), ["b"]);
    assert!(fields(&document).contains("bootstrapPeers") && types(&document["events"]).contains(&"ready"));
}

#[test]
fn pipe_protocol_has_a_section_for_each_command_and_event() {
    let (text, document) = (read(PIPE_PROTOCOL), p2p_node::schema::document());
    for name in [types(&document["commands"]), types(&document["events"])].concat() {
        assert!(text.contains(&format!("\n### `{name}`\n")), "no section for `{name}`");
    }
}

/// Returns the codes that no text contains as a string.
fn unnamed<'a>(texts: &[String], codes: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let named = |code: &str| {
        let forms = [format!("\"{code}\""), format!("\\\"{code}\\\""), format!("({code})")];
        texts.iter().any(|text| forms.iter().any(|form| text.contains(form)))
    };
    codes.into_iter().filter(|code| !named(code)).collect()
}

#[test]
fn error_codes_occur_in_tests() {
    let directories = ["crates/core/tests/core", "tests/process", "tests/hostile", "tests/registry"];
    let texts: Vec<String> = directories.into_iter().flat_map(rust_files).map(read).collect();
    let codes = ErrorCode::ALL.iter().map(|code| code.as_str());
    assert_eq!(unnamed(&texts, codes), Vec::<&str>::new());
    assert_eq!(unnamed(&["a \"BUSY\"".to_owned()], ["BUSY", "EXPIRED"]), ["EXPIRED"]);
}

#[test]
fn readme_names_the_quick_start_files() {
    let text = read("README.md");
    for name in ["quickstart.sh", "quickstart.py", "quickstart.mjs", "pipeline.sh"] {
        assert!(text.contains(&format!("examples/{name}")), "README.md does not mention {name}");
    }
}

/// Returns the first code block of a language, without its fences.
fn first_block<'a>(text: &'a str, language: &str) -> &'a str {
    let (_, after) = text.split_once(&format!("\n```{language}")).expect("a block of this language");
    let (_, code) = after.split_once('\n').expect("code after the fence");
    code.split_once("\n```").expect("the end of the block").0
}

#[test]
fn readme_quick_starts_match_the_sdk_readmes() {
    let text = read("README.md");
    for (sdk, language) in [("python", "python"), ("typescript", "ts"), ("rust", "rust")] {
        let own = read(format!("sdk/{sdk}/README.md"));
        assert_eq!(first_block(&text, language), first_block(&own, language), "sdk/{sdk}");
    }
    assert_eq!(first_block("a\n```rust,no_run\nfn b() {}\n```\nc", "rust"), "fn b() {}");
}

#[test]
fn document_links_lead_to_existing_files() {
    let mut documents: Vec<_> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"].map(PathBuf::from).into();
    for directory in ["docs", "docs/adr"] {
        let files = fs::read_dir(root().join(directory)).expect("a directory");
        let paths = files.map(|file| Path::new(directory).join(file.expect("a file").file_name()));
        documents.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    for document in documents {
        let text = read(&document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().expect("a part");
            let target = root().join(document.parent().expect("a directory")).join(file);
            let is_file = !file.is_empty() && !file.contains(':');
            assert!(!is_file || target.exists(), "{}: {link}", document.display());
        }
    }
}

#[test]
fn comments_cite_only_documents_of_the_repository() {
    let cites = |text: &str| text.contains("design §") || text.contains(concat!("reference", "/"));
    assert!(cites("(design §4)") && !cites("docs/adr/0001"));
    let files = ["src", "crates", "sdk/protocol", "sdk/rust", "tests"].into_iter().flat_map(rust_files);
    let citing: Vec<_> = files.filter(|file| !file.ends_with("texts.rs") && cites(&read(file))).collect();
    assert!(citing.is_empty(), "{citing:?}");
}

#[test]
fn code_map_names_every_module() {
    let map = read("ARCHITECTURE.md");
    for root in ["crates/wire/src", "crates/core/src", "crates/store/src", "crates/testing/src", "src"] {
        for file in rust_files(root) {
            let name = file.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            let is_test = name.ends_with("tests.rs") || name.contains("/tests/");
            if !is_test && name != "lib.rs" && name != "main.rs" {
                assert!(map.contains(&format!("| `{name}` |")), "ARCHITECTURE.md lacks {root}/{name}");
            }
        }
    }
}

/// Returns the metrics that a text names.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let metrics = words.filter(|word| word.starts_with("p2p_node_") || word.starts_with("libp2p_"));
    metrics.map(|name| name.strip_suffix("_bucket").unwrap_or(name)).collect()
}

#[test]
fn dashboard_and_alerts_name_documented_metrics() {
    let table = read("docs/metrics.md");
    for file in ["docs/alerts.yml", "docs/grafana-dashboard.json"] {
        let text = read(file);
        let names = metrics_in(&text);
        assert!(names.len() > 3, "{file}");
        assert_eq!(missing(&table, names), Vec::<&str>::new(), "{file}");
    }
    assert!(serde_json::from_str::<Value>(&read("docs/grafana-dashboard.json")).is_ok());
}
