//! Streams of events: each is a client of the node.

use std::pin::Pin;

use futures::stream::{self, Stream, StreamExt};
use p2p_node_grpc::v1;
use p2p_node_protocol::line::{decode_event, encode_request};
use p2p_node_protocol::{Command, Connect, Event, Id, MAX_LINE_BYTES, PROTOCOL_VERSION, Request, Subscribe};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{codes, convert};
use crate::inner::{CallError, Link};

/// Maximum number of lines that wait in the server for one stream. Further ones wait in the node, by its
/// rules for clients that are slow. Our choice: enough for one packet of HTTP/2.
const MAX_LINES: usize = 16;

/// A stream to a client.
pub(super) type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Returns a stream from a channel.
fn outgoing<T: Send + 'static>(receiver: mpsc::Receiver<Result<T, Status>>) -> Outgoing<T> {
    stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) })
        .boxed()
}

/// Reads lines of the node until it closes the client, or the client is gone.
async fn forward<T>(
    lines: &mut Lines<BufReader<OwnedReadHalf>>,
    to: &mpsc::Sender<Result<T, Status>>,
    mut convert: impl FnMut(String) -> Option<Result<T, Status>>,
) {
    let mut has_closed = false;
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            () = to.closed() => return,
        };
        let Ok(Some(line)) = line else { break };
        has_closed |= line.starts_with("{\"type\":\"closing\"");
        let Some(item) = convert(line) else { continue };
        let is_end = item.is_err();
        if to.send(item).await.is_err() || is_end {
            return;
        }
    }
    if !has_closed {
        // The node has closed the client without a farewell.
        let _ = to.send(Err(CallError::gone().into())).await;
    }
}

/// Opens the stream of events of `Connect`.
pub(super) async fn connect(link: &Link, request: v1::ConnectRequest) -> Result<Outgoing<v1::Event>, Status> {
    let v1::ConnectRequest { topics, inbox, group } = request;
    let connect = Connect { protocol: Some(PROTOCOL_VERSION), inbox, group, ..Connect::default() };
    let subscribes = topics.into_iter().map(|topic| Command::Subscribe(Subscribe { topic }));
    let mut commands = Vec::new();
    for (number, command) in (1..).zip(std::iter::once(Command::Connect(connect)).chain(subscribes)) {
        encode_request(&Request { id: Some(Id::Number(number)), command }, &mut commands);
    }
    let (lines, mut write) = link.attach().await?.into_split();
    let (to, receiver) = mpsc::channel(MAX_LINES);
    tokio::spawn(async move {
        let writing = async {
            // The half stays open: its end would be the end of the client.
            let _ = write.write_all(&commands).await;
            std::future::pending::<()>().await;
        };
        let mut lines = BufReader::new(lines).lines();
        tokio::select! {
            () = forward(&mut lines, &to, event) => {}
            () = writing => {}
        }
    });
    Ok(outgoing(receiver))
}

/// Returns a line as an event of the stream. Answers are none; a failed command ends the stream.
fn event(line: String) -> Option<Result<v1::Event, Status>> {
    match decode_event(line.as_bytes()) {
        Ok(Some(Event::Result(_))) => None,
        Ok(Some(Event::Error(error))) if error.id.is_some() => Some(Err(codes::status(*error))),
        Ok(Some(event)) => Some(Ok(convert::event(event, line))),
        Ok(None) => None,
        Err(error) => Some(Err(Status::internal(format!("a line of the node cannot be read: {error}")))),
    }
}

/// Opens the two streams of `Session`.
pub(super) async fn session(
    link: &Link,
    commands: Streaming<v1::Line>,
) -> Result<Outgoing<v1::Line>, Status> {
    let (lines, write) = link.attach().await?.into_split();
    let (to, receiver) = mpsc::channel(MAX_LINES);
    tokio::spawn(async move {
        let mut lines = BufReader::new(lines).lines();
        let writing = async {
            match write_lines(write, commands).await {
                Ok(()) => std::future::pending().await,
                Err(status) => status,
            }
        };
        tokio::select! {
            () = forward(&mut lines, &to, |json| Some(Ok(v1::Line { json }))) => {}
            status = writing => drop(to.send(Err(status)).await),
        }
    });
    Ok(outgoing(receiver))
}

/// Passes lines to the node. The end of the stream is the end of the input.
async fn write_lines(mut write: OwnedWriteHalf, mut commands: Streaming<v1::Line>) -> Result<(), Status> {
    while let Some(v1::Line { json }) = commands.message().await? {
        if json.len() > MAX_LINE_BYTES || json.contains(['\n', '\r']) {
            return Err(codes::invalid(format!(
                "`json` must be one line of at most {MAX_LINE_BYTES} bytes, without a newline"
            )));
        }
        let mut line = json.into_bytes();
        line.push(b'\n');
        // A node that reads no more closes the client, which the reader reports.
        if write.write_all(&line).await.is_err() {
            break;
        }
    }
    Ok(())
}
