//! Connections between nodes, and requests over them.

use std::time::Duration;

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use p2p_node_core::input::{Input, Token};
use p2p_node_protocol::Role;

use crate::node::{owner_of, port_of};
use crate::world::{ScheduledEvent, World};

/// A request ends after this long (`MAIL_TIMEOUT`), and so does a dial.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Minimum and maximum time after which both ends close a silent connection: the interval and the
/// timeout of the pings, of which libp2p ignores the first failure.
const SILENCE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(50));
/// Maximum extra delay of a late delivery.
const LATE: Duration = Duration::from_millis(400);

/// Two nodes, the lower number first.
pub type Pair = (usize, usize);

pub fn pair(one: usize, other: usize) -> Pair {
    (one.min(other), one.max(other))
}

#[derive(Debug)]
pub struct Link {
    /// Tells this connection from earlier ones of the two.
    pub epoch: u64,
    /// What is told about a connection, and subscriptions, come in order: when the last of them
    /// came, each way.
    told: [Duration; 2],
}

/// A request that somebody made and that may be answered.
#[derive(Debug)]
pub struct Request {
    from: usize,
    life: u32,
    /// None for a hello.
    token: Option<Token>,
    over: (Pair, u64),
    to: usize,
    answered: bool,
    /// `true` if the requester has got the result.
    over_with: bool,
    /// `true` if the requester will receive the response.
    heard: bool,
}

impl World {
    pub fn is_open(&self, pair: Pair, epoch: u64) -> bool {
        self.links.get(&pair).is_some_and(|link| link.epoch == epoch)
    }

    /// Returns `true` if nothing gets through between two nodes.
    pub fn is_cut(&self, (one, other): Pair) -> bool {
        let inside = |node: usize| self.part.is_some_and(|(first, last)| (first..=last).contains(&node));
        inside(one) != inside(other)
    }

    /// Whether nothing is heard between two nodes: what is sent to a machine that is suspended
    /// waits for it.
    fn is_silent(&self, pair: Pair) -> bool {
        let sleeps = |node: usize| self.nodes[node].asleep_until.is_some();
        self.is_cut(pair) || sleeps(pair.0) || sleeps(pair.1)
    }

    /// Both ends of a connection have waited for each other in vain, if that is still so.
    pub fn silent(&mut self, pair: Pair, epoch: u64) {
        if self.is_open(pair, epoch) && self.is_silent(pair) {
            self.close(pair, "nothing comes through");
        }
    }

    /// Returns the delay of a delivery.
    pub fn latency(&mut self) -> Duration {
        let (least, most, late) = (self.model.least, self.model.most, self.model.late);
        let latency = self.rng.between(least, most);
        if self.rng.permille(late) { latency + self.rng.between(Duration::ZERO, LATE) } else { latency }
    }

    pub fn is_lost(&mut self) -> bool {
        let loss = self.model.loss;
        self.rng.permille(loss)
    }

    pub fn dial(&mut self, from: usize, peer: PeerId, addrs: &[Multiaddr]) {
        let to = addrs.iter().filter_map(port_of).find_map(owner_of).filter(|to| {
            let here = self.nodes.get(*to);
            here.is_some_and(|here| addrs.contains(&here.addr()) && here.core.is_some())
        });
        let reached = to.is_some_and(|to| to != from && !self.is_silent(pair(from, to)));
        let silent = to.is_some() && !reached || self.is_lost();
        let delay = if silent { TIMEOUT } else { self.latency() + self.latency() };
        let life = self.nodes[from].life;
        let to = to.filter(|_| reached && !silent);
        self.at(self.now + delay, ScheduledEvent::Dialled { from, life, peer, to });
    }

    pub fn dialled(&mut self, from: usize, life: u32, peer: PeerId, to: Option<usize>) {
        if self.nodes[from].life != life || self.nodes[from].core.is_none() {
            return;
        }
        let to = to.filter(|to| {
            let there = &self.nodes[*to];
            there.core.is_some() && there.peer == peer && !self.is_silent(pair(from, *to))
        });
        let Some(to) = to else {
            return self.input(from, Input::DialFailed { peer, reason: "nobody answers there".to_owned() });
        };
        if self.links.contains_key(&pair(from, to)) {
            return;
        }
        self.epochs += 1;
        self.links.insert(pair(from, to), Link { epoch: self.epochs, told: [self.now; 2] });
        for (here, there) in [(from, to), (to, from)] {
            self.nodes[here].neighbours.insert(there);
            let peer = self.nodes[there].peer;
            self.tell(here, there, Input::Connected { peer, dialer: here == from });
        }
        for (here, there) in [(from, to), (to, from)] {
            let peer = self.nodes[there].peer;
            for topic in self.nodes[there].topics.clone() {
                self.tell(here, there, Input::PeerSubscribed { peer, topic });
            }
            if self.nodes[there].role == Role::Bootstrap {
                self.tell(here, there, Input::DhtServerSeen { peer });
            }
        }
    }

    /// Tells a node something about its connection to another; such things come in order.
    pub fn tell(&mut self, node: usize, about: usize, input: Input) {
        let latency = self.latency();
        let Some(link) = self.links.get_mut(&pair(node, about)) else { return };
        let told = &mut link.told[usize::from(node > about)];
        let at = (self.now + latency).max(*told);
        *told = at;
        let over = Some((pair(node, about), link.epoch));
        let life = self.nodes[node].life;
        self.at(at, ScheduledEvent::Input { node, life, over, input });
    }

    /// Ends a connection: open requests fail, and both ends are told.
    pub fn close(&mut self, pair: Pair, why: &str) {
        let Some(link) = self.links.remove(&pair) else { return };
        let open: Vec<Token> = self
            .requests
            .iter()
            .filter(|(_, request)| request.over == (pair, link.epoch) && !request.over_with)
            .map(|(token, _)| *token)
            .collect();
        for token in open {
            self.fail(token, "the connection ended");
        }
        for (here, there) in [pair, (pair.1, pair.0)] {
            self.nodes[here].neighbours.remove(&there);
            if self.nodes[here].core.is_some() {
                let latency = self.latency();
                let (life, peer) = (self.nodes[here].life, self.nodes[there].peer);
                let input = Input::Disconnected { peer, reason: Some(why.to_owned()) };
                // Not before what was told over it earlier.
                let at = (self.now + latency).max(link.told[usize::from(here > there)]);
                self.at(at, ScheduledEvent::Input { node: here, life, over: None, input });
            }
        }
    }

    /// Connections through which nothing comes end when their ends notice.
    pub fn notice_cuts(&mut self) {
        let cut: Vec<(Pair, u64)> = self
            .links
            .iter()
            .filter(|(pair, _)| self.is_silent(**pair))
            .map(|(pair, link)| (*pair, link.epoch))
            .collect();
        for (pair, epoch) in cut {
            let delay = self.rng.between(SILENCE.0, SILENCE.1);
            self.at(self.now + delay, ScheduledEvent::Silent(pair, epoch));
        }
    }

    /// A node asks another: with a hello, or with a frame of mail under a token of its own.
    pub fn ask(&mut self, from: usize, peer: PeerId, token: Option<Token>, body: Bytes) {
        let to = self.by_peer.get(&peer).copied();
        let link = to.and_then(|to| Some((to, self.links.get(&pair(from, to))?.epoch)));
        let life = self.nodes[from].life;
        let Some((to, epoch)) = link else {
            if let Some(token) = token {
                let input = Input::MailResponseReceived { token, outcome: Err("not connected".to_owned()) };
                self.at(self.now, ScheduledEvent::Input { node: from, life, over: None, input });
            }
            return;
        };
        let over = (pair(from, to), epoch);
        let (lost, unheard) = (token.is_some() && self.is_lost(), token.is_some() && self.is_lost());
        let heard = !unheard;
        let request = Request { from, life, token, over, to, answered: false, over_with: false, heard };
        let asked = self.token();
        self.requests.insert(asked, request);
        self.at(self.now + TIMEOUT, ScheduledEvent::Overdue(asked));
        let from_peer = self.nodes[from].peer;
        let input = |asked: Token| match token {
            None => Input::HelloRequestReceived { token: asked, peer: from_peer, body: body.clone() },
            Some(_) => Input::MailRequestReceived { token: asked, peer: from_peer, frame: body.clone() },
        };
        let life = self.nodes[to].life;
        if token.is_some() {
            self.capture(Some(to), String::new(), body.clone());
            self.report.frames += 1;
            let twice = self.model.twice;
            if self.rng.permille(twice) {
                // Heard again by another request, whose answer nobody waits for.
                let (again, latency) = (self.token(), self.latency());
                let input = input(again);
                self.at(
                    self.now + latency,
                    ScheduledEvent::Input { node: to, life, over: Some(over), input },
                );
            }
        }
        if !lost {
            let latency = self.latency();
            let input = input(asked);
            self.at(self.now + latency, ScheduledEvent::Input { node: to, life, over: Some(over), input });
        }
    }

    /// A node answers what it was asked.
    pub fn answer(&mut self, node: usize, asked: Token, body: Bytes) {
        let Some(request) = self.requests.get_mut(&asked) else { return };
        if request.to != node || std::mem::replace(&mut request.answered, true) {
            return self.violate("every request has one answer", node, format!("token {asked}"));
        }
        if request.heard {
            let latency = self.latency();
            self.at(self.now + latency, ScheduledEvent::Answered { asked, body });
        }
    }

    /// An answer arrives where it is waited for, if it still is.
    pub fn answered(&mut self, asked: Token, body: Bytes) {
        let Some(request) = self.requests.get(&asked) else { return };
        let (node, life, token, (pair, epoch)) = (request.from, request.life, request.token, request.over);
        if self.nodes[node].asleep_until.is_some() {
            return self.nodes[node].put_off.push(ScheduledEvent::Answered { asked, body });
        }
        if request.over_with || !self.is_open(pair, epoch) || self.is_cut(pair) {
            return;
        }
        let peer = self.nodes[request.to].peer;
        if let Some(request) = self.requests.get_mut(&asked) {
            request.over_with = true;
        }
        if self.nodes[node].life != life {
            return;
        }
        self.input(
            node,
            match token {
                None => Input::HelloResponseReceived { peer, body },
                Some(token) => Input::MailResponseReceived { token, outcome: Ok(body) },
            },
        );
    }

    pub fn overdue(&mut self, asked: Token) {
        self.fail(asked, "no answer came in time");
        self.requests.remove(&asked);
    }

    fn fail(&mut self, asked: Token, why: &str) {
        let Some(request) = self.requests.get_mut(&asked) else { return };
        if std::mem::replace(&mut request.over_with, true) {
            return;
        }
        let (node, life, token) = (request.from, request.life, request.token);
        if let Some(token) = token {
            let input = Input::MailResponseReceived { token, outcome: Err(why.to_owned()) };
            self.at(self.now, ScheduledEvent::Input { node, life, over: None, input });
        }
    }
}
