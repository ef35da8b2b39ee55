//! From "listen" to "listening": TCP first, then everything else on the port that TCP got, then one report, and another when an address comes later.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Swarm};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use super::behaviour::Behaviour;
use p2p_node_core::input::Input;

/// The listeners of a node and what has been reported of them.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    stage: Stage,
    open: Vec<Socket>,
    /// What waits for the port of the first socket.
    rest: Vec<Wanted>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Not asked to listen, or nothing could be opened.
    #[default]
    Closed,
    /// Sockets are open whose addresses are not known yet.
    Opening,
    /// There is something to report. A socket that listens on several interfaces names them one by one, all at once.
    AckPolicy,
    /// Reported.
    Open,
}

#[derive(Debug)]
struct Socket {
    id: ListenerId,
    addr: Multiaddr,
    /// Whether it has named an address.
    named: bool,
}

/// A socket to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Tcp(IpAddr),
    Quic(IpAddr),
}

impl Wanted {
    fn addr(self, port: u16) -> Multiaddr {
        match self {
            Wanted::Tcp(ip) => Multiaddr::from(ip).with(Protocol::Tcp(port)),
            Wanted::Quic(ip) => Multiaddr::from(ip).with(Protocol::Udp(port)).with(Protocol::QuicV1),
        }
    }

    fn ip(self) -> IpAddr {
        let (Wanted::Tcp(ip) | Wanted::Quic(ip)) = self;
        ip
    }
}

/// Whether a node can listen on such an address.
pub fn can_listen_on(addr: &Multiaddr) -> bool {
    parts(addr).is_some()
}

/// The socket of an address that a node can listen on, and whether it is one of TCP.
fn parts(addr: &Multiaddr) -> Option<(SocketAddr, bool)> {
    let mut parts = addr.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match (parts.next()?, parts.next(), parts.next()) {
        (Protocol::Tcp(port), None, None) => Some((SocketAddr::new(ip, port), true)),
        (Protocol::Udp(port), Some(Protocol::QuicV1), None) => Some((SocketAddr::new(ip, port), false)),
        _ => None,
    }
}

impl Listeners {
    /// Opens TCP and QUIC on these interfaces, all with one port. On one of them at least that has to succeed.
    pub(super) fn open(&mut self, swarm: &mut Swarm<Behaviour>, ips: &[IpAddr], port: u16) -> Vec<Input> {
        if self.stage != Stage::Closed {
            return Vec::new();
        }
        let mut failures = Vec::new();
        for (index, ip) in ips.iter().enumerate() {
            match self.listen(swarm, Wanted::Tcp(*ip).addr(port)) {
                Ok(()) => {
                    self.stage = Stage::Opening;
                    self.rest = vec![Wanted::Quic(*ip)];
                    let others = ips.iter().skip(index + 1);
                    self.rest.extend(others.flat_map(|ip| [Wanted::Tcp(*ip), Wanted::Quic(*ip)]));
                    break;
                }
                Err((reason, may_go_on)) => {
                    failures.push(reason);
                    if !may_go_on {
                        break;
                    }
                }
            }
        }
        if self.open.is_empty() {
            return vec![Input::ListenFailed { reason: failures.join("; ") }];
        }
        let mut reports: Vec<_> = failures.into_iter().map(|reason| Input::Degraded { reason }).collect();
        if port != 0 {
            reports.extend(self.open_rest(swarm, port));
        }
        reports
    }

    /// Opens exactly these.
    pub(super) fn open_exactly(&mut self, swarm: &mut Swarm<Behaviour>, addrs: Vec<Multiaddr>) -> Vec<Input> {
        if self.stage != Stage::Closed {
            return Vec::new();
        }
        let attempts = addrs.into_iter().map(|addr| self.listen(swarm, addr));
        let failures: Vec<_> = attempts.filter_map(Result::err).map(|(reason, _)| reason).collect();
        if self.open.is_empty() {
            return vec![Input::ListenFailed { reason: failures.join("; ") }];
        }
        self.stage = Stage::Opening;
        failures.into_iter().map(|reason| Input::Degraded { reason }).collect()
    }

    /// Opens a socket; else why not, and whether other interfaces are worth trying.
    fn listen(&mut self, swarm: &mut Swarm<Behaviour>, addr: Multiaddr) -> Result<(), (String, bool)> {
        match listen_alone(swarm, &addr) {
            Ok(id) => {
                self.open.push(Socket { id, addr, named: false });
                Ok(())
            }
            Err(error) => {
                Err((format!("cannot listen on {addr}: {error}"), error.kind() != io::ErrorKind::AddrInUse))
            }
        }
    }

    /// Opens what waited for the port.
    fn open_rest(&mut self, swarm: &mut Swarm<Behaviour>, port: u16) -> Vec<Input> {
        let mut rest = std::mem::take(&mut self.rest);
        let mut failures = Vec::new();
        // Where no interface has an address of IPv6, a socket of it opens and never names one.
        if let Err(error) = probe(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), true) {
            let before = rest.len();
            rest.retain(|wanted| wanted.ip().is_ipv4());
            if rest.len() < before {
                failures.push(format!("no IPv6 here ({error}): the node listens on IPv4 only"));
            }
        }
        for wanted in rest {
            failures.extend(self.listen(swarm, wanted.addr(port)).err().map(|(reason, _)| reason));
        }
        failures.into_iter().map(|reason| Input::Degraded { reason }).collect()
    }

    /// A socket has named an address.
    pub(super) fn named(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        id: ListenerId,
        addr: &Multiaddr,
    ) -> Vec<Input> {
        let Some(socket) = self.open.iter_mut().find(|socket| socket.id == id) else { return Vec::new() };
        socket.named = true;
        let reports = match tcp_port(addr) {
            Some(port) if !self.rest.is_empty() => self.open_rest(swarm, port),
            _ => Vec::new(),
        };
        self.settle();
        reports
    }

    /// Moves on when every socket has named an address, or when one names another after the report.
    fn settle(&mut self) {
        let all_named = self.open.iter().all(|socket| socket.named);
        if self.stage == Stage::Open || self.stage == Stage::Opening && all_named {
            self.stage = Stage::AckPolicy;
        }
    }

    /// A socket has been closed, for good.
    pub(super) fn closed(&mut self, id: ListenerId, reason: String) -> Option<Input> {
        let index = self.open.iter().position(|socket| socket.id == id)?;
        let Socket { addr, .. } = self.open.remove(index);
        let reason = format!("{addr}: {reason}");
        if self.open.is_empty() {
            self.stage = Stage::Closed;
            return Some(Input::ListenFailed { reason });
        }
        self.settle();
        Some(Input::Degraded { reason })
    }

    /// Ends the wait for addresses: reports what there is, and which sockets have named none.
    pub(super) fn report(&mut self) -> Vec<Input> {
        if self.stage != Stage::Opening {
            return Vec::new();
        }
        self.stage = Stage::AckPolicy;
        let nameless = self.open.iter().filter(|socket| !socket.named);
        let reason =
            |socket: &Socket| format!("{} has no address yet: no network interface serves it", socket.addr);
        nameless.map(|socket| Input::Degraded { reason: reason(socket) }).collect()
    }

    /// Nothing more is to be heard from the sockets for now: time for the report, if it is due.
    pub(super) fn settled(&mut self, swarm: &Swarm<Behaviour>) -> Option<Input> {
        if self.stage != Stage::AckPolicy {
            return None;
        }
        self.stage = Stage::Open;
        let mut addrs: Vec<_> = swarm.listeners().filter(|addr| !needs_zone(addr)).cloned().collect();
        // libp2p names them in no order.
        addrs.sort_by_cached_key(|addr| (tcp_port(addr).is_none(), addr.to_string()));
        Some(Input::Listening { addrs })
    }

    /// Closes all of them; nothing is reported of it.
    pub(super) fn close(&mut self, swarm: &mut Swarm<Behaviour>) {
        self.stage = Stage::Closed;
        self.rest.clear();
        for Socket { id, .. } in self.open.drain(..) {
            swarm.remove_listener(id);
        }
    }
}

/// Listens where nobody else does. libp2p opens its TCP sockets with `SO_REUSEPORT`, with which a second node of the same
/// user would share the port, and the connections, of the first without either noticing. A socket without it is refused.
fn listen_alone(swarm: &mut Swarm<Behaviour>, addr: &Multiaddr) -> io::Result<ListenerId> {
    if let Some((socket, is_tcp)) = parts(addr) {
        probe(socket, is_tcp)?;
    }
    swarm.listen_on(addr.clone()).map_err(|error| io::Error::other(whole_reason(&error)))
}

/// Opens a socket as libp2p would, but for sharing, and closes it again.
fn probe(addr: SocketAddr, is_tcp: bool) -> io::Result<()> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if is_tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if addr.is_ipv6() {
        // IPv4 has sockets of its own.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if is_tcp {
        // A predecessor's connections that have yet to be forgotten are no obstacle.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &addr)?;
    if is_tcp {
        listen(&socket, 1)?;
    }
    Ok(())
}

/// An error with its causes: libp2p's own often say nothing.
pub(super) fn whole_reason(error: &dyn Error) -> String {
    let mut reasons: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !text.is_empty() && reasons.iter().all(|reason| !reason.contains(&text)) {
            reasons.push(text);
        }
        next = error.source();
    }
    reasons.join(": ")
}

/// Whether an address says nothing without the name of an interface, which it does not have here: nobody could dial it.
fn needs_zone(addr: &Multiaddr) -> bool {
    matches!(addr.iter().next(), Some(Protocol::Ip6(ip)) if ip.is_unicast_link_local())
}

fn tcp_port(addr: &Multiaddr) -> Option<u16> {
    addr.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_mean_nothing_without_an_interface_are_not_told() {
        let needs = |addr: &str| needs_zone(&addr.parse().unwrap());
        assert!(needs("/ip6/fe80::1/tcp/1"));
        assert!(!needs("/ip6/fd00::1/tcp/1") && !needs("/ip4/169.254.0.1/tcp/1"));
    }
}
