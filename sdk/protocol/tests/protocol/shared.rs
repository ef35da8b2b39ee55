//! The lines that all SDKs decode: `fixtures/protocol/events.ndjson`. Each row has a `line`, and
//! either the `type` of its event (`null`: an event of a later version, which is ignored) with some
//! `fields` that it must have, or `bad`.

use std::collections::BTreeSet;

use p2p_node_protocol::line::{decode_event, encode_event};
use serde_json::{Map, Value};

const ROWS: &str = include_str!("../../../../fixtures/protocol/events.ndjson");

fn rows() -> Vec<Value> {
    ROWS.lines().map(|row| serde_json::from_str(row).unwrap()).collect()
}

/// Decodes a line and encodes its event again.
fn round_trip(line: &str) -> Option<Map<String, Value>> {
    let event = decode_event(line.as_bytes()).unwrap()?;
    let mut out = Vec::new();
    encode_event(&event, None, &mut out);
    Some(serde_json::from_slice(&out).unwrap())
}

#[test]
fn event_rows_decode_as_specified() {
    for row in rows() {
        let (name, line) = (&row["name"], row["line"].as_str().unwrap());
        if row["bad"] == true {
            assert!(decode_event(line.as_bytes()).is_err(), "{name}");
            continue;
        }
        let event = round_trip(line);
        let Some(kind) = row["type"].as_str() else {
            assert_eq!(event, None, "{name}");
            continue;
        };
        let event = event.unwrap();
        assert_eq!(event["type"], kind, "{name}");
        // The line number is no part of the event.
        for (field, value) in row["fields"].as_object().unwrap().iter().filter(|(field, _)| *field != "seq") {
            assert_eq!(event.get(field), Some(value), "{name}: {field}");
        }
    }
}

#[test]
fn every_event_and_field_of_the_contract_has_a_row() {
    let mut names = BTreeSet::new();
    for row in rows() {
        names.extend(row["type"].as_str().map(str::to_owned));
        names.extend(row["fields"].as_object().into_iter().flat_map(|fields| fields.keys().cloned()));
    }
    let document: Value =
        serde_json::from_str(include_str!("../../../../fixtures/protocol/schema.json")).unwrap();
    for variant in document["events"]["oneOf"].as_array().unwrap() {
        let kind = variant["properties"]["type"]["const"].as_str().unwrap();
        let reference = variant["$ref"].as_str().unwrap().trim_start_matches('#');
        let fields = document.pointer(reference).unwrap()["properties"].as_object().unwrap();
        for name in fields.keys().map(String::as_str).chain([kind]) {
            assert!(names.contains(name), "no row has {name} of {kind}");
        }
    }
}
