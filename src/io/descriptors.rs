//! Limit of open file descriptors, which includes sockets.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Number of descriptors that are not connections: stdio, the runtimes, listeners, the store and key
/// files. The node uses 15 to 30; 64 leaves reserve.
const OTHERS: u64 = 64;

/// Raises the soft limit of descriptors for `sockets` sockets, as far as the hard limit allows.
/// Returns the number of sockets that the process can open.
pub fn raise_limit(sockets: u64) -> u64 {
    let before = getrlimit(Resource::Nofile);
    let wanted = wanted(before, sockets + OTHERS);
    if let Some(limit) = wanted {
        match setrlimit(Resource::Nofile, limit) {
            Ok(()) => {
                tracing::debug!(from = ?before.current, to = ?limit.current, "raised the limit of open files")
            }
            Err(error) => tracing::debug!(%error, "raising the limit of open files failed"),
        }
    }
    // `None` means unlimited.
    getrlimit(Resource::Nofile).current.map_or(sockets, |limit| limit.saturating_sub(OTHERS).min(sockets))
}

/// Returns the limits to set, or `None` if the soft limit suffices or cannot be raised.
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
    fn soft_limit_is_raised_as_needed_up_to_hard_limit() {
        let raised = |current, maximum| wanted(limits(current, maximum), 1000).map(|limit| limit.current);
        assert_eq!(raised(Some(256), None), Some(Some(1000)));
        assert_eq!(raised(Some(256), Some(4096)), Some(Some(1000)));
        assert_eq!(raised(Some(256), Some(512)), Some(Some(512)));
        assert_eq!(raised(Some(256), Some(256)), None);
        assert_eq!(raised(Some(1000), Some(4096)), None);
        assert_eq!(raised(None, None), None);
    }
}
