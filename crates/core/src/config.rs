//! What a core is made of, and who it is.

use std::time::Duration;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_protocol::{Level, Priority, Role};

use crate::directory::rollback_guard::HighestSeen;
use crate::gate::access_list::{AccessRule, Subject};
use crate::gate::address_scope::AddressScope;
use crate::input::Now;
use crate::mail::inbound::receive_window::StreamCheckpoint;
use crate::mail::outbound::outbox::PersistedMessage;
use p2p_node_wire::identity::{AgentKey, NodeKey, SecretBytes, SignedBinding};
use p2p_node_wire::message_id::StreamNamespace;

/// Where the agent's key comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// From the environment, or the binding was signed elsewhere.
    #[default]
    Given,
    /// From this env file.
    EnvFile(String),
    /// None was given: from this file in the data directory, which the node made.
    DataDir(String),
    /// None was given, and nothing keeps it: it ends with the process, or with the supervisor that made it up.
    Ephemeral,
}

impl KeySource {
    /// What the parent has to know about it.
    pub(super) fn notice(&self) -> Option<(Level, String)> {
        match self {
            KeySource::Given => None,
            KeySource::EnvFile(path) => {
                Some((Level::Info, format!("the agent's key is PRIVATE_KEY in {path}")))
            }
            KeySource::DataDir(path) => {
                Some((Level::Info, format!("no PRIVATE_KEY was given: the agent's key is in {path}")))
            }
            KeySource::Ephemeral => Some((
                Level::Warn,
                "no PRIVATE_KEY was given: this agent's address is made up and ends with the process"
                    .to_owned(),
            )),
        }
    }
}

/// What a core is made of.
#[derive(Debug)]
pub struct CoreConfig {
    /// Signs frames, acks and records.
    pub node_key: NodeKey,
    /// Signs bindings anew before they expire; absent when the binding was signed elsewhere, and then nothing renews it.
    pub agent: Option<AgentKey>,
    /// Says that the node key speaks for the agent.
    pub binding: SignedBinding,
    /// Display name.
    pub name: String,
    /// What part the node plays.
    pub role: Role,
    /// Version of the binary.
    pub version: String,
    /// Port to listen on unless `connect` names one.
    pub port: u16,
    /// Nodes to join through, beside those of `connect`.
    pub bootstraps: Vec<(PeerId, Multiaddr)>,
    /// Whether to start without waiting for `connect`.
    pub connect: bool,
    /// Whether the end of stdin leaves the node running.
    pub stay_on_eof: bool,
    /// Whether the end of stdin waits for every `delivery`, and the exit code says whether all that was asked for was done.
    pub require_delivery: bool,
    /// How long the node goes on receiving after the end of stdin.
    pub receive_after_eof: Duration,
    /// How long a closing node may take to finish what it accepted.
    pub drain_timeout: Duration,
    /// Where the agent's key comes from.
    pub key_source: KeySource,
    /// What may be advertised.
    pub scope: AddressScope,
    /// Random, once for each process: tells its frames from those of earlier ones.
    pub boot: u64,
    /// Random, once for each process: names its streams of mail and broadcasts.
    pub database: [u8; 16],
    /// Random: from it come the KEM keys. Zeroised when dropped.
    pub kem_seed: SecretBytes,
    /// Random: seeds the jitter.
    pub seed: u64,
    /// Whether there is a store, so that mail is accepted when that has it.
    pub durable: bool,
    /// Whether mail counts as delivered when the parent says so, by `ack`.
    pub manual_ack: bool,
    /// Whether the agent is meant to have other nodes too, so that they are no conflict.
    pub one_of_several: bool,
    /// Accepted mail that earlier processes left in the store.
    pub outbox: Vec<PersistedMessage>,
    /// How far an earlier process had handed on mail, as it is in the store.
    pub inbox: Vec<StreamCheckpoint>,
    /// The highest orders known of agents, our own among them, as `Effect::PersistHighestSeen` left them in a store; oldest first.
    pub floors: Vec<HighestSeen>,
    /// Whom the parent blocked or allowed, as `Effect::PersistAccessRule` left it in a store.
    pub standings: Vec<(Subject, AccessRule)>,
}

impl CoreConfig {
    /// Whose streams of mail and broadcasts it numbers.
    pub(super) fn origin(&self) -> StreamNamespace {
        StreamNamespace { account: self.binding.binding.account, database: self.database }
    }
}

/// Who we are, in every form that is needed.
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
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) version: String,
    pub(super) port: u16,
    pub(super) stay_on_eof: bool,
    pub(super) one_of_several: bool,
    pub(super) receive_after_eof: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) scope: AddressScope,
    pub(super) started_ms: u64,
    /// The binding as it travels in every frame.
    pub(super) binding_bytes: Bytes,
    /// Names our `node-status` messages.
    pub(super) status_stream: [u8; 16],
}

impl LocalIdentity {
    /// Who a core of this setup is.
    pub(super) fn new(setup: CoreConfig, now: Now) -> Self {
        let status_stream = setup.origin().stream(b"status", 0, &[], Priority::Medium);
        let binding = setup.binding;
        LocalIdentity {
            address: binding.binding.account,
            address_text: binding.binding.account.to_string(),
            peer: setup.node_key.peer_id(),
            peer_text: setup.node_key.peer_id().to_string(),
            network: binding.binding.network.clone(),
            binding_bytes: binding.encode(),
            node_key: setup.node_key,
            agent: setup.agent,
            binding,
            name: setup.name,
            role: setup.role,
            version: setup.version,
            port: setup.port,
            stay_on_eof: setup.stay_on_eof,
            one_of_several: setup.one_of_several,
            receive_after_eof: setup.receive_after_eof,
            drain_timeout: setup.drain_timeout,
            scope: setup.scope,
            started_ms: now.unix_ms,
            status_stream,
        }
    }
}
