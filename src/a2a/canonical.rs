//! Canonical JSON (RFC 8785) of agent cards.

use serde_json::Value;

/// Returns the canonical JSON of a value without its empty texts, lists and objects, as A2A signs it.
pub(super) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
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

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (number, item) in items.iter().filter(|item| !is_empty(item)).enumerate() {
                text.push_str(if number > 0 { "," } else { "" });
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().filter(|(_, value)| !is_empty(value)).collect();
            // By UTF-16 code units.
            fields.sort_by_cached_key(|(name, _)| name.encode_utf16().collect::<Vec<_>>());
            text.push('{');
            for (number, (name, value)) in fields.into_iter().enumerate() {
                text.push_str(if number > 0 { "," } else { "" });
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
        Value::Number(number) => text.push_str(&ecmascript(number.as_f64().unwrap_or_default())),
        // Texts and the others have their canonical form.
        other => text.push_str(&other.to_string()),
    }
}

/// Returns a finite number as ECMAScript writes it (ECMA-262, `Number::toString`).
fn ecmascript(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let sign = if number < 0.0 { "-" } else { "" };
    // The shortest digits that mean this number, and the power of ten of the first one.
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let power: i32 = exponent.parse().unwrap_or_default();
    let (first, rest) = digits.split_at(1);
    let unsigned = match power {
        21.. | ..-6 if rest.is_empty() => format!("{first}e{power:+}"),
        21.. | ..-6 => format!("{first}.{rest}e{power:+}"),
        ..0 => format!("0.{}{digits}", "0".repeat(power.unsigned_abs() as usize - 1)),
        _ if rest.len() <= power as usize => format!("{digits:0<width$}", width = power as usize + 1),
        _ => format!("{}.{}", &digits[..=power as usize], &digits[power as usize + 1..]),
    };
    format!("{sign}{unsigned}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_written_as_ecmascript_does() {
        // From RFC 8785, appendix B.
        for (bits, text) in [
            (0x0000000000000000, "0"),
            (0x8000000000000000, "0"),
            (0x0000000000000001, "5e-324"),
            (0x7fefffffffffffff, "1.7976931348623157e+308"),
            (0x4340000000000000, "9007199254740992"),
            (0x4430000000000000, "295147905179352830000"),
            (0x44b52d02c7e14af5, "9.999999999999997e+22"),
            (0x44b52d02c7e14af6, "1e+23"),
            (0x444b1ae4d6e2ef4f, "999999999999999900000"),
            (0x444b1ae4d6e2ef50, "1e+21"),
            (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
            (0x3eb0c6f7a0b5ed8d, "0.000001"),
            (0x41b3de4355555553, "333333333.3333332"),
            (0xbecbf647612f3696, "-0.0000033333333333333333"),
        ] {
            assert_eq!(ecmascript(f64::from_bits(bits)), text);
        }
    }

    #[test]
    fn empty_values_are_left_out_and_names_are_in_order() {
        let value = json!({"b": [1.0, "", {"x": []}], "\u{20ac}": true, "a": {"c": null}, "\u{1f600}": "\u{7}é\"", "z": 0});
        assert_eq!(canonical(&value), "{\"b\":[1],\"z\":0,\"€\":true,\"😀\":\"\\u0007é\\\"\"}");
    }
}
