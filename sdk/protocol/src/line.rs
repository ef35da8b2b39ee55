//! Bytes to lines, lines to [`Request`]s, [`Event`]s to lines. Nothing here waits or reads.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::{Command, ErrorCode, Event, Id, Request};

/// Deepest nesting of arrays and objects that is read, the line's own object included (design §2).
pub const MAX_DEPTH: usize = 32;

/// Why a line is not a command. A bad line never ends the node: each becomes an `error` event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct LineError {
    /// The id that the line carried, if that much could be read.
    pub id: Option<Id>,
    /// The stable code.
    pub code: ErrorCode,
    /// What is wrong, for a person.
    pub message: String,
}

impl LineError {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        LineError { id: None, code, message: message.into() }
    }
}

/// A piece of input as [`Framer`] cuts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// One line, without newline, carriage return or byte order mark; never blank.
    Line(&'a [u8]),
    /// A line over the limit, reported once; all of it up to its newline is skipped.
    TooLong,
}

/// Cuts a byte stream into lines of bounded length. Accepts `\n` and `\r\n`, skips blank lines and a
/// leading byte order mark.
#[derive(Debug)]
pub struct Framer {
    max_line: usize,
    partial: Vec<u8>,
    skipping: bool,
    at_start: bool,
}

impl Framer {
    /// A framer whose lines have at most `max_line` bytes, the line ending not counted.
    pub fn new(max_line: usize) -> Self {
        Framer { max_line, partial: Vec::new(), skipping: false, at_start: true }
    }

    /// Takes the next chunk and hands each line that ends in it to `on`.
    pub fn push(&mut self, mut chunk: &[u8], mut on: impl FnMut(Framed<'_>)) {
        while let Some(end) = chunk.iter().position(|&byte| byte == b'\n') {
            let (head, rest) = (&chunk[..end], &chunk[end + 1..]);
            chunk = rest;
            if self.skipping {
                self.skipping = false;
            } else if self.partial.is_empty() {
                self.line(head, &mut on);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(head);
                self.line(&whole, &mut on);
                whole.clear();
                self.partial = whole;
            }
        }
        if self.skipping {
            return;
        }
        // One byte more than the limit may be the carriage return of a line that is just within it,
        // and the first three bytes of all may be a byte order mark.
        if self.partial.len() + chunk.len() > self.max_line + 4 {
            self.partial = Vec::new();
            self.skipping = true;
            self.at_start = false;
            on(Framed::TooLong);
        } else {
            self.partial.extend_from_slice(chunk);
        }
    }

    /// Ends the stream: a last line without newline counts.
    pub fn finish(&mut self, mut on: impl FnMut(Framed<'_>)) {
        let last = std::mem::take(&mut self.partial);
        if !self.skipping {
            self.line(&last, &mut on);
        }
        self.skipping = false;
    }

    fn line(&mut self, mut line: &[u8], on: &mut impl FnMut(Framed<'_>)) {
        if std::mem::take(&mut self.at_start) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > self.max_line {
            on(Framed::TooLong);
        } else if !line.trim_ascii().is_empty() {
            on(Framed::Line(line));
        }
    }
}

/// Reads one line as a command. The id is read first, so that a bad payload's error carries it.
///
/// # Errors
/// `INVALID_UTF8`, `INVALID_JSON`, `UNKNOWN_COMMAND` or `INVALID_ARGUMENT`, with the id if there is one.
pub fn decode_request(line: &[u8]) -> Result<Request, LineError> {
    let text = std::str::from_utf8(line).map_err(|error| {
        LineError::new(
            ErrorCode::InvalidUtf8,
            format!("the line is not UTF-8 from byte {}", error.valid_up_to() + 1),
        )
    })?;
    if depth(text) > MAX_DEPTH {
        let message = format!("the line nests deeper than {MAX_DEPTH} levels");
        return Err(LineError::new(ErrorCode::InvalidJson, message));
    }
    let head: Head<'_> = serde_json::from_str(text).map_err(|error| {
        let message = match error.classify() {
            serde_json::error::Category::Data => {
                format!("the line is not an object with a string `type`: {error}")
            }
            _ => format!("the line is not JSON: {error}"),
        };
        LineError::new(ErrorCode::InvalidJson, message)
    })?;
    let id = match head.id.map(|raw| serde_json::from_str::<Id>(raw.get())) {
        None => None,
        Some(Ok(id)) if id.is_valid() => Some(id),
        Some(_) => {
            let message = "`id` must be a string of at most 128 bytes or an integer up to 2^53-1";
            return Err(LineError::new(ErrorCode::InvalidArgument, message));
        }
    };
    match decode_command(&head.kind, text) {
        Ok(command) => Ok(Request { id, command }),
        Err(error) => Err(LineError { id, ..error }),
    }
}

/// What every command line has, whatever else is wrong with it.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
}

fn decode_command(kind: &str, text: &str) -> Result<Command, LineError> {
    Ok(match kind {
        "connect" => Command::Connect(fields(kind, text)?),
        "send" => {
            let mut send: crate::Send = fields(kind, text)?;
            if let Cow::Owned(compacted) = compact(send.data.get()) {
                send.data = RawValue::from_string(compacted)
                    .map_err(|error| LineError::new(ErrorCode::InvalidJson, error.to_string()))?;
            }
            Command::Send(send)
        }
        "discover" => Command::Discover(fields(kind, text)?),
        "subscribe" => Command::Subscribe(fields(kind, text)?),
        "unsubscribe" => Command::Unsubscribe(fields(kind, text)?),
        "status" => Command::Status(fields(kind, text)?),
        "ping" => Command::Ping(fields(kind, text)?),
        "shutdown" => Command::Shutdown(fields(kind, text)?),
        _ => {
            let shown: String = kind.chars().take(64).collect();
            let message = format!("there is no command {shown:?}");
            return Err(LineError::new(ErrorCode::UnknownCommand, message));
        }
    })
}

fn fields<T: DeserializeOwned>(kind: &str, text: &str) -> Result<T, LineError> {
    serde_json::from_str(text)
        .map_err(|error| LineError::new(ErrorCode::InvalidArgument, format!("{kind}: {error}")))
}

/// Reads one line as an event, for a parent. `None`: a type that this crate does not know, to be skipped.
///
/// # Errors
/// When the line is not JSON, or not what its `type` promises.
pub fn decode_event(line: &[u8]) -> Result<Option<Event>, serde_json::Error> {
    let head: Head<'_> = serde_json::from_slice(line)?;
    Ok(Some(match &*head.kind {
        "ready" => Event::Ready(serde_json::from_slice(line)?),
        "message" => Event::Message(serde_json::from_slice(line)?),
        "peer_discovered" => Event::PeerDiscovered(serde_json::from_slice(line)?),
        "error" => Event::Error(serde_json::from_slice(line)?),
        "log" => Event::Log(serde_json::from_slice(line)?),
        "result" => Event::Result(serde_json::from_slice(line)?),
        "delivery" => Event::Delivery(serde_json::from_slice(line)?),
        "peer_connected" => Event::PeerConnected(serde_json::from_slice(line)?),
        "peer_lost" => Event::PeerLost(serde_json::from_slice(line)?),
        "overflow" => Event::Overflow(serde_json::from_slice(line)?),
        "closing" => Event::Closing(serde_json::from_slice(line)?),
        _ => return Ok(None),
    }))
}

/// Appends `event` and a newline to `out`; with `seq`, numbers the line.
pub fn encode_event(event: &Event, seq: Option<u64>, out: &mut Vec<u8>) {
    let start = out.len();
    if let Err(error) = serde_json::to_writer(&mut *out, event) {
        // No event type has a key that is not a string or a number that is not finite.
        unreachable!("an event cannot be written as JSON: {error}");
    }
    if let Some(seq) = seq {
        out.pop();
        out.extend_from_slice(b",\"seq\":");
        out.extend_from_slice(seq.to_string().as_bytes());
        out.push(b'}');
    }
    if !out[start..].is_ascii() {
        escape_separators(start, out);
    }
    out.push(b'\n');
}

/// Appends a request and a newline to `out`, for a parent.
pub fn encode_request(request: &Request, out: &mut Vec<u8>) {
    if let Err(error) = serde_json::to_writer(&mut *out, &request.command) {
        unreachable!("a command cannot be written as JSON: {error}");
    }
    if let Some(id) = &request.id {
        out.pop();
        out.extend_from_slice(b",\"id\":");
        if let Err(error) = serde_json::to_writer(&mut *out, id) {
            unreachable!("an id cannot be written as JSON: {error}");
        }
        out.push(b'}');
    }
    out.push(b'\n');
}

/// What `data` from the network must be before it may stand in a line of our own: exactly one JSON value of
/// bounded depth, in UTF-8, without any byte below 0x20 that could end the line.
///
/// # Errors
/// A description of what is wrong.
pub fn check_data(data: &[u8]) -> Result<Box<RawValue>, String> {
    if data.iter().any(|&byte| byte < 0x20) {
        return Err("data holds a control character".to_owned());
    }
    let value: &RawValue = serde_json::from_slice(data).map_err(|error| error.to_string())?;
    if value.get().len() != data.len() {
        return Err("data has white space around it".to_owned());
    }
    // One level is the line's own object.
    if depth(value.get()) >= MAX_DEPTH {
        return Err(format!("data nests deeper than {} levels", MAX_DEPTH - 1));
    }
    Ok(value.to_owned())
}

/// Strips the white space between the tokens of valid JSON; borrows when there is none.
fn compact(json: &str) -> Cow<'_, str> {
    let mut in_string = false;
    let mut escaped = false;
    let mut blank = |byte: u8| {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            return false;
        }
        in_string = byte == b'"';
        matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
    };
    let Some(first) = json.bytes().position(&mut blank) else {
        return Cow::Borrowed(json);
    };
    let mut out = Vec::with_capacity(json.len());
    out.extend_from_slice(&json.as_bytes()[..first]);
    out.extend(json.bytes().skip(first + 1).filter(|&byte| !blank(byte)));
    match String::from_utf8(out) {
        Ok(text) => Cow::Owned(text),
        Err(_) => unreachable!("taking ASCII out of UTF-8 leaves UTF-8"),
    }
}

/// Deepest nesting of arrays and objects, by brackets alone; exact for valid JSON.
fn depth(json: &str) -> usize {
    let (mut now, mut deepest) = (0usize, 0usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                now += 1;
                deepest = deepest.max(now);
            }
            b']' | b'}' => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Escapes U+0085, U+2028 and U+2029 in `out[start..]`: some line readers of Python and Node split on them.
/// In valid JSON they stand in strings alone.
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
