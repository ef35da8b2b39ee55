//! Any step of a request.

use bytes::Bytes;
use p2p_node_wire::envelope::{Call, CallStep};
use proptest::prelude::*;

prop_compose! {
    pub fn any_call()(
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
