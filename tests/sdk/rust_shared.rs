//! Processes that share one node by the Rust SDK.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use p2p_node_sdk::{Builder, DeliveryState, Error, Event, Events, Message, Node};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(30);

/// The directory of a daemon, which ends with it.
struct Home(TempDir);

impl Home {
    fn socket(&self) -> std::path::PathBuf {
        self.0.path().join("shared.sock")
    }

    /// Returns a node that attaches to the daemon.
    fn attached(&self) -> Builder {
        node(self.0.path()).socket(self.socket())
    }

    /// Returns the process that listens at the socket.
    fn daemon(&self) -> Option<Pid> {
        let client = UnixStream::connect(self.socket()).ok()?;
        rustix::net::sockopt::socket_peercred(&client).ok().map(|credentials| credentials.pid)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(pid) = self.daemon() {
            kill_process(pid, Signal::TERM).unwrap();
        }
    }
}

fn node(home: &Path) -> Builder {
    let builder = Node::builder().binary(env!("CARGO_BIN_EXE_p2p-node")).network("dev").port(0);
    builder.env("P2P_NODE_LOCK_SCOPE", home).env("P2P_NODE_RENDEZVOUS", "off").cwd(home)
}

async fn message(events: &mut Events) -> Message {
    let look = async {
        loop {
            if let Event::Message(message) = events.next().await.expect("events end too soon") {
                return *message;
            }
        }
    };
    timeout(TIMEOUT, look).await.expect("no message in time")
}

#[tokio::test]
async fn shared_node_is_started_once_and_outlives_its_users() {
    let home = Home(TempDir::new().unwrap());
    let (first, _first_events) = home.attached().shared(true).open().await.unwrap();
    let (second, _second_events) = home.attached().shared(true).inbox(false).open().await.unwrap();
    assert_eq!(first.address(), second.address());
    let daemon = home.daemon().expect("a daemon");
    let address = first.address();
    tokio::join!(first.close(), second.close());
    let (third, _third_events) = home.attached().open().await.unwrap();
    assert_eq!((third.address(), home.daemon()), (address, Some(daemon)));
    third.close().await;
}

#[tokio::test]
async fn each_message_of_a_group_reaches_one_process_and_its_ack_the_sender() {
    let home = Home(TempDir::new().unwrap());
    let (one, mut to_one) = home.attached().shared(true).group("workers").open().await.unwrap();
    let (two, mut to_two) = home.attached().group("workers").open().await.unwrap();
    let elsewhere = TempDir::new().unwrap();
    let sender = node(elsewhere.path()).bootstrap_peers(one.ready().addrs);
    let (sender, _to_sender) = sender.open().await.unwrap();
    let mut sent = Vec::new();
    for number in 0..4 {
        sent.push(sender.send(&one.address(), &number).await.unwrap());
    }
    let mut got: Vec<Value> = Vec::new();
    for (node, events) in [(&one, &mut to_one), (&two, &mut to_two)] {
        for _ in 0..2 {
            let message = message(events).await;
            got.push(serde_json::from_str(message.data.get()).unwrap());
            node.ack(&message).await.unwrap();
        }
    }
    got.sort_by_key(|number| number.as_u64());
    assert_eq!(json!(got), json!([0, 1, 2, 3]));
    for mail in sent {
        let delivery = timeout(TIMEOUT, mail.delivered()).await.expect("an end in time").unwrap();
        assert_eq!(delivery.state, DeliveryState::Delivered);
    }
    tokio::join!(one.close(), two.close(), sender.close());
}

#[tokio::test]
async fn connect_without_a_node_fails() {
    let home = Home(TempDir::new().unwrap());
    let refused = home.attached().restart(None).open().await.map(drop).expect_err("nobody listens");
    assert!(matches!(refused, Error::StartFailed { .. }), "{refused:?}");
    assert_eq!(refused.code(), "NOT_CONNECTED", "{refused}");
}
