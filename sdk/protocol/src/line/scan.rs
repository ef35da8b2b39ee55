//! Single passes over JSON that is known to be valid, or whose validity does not matter.

use std::borrow::Cow;

/// Strips the white space between the tokens of valid JSON; borrows when there is none.
pub(super) fn compact(json: &str) -> Cow<'_, str> {
    let mut strings = Strings::default();
    let mut blank = |byte: u8| !strings.contain(byte) && matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let Some(first) = json.bytes().position(&mut blank) else {
        return Cow::Borrowed(json);
    };
    let mut out = Vec::with_capacity(json.len());
    out.extend_from_slice(&json.as_bytes()[..first]);
    out.extend(json.bytes().skip(first + 1).filter(|&byte| !blank(byte)));
    Cow::Owned(String::from_utf8(out).expect("taking ASCII out of UTF-8 leaves UTF-8"))
}

/// Whether arrays and objects nest deeper than `limit`; exact for valid JSON.
pub(super) fn deeper_than(limit: usize, json: &str) -> bool {
    // Nothing nests deeper than it has opening brackets, and counting those takes a fraction of the time.
    let opening = json.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if opening <= limit {
        return false;
    }
    let mut strings = Strings::default();
    let mut depth = 0usize;
    json.bytes().filter(|&byte| !strings.contain(byte)).any(|byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > limit
    })
}

/// Tells, byte by byte, which bytes of a JSON text stand inside a string.
#[derive(Default)]
struct Strings {
    inside: bool,
    escaped: bool,
}

impl Strings {
    /// Takes the next byte. The opening quote counts as outside, the closing one as inside.
    fn contain(&mut self, byte: u8) -> bool {
        if !self.inside {
            self.inside = byte == b'"';
            return false;
        }
        self.inside = self.escaped || byte != b'"';
        self.escaped = !self.escaped && byte == b'\\';
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ \\t\\n\\r\"\\\\\\[{}\\]\u{85}\u{2028}a-z]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[ \"\\\\a-c]{0,4}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn nesting(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(nesting).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.values().map(nesting).max().unwrap_or(0),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }

    proptest! {
        #[test]
        fn compacting_takes_away_all_that_pretty_printing_adds(value in any_json()) {
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let compacted = compact(&pretty).into_owned();
            prop_assert_eq!(&compacted, &serde_json::to_string(&value).unwrap());
            prop_assert!(matches!(compact(&compacted), Cow::Borrowed(_)), "nothing is left to strip");
        }

        #[test]
        fn depth_is_that_of_the_parsed_value(value in any_json(), limit in 0usize..8) {
            let text = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(deeper_than(limit, &text), nesting(&value) > limit);
        }
    }

    #[test]
    fn brackets_side_by_side_or_in_strings_do_not_nest() {
        let flat = format!("[{}\"[[[[\\\"{{{{\"]", "[],".repeat(100));
        assert!(!deeper_than(2, &flat));
        assert!(deeper_than(1, &flat));
    }
}
