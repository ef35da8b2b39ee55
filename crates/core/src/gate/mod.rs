//! What decides about everything that comes in: who may speak, how urgently, and from where.

pub mod access_list;
pub mod address_scope;
pub mod high_priority_limiter;
pub(crate) mod sender;

use p2p_node_wire::envelope::ReplayWindows;

use crate::directory::bindings::BindingCache;
use crate::directory::on_record::Parking;
use access_list::Standings;
use high_priority_limiter::Urgent;

/// What decides about everything that comes in.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Whom the parent blocked or allowed.
    pub(crate) access_list: Standings,
    /// Frames that were seen before.
    pub(crate) replay: ReplayWindows,
    /// Bindings whose signatures were checked.
    pub(crate) binding_cache: BindingCache,
    /// What waits until a signature was checked.
    pub(crate) pending_verification: Parking,
    /// How much of an author's high priority is believed.
    pub(crate) high_priority_limiter: Urgent,
}

impl Gate {
    pub(crate) fn new(access_list: Standings) -> Self {
        Gate {
            access_list,
            replay: ReplayWindows::default(),
            binding_cache: BindingCache::default(),
            pending_verification: Parking::default(),
            high_priority_limiter: Urgent::default(),
        }
    }
}
