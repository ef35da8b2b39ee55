//! Decodes lines to commands and events.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::find_id::{find_id, not_a_number};
use super::scan::{compact, deeper_than, is_portable};
use super::tagged::Tagged;
use super::{MAX_DEPTH, MAX_ERROR_CHARS};
use crate::{Command, ErrorCode, Event, Id, Request, Send};

/// Error of a line that is not a command. The node reports it as an `error` event and continues.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct LineError {
    /// Number of the line, from 1; `None` if the reader does not count lines.
    pub line: Option<u64>,
    /// The id of the line, if it could be read.
    pub id: Option<Id>,
    /// The stable code.
    pub code: ErrorCode,
    /// The problem, for people; at most [`MAX_ERROR_CHARS`].
    pub message: String,
}

impl LineError {
    /// Returns the error for a line of more than `limit` bytes that begins with `head`. The framer
    /// skips the rest of the line.
    pub fn too_long(limit: usize, head: &[u8]) -> Self {
        let error = LineError::new(ErrorCode::LineTooLong, format!("the line is longer than {limit} bytes"));
        error.of(head)
    }

    /// Sets the number of the line.
    #[must_use]
    pub fn at(self, line: u64) -> Self {
        LineError { line: Some(line), ..self }
    }

    /// Sets the id that the line contains, although the line is invalid.
    fn of(self, line: &[u8]) -> Self {
        LineError { id: find_id(line), ..self }
    }

    fn new(code: ErrorCode, mut message: String) -> Self {
        if let Some((end, _)) = message.char_indices().nth(MAX_ERROR_CHARS) {
            message.truncate(end);
        }
        LineError { line: None, id: None, code, message }
    }

    fn argument(message: impl std::fmt::Display) -> Self {
        LineError::new(ErrorCode::InvalidArgument, message.to_string())
    }
}

/// Decodes a command. Reads the id first, so that the error of an invalid payload has the id.
///
/// # Errors
/// `INVALID_UTF8` or `INVALID_JSON` if the line is not a JSON object; `INVALID_ARGUMENT` or
/// `UNKNOWN_COMMAND` if it is one. The error has the id of the line, if the id is valid and can be
/// read.
pub fn decode_request(line: &[u8]) -> Result<Request, LineError> {
    let text = std::str::from_utf8(line).map_err(|error| {
        let message = format!("the line is not valid UTF-8 from byte {} on", error.valid_up_to() + 1);
        LineError::new(ErrorCode::InvalidUtf8, message).of(line)
    })?;
    read_send(text).unwrap_or_else(|| read_command(text))
}

fn read_command(text: &str) -> Result<Request, LineError> {
    let head = Head::read(text)?;
    let id = head.id()?;
    match decode_command(head, text) {
        Ok(command) => Ok(Request { id, command }),
        Err(error) => Err(LineError { id, ..error }),
    }
}

/// Reads a line in one pass if it is a `send` that serde accepts: most lines are. [`read_command`]
/// finds the exact error of all others.
fn read_send(text: &str) -> Option<Result<Request, LineError>> {
    let line: Tagged<'_, Send> = serde_json::from_str(text).ok()?;
    let fits =
        line.kind == "send" && line.id.as_ref().is_none_or(Id::is_valid) && !deeper_than(MAX_DEPTH, text);
    fits.then(|| match compacted(line.command) {
        Ok(send) => Ok(Request { id: line.id, command: Command::Send(send) }),
        Err(error) => Err(LineError { id: line.id, ..error }),
    })
}

/// The common fields of a line. Both stay raw, so that an invalid field does not hide the other.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", default, borrow)]
    kind: Option<&'a RawValue>,
    /// `null` is also raw, because it is an invalid id and not a missing one.
    #[serde(default, borrow, deserialize_with = "any_value")]
    id: Option<&'a RawValue>,
}

fn any_value<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

impl<'a> Head<'a> {
    fn read(text: &'a str) -> Result<Self, LineError> {
        // serde also reads an array as a struct, so check for an object.
        let object = text.trim_ascii_start().starts_with('{');
        match serde_json::from_str(text) {
            Ok(head) if object => Ok(head),
            Err(error) if object && error.is_data() => Err(LineError::argument(error).of(text.as_bytes())),
            Err(error) => {
                // If the line is an array or a string, it has no id.
                let message = match not_a_number(text, error.column().saturating_sub(1)) {
                    Some(word) => format!(
                        "the line is not JSON at column {}: JSON has no {word}; write null or a string instead",
                        error.column()
                    ),
                    None => format!("the line is not JSON: {error}"),
                };
                Err(LineError::new(ErrorCode::InvalidJson, message).of(text.as_bytes()))
            }
            Ok(_) => Err(LineError::new(ErrorCode::InvalidJson, "the line is not a JSON object".to_owned())),
        }
    }

    fn id(&self) -> Result<Option<Id>, LineError> {
        match self.id.map(|raw| serde_json::from_str::<Id>(raw.get())) {
            None => Ok(None),
            Some(Ok(id)) if id.is_valid() => Ok(Some(id)),
            Some(_) => Err(LineError::argument(
                "`id` must be a string of at most 128 bytes, or an integer from -(2^53-1) to 2^53-1",
            )),
        }
    }

    fn kind(&self) -> Option<Cow<'a, str>> {
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

        let Text(kind) = serde_json::from_str(self.kind?.get()).ok()?;
        Some(kind)
    }
}

fn decode_command(head: Head<'_>, text: &str) -> Result<Command, LineError> {
    let kind = head.kind().ok_or_else(|| LineError::argument("`type` must be a string"))?;
    if deeper_than(MAX_DEPTH, text) {
        return Err(LineError::argument(format_args!("the line is nested deeper than {MAX_DEPTH} levels")));
    }
    let kind = kind.as_ref();
    match Command::read(kind, text) {
        None => Err(LineError::new(ErrorCode::UnknownCommand, format!("unknown command {kind:?}"))),
        Some(Err(error)) => Err(LineError::argument(format_args!("{kind}: {error}"))),
        Some(Ok(Command::Send(send))) => compacted(send).map(Command::Send),
        Some(Ok(Command::Ask(mut ask))) => {
            ask.data = compacted_data(ask.data)?;
            Ok(Command::Ask(ask))
        }
        Some(Ok(Command::Respond(mut respond))) => {
            respond.data = respond.data.map(compacted_data).transpose()?;
            Ok(Command::Respond(respond))
        }
        Some(Ok(command)) => Ok(command),
    }
}

/// Error of `data` that is valid JSON, but not readable by every reader.
const NOT_PORTABLE: &str =
    "`data` contains a number outside the range of 64-bit floats, or an unpaired surrogate";

/// Strips the white space in `data`, because the receiving node rejects it.
fn compacted(send: Send) -> Result<Send, LineError> {
    Ok(Send { data: compacted_data(send.data)?, ..send })
}

fn compacted_data(data: Box<RawValue>) -> Result<Box<RawValue>, LineError> {
    if !is_portable(data.get()) {
        return Err(LineError::argument(NOT_PORTABLE));
    }
    match compact(data.get()) {
        Cow::Owned(compacted) => RawValue::from_string(compacted).map_err(LineError::argument),
        Cow::Borrowed(_) => Ok(data),
    }
}

/// Decodes an event, for a parent. Returns `None` for an unknown type, which the parent must skip.
///
/// # Errors
/// Fails if the line is not JSON, or lacks a field of its `type`.
pub fn decode_event(line: &[u8]) -> Result<Option<Event>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
    }

    let head: Head<'_> = serde_json::from_slice(line)?;
    Event::read(&head.kind, line).transpose()
}

/// Checks `data` from the network before the node writes it into a line. `data` must be exactly one
/// JSON value of bounded depth in UTF-8. It must not contain a byte below 0x20, which could end the
/// line, or a value that strict readers reject, because they would reject the whole line.
///
/// # Errors
/// Returns a description of the problem.
pub fn check_data(data: &[u8]) -> Result<Box<RawValue>, String> {
    // Without an early exit the compiler vectorizes the loop.
    if data.iter().fold(false, |found, &byte| found | (byte < 0x20)) {
        return Err("data contains a control character".to_owned());
    }
    let value: &RawValue = serde_json::from_slice(data).map_err(|error| error.to_string())?;
    if value.get().len() != data.len() {
        return Err("data is surrounded by white space".to_owned());
    }
    if !is_portable(value.get()) {
        return Err(NOT_PORTABLE.to_owned());
    }
    // The object of the line itself is one level.
    if deeper_than(MAX_DEPTH - 1, value.get()) {
        return Err(format!("data is nested deeper than {} levels", MAX_DEPTH - 1));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn send_in_one_pass_reads_the_same_as_in_two(
            fields in prop::collection::vec(
                prop::sample::select(vec![
                    r#""type":"send""#, r#""\u0074ype":"send""#, r#""type":"ping""#, r#""type":null"#,
                    r#""id":"a""#, r#""id":7"#, r#""id":null"#, r#""id":1.5"#, r#""i\u0064":"b""#,
                    r#""peerId":"0xab""#, r#""peer\u0049d":"0xcd""#, r#""peerId":1"#, r#""topic":"t""#,
                    r#""data":"x""#, r#""data":{"type": [1 , "id"]}"#, r#""data":1e999"#, r#""data":null"#,
                    r#""ttlMs":5"#, r#""priority":"high""#, r#""priority":"odd""#, r#""other":[{}]"#,
                ]),
                0..6,
            ),
            brackets in prop::sample::select(vec![("{", "}"), ("[", "]"), (" {", "} "), ("{", "}{}")]),
        ) {
            let text = format!("{}{}{}", brackets.0, fields.join(","), brackets.1);
            if let Some(request) = read_send(&text) {
                prop_assert_eq!(format!("{request:?}"), format!("{:?}", read_command(&text)));
            }
        }
    }

    #[test]
    fn usual_send_is_read_in_one_pass() {
        let text = r#"{"type":"send","id":1,"peerId":"0xab","data":{"a":[1]}}"#;
        assert!(read_send(text).is_some_and(|request| request.is_ok()));
    }
}
