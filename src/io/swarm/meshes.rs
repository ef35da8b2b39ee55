//! Reports of the gossip meshes to the core, at most once a second, for people who look at them.

use std::time::Duration;

use libp2p::gossipsub::TopicHash;

use crate::io::swarm::SwarmDriver;
use p2p_node_core::input::Input;
use p2p_node_wire::time::Instant;

/// Shortest time between two reports: the heartbeat of gossipsub, which changes the meshes.
const MESH_PERIOD: Duration = Duration::from_secs(1);

impl SwarmDriver {
    /// Returns the sizes of the meshes if they are due. It wakes nobody: an idle node reports them with its
    /// next event.
    pub fn meshes_due(&mut self, now: Instant) -> Option<Input> {
        if self.meshes_at.is_some_and(|at| now.saturating_since(at) < MESH_PERIOD) {
            return None;
        }
        self.meshes_at = Some(now);
        let gossip = &self.swarm.behaviour().gossip;
        let size = |topic: &TopicHash| Some((self.topic_name(topic)?, gossip.mesh_peers(topic).count()));
        Some(Input::Meshes(gossip.topics().filter_map(size).collect()))
    }
}
