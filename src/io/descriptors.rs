//! How many files, sockets among them, the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are no connection: the standard three, the runtime, listeners, the store and key files. Ours: some 20, and as many again.
const OTHERS: u64 = 64;

/// Raises the soft limit of descriptors until there is room for so many sockets, as far as the hard limit lets; how many sockets there is
/// room for.
pub fn make_room(sockets: u64) -> u64 {
    let before = getrlimit(Resource::Nofile);
    let wanted = wanted(before, sockets + OTHERS);
    if let Some(limit) = wanted {
        match setrlimit(Resource::Nofile, limit) {
            Ok(()) => {
                tracing::debug!(from = ?before.current, to = ?limit.current, "raised the limit of descriptors")
            }
            Err(error) => tracing::debug!(%error, "the limit of descriptors cannot be raised"),
        }
    }
    // No limit is more than enough.
    getrlimit(Resource::Nofile).current.map_or(sockets, |limit| limit.saturating_sub(OTHERS).min(sockets))
}

/// The limits to set, unless the soft one suffices or cannot be raised.
fn wanted(now: Rlimit, needed: u64) -> Option<Rlimit> {
    let soft = now.current.filter(|soft| *soft < needed)?;
    let raised = now.maximum.map_or(needed, |hard| hard.min(needed));
    (raised > soft).then_some(Rlimit { current: Some(raised), maximum: now.maximum })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(current: Option<u64>, maximum: Option<u64>) -> Rlimit {
        Rlimit { current, maximum }
    }

    #[test]
    fn the_soft_limit_is_raised_to_what_is_needed_and_never_lowered_or_above_the_hard_one() {
        let raised = |current, maximum| wanted(limits(current, maximum), 1000).map(|limit| limit.current);
        assert_eq!(raised(Some(256), None), Some(Some(1000)));
        assert_eq!(raised(Some(256), Some(4096)), Some(Some(1000)));
        assert_eq!(raised(Some(256), Some(512)), Some(Some(512)));
        assert_eq!(raised(Some(256), Some(256)), None);
        assert_eq!(raised(Some(1000), Some(4096)), None);
        assert_eq!(raised(None, None), None);
    }
}
