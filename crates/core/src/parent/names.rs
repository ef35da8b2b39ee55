//! Names of ENS in commands: a command with a name waits until the node knows the address, and goes on
//! with it.

mod cache;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use alloy_primitives::Address;
use p2p_node_protocol::{Ask, Command, Counter, Discover, ErrorCode, Id, Send};
use p2p_node_wire::time::Instant;

use crate::budget::Budget;
use crate::chain::ens_name::EnsName;
use crate::chain::{ChainCommand, ChainEvent};
use crate::client_id::ClientId;
use crate::cx::Cx;
use crate::gate::Gate;
use crate::input::Token;
use crate::parent::Parent;
use crate::parent::client_load::ClientLoads;
use crate::parent::on_command::refuse_command;
use crate::replies::reply_to::ReplyTo;
use crate::signal::Signal;
use crate::usage::Usage;
use cache::{Cache, Known};

/// Largest number of names that the node asks for at the same time: our choice, as many as commands
/// `registry`.
pub(crate) const MAX_READS: usize = 64;
/// Longest time for which a command waits for an address: our choice, two servers that do not answer for
/// 5 s each.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The names in commands.
#[derive(Debug)]
pub(crate) struct Names {
    /// `true` if the configuration names RPC servers.
    is_available: bool,
    cache: Cache,
    /// The names that the node asks for: one read of each.
    reads: BTreeMap<EnsName, Read>,
    /// The commands that wait, of each client.
    loads: ClientLoads,
}

/// A read on its way.
#[derive(Debug)]
struct Read {
    token: Token,
    /// The commands that wait for it, in their order. None wait for a refresh.
    waiting: VecDeque<Waiting>,
}

/// A command that waits for an address.
#[derive(Debug)]
struct Waiting {
    to: ReplyTo,
    command: Command,
    since: Instant,
}

impl Waiting {
    fn is_send(&self) -> bool {
        matches!(self.command, Command::Send(_))
    }
}

impl Names {
    pub(crate) fn new(is_available: bool) -> Self {
        Names { is_available, cache: Cache::default(), reads: BTreeMap::new(), loads: ClientLoads::default() }
    }

    /// Returns the number and the bytes of the commands of a client that wait.
    pub(crate) fn waiting_of(&self, client: ClientId) -> Budget {
        self.loads.of(client)
    }

    /// Returns `true` if no command waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.loads.is_empty()
    }

    /// Returns `true` if a `send` waits.
    pub(crate) fn has_sends(&self) -> bool {
        self.reads.values().any(|read| read.waiting.iter().any(Waiting::is_send))
    }

    /// Returns when the wait of a command ends next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let first = self.reads.values().filter_map(|read| read.waiting.front());
        first.map(|waiting| waiting.since + MAX_WAIT).min()
    }

    pub(crate) fn usage(&self) -> [Usage; 2] {
        [("names", self.cache.len(), cache::MAX_NAMES), ("reads of names", self.reads.len(), MAX_READS)]
            .map(|(name, size, limit)| Usage { name, size, limit })
    }

    /// Begins to read a name. Returns `false` if too many are read.
    fn begin_read(&mut self, name: &EnsName, cx: &mut Cx) -> bool {
        if self.reads.contains_key(name) {
            return true;
        }
        if self.reads.len() >= MAX_READS {
            return false;
        }
        let token = cx.token();
        self.reads.insert(name.clone(), Read { token, waiting: VecDeque::new() });
        cx.stats.count(Counter::NameReads);
        cx.chain(ChainCommand::ResolveName { token, name: name.clone() });
        true
    }

    /// Removes the commands of a client that has gone.
    pub(crate) fn remove_of(&mut self, client: ClientId) {
        let Names { reads, loads, .. } = self;
        for read in reads.values_mut() {
            read.waiting.retain(|waiting| {
                let is_gone = waiting.to.client == client;
                if is_gone {
                    loads.remove(client, data_bytes(&waiting.command));
                }
                !is_gone
            });
        }
    }

    /// Takes the commands that wait for a name.
    fn take_waiting(&mut self, name: &EnsName) -> VecDeque<Waiting> {
        let Some(read) = self.reads.get_mut(name) else { return VecDeque::new() };
        let waiting = std::mem::take(&mut read.waiting);
        for Waiting { to, command, .. } in &waiting {
            self.loads.remove(to.client, data_bytes(command));
        }
        waiting
    }
}

impl Parent {
    /// Returns the command, with the address in the place of a name. Returns `None` if the command waits
    /// for the address, or was refused.
    pub(crate) fn resolve_name(
        &mut self,
        mut to: ReplyTo,
        mut command: Command,
        cx: &mut Cx,
    ) -> Option<(ReplyTo, Command)> {
        let Some(text) = name_in(&mut command) else { return Some((to, command)) };
        let names = &mut self.names;
        let name = match text.parse::<EnsName>() {
            Ok(name) if names.is_available => name,
            Ok(name) => {
                let message =
                    format!("`{name}` is a name, which needs RPC_URL: set it, or use the `0x` address");
                refuse_command(to, &command, ErrorCode::InvalidArgument, message, cx);
                return None;
            }
            Err(error) => {
                refuse_command(to, &command, ErrorCode::InvalidArgument, error.to_string(), cx);
                return None;
            }
        };
        match names.cache.look_up(&name, cx.now.mono) {
            Known::Address { address, is_due } => {
                if is_due {
                    names.begin_read(&name, cx);
                }
                set_address(&mut to, &mut command, address);
                return Some((to, command));
            }
            Known::Stale(address) => {
                cx.stats.count(Counter::NamesStale);
                set_address(&mut to, &mut command, address);
                return Some((to, command));
            }
            Known::Absent => refuse_command(to, &command, ErrorCode::NameNotFound, not_found(&name), cx),
            Known::Unknown => self.wait_for_address(&name, to, command, cx),
        }
        None
    }

    fn wait_for_address(&mut self, name: &EnsName, to: ReplyTo, command: Command, cx: &mut Cx) {
        let names = &mut self.names;
        if names.loads.is_over(to.client) || !names.begin_read(name, cx) {
            cx.stats.count(Counter::NamesRefused);
            let message =
                "too many commands wait for the addresses of names; send this one again in a moment";
            return refuse_command(to, &command, ErrorCode::Busy, message, cx);
        }
        let Some(read) = names.reads.get_mut(name) else { return };
        match command {
            Command::Send(_) => cx.replies.clients.open_send(&to),
            _ => cx.replies.clients.open_request(&to),
        }
        names.loads.add(to.client, data_bytes(&command));
        read.waiting.push_back(Waiting { to, command, since: cx.now.mono });
    }

    /// Handles a report of the chain: about a name here, and about the registry in the gate.
    pub(crate) fn on_chain_event(&mut self, event: ChainEvent, gate: &mut Gate, cx: &mut Cx) {
        match event {
            ChainEvent::NameResolved { token, outcome } => self.on_name_resolved(token, outcome, cx),
            event => gate.on_chain_event(event, cx),
        }
    }

    /// Handles the answer of the servers about a name.
    fn on_name_resolved(&mut self, token: Token, outcome: Result<Option<Address>, String>, cx: &mut Cx) {
        let Some((name, _)) = self.names.reads.iter().find(|(_, read)| read.token == token) else { return };
        let name = name.clone();
        let waiting = self.names.take_waiting(&name);
        self.names.reads.remove(&name);
        match outcome {
            Ok(Some(address)) => {
                self.names.cache.insert(name, Some(address), cx.now.mono);
                release(waiting, address, cx);
            }
            Ok(None) => {
                refuse(waiting, ErrorCode::NameNotFound, &not_found(&name), cx);
                self.names.cache.insert(name, None, cx.now.mono);
            }
            Err(reason) => self.on_read_failed(&name, waiting, &reason, cx),
        }
    }

    /// Ends the waits that have lasted too long. Commands for one name end together, so that they keep their
    /// order.
    pub(crate) fn end_name_waits(&mut self, cx: &mut Cx) {
        let is_over =
            |read: &Read| read.waiting.front().is_some_and(|waiting| waiting.since + MAX_WAIT <= cx.now.mono);
        let over = self.names.reads.iter().filter(|(_, read)| is_over(read));
        let over: Vec<EnsName> = over.map(|(name, _)| name.clone()).collect();
        for name in over {
            let waiting = self.names.take_waiting(&name);
            self.on_read_failed(&name, waiting, "the RPC servers do not answer in time", cx);
        }
    }

    fn on_read_failed(&mut self, name: &EnsName, waiting: VecDeque<Waiting>, reason: &str, cx: &mut Cx) {
        cx.stats.count(Counter::NameReadsFailed);
        match self.names.cache.on_failure(name, cx.now.mono) {
            Some(address) => {
                cx.stats.add(Counter::NamesStale, waiting.len() as u64);
                release(waiting, address, cx);
            }
            None => {
                let message = format!("the address of `{name}` cannot be read: {reason}");
                refuse(waiting, ErrorCode::NameUnavailable, &message, cx);
            }
        }
    }

    /// Ends the waiting command of a client with this id. Returns `false` if there is none.
    pub(crate) fn cancel_name_wait(&mut self, client: ClientId, target: &Id, cx: &mut Cx) -> bool {
        let Names { reads, loads, .. } = &mut self.names;
        for read in reads.values_mut() {
            let Some(at) = read.waiting.iter().position(|waiting| waiting.to.is(client, target)) else {
                continue;
            };
            let cancelled = read.waiting.remove(at);
            cancelled.iter().for_each(|waiting| loads.remove(client, data_bytes(&waiting.command)));
            refuse(cancelled, ErrorCode::Cancelled, "a `cancel` command ended this command", cx);
            return true;
        }
        false
    }

    /// Refuses every command that waits for an address, because the node closes.
    pub(crate) fn abandon_name_waits(&mut self, cx: &mut Cx) {
        let names: Vec<EnsName> = self.names.reads.keys().cloned().collect();
        for name in names {
            let waiting = self.names.take_waiting(&name);
            self.sends_abandoned |= waiting.iter().any(Waiting::is_send);
            let message = format!("the node closed before it knew the address of `{name}`");
            refuse(waiting, ErrorCode::ShuttingDown, &message, cx);
        }
    }
}

/// Returns the field of a command that has a name: neither an address nor a PeerId has a dot.
fn name_in(command: &mut Command) -> Option<&mut String> {
    let field = match command {
        Command::Send(Send { peer_id: Some(peer), topic: None, .. }) => peer,
        Command::Ask(Ask { peer_id: Some(peer), .. }) => peer,
        Command::Discover(Discover { address: Some(address), topic: None, capability: None, .. }) => address,
        Command::Registry(registry) => &mut registry.address,
        _ => return None,
    };
    field.contains('.').then_some(field)
}

fn set_address(to: &mut ReplyTo, command: &mut Command, address: Address) {
    to.resolved = Some(address);
    if let Some(field) = name_in(command) {
        // Without a checksum, whose check would cost a hash.
        *field = format!("{address:#x}");
    }
}

fn data_bytes(command: &Command) -> usize {
    command.data().map_or(0, |data| data.get().len())
}

fn not_found(name: &EnsName) -> String {
    format!("`{name}` has no address in ENS; check the name, and that RPC_URL serves the chain of ENS")
}

/// Lets commands go on with the address.
fn release(waiting: impl IntoIterator<Item = Waiting>, address: Address, cx: &mut Cx) {
    for Waiting { mut to, mut command, .. } in waiting {
        cx.replies.clients.close(&to);
        set_address(&mut to, &mut command, address);
        cx.signal(Signal::NameResolved(to, Box::new(command)));
    }
}

fn refuse(waiting: impl IntoIterator<Item = Waiting>, code: ErrorCode, message: &str, cx: &mut Cx) {
    for Waiting { to, command, .. } in waiting {
        refuse_command(to, &command, code, message, cx);
    }
}
