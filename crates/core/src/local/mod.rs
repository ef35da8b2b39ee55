//! This node itself: its record, its binding, its frame numbers and its clocks.

pub(crate) mod binding_renewal;
pub(crate) mod clock_jump;
pub(crate) mod clock_skew;
pub(crate) mod frame_numbers;
pub mod local_record;
