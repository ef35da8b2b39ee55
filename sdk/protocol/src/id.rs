//! Ids of commands.

use serde::{Deserialize, Serialize};

use crate::MAX_ID_BYTES;

/// The largest number on the pipe: 2^53 − 1, the last integer that every JSON reader represents
/// exactly.
pub const MAX_EXACT: u64 = (1 << 53) - 1;

/// Id that a parent gives to a command. Exactly one terminal line returns it, unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Id {
    /// An integer of magnitude up to 2^53 − 1.
    Number(i64),
    /// A string of up to 128 bytes.
    Text(String),
}

impl Id {
    /// Returns `true` if the id is within its limits.
    pub fn is_valid(&self) -> bool {
        match self {
            Id::Number(number) => number.unsigned_abs() <= MAX_EXACT,
            Id::Text(text) => text.len() <= MAX_ID_BYTES,
        }
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Id::Number(number) => number.fmt(f),
            Id::Text(text) => text.fmt(f),
        }
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        Id::Text(text.to_owned())
    }
}

impl From<i64> for Id {
    fn from(number: i64) -> Self {
        Id::Number(number)
    }
}
