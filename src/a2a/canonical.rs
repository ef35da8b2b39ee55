//! The canonical JSON of agent cards: that of RFC 8785, without what A2A leaves out of signatures.

use serde_json::{Map, Value};

/// Returns the canonical JSON of a card without its empty texts, lists and objects, as A2A signs it.
pub(super) fn canonical(card: &Map<String, Value>) -> serde_json::Result<String> {
    serde_json_canonicalizer::to_string(&without_empty(card.clone()))
}

/// Returns `true` if A2A leaves the value out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn without_empty(fields: Map<String, Value>) -> Map<String, Value> {
    let kept = fields.into_iter().filter(|(_, value)| !is_empty(value));
    kept.map(|(name, value)| (name, shortened(value))).collect()
}

fn shortened(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().filter(|item| !is_empty(item)).map(shortened).collect(),
        Value::Object(fields) => Value::Object(without_empty(fields)),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: Value) -> String {
        let Value::Object(card) = value else { panic!("{value}") };
        canonical(&card).unwrap()
    }

    #[test]
    fn numbers_are_written_as_ecmascript_does() {
        // From RFC 8785, appendix B.
        for (bits, text) in [
            (0x0000000000000000, "0"),
            (0x8000000000000000, "0"),
            (0x0000000000000001, "5e-324"),
            (0x7fefffffffffffff, "1.7976931348623157e+308"),
            (0x4340000000000000, "9007199254740992"),
            (0x444b1ae4d6e2ef50, "1e+21"),
            (0x3eb0c6f7a0b5ed8d, "0.000001"),
            (0xbecbf647612f3696, "-0.0000033333333333333333"),
        ] {
            assert_eq!(of(json!({"a": f64::from_bits(bits)})), format!("{{\"a\":{text}}}"));
        }
    }

    #[test]
    fn empty_values_are_left_out_and_names_are_in_order() {
        let value = json!({"b": [1.0, "", {"x": []}], "\u{20ac}": true, "a": {"c": null}, "\u{1f600}": "\u{7}é\"", "z": 0});
        assert_eq!(of(value), "{\"b\":[1],\"z\":0,\"€\":true,\"😀\":\"\\u0007é\\\"\"}");
    }
}
