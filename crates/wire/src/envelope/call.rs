//! Calls: the part of a message that makes it a step of a request.

use bytes::Bytes;
use prost::{Enumeration, Message as ProtoMessage};

use super::limits::is_code;
use crate::strict::{DecodeError, Shape, ensure, listed};

/// Length of the id of a call, in bytes: the boot number of the asker's process and a number that the
/// process uses once, so that no answer to an earlier process counts for a later one.
pub const CALL_ID_BYTES: usize = 16;

/// Largest number of a part, and of parts that an asker may permit: our choice, far more than an answer of
/// an hour has.
pub const MAX_CALL_PARTS: u32 = 1 << 24;

/// Longest text of an error for people, in bytes, as on the pipe.
pub const MAX_CALL_REASON_BYTES: usize = 1024;

/// A step of a request. The request itself and each answer are messages with a payload. Other steps have the
/// payload `null`.
#[derive(Clone, PartialEq, Eq, ProtoMessage)]
pub struct Call {
    /// What the message is.
    #[prost(enumeration = "CallStep", tag = 1)]
    pub step: i32,
    /// The id of the request, which its asker chose.
    #[prost(bytes = "bytes", tag = 2)]
    pub id: Bytes,
    /// `REQUEST` and `CREDIT`: the number of parts that the handler may send in all. `PART`, `END`,
    /// `FAIL` and `REFUSE`: the number of parts before this one.
    #[prost(uint32, tag = 3)]
    pub parts: u32,
    /// `REQUEST`: the answer may have several parts. `PART`: another part follows.
    #[prost(bool, tag = 4)]
    pub more: bool,
    /// `FAIL`: the code of the handler. `REFUSE`: the code of the node.
    #[prost(string, tag = 5)]
    pub code: String,
    /// `FAIL` and `REFUSE`: the error for people.
    #[prost(string, tag = 6)]
    pub reason: String,
}

/// The steps of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum CallStep {
    /// The asker asks.
    Request = 0,
    /// The handler answers, in whole or in part.
    Part = 1,
    /// The handler answers with an error.
    Fail = 2,
    /// The node of the handler answers with an error.
    Refuse = 3,
    /// The asker permits more parts.
    Credit = 4,
    /// The asker needs no answer any more.
    Cancel = 5,
    /// The answer has no further part.
    End = 6,
}

impl Call {
    /// The shape of a call.
    pub(super) const SHAPE: Shape = Shape::flat(6);

    pub(super) fn check(&self) -> Result<(), DecodeError> {
        listed(CallStep::is_valid(self.step))?;
        ensure(self.id.len() == CALL_ID_BYTES, "id")?;
        ensure(self.parts <= MAX_CALL_PARTS, "parts")?;
        let step = self.step();
        let permits = matches!(step, CallStep::Request | CallStep::Credit);
        ensure(!permits || self.parts > 0, "parts")?;
        ensure(step != CallStep::Cancel || self.parts == 0, "parts")?;
        ensure(!self.more || matches!(step, CallStep::Request | CallStep::Part), "more")?;
        match step {
            CallStep::Fail | CallStep::Refuse => {
                ensure(is_code(&self.code), "code")?;
                let is_text = !self.reason.chars().any(char::is_control);
                ensure(is_text && self.reason.len() <= MAX_CALL_REASON_BYTES, "reason")
            }
            _ => {
                ensure(self.code.is_empty(), "code")?;
                ensure(self.reason.is_empty(), "reason")
            }
        }
    }
}
