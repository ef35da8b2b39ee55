//! The README names every option and error, and its programs are tested examples.

use std::fs;

fn read(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Returns the names that follow `before` at the start of a line.
fn names<'a>(source: &'a str, before: &str) -> Vec<&'a str> {
    let after = source.lines().filter_map(|line| line.strip_prefix(before));
    let name = |rest: &'a str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
    after.map(name).filter(|name| !name.is_empty()).collect()
}

fn missing<'a>(names: &[&'a str], text: &str) -> Vec<&'a str> {
    names.iter().copied().filter(|name| !text.contains(&format!("`{name}`"))).collect()
}

#[test]
fn readme_tables_name_every_option_and_error() {
    let (readme, builder, error) = (read("README.md"), read("src/builder.rs"), read("src/error.rs"));
    let options: Vec<&str> = names(&builder, "    pub fn ");
    assert!(options.contains(&"mail_buffer") && options.len() > 15, "{options:?}");
    assert_eq!(missing(&options, &readme), [""; 0]);
    let variants = error.split("pub enum Error {").nth(1).unwrap().split("\n}").next().unwrap();
    let variants: Vec<&str> =
        names(variants, "    ").into_iter().filter(|name| name.starts_with(char::is_uppercase)).collect();
    assert!(variants.contains(&"StartFailed") && variants.len() > 15, "{variants:?}");
    assert_eq!(missing(&variants, &readme), [""; 0]);
    assert_eq!(missing(&["none_such"], &readme), ["none_such"]);
}

#[test]
fn builder_docs_give_the_default_of_every_option() {
    let builder = read("src/builder.rs");
    let options = builder.split("impl Builder {").nth(1).unwrap();
    let mut documentation = String::new();
    let mut count = 0;
    for line in options.lines().map(str::trim) {
        if let Some(said) = line.strip_prefix("///") {
            documentation.push_str(said);
        } else if line.starts_with("pub fn ") {
            count += 1;
            assert!(documentation.contains("Default"), "{line}");
        } else {
            documentation.clear();
        }
    }
    assert!(count > 15, "{count}");
}

#[test]
fn readme_programs_are_the_hello_and_agent_examples() {
    let readme = read("README.md");
    for (name, start) in [("hello", "use p2p_node_sdk"), ("agent", "use std::time")] {
        let example = read(&format!("examples/{name}.rs"));
        let program = &example[example.find(start).unwrap()..];
        assert!(readme.contains(&format!("```rust,no_run\n{program}```")), "examples/{name}.rs differs");
    }
}
