//! What other parts of the node make of several settings together.

use p2p_node_core::gate::address_rules::AddressRules;
use p2p_node_core::gate::flow_guards::FlowLimits;
use p2p_node_core::mail::inbound::files::FileLimits;
use p2p_node_core::peers::limits::ConnectionLimits;
use p2p_node_protocol::{Capabilities, Command, Connect, PROTOCOL_VERSION};

use super::{Config, OnEof};

impl Config {
    /// Returns what the node accepts of files.
    pub fn files(&self) -> FileLimits {
        FileLimits {
            has_directory: self.files_dir.is_some(),
            max_bytes: self.max_file,
            quota_bytes: self.files_quota,
        }
    }

    /// Returns the configuration of a daemon: it starts at once, and neither reads stdin nor ends with it.
    pub fn daemon(self) -> Config {
        Config { has_parent: false, connect: true, on_eof: OnEof::Stay, require_delivery: false, ..self }
    }

    /// Returns the limits of connections and dials.
    pub fn connections(&self) -> ConnectionLimits {
        ConnectionLimits {
            max: self.max_connections,
            high_watermark: self.high_watermark,
            low_watermark: self.low_watermark,
            target: self.target_peers,
            min: self.min_peers,
            grace: self.connection_grace,
            dials_per_second: self.dial_rate,
            concurrent_dials: self.dial_concurrency,
            join_stagger: self.join_stagger,
        }
    }

    /// Returns the rules for IP addresses.
    pub fn address_rules(&self) -> AddressRules {
        AddressRules::new(&self.allow_ips, &self.block_ips)
    }

    /// Returns the limits of the flow guards.
    pub fn flow(&self) -> FlowLimits {
        FlowLimits {
            per_sender: self.max_per_minute,
            per_conversation: self.max_per_minute_of_conversation,
            hops: self.max_hops,
        }
    }

    /// Returns the commands that the settings stand for. The node carries them out before those of
    /// its parent.
    pub fn commands(&self) -> Vec<Command> {
        // Only a parent that knows protocol 1 starts a node with `--connect`.
        let protocol = Some(PROTOCOL_VERSION);
        let connect = self.connect.then(|| Command::Connect(Connect { protocol, ..Connect::default() }));
        let mut names = self.capabilities.clone();
        let is_new = !names.iter().any(|name| name == crate::a2a::CAPABILITY);
        names.extend((is_new && self.a2a_server.is_some()).then(|| crate::a2a::CAPABILITY.to_owned()));
        let capabilities =
            (!names.is_empty()).then_some(Command::Capabilities(Capabilities { capabilities: names }));
        capabilities.into_iter().chain(connect).collect()
    }
}
