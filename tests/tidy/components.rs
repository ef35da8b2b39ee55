//! The rules of the components of the core (ADR 0026): arrows go down only, and `Core` only routes.

use crate::{read, rust_files};

/// The components, lowest first. A component may name those before it.
const LAYERS: [&str; 10] =
    ["replies", "local", "gate", "directory", "peers", "gossip", "mail", "requests", "files", "parent"];
/// Largest number of fields of `Core`.
const MAX_FIELDS: usize = 10;

const SOURCE: &str = "crates/core/src";

/// Returns the components above that of the file that its text names.
fn upward_arrows(component: &str, text: &str) -> Vec<String> {
    let Some(layer) = LAYERS.iter().position(|name| *name == component) else { return Vec::new() };
    let above = LAYERS.iter().skip(layer + 1);
    above.filter(|name| text.contains(&format!("crate::{name}::"))).map(|name| (*name).to_owned()).collect()
}

#[test]
fn components_name_only_lower_components() {
    assert_eq!(upward_arrows("gate", "use crate::mail::Mail; use crate::local::Local;"), ["mail"]);
    let mut wrong = Vec::new();
    for file in rust_files(SOURCE) {
        let inside = file.strip_prefix(SOURCE).expect("below the source");
        let component = inside.iter().next().and_then(|name| name.to_str()).expect("a name");
        let arrows = upward_arrows(component, &read(&file));
        wrong.extend(arrows.into_iter().map(|above| format!("{} names {above}", file.display())));
    }
    assert!(wrong.is_empty(), "a component must raise a signal instead of naming a higher one: {wrong:#?}");
}

#[test]
fn core_is_implemented_in_one_file_and_has_few_fields() {
    let outside: Vec<_> = rust_files(SOURCE)
        .into_iter()
        .filter(|file| !file.ends_with("lib.rs") && read(file).lines().any(|line| line == "impl Core {"))
        .collect();
    assert!(outside.is_empty(), "methods of `Core` outside lib.rs: {outside:?}");
    let text = read(format!("{SOURCE}/lib.rs"));
    let body = text
        .split("pub struct Core {\n")
        .nth(1)
        .and_then(|rest| rest.split("\n}").next())
        .expect("the struct");
    let (docs, fields): (Vec<&str>, Vec<&str>) =
        body.lines().partition(|line| line.trim_start().starts_with("///"));
    assert!((1..=MAX_FIELDS).contains(&fields.len()), "{} fields: {fields:?}", fields.len());
    assert!(docs.len() >= fields.len(), "each field of `Core` needs a comment");
}
