//! Tests of the handler without a node: the test plays the node at the other end of the lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use p2p_node_protocol::ErrorCode;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::handler::{MAX_HANDLED, MAX_HANDLED_OF_ASKER, MAX_HANDLED_OF_STRANGERS};
use super::{Link, Requests, Responder};

/// The node's end of the lines of a client.
struct Node(BufReader<UnixStream>);

impl Node {
    async fn read(&mut self) -> Value {
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("a line in time").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    async fn write(&mut self, line: Value) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Answers the next command with a bare `result`.
    async fn answer(&mut self) -> Value {
        let command = self.read().await;
        self.write(json!({"type":"result","id":command["id"],"command":command["type"]})).await;
        command
    }

    async fn request(&mut self, ticket: &str, from: &str) {
        self.request_of(ticket, from, "unverified").await;
    }

    async fn request_of(&mut self, ticket: &str, from: &str, trust: &str) {
        self.write(json!({
            "type":"request","ticket":ticket,"from":from,"peerId":"12D3","data":1,"messageId":"m",
            "deadlineMs":1000,"credit":1,"stream":true,"trust":trust,
        }))
        .await;
    }
}

async fn open() -> (Requests, Node, Arc<AtomicU64>) {
    let (link, mut clients) = Link::pair();
    let refused = Arc::<AtomicU64>::default();
    let node = async {
        let mut node = Node(BufReader::new(clients.recv().await.unwrap()));
        assert_eq!(node.answer().await["type"], "connect");
        assert_eq!(node.answer().await["kinds"], json!(["sum"]));
        node
    };
    let opened = Requests::open(&link, vec!["sum".to_owned()], Arc::clone(&refused));
    let (requests, node) = tokio::join!(opened, node);
    (requests.unwrap(), node, refused)
}

fn data(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

#[tokio::test]
async fn requests_beyond_the_limits_are_refused_at_once_and_an_answered_one_makes_room() {
    let (mut requests, mut node, refused) = open().await;
    let mut handled: Vec<Responder> = Vec::new();
    let askers = MAX_HANDLED / MAX_HANDLED_OF_ASKER;
    for asker in 0..askers {
        let is_stranger = handled.len() < MAX_HANDLED_OF_STRANGERS;
        let trust = if is_stranger { "unverified" } else { "registered" };
        for number in 0..MAX_HANDLED_OF_ASKER {
            node.request_of(&format!("{asker}-{number}"), &asker.to_string(), trust).await;
            handled.push(requests.next().await.unwrap().1);
        }
        // One more of this agent, while there is room for others.
        node.request_of("more", &asker.to_string(), trust).await;
        let refusal = node.read().await;
        assert_eq!((&refusal["ticket"], &refusal["error"]["code"]), (&json!("more"), &json!("BUSY")));
        if handled.len() == MAX_HANDLED_OF_STRANGERS {
            node.request("stranger", "one more stranger").await;
            assert_eq!(node.read().await["ticket"], "stranger");
        }
    }
    node.request_of("another", "another", "allowed").await;
    assert_eq!(node.read().await["ticket"], "another");
    assert_eq!(refused.load(Ordering::Relaxed), askers as u64 + 2);
    handled.pop();
    node.request_of("last", "another", "allowed").await;
    assert_eq!(requests.next().await.unwrap().0.ticket, "last");
}

#[tokio::test]
async fn part_waits_until_the_asker_permits_it_and_for_room_in_the_node() {
    let (mut requests, mut node, _) = open().await;
    node.request("t", "0xa").await;
    let (_, mut responder) = requests.next().await.unwrap();
    let parts = tokio::spawn(async move {
        responder.part(data("0")).await.unwrap();
        responder.part(data("1")).await.unwrap();
        responder.end().await.unwrap();
    });
    let first = node.read().await;
    node.write(json!({"type":"error","id":first["id"],"code":"BUSY","message":"x","retryable":true})).await;
    let again = node.answer().await;
    assert_eq!((&first["data"], &again["data"], &again["last"]), (&json!(0), &json!(0), &json!(false)));
    // Nothing but the credit lets the second part out.
    node.write(json!({"type":"credit","ticket":"t","parts":2})).await;
    assert_eq!(node.answer().await["data"], 1);
    assert_eq!(node.answer().await["data"], Value::Null);
    parts.await.unwrap();
}

#[tokio::test]
async fn handler_learns_that_nobody_wants_the_answer_and_which_answers_the_node_refuses() {
    let (mut requests, mut node, _) = open().await;
    node.request("t", "0xa").await;
    let (_, responder) = requests.next().await.unwrap();
    let refusing = async {
        let answer = node.read().await;
        node.write(json!({"type":"error","id":answer["id"],"code":"MESSAGE_TOO_LARGE","message":"x","retryable":false}))
            .await;
    };
    let (answered, ()) = tokio::join!(responder.answer(data("1")), refusing);
    assert_eq!(answered.unwrap_err().0.code, ErrorCode::MessageTooLarge);
    let long = format!("{}\n1", "é".repeat(700));
    let (failure, ()) = tokio::join!(node.answer(), responder.fail("X", &long));
    assert_eq!(failure["error"]["message"].as_str().unwrap().len(), 1024);
    node.write(json!({"type":"request_cancelled","ticket":"t","reason":"cancelled"})).await;
    tokio::time::timeout(Duration::from_secs(20), responder.over()).await.unwrap();
}
