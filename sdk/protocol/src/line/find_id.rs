//! Finds the `id` of an invalid line: without the id in the error, the parent's call would wait
//! forever.

use crate::Id;

/// Deepest nesting that the scan follows, which bounds its memory: four times the limit of a
/// command.
const MAX_SCAN_DEPTH: usize = 4 * super::MAX_DEPTH;

/// Finds the `id` of the line's own object, in the part of the line that is JSON. The scan also
/// accepts three frequent mistakes that do not hide the end of a value: `NaN`, infinities, and
/// bytes in a string that are not UTF-8. The scan ends at any other invalid byte, so that it never
/// reads an id from the text in a broken string. Returns `None` for a line with two ids.
pub(super) fn find_id(line: &[u8]) -> Option<Id> {
    let mut ids: Vec<Option<Id>> = Vec::new();
    // Fields before the end of the scan count, even if the scan fails.
    let _ = Scan { line, at: 0 }.fields(|key, value| {
        if is_id(key) {
            ids.push(serde_json::from_slice::<Id>(value).ok().filter(Id::is_valid));
        }
    });
    match ids.as_mut_slice() {
        [id] => id.take(),
        _ => None,
    }
}

/// Returns `true` if a string with its quotes is `id`.
fn is_id(key: &[u8]) -> bool {
    key == b"\"id\""
        || key.contains(&b'\\') && serde_json::from_slice::<String>(key).is_ok_and(|key| key == "id")
}

/// One pass over a line. Each step returns `None` at an invalid byte or at the end of the line.
struct Scan<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    /// Calls `on` with each field of the line's own object: the key with its quotes, and the value.
    fn fields(&mut self, mut on: impl FnMut(&'a [u8], &'a [u8])) -> Option<()> {
        self.expect(b'{')?;
        if self.take_if(b'}') {
            return Some(());
        }
        loop {
            let key = self.key()?;
            let value = self.value()?;
            // A value is complete only if a byte follows it: the line may end within a number.
            let is_last = match self.next()? {
                b',' => false,
                b'}' => true,
                _ => return None,
            };
            on(key, value);
            if is_last {
                return Some(());
            }
        }
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        self.skip_blanks();
        let key = self.string()?;
        self.expect(b':')?;
        Some(key)
    }

    fn value(&mut self) -> Option<&'a [u8]> {
        self.skip_blanks();
        let start = self.at;
        // The closing bracket of each open array and object.
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                byte @ (b'[' | b'{') => {
                    self.at += 1;
                    let end = byte + 2;
                    if !self.take_if(end) {
                        open.push(end);
                        if open.len() > MAX_SCAN_DEPTH {
                            return None;
                        }
                        if end == b'}' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                _ => self.word()?,
            }
            // A value has ended, and perhaps the arrays and objects around it.
            loop {
                let Some(&end) = open.last() else { return Some(&self.line[start..self.at]) };
                match self.next()? {
                    b',' => {
                        if end == b'}' {
                            self.key()?;
                        }
                        break;
                    }
                    byte if byte == end => {
                        open.pop();
                    }
                    _ => return None,
                }
            }
        }
    }

    /// Reads a string with its quotes. Its bytes need not be UTF-8.
    fn string(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        if self.line.get(start) != Some(&b'"') {
            return None;
        }
        self.at += 1;
        loop {
            let byte = *self.line.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => return Some(&self.line[start..self.at]),
                b'\\' => {
                    let escaped = *self.line.get(self.at)?;
                    self.at += 1;
                    match escaped {
                        b'u' => {
                            let digits = self.line.get(self.at..self.at + 4)?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return None;
                            }
                            self.at += 4;
                        }
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        _ => return None,
                    }
                }
                0..b' ' => return None,
                _ => {}
            }
        }
    }

    /// Reads a number, `true`, `false`, `null`, or the name of a number that JSON does not have.
    fn word(&mut self) -> Option<()> {
        let rest = &self.line[self.at..];
        let word = &rest[..rest.iter().position(|byte| !is_of_word(*byte)).unwrap_or(rest.len())];
        self.at += word.len();
        let is_value = NOT_NUMBERS.iter().any(|name| word == name.as_bytes())
            || !word.is_empty() && serde_json::from_slice::<&serde_json::value::RawValue>(word).is_ok();
        is_value.then_some(())
    }

    fn skip_blanks(&mut self) {
        while matches!(self.line.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Returns the next byte that is not white space, and does not consume it.
    fn peek(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.line.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take_if(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.take_if(byte).then_some(())
    }
}

/// Names of numbers that JSON does not have.
const NOT_NUMBERS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

/// Returns the `NaN` or infinity around the byte at `at`, where a strict reader stopped.
pub(super) fn not_a_number(line: &str, at: usize) -> Option<&'static str> {
    let bytes = line.as_bytes();
    let at = at.min(bytes.len());
    let before = bytes[..at].iter().rev().take_while(|byte| is_of_word(**byte)).count();
    let after = bytes[at..].iter().take_while(|byte| is_of_word(**byte)).count();
    let word = &bytes[at - before..at + after];
    NOT_NUMBERS.into_iter().find(|name| word == name.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn number(line: &[u8]) -> Option<i64> {
        match find_id(line)? {
            Id::Number(number) => Some(number),
            Id::Text(text) => panic!("{text}"),
        }
    }

    #[test]
    fn id_is_found_in_common_invalid_lines() {
        for line in [
            &br#"{"id":7,"data":NaN}"#[..],
            br#" { "data" : [ NaN , {"x": -Infinity} ] , "id" : 7 }"#,
            br#"{"data":{"a":[1,{"b":Infinity}]},"id":7,"more"#,
            b"{\"data\":\"\xff\xfe\",\"id\":7}",
            b"{\"\xff\":1,\"id\":7}",
            br#"{"data":"a\"b\\","id":7}"#,
            br#"{"\u0069d":7}"#,
            br#"{"id":7,"data":"cut off in the mi"#,
            br#"{"id":7,nonsense"#,
        ] {
            assert_eq!(number(line), Some(7), "{}", String::from_utf8_lossy(line));
        }
        assert_eq!(find_id(br#"{"id":"a\nb","x":NaN}"#), Some(Id::from("a\nb")));
    }

    #[test]
    fn nested_or_quoted_id_is_not_found() {
        let deep = format!(r#"{{"a":{}1{},"id":7}}"#, "[".repeat(200), "]".repeat(200));
        let long = format!(r#"{{"id":"{}","x":NaN}}"#, "x".repeat(crate::MAX_ID_BYTES + 1));
        for line in [
            &br#"{"data":{"id":7},"x":NaN}"#[..],
            br#"[{"id":7}]"#,
            br#"{"data":"he said "x","id":7,"y":"z"}"#,
            br#"{"data":"open,"id":7}"#,
            br#"{"id":7"#,
            br#"{"id":7 8}"#,
            br#"{"id":7,"id":8,"x":NaN}"#,
            br#"{"id":7.5,"x":NaN}"#,
            br#"{"id":NaN}"#,
            br#"{"id":null,"x":NaN}"#,
            br#"{"id":9007199254740992,"x":NaN}"#,
            br#"{"data":01,"id":7}"#,
            br#"{"data":nan,"id":7}"#,
            br#"{"data":[1},"id":7}"#,
            b"{\"id\":\"\xff\",\"x\":1}",
            b"{\"data\":\"a\tb\",\"id\":7}",
            br#""id":7"#,
            br#"{"Id":7}"#,
            b"",
            b"{",
            long.as_bytes(),
            deep.as_bytes(),
        ] {
            assert_eq!(find_id(line), None, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn numbers_outside_json_are_named() {
        let line = r#"{"x":[1,-Infinity],"y":NaN,"z":Nano}"#;
        let at = |word: &str| line.find(word).unwrap();
        assert_eq!(not_a_number(line, at("Infinity")), Some("-Infinity"));
        assert_eq!(not_a_number(line, at("-Infinity")), Some("-Infinity"));
        assert_eq!(not_a_number(line, at("NaN")), Some("NaN"));
        assert_eq!(not_a_number(line, at("Nano")), None);
        assert_eq!(not_a_number(line, usize::MAX), None);
        assert_eq!(not_a_number("", 0), None);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            r#"[ -~é\n]{0,8}|id|\{"id":1,"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                any_object(inner).prop_map(Value::Object),
            ]
        })
    }

    fn any_object(values: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
        prop::collection::btree_map("id|[a-e\"\\\\]{0,3}", values, 0..5)
            .prop_map(|fields| fields.into_iter().collect())
    }

    fn strict(object: &Map<String, Value>) -> Option<Id> {
        serde_json::from_value::<Id>(object.get("id")?.clone()).ok().filter(Id::is_valid)
    }

    const PIECES: [&[u8]; 16] = [
        b"{", b"}", b"[", b"]", b"\"", b":", b",", b"\"id\":", b"NaN", b"-", b"7", b"\\", b"\\u00", b"\xff",
        b" ", b"e",
    ];

    proptest! {
        #[test]
        fn id_of_valid_json_equals_id_of_strict_reader(object in any_object(any_value())) {
            let (id, value) = (strict(&object), Value::Object(object));
            for text in [serde_json::to_vec(&value).unwrap(), serde_json::to_vec_pretty(&value).unwrap()] {
                prop_assert_eq!(find_id(&text), id.clone());
            }
        }

        #[test]
        fn truncated_or_altered_line_yields_no_other_id(
            object in any_object(any_value()),
            cut in any::<prop::sample::Index>(),
            tail in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let id = strict(&object);
            let text = serde_json::to_vec(&Value::Object(object)).unwrap();
            let cut = &text[..cut.index(text.len() + 1)];
            let found = find_id(cut);
            prop_assert!(found.is_none() || found == id, "{:?}", found);
            // Later bytes may add another id or end a number, but never change a complete id.
            let bent = [cut, &tail].concat();
            if found.is_some() {
                let again = find_id(&bent);
                prop_assert!(again.is_none() || again == id, "{:?}", again);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_found_id_is_valid(
            pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40),
            bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            for line in [pieces.concat(), bytes] {
                prop_assert!(find_id(&line).is_none_or(|id| id.is_valid()));
                not_a_number(&String::from_utf8_lossy(&line), line.len() / 2);
            }
        }
    }
}
