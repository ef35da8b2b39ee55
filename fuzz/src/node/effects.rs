//! Checks the effects of a core: peers would accept its messages, and each token is used once.

use bytes::Bytes;
use libp2p::PeerId;
use p2p_node_core::ANNOUNCEMENTS;
use p2p_node_core::client_id::ClientId;
use p2p_node_core::crypto_task::CryptoTask;
use p2p_node_core::effect::{ExitCode, Verdict};
use p2p_node_core::input::Token;
use p2p_node_protocol::Event;
use p2p_node_testing::interpreter::Interpreter;
use p2p_node_wire::envelope::limits::MAX_GOSSIP_FRAME_BYTES;
use p2p_node_wire::envelope::{
    Admission, Batch, FindAgents, FoundAgents, Frame, MailResponse, Payload, Scope, Step, strict_decode,
};
use p2p_node_wire::seal::hpke::{Info, open};
use p2p_node_wire::seal::kem::kem_id;
use p2p_node_wire::seal::padding;
use p2p_node_wire::seal::suite::Suite;

use super::super::material::{NETWORK, PARTIES, party};
use super::{MAX_TRACKED, World};

impl Interpreter for World {
    fn emit(&mut self, _node: usize, _client: ClientId, event: Event, numbered: bool) {
        self.unread += 1;
        self.ledger.on_event(&event, numbered);
    }

    fn crypto(&mut self, _node: usize, task: CryptoTask) {
        self.tasks.push(task);
    }

    fn exit(&mut self, _node: usize, _code: ExitCode) {
        self.ledger.exit();
    }

    fn listen(&mut self, _node: usize) {
        self.may_listen = true;
    }

    fn send_admission(&mut self, _node: usize, token: Token, peer: PeerId, body: Bytes) {
        self.ledger.token_chosen(token);
        let step = strict_decode::<Admission>(&body).expect("a valid step").step.expect("a step");
        self.admissions.push((token, peer, step));
    }

    fn answer_admission(&mut self, _node: usize, token: Token, body: Bytes) {
        self.ledger.admission_answered(token);
        let step = strict_decode::<Admission>(&body).expect("a valid step").step;
        if let Some(Step::Challenge(challenge)) = step {
            self.challenge = challenge.responder;
        }
    }

    fn send_find(&mut self, _node: usize, token: Token, _peer: PeerId, body: Bytes) {
        self.ledger.token_chosen(token);
        strict_decode::<FindAgents>(&body).expect("a valid question");
        self.finds.push(token);
    }

    fn answer_find(&mut self, _node: usize, _token: Token, body: Bytes) {
        assert!(body.is_empty() || strict_decode::<FoundAgents>(&body).is_ok(), "an invalid answer");
    }

    fn send_mail(&mut self, _node: usize, token: Token, peer: PeerId, frame: Bytes) {
        self.ledger.token_chosen(token);
        let own = party(0).node.peer_id();
        self.check_sent(Frame::decode_direct(&frame, &own).expect("a valid frame"));
        self.mail_requests.push((token, peer));
    }

    fn answer_mail(&mut self, _node: usize, token: Token, body: Bytes) {
        self.ledger.mail_answered(token);
        strict_decode::<MailResponse>(&body).expect("a valid response");
    }

    fn publish(&mut self, _node: usize, token: Token, topic: String, data: Bytes) {
        self.ledger.token_chosen(token);
        if topic != ANNOUNCEMENTS {
            self.check_sent(Frame::decode(data, MAX_GOSSIP_FRAME_BYTES).expect("a valid frame"));
        }
        self.published.push(token);
    }

    fn report_validation(&mut self, _node: usize, token: Token, _verdict: Verdict) {
        self.ledger.verdict_given(token);
    }

    fn get_record(&mut self, _node: usize, token: Token, _key: &Bytes) {
        self.ledger.token_chosen(token);
        self.queries.push(token);
    }

    fn stop_query(&mut self, _node: usize, token: Token) {
        self.queries.retain(|query| *query != token);
    }
}

impl World {
    /// Returns the batch in a frame of the core. Mail must be sealed.
    fn open(&mut self, frame: &Frame) -> Batch {
        let decode =
            |content| strict_decode(&padding::unpad(content).expect("padded").into()).expect("a batch");
        match frame.body.payload.as_ref().expect("a payload") {
            Payload::Plain(batch) => {
                let mail = matches!(frame.body.scope, Some(Scope::NodeKey(_)));
                assert!(!mail || batch.messages.is_empty(), "mail in plain text");
                batch.clone()
            }
            Payload::Sealed(sealed) => {
                let recipient =
                    (0..PARTIES).map(party).find(|party| *kem_id(&party.kem.public_key()) == *sealed.kem_id);
                let recipient = recipient.expect("the KEM key of a party");
                let info = Info {
                    network: NETWORK.to_owned(),
                    sender: party(0).node.public(),
                    recipient: recipient.agent.address(),
                    kem_id: kem_id(&recipient.kem.public_key()),
                    suite: Suite::from_number(sealed.suite).expect("a known suite"),
                };
                let (content, session) =
                    open(&recipient.kem, &info, &sealed.enc, &sealed.ciphertext).expect("it opens");
                self.peer_sessions.push(session);
                if self.peer_sessions.len() > MAX_TRACKED {
                    self.peer_sessions.remove(0);
                }
                decode(content)
            }
            Payload::Session(session) => {
                let key = self.peer_sessions.iter().find(|key| *key.id() == *session.id);
                // The session is older than the ones that the world tracks.
                let Some(key) = key else { return Batch::default() };
                decode(key.open(session.counter, &session.ciphertext).expect("it opens"))
            }
        }
    }

    /// Checks that peers would accept a frame of the core, and records its streams for acks.
    fn check_sent(&mut self, frame: Frame) {
        let batch = self.open(&frame);
        for message in batch.messages {
            self.streams.retain(|(stream, _)| *stream != message.stream);
            self.streams.push((message.stream, message.seq));
        }
        let excess = self.streams.len().saturating_sub(MAX_TRACKED);
        self.streams.drain(..excess);
    }
}
