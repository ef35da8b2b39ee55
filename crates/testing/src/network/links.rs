//! Connections between nodes, and requests over them.

use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use p2p_node_core::input::{Input, Token};
use p2p_node_wire::time::Instant;

use super::gossip::GossipMessage;
use super::{Delivery, World};

/// Timeout of requests (`MAIL_TIMEOUT`) and of dials.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Two nodes, the lower number first.
pub type Pair = (usize, usize);

/// Sorts two nodes.
#[must_use]
pub fn pair(one: usize, other: usize) -> Pair {
    (one.min(other), one.max(other))
}

/// An open connection.
#[derive(Debug)]
pub struct Link {
    /// Number that distinguishes this connection from earlier ones of the two nodes.
    epoch: u64,
    /// Time of the last event in each direction. Events of a connection and subscriptions arrive in
    /// order.
    last_event: [Instant; 2],
    /// When each end learns of the connection. Nothing that passes on it arrives before.
    opened: [Instant; 2],
}

impl Link {
    /// Returns the number that distinguishes this connection from earlier ones of the two nodes.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// The kinds of requests, with the token of the requester.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    Admission(Token),
    Find(Token),
    Mail(Token),
}

impl RequestKind {
    fn is_mail(self) -> bool {
        matches!(self, RequestKind::Mail(_))
    }

    /// Returns the input of the requester for an outcome.
    fn outcome(self, peer: PeerId, outcome: Result<Bytes, String>) -> Input {
        match self {
            RequestKind::Admission(token) => Input::AdmissionResponseReceived { token, peer, outcome },
            RequestKind::Find(token) => Input::FindResponseReceived { token, outcome },
            RequestKind::Mail(token) => Input::MailResponseReceived { token, outcome },
        }
    }
}

/// A request that may be answered.
#[derive(Debug)]
pub struct Request {
    from: usize,
    life: u32,
    kind: RequestKind,
    over: (Pair, u64),
    to: usize,
    has_arrived: bool,
    answered: bool,
    /// `true` if the requester has got the result.
    is_closed: bool,
    /// `true` if the requester will receive the response.
    expects_response: bool,
}

/// Passes an input to a node after a delay.
pub fn later<W: World>(world: &mut W, node: usize, delay: Duration, input: Input) {
    let (at, life) = (world.now() + delay, world.life(node));
    world.schedule(at, Delivery::Input { node, life, over: None, input });
}

/// Executes a delivery that is due.
pub fn deliver<W: World>(world: &mut W, delivery: Delivery) {
    match delivery {
        Delivery::Input { node, life, over, input } => arrive(world, node, life, over, input),
        Delivery::Dialled { from, life, peer, to } => dialled(world, from, life, peer, to),
        Delivery::Overdue(asked) => {
            check_answered(world, asked);
            fail(world, asked, "no answer came in time");
            world.network_mut().requests.remove(&asked);
        }
        Delivery::Answered { asked, body } => answered(world, asked, body),
    }
}

/// A node that got a step of admission answers it, or the connection ends.
fn check_answered<W: World>(world: &mut W, asked: Token) {
    let Some(request) = world.network().requests.get(&asked) else { return };
    let Request { to, over: (pair, epoch), kind, .. } = *request;
    let is_due = matches!(kind, RequestKind::Admission(_)) && request.has_arrived && !request.answered;
    if is_due && world.network().is_open(pair, epoch) && !is_silent(world, pair) && world.is_up(to) {
        world.violated("every step of admission has an answer", to, format!("token {asked}"));
    }
}

fn arrive<W: World>(world: &mut W, node: usize, life: u32, over: Option<(Pair, u64)>, input: Input) {
    if world.life(node) != life || !world.is_up(node) {
        return;
    }
    let same = over.is_none_or(|(pair, epoch)| world.network().is_open(pair, epoch) && !world.is_cut(pair));
    if let Input::Gossip { token, .. } = &input {
        // From now on the same message is a duplicate, also if a test sends it.
        super::gossip::mark_seen(world, node, &input);
        let endpoint = &mut world.network_mut().endpoints[node];
        let message = endpoint.arriving.remove(token).or_else(|| GossipMessage::of(&input));
        if let Some(message) = message.filter(|_| same) {
            endpoint.unvalidated.insert(*token, message);
        }
    }
    if !same || world.is_lost_on_arrival(node, &input) {
        return;
    }
    if let Input::AdmissionRequestReceived { token, .. } = &input
        && let Some(request) = world.network_mut().requests.get_mut(token)
    {
        request.has_arrived = true;
    }
    let store = &mut world.network_mut().endpoints[node].store;
    match &input {
        Input::Persisted { through } => store.commit(*through),
        Input::PersistFailed { through, .. } => store.refuse(*through),
        _ => {}
    }
    world.input(node, input);
}

/// Returns `true` if two nodes cannot communicate: a partition separates them, or a machine is
/// suspended.
pub fn is_silent<W: World>(world: &W, pair: Pair) -> bool {
    world.is_cut(pair) || world.is_suspended(pair.0) || world.is_suspended(pair.1)
}

pub(super) fn dial<W: World>(world: &mut W, from: usize, peer: PeerId, addrs: &[Multiaddr]) {
    let to = world.route(&peer, addrs);
    let reached = to.is_some_and(|to| to != from && !is_silent(world, pair(from, to)));
    let silent = to.is_some() && !reached || world.is_lost();
    let delay = if silent { TIMEOUT } else { world.latency() + world.latency() };
    let to = to.filter(|_| reached && !silent);
    let (at, life) = (world.now() + delay, world.life(from));
    world.schedule(at, Delivery::Dialled { from, life, peer, to });
}

fn dialled<W: World>(world: &mut W, from: usize, life: u32, peer: PeerId, to: Option<usize>) {
    if world.life(from) != life || !world.is_up(from) {
        return;
    }
    let is_blocked = |to: usize| {
        let (here, there) = (&world.network().endpoints[from], &world.network().endpoints[to]);
        here.blocked.contains(&peer) || there.blocked.contains(&here.peer)
    };
    let is_reachable =
        |to: &usize| world.is_up(*to) && world.network().endpoints[*to].peer == peer && !is_blocked(*to);
    let to = to.filter(|to| is_reachable(to) && !is_silent(world, pair(from, *to)));
    match to {
        Some(to) => connect(world, from, to),
        None => {
            let input = Input::DialFailed { peer, reason: "nobody answers there".to_owned() };
            if !world.is_lost_on_arrival(from, &input) {
                world.input(from, input);
            }
        }
    }
}

/// Connects two nodes, unless they are connected or one refuses the other.
pub fn connect<W: World>(world: &mut W, from: usize, to: usize) {
    let now = world.now();
    let network = world.network_mut();
    if network.links.contains_key(&pair(from, to)) || network.is_blocked(from, to) {
        return;
    }
    network.epochs += 1;
    // A node learns of the end of a connection before it learns of the next one.
    let last_event = network.ended.get(&pair(from, to)).map_or([now; 2], |ended| ended.map(|at| at.max(now)));
    let link = Link { epoch: network.epochs, last_event, opened: last_event };
    network.links.insert(pair(from, to), link);
    for (here, there) in [(from, to), (to, from)] {
        let network = world.network_mut();
        network.endpoints[here].neighbours.insert(there);
        let peer = network.endpoints[there].peer;
        schedule_in_order(world, here, there, Input::Connected { peer, dialer: here == from });
        if let Some(link) = world.network_mut().links.get_mut(&pair(from, to)) {
            link.opened = link.last_event;
        }
    }
    for (here, there) in [(from, to), (to, from)] {
        let endpoint = &world.network().endpoints[there];
        let (peer, serves, topics) = (endpoint.peer, endpoint.serves, endpoint.topics.clone());
        for topic in topics {
            schedule_in_order(world, here, there, Input::PeerSubscribed { peer, topic });
        }
        if serves {
            schedule_in_order(world, here, there, Input::DhtMode { peer, serves: true, addrs: Vec::new() });
        }
    }
}

/// Schedules an input about the connection to another node. Such inputs arrive in order.
fn schedule_in_order<W: World>(world: &mut W, node: usize, about: usize, input: Input) {
    let latency = world.latency();
    let now = world.now();
    let Some(link) = world.network_mut().links.get_mut(&pair(node, about)) else { return };
    let last_event = &mut link.last_event[usize::from(node > about)];
    let at = (now + latency).max(*last_event);
    *last_event = at;
    let over = Some((pair(node, about), link.epoch));
    let life = world.life(node);
    world.schedule(at, Delivery::Input { node, life, over, input });
}

/// Returns this time, or the one at which a node learns of its connection to another if that is later.
pub(super) fn after_opening<W: World>(world: &W, node: usize, about: usize, at: Instant) -> Instant {
    let link = world.network().links.get(&pair(node, about));
    link.map_or(at, |link| at.max(link.opened[usize::from(node > about)]))
}

/// Schedules an input about a node at all its neighbours.
pub(super) fn notify_neighbours<W: World>(world: &mut W, node: usize, input: impl Fn(PeerId) -> Input) {
    let endpoint = &world.network().endpoints[node];
    let (peer, neighbours) = (endpoint.peer, endpoint.neighbours.clone());
    for other in neighbours {
        schedule_in_order(world, other, node, input(peer));
    }
}

/// Ends a connection: open requests fail, and both ends get an event. Returns `true` if there was one.
pub fn close<W: World>(world: &mut W, pair: Pair, why: &str) -> bool {
    let Some(link) = world.network_mut().links.remove(&pair) else { return false };
    let requests = &world.network().requests;
    let open =
        requests.iter().filter(|(_, request)| request.over == (pair, link.epoch) && !request.is_closed);
    let open: Vec<Token> = open.map(|(token, _)| *token).collect();
    for token in open {
        fail(world, token, "the connection ended");
    }
    for (here, there) in [pair, (pair.1, pair.0)] {
        world.network_mut().endpoints[here].neighbours.remove(&there);
        if world.is_up(here) {
            let latency = world.latency();
            let (life, peer) = (world.life(here), world.network().endpoints[there].peer);
            let input = Input::Disconnected { peer, reason: Some(why.to_owned()) };
            // After the earlier events of the connection.
            let at = (world.now() + latency).max(link.last_event[usize::from(here > there)]);
            world.network_mut().ended.entry(pair).or_default()[usize::from(here > there)] = at;
            world.schedule(at, Delivery::Input { node: here, life, over: None, input });
        }
    }
    true
}

/// Ends every connection of a node.
pub fn close_all<W: World>(world: &mut W, node: usize, why: &str) {
    let links = world.network().links.keys().copied();
    let of_node: Vec<Pair> = links.filter(|pair| pair.0 == node || pair.1 == node).collect();
    for pair in of_node {
        close(world, pair, why);
    }
}

/// Sends a request.
pub(super) fn ask<W: World>(world: &mut W, from: usize, peer: PeerId, kind: RequestKind, body: Bytes) {
    let network = world.network();
    let to = network.by_peer(&peer);
    let link = to.and_then(|to| Some((to, network.links.get(&pair(from, to))?.epoch)));
    let life = world.life(from);
    let Some((to, epoch)) = link else {
        let input = kind.outcome(peer, Err("not connected".to_owned()));
        return later(world, from, Duration::ZERO, input);
    };
    let over = (pair(from, to), epoch);
    let (lost, is_response_lost) = (kind.is_mail() && world.is_lost(), kind.is_mail() && world.is_lost());
    let request = Request {
        from,
        life,
        kind,
        over,
        to,
        has_arrived: false,
        answered: false,
        is_closed: false,
        expects_response: !is_response_lost,
    };
    let asked = world.network_mut().token();
    world.network_mut().requests.insert(asked, request);
    world.schedule(world.now() + TIMEOUT, Delivery::Overdue(asked));
    let from_peer = world.network().endpoints[from].peer;
    let input = |asked: Token| match kind {
        RequestKind::Admission(_) => {
            Input::AdmissionRequestReceived { token: asked, peer: from_peer, body: body.clone() }
        }
        RequestKind::Find(_) => {
            Input::FindRequestReceived { token: asked, peer: from_peer, body: body.clone() }
        }
        RequestKind::Mail(_) => {
            Input::MailRequestReceived { token: asked, peer: from_peer, frame: body.clone() }
        }
    };
    let (life, over) = (world.life(to), Some(over));
    if kind.is_mail() {
        world.on_mail(from, to, &body);
        if world.is_repeated() {
            // A second copy of the request, whose response is dropped.
            let input = input(world.network_mut().token());
            let at = world.now() + world.latency();
            let at = after_opening(world, to, from, at);
            world.schedule(at, Delivery::Input { node: to, life, over, input });
        }
    }
    if !lost {
        let at = world.now() + world.latency();
        let at = after_opening(world, to, from, at);
        world.schedule(at, Delivery::Input { node: to, life, over, input: input(asked) });
    }
}

/// Sends the response to a request.
pub(super) fn answer<W: World>(world: &mut W, node: usize, asked: Token, body: Bytes) {
    let Some(request) = world.network_mut().requests.get_mut(&asked) else {
        return world.on_stray_answer(node, asked, body);
    };
    if request.to != node || std::mem::replace(&mut request.answered, true) {
        return world.violated("every request has one answer", node, format!("token {asked}"));
    }
    if request.expects_response {
        let at = world.now() + world.latency();
        world.schedule(at, Delivery::Answered { asked, body });
    }
}

/// Delivers a response, if its request is still open.
fn answered<W: World>(world: &mut W, asked: Token, body: Bytes) {
    let Some(request) = world.network().requests.get(&asked) else { return };
    let (node, life, kind, (pair, epoch)) = (request.from, request.life, request.kind, request.over);
    let (to, is_closed) = (request.to, request.is_closed);
    if world.is_suspended(node) {
        return world.defer_delivery(node, Delivery::Answered { asked, body });
    }
    if is_closed || !world.network().is_open(pair, epoch) || world.is_cut(pair) {
        return;
    }
    let peer = world.network().endpoints[to].peer;
    let input = kind.outcome(peer, Ok(body));
    if world.is_lost_on_arrival(node, &input) {
        return;
    }
    if let Some(request) = world.network_mut().requests.get_mut(&asked) {
        request.is_closed = true;
    }
    if world.life(node) == life {
        world.input(node, input);
    }
}

/// Fails every open mail request of a node, as after a timeout.
pub fn fail_open_requests<W: World>(world: &mut W, node: usize) {
    let open = world.network().requests.iter().filter(|(_, request)| request.from == node);
    let open: Vec<Token> =
        open.filter(|(_, request)| request.kind.is_mail()).map(|(token, _)| *token).collect();
    for asked in open {
        fail(world, asked, "no answer came in time");
        world.network_mut().requests.remove(&asked);
    }
}

fn fail<W: World>(world: &mut W, asked: Token, why: &str) {
    let Some(request) = world.network_mut().requests.get_mut(&asked) else { return };
    if std::mem::replace(&mut request.is_closed, true) {
        return;
    }
    let (node, life, kind, to) = (request.from, request.life, request.kind, request.to);
    let peer = world.network().endpoints[to].peer;
    let input = kind.outcome(peer, Err(why.to_owned()));
    world.schedule(world.now(), Delivery::Input { node, life, over: None, input });
}
