//! `p2p-node schema`: generates the schema of the pipe protocol from the Rust types, as one JSON
//! Schema document or as a TypeScript module.

mod typescript;

use std::io::Write;

use p2p_node_protocol::{
    Command, Counter, ErrorCode, Event, ExitCode, FIELD_LIMITS, Id, Limits, MessageKind, PROTOCOL_VERSION,
    SDK_LIMITS, SdkErrorCode,
};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::config::SchemaArgs;

/// Writes the JSON Schema document or the TypeScript module to `out`.
///
/// # Errors
/// Fails if writing to `out` fails.
pub fn run(args: &SchemaArgs, out: &mut impl Write) -> anyhow::Result<()> {
    if args.ts {
        out.write_all(typescript::module(&document()).as_bytes())?;
    } else {
        out.write_all(format!("{:#}\n", document()).as_bytes())?;
    }
    Ok(())
}

/// Returns the JSON Schema document. `commands` and `events` are schemas of one line each; `$defs`
/// contains the shared definitions.
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let id = generator.subschema_for::<Id>().to_value();
    let mut commands = generator.subschema_for::<Command>().to_value();
    let mut events = generator.subschema_for::<Event>().to_value();
    let mut definitions: Map<String, Value> = generator.take_definitions(true).into_iter().collect();
    inline(&mut commands, &mut definitions);
    inline(&mut events, &mut definitions);

    // The Rust types do not contain the common fields of a line.
    let seq = json!({
        "type": "integer", "minimum": 1,
        "description": "Number of the line, without gaps; only after `connect` with `protocol`."
    });
    add_property(&mut commands, "id", &id);
    add_property(&mut events, "seq", &seq);

    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("The pipe of p2p-node, protocol {PROTOCOL_VERSION}"),
        "protocol": PROTOCOL_VERSION,
        "commands": commands,
        "events": events,
        "errorCodes": ErrorCode::ALL.iter().map(|code| json!({
            "code": code, "retryable": code.retryable(), "meaning": code.meaning(),
            "advice": code.advice(),
        })).collect::<Vec<_>>(),
        "sdkErrorCodes": SdkErrorCode::ALL.iter().map(|code| json!({
            "code": code.as_str(), "meaning": code.meaning(),
        })).collect::<Vec<_>>(),
        "counters": Counter::ALL.iter().map(|counter| json!({
            "name": counter.as_str(), "meaning": counter.doc(),
        })).collect::<Vec<_>>(),
        "exitCodes": ExitCode::ALL.iter().map(|&code| json!({
            "code": code as u8, "restart": code.restart(), "meaning": code.meaning(),
        })).collect::<Vec<_>>(),
        "limits": Limits::STANDARD,
        "fieldLimits": FIELD_LIMITS.iter().map(|limit| json!({
            "name": limit.name, "value": limit.value, "unit": limit.unit, "fields": limit.fields,
            "meaning": limit.meaning,
        })).collect::<Vec<_>>(),
        "sdkLimits": SDK_LIMITS.iter().map(|limit| json!({
            "name": limit.name, "value": limit.value, "unit": limit.unit, "meaning": limit.meaning,
        })).collect::<Vec<_>>(),
        "messageKinds": MessageKind::ALL.iter().map(|kind| json!({
            "kind": kind.name, "priority": kind.priority,
        })).collect::<Vec<_>>(),
        "$defs": definitions,
    })
}

/// Replaces a reference by the definition that it refers to.
fn inline(schema: &mut Value, definitions: &mut Map<String, Value>) {
    let name = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"));
    if let Some(definition) = name.and_then(|name| definitions.remove(name)) {
        *schema = definition;
    }
}

/// Adds an optional property to every variant of a tagged enum.
fn add_property(schema: &mut Value, name: &str, property: &Value) {
    for variant in schema["oneOf"].as_array_mut().into_iter().flatten() {
        variant["properties"][name] = property.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(schema: &Value) -> Vec<&str> {
        let variants = schema["oneOf"].as_array().expect("variants");
        variants
            .iter()
            .map(|variant| variant["properties"]["type"]["const"].as_str().expect("a type"))
            .collect()
    }

    #[test]
    fn schema_has_every_command_and_event_with_common_fields() {
        let document = document();
        assert!(types(&document["commands"]).contains(&"connect"));
        assert!(types(&document["events"]).contains(&"peer_discovered"));
        for (side, name) in [("commands", "id"), ("events", "seq")] {
            for variant in document[side]["oneOf"].as_array().expect("variants") {
                assert!(variant["properties"][name].is_object(), "{side} without {name}: {variant}");
            }
        }
    }

    #[test]
    fn every_reference_has_a_definition() {
        fn check(value: &Value, document: &Value) {
            if let Some(reference) = value["$ref"].as_str() {
                let pointer = reference.strip_prefix('#').expect("a reference within the document");
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            match value {
                Value::Object(map) => map.values().for_each(|value| check(value, document)),
                Value::Array(list) => list.iter().for_each(|value| check(value, document)),
                _ => {}
            }
        }
        let document = document();
        check(&document, &document);
    }

    #[test]
    fn every_error_code_has_meaning_and_retryable() {
        let document = document();
        let codes = document["errorCodes"].as_array().expect("codes");
        assert_eq!(codes.len(), ErrorCode::ALL.len());
        assert!(codes.iter().all(|code| code["meaning"].as_str().is_some_and(|text| text.ends_with('.'))));
        assert!(codes.contains(&json!({
            "code": "BUSY", "retryable": true, "meaning": "A queue is full.", "advice": "Try again in a moment.",
        })));
    }
}
