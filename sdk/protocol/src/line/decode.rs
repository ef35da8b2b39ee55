//! Lines to commands and events.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::find_id::{find_id, not_a_number};
use super::scan::{compact, deeper_than, is_portable};
use super::{MAX_DEPTH, MAX_ERROR_CHARS};
use crate::{Command, ErrorCode, Event, Id, Request, Send};

/// Why a line is not a command. A bad line never ends the node: each becomes an `error` event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct LineError {
    /// The number of the line, counted from 1; nothing where lines are not counted.
    pub line: Option<u64>,
    /// The id that the line carried, if that much could be read.
    pub id: Option<Id>,
    /// The stable code.
    pub code: ErrorCode,
    /// What is wrong, for a person; at most [`MAX_ERROR_CHARS`].
    pub message: String,
}

impl LineError {
    /// The error for a line of more than `limit` bytes that begins so; the rest is skipped unread.
    pub fn too_long(limit: usize, head: &[u8]) -> Self {
        let error = LineError::new(ErrorCode::LineTooLong, format!("the line is longer than {limit} bytes"));
        error.of(head)
    }

    /// The same, of the line with this number.
    #[must_use]
    pub fn at(self, line: u64) -> Self {
        LineError { line: Some(line), ..self }
    }

    /// The same, with the id that is found in a line which cannot be read as a whole.
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

/// Reads one line as a command. The id is read first, so that a bad payload's error carries it.
///
/// # Errors
/// `INVALID_UTF8` or `INVALID_JSON` when the line is not a JSON object, with its id if that stands
/// in a part that can be read; `INVALID_ARGUMENT` or `UNKNOWN_COMMAND` when it is one, with the id
/// if there is a valid one.
pub fn decode_request(line: &[u8]) -> Result<Request, LineError> {
    let text = std::str::from_utf8(line).map_err(|error| {
        let message = format!("the line is not valid UTF-8 from byte {} on", error.valid_up_to() + 1);
        LineError::new(ErrorCode::InvalidUtf8, message).of(line)
    })?;
    let head = Head::read(text)?;
    let id = head.id()?;
    match decode_command(head, text) {
        Ok(command) => Ok(Request { id, command }),
        Err(error) => Err(LineError { id, ..error }),
    }
}

/// The fields that every line has. Both stay raw, so that one can be read although the other is
/// invalid.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", default, borrow)]
    kind: Option<&'a RawValue>,
    /// Raw also where it is `null`, which is a value like any other that is no id.
    #[serde(default, borrow, deserialize_with = "whatever_it_is")]
    id: Option<&'a RawValue>,
}

fn whatever_it_is<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

impl<'a> Head<'a> {
    fn read(text: &'a str) -> Result<Self, LineError> {
        // An array would pass for a struct whose fields come in order.
        let object = text.trim_ascii_start().starts_with('{');
        match serde_json::from_str(text) {
            Ok(head) if object => Ok(head),
            Err(error) if object && error.is_data() => Err(LineError::argument(error).of(text.as_bytes())),
            Err(error) => {
                // An array or a string that comes first has no fields, so that no id is found in it.
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
        Some(Ok(command)) => Ok(command),
    }
}

/// Why `data` is refused although it is JSON.
const NOT_PORTABLE: &str =
    "`data` contains a number outside the range of 64-bit floats, or an unpaired surrogate";

/// Strips the white space in `data`, as the receiving node wants it.
fn compacted(mut send: Send) -> Result<Send, LineError> {
    if !is_portable(send.data.get()) {
        return Err(LineError::argument(NOT_PORTABLE));
    }
    if let Cow::Owned(compacted) = compact(send.data.get()) {
        send.data = RawValue::from_string(compacted).map_err(LineError::argument)?;
    }
    Ok(send)
}

/// Reads one line as an event, for a parent. `None`: a type that this crate does not know, to be
/// skipped.
///
/// # Errors
/// When the line is not JSON, or not what its `type` promises.
pub fn decode_event(line: &[u8]) -> Result<Option<Event>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
    }

    let head: Head<'_> = serde_json::from_slice(line)?;
    Event::read(&head.kind, line).transpose()
}

/// What `data` from the network must be before it may stand in a line of our own: exactly one JSON
/// value of bounded depth, in UTF-8, without any byte below 0x20 that could end the line, and
/// without what strict readers refuse, for it would cost them the whole line.
///
/// # Errors
/// A description of what is wrong.
pub fn check_data(data: &[u8]) -> Result<Box<RawValue>, String> {
    // All of it is looked at, so that it can be done many bytes at a time.
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
    // One level is the line's own object.
    if deeper_than(MAX_DEPTH - 1, value.get()) {
        return Err(format!("data is nested deeper than {} levels", MAX_DEPTH - 1));
    }
    Ok(value.to_owned())
}
