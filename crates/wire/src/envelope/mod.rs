//! The messages between nodes: frames with batches of messages, acks, responses to mail, and the steps of
//! admission.
//!
//! The checks of a frame go from cheap to expensive: size, decoding, network and scope, times,
//! replay, signature, binding.

pub mod admission;
pub mod call;
pub mod claim;
pub mod codec;
pub mod file_offer;
pub mod frame;
pub mod limits;
pub mod replay;

pub use admission::{
    Accepted, Admission, Challenge, Connect, Handshake, Rejected, Side, SignedResponse, Step,
};
pub use call::{Call, CallStep};
pub use claim::FrameClaim;
pub use codec::*;
pub use file_offer::FileOffer;
pub use frame::{Frame, FrameError, direct_frame, sign_frame};
pub use replay::{FrameId, Replay, ReplayWindows};

pub use super::strict::{DecodeError, WIRE_VERSION, strict_decode};
