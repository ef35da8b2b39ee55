//! What a core asks for must be what others would take, and be asked for once.

use bytes::Bytes;
use p2p_node::core::ANNOUNCEMENTS;
use p2p_node::core::effect::{Effect, Network};
use p2p_node::core::envelope::limits::{MAX_FRAME_BYTES, MAX_GOSSIP_FRAME_BYTES};
use p2p_node::core::envelope::{Frame, Hello, MailResponse, Payload, strict_decode};

use super::{MAX_REMEMBERED, World};

impl World {
    pub(super) fn carry_out(&mut self, effect: Effect) {
        self.ledger.alive();
        match effect {
            Effect::Emit { event, numbered } => {
                self.unread += 1;
                self.ledger.told(&event, numbered);
            }
            Effect::CheckBinding(binding) => self.checks.push(*binding),
            Effect::Remember(_) | Effect::KeepStanding { .. } => {}
            Effect::Exit(_) => self.ledger.exit(),
            Effect::Network(effect) => self.network(effect),
        }
    }

    fn network(&mut self, effect: Network) {
        match effect {
            Network::Judge { token, verdict: _ } => self.ledger.judged(token),
            Network::AnswerMail { token, body } => {
                self.ledger.answered(token);
                strict_decode::<MailResponse>(&body).expect("our answer is one that we would take");
            }
            Network::AnswerHello { token, body } => {
                self.ledger.greeted(token);
                strict_decode::<Hello>(&body).expect("our hello is one that we would take");
            }
            Network::SendHello { body, .. } => {
                strict_decode::<Hello>(&body).expect("our hello is one that we would take");
            }
            Network::SendMail { token, peer, frame } => {
                self.ledger.named(token);
                self.sent(frame, MAX_FRAME_BYTES);
                self.mails.push((token, peer));
            }
            Network::Publish { token, topic, data } => {
                self.ledger.named(token);
                if topic != ANNOUNCEMENTS {
                    self.sent(data, MAX_GOSSIP_FRAME_BYTES);
                }
                self.published.push(token);
            }
            Network::GetRecord { token, .. } => {
                self.ledger.named(token);
                self.queries.push(token);
            }
            Network::StopQuery { token } => self.queries.retain(|query| *query != token),
            Network::Listen { .. } => self.may_listen = true,
            Network::Dial { .. }
            | Network::Disconnect { .. }
            | Network::Block { .. }
            | Network::Unblock { .. }
            | Network::Subscribe { .. }
            | Network::Unsubscribe { .. }
            | Network::PutRecord { .. }
            | Network::KeepRecord { .. } => {}
        }
    }

    /// Others would take the frames that we send, and acknowledge them.
    fn sent(&mut self, frame: Bytes, max: usize) {
        let frame = Frame::decode(frame, max).expect("our frame is one that we would take");
        let Some(Payload::Plain(batch)) = frame.body.payload else { panic!("frames are plain so far") };
        for message in batch.messages {
            self.streams.retain(|(stream, _)| *stream != message.stream);
            self.streams.push((message.stream, message.seq));
        }
        let forgotten = self.streams.len().saturating_sub(MAX_REMEMBERED);
        self.streams.drain(..forgotten);
    }
}
