//! The consequences of rejecting a record: its counter, and the verdict on the forwarding peer.

use p2p_node_protocol::Counter;
use p2p_node_wire::identity::BindingError;
use p2p_node_wire::record::RecordError;

use crate::effect::Verdict;

/// Returns the counter of records rejected for this reason.
pub(crate) fn refusal_counter(error: &RecordError) -> Counter {
    use BindingError::{Expired, FutureGeneration, NotYetValid, WrongNetwork};
    match error {
        RecordError::Decode(_) => Counter::RecordsMalformed,
        RecordError::WrongNetwork | RecordError::Binding(WrongNetwork) => Counter::RecordsOutOfScope,
        RecordError::WrongAddress => Counter::RecordsMisplaced,
        RecordError::Expired
        | RecordError::FromTheFuture
        | RecordError::FutureSeq
        | RecordError::Binding(NotYetValid | Expired | FutureGeneration) => Counter::RecordsUntimely,
        RecordError::BadSignature => Counter::RecordsForged,
        RecordError::Lifetime | RecordError::Binding(_) => Counter::RecordsRefused,
    }
}

/// Returns the counter of bytes that are not a valid record of this version.
pub(crate) fn no_record(error: &RecordError) -> Counter {
    if error.is_provable() { Counter::RecordsMalformed } else { Counter::RecordsOfLaterVersions }
}

/// Returns the verdict on a record with this error. Only an error that every node finds the same is
/// the forwarding peer's fault.
pub(crate) fn verdict_on(error: &RecordError) -> Verdict {
    if error.is_provable() { Verdict::Reject } else { Verdict::Ignore }
}

#[cfg(test)]
mod tests {
    use p2p_node_wire::strict::DecodeError;

    use super::*;

    #[test]
    fn each_fault_of_a_record_has_its_counter() {
        let faults = [
            (RecordError::Decode(DecodeError::Malformed), Counter::RecordsMalformed),
            (RecordError::WrongNetwork, Counter::RecordsOutOfScope),
            (RecordError::Binding(BindingError::WrongNetwork), Counter::RecordsOutOfScope),
            (RecordError::WrongAddress, Counter::RecordsMisplaced),
            (RecordError::Expired, Counter::RecordsUntimely),
            (RecordError::FromTheFuture, Counter::RecordsUntimely),
            (RecordError::FutureSeq, Counter::RecordsUntimely),
            (RecordError::Binding(BindingError::Expired), Counter::RecordsUntimely),
            (RecordError::Binding(BindingError::NotYetValid), Counter::RecordsUntimely),
            (RecordError::Binding(BindingError::HighS), Counter::RecordsRefused),
            (RecordError::Lifetime, Counter::RecordsRefused),
            (RecordError::BadSignature, Counter::RecordsForged),
        ];
        for (fault, counter) in faults {
            assert_eq!(refusal_counter(&fault), counter, "{fault}");
        }
    }
}
