//! Any step of a request, and any file.

use bytes::Bytes;
use p2p_node_wire::envelope::file_offer::{FILE_HASH_BYTES, MAX_FILE_BYTES};
use p2p_node_wire::envelope::{Call, CallStep, FileOffer};
use proptest::prelude::*;

prop_compose! {
    fn any_call()(
        step in prop::sample::select(vec![CallStep::Request, CallStep::Part, CallStep::Fail, CallStep::Cancel]),
        id in prop::collection::vec(any::<u8>(), 16).prop_map(Bytes::from),
        (parts, more) in (1..=1_u32 << 24, any::<bool>()),
        (code, reason) in ("[A-Z0-9_]{1,48}", "\\PC{0,64}"),
    ) -> Box<Call> {
        let is_answer = matches!(step, CallStep::Request | CallStep::Part);
        Box::new(Call {
            step: step.into(),
            id,
            parts: if step == CallStep::Cancel { 0 } else { parts },
            more: is_answer && more,
            code: if step == CallStep::Fail { code } else { String::new() },
            reason: if step == CallStep::Fail { reason } else { String::new() },
        })
    }
}

prop_compose! {
    fn any_file()(
        hash in prop::collection::vec(any::<u8>(), FILE_HASH_BYTES).prop_map(Bytes::from),
        size in 0..=MAX_FILE_BYTES,
        name in "[a-z .]{0,8}[a-z]",
    ) -> Box<FileOffer> {
        Box::new(FileOffer { hash, size, name })
    }
}

/// A message has a step of a request, a file, or neither.
pub fn any_call_or_file() -> impl Strategy<Value = (Option<Box<Call>>, Option<Box<FileOffer>>)> {
    prop_oneof![
        Just((None, None)),
        any_call().prop_map(|call| (Some(call), None)),
        any_file().prop_map(|file| (None, Some(file))),
    ]
}
