//! `p2p-node send`

use std::time::Duration;

use p2p_node_protocol::{Answer, Delivery, Event as NodeEvent};
use p2p_node_sdk::{Builder, Error, Event, Published, SendOptions};
use tokio::time::sleep;

use super::output::Output;
use super::session::Session;
use super::{ShellError, data, tell};
use crate::config::SendArgs;

/// Lifetime of a message for which the command waits. Our choice: some attempts to find an agent that
/// starts at the same time, and no longer than a person waits.
const DEFAULT_TTL: Duration = Duration::from_secs(60);
/// Interval at which the command asks whether a broadcast has left. Our choice.
const ASK_AGAIN: Duration = Duration::from_millis(100);

pub(super) async fn run(args: SendArgs, out: &mut Output) -> Result<(), ShellError> {
    // With --topic there is no recipient before the data.
    let data = data::read(args.second.as_ref().unwrap_or(&args.first), args.format)?;
    let mut session = Session::open(&args.node, Builder::default().inbox(false)).await?;
    let waits = args.wait || !session.is_shared;
    if waits && !args.wait {
        tell(&"no daemon runs, so the command waits for the delivery: the message would end with its node");
    }
    let options = SendOptions {
        kind: args.kind,
        priority: args.priority,
        ttl: args.ttl.or(waits.then_some(DEFAULT_TTL)),
        reply_to: args.reply_to,
        conversation_id: args.conversation,
        ..SendOptions::default()
    };
    let sent = match args.topic {
        Some(topic) => {
            let published = session.node.publish_with(topic, &data, options).await?;
            match waits {
                true => reached(&mut session, &published).await,
                false => Ok(()),
            }
            .map(|()| accepted(published.message_id, Some(published.peers)))
        }
        None => {
            let message = session.node.send_with(args.first, &data, options).await?;
            match waits {
                true => message.delivered().await.map(|delivery| NodeEvent::Delivery(Box::new(delivery))),
                false => Ok(accepted(message.message_id, None)),
            }
        }
    };
    session.end().await;
    let event = match sent {
        Ok(event) => event,
        // The event says more than an error could.
        Err(Error::Undelivered(delivery)) => {
            out.event(&NodeEvent::Delivery(delivery.clone()), String::new)?;
            return Err(Error::Undelivered(delivery).into());
        }
        Err(error) => return Err(error.into()),
    };
    out.event(&event, || text(&event))
}

/// Returns the `result` of a message whose delivery nobody awaits.
fn accepted(message_id: String, peers: Option<usize>) -> NodeEvent {
    let delivery = peers.is_none().then(|| "accepted".to_owned());
    let answer = Answer { message_id: Some(message_id), peers, delivery, ..Answer::new(1.into(), "send") };
    NodeEvent::Result(Box::new(answer))
}

/// Waits until a broadcast has left for a subscriber. The node reports only one that reached nobody.
async fn reached(session: &mut Session, published: &Published) -> Result<(), Error> {
    let mut has_left = published.peers > 0;
    while !has_left {
        // Of any client: a broadcast waits 10 s at most.
        let is_queued = session.node.status().await?.queued_broadcasts > 0;
        // The report of the failure may come behind the status, and comes before a later answer.
        session.node.ping().await?;
        if let Some(failed) = failure(session, &published.message_id).await? {
            return Err(Error::Undelivered(failed));
        }
        has_left = !is_queued;
        if is_queued {
            sleep(ASK_AGAIN).await;
        }
    }
    Ok(())
}

/// Returns the report on a broadcast among the events so far.
async fn failure(session: &mut Session, message_id: &str) -> Result<Option<Box<Delivery>>, Error> {
    loop {
        tokio::select! {
            biased;
            event = session.events.next() => match event {
                Some(Event::Delivery(delivery)) if delivery.message_id == message_id => return Ok(Some(delivery)),
                Some(Event::Closed { error: Some(error) }) => return Err(*error),
                Some(_) => {}
                None => return Err(Error::NodeClosed),
            },
            () = std::future::ready(()) => return Ok(None),
        }
    }
}

fn text(event: &NodeEvent) -> String {
    match event {
        NodeEvent::Delivery(delivery) => format!("delivered {}\n", delivery.message_id),
        NodeEvent::Result(answer) => {
            let state = if answer.peers.is_some() { "published" } else { "accepted" };
            format!("{state} {}\n", answer.message_id.as_deref().unwrap_or_default())
        }
        _ => String::new(),
    }
}
