//! Requests of the Rust SDK with the real binary.

use std::time::Duration;

use p2p_node_sdk::{AskOptions, Audience, Error, Events, HandledRequest, Node, Response};
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::child::TIMEOUT;
use crate::sdk::{close, first_addr, node};

/// An asker and an answering node, which know each other.
struct Pair {
    asker: Node,
    other: Node,
    _events: (Events, Events),
    home: TempDir,
}

async fn pair() -> Pair {
    let home = TempDir::new().unwrap();
    let (asker, asker_events) = node(&home).open().await.unwrap();
    let (other, other_events) = node(&home).bootstrap_peers([first_addr(&asker)]).open().await.unwrap();
    other.allow(asker.address()).await.unwrap();
    let pair = Pair { asker, other, _events: (asker_events, other_events), home };
    pair.handle("hello", |request| async move { request.respond(&1).await }).await;
    // From now on the asker knows the other agent, also for short deadlines.
    pair.asker.ask(pair.other.address(), &1, AskOptions::kind("hello")).await.unwrap();
    pair
}

impl Pair {
    /// Handles requests of a kind, each in a task.
    async fn handle<F, A>(&self, kind: &str, answer: F)
    where
        F: Fn(HandledRequest) -> A + Send + 'static,
        A: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let mut requests = self.other.handle([kind]).await.unwrap();
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                tokio::spawn(answer(request));
            }
        });
    }

    async fn ask(&self, kind: &str, data: u64, deadline: Duration) -> Result<Response, Error> {
        let options = AskOptions { deadline: Some(deadline), ..AskOptions::kind(kind) };
        self.asker.ask(self.other.address(), &data, options).await
    }
}

fn read<T: DeserializeOwned>(response: &Response) -> T {
    serde_json::from_str(response.data.as_ref().unwrap().get()).unwrap()
}

#[tokio::test]
async fn answers_errors_and_ends_reach_asker_and_handler() {
    let pair = pair().await;
    pair.handle("square", |request| async move {
        let number: u64 = request.read().unwrap();
        match number {
            0..100 => request.respond(&(number * number)).await,
            _ => request.fail("TOO_LARGE", "at most 99").await,
        }
    })
    .await;
    let response = pair.ask("square", 7, TIMEOUT).await.unwrap();
    assert_eq!((read::<u64>(&response), response.from), (49, pair.other.address()));
    let error = pair.ask("square", 100, TIMEOUT).await.unwrap_err();
    assert_eq!((error.code(), error.handler_code()), ("HANDLER_FAILED", Some("TOO_LARGE")));
    assert_eq!(pair.ask("cube", 7, TIMEOUT).await.unwrap_err().code(), "NO_HANDLER");

    let (sender, mut ends) = mpsc::channel(2);
    pair.handle("never", move |request| {
        let sender = sender.clone();
        async move {
            request.cancelled().await;
            sender.send(request.kind.clone()).await.unwrap();
            Ok(())
        }
    })
    .await;
    let late = pair.ask("never", 1, Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(late.code(), "DEADLINE_EXCEEDED");
    timeout(TIMEOUT, ends.recv()).await.unwrap().unwrap();
    // The call is dropped before its answer.
    assert!(timeout(Duration::from_millis(300), pair.ask("never", 1, TIMEOUT)).await.is_err());
    timeout(TIMEOUT, ends.recv()).await.unwrap().unwrap();

    pair.handle("dropped", |_request| async { Ok(()) }).await;
    let dropped = pair.ask("dropped", 1, TIMEOUT).await.unwrap_err();
    assert_eq!(dropped.handler_code(), Some("HANDLER_DROPPED"));
    tokio::join!(close(&pair.asker), close(&pair.other));
}

#[tokio::test]
async fn parts_arrive_in_order_and_the_end_of_the_reader_stops_the_handler() {
    let pair = pair().await;
    let (sender, mut ends) = mpsc::channel(1);
    pair.handle("count", move |mut request| {
        let sender = sender.clone();
        async move {
            let count: u64 = request.read().unwrap();
            for number in 0..count {
                if let Err(error) = request.part(&number).await {
                    sender.send(number).await.unwrap();
                    return Err(error);
                }
            }
            request.finish().await
        }
    })
    .await;
    let parts = |count: u64| pair.asker.ask_stream(pair.other.address(), &count, AskOptions::kind("count"));
    let mut all = parts(500).unwrap();
    for number in 0..500 {
        let part = all.next().await.unwrap().unwrap();
        assert_eq!((read::<u64>(&part), part.part), (number, number as u32));
    }
    assert!(all.next().await.unwrap().is_none() && all.next().await.unwrap().is_none());
    let mut first = parts(1000).unwrap();
    assert_eq!(read::<u64>(&first.next().await.unwrap().unwrap()), 0);
    drop(first);
    let sent = timeout(TIMEOUT, ends.recv()).await.unwrap().unwrap();
    assert!(sent <= 64, "{sent} parts, and the asker read one");
    tokio::join!(close(&pair.asker), close(&pair.other));
}

#[tokio::test]
async fn question_to_many_ends_with_its_quorum_or_at_its_deadline() {
    let pair = pair().await;
    let (third, _events) = node(&pair.home).bootstrap_peers([first_addr(&pair.asker)]).open().await.unwrap();
    pair.handle("name", |request| async move { request.respond("one").await }).await;
    let mut requests = third.handle(["name"]).await.unwrap();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            request.respond("two").await.unwrap();
        }
    });
    let dead = format!("0x{}", "77".repeat(20));
    let agents = Audience::Agents(vec![pair.other.address(), third.address(), dead]);
    let options = AskOptions { deadline: Some(Duration::from_secs(3)), ..AskOptions::kind("name") };
    let answers = pair.asker.ask_all(agents.clone(), &(), options.clone()).await.unwrap();
    let mut names: Vec<String> = answers.answers.iter().map(read).collect();
    names.sort();
    assert_eq!(
        (names, answers.missing.len(), answers.failed.len()),
        (vec!["one".into(), "two".into()], 1, 1)
    );
    let two = AskOptions { quorum: Some(2), ..options.clone() };
    assert_eq!(pair.asker.ask_all(agents.clone(), &(), two).await.unwrap().answers.len(), 2);
    let three = AskOptions { quorum: Some(3), ..options };
    let below = pair.asker.ask_all(agents, &(), three).await.unwrap();
    assert!(below.is_below_quorum && below.answers.len() == 2);
    tokio::join!(close(&pair.asker), close(&pair.other), close(&third));
}
