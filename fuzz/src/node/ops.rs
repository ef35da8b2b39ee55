//! The operations of a run.

use std::time::Duration;

use p2p_node_core::client_id::ClientId;
use p2p_node_core::crypto_task::CryptoTask;
use p2p_node_core::input::Input;
use p2p_node_protocol::line::decode_request;
use p2p_node_wire::seal::repeatable::DeterministicRng;

use super::super::material::{OTHERS, START_MS};
use super::super::source::Source;
use super::network::chosen;
use super::{World, commands};

impl World {
    pub(super) fn operation(&mut self, source: &mut Source<'_>) {
        match source.below(32) {
            0..=6 => {
                let line = commands::line(source, &self.ledger.last_message);
                self.write_line(&line);
            }
            7 => self.local(source),
            8 if self.listens => self.connect_honest_agent(1 + source.below(OTHERS)),
            8 | 9 => self.pass_random_time(source),
            10 => self.jump(source),
            _ if !self.listens => self.listen(),
            11 | 12 => self.connection(source),
            13 => self.subscription(source),
            14 | 15 => self.admission(source),
            16..=18 => self.mail(source),
            19..=21 => self.gossip(source),
            22 => self.replay(source),
            23..=25 => self.mail_response(source),
            26 => self.published(source),
            27..=29 => self.dht(source),
            _ => self.checked(source),
        }
    }

    /// Writes a line, if the core accepts commands: otherwise the node would not read it.
    pub(super) fn write_line(&mut self, line: &[u8]) {
        if !self.core.can_accept_command(ClientId::PARENT) {
            return;
        }
        let all_read = self.is_cooperative && self.unread == 0;
        match decode_request(line) {
            Ok(request) => {
                self.ledger.used(request.id.as_ref(), all_read);
                self.handle(Input::Command { client: ClientId::PARENT, request });
            }
            Err(error) => {
                self.ledger.used(error.id.as_ref(), all_read);
                self.handle(Input::BadLine { client: ClientId::PARENT, error });
            }
        }
    }

    /// An event of the process itself.
    fn local(&mut self, source: &mut Source<'_>) {
        match source.byte() {
            0..=119 => {
                let lines = self.unread.min(source.byte().into());
                self.unread -= lines;
                self.handle(Input::Written { client: ClientId::PARENT, lines });
            }
            120..=199 => self.listen(),
            200..=219 => self.handle(Input::Degraded { reason: source.text() }),
            220..=229 => self.handle(Input::ListenFailed { reason: source.text() }),
            230..=234 if self.core.can_accept_command(ClientId::PARENT) => self.handle(Input::StdinClosed),
            235..=239 => {
                self.forced = true;
                self.handle(Input::StdoutClosed { broken: source.flag() });
            }
            240..=245 => {
                self.forced = true;
                self.handle(Input::Signal);
            }
            246..=247 => {
                self.forced = true;
                self.handle(Input::ParentEnded);
            }
            248..=249 => {
                self.forced = true;
                self.handle(Input::InputFailed { reason: source.text() });
            }
            _ => self.is_cooperative = !self.is_cooperative,
        }
    }

    fn pass_random_time(&mut self, source: &mut Source<'_>) {
        let time = match source.byte() {
            0..=63 => Duration::from_millis(source.byte().into()),
            64..=159 => Duration::from_secs(source.byte().into()),
            160..=191 => Duration::from_secs(60 * u64::from(source.byte())),
            // Until the core's next timeout, or a millisecond less.
            192..=239 => {
                let due = self.core.poll_timeout().unwrap_or_default().saturating_since(self.now.mono);
                due.saturating_sub(Duration::from_millis(u64::from(source.flag())))
            }
            _ => Duration::from_secs(3600 * u64::from(source.byte())),
        };
        self.pass(time);
    }

    /// Sets the wall clock.
    fn jump(&mut self, source: &mut Source<'_>) {
        let by = source.number();
        self.now.unix_ms = match source.below(8) {
            0 => self.now.unix_ms.saturating_sub(by),
            1 => self.now.unix_ms.saturating_sub(by.saturating_mul(1000)),
            2 => self.now.unix_ms.saturating_add(by),
            3 => self.now.unix_ms.saturating_add(by.saturating_mul(1000)),
            4 => by,
            _ => START_MS.saturating_add(self.now.mono.since_start().as_millis() as u64),
        };
    }

    pub(super) fn run_task(&mut self, task: CryptoTask) -> Input {
        self.tokens += 1;
        task.run(&mut DeterministicRng::new(self.tokens))
    }

    /// Completes a crypto task, or rejects it because the pool is full.
    fn checked(&mut self, source: &mut Source<'_>) {
        let Some(task) = chosen(source, &mut self.tasks) else { return };
        let done = if source.byte() < 192 { self.run_task(task) } else { task.rejected_by_pool() };
        self.handle(done.clone());
        if source.byte() == 255 {
            self.handle(done);
        }
    }
}
