use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;

use p2p_node_protocol::line::decode_event;

use super::*;
use crate::events::Events;

const BUFFERS: BufferSizes = BufferSizes { mail: 100, broadcasts: 3, events: 3 };

fn inbox(manual_ack: bool) -> (Sink, Events) {
    let sink = Sink::new(BUFFERS, manual_ack, watch::Sender::new(()));
    (sink.clone(), Events::new(sink))
}

fn crashes(crashes: usize) -> Event {
    Event::Unhealthy { crashes }
}

fn said(line: &str) -> Event {
    Event::from_node(decode_event(line.as_bytes()).unwrap().unwrap()).unwrap()
}

fn message(id: &str, topic: &str) -> Event {
    said(&format!(
        r#"{{"type":"message","from":"0xB","data":1,"peerId":"p","messageId":"{id}",{topic}"priority":"low","sentAtMs":1,"receivedAtMs":2,"route":"direct","trust":"unverified"}}"#
    ))
}

fn mail(id: impl std::fmt::Display) -> Event {
    message(&id.to_string(), "")
}

fn broadcast(id: impl std::fmt::Display) -> Event {
    message(&id.to_string(), r#""topic":"t","#)
}

fn peer(id: impl std::fmt::Display) -> Event {
    said(&format!(r#"{{"type":"peer_connected","peerId":"{id}"}}"#))
}

fn name(event: Event) -> String {
    match event {
        Event::Message(message) => message.message_id,
        Event::PeerConnected(peer) => peer.peer_id,
        Event::Unhealthy { crashes } => crashes.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn rest(events: &mut Events) -> Vec<String> {
    let mut rest = Vec::new();
    while let Some(event) = events.next().await {
        rest.push(name(event));
    }
    rest
}

/// Returns the messages of the next `ack`, and confirms it.
fn acked(sink: &Sink) -> Vec<String> {
    let Some((id, ack)) = sink.next_ack(|| 1, false) else { return Vec::new() };
    assert!(!sink.ack_answered(id, Ok(())));
    ack.message_ids
}

#[tokio::test]
async fn full_buffer_drops_oldest_of_its_kind_and_order_is_kept() {
    let (sink, mut events) = inbox(false);
    for round in 0..10 {
        sink.push(mail(format!("m{round}")));
        sink.push(broadcast(format!("b{round}")));
        sink.push(peer(format!("p{round}")));
        sink.push(crashes(round));
    }
    sink.close(crashes(10));
    let mut expected: Vec<String> = (0..7).map(|round| format!("m{round}")).collect();
    expected
        .extend(["m7", "b7", "p7", "m8", "b8", "p8", "8", "m9", "b9", "p9", "9", "10"].map(str::to_owned));
    assert_eq!((events.dropped_broadcasts(), events.dropped_events()), (7, 7 + 8));
    sink.push(crashes(11));
    assert_eq!(rest(&mut events).await, expected);
    assert_eq!(acked(&sink).len(), 10);
}

#[tokio::test]
async fn mail_is_acked_when_program_requests_next_event() {
    let (sink, mut events) = inbox(false);
    sink.push(mail("a"));
    sink.push(mail("b"));
    events.next().await;
    assert_eq!(acked(&sink), [""; 0]);
    events.next().await;
    assert_eq!(acked(&sink), ["a"]);
    events.close();
    assert_eq!(acked(&sink), ["b"], "the stream was closed in good order");
}

#[tokio::test]
async fn dropped_stream_acks_no_current_mail_and_returns_unread_mail() {
    let (sink, mut events) = inbox(false);
    for id in ["a", "b", "c"] {
        sink.push(mail(id));
    }
    sink.push(broadcast("t"));
    events.next().await;
    events.next().await;
    drop(events);
    sink.push(mail("d"));
    assert_eq!(acked(&sink), ["a"]);
    let drain_mail: Vec<String> = sink.drain_mail().into_iter().map(|message| message.message_id).collect();
    assert_eq!(drain_mail, ["c", "d"]);
    assert!(lock(&sink.inbox).broadcasts.events.is_empty());
}

#[tokio::test]
async fn mail_acked_by_program_is_acked_once() {
    for (manual_ack, desired) in [(false, vec!["a", "b"]), (true, vec!["a"])] {
        let (sink, mut events) = inbox(manual_ack);
        sink.push(mail("a"));
        sink.push(mail("b"));
        sink.close(crashes(1));
        events.next().await;
        let answer = sink.ack("a");
        rest(&mut events).await;
        assert_eq!(acked(&sink), desired);
        answer.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn ended_process_withdraws_mail_and_finished_mail_is_not_redelivered() {
    let (sink, mut events) = inbox(false);
    for id in ["a", "b", "c"] {
        sink.push(mail(id));
    }
    events.next().await;
    events.next().await;
    assert!(sink.next_ack(|| 1, false).is_some(), "`a` is acknowledged, and the answer never comes");
    let waits = sink.ack("z");
    sink.process_ended(&Error::NodeClosed);
    assert!(matches!(waits.await.unwrap(), Err(Error::NodeClosed)));
    for id in ["a", "b", "c"] {
        sink.push(mail(id));
    }
    assert_eq!(name(events.next().await.unwrap()), "c", "`b` came again while it was in hand");
    assert_eq!(acked(&sink), ["a", "b"]);
    sink.process_ended(&Error::NodeClosed);
    sink.close(crashes(1));
    assert_eq!(rest(&mut events).await, ["1"]);
    assert!(acked(&sink).is_empty() && lock(&sink.inbox).acks.is_finished("c"));
}

#[tokio::test]
async fn mail_above_buffer_is_counted_and_not_acked() {
    let (sink, mut events) = inbox(false);
    (0..BUFFERS.mail + 2).for_each(|number| sink.push(mail(number)));
    sink.close(crashes(1));
    assert_eq!((rest(&mut events).await.len(), sink.mail_dropped()), (BUFFERS.mail + 1, 2));
    assert_eq!(acked(&sink).len(), BUFFERS.mail);
}

#[tokio::test]
async fn withheld_mail_is_returned_and_not_delivered() {
    let (sink, mut events) = inbox(false);
    sink.push(mail("a"));
    sink.push(crashes(1));
    sink.withhold_mail();
    sink.close(crashes(2));
    assert_eq!(rest(&mut events).await, ["1", "2"]);
    assert_eq!((sink.drain_mail().len(), sink.drain_mail().len()), (1, 0));
}

#[tokio::test]
async fn busy_node_gets_no_ack_until_resumed() {
    let (sink, mut events) = inbox(false);
    sink.push(mail("a"));
    sink.close(crashes(1));
    rest(&mut events).await;
    let (id, _) = sink.next_ack(|| 7, false).unwrap();
    let code = p2p_node_protocol::ErrorCode::Busy;
    let busy = Error::CommandRefused { code, message: String::new(), retryable: true, details: None };
    assert!(sink.ack_answered(id, Err(busy)));
    assert!(acked(&sink).is_empty());
    sink.resume_acks();
    assert_eq!(acked(&sink), ["a"]);
}

#[test]
fn event_and_close_wake_waiting_program() {
    struct Counter(AtomicU32);
    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let counter = Arc::new(Counter(0.into()));
    let waker = Arc::clone(&counter).into();
    let context = Context::from_waker(&waker);
    let woken = || counter.0.load(Ordering::Relaxed);
    let (sink, _events) = inbox(false);
    assert!(sink.poll(&context).is_pending());
    sink.push(crashes(1));
    assert_eq!(woken(), 1);
    assert!(sink.poll(&context).is_ready());
    assert!(sink.poll(&context).is_pending());
    sink.close(crashes(2));
    assert_eq!(woken(), 2);
    assert!(matches!(sink.poll(&context), Poll::Ready(Some(_))));
    assert!(matches!(sink.poll(&context), Poll::Ready(None)));
}
