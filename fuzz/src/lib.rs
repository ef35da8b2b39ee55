//! The fuzz targets: functions of bytes that panic when a property does not hold. libFuzzer calls
//! them through `fuzz_targets`; `tests/fuzz` of the node includes this file and calls them through
//! proptest.

pub mod addrs;
pub mod lines;
pub mod material;
pub mod node;
pub mod persisted;
pub mod sealed;
pub mod source;
pub mod wire;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by name: the name of its file in `fuzz_targets`, and of its directories
/// in `corpus` and `regressions`.
pub const TARGETS: &[(&str, Target)] = &[
    ("ack", wire::ack),
    ("admission", wire::admission),
    ("binding", wire::binding),
    ("binding_file", persisted::binding_file),
    ("bootstrap", addrs::bootstrap),
    ("checkpoint_row", persisted::checkpoint_row),
    ("core", node::core),
    ("event", lines::event),
    ("frame", wire::frame),
    ("highest_seen_row", persisted::highest_seen_row),
    ("line", lines::line),
    ("mail_response", wire::mail_response),
    ("message_row", persisted::message_row),
    ("record", wire::record),
    ("sealed", sealed::sealed),
    ("typed_data", persisted::typed_data),
];

/// Runs a target by name.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of that name");
    target(bytes);
}
