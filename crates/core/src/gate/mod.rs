//! What decides about everything that comes in: who may speak, how urgently, and from where.

pub mod access_list;
pub mod address_scope;
pub(crate) mod frame_checks;
pub mod high_priority_limiter;
pub mod rate_limiter;
pub(crate) mod sender;

use p2p_node_wire::envelope::ReplayWindows;

use crate::directory::bindings::BindingCache;
use crate::directory::on_record::PendingVerifications;
use access_list::AccessList;
use high_priority_limiter::HighPriorityLimiter;

/// What decides about everything that comes in.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Whom the parent blocked or allowed.
    pub(crate) access_list: AccessList,
    /// Frames that were seen before.
    pub(crate) replay: ReplayWindows,
    /// Bindings whose signatures were checked.
    pub(crate) binding_cache: BindingCache,
    /// What waits until a signature was checked.
    pub(crate) pending_verification: PendingVerifications,
    /// How much of an author's high priority is believed.
    pub(crate) high_priority_limiter: HighPriorityLimiter,
}

impl Gate {
    pub(crate) fn new(access_list: AccessList) -> Self {
        Gate {
            access_list,
            replay: ReplayWindows::default(),
            binding_cache: BindingCache::default(),
            pending_verification: PendingVerifications::default(),
            high_priority_limiter: HighPriorityLimiter::default(),
        }
    }
}
