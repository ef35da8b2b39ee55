//! Checks that the schema of the pipe protocol only grows. `fixtures/protocol/schema.json` is the
//! schema of the last published version.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Returns the incompatible changes from the old schema to the new one. `read` is `true` for parts
/// that the parent reads, `false` for parts that it writes.
fn incompatible_changes(old: &Value, new: &Value, read: bool, place: &str, out: &mut Vec<String>) {
    let mut report = |change: String| out.push(format!("{place}: {change}"));
    if normalized(old) != normalized(new) {
        return report(format!("{} became {}", normalized(old), normalized(new)));
    }
    let words = |schema: &Value| -> BTreeSet<String> {
        let variants = schema["oneOf"].as_array().into_iter().flatten();
        variants.filter_map(|variant| variant["const"].as_str().map(str::to_owned)).collect()
    };
    for word in words(old).difference(&words(new)) {
        report(format!("the value {word:?} is removed"));
    }
    let required = |schema: &Value| -> BTreeSet<String> {
        let names = schema["required"].as_array().into_iter().flatten();
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let (before, after) = (required(old), required(new));
    // A reader relies on required fields; a writer does not know new required fields.
    let changes: Vec<_> =
        if read { before.difference(&after).collect() } else { after.difference(&before).collect() };
    for name in changes {
        report(format!("`{name}` is {} required", if read { "no longer" } else { "now" }));
    }
    let properties = |schema: &Value| schema["properties"].as_object().cloned().unwrap_or_default();
    let new_properties = properties(new);
    for (name, old_property) in &properties(old) {
        let place = format!("{place}.{name}");
        match new_properties.get(name) {
            None => out.push(format!("{place}: removed")),
            Some(new_property) => incompatible_changes(old_property, new_property, read, &place, out),
        }
    }
    for inner in ["items", "additionalProperties"] {
        if old[inner].is_object() {
            incompatible_changes(&old[inner], &new[inner], read, &format!("{place}.{inner}"), out);
        }
    }
}

/// Returns the kind of value: its types, the referenced definitions, and a constant value.
fn normalized(schema: &Value) -> Value {
    let alternatives: Vec<Value> = schema["anyOf"].as_array().into_iter().flatten().map(normalized).collect();
    json!([schema["type"], schema["$ref"], schema["const"], alternatives])
}

/// Returns the names of the definitions that are reachable from a part of the document.
fn reachable(part: &Value, document: &Value, names: &mut BTreeSet<String>) {
    if let Some(name) = part["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"))
        && names.insert(name.to_owned())
    {
        reachable(&document["$defs"][name], document, names);
    }
    match part {
        Value::Object(map) => map.values().for_each(|value| reachable(value, document, names)),
        Value::Array(list) => list.iter().for_each(|value| reachable(value, document, names)),
        _ => {}
    }
}

fn all_incompatible_changes(old: &Value, new: &Value) -> Vec<String> {
    let mut out = Vec::new();
    if old["protocol"] != new["protocol"] {
        // A new protocol version may be incompatible.
        return out;
    }
    for (side, read) in [("commands", false), ("events", true)] {
        let by_type = |document: &Value, kind: &Value| -> Option<Value> {
            let variants = document[side]["oneOf"].as_array().cloned().unwrap_or_default();
            variants.into_iter().find(|variant| variant["properties"]["type"]["const"] == *kind)
        };
        for variant in old[side]["oneOf"].as_array().into_iter().flatten() {
            let kind = &variant["properties"]["type"]["const"];
            match by_type(new, kind) {
                None => out.push(format!("{side}: {kind} is removed")),
                Some(now) => incompatible_changes(variant, &now, read, &format!("{side} {kind}"), &mut out),
            }
        }
        let mut names = BTreeSet::new();
        reachable(&old[side], old, &mut names);
        for name in names {
            let (before, after) = (&old["$defs"][&name], &new["$defs"][&name]);
            incompatible_changes(before, after, read, &format!("{side} {name}"), &mut out);
        }
    }
    let codes = |document: &Value| -> BTreeSet<String> {
        let codes = document["errorCodes"].as_array().into_iter().flatten();
        codes.map(|code| json!([code["code"], code["retryable"]]).to_string()).collect()
    };
    for code in codes(old).difference(&codes(new)) {
        out.push(format!("errorCodes: {code} is removed"));
    }
    for (name, before) in old["limits"].as_object().into_iter().flatten() {
        if new["limits"][name].as_u64() < before.as_u64() {
            out.push(format!("limits: {name} has shrunk"));
        }
    }
    out
}

#[test]
fn schema_change_is_compatible() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/protocol/schema.json");
    let new = p2p_node::schema::document();
    let old: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let changes = all_incompatible_changes(&old, &new);
    assert!(changes.is_empty(), "incompatible changes, on which parents rely:\n{}", changes.join("\n"));
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&new).unwrap())).unwrap();
    } else {
        assert!(old == new, "the schema has grown; UPDATE_FIXTURES=1 cargo test --test contract writes it");
    }
}

#[test]
fn incompatible_schema_changes_are_detected() {
    let old = p2p_node::schema::document();
    assert_eq!(all_incompatible_changes(&old, &old), Vec::<String>::new());
    let check = |change: &dyn Fn(&mut Value), text: &str| {
        let mut new = old.clone();
        change(&mut new);
        let changes = all_incompatible_changes(&old, &new);
        assert!(changes.iter().any(|change| change.contains(text)), "{text}: {changes:?}");
    };
    let at =
        |pointer: &'static str| move |document: &mut Value| document.pointer_mut(pointer).unwrap().take();
    check(&|new| drop(at("/commands/oneOf/0")(new)), "\"connect\" is removed");
    check(&|new| drop(at("/events/oneOf/0")(new)), "\"ready\" is removed");
    check(
        &|new| drop(new["$defs"]["Send"]["properties"].as_object_mut().unwrap().remove("ttlMs")),
        "ttlMs: removed",
    );
    check(&|new| new["$defs"]["Send"]["required"] = json!(["data", "kind"]), "`kind` is now required");
    check(&|new| new["$defs"]["Message"]["required"] = json!(["data"]), "`from` is no longer required");
    check(&|new| new["$defs"]["Message"]["properties"]["sentAtMs"]["type"] = json!("string"), "sentAtMs: ");
    check(
        &|new| new["$defs"]["StatusReport"]["properties"]["topics"]["items"]["type"] = json!("integer"),
        "items",
    );
    check(&|new| drop(at("/$defs/Priority/oneOf/0")(new)), "\"low\" is removed");
    check(&|new| drop(at("/$defs/DeliveryState/oneOf/0")(new)), "\"delivered\" is removed");
    check(
        &|new| new["$defs"]["Ready"]["properties"]["limits"]["$ref"] = json!("#/$defs/Other"),
        "Ready.limits",
    );
    check(&|new| drop(at("/errorCodes/0")(new)), "INVALID_JSON");
    check(&|new| new["errorCodes"][0]["retryable"] = json!(true), "INVALID_JSON");
    check(&|new| new["limits"]["maxTopicBytes"] = json!(1), "maxTopicBytes has shrunk");

    let grown = |change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new);
        assert_eq!(all_incompatible_changes(&old, &new), Vec::<String>::new());
    };
    grown(&|new| new["$defs"]["Send"]["properties"]["later"] = json!({"type": "string"}));
    grown(&|new| new["$defs"]["Message"]["properties"]["later"] = json!({"type": "string"}));
    grown(&|new| new["$defs"]["Message"]["required"].as_array_mut().unwrap().push(json!("later")));
    grown(&|new| new["$defs"]["Trust"]["oneOf"].as_array_mut().unwrap().push(json!({"const": "registered"})));
    grown(&|new| {
        new["events"]["oneOf"]
            .as_array_mut()
            .unwrap()
            .push(json!({"properties": {"type": {"const": "later"}}}))
    });
    grown(&|new| {
        new["protocol"] = json!(2);
        new["commands"]["oneOf"] = json!([]);
    });
}
