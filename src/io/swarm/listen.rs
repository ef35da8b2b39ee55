//! From "listen" to "listening": TCP first, then QUIC on the port that TCP got, then one report.

use std::mem;
use std::net::{Ipv4Addr, TcpListener};

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Swarm};

use super::behaviour::Behaviour;
use crate::core::input::Input;

/// The listeners of a node and what has been reported of them.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    stage: Stage,
    open: Vec<ListenerId>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Not asked to listen, or nothing could be opened.
    #[default]
    Closed,
    /// Sockets are open whose addresses are not known yet.
    Opening {
        awaited: Vec<ListenerId>,
        /// Where to listen on QUIC once TCP has its port.
        quic: Option<Ipv4Addr>,
    },
    /// Every socket has named an address. One that listens on several interfaces names them one by one, all at once.
    Settling,
    /// Reported.
    Open,
}

impl Listeners {
    /// Opens a TCP socket on the interface, for QUIC to follow.
    pub(super) fn open(&mut self, swarm: &mut Swarm<Behaviour>, ip: Ipv4Addr, port: u16) -> Vec<Input> {
        let tcp = Multiaddr::from(ip).with(Protocol::Tcp(port));
        self.open_all(swarm, vec![tcp], Some(ip))
    }

    /// Opens exactly these.
    pub(super) fn open_exactly(&mut self, swarm: &mut Swarm<Behaviour>, addrs: Vec<Multiaddr>) -> Vec<Input> {
        self.open_all(swarm, addrs, None)
    }

    fn open_all(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        addrs: Vec<Multiaddr>,
        quic: Option<Ipv4Addr>,
    ) -> Vec<Input> {
        if self.stage != Stage::Closed {
            return Vec::new();
        }
        let mut awaited = Vec::new();
        let mut failures = Vec::new();
        for addr in addrs {
            match listen_alone(swarm, &addr) {
                Ok(id) => awaited.push(id),
                Err(reason) => failures.push(format!("cannot listen on {addr}: {reason}")),
            }
        }
        if awaited.is_empty() {
            return vec![Input::ListenFailed { reason: failures.join("; ") }];
        }
        self.open.extend(&awaited);
        self.stage = Stage::Opening { awaited, quic };
        failures.into_iter().map(|reason| Input::Degraded { reason }).collect()
    }

    /// A socket has named an address.
    pub(super) fn named(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        id: ListenerId,
        addr: &Multiaddr,
    ) -> Option<Input> {
        let Stage::Opening { awaited, quic } = &mut self.stage else { return None };
        awaited.retain(|other| *other != id);
        if !awaited.is_empty() {
            return None;
        }
        let (ip, port) = match (quic.take(), tcp_port(addr)) {
            (Some(ip), Some(port)) => (ip, port),
            _ => {
                self.stage = Stage::Settling;
                return None;
            }
        };
        let addr = Multiaddr::from(ip).with(Protocol::Udp(port)).with(Protocol::QuicV1);
        match listen_alone(swarm, &addr) {
            Ok(id) => {
                awaited.push(id);
                self.open.push(id);
                None
            }
            Err(reason) => {
                self.stage = Stage::Settling;
                Some(Input::Degraded { reason: format!("cannot listen on {addr}: {reason}") })
            }
        }
    }

    /// A socket has been closed, for good.
    pub(super) fn closed(&mut self, id: ListenerId, reason: String) -> Option<Input> {
        self.open.retain(|other| *other != id);
        if self.open.is_empty() {
            return match mem::take(&mut self.stage) {
                Stage::Closed => None,
                Stage::Opening { .. } | Stage::Settling | Stage::Open => Some(Input::ListenFailed { reason }),
            };
        }
        if let Stage::Opening { awaited, .. } = &mut self.stage {
            awaited.retain(|other| *other != id);
            if awaited.is_empty() {
                self.stage = Stage::Settling;
            }
        }
        Some(Input::Degraded { reason })
    }

    /// Nothing more is to be heard from the sockets for now: time for the report, if it is due.
    pub(super) fn settled(&mut self, swarm: &Swarm<Behaviour>) -> Option<Input> {
        if self.stage != Stage::Settling {
            return None;
        }
        self.stage = Stage::Open;
        let mut addrs: Vec<_> = swarm.listeners().cloned().collect();
        // libp2p names them in no order.
        addrs.sort_by_cached_key(|addr| (tcp_port(addr).is_none(), addr.to_string()));
        Some(Input::Listening { addrs })
    }

    /// Closes all of them; nothing is reported of it.
    pub(super) fn close(&mut self, swarm: &mut Swarm<Behaviour>) {
        self.stage = Stage::Closed;
        for id in self.open.drain(..) {
            swarm.remove_listener(id);
        }
    }
}

/// Listens where nobody else does. libp2p opens its TCP sockets with `SO_REUSEPORT`, with which a second node of the same
/// user would share the port, and the connections, of the first without either noticing. A socket without it is refused.
fn listen_alone(swarm: &mut Swarm<Behaviour>, addr: &Multiaddr) -> Result<ListenerId, String> {
    let parts: Vec<_> = addr.iter().take(2).collect();
    let probe = match parts[..] {
        [Protocol::Ip4(ip), Protocol::Tcp(port)] if port != 0 => TcpListener::bind((ip, port)).map(drop),
        [Protocol::Ip6(ip), Protocol::Tcp(port)] if port != 0 => TcpListener::bind((ip, port)).map(drop),
        _ => Ok(()),
    };
    probe.map_err(|error| error.to_string())?;
    swarm.listen_on(addr.clone()).map_err(|error| error.to_string())
}

fn tcp_port(addr: &Multiaddr) -> Option<u16> {
    addr.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    })
}
