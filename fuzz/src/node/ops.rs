//! What can happen to a node, one operation at a time.

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use p2p_node::core::directory::record::{RECORD_DOMAIN, kad_key};
use p2p_node::core::envelope::ack::ACK_DOMAIN;
use p2p_node::core::envelope::frame::FRAME_DOMAIN;
use p2p_node::core::envelope::{
    Busy, Hello, KemUnknown, MailResponse, Refused, Response, Scope, WIRE_VERSION,
};
use p2p_node::core::input::{Input, PublishOutcome};
use p2p_node::core::{ANNOUNCEMENTS, MESSAGES};
use p2p_node_protocol::line::decode_request;
use prost::Message as _;

use super::super::material::{NETWORK, OTHERS, PARTIES, START_MS, TOPICS, ack, bent, frame, party, record};
use super::super::source::Source;
use super::{MAX_REMEMBERED, World, commands};

impl World {
    pub(super) fn operation(&mut self, source: &mut Source<'_>) {
        match source.below(32) {
            0..=6 => {
                let line = commands::line(source);
                self.say(&line);
            }
            7 => self.local(source),
            8 | 9 => self.pass_some(source),
            10 => self.jump(source),
            _ if !self.listens => self.listen(),
            11 | 12 => self.connection(source),
            13 => self.subscription(source),
            14 | 15 => self.hello(source),
            16..=18 => self.mail(source),
            19..=21 => self.gossip(source),
            22 => self.heard_again(source),
            23..=25 => self.answer_to_mail(source),
            26 => self.published(source),
            27..=29 => self.dht(source),
            _ => self.checked(source),
        }
    }

    /// Hands over a line, if the core takes one now: else the node would not have read it.
    pub(super) fn say(&mut self, line: &[u8]) {
        if !self.core.takes_commands(self.now) {
            return;
        }
        match decode_request(line) {
            Ok(request) => {
                self.ledger.used(request.id.as_ref());
                self.handle(Input::Command(request));
            }
            Err(error) => {
                self.ledger.used(error.id.as_ref());
                self.handle(Input::BadLine(error));
            }
        }
    }

    /// What befalls the process itself.
    fn local(&mut self, source: &mut Source<'_>) {
        match source.byte() {
            0..=119 => {
                let lines = self.unread.min(source.byte().into());
                self.unread -= lines;
                self.handle(Input::Written { lines });
            }
            120..=199 => self.listen(),
            200..=219 => self.handle(Input::ListenDegraded { reason: source.text() }),
            220..=229 => self.handle(Input::ListenFailed { reason: source.text() }),
            230..=234 if self.core.takes_commands(self.now) => self.handle(Input::InputEnded),
            235..=239 => {
                self.forced = true;
                self.handle(Input::OutputClosed);
            }
            240..=245 => {
                self.forced = true;
                self.handle(Input::Signal);
            }
            _ => self.kind = !self.kind,
        }
    }

    fn pass_some(&mut self, source: &mut Source<'_>) {
        let time = match source.byte() {
            0..=63 => Duration::from_millis(source.byte().into()),
            64..=159 => Duration::from_secs(source.byte().into()),
            160..=191 => Duration::from_secs(60 * u64::from(source.byte())),
            // To when the core wants to be called, or a moment before.
            192..=239 => {
                let due = self.core.poll_timeout().unwrap_or_default().saturating_sub(self.now.mono);
                due.saturating_sub(Duration::from_millis(u64::from(source.flag())))
            }
            _ => Duration::from_secs(3600 * u64::from(source.byte())),
        };
        self.pass(time);
    }

    /// Somebody sets the wall clock.
    fn jump(&mut self, source: &mut Source<'_>) {
        let by = source.number();
        self.now.unix_ms = match source.below(8) {
            0 => self.now.unix_ms.saturating_sub(by),
            1 => self.now.unix_ms.saturating_sub(by.saturating_mul(1000)),
            2 => self.now.unix_ms.saturating_add(by),
            3 => self.now.unix_ms.saturating_add(by.saturating_mul(1000)),
            4 => by,
            _ => START_MS.saturating_add(self.now.mono.as_millis() as u64),
        };
    }

    fn connection(&mut self, source: &mut Source<'_>) {
        let peer = peer(source);
        self.handle(match source.below(12) {
            0..=4 => Input::Connected { peer, dialer: source.flag() },
            5 => Input::Disconnected { peer, reason: source.optional(Source::text) },
            6 | 7 => Input::DialFailed { peer, reason: source.text() },
            8 => Input::SlowPeer { peer },
            _ => Input::ServerKnown { peer },
        });
    }

    fn subscription(&mut self, source: &mut Source<'_>) {
        let peer = peer(source);
        let topic = if source.byte() < 240 { source.pick(&TOPICS).to_owned() } else { source.text() };
        self.handle(match source.below(4) {
            0 => Input::PeerUnsubscribed { peer, topic },
            _ => Input::PeerSubscribed { peer, topic },
        });
    }

    fn record(&mut self, source: &mut Source<'_>) -> (usize, Bytes) {
        let from = 1 + source.below(PARTIES - 1);
        // Records of our own agent with a newer generation end us.
        let from = if from == PARTIES - 1 && source.byte() < 200 { 1 } else { from };
        let record = record(source, from, self.now.unix_ms);
        (from, bent(source, record, from, RECORD_DOMAIN))
    }

    fn hello(&mut self, source: &mut Source<'_>) {
        let (from, record) = self.record(source);
        let peer = if source.byte() < 240 { party(from).node.peer_id() } else { peer(source) };
        let hello = Hello {
            version: WIRE_VERSION,
            network: if source.byte() < 250 { NETWORK } else { "other" }.to_owned(),
            record,
            agent_version: source.text(),
        };
        let body = hello.encode_to_vec().into();
        if source.flag() {
            let token = self.token();
            self.ledger.met(token);
            self.handle(Input::HelloAsked { token, peer, body });
        } else {
            self.handle(Input::HelloAnswered { peer, body });
        }
    }

    fn frame(&mut self, source: &mut Source<'_>, from: usize, scope: Scope) -> Bytes {
        let frame = frame(source, from, scope, self.now.unix_ms, &self.streams);
        bent(source, frame, from, FRAME_DOMAIN)
    }

    fn mail(&mut self, source: &mut Source<'_>) {
        let from = 1 + source.below(PARTIES - 1);
        let to = if source.byte() < 240 { 0 } else { from };
        let frame = self.frame(source, from, Scope::NodeKey(party(to).node.public().to_vec().into()));
        let peer = if source.byte() < 240 { party(from).node.peer_id() } else { peer(source) };
        self.ask(peer, frame);
    }

    fn ask(&mut self, peer: PeerId, frame: Bytes) {
        self.remember(String::new(), frame.clone());
        let token = self.token();
        self.ledger.asked(token);
        self.handle(Input::MailAsked { token, peer, frame });
    }

    fn gossip(&mut self, source: &mut Source<'_>) {
        let heard_on = source.pick(&TOPICS);
        if heard_on == ANNOUNCEMENTS {
            let (_, data) = self.record(source);
            return self.hear(source, heard_on.to_owned(), data);
        }
        let from = source.below(PARTIES);
        let scope = match source.byte() {
            0..=99 if heard_on == MESSAGES => Scope::NodeKey(party(0).node.public().to_vec().into()),
            250.. => Scope::Topic("elsewhere".to_owned()),
            _ => Scope::Topic(heard_on.to_owned()),
        };
        let data = self.frame(source, from, scope);
        self.hear(source, heard_on.to_owned(), data);
    }

    fn hear(&mut self, source: &mut Source<'_>, topic: String, data: Bytes) {
        self.remember(topic.clone(), data.clone());
        let token = self.token();
        self.ledger.heard(token);
        self.handle(Input::Gossip { token, from: peer(source), topic, data });
    }

    fn remember(&mut self, topic: String, data: Bytes) {
        if self.heard.len() == MAX_REMEMBERED {
            self.heard.remove(0);
        }
        self.heard.push((topic, data));
    }

    /// The same bytes once more, there or elsewhere.
    fn heard_again(&mut self, source: &mut Source<'_>) {
        if self.heard.is_empty() {
            return;
        }
        let (topic, data) = self.heard[source.below(self.heard.len())].clone();
        match source.below(8) {
            0 => {
                let topic = source.pick(&TOPICS).to_owned();
                self.hear(source, topic, data)
            }
            1 => self.ask(peer(source), data),
            _ if topic.is_empty() => self.ask(peer(source), data),
            _ => self.hear(source, topic, data),
        }
    }

    fn answer_to_mail(&mut self, source: &mut Source<'_>) {
        let Some((token, peer)) = chosen(source, &mut self.mails) else { return };
        let from = (1..=OTHERS).find(|index| party(*index).node.peer_id() == peer).unwrap_or(1);
        let response = match source.below(10) {
            0 => {
                let reason = "fuzz".to_owned();
                let code = source.pick(&["REPLAYED", "FORGED", "MESSAGE_TOO_LARGE", "x"]).to_owned();
                Response::Refused(Refused { code, reason })
            }
            1 => Response::Busy(Busy { retry_after_ms: source.number() }),
            2 => Response::KemUnknown(KemUnknown { record: Bytes::copy_from_slice(source.chunk()) }),
            3 => {
                let outcome = Err(source.text());
                return self.handle(Input::MailAnswered { token, outcome });
            }
            _ => {
                let signer = if source.byte() < 240 { from } else { 1 + source.below(OTHERS) };
                let ack = ack(source, signer, &self.streams);
                Response::Ack(bent(source, ack, signer, ACK_DOMAIN))
            }
        };
        let body: Vec<u8> = MailResponse { response: Some(response) }.encode_to_vec();
        self.handle(Input::MailAnswered { token, outcome: Ok(body.into()) });
    }

    fn published(&mut self, source: &mut Source<'_>) {
        use PublishOutcome::{Duplicate, NoPeers, QueuesFull, Sent, TooLarge};
        let Some(token) = chosen(source, &mut self.published) else { return };
        let outcome = source.pick(&[Sent, NoPeers, QueuesFull, Duplicate, TooLarge]);
        self.handle(Input::Published { token, outcome });
    }

    fn dht(&mut self, source: &mut Source<'_>) {
        match source.below(6) {
            0 => self.handle(Input::RecordPut { stored: source.flag() }),
            1 => {
                let (from, value) = self.record(source);
                let whose = if source.byte() < 240 { from } else { source.below(PARTIES) };
                let key = kad_key(NETWORK, &party(whose).agent.address()).to_vec().into();
                self.handle(Input::RecordOffered { peer: peer(source), key, value });
            }
            2 | 3 => {
                let (_, value) = self.record(source);
                let index = source.below(self.queries.len().max(1));
                let token = self.queries.get(index).copied().unwrap_or_default();
                self.handle(Input::RecordFound { token, value });
            }
            _ => {
                let token = chosen(source, &mut self.queries).unwrap_or_default();
                self.handle(Input::QueryEnded { token });
            }
        }
    }

    /// The crypto pool has looked, or had no time to.
    fn checked(&mut self, source: &mut Source<'_>) {
        let Some(binding) = chosen(source, &mut self.checks) else { return };
        let valid = (source.byte() < 192).then(|| binding.verify_signature());
        self.handle(Input::BindingChecked { hash: binding.hash(), valid });
        if source.byte() == 255 {
            self.handle(Input::BindingChecked { hash: binding.hash(), valid });
        }
    }
}

fn peer(source: &mut Source<'_>) -> PeerId {
    party(1 + source.below(PARTIES - 1)).node.peer_id()
}

/// Takes out one of those that wait.
fn chosen<T>(source: &mut Source<'_>, waiting: &mut Vec<T>) -> Option<T> {
    (!waiting.is_empty()).then(|| waiting.swap_remove(source.below(waiting.len().min(256))))
}
