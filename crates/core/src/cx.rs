//! The context: state that every component uses and no component owns.

use std::collections::VecDeque;

use alloy_primitives::Address;
use bytes::Bytes;
use libp2p_identity::PeerId;
use p2p_node_wire::envelope::{
    FrameBody, MailResponse, Payload, Response, Scope, WIRE_VERSION, direct_frame, sign_frame,
};
use p2p_node_wire::identity::NodePublicKey;
use prost::Message as _;

use crate::backoff::Jitter;
use crate::config::LocalIdentity;
use crate::effect::{Effect, NetworkCommand};
use crate::gate::reputation::Conduct;
use crate::gate::reputation::conduct::Report;
use crate::input::{Now, Token};
use crate::lifecycle::Phase;
use crate::local::frame_numbers::FrameNumbers;
use crate::replies::Replies;
use crate::signal::Signal;
use crate::stats::Stats;
use crate::tracer::Tracer;
use crate::usage::Usage;

/// The time, the identity, the sinks for effects, lines and counters, and the random source.
#[derive(Debug)]
pub(crate) struct Cx {
    /// The time of the current event.
    pub(crate) now: Now,
    /// The identity of this node.
    pub(crate) identity: LocalIdentity,
    /// `true` while the node serves the DHT.
    pub(crate) serves_dht: bool,
    /// Phase of the node's life.
    pub(crate) phase: Phase,
    /// Boot and counter of our frames.
    pub(crate) frame_numbers: FrameNumbers,
    /// Effects to execute, in this order.
    pub(crate) effects: VecDeque<Effect>,
    /// The clients: lines for them, and their unanswered commands.
    pub(crate) replies: Replies,
    /// Signals for the components above, in this order.
    pub(crate) signals: VecDeque<Signal>,
    /// Counters of events.
    pub(crate) stats: Stats,
    /// Random source of pauses.
    pub(crate) jitter: Jitter,
    /// The spans of messages.
    pub(crate) tracer: Tracer,
    /// The most recently issued token.
    last_token: Token,
}

impl Cx {
    pub(crate) fn new(identity: LocalIdentity, replies: Replies, boot: u64, seed: u64, now: Now) -> Self {
        Cx {
            now,
            serves_dht: identity.dht_mode.serves(false),
            identity,
            phase: Phase::Idle,
            frame_numbers: FrameNumbers::new(boot),
            effects: VecDeque::new(),
            replies,
            signals: VecDeque::new(),
            stats: Stats::default(),
            jitter: Jitter::new(seed),
            tracer: Tracer::new(None),
            last_token: 0,
        }
    }

    pub(crate) fn with_tracer(self, seed: Option<u64>) -> Self {
        Cx { tracer: Tracer::new(seed), ..self }
    }

    /// Raises a signal.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.signals.push_back(signal);
    }

    /// Reports what a node did, for its reputation.
    pub(crate) fn observe(&mut self, node: PeerId, conduct: Conduct) {
        self.signal(Signal::Conduct(Report { node, agent: None, conduct }));
    }

    /// Reports what an agent did by a node, for their reputations. Its signature proves the agent.
    pub(crate) fn observe_agent(&mut self, agent: Address, node: PeerId, conduct: Conduct) {
        self.signal(Signal::Conduct(Report { node, agent: Some(agent), conduct }));
    }

    /// Returns a token that the core has not used before.
    pub(crate) fn token(&mut self) -> Token {
        self.last_token += 1;
        self.last_token
    }

    /// Returns a signed frame for a topic, with the next counter.
    pub(crate) fn signed_frame(&mut self, scope: Scope, payload: Payload) -> Bytes {
        let body = self.frame_body(scope, payload);
        sign_frame(&body, &self.identity.node_key)
    }

    /// Returns a frame for the connection to its recipient, with the next counter. The connection
    /// proves the node key of this node.
    pub(crate) fn direct_frame(&mut self, recipient: &NodePublicKey, payload: Payload) -> Bytes {
        direct_frame(&self.frame_body(Scope::NodeKey(Bytes::copy_from_slice(recipient)), payload))
    }

    fn frame_body(&mut self, scope: Scope, payload: Payload) -> FrameBody {
        let now = self.now;
        let (boot, counter) = self.frame_numbers.next();
        FrameBody {
            version: WIRE_VERSION,
            network: self.identity.network.clone(),
            scope: Some(scope),
            binding: self.identity.binding_bytes.clone(),
            boot,
            counter,
            created_at_ms: now.unix_ms,
            payload: Some(payload),
        }
    }

    /// Sends the response to a frame of direct mail.
    pub(crate) fn answer_mail(&mut self, token: Token, response: Response) {
        let body = MailResponse { response: Some(response) }.encode_to_vec().into();
        self.network(NetworkCommand::AnswerMail { token, body });
    }

    /// Returns `true` while the node is on the network: it is ready, or finishes accepted work.
    pub(crate) fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Closing { .. })
    }

    /// Returns the size of each collection, with its limit. Every signal is routed before a call of
    /// the driver returns.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        let mut usage = self.replies.usage();
        usage.push(Usage { name: "signals", size: self.signals.len(), limit: 0 });
        usage
    }

    /// Returns `true` once the node writes its last lines. The parent would not read a message that
    /// the node acknowledged now.
    pub(crate) fn is_flushing(&self) -> bool {
        matches!(self.phase, Phase::Flushing { .. } | Phase::Exited)
    }
}
