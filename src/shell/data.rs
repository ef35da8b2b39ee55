//! The data of a command line: a text, a file or stdin.

use std::fs::File;
use std::io::{self, Read, stdin};

use p2p_node_protocol::line::check_data;
use p2p_node_protocol::{Encoding, Limits};
use p2p_node_sdk::{Bytes, Payload};
use serde_json::value::{RawValue, to_raw_value};

use super::ShellError;
use crate::config::Format;

/// Longest data, in bytes: that of a message. The node checks it again, as the JSON that it becomes.
const MAX_BYTES: usize = Limits::STANDARD.max_direct_bytes;

/// Data to send.
#[derive(Debug)]
pub(super) enum Data {
    Json(Box<RawValue>),
    Bytes(Vec<u8>),
}

impl Payload for Data {
    fn to_data(&self) -> Result<(Box<RawValue>, Option<Encoding>), p2p_node_sdk::Error> {
        match self {
            Data::Json(value) => Ok((value.clone(), None)),
            Data::Bytes(bytes) => Bytes(bytes).to_data(),
        }
    }
}

/// Reads the data that an argument names.
pub(super) fn read(argument: &str, format: Format) -> Result<Data, ShellError> {
    let (origin, bytes) = match argument.strip_prefix('@') {
        None if argument == "-" => ("stdin".to_owned(), limited(stdin().lock())),
        None => ("DATA".to_owned(), limited(argument.as_bytes())),
        Some("-") => ("stdin".to_owned(), limited(stdin().lock())),
        Some(text) if text.starts_with('@') => ("DATA".to_owned(), limited(text.as_bytes())),
        Some(path) => (path.to_owned(), File::open(path).and_then(limited)),
    };
    let bytes = bytes.map_err(|error| ShellError::Unreadable { origin: origin.clone(), error })?;
    if bytes.len() > MAX_BYTES {
        return Err(ShellError::TooLarge { origin, limit: MAX_BYTES });
    }
    let invalid = |reason: String| ShellError::Invalid { origin: origin.clone(), reason };
    match format {
        Format::Bytes => Ok(Data::Bytes(bytes)),
        Format::Json => check_data(&bytes).map(Data::Json).map_err(invalid),
        Format::Text => {
            let text = String::from_utf8(bytes);
            let text = text.map_err(|_| invalid("is not UTF-8; use --format bytes".to_owned()))?;
            to_raw_value(&text).map(Data::Json).map_err(|error| invalid(error.to_string()))
        }
    }
}

/// Reads what has at most one byte too much.
fn limited(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(argument: &str, format: Format) -> String {
        match read(argument, format).unwrap() {
            Data::Json(value) => value.get().to_owned(),
            Data::Bytes(bytes) => panic!("{bytes:?}"),
        }
    }

    #[test]
    fn arguments_are_texts_files_and_json() {
        assert_eq!(json("a \"b\"", Format::Text), r#""a \"b\"""#);
        assert_eq!(json("@@user", Format::Text), r#""@user""#);
        assert_eq!(json(r#"{"b":1,"a":2}"#, Format::Json), r#"{"b":1,"a":2}"#);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"\xff\0").unwrap();
        let argument = format!("@{}", file.path().display());
        assert!(matches!(read(&argument, Format::Bytes), Ok(Data::Bytes(bytes)) if bytes == b"\xff\0"));
        assert!(matches!(read(&argument, Format::Text), Err(ShellError::Invalid { .. })));
    }

    #[test]
    fn bad_data_is_refused_before_a_node_starts() {
        assert!(matches!(read("{", Format::Json), Err(ShellError::Invalid { .. })));
        assert!(matches!(read("@/nowhere/at/all", Format::Text), Err(ShellError::Unreadable { .. })));
        assert!(matches!(limited(io::repeat(0)), Ok(bytes) if bytes.len() == MAX_BYTES + 1));
        let large = "a".repeat(MAX_BYTES + 1);
        assert!(matches!(read(&large, Format::Text), Err(ShellError::TooLarge { .. })));
        assert!(read(&large[1..], Format::Text).is_ok());
    }
}
