//! Encodes commands and events as lines.

use serde::Serialize;

use crate::{Event, Request};

/// Appends `event` and a newline to `out`. `seq` is the number of the line, if it has one.
pub fn encode_event(event: &Event, seq: Option<u64>, out: &mut Vec<u8>) {
    let start = out.len();
    write_object(event, seq.as_ref().map(|seq| ("seq", seq)), out);
    if !out[start..].is_ascii() {
        escape_separators(start, out);
    }
}

/// Appends a request and a newline to `out`, for a parent.
pub fn encode_request(request: &Request, out: &mut Vec<u8>) {
    write_object(&request.command, request.id.as_ref().map(|id| ("id", id)), out);
}

/// Appends a line with an object and one more field. The object must have at least one field.
fn write_object<T: Serialize>(object: &impl Serialize, last: Option<(&str, &T)>, out: &mut Vec<u8>) {
    let start = out.len();
    write_json(object, out);
    if let Some((name, value)) = last {
        out.pop();
        out.push(b',');
        write_json(name, out);
        out.push(b':');
        write_json(value, out);
        out.push(b'}');
    }
    // The only control characters of valid JSON are white space between tokens. A `RawValue` may
    // contain a newline, which would end the line early.
    for byte in &mut out[start..] {
        *byte = (*byte).max(b' ');
    }
    out.push(b'\n');
}

fn write_json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("no type of the contract has a key that is not a string");
}

/// Escapes U+0085, U+2028 and U+2029 in `out[start..]`: some line readers of Python and Node split
/// on them. Valid JSON contains them only in strings.
fn escape_separators(start: usize, out: &mut Vec<u8>) {
    let is_separator = |rest: &[u8]| matches!(rest, [0xC2, 0x85, ..] | [0xE2, 0x80, 0xA8 | 0xA9, ..]);
    if !(start..out.len()).any(|at| is_separator(&out[at..])) {
        return;
    }
    let tail = out.split_off(start);
    let mut at = 0;
    while at < tail.len() {
        let (escape, length): (&[u8], _) = match &tail[at..] {
            [0xC2, 0x85, ..] => (b"\\u0085", 2),
            [0xE2, 0x80, 0xA8, ..] => (b"\\u2028", 3),
            [0xE2, 0x80, 0xA9, ..] => (b"\\u2029", 3),
            _ => {
                out.push(tail[at]);
                at += 1;
                continue;
            }
        };
        out.extend_from_slice(escape);
        at += length;
    }
}
