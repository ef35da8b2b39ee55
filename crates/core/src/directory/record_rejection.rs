//! The consequences of rejecting a record: its counter, and the verdict on the forwarding peer.

use p2p_node_protocol::Counter;
use p2p_node_wire::identity::BindingError;
use p2p_node_wire::record::RecordError;

use crate::effect::Verdict;
use crate::gate::admission_policy::Refusal;

/// Returns the counter of records rejected for this reason.
pub(crate) fn rejection_counter(error: &RecordError) -> Counter {
    use BindingError::{Expired, FutureGeneration, NotYetValid, WrongNetwork};
    match error {
        RecordError::Decode(_) => Counter::RecordsMalformed,
        RecordError::WrongNetwork | RecordError::Binding(WrongNetwork) => Counter::RecordsOutOfScope,
        RecordError::WrongAddress => Counter::RecordsMisplaced,
        RecordError::Expired
        | RecordError::FromTheFuture
        | RecordError::FutureSeq
        | RecordError::Binding(NotYetValid | Expired | FutureGeneration) => Counter::RecordsOutOfDate,
        RecordError::BadSignature => Counter::RecordsForged,
        RecordError::Lifetime | RecordError::Binding(_) => Counter::RecordsRefused,
    }
}

/// Returns the counter of bytes that do not decode to a record of this version.
pub(crate) fn undecodable_counter(error: &RecordError) -> Counter {
    if error.is_provable() { Counter::RecordsMalformed } else { Counter::RecordsOfLaterVersions }
}

/// Returns the verdict on a record with this error. The node penalises the forwarding peer only for
/// an error that every node detects.
pub(crate) fn verdict_on(error: &RecordError) -> Verdict {
    if error.is_provable() { Verdict::Reject } else { Verdict::Ignore }
}

/// Returns the reason why the node does not admit a peer whose record has this error.
pub(crate) fn refusal_for(error: &RecordError) -> Refusal {
    match rejection_counter(error) {
        Counter::RecordsOutOfDate => Refusal::ClockOutOfRange,
        _ => Refusal::InvalidRecord,
    }
}

#[cfg(test)]
mod tests {
    use p2p_node_wire::strict::DecodeError;

    use super::*;

    #[test]
    fn record_error_maps_to_its_counter() {
        let faults = [
            (RecordError::Decode(DecodeError::Malformed), Counter::RecordsMalformed),
            (RecordError::WrongNetwork, Counter::RecordsOutOfScope),
            (RecordError::Binding(BindingError::WrongNetwork), Counter::RecordsOutOfScope),
            (RecordError::WrongAddress, Counter::RecordsMisplaced),
            (RecordError::Expired, Counter::RecordsOutOfDate),
            (RecordError::FromTheFuture, Counter::RecordsOutOfDate),
            (RecordError::FutureSeq, Counter::RecordsOutOfDate),
            (RecordError::Binding(BindingError::Expired), Counter::RecordsOutOfDate),
            (RecordError::Binding(BindingError::NotYetValid), Counter::RecordsOutOfDate),
            (RecordError::Binding(BindingError::HighS), Counter::RecordsRefused),
            (RecordError::Lifetime, Counter::RecordsRefused),
            (RecordError::BadSignature, Counter::RecordsForged),
        ];
        for (fault, counter) in faults {
            assert_eq!(rejection_counter(&fault), counter, "{fault}");
        }
    }
}
