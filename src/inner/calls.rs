//! The calls of one program: commands to the node, each with its events.

use std::sync::Arc;

use p2p_node_core::MAX_INFLIGHT;
use p2p_node_protocol::line::encode_request;
use p2p_node_protocol::{
    Answer, Cancel, Command, Connect, Credit, ErrorCode, Event, Id, MAX_LINE_BYTES, PROTOCOL_VERSION, Request,
};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc::{self, OwnedPermit};

use super::CallError;
use super::link::Link;
use super::table::{Table, Taker, Waiting};

/// Maximum number of calls at the same time on one connection. Our choice: as many as commands that a
/// client may leave unanswered.
pub(crate) const MAX_CALLS: usize = MAX_INFLIGHT;

/// Maximum number of commands that wait for the node: that of each call, and the `cancel` of each.
const MAX_COMMANDS: usize = 2 * MAX_CALLS;

/// A client of the node for calls. It asks for no messages, so that answers never
/// wait behind messages that nobody reads.
#[derive(Debug)]
pub(crate) struct Calls {
    commands: mpsc::Sender<Vec<u8>>,
    table: Arc<Table>,
}

/// What a client does with the events that belong to none of its calls. The command that it returns is
/// written at once, or dropped if too many wait.
pub(crate) type Others = Box<dyn FnMut(Event) -> Option<Command> + Send>;

impl Calls {
    /// Attaches a client and connects it.
    pub(crate) async fn open(link: &Link) -> Result<Calls, CallError> {
        Calls::open_with(link, Box::new(|_| None)).await
    }

    /// As `open`, with what the client does with other events.
    pub(crate) async fn open_with(link: &Link, mut others: Others) -> Result<Calls, CallError> {
        let (lines, write) = link.attach().await?.into_split();
        let (commands, queued) = mpsc::channel(MAX_COMMANDS);
        let table = Arc::new(Table::new());
        let reader = Arc::clone(&table);
        let to_write = commands.downgrade();
        let others = move |event| {
            let Some(command) = others(event) else { return };
            // Gone with the last user of the client, and then nobody wants to write.
            let Some(commands) = to_write.upgrade() else { return };
            let _ = commands.try_send(line(None, command));
        };
        tokio::spawn(async move { reader.read(lines, others).await });
        tokio::spawn(write_commands(write, queued));
        let calls = Calls { commands, table };
        let connect = Connect { protocol: Some(PROTOCOL_VERSION), inbox: Some(false), ..Connect::default() };
        calls.call(Command::Connect(connect), Taker::Server).await?.answer().await?;
        Ok(calls)
    }

    /// Returns `true` if the node has closed the client.
    pub(crate) fn is_closed(&self) -> bool {
        self.table.is_closed()
    }

    /// Returns the number of open calls.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Writes a command.
    pub(crate) async fn call(&self, command: Command, taker: Taker) -> Result<Call, CallError> {
        let can_cancel = matches!(command, Command::Ask(_) | Command::Discover(_));
        let cancel = match can_cancel {
            true => Some(self.commands.clone().reserve_owned().await.map_err(|_| CallError::gone())?),
            false => None,
        };
        let (number, events) = self.table.enter(taker)?;
        let call =
            Call { number, events, cancel, commands: self.commands.clone(), table: Arc::clone(&self.table) };
        let line = line(Some(number), command);
        // The node could not tell which command a line that is too long holds.
        if line.len() > MAX_LINE_BYTES {
            return Err(CallError::new(
                ErrorCode::MessageTooLarge,
                "the command is longer than the longest line; send less data",
            ));
        }
        call.send(line).await?;
        Ok(call)
    }
}

/// Writes commands to the node until the connection has ended and its calls with it.
async fn write_commands(mut to: OwnedWriteHalf, mut queued: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = queued.recv().await {
        // A node that reads no more closes the client, which the reader reports.
        if to.write_all(&line).await.is_err() {
            return;
        }
    }
    // The end of the input: the node finishes what the client began.
}

/// An open call. Dropping it cancels the command, where that is of use.
#[derive(Debug)]
pub(crate) struct Call {
    number: i64,
    events: mpsc::Receiver<Waiting>,
    /// Room for the `cancel`, until the command has ended.
    cancel: Option<OwnedPermit<Vec<u8>>>,
    commands: mpsc::Sender<Vec<u8>>,
    table: Arc<Table>,
}

impl Call {
    /// Returns the next event of the call.
    ///
    /// # Errors
    /// Fails with the error of the command, or if the node closes the client.
    pub(crate) async fn next(&mut self) -> Result<Event, CallError> {
        let Some((event, _)) = self.events.recv().await else { return Err(self.table.reason()) };
        match event {
            Event::Error(error) => {
                self.cancel = None;
                Err(CallError(error))
            }
            Event::Result(answer) => {
                self.cancel = None;
                Ok(Event::Result(answer))
            }
            other => Ok(other),
        }
    }

    /// Waits for the answer. Ignores other events.
    pub(crate) async fn answer(&mut self) -> Result<Answer, CallError> {
        loop {
            if let Event::Result(answer) = self.next().await? {
                return Ok(*answer);
            }
        }
    }

    /// Permits more parts of the answer: `parts` in all.
    pub(crate) async fn permit(&self, parts: u32) -> Result<(), CallError> {
        let target = Id::Number(self.number);
        self.send(line(None, Command::Credit(Credit { target, parts }))).await
    }

    async fn send(&self, line: Vec<u8>) -> Result<(), CallError> {
        self.commands.send(line).await.map_err(|_| CallError::gone())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.table.leave(self.number);
        if let Some(room) = self.cancel.take() {
            room.send(line(None, Command::Cancel(Cancel { target: Id::Number(self.number) })));
        }
    }
}

fn line(number: Option<i64>, command: Command) -> Vec<u8> {
    let mut line = Vec::new();
    encode_request(&Request { id: number.map(Id::Number), command }, &mut line);
    line
}
