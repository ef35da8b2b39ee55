//! An agent that answers requests, and one that asks: an answer names the message that it answers in `replyTo`.
//!
//! `P2P_NODE_BIN=target/release/p2p-node cargo run -p p2p-node-sdk --example request_reply`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;

use p2p_node_sdk::{Error, Event, Events, Grace, Node, Send};
use serde_json::{Value, json, value::to_raw_value};

/// Squares numbers for whoever asks.
async fn serve(node: Node, mut events: Events) -> Result<(), Error> {
    while let Some(event) = events.next().await {
        let Event::Message(message) = event else { continue };
        if message.kind.as_deref() != Some("square") {
            continue;
        }
        let asked: Option<Value> = serde_json::from_str(message.data.get()).ok();
        let answer = match asked.and_then(|asked| asked["number"].as_i64()) {
            Some(number) => json!({ "result": number * number }),
            None => json!({ "error": "say {\"number\": …}" }),
        };
        node.reply(&message, &answer).await?;
    }
    Ok(())
}

/// Asks one thing after another.
struct Client {
    node: Node,
    events: Events,
    /// Answers by what they answer, also those that nobody has waited for yet.
    answers: HashMap<String, String>,
}

impl Client {
    async fn ask(&mut self, server: &str, number: Value) -> Result<String, Error> {
        let data = to_raw_value(&json!({ "number": number })).expect("it is JSON");
        let request =
            Send { kind: Some("square".to_owned()), ttl_ms: Some(10_000), ..Send::to_peer(server, data) };
        let message_id = self.node.post(request).await?.message_id;
        loop {
            if let Some(answer) = self.answers.remove(&message_id) {
                return Ok(answer);
            }
            match self.events.next().await {
                Some(Event::Message(message)) => {
                    // It may be the last one, after which nobody comes for another.
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
    let (node, events) = Node::builder().name("client").network("dev").bootstrap_peer(entry).open().await?;
    let serving = tokio::spawn(serve(server.clone(), requests));
    let mut client = Client { node: node.clone(), events, answers: HashMap::new() };
    for number in [json!(7), json!(12), json!("a dozen")] {
        let answer = client.ask(&server.address(), number.clone()).await?;
        println!("{number} squared: {answer}");
    }
    tokio::join!(server.close(Grace::default()), node.close(Grace::default()));
    serving.await.expect("it does not panic")
}
