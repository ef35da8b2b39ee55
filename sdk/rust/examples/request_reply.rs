//! An agent that answers requests, and a client: a reply names its request in `replyTo`.
//!
//! `P2P_NODE_BIN=target/release/p2p-node cargo run -p p2p-node-sdk --example request_reply`

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::collections::HashMap;
use std::time::Duration;

use p2p_node_sdk::{Error, Event, Events, Node, SendOptions};
use serde_json::{Value, json};
use tokio::time::timeout;

/// How long an agent tries to deliver a message, and how long the client waits for a reply.
const PATIENCE: Duration = Duration::from_secs(10);

fn options(kind: &str) -> SendOptions {
    SendOptions { kind: Some(kind.to_owned()), ttl: Some(PATIENCE), ..SendOptions::default() }
}

/// Squares the numbers of requests. The server does not wait for the delivery of a reply, so an
/// unreachable client does not delay the others. It never answers a reply, so two servers do not
/// answer each other forever.
async fn serve(node: Node, mut events: Events) -> Result<(), Error> {
    while let Some(event) = events.next().await {
        let Event::Message(message) = event else { continue };
        if message.kind.as_deref() != Some("square") || message.reply_to.is_some() {
            continue;
        }
        let asked: Option<Value> = serde_json::from_str(message.data.get()).ok();
        let answer = match asked.and_then(|asked| asked["number"].as_i64()) {
            Some(number) => json!({ "result": number * number }),
            None => json!({ "error": "say {\"number\": …}" }),
        };
        if let Err(error) = node.reply_with(&message, &answer, options("answer")).await {
            eprintln!("no answer to {}: {error}", message.from);
        }
    }
    Ok(())
}

/// Sends one request after another.
struct Client {
    node: Node,
    events: Events,
    /// Replies by the id of their request, including replies that `ask` has not waited for yet.
    answers: HashMap<String, String>,
}

impl Client {
    async fn ask(&mut self, server: &str, number: Value) -> Result<String, Error> {
        let request = json!({ "number": number });
        let message_id = self.node.send_with(server, &request, options("square")).await?.message_id;
        let answer = timeout(PATIENCE, self.answer_to(&message_id)).await;
        answer.unwrap_or_else(|_| Ok("no answer in time".to_owned()))
    }

    async fn answer_to(&mut self, message_id: &str) -> Result<String, Error> {
        loop {
            if let Some(answer) = self.answers.remove(message_id) {
                return Ok(answer);
            }
            match self.events.next().await {
                Some(Event::Message(message)) => {
                    // Acknowledges at once, because the client may read no further event.
                    self.node.ack(&message).await?;
                    if let Some(reply_to) = message.reply_to {
                        self.answers.insert(reply_to, message.data.get().to_owned());
                    }
                }
                Some(_) => {}
                None => return Ok("no answer: the node is gone".to_owned()),
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let (server, requests) = Node::builder().name("server").network("dev").open().await?;
    let entry = server.ready().addrs.swap_remove(0);
    let (node, events) =
        Node::builder().name("client").network("dev").bootstrap_peers([entry]).open().await?;
    let serving = tokio::spawn(serve(server.clone(), requests));
    let mut client = Client { node: node.clone(), events, answers: HashMap::new() };
    for number in [json!(7), json!(12), json!("a dozen")] {
        let answer = client.ask(&server.address(), number.clone()).await?;
        println!("{number} squared: {answer}");
    }
    tokio::join!(server.close(), node.close());
    serving.await.expect("it does not panic")
}
