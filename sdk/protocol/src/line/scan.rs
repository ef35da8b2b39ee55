//! Single passes over JSON that is valid, or whose validity does not matter.

use std::borrow::Cow;

use memchr::memchr;

/// Returns `true` if valid JSON is one string without escapes. Much data of agents is, and the
/// scans can skip it.
fn is_plain_string(json: &str) -> bool {
    json.starts_with('"') && json.ends_with('"') && memchr(b'\\', json.as_bytes()).is_none()
}

/// Strips the white space between the tokens of valid JSON. Borrows if there is none.
pub(super) fn compact(json: &str) -> Cow<'_, str> {
    if is_plain_string(json) {
        return Cow::Borrowed(json);
    }
    let mut strings = StringScanner::default();
    let mut blank = |byte: u8| !strings.is_inside(byte) && matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let Some(first) = json.bytes().position(&mut blank) else {
        return Cow::Borrowed(json);
    };
    let mut out = Vec::with_capacity(json.len());
    out.extend_from_slice(&json.as_bytes()[..first]);
    out.extend(json.bytes().skip(first + 1).filter(|&byte| !blank(byte)));
    Cow::Owned(String::from_utf8(out).expect("UTF-8 without some ASCII bytes is UTF-8"))
}

/// Returns `true` if arrays and objects nest deeper than `limit`; exact for valid JSON.
pub(super) fn deeper_than(limit: usize, json: &str) -> bool {
    if is_plain_string(json) {
        return false;
    }
    // The depth is at most the number of opening brackets, which is fast to count.
    if opening_brackets(json) <= limit {
        return false;
    }
    let mut strings = StringScanner::default();
    let mut depth = 0usize;
    json.bytes().filter(|&byte| !strings.is_inside(byte)).any(|byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > limit
    })
}

/// Returns the number of opening brackets, also of those in strings. Counts chunks of 255 bytes
/// in a `u8`, so that the compiler vectorizes the loop.
fn opening_brackets(json: &str) -> usize {
    let in_chunk = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(matches!(byte, b'[' | b'{'))).sum::<u8>();
    json.as_bytes().chunks(usize::from(u8::MAX)).map(|chunk| usize::from(in_chunk(chunk))).sum()
}

/// Fewest characters of a number without exponent outside the range of 64-bit floats: the largest
/// float has 309 digits.
const MIN_INFINITE: usize = 309;

/// Returns `true` if every reader accepts valid JSON. Strict readers reject a line with one of two
/// valid values: a number outside the range of 64-bit floats, or an unpaired surrogate.
pub(super) fn is_portable(json: &str) -> bool {
    if is_plain_string(json) {
        return true;
    }
    let is_finite = |number: &str| {
        number.len() < MIN_INFINITE && !number.contains(['e', 'E'])
            || number.parse().is_ok_and(f64::is_finite)
    };
    (!may_hold_infinite(json) || outside_strings(json).flat_map(numbers).all(is_finite))
        && surrogates_are_paired(json)
}

/// Returns `true` if a digit precedes an `e` anywhere, or if there are many digits in a row. This
/// is rare, and much faster to check than all numbers.
fn may_hold_infinite(json: &str) -> bool {
    const ROW: usize = MIN_INFINITE / 2;
    let bytes = json.as_bytes();
    let pairs = bytes.iter().zip(bytes.get(1..).unwrap_or_default());
    let exponents = pairs.filter(|(digit, e)| digit.is_ascii_digit() && (**e | 0x20) == b'e').count();
    exponents > 0 || bytes.chunks_exact(ROW).any(|row| row.iter().all(u8::is_ascii_digit))
}

fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')));
    words.filter(|word| word.starts_with(|c: char| c == '-' || c.is_ascii_digit()))
}

/// Returns the parts of valid JSON between its strings.
fn outside_strings(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(json);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some((outside, mut inside)) = text.split_once('"') else {
            return rest.take();
        };
        loop {
            let Some((string, after)) = inside.split_once('"') else {
                rest = None;
                break;
            };
            let escapes = string.bytes().rev().take_while(|&byte| byte == b'\\').count();
            // Continues within the string if the quote is escaped. All backslashes before the quote
            // are in this part.
            if escapes % 2 == 0 {
                rest = Some(after);
                break;
            }
            inside = after;
        }
        Some(outside)
    })
}

fn surrogates_are_paired(json: &str) -> bool {
    let mut rest = json;
    while let Some((_, escaped)) = rest.split_once('\\') {
        rest = match code_unit(escaped) {
            Some(0xDC00..=0xDFFF) => return false,
            Some(0xD800..=0xDBFF) => {
                let low = escaped[5..].strip_prefix('\\').and_then(code_unit);
                if !matches!(low, Some(0xDC00..=0xDFFF)) {
                    return false;
                }
                &escaped[11..]
            }
            // Every escape is ASCII.
            _ => escaped.get(1..).unwrap_or_default(),
        };
    }
    true
}

/// Returns the code unit of a hexadecimal escape without its backslash.
fn code_unit(escaped: &str) -> Option<u16> {
    u16::from_str_radix(escaped.strip_prefix('u')?.get(..4)?, 16).ok()
}

/// Detects, byte by byte, which bytes of JSON are inside a string.
#[derive(Default)]
struct StringScanner {
    inside: bool,
    escaped: bool,
}

impl StringScanner {
    /// Consumes a byte and returns `true` if it is inside a string. The opening quote counts as
    /// outside, the closing quote as inside.
    fn is_inside(&mut self, byte: u8) -> bool {
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
        fn compacting_reverts_pretty_printing(value in any_json()) {
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let compacted = compact(&pretty).into_owned();
            prop_assert_eq!(&compacted, &serde_json::to_string(&value).unwrap());
            prop_assert!(matches!(compact(&compacted), Cow::Borrowed(_)), "nothing is left to strip");
        }

        #[test]
        fn depth_equals_depth_of_parsed_value(value in any_json(), limit in 0usize..8) {
            let text = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(deeper_than(limit, &text), nesting(&value) > limit);
        }
    }

    proptest! {
        #[test]
        fn portable_text_is_text_that_a_strict_reader_accepts(
            parts in prop::collection::vec(
                prop_oneof![
                    "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
                    "\"([a-e9\\[]|\\\\\\\\|\\\\\"|\\\\u[dD][89a-f][0-9a-f]{2}|\\\\ud83d\\\\ude00|\\\\u0041){0,6}\"",
                    Just("true".to_owned()),
                    "[1-9][0-9]{306,310}",
                ],
                0..6,
            ),
        ) {
            let text = format!("[{}]", parts.join(","));
            prop_assert!(serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok(), "{}", text);
            prop_assert_eq!(is_portable(&text), serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
        }
    }

    #[test]
    fn text_rejected_by_strict_readers_is_not_portable() {
        let many_digits = "9".repeat(400);
        for text in [
            r#"{"a":[1,-1e400]}"#,
            "1E999",
            &many_digits,
            r#""\\\ud800""#,
            r#"["\ud800\u0041"]"#,
            r#""\udc00""#,
        ] {
            assert!(!is_portable(text), "{text}");
        }
        for text in
            [r#"{"1e999":"1e999","b\\":1e308}"#, r#""\\ud800""#, r#""\ud83d\ude00""#, "1e-999", "true", ""]
        {
            assert!(is_portable(text), "{text}");
        }
    }

    #[test]
    fn brackets_side_by_side_or_in_strings_do_not_nest() {
        let flat = format!("[{}\"[[[[\\\"{{{{\"]", "[],".repeat(100));
        assert!(!deeper_than(2, &flat));
        assert!(deeper_than(1, &flat));
    }

    #[test]
    fn deep_nesting_is_counted_exactly() {
        for depth in [1, 254, 255, 256, 511, 70_000] {
            let nested = ["[".repeat(depth), "]".repeat(depth)].concat();
            assert!(!deeper_than(depth, &nested), "{depth}");
            assert!(deeper_than(depth - 1, &nested), "{depth}");
        }
    }
}
