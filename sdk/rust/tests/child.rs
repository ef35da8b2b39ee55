//! The SDK against small children in `/bin/sh` that play a node, well or badly.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use p2p_node_sdk::{
    Command, Connect, DeliveryState, Discover, Error, ErrorCode, Event, Events, Grace, Node, Priority, Send,
};
use rustix::process::{Pid, test_kill_process};
use tokio::time::timeout;

/// Longer than anything here takes; no test that passes waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers as a node would, as far as these tests ask.
const NODE: &str = r#"
    say() { printf '%s\n' "$1"; }
    while IFS= read -r line; do
        id=${line##*\"id\":}; id=${id%\}}
        case $line in
        *'"type":"connect"'*'"protocol":1'*)
            say '{"type":"ready","peerId":"12D3","address":"0xA","name":"n","role":"full","network":"dev","protocol":1,"version":"0","features":[],"limits":{"maxLineBytes":1,"maxInflight":1,"maxDirectBytes":1,"maxTopicBytes":1},"addrs":[],"durable":false,"seq":1}'
            say '{"type":"result","id":'$id',"command":"connect"}' ;;
        *'"type":"send"'*'"topic":'*)
            say '{"type":"result","id":'$id',"command":"send","messageId":"t1","peers":3}' ;;
        *'"type":"send"'*'"peerId":"nobody"'*)
            say '{"type":"error","id":'$id',"code":"PEER_NOT_FOUND","message":"who?","retryable":true,"details":{"a":1}}' ;;
        *'"type":"send"'*)
            state=delivered
            case $line in *'"priority":"low"'*) state=expired ;; esac
            say '{"type":"result","id":'$id',"command":"send","messageId":"m'$id'","delivery":"accepted","route":"auto"}'
            say '{"type":"delivery","messageId":"m'$id'","requestId":'$id',"state":"'$state'","attempts":2}' ;;
        *'"type":"discover"'*)
            say '{"type":"peer_discovered","peerId":"p","topics":[],"address":"0xB","role":"full","addrs":[],"capabilities":[],"expiresAtMs":1,"requestId":'$id'}'
            say '{"type":"peer_discovered","peerId":"q","topics":[],"address":"0xC","role":"full","addrs":[],"capabilities":[],"expiresAtMs":1}'
            say '{"type":"result","id":'$id',"command":"discover","count":1}' ;;
        *'"type":"shutdown"'*)
            say '{"type":"closing","reason":"shutdown"}'
            exit 0 ;;
        *)
            say '{"type":"result","id":'$id',"command":"any"}' ;;
        esac
    done
    exit 5
"#;

async fn spawn(script: &str) -> (Node, Events) {
    Node::builder().binary("/bin/sh").arg("-c").arg(script).spawn().await.unwrap()
}

async fn connected() -> (Node, Events) {
    let (node, mut events) = spawn(NODE).await;
    let ready = node.connect(Connect::default()).await.unwrap();
    assert_eq!((ready.address.as_str(), ready.protocol), ("0xA", 1));
    assert!(matches!(events.next().await, Some(Event::Ready(_))));
    (node, events)
}

async fn until(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("the condition never came true");
}

fn log(message: &str) -> String {
    format!(r#"printf '%s\n' '{{"type":"log","level":"info","namespace":"n","message":"{message}"}}';"#)
}

/// The message of the next event, which must be a log.
async fn logged(events: &mut Events) -> String {
    match timeout(PATIENCE, events.next()).await {
        Ok(Some(Event::Log(log))) => log.message,
        other => panic!("not a log: {other:?}"),
    }
}

fn exit_code(error: &Error) -> Option<i32> {
    match error {
        Error::Exited { status, .. } => status.and_then(|status| status.code()),
        _ => panic!("not an exit: {error:?}"),
    }
}

#[tokio::test]
async fn mail_is_accepted_then_delivered() {
    let (node, _events) = connected().await;
    let mail = node.send("0xB", &["hello"]).await.unwrap();
    let message_id = mail.message_id.clone();
    let delivery = mail.delivered().await.unwrap();
    assert_eq!((delivery.message_id, delivery.attempts), (message_id, 2));

    let data = serde_json::value::to_raw_value("hello").unwrap();
    let mail = Send { priority: Some(Priority::Low), ..Send::to_peer("0xB", data) };
    match node.post(mail).await.unwrap().delivered().await {
        Err(Error::Undelivered(delivery)) => assert_eq!(delivery.state, DeliveryState::Expired),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_delivery_is_told_to_whoever_sent_the_mail_and_by_event_for_a_bare_request() {
    let (node, mut events) = connected().await;
    let data = serde_json::value::to_raw_value("bare").unwrap();
    let bare = node.request(Command::Send(Send::to_peer("0xB", data))).await.unwrap();
    node.send("0xB", "kept").await.unwrap().delivered().await.unwrap();
    drop(node.send("0xB", "dropped").await.unwrap());
    node.shutdown(Grace::default()).await.unwrap();
    let Some(Event::Delivery(delivery)) = events.next().await else { panic!("not a delivery") };
    assert_eq!(Some(delivery.message_id), bare.message_id);
    assert!(matches!(events.next().await, Some(Event::Closing(_))));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn every_other_call_has_its_answer() {
    let (node, mut events) = connected().await;
    let published = node.publish("jobs", &1).await.unwrap();
    assert_eq!((published.message_id.as_str(), published.peers), ("t1", 3));
    let found = node.discover(Discover::default()).await.unwrap();
    assert_eq!(found.iter().map(|peer| peer.peer_id.as_str()).collect::<Vec<_>>(), ["p"]);
    assert!(matches!(events.next().await, Some(Event::PeerDiscovered(peer)) if peer.peer_id == "q"));
    node.subscribe("jobs").await.unwrap();
    node.unsubscribe("jobs").await.unwrap();
    assert!(matches!(node.status().await, Err(Error::Contract(_))), "an answer without status");
    match node.send("nobody", "hello").await.map(|mail| mail.message_id) {
        Err(error @ Error::Command { code: ErrorCode::PeerNotFound, .. }) => assert!(error.retryable()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_thousand_callers_share_one_pipe() {
    let (node, _events) = connected().await;
    let calls: Vec<_> = (0..3000)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { node.ping().await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let status = node.shutdown(Grace::default()).await.unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_call_that_is_given_up_does_no_harm() {
    let (node, _events) = connected().await;
    for _ in 0..2000 {
        let given_up = timeout(Duration::ZERO, node.ping()).await;
        assert!(given_up.is_err() || given_up.unwrap().is_ok());
    }
    node.ping().await.unwrap();
}

#[tokio::test]
async fn a_node_that_is_not_ready_in_time_is_quoted() {
    let builder = Node::builder().binary("/bin/sh").ready_timeout(Duration::from_millis(50));
    let script = "echo 'waiting for the moon' >&2; exec cat >/dev/null";
    let (node, _events) = builder.arg("-c").arg(script).spawn().await.unwrap();
    until(|| node.stderr_tail().contains("moon")).await;
    let error = node.connect(Connect::default()).await.unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }), "{error:?}");
    assert!(error.to_string().contains("waiting for the moon"), "{error}");
}

#[tokio::test]
async fn a_node_of_another_protocol_is_refused() {
    let (node, _events) =
        spawn(&NODE.replace(r#""protocol":1,"version""#, r#""protocol":2,"version""#)).await;
    let error = node.connect(Connect::default()).await.unwrap_err();
    assert!(matches!(error, Error::Contract(_)), "{error:?}");
}

#[tokio::test]
async fn an_exit_fails_who_waits_and_who_comes_later_with_status_and_last_words() {
    let script = format!("{} echo 'bad flag' >&2; exit 64", log("a"));
    let (node, mut events) = spawn(&script).await;
    for _ in 0..2 {
        let error = timeout(PATIENCE, node.connect(Connect::default())).await.unwrap().unwrap_err();
        assert_eq!(exit_code(&error), Some(64));
        assert!(error.to_string().contains("bad flag"), "{error}");
    }
    assert_eq!(logged(&mut events).await, "a");
    assert!(events.next().await.is_none());
    assert_eq!(node.shutdown(Grace::default()).await.unwrap().code(), Some(64));
}

#[tokio::test]
async fn a_death_fails_what_is_pending() {
    let (node, _events) = spawn("read line; read line; exit 70").await;
    let (first, second) = tokio::join!(node.ping(), node.ping());
    assert_eq!(exit_code(&first.unwrap_err()), Some(70));
    assert_eq!(exit_code(&second.unwrap_err()), Some(70));
}

#[tokio::test]
async fn a_death_fails_deliveries_that_are_waited_for() {
    let script = r#"read line
        printf '%s\n' '{"type":"result","id":1,"command":"send","messageId":"m","delivery":"accepted"}'
        read line; exit 70"#;
    let (node, _events) = spawn(script).await;
    let mail = node.send("0xB", "hello").await.unwrap();
    let (delivered, ping) = tokio::join!(mail.delivered(), node.ping());
    assert_eq!(exit_code(&delivered.unwrap_err()), Some(70));
    assert_eq!(exit_code(&ping.unwrap_err()), Some(70));
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipe_does_not_hold_the_caller() {
    let (node, _events) = spawn("sleep 20 & read line; exit 70").await;
    let error = timeout(Duration::from_secs(10), node.ping()).await.unwrap().unwrap_err();
    assert_eq!(exit_code(&error), Some(70));
}

#[tokio::test]
async fn an_output_that_is_closed_fails_what_is_pending_though_the_process_lives() {
    let (node, _events) = spawn("read line; exec >&- 2>&-; read line; read line").await;
    let error = timeout(PATIENCE, node.ping()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Exited { status: None, .. }), "{error:?}");
}

#[tokio::test]
async fn shutdown_is_asked_for_then_signalled_then_forced() {
    let (node, _events) = connected().await;
    assert_eq!(node.shutdown(Grace::default()).await.unwrap().code(), Some(0));
    assert!(matches!(node.ping().await, Err(Error::ShutDown)));
    assert_eq!(node.shutdown(Grace::default()).await.unwrap().code(), Some(0), "twice is once");

    let (node, _events) = spawn("while read line; do :; done; exit 3").await;
    assert_eq!(node.shutdown(Grace::default()).await.unwrap().code(), Some(3), "the end of its input");

    let short = Grace { drain: Duration::from_millis(20), terminate: PATIENCE };
    let deaf = "while :; do sleep 0.01; done";
    let (node, mut events) = spawn(&format!("trap 'exit 4' TERM; {} {deaf}", log("trapped"))).await;
    logged(&mut events).await;
    assert_eq!(node.shutdown(short).await.unwrap().code(), Some(4));

    let short = Grace { terminate: Duration::from_millis(20), ..short };
    let (node, mut events) = spawn(&format!("trap '' TERM; {} {deaf}", log("trapped"))).await;
    logged(&mut events).await;
    let status = node.shutdown(short).await.unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
}

#[tokio::test]
async fn shutdown_is_not_held_up_by_a_node_that_does_not_read() {
    let (node, mut events) = spawn(&format!("{} exec sleep 1000", log("started"))).await;
    logged(&mut events).await;
    let long = "x".repeat(1 << 19);
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let (node, long) = (node.clone(), long.clone());
            tokio::spawn(async move { node.publish("t", &long).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let short = Grace { drain: Duration::from_millis(20), terminate: PATIENCE };
    let status = timeout(PATIENCE, node.shutdown(short)).await.unwrap().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
    for call in calls {
        let error = timeout(PATIENCE, call).await.unwrap().unwrap().unwrap_err();
        assert!(matches!(error, Error::Exited { .. } | Error::ShutDown), "{error:?}");
    }
}

#[test]
fn dropping_the_last_handle_kills_without_a_turning_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let script =
        r#"printf '{"type":"log","level":"info","namespace":"n","message":"%s"}\n' $$; exec sleep 1000"#;
    let (node, pid) = runtime.block_on(async {
        let (node, mut events) = spawn(script).await;
        (node, logged(&mut events).await)
    });
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    let other = node.clone();
    drop(node);
    assert!(test_kill_process(pid).is_ok(), "a handle is left");
    drop(other);
    // Nothing turns the runtime of the node here; another one keeps the time.
    let waiting = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    waiting.block_on(until(|| test_kill_process(pid) == Err(rustix::io::Errno::SRCH)));
    drop(runtime);
}

#[test]
fn the_end_of_the_runtime_fails_what_is_pending() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (node, _events) = runtime.block_on(spawn("while read line; do :; done"));
    let mut ping = std::pin::pin!(node.ping());
    runtime.block_on(async {
        assert!(timeout(Duration::from_millis(20), ping.as_mut()).await.is_err());
    });
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let ended = other.block_on(async { timeout(PATIENCE, ping).await }).unwrap();
    assert!(matches!(ended, Err(Error::Exited { .. })), "{ended:?}");
}

#[tokio::test]
async fn noise_on_stdout_is_counted_and_news_of_a_later_version_ignored() {
    let script = format!(
        "echo 'a library says hello'; echo '[1]'; echo; echo '{{\"type\":\"tomorrow\"}}'; {} printf '{{\"type\":'",
        log("done")
    );
    let (_node, mut events) = spawn(&script).await;
    assert_eq!(logged(&mut events).await, "done");
    assert!(events.next().await.is_none());
    assert_eq!(events.dropped(), 2);
}

#[tokio::test]
async fn events_that_nobody_takes_are_counted_and_hold_up_no_answer() {
    let script = format!("{}{}{}{}{NODE}", log("a"), log("b"), log("c"), log("d"));
    let builder = Node::builder().binary("/bin/sh").arg("-c").arg(script).event_buffer(3);
    let (node, mut events) = builder.spawn().await.unwrap();
    node.ping().await.unwrap();
    assert_eq!(events.dropped(), 1);
    for message in ["a", "b", "c"] {
        assert_eq!(logged(&mut events).await, message);
    }
}

#[tokio::test]
async fn a_flood_on_stderr_stops_nothing() {
    let (node, _events) = spawn(&format!("head -c 1000000 /dev/zero | tr '\\0' x >&2; {NODE}")).await;
    timeout(PATIENCE, node.ping()).await.unwrap().unwrap();
    until(|| node.stderr_tail().len() == 64 * 1024).await;
}

#[tokio::test]
async fn a_binary_that_is_not_there_is_named() {
    let Err(error) = Node::builder().binary("/nowhere/p2p-node").spawn().await else { panic!("it started") };
    assert_eq!(error.to_string(), "cannot start /nowhere/p2p-node");
    assert!(std::error::Error::source(&error).is_some());
}
