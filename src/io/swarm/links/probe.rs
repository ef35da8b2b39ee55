//! The handler of probes: a probe is a stream that the other end closes at once.

use std::convert::Infallible;
use std::io;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{AsyncReadExt, FutureExt};
use libp2p::StreamProtocol;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamUpgradeError, SubstreamProtocol,
};

/// Protocol name of probes. A peer that does not know the protocol answers as well: it refuses.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/p2p-node/probe/1");

/// Command: send a probe.
#[derive(Debug)]
pub(in super::super) struct SendProbe;

/// Event: the peer answered a probe.
#[derive(Debug)]
pub(in super::super) struct Answered;

/// Sends and answers the probes of one connection. It has at most one of its own.
#[derive(Default)]
pub(in super::super) struct Handler {
    wants_stream: bool,
    answer: Option<BoxFuture<'static, io::Result<usize>>>,
    has_answered: bool,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = SendProbe;
    type ToBehaviour = Answered;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Answered>> {
        if std::mem::take(&mut self.wants_stream) {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        if self.answer.as_mut().is_some_and(|answer| answer.poll_unpin(cx).is_ready()) {
            // An error is an answer as well: only silence shows a dead connection.
            self.answer = None;
            self.has_answered = true;
        }
        if std::mem::take(&mut self.has_answered) {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Answered));
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, SendProbe: SendProbe) {
        self.wants_stream = true;
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, (), ()>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                drop::<Stream>(stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: mut stream,
                ..
            }) => {
                stream.ignore_for_keep_alive();
                self.answer = Some(async move { stream.read(&mut [0]).await }.boxed());
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.has_answered |= is_answer(&error);
            }
            _ => {}
        }
    }
}

/// Returns `true` if the peer refused the stream, and `false` if it was silent.
fn is_answer(error: &StreamUpgradeError<Infallible>) -> bool {
    matches!(error, StreamUpgradeError::NegotiationFailed)
}
