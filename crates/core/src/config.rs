//! The configuration of the core, and the identity of this node.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::{Level, Priority, Role};
use p2p_node_wire::identity::{AgentKey, NodeKey, SecretBytes, SignedBinding};
use p2p_node_wire::message_id::{StreamId, StreamNamespace};
use p2p_node_wire::seal::suite::Suite;

use crate::gate::access_list::{AccessRule, Subject};
use crate::gate::address_rules::AddressRules;
pub(super) use crate::gate::address_scope::AddressScope;
use crate::gate::admission_policy::AdmissionMode;
use crate::gate::flow_guards::FlowLimits;
use crate::gate::registry::RegistryConfig;
use crate::gate::reputation::{Party, PersistedBan};
use crate::highest_seen::HighestSeen;
use crate::input::Now;
use crate::local::addresses::{Addresses, Reachability};
use crate::local::dht_mode::DhtMode;
use crate::mail::inbound::files::FileLimits;
use crate::mail::inbound::receive_window::StreamCheckpoint;
use crate::mail::outbound::outbox::PersistedMessage;
use crate::peers::limits::ConnectionLimits;
use crate::source::{KnownPeer, KnownPeers, Regions};

/// The source of the agent's key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// The environment, or a binding that a wallet signed.
    #[default]
    Given,
    /// This env file.
    EnvFile(String),
    /// This file in the data directory. The node created it, because no key was configured.
    DataDir(String),
    /// A new random key, because no key and no data directory were configured. The key is lost when
    /// the process ends, or when the supervisor that created it ends.
    Ephemeral,
}

impl KeySource {
    /// Returns the log message about the key for the parent.
    pub(super) fn notice(&self) -> Option<(Level, String)> {
        match self {
            KeySource::Given => None,
            KeySource::EnvFile(path) => {
                Some((Level::Info, format!("the node uses the agent key PRIVATE_KEY of {path}")))
            }
            KeySource::DataDir(path) => {
                Some((Level::Info, format!("no PRIVATE_KEY is configured: the node uses the agent key in {path}")))
            }
            KeySource::Ephemeral => Some((
                Level::Warn,
                "no PRIVATE_KEY is configured: the agent has a random address, which is lost when the process ends"
                    .to_owned(),
            )),
        }
    }
}

/// The configuration of the core.
#[derive(Debug)]
pub struct CoreConfig {
    /// Key that signs frames and records.
    pub node_key: NodeKey,
    /// Key that renews the binding before it expires. Absent if a wallet signed the binding; then
    /// the node cannot renew it.
    pub agent: Option<AgentKey>,
    /// The statement that the node key speaks for the agent.
    pub binding: SignedBinding,
    /// Display name.
    pub name: String,
    /// Role of the node in the network.
    pub role: Role,
    /// Version of the binary.
    pub version: String,
    /// Port to listen on, unless `connect` names one.
    pub port: u16,
    /// URL of the node's HTTP server, if it has one.
    pub http: Option<String>,
    /// Target of the node's gRPC server, if it has one.
    pub grpc: Option<String>,
    /// URL of the node's A2A gateway, if it has one.
    pub a2a: Option<String>,
    /// Bootstrap peers, in addition to those of `connect`.
    pub bootstraps: Vec<(PeerId, Multiaddr)>,
    /// `true` if there is a rendezvous directory, in which nodes of this user on this machine find
    /// each other.
    pub rendezvous: bool,
    /// The peer book of an earlier process. `None` without a data directory.
    pub peer_book: Option<Vec<KnownPeer>>,
    /// The regions of the region file, with at most `MAX_BOOTSTRAPS` peers.
    pub regions: Regions,
    /// Names of the preferred regions.
    pub preferred_regions: Vec<String>,
    /// `true` if the configuration names DNS seeds.
    pub dns_seeds: bool,
    /// `true` if a parent writes commands to stdin. A daemon has none.
    pub has_parent: bool,
    /// Keeps the node running after the end of stdin.
    pub stay_on_eof: bool,
    /// After the end of stdin, waits for every `delivery`; the exit code then states if every
    /// command succeeded.
    pub require_delivery: bool,
    /// Time for which the node continues to receive after the end of stdin.
    pub receive_after_eof: Duration,
    /// Time for which a node that shuts down finishes accepted work.
    pub drain_timeout: Duration,
    /// Source of the agent's key.
    pub key_source: KeySource,
    /// Addresses that the node may advertise and dial.
    pub scope: AddressScope,
    /// IP addresses and networks that the operator blocked or allowed.
    pub address_rules: Arc<AddressRules>,
    /// How the node finds out whether others can dial it.
    pub reachability: Reachability,
    /// Addresses at which others can dial the node, in addition to those on which it listens.
    pub external_addrs: Vec<Multiaddr>,
    /// How the node decides whether it serves the DHT.
    pub dht_mode: DhtMode,
    /// `true` if the node relays connections of others, so that it must tell them its addresses.
    pub serves_relay: bool,
    /// `true` if the node keeps the statuses of other nodes, for those who look at the network.
    pub observes: bool,
    /// How long a report shows a node after the last sign of it.
    pub forget_nodes_after: Duration,
    /// `true` if the node limits what peers and authors may use. Otherwise everyone counts as
    /// allowed.
    pub limits_apply: bool,
    /// `true` if the configuration names RPC servers.
    pub has_chain: bool,
    /// The registry, if the configuration names one.
    pub registry: Option<RegistryConfig>,
    /// Limits of the flow guards.
    pub flow: FlowLimits,
    /// Limits of the connections and dials.
    pub connections: ConnectionLimits,
    /// Which agents the node admits.
    pub admission: AdmissionMode,
    /// Random for each process. Distinguishes its frames from those of earlier processes.
    pub boot: u64,
    /// Random for each process. The ids of its streams derive from it.
    pub database: [u8; 16],
    /// Random seed of the KEM keys. It is zeroised on drop.
    pub kem_seed: SecretBytes,
    /// Cipher suite that the processor of this node prefers.
    pub suite: Suite,
    /// Random seed of the jitter.
    pub seed: u64,
    /// Random seed of the ids of spans. Without it the node makes no spans.
    pub trace_seed: Option<u64>,
    /// `true` if there is a store: the node then accepts a message when the store has persisted it.
    pub durable: bool,
    /// `true` if a message counts as delivered only after the parent's `ack`.
    pub manual_ack: bool,
    /// `true` if the agent runs several nodes on purpose, so that they do not count as an identity
    /// conflict.
    pub one_of_several: bool,
    /// What the node accepts of files.
    pub files: FileLimits,
    /// Accepted messages that earlier processes left in the store.
    pub outbox: Vec<PersistedMessage>,
    /// Checkpoints of inbound streams from the store: up to which message earlier processes
    /// delivered.
    pub inbox: Vec<StreamCheckpoint>,
    /// Highest (generation, seq) of each known agent, including our own, as
    /// `Effect::PersistHighestSeen` stored them; oldest first.
    pub highest_seen: Vec<HighestSeen>,
    /// Blocked and allowed agents and nodes, as `Effect::PersistAccessRule` stored them.
    pub access_rules: Vec<(Subject, AccessRule)>,
    /// Bans of earlier processes, as `Effect::PersistBan` stored them.
    pub bans: Vec<(Party, PersistedBan)>,
}

impl CoreConfig {
    /// Returns the peers that the node knows when it starts.
    pub(super) fn known_peers(&self) -> KnownPeers {
        KnownPeers {
            bootstraps: self.bootstraps.clone(),
            book: self.peer_book.clone(),
            regions: self.regions.clone(),
            preferred_regions: self.preferred_regions.clone(),
        }
    }

    /// Returns the namespace of the streams that this process numbers.
    pub(super) fn origin(&self) -> StreamNamespace {
        StreamNamespace { account: self.binding.binding.account, database: self.database }
    }
}

/// The identity of this node, in every form that the core needs.
#[derive(Debug)]
pub(super) struct LocalIdentity {
    pub(super) node_key: NodeKey,
    pub(super) agent: Option<AgentKey>,
    pub(super) binding: SignedBinding,
    pub(super) address: Address,
    pub(super) address_text: String,
    pub(super) peer: PeerId,
    pub(super) peer_text: String,
    pub(super) network: String,
    pub(super) suite: Suite,
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) version: String,
    pub(super) port: u16,
    pub(super) http: Option<String>,
    pub(super) grpc: Option<String>,
    pub(super) a2a: Option<String>,
    pub(super) rendezvous: bool,
    pub(super) dns_seeds: bool,
    pub(super) stay_on_eof: bool,
    pub(super) one_of_several: bool,
    pub(super) receive_after_eof: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) scope: AddressScope,
    pub(super) address_rules: Arc<AddressRules>,
    pub(super) reachability: Reachability,
    pub(super) external_addrs: Vec<Multiaddr>,
    pub(super) serves_relay: bool,
    pub(super) observes: bool,
    pub(super) forget_nodes_after: Duration,
    pub(super) dht_mode: DhtMode,
    pub(super) started_ms: u64,
    /// The encoded binding, as every frame carries it.
    pub(super) binding_bytes: Bytes,
    /// Stream id of our `node-status` messages.
    pub(super) status_stream: StreamId,
}

impl LocalIdentity {
    /// Returns `true` if the node may dial an address: it lies within the address scope, and no
    /// address rule blocks it.
    pub(super) fn may_dial(&self, addr: &Multiaddr) -> bool {
        self.scope.permits(addr) && !self.address_rules.blocks(addr)
    }

    /// Returns the addresses of a node that does not listen yet.
    pub(super) fn addresses(&self) -> Addresses {
        Addresses::new(self.scope, self.reachability, self.external_addrs.clone())
    }

    /// Creates the identity from the configuration.
    pub(super) fn new(setup: CoreConfig, now: Now) -> Self {
        let status_stream = setup.origin().stream(b"status", 0, &[], Priority::Medium);
        let binding = setup.binding;
        LocalIdentity {
            address: binding.binding.account,
            address_text: binding.binding.account.to_string(),
            peer: setup.node_key.peer_id(),
            peer_text: setup.node_key.peer_id().to_string(),
            network: binding.binding.network.clone(),
            suite: setup.suite,
            binding_bytes: binding.encode(),
            node_key: setup.node_key,
            agent: setup.agent,
            binding,
            name: setup.name,
            role: setup.role,
            version: setup.version,
            port: setup.port,
            http: setup.http,
            grpc: setup.grpc,
            a2a: setup.a2a,
            rendezvous: setup.rendezvous,
            dns_seeds: setup.dns_seeds,
            stay_on_eof: setup.stay_on_eof,
            one_of_several: setup.one_of_several,
            receive_after_eof: setup.receive_after_eof,
            drain_timeout: setup.drain_timeout,
            scope: setup.scope,
            address_rules: setup.address_rules,
            reachability: setup.reachability,
            external_addrs: setup.external_addrs,
            serves_relay: setup.serves_relay,
            observes: setup.observes,
            forget_nodes_after: setup.forget_nodes_after,
            dht_mode: setup.dht_mode,
            started_ms: now.unix_ms,
            status_stream,
        }
    }
}
