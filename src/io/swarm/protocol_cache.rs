//! A behaviour whose connections do not list their protocols anew each time that they are polled.
//!
//! libp2p asks the handler of a connection for the names of its protocols at the end of each poll, to see whether
//! they changed (`Connection::poll` of libp2p-swarm). The handler of many behaviours answers with a nested copy of
//! the settings of all of them, which takes longer than to forward a frame. Protocols change only by what a
//! behaviour or the connection tells the handler, so it is enough to list them then.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandler, ConnectionHandlerEvent, FullyNegotiatedInbound, InboundUpgradeSend,
    ListenUpgradeError, SubstreamProtocol, UpgradeInfoSend as _,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, Stream, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};

/// A behaviour whose handlers list their protocols only when these may have changed.
pub(super) struct ProtocolCache<B>(B);

impl<B> ProtocolCache<B> {
    pub(super) fn new(behaviour: B) -> Self {
        ProtocolCache(behaviour)
    }
}

impl<B> Deref for ProtocolCache<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.0
    }
}

impl<B> DerefMut for ProtocolCache<B> {
    fn deref_mut(&mut self) -> &mut B {
        &mut self.0
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for ProtocolCache<B> {
    type ConnectionHandler = Handler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.0.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.0.handle_established_inbound_connection(id, peer, local, remote).map(Handler::new)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.0.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.0.handle_established_outbound_connection(id, peer, address, role, port_use).map(Handler::new)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        self.0.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.0.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.0.poll(cx)
    }
}

/// The handler of one connection. The streams that the peer opens share the inner handler with it, to ask it how
/// to speak the protocol that was agreed on. Nothing ever waits for its lock: all of them are polled by the task of
/// the connection.
pub(super) struct Handler<H> {
    inner: Arc<Mutex<H>>,
    listed: Listed,
    /// The protocols may have changed since they were listed.
    is_stale: bool,
}

/// The protocols that a handler speaks on streams of the peer, and the time to agree on one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    names: Arc<[Arc<str>]>,
    timeout: Duration,
}

impl Listed {
    fn of<H: ConnectionHandler>(handler: &H) -> Self {
        let protocols = handler.listen_protocol();
        let names = protocols.upgrade().protocol_info().map(|info| Arc::from(info.as_ref())).collect();
        Listed { names, timeout: *protocols.timeout() }
    }
}

impl<H: ConnectionHandler> Handler<H> {
    fn new(inner: H) -> Self {
        let listed = Listed::of(&inner);
        Handler { inner: Arc::new(Mutex::new(inner)), listed, is_stale: false }
    }
}

/// Locks a handler. One that panicked ends its connection with its task, so nothing uses it after.
fn lock<H>(handler: &Mutex<H>) -> MutexGuard<'_, H> {
    handler.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<H: ConnectionHandler> ConnectionHandler for Handler<H> {
    type FromBehaviour = H::FromBehaviour;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = Upgrade<H>;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade<H>> {
        let upgrade = Upgrade { handler: Arc::clone(&self.inner), names: Arc::clone(&self.listed.names) };
        SubstreamProtocol::new(upgrade, ()).with_timeout(self.listed.timeout)
    }

    fn connection_keep_alive(&self) -> bool {
        lock(&self.inner).connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<H::OutboundProtocol, H::OutboundOpenInfo, H::ToBehaviour>> {
        let mut inner = lock(&self.inner);
        if std::mem::take(&mut self.is_stale) {
            self.listed = Listed::of(&*inner);
        }
        inner.poll(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<H::ToBehaviour>> {
        lock(&self.inner).poll_close(cx)
    }

    fn on_behaviour_event(&mut self, event: H::FromBehaviour) {
        self.is_stale = true;
        lock(&self.inner).on_behaviour_event(event);
    }

    fn on_connection_event(&mut self, event: EventOf<'_, Self>) {
        self.is_stale = true;
        if let Some(event) = to_inner(event) {
            lock(&self.inner).on_connection_event(event);
        }
    }
}

/// An event of a connection as a handler gets it.
type EventOf<'a, H> = ConnectionEvent<
    'a,
    <H as ConnectionHandler>::InboundProtocol,
    <H as ConnectionHandler>::OutboundProtocol,
    <H as ConnectionHandler>::InboundOpenInfo,
    <H as ConnectionHandler>::OutboundOpenInfo,
>;

/// Returns the event for the inner handler. `None` stands for a stream whose protocol it does not speak any more.
fn to_inner<H: ConnectionHandler>(event: EventOf<'_, Handler<H>>) -> Option<EventOf<'_, H>> {
    Some(match event {
        ConnectionEvent::FullyNegotiatedInbound(stream) => {
            let (protocol, info) = stream.protocol;
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info })
        }
        ConnectionEvent::ListenUpgradeError(failed) => match failed.error {
            UpgradeError::Unsupported => return None,
            UpgradeError::Inner(error, info) => {
                ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error })
            }
        },
        ConnectionEvent::FullyNegotiatedOutbound(stream) => ConnectionEvent::FullyNegotiatedOutbound(stream),
        ConnectionEvent::DialUpgradeError(failed) => ConnectionEvent::DialUpgradeError(failed),
        ConnectionEvent::AddressChange(change) => ConnectionEvent::AddressChange(change),
        ConnectionEvent::LocalProtocolsChange(change) => ConnectionEvent::LocalProtocolsChange(change),
        ConnectionEvent::RemoteProtocolsChange(change) => ConnectionEvent::RemoteProtocolsChange(change),
        // An event that a later version of libp2p adds. A connection goes on without it.
        _ => {
            tracing::debug!("the handler of a connection does not know an event of libp2p");
            return None;
        }
    })
}

/// Agrees with the peer on the protocol of a stream that it opens.
pub(super) struct Upgrade<H> {
    handler: Arc<Mutex<H>>,
    names: Arc<[Arc<str>]>,
}

/// Why a stream of the peer does not speak the protocol that was agreed on.
pub(super) enum UpgradeError<E, I> {
    /// The handler changed its protocols meanwhile.
    Unsupported,
    /// The protocol itself failed.
    Inner(E, I),
}

impl<H: ConnectionHandler> UpgradeInfo for Upgrade<H> {
    type Info = Arc<str>;
    type InfoIter = Names;

    fn protocol_info(&self) -> Names {
        Names { names: Arc::clone(&self.names), next: 0 }
    }
}

impl<H: ConnectionHandler> InboundUpgrade<Stream> for Upgrade<H> {
    type Output = (<H::InboundProtocol as InboundUpgradeSend>::Output, H::InboundOpenInfo);
    type Error = UpgradeError<<H::InboundProtocol as InboundUpgradeSend>::Error, H::InboundOpenInfo>;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Stream, name: Arc<str>) -> Self::Future {
        let (upgrade, open_info) = lock(&self.handler).listen_protocol().into_upgrade();
        let Some(info) = upgrade.protocol_info().find(|info| info.as_ref() == &*name) else {
            return ready(Err(UpgradeError::Unsupported)).boxed();
        };
        let upgraded = upgrade.upgrade_inbound(stream, info);
        async move {
            match upgraded.await {
                Ok(output) => Ok((output, open_info)),
                Err(error) => Err(UpgradeError::Inner(error, open_info)),
            }
        }
        .boxed()
    }
}

/// The names of the protocols of a handler, one after the other.
pub(super) struct Names {
    names: Arc<[Arc<str>]>,
    next: usize,
}

impl Iterator for Names {
    type Item = Arc<str>;

    fn next(&mut self) -> Option<Arc<str>> {
        let name = self.names.get(self.next).cloned();
        self.next += 1;
        name
    }
}

#[cfg(test)]
mod tests;
