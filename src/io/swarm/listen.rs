//! Opens the listeners: TCP first, then the other sockets on the port of TCP. Reports all addresses
//! once, and again whenever a later address appears.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use libp2p::Multiaddr;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use super::NodeSwarm;
use p2p_node_core::input::Input;
use p2p_node_core::local::addresses::is_relayed;

/// Listeners of a node and the state of their report.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    state: ListenState,
    open: Vec<Socket>,
    /// Sockets that wait for the port of the first socket.
    rest: Vec<ToOpen>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ListenState {
    /// The node does not listen, or no socket could be opened.
    #[default]
    Closed,
    /// Some open sockets have not reported an address yet.
    Opening,
    /// A report is due. It waits until libp2p has no more events, because a socket on several
    /// interfaces reports each address in an event of its own.
    ReportDue,
    /// The addresses were reported.
    Open,
}

#[derive(Debug)]
struct Socket {
    id: ListenerId,
    addr: Multiaddr,
    /// `true` if the socket has reported an address.
    has_address: bool,
}

/// Socket to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToOpen {
    Tcp(IpAddr),
    Quic(IpAddr),
}

impl ToOpen {
    fn addr(self, port: u16) -> Multiaddr {
        match self {
            ToOpen::Tcp(ip) => Multiaddr::from(ip).with(Protocol::Tcp(port)),
            ToOpen::Quic(ip) => Multiaddr::from(ip).with(Protocol::Udp(port)).with(Protocol::QuicV1),
        }
    }

    fn ip(self) -> IpAddr {
        let (ToOpen::Tcp(ip) | ToOpen::Quic(ip)) = self;
        ip
    }
}

/// Returns `true` if the node supports listening on this kind of address.
pub fn can_listen_on(addr: &Multiaddr) -> bool {
    parts(addr).is_some()
}

/// Returns the socket address, and `true` for TCP; `None` if the node does not support the address.
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
    /// Opens TCP and QUIC on these interfaces, all on one port. At least one interface must
    /// succeed.
    pub(super) fn open(&mut self, swarm: &mut NodeSwarm, ips: &[IpAddr], port: u16) -> Vec<Input> {
        if self.state != ListenState::Closed {
            return Vec::new();
        }
        let mut failures = Vec::new();
        for (index, ip) in ips.iter().enumerate() {
            match self.listen(swarm, ToOpen::Tcp(*ip).addr(port)) {
                Ok(()) => {
                    self.state = ListenState::Opening;
                    self.rest = vec![ToOpen::Quic(*ip)];
                    let others = ips.iter().skip(index + 1);
                    self.rest.extend(others.flat_map(|ip| [ToOpen::Tcp(*ip), ToOpen::Quic(*ip)]));
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

    /// Opens exactly these addresses.
    pub(super) fn open_exactly(&mut self, swarm: &mut NodeSwarm, addrs: Vec<Multiaddr>) -> Vec<Input> {
        if self.state != ListenState::Closed {
            return Vec::new();
        }
        let attempts = addrs.into_iter().map(|addr| self.listen(swarm, addr));
        let failures: Vec<_> = attempts.filter_map(Result::err).map(|(reason, _)| reason).collect();
        if self.open.is_empty() {
            return vec![Input::ListenFailed { reason: failures.join("; ") }];
        }
        self.state = ListenState::Opening;
        failures.into_iter().map(|reason| Input::Degraded { reason }).collect()
    }

    /// Opens a socket. The error contains the reason, and `true` if other interfaces may succeed.
    fn listen(&mut self, swarm: &mut NodeSwarm, addr: Multiaddr) -> Result<(), (String, bool)> {
        match listen_exclusive(swarm, &addr) {
            Ok(id) => {
                self.open.push(Socket { id, addr, has_address: false });
                Ok(())
            }
            Err(error) => {
                Err((format!("cannot listen on {addr}: {error}"), error.kind() != io::ErrorKind::AddrInUse))
            }
        }
    }

    /// Opens the sockets that waited for the port.
    fn open_rest(&mut self, swarm: &mut NodeSwarm, port: u16) -> Vec<Input> {
        let mut rest = std::mem::take(&mut self.rest);
        let mut failures = Vec::new();
        // Without an IPv6 address on any interface, an IPv6 socket opens but never reports an
        // address.
        if let Err(error) = probe(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), true) {
            let before = rest.len();
            rest.retain(|socket| socket.ip().is_ipv4());
            if rest.len() < before {
                failures.push(format!("no IPv6 on this machine ({error}): the node listens on IPv4 only"));
            }
        }
        for socket in rest {
            failures.extend(self.listen(swarm, socket.addr(port)).err().map(|(reason, _)| reason));
        }
        failures.into_iter().map(|reason| Input::Degraded { reason }).collect()
    }

    /// Handles an address that a socket has reported.
    pub(super) fn on_address(
        &mut self,
        swarm: &mut NodeSwarm,
        id: ListenerId,
        addr: &Multiaddr,
    ) -> Vec<Input> {
        let Some(socket) = self.open.iter_mut().find(|socket| socket.id == id) else { return Vec::new() };
        socket.has_address = true;
        let reports = match tcp_port(addr) {
            Some(port) if !self.rest.is_empty() => self.open_rest(swarm, port),
            _ => Vec::new(),
        };
        self.schedule_report();
        reports
    }

    /// Handles an address that a socket no longer has. Returns `false` for other listeners.
    pub(super) fn on_address_expired(&mut self, id: ListenerId) -> bool {
        let is_ours = self.open.iter().any(|socket| socket.id == id);
        if is_ours {
            self.schedule_report();
        }
        is_ours
    }

    /// Schedules a report when every socket has an address, or when an address appears or goes after
    /// the report.
    fn schedule_report(&mut self) {
        let all_have_addresses = self.open.iter().all(|socket| socket.has_address);
        if self.state == ListenState::Open || self.state == ListenState::Opening && all_have_addresses {
            self.state = ListenState::ReportDue;
        }
    }

    /// Handles the permanent closing of a socket.
    pub(super) fn on_closed(&mut self, id: ListenerId, reason: String) -> Option<Input> {
        let index = self.open.iter().position(|socket| socket.id == id)?;
        let Socket { addr, .. } = self.open.remove(index);
        let reason = format!("{addr}: {reason}");
        if self.open.is_empty() {
            self.state = ListenState::Closed;
            return Some(Input::ListenFailed { reason });
        }
        self.schedule_report();
        Some(Input::Degraded { reason })
    }

    /// Ends the wait for addresses. Reports the known addresses, and the sockets without an
    /// address.
    pub(super) fn report(&mut self) -> Vec<Input> {
        if self.state != ListenState::Opening {
            return Vec::new();
        }
        self.state = ListenState::ReportDue;
        let nameless = self.open.iter().filter(|socket| !socket.has_address);
        let reason =
            |socket: &Socket| format!("{} has no address yet: no network interface serves it", socket.addr);
        nameless.map(|socket| Input::Degraded { reason: reason(socket) }).collect()
    }

    /// Returns the report if it is due. Call it when libp2p has no more events.
    pub(super) fn poll_ready(&mut self, swarm: &NodeSwarm) -> Option<Input> {
        if self.state != ListenState::ReportDue {
            return None;
        }
        self.state = ListenState::Open;
        let is_own = |addr: &&Multiaddr| !needs_zone(addr) && !is_relayed(addr);
        let mut addrs: Vec<_> = swarm.listeners().filter(is_own).cloned().collect();
        // libp2p reports the addresses in no particular order.
        addrs.sort_by_cached_key(|addr| (tcp_port(addr).is_none(), addr.to_string()));
        Some(Input::Listening { addrs })
    }

    /// Closes all listeners without a report.
    pub(super) fn close(&mut self, swarm: &mut NodeSwarm) {
        self.state = ListenState::Closed;
        self.rest.clear();
        for Socket { id, .. } in self.open.drain(..) {
            swarm.remove_listener(id);
        }
    }
}

/// Listens on an address that no other process uses. libp2p opens TCP sockets with `SO_REUSEPORT`,
/// so a second node of the same user would silently share the port and get some of its connections.
/// A probe socket without this option detects the conflict.
fn listen_exclusive(swarm: &mut NodeSwarm, addr: &Multiaddr) -> io::Result<ListenerId> {
    if let Some((socket, is_tcp)) = parts(addr) {
        probe(socket, is_tcp)?;
    }
    swarm.listen_on(addr.clone()).map_err(|error| io::Error::other(whole_reason(&error)))
}

/// Opens a socket like libp2p, but without `SO_REUSEPORT`, and closes it again.
fn probe(addr: SocketAddr, is_tcp: bool) -> io::Result<()> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if is_tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if addr.is_ipv6() {
        // IPv4 has separate sockets.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if is_tcp {
        // Connections of a previous process in TIME_WAIT must not block the port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &addr)?;
    if is_tcp {
        listen(&socket, 1)?;
    }
    Ok(())
}

/// Returns an error with all its causes, because the outer errors of libp2p often say little.
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

/// Returns `true` for a link-local address, which a peer cannot dial without the name of an
/// interface.
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
    fn only_ip6_link_local_addresses_need_a_zone() {
        let needs = |addr: &str| needs_zone(&addr.parse().unwrap());
        assert!(needs("/ip6/fe80::1/tcp/1"));
        assert!(!needs("/ip6/fd00::1/tcp/1") && !needs("/ip4/169.254.0.1/tcp/1"));
    }
}
