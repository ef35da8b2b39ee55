//! `p2p-node listen`

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use p2p_node_protocol::{Event as NodeEvent, Message};
use p2p_node_sdk::{Builder, Error, Event};
use tokio::time::sleep;

use super::output::{self, Output, quoted};
use super::session::Session;
use super::{ShellError, tell};
use crate::config::ListenArgs;
use crate::node::{Signals, StartError};
use crate::terminal::escaped;

/// The feature of a node whose clients acknowledge messages.
const ACK: &str = "ack";

pub(super) async fn run(args: ListenArgs, out: &mut Output) -> Result<(), ShellError> {
    let mut signals =
        Signals::new().map_err(|error| StartError::system("waiting for signals failed", &error))?;
    let mut builder = Builder::default().inbox(args.topics.is_empty() || args.mail);
    if let Some(group) = args.group {
        builder = builder.group(group);
    }
    let mut session = Session::open(&args.node, builder).await?;
    for topic in args.topics {
        session.node.subscribe(topic).await?;
    }
    let mut listener = Listener { out, got: 0, wanted: args.count };
    let is_late = {
        let mut timer = pin!(timer(args.timeout));
        loop {
            if listener.has_enough() {
                break false;
            }
            tokio::select! {
                biased;
                () = signals.next() => break false,
                () = &mut timer => break true,
                event = session.events.next() => listener.on_event(event)?,
            }
        }
    };
    listener.leave(session, &mut signals).await?;
    match (is_late, args.count, args.timeout) {
        (true, Some(wanted), Some(waited)) if listener.got < wanted => {
            Err(ShellError::TooFew { got: listener.got, wanted, waited })
        }
        _ => Ok(()),
    }
}

async fn timer(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => pending().await,
    }
}

struct Listener<'a> {
    out: &'a mut Output,
    got: u64,
    wanted: Option<u64>,
}

impl Listener<'_> {
    fn has_enough(&self) -> bool {
        self.wanted.is_some_and(|wanted| self.got >= wanted)
    }

    fn on_event(&mut self, event: Option<Event>) -> Result<(), ShellError> {
        match event {
            Some(Event::Message(message)) => self.print(message),
            Some(Event::Overflow(overflow)) => {
                let dropped = &overflow.dropped;
                let lost = dropped.mail + dropped.broadcasts + dropped.oversized;
                if lost > 0 {
                    tell(&format_args!(
                        "the node dropped {lost} messages, because this command reads too slowly"
                    ));
                }
                Ok(())
            }
            Some(Event::Closed { error: Some(error) }) => Err((*error).into()),
            Some(_) => Ok(()),
            None => Err(Error::NodeClosed.into()),
        }
    }

    fn print(&mut self, message: Box<Message>) -> Result<(), ShellError> {
        self.got += 1;
        let event = NodeEvent::Message(message);
        self.out.event(&event, || match &event {
            NodeEvent::Message(message) => text(message),
            _ => String::new(),
        })
    }

    /// Leaves in good order: the last message counts as read, and others go to those who listen next. A
    /// daemon that acknowledges messages itself gives them to nobody else, so they are printed too. A
    /// signal ends the wait.
    async fn leave(&mut self, session: Session, signals: &mut Signals) -> Result<(), ShellError> {
        let returns_unread = session.node.ready().features.iter().any(|feature| feature == ACK);
        session.events.close();
        let rest = tokio::select! {
            rest = session.node.close() => rest,
            () = signals.next() => Vec::new(),
        };
        if !returns_unread {
            rest.into_iter().try_for_each(|message| self.print(Box::new(message)))?;
        }
        Ok(())
    }
}

/// Returns a message as a line for people.
fn text(message: &Message) -> String {
    let field = |name: &str, value: Option<&String>| {
        value.map(|value| format!(" {name}={}", quoted(value))).unwrap_or_default()
    };
    let (topic, kind) = (field("topic", message.topic.as_ref()), field("kind", message.kind.as_ref()));
    let data = escaped(&output::data(&message.data, message.encoding));
    format!("{} {}{topic}{kind} {data}\n", output::time(message.received_at_ms), escaped(&message.from))
}

#[cfg(test)]
mod tests {
    use p2p_node_protocol::line::decode_event;

    use super::*;

    #[test]
    fn hostile_message_is_one_line_without_control_characters() {
        let line = r#"{"type":"message","from":"0xb505cCe05F64105f63bC1f07bAEac2FC82442e7B","data":"\u001b[2J\nFrom: \u202e0x1","peerId":"p","messageId":"m","topic":"a\" b","kind":"k\u0007","priority":"medium","sentAtMs":0,"receivedAtMs":951782400000,"route":"direct","trust":"unverified"}"#;
        let Ok(Some(NodeEvent::Message(message))) = decode_event(line.as_bytes()) else { panic!("{line}") };
        assert_eq!(
            text(&message),
            concat!(
                r#"2000-02-29T00:00:00Z 0xb505cCe05F64105f63bC1f07bAEac2FC82442e7B topic="a\" b" kind="k\u0007" "#,
                r"\u{1b}[2J\nFrom: \u{202e}0x1",
                "\n"
            )
        );
    }
}
