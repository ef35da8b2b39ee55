//! The handler of the mail streams of one connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, Stream, SubstreamProtocol};
use libp2p::{PeerId, StreamProtocol};
use tokio::time::{Instant, Sleep, sleep_until};

use super::inbound_stream::{Destination, InboundStream};
use super::link::{Command, Inbox, Link, MailEvent};
use super::memory_budget::MemoryBudget;
use super::request_lane::RequestLane;
use super::{LARGE_FRAME, MAIL_TIMEOUT, MAX_INBOUND_STREAMS, MAX_UNANSWERED};

/// Small frames, which never wait behind large ones.
const SMALL: usize = 0;
/// Large frames.
const LARGE: usize = 1;

/// Mail of one connection: a lane of requests for small frames and one for large frames, and the
/// streams of the peer.
#[derive(Debug)]
pub(in super::super) struct Handler {
    protocol: StreamProtocol,
    to: Destination,
    budget: Arc<MemoryBudget>,
    lanes: [RequestLane<Stream>; 2],
    inbound: Vec<InboundStream<Stream>>,
    next_stream: u32,
    /// Wakes the handler no later than the next deadline. A timer that fires early is set anew, so
    /// that most requests set no timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Handler {
    pub(super) fn new(
        protocol: StreamProtocol,
        peer: PeerId,
        link: Arc<Link>,
        inbox: Arc<Inbox>,
        budget: MemoryBudget,
    ) -> Self {
        Handler {
            protocol,
            to: Destination { peer, link, inbox },
            budget: Arc::new(budget),
            lanes: [RequestLane::new(), RequestLane::new()],
            inbound: Vec::new(),
            next_stream: 0,
            timer: None,
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Request { token, frame } => {
                let lane = if frame.len() > LARGE_FRAME { LARGE } else { SMALL };
                self.lanes[lane].push(token, frame, Instant::now() + MAIL_TIMEOUT);
            }
            Command::Response { stream, id, body } => {
                match self.inbound.iter_mut().find(|inbound| inbound.number() == stream) {
                    Some(inbound) => inbound.respond(id, body),
                    None => self.to.inbox.responses_done(1),
                }
            }
        }
    }

    fn report_outcomes(&mut self) {
        for lane in &mut self.lanes {
            while let Some((token, outcome)) = lane.pop_outcome() {
                self.to.inbox.push(MailEvent::Response { token, outcome });
            }
        }
    }

    /// Sends responses, and then reads as many requests as the connection may have without a response.
    fn poll_inbound(&mut self, cx: &mut Context<'_>) {
        self.inbound.retain_mut(|inbound| inbound.write(cx));
        let pending: usize = self.inbound.iter().map(InboundStream::pending).sum();
        let (to, mut room) = (&self.to, MAX_UNANSWERED.saturating_sub(pending));
        self.inbound.retain_mut(|inbound| inbound.read(to, &mut room, cx));
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        loop {
            let lanes = self.lanes.iter().filter_map(RequestLane::deadline);
            let next = lanes.chain(self.inbound.iter().filter_map(InboundStream::deadline)).min();
            let Some(next) = next else { return };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
            if timer.deadline() > next {
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            let now = timer.deadline();
            self.timer = None;
            self.lanes.iter_mut().for_each(|lane| lane.expire(now));
            self.inbound.retain_mut(|inbound| inbound.expire(now));
            // A lane may want another stream now, and a stream may be read again.
            cx.waker().wake_by_ref();
        }
    }

    fn end(&mut self) {
        for command in self.to.link.close() {
            self.execute(command);
        }
        self.lanes.iter_mut().for_each(|lane| lane.fail("the connection ended"));
        self.report_outcomes();
        self.inbound.clear();
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    /// Index of the lane.
    type OutboundOpenInfo = usize;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ())
    }

    fn connection_keep_alive(&self) -> bool {
        !self.lanes.iter().all(RequestLane::is_idle) || !self.inbound.iter().all(InboundStream::is_idle)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, usize, Infallible>> {
        for command in self.to.link.take(cx) {
            self.execute(command);
        }
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            lane.poll(cx);
            if lane.wants_stream() {
                let upgrade = ReadyUpgrade::new(self.protocol.clone());
                let protocol = SubstreamProtocol::new(upgrade, index).with_timeout(MAIL_TIMEOUT);
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
        }
        self.poll_inbound(cx);
        self.poll_timer(cx);
        self.report_outcomes();
        self.to.link.set_busy(self.connection_keep_alive());
        Poll::Pending
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Option<Infallible>> {
        self.end();
        Poll::Ready(None)
    }

    fn on_behaviour_event(&mut self, never: Infallible) {
        match never {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, (), usize>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: mut stream, ..
            }) => {
                stream.ignore_for_keep_alive();
                if self.inbound.len() == MAX_INBOUND_STREAMS {
                    self.inbound.remove(0);
                }
                let (budget, inbox) = (Arc::clone(&self.budget), Arc::clone(&self.to.inbox));
                self.inbound.push(InboundStream::new(self.next_stream, stream, budget, inbox));
                self.next_stream = self.next_stream.wrapping_add(1);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: mut stream,
                info: lane,
            }) => {
                stream.ignore_for_keep_alive();
                self.lanes[lane].opened(stream);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: lane, error }) => {
                self.lanes[lane].fail(&error.to_string());
            }
            // The other events concern protocols whose upgrade cannot fail, or need no action.
            _ => {}
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.end();
    }
}
