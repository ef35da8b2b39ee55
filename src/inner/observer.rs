//! A client that looks on: it gets the events of the node, and no messages.

use p2p_node_protocol::line::{decode_event, encode_request};
use p2p_node_protocol::{Command, Connect, Event, PROTOCOL_VERSION, Request};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::Link;

/// Attaches a client and passes events on until the node closes it.
pub(crate) async fn observe(link: &Link, mut on: impl FnMut(&Event)) {
    let Ok(stream) = link.attach().await else { return };
    let (lines, mut write) = stream.into_split();
    let connect = Connect { protocol: Some(PROTOCOL_VERSION), inbox: Some(false), ..Connect::default() };
    let mut command = Vec::new();
    encode_request(&Request { id: None, command: Command::Connect(connect) }, &mut command);
    if write.write_all(&command).await.is_err() {
        return;
    }
    let mut lines = BufReader::new(lines).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match decode_event(line.as_bytes()) {
            Ok(event) => event.iter().for_each(&mut on),
            Err(error) => tracing::error!(%error, "a line of the node cannot be read"),
        }
    }
}
